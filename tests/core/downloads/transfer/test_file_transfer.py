"""One file from a mirror that says nothing the Hub would say, and that breaks off half-way."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest

from modeldeck.core.config import config
from modeldeck.core.downloads.http.responses import FileLocation
from modeldeck.core.downloads.http.source import DownloadSource
from modeldeck.core.downloads.job_records import DurableRanges, FileProgress
from modeldeck.core.downloads.transfer.bandwidth_limit import RateLimiter
from modeldeck.core.downloads.transfer.file_transfer import FileTransfer
from modeldeck.core.downloads.transfer.verifier import verified
from modeldeck.core.errors import Corrupt
from modeldeck.core.schema import RepoFile

CONTENT = bytes(range(256)) * 4096
OTHER = bytes(reversed(CONTENT))
HALF = len(CONTENT) // 2
FILE = RepoFile(
    path="m.gguf",
    size_bytes=len(CONTENT),
    blob=hashlib.sha256(CONTENT).hexdigest(),
    lfs=True,
)


class Stream(httpx.AsyncByteStream):
    """Content that breaks off where it is told."""

    def __init__(self, content: bytes, stop: int | None) -> None:
        self._content = content
        self._stop = stop

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for at in range(0, len(self._content), 50_000):
            if self._stop is not None and at >= self._stop:
                raise httpx.ReadError("broken off")
            yield self._content[at : at + 50_000]


Answer = tuple[bytes, str, int | None]
"""Content, ETag, and where it breaks off."""


async def transferred(
    folder: Path, answers: list[Answer], *, ranges: bool = False
) -> tuple[bytes, list[str | None], list[DurableRanges]]:
    """What lies in the partial in the end, the ranges asked for, and all claims."""
    asked: list[str | None] = []
    claims: list[DurableRanges] = []

    def answer(request: httpx.Request) -> httpx.Response:
        content, etag, stop = answers[len(asked)]
        wanted = request.headers.get("range")
        asked.append(wanted)
        headers = {"etag": etag}
        if wanted is None or not ranges:
            headers["content-length"] = str(len(content))
            return httpx.Response(200, headers=headers, stream=Stream(content, stop))
        start = int(wanted.removeprefix("bytes=").partition("-")[0])
        headers["content-range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        return httpx.Response(206, headers=headers, stream=Stream(content[start:], stop))

    async def save(claim: DurableRanges) -> None:
        claims.append(claim)

    async def check_floor() -> None:
        pass

    source = DownloadSource("https://mirror.example", lambda: None, 60, httpx.MockTransport(answer))
    transfer = FileTransfer(
        source=source,
        location=FileLocation(repo="o/r", revision="0" * 40, file=FILE),
        path=folder / "partial",
        claim=DurableRanges(repo="o/r", blob=FILE.blob, size_bytes=FILE.size_bytes),
        progress=FileProgress(),
        settings=config.DownloadSettings(retry_wait_s=0),
        limiter=RateLimiter(),
        save=save,
        check_floor=check_floor,
    )
    try:
        await transfer.run()
    finally:
        await source.close()
    return (folder / "partial").read_bytes(), asked, claims


CASES: list[tuple[str, list[Answer], bool, int]] = [
    ("whole", [(CONTENT, '"v1"', None)], False, 1),
    ("no ranges, the same", [(CONTENT, '"v1"', HALF), (CONTENT, '"v1"', None)], False, 2),
    (
        "no ranges, changed",
        [(OTHER, '"v1"', HALF), (CONTENT, '"v2"', None), (CONTENT, '"v2"', None)],
        False,
        3,
    ),
    ("ranges", [(CONTENT, '"v1"', HALF), (CONTENT, '"v1"', None)], True, 2),
    (
        "ranges of other content",
        [(OTHER, '"v1"', HALF), (CONTENT, '"v1"', None), (CONTENT, '"v1"', None)],
        True,
        3,
    ),
    ("ranges, changed", [(OTHER, '"v1"', HALF)] + [(CONTENT, '"v2"', None)] * 2, True, 3),
    ("no ETag to rely on", [(CONTENT, 'W/"v1"', HALF)] + [(CONTENT, "", None)] * 2, False, 3),
]


@pytest.mark.parametrize(("name", "answers", "ranges", "requests"), CASES)
async def test_the_content_is_right_in_the_end(
    tmp_path: Path, name: str, answers: list[Answer], ranges: bool, requests: int
) -> None:
    content, asked, claims = await transferred(tmp_path, answers, ranges=ranges)
    assert content == CONTENT, name
    assert len(asked) == requests
    assert (claims[-1].verified, claims[-1].durable) == (True, ((0, len(CONTENT)),))
    assert not any(claim.verified for claim in claims[:-1])


async def test_content_that_is_wrong_twice_is_not_kept(tmp_path: Path) -> None:
    with pytest.raises(Corrupt, match="twice"):
        await transferred(tmp_path, [(OTHER, '"v1"', None)] * 2)
    assert (tmp_path / "partial").read_bytes() == b""


@pytest.mark.parametrize(
    ("change", "good"), [(lambda data: data, True), (lambda data: data[:-1] + b"?", False)]
)
async def test_content_that_lies_there_already_is_checked(
    tmp_path: Path, change: Callable[[bytes], bytes], good: bool
) -> None:
    path, progress = tmp_path / "blob", FileProgress()
    path.write_bytes(change(CONTENT))
    assert await verified(path, FILE, progress) is good
    assert progress.received_bytes == progress.hashed_bytes == len(CONTENT)
