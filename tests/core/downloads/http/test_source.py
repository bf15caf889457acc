"""What the answers of servers mean, by tables."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import httpx
import pytest

from modeldeck.core.catalog.hub import HubClient
from modeldeck.core.downloads.http.responses import (
    FileLocation,
    RetryableFailure,
    begins_at,
    names_blob,
    refusal,
    retry_after,
)
from modeldeck.core.downloads.http.source import DownloadSource
from modeldeck.core.errors import Corrupt, DeckError, Gated, HubUnavailable, NotFound
from modeldeck.core.network.address_policy import next_hop, origin
from modeldeck.core.schema import RepoFile
from tests.support.stream_server import serving

BLOB = "a" * 64
PLACE = FileLocation(
    repo="o/r",
    revision="0" * 40,
    file=RepoFile(path="dir/m #1.gguf", size_bytes=100, blob=BLOB, lfs=True),
)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_names_are_quoted_into_urls() -> None:
    source = DownloadSource("https://hub.example/", lambda: None, 1)
    assert source.url(PLACE) == f"https://hub.example/o/r/resolve/{'0' * 40}/dir/m%20%231.gguf"


REFUSALS: list[tuple[int, dict[str, str], bool, type[Exception] | None]] = [
    (200, {}, True, None),
    (206, {}, False, None),
    (302, {}, True, None),
    (401, {}, True, HubUnavailable),
    (403, {}, True, HubUnavailable),
    (403, {"x-error-message": "Access to this resource is disabled."}, True, NotFound),
    (401, {"x-error-code": "RepoNotFound"}, True, NotFound),
    (401, {"x-error-code": "GatedRepo"}, True, Gated),
    (403, {"x-error-code": "GatedRepo"}, True, Gated),
    (404, {"x-error-code": "EntryNotFound"}, True, NotFound),
    (403, {}, False, RetryableFailure),
    (401, {}, False, RetryableFailure),
    (404, {}, False, RetryableFailure),
    (416, {}, True, RetryableFailure),
    (429, {}, True, RetryableFailure),
    (500, {}, True, RetryableFailure),
    (503, {}, False, RetryableFailure),
    (400, {}, True, HubUnavailable),
]


@pytest.mark.parametrize(("status", "headers", "home", "expected"), REFUSALS)
def test_what_a_status_means(
    status: int, headers: dict[str, str], home: bool, expected: type[Exception] | None
) -> None:
    found = refusal(status, headers, PLACE, home)
    assert (type(found) if found else None) is expected
    if isinstance(found, DeckError):
        assert found.remedy


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("", None),
        ("soon", None),
        ("7", 7.0),
        ("-1", 0.0),
        ("99999", 300.0),
        (format_datetime(NOW + timedelta(seconds=20), usegmt=True), 20.0),
        (format_datetime(NOW - timedelta(days=1), usegmt=True), 0.0),
    ],
)
def test_retry_after(value: str, seconds: float | None) -> None:
    assert retry_after(value, NOW) == seconds


HOPS = [
    ("https://hub/a", "https://cdn.example/b?sig=1", "https://cdn.example/b?sig=1"),
    ("https://hub/a/b", "/c", "https://hub/c"),
    ("http://127.0.0.1:1/a", "http://127.0.0.1:2/b", "http://127.0.0.1:2/b"),
    ("http://10.0.0.1/a", "http://192.168.0.1/b", "http://192.168.0.1/b"),
    ("https://hub/a", "http://cdn.example/b", None),
    ("https://hub/a", "https://127.0.0.1/b", None),
    ("https://hub/a", "https://localhost/b", None),
    ("https://hub/a", "https://169.254.169.254/latest/meta-data", None),
    ("https://hub/a", "https://[::1]/b", None),
    ("https://hub/a", "file:///etc/passwd", None),
    ("https://hub/a", "", None),
]


@pytest.mark.parametrize(("url", "location", "target"), HOPS)
def test_where_a_redirect_may_lead(url: str, location: str, target: str | None) -> None:
    if target is None:
        with pytest.raises(HubUnavailable):
            next_hop(url, location)
    else:
        assert next_hop(url, location) == target


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("https://hub/a", "https://hub:443/b", True),
        ("https://hub/a", "https://HUB/b", True),
        ("https://hub/a", "http://hub/a", False),
        ("https://hub/a", "https://hub.evil/a", False),
        ("http://hub:80/a", "http://hub/a", True),
        ("http://hub:1/a", "http://hub:2/a", False),
    ],
)
def test_origins(one: str, other: str, same: bool) -> None:
    assert (origin(one) == origin(other)) is same


IDENTITIES: list[tuple[dict[str, str], bool | None]] = [
    ({}, False),
    ({"etag": f'"{BLOB}"'}, True),
    ({"etag": '"of-the-mirror"'}, False),
    ({"x-linked-etag": f'"{BLOB}"', "x-linked-size": "100"}, True),
    ({"x-linked-etag": f'"{"b" * 64}"'}, None),
    ({"x-linked-etag": f'"{BLOB}"', "x-linked-size": "101"}, None),
]


@pytest.mark.parametrize(("headers", "confirmed"), IDENTITIES)
def test_whether_the_endpoint_names_the_blob(
    headers: dict[str, str], confirmed: bool | None
) -> None:
    if confirmed is None:
        with pytest.raises(Corrupt):
            names_blob(headers, PLACE)
    else:
        assert names_blob(headers, PLACE) is confirmed


RANGES: list[tuple[int, dict[str, str], tuple[int, int], int | None]] = [
    (200, {"content-length": "100"}, (0, 100), 0),
    (200, {"content-length": "100"}, (40, 100), 0),
    (200, {}, (0, 100), 0),
    (200, {"content-length": "99"}, (0, 100), None),
    (200, {"content-length": "40", "content-encoding": "gzip"}, (0, 100), 0),
    (200, {"content-length": "40", "content-encoding": "gzip"}, (40, 100), 0),
    (206, {"content-range": "bytes 40-99/100", "content-encoding": "gzip"}, (40, 100), None),
    (206, {"content-range": "bytes 40-99/100"}, (40, 100), 40),
    (206, {"content-range": "bytes 40-59/*"}, (40, 100), 40),
    (206, {"content-range": "bytes 40-99/101"}, (40, 100), None),
    (206, {"content-range": "bytes 39-99/100"}, (40, 100), None),
    (206, {"content-range": "bytes 40-100/100"}, (40, 100), None),
    (206, {"content-range": "items 1-2/3"}, (40, 100), None),
    (206, {}, (40, 100), None),
]


@pytest.mark.parametrize(("status", "headers", "span", "start"), RANGES)
def test_where_an_answer_begins(
    status: int, headers: dict[str, str], span: tuple[int, int], start: int | None
) -> None:
    if start is None:
        with pytest.raises(RetryableFailure):
            begins_at(status, headers, PLACE, span)
    else:
        assert begins_at(status, headers, PLACE, span) == start


class Sixty(httpx.AsyncByteStream):
    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield bytes(60)


class Gathered:
    """A sink that keeps everything."""

    def __init__(self) -> None:
        self.content = bytearray()

    def room(self) -> int:
        return 7

    def take(self, data: memoryview) -> None:
        self.content += data

    def stop(self) -> None:
        pass


async def hops(source: DownloadSource, span: tuple[int, int], validator: str = "") -> bytes:
    sink = Gathered()
    async with source.open(PLACE, span, validator) as body:
        await body.pour(sink)
    return bytes(sink.content)


async def test_the_token_and_the_conditions_of_each_hop() -> None:
    seen: list[tuple[str, dict[str, str]]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append((request.url.host, dict(request.headers)))
        match request.url.host:
            case "hub.example":
                return httpx.Response(302, headers={"location": "https://cdn.example/x"})
            case "cdn.example":
                return httpx.Response(307, headers={"location": "https://hub.example.evil/y"})
            case _:
                return httpx.Response(
                    206, headers={"content-range": "bytes 40-99/100"}, stream=Sixty()
                )

    source = DownloadSource(
        "https://hub.example", lambda: "secret", 60, httpx.MockTransport(answer)
    )
    assert await hops(source, (40, 100), '"v1"') == bytes(60)
    await source.close()
    assert [host for host, _ in seen] == ["hub.example", "cdn.example", "hub.example.evil"]
    assert [headers.get("authorization") for _, headers in seen] == ["Bearer secret", None, None]
    assert {headers["if-range"] for _, headers in seen} == {'"v1"'}
    assert {headers["range"] for _, headers in seen} == {"bytes=40-99"}
    assert {headers["accept-encoding"] for _, headers in seen} == {"identity"}


async def test_redirects_in_a_circle_end() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(302, headers={"location": str(request.url)})

    source = DownloadSource("https://hub.example", lambda: None, 60, httpx.MockTransport(answer))
    with pytest.raises(HubUnavailable, match="circle"):
        await hops(source, (0, 100))
    await source.close()


@pytest.mark.parametrize("token", ["\ufeffplanted", "planted\nplanted", "planted\u200b"])
async def test_a_header_that_cannot_be_sent_is_quoted_by_no_error(
    token: str, tmp_path: Path
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with serving(serve) as port:
        url = f"http://127.0.0.1:{port}"
        source = DownloadSource(url, lambda: token, 60)
        hub = HubClient(url, lambda: token, tmp_path, timeout_s=60)
        for question in (hops(source, (0, 100)), hub.search("x"), hub.repository("a/b")):
            with pytest.raises(HubUnavailable, match="cannot be") as refused:
                await question
            error: BaseException | None = refused.value
            while error is not None:
                assert "planted" not in repr(error)
                error = error.__cause__
        await source.close()
        await hub.close()


class HeldBack(Gathered):
    """A sink under a rate limit that lets nothing in before it is stopped."""

    def __init__(self) -> None:
        super().__init__()
        self._stopped = threading.Event()

    def room(self) -> int:
        self._stopped.wait()
        return 0

    def stop(self) -> None:
        self._stopped.set()


async def test_a_cancel_does_not_wait_for_the_rate_limit() -> None:
    has_sent = asyncio.Event()

    class Stalls(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield bytes(60)
            has_sent.set()
            await asyncio.Event().wait()

    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(206, headers={"content-range": "bytes 40-99/100"}, stream=Stalls())

    source = DownloadSource("https://hub.example", lambda: None, 1, httpx.MockTransport(answer))
    async with source.open(PLACE, (40, 100), "") as body:
        sink = HeldBack()
        pouring = asyncio.create_task(body.pour(sink))
        await has_sent.wait()
        pouring.cancel()
        done, _ = await asyncio.wait([pouring], timeout=60)
        sink.stop()  # else nothing would end, where the cancel did not
        assert done
    await source.close()
