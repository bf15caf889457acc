"""Files that a request names by URL: fetched whole, within bounds, and never from inside."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from modeldeck.core.downloads.http.source import DownloadSource
from modeldeck.core.errors import (
    DeckError,
    Forbidden,
    Gated,
    HubUnavailable,
    InvalidRequest,
    NotFound,
    ServerUnavailable,
)
from tests.support.files import FileServer
from tests.support.stream_server import serving

PICTURE = b"\x89PNG" + bytes(range(256)) * 40
HERE = ("127.0.0.1",)


@pytest.fixture
def files(tmp_path: Path) -> Iterator[FileServer]:
    path = tmp_path / "a.png"
    path.write_bytes(PICTURE)
    with FileServer.in_thread({"a.png": path}) as files:
        yield files


@pytest.fixture
async def source() -> AsyncIterator[DownloadSource]:
    source = DownloadSource("https://hub.example", lambda: "secret", 60, trusted_hosts=HERE)
    yield source
    await source.close()


async def test_a_file_comes_whole_or_not_at_all(files: FileServer, source: DownloadSource) -> None:
    files.redirects["old.png"] = files.url("a.png")
    for length in (True, False):
        files.length = length
        for name in ("a.png", "old.png"):
            assert await source.fetch(files.url(name), len(PICTURE), 60) == PICTURE
        assert await source.fetch(files.url("a.png"), len(PICTURE) - 1, 60) is None
    assert {ranges for _, ranges, _ in files.asked} == {""}
    assert files.tokens == []


async def test_this_machine_is_asked_only_where_it_is_trusted(files: FileServer) -> None:
    source = DownloadSource("https://hub.example", lambda: None, 60)
    for url in (files.url("a.png"), "https://localhost/a.png", "http://[::1]/a.png"):
        with pytest.raises(Forbidden, match="private network"):
            await source.fetch(url, 100, 60)
    assert files.asked == []
    await source.close()


@pytest.mark.parametrize(
    ("target", "error"),
    [
        ("http://10.0.0.1/a.png", Forbidden),
        ("https://169.254.169.254/latest/meta-data", Forbidden),
        ("http://localhost:1/a.png", Forbidden),
        ("http://files.example/a.png", Forbidden),  # without TLS
        ("file:///etc/passwd", HubUnavailable),
        ("", HubUnavailable),
    ],
)
async def test_a_redirect_leads_no_further_than_the_url_itself(
    files: FileServer, source: DownloadSource, target: str, error: type[DeckError]
) -> None:
    files.redirects["a.png"] = target
    with pytest.raises(error):
        await source.fetch(files.url("a.png"), 1 << 20, 60)


async def test_what_is_not_there_is_an_error(files: FileServer, source: DownloadSource) -> None:
    with pytest.raises(NotFound):
        await source.fetch(files.url("b.png"), 100, 60)
    for status, error in ((403, Gated), (500, ServerUnavailable)):
        files.status = status
        with pytest.raises(error):
            await source.fetch(files.url("a.png"), 100, 60)
    for url in (
        *("http://[::1/a.png", "https://x.example:port/a.png", "https://x\ud800.example/"),
        *("https:///a.png", "https://x.example:0/a.png"),
    ):
        with pytest.raises(InvalidRequest, match="malformed"):
            await source.fetch(url, 100, 60)


@pytest.mark.parametrize("host", ["xn--a", "xn--", "a..b", "a" * 300])
async def test_what_is_no_name_of_a_host_is_an_error(files: FileServer, host: str) -> None:
    """httpx and the resolver raise UnicodeError for those."""
    source = DownloadSource("https://hub.example", lambda: None, 60)
    with pytest.raises(HubUnavailable, match="cannot be the name of a host"):
        await source.fetch(f"https://{host}/a.png", 100, 60)
    await source.close()


async def test_a_server_that_drips_is_given_up(source: DownloadSource) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nx")
        await reader.read()
        writer.close()

    async with serving(serve) as port:
        url = f"http://127.0.0.1:{port}/a.png?key=planted"
        with pytest.raises(ServerUnavailable, match="did not answer in full") as refused:
            await source.fetch(url, 100, 0.2)
        assert "planted" not in str(refused.value)
