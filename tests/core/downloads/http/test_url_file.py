"""Files from URLs that are not the Hub's: what is known of them, and what they are held to."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from modeldeck.core.downloads.http.responses import stated_sha256
from modeldeck.core.downloads.http.source import DownloadSource
from modeldeck.core.errors import (
    Corrupt,
    DeckError,
    Forbidden,
    Gated,
    HubUnavailable,
    InvalidRequest,
    NotFound,
    ServerUnavailable,
)
from modeldeck.core.formats.unique_names import UrlName, parse_unique
from modeldeck.core.hub_cache import scan
from modeldeck.core.network.address_policy import check_url, is_public
from modeldeck.core.network.connection import PrivateAddress, dial
from modeldeck.core.schema import Download, Model, model_id
from tests.support.files import FileServer
from tests.support.hashes import verify
from tests.support.stream_server import serving

if TYPE_CHECKING:
    from tests.core.downloads.conftest import Rig

SIZE = 6 << 20
CONTENT = b"GGUF" + random.Random(1).randbytes(SIZE - 4)
OTHER = b"GGUF" + random.Random(2).randbytes(SIZE - 4)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def files(tmp_path: Path) -> Iterator[FileServer]:
    path = tmp_path / "m.gguf"
    path.write_bytes(CONTENT)
    page = tmp_path / "page.gguf"
    page.write_text("<html>")
    with FileServer.in_thread({"m.gguf": path, "page.gguf": page}) as files:
        yield files


def named(files: FileServer, promise: str = "", name: str = "m.gguf") -> UrlName:
    found = parse_unique(files.url(name) + promise)
    assert isinstance(found, UrlName)
    return found


async def pull(rig: Rig, name: UrlName) -> Download:
    """Start to fetch what is at a URL."""
    source = DownloadSource(rig.endpoint, lambda: "secret", 20)
    try:
        revision, file = (await source.look(name.url)).listed(name)
    finally:
        await source.close()
    unique = name.unique
    model = Model(id=model_id(unique), unique=unique, name="m", format="gguf", source="custom")
    return await rig.downloads.start(model, revision, [file], repo=name.repo, url=name.url)


def shown(rig: Rig) -> list[bytes]:
    """The content of everything that is published of URLs, each of the name it should have."""
    found = []
    for snapshot in scan.scan(rig.shelves.web.root):
        assert verify(snapshot) == ()
        found += [Path(snapshot.folder, file.path).read_bytes() for file in snapshot.files]
    return found


@pytest.mark.parametrize(
    ("promise", "header", "is_known"),
    [
        (f"#sha256={SHA256.upper()}", "", True),
        ("", "Repr-Digest", True),
        ("", "Digest", True),
        ("", "", False),
    ],
)
async def test_a_file_is_held_to_what_is_known_of_it(
    rig: Rig, files: FileServer, promise: str, header: str, is_known: bool
) -> None:
    files.digest = header
    name = named(files, promise)
    done = await rig.ended((await pull(rig, name)).id)
    assert (done.state, done.error, done.verifiable) == ("completed", None, is_known)
    assert done.url == files.url("m.gguf")
    assert shown(rig) == [CONTENT]
    assert rig.stray() == []  # the cache that all tools share knows nothing of it
    assert rig.shelves.blob(name.repo, SHA256).is_file()
    assert files.tokens == []


async def test_another_hash_than_was_asked_for_is_never_published(
    rig: Rig, files: FileServer
) -> None:
    failed = await rig.ended((await pull(rig, named(files, "#sha256=" + "0" * 64))).id)
    assert (failed.state, failed.error and failed.error.code) == ("failed", "corrupt")
    assert shown(rig) == []
    assert list(rig.shelves.web.root.glob("models--*")) == []
    files.digest = "Digest"
    with pytest.raises(Corrupt, match="another hash"):
        await pull(rig, named(files, "#sha256=" + "1" * 64))


async def test_what_nobody_vouches_for_must_be_a_model_at_least(
    rig: Rig, files: FileServer
) -> None:
    def refuse(path: Path) -> None:
        raise Corrupt(f"{path} is cut off.")

    rig.check = refuse
    await rig.reopen()
    failed = await rig.ended((await pull(rig, named(files))).id)
    assert (failed.state, failed.error and failed.error.code) == ("failed", "corrupt")
    assert list(rig.shelves.web.root.glob("models--*")) == []


MARKS = [('"v1"', "", True), ("", "Thu, 01 Jan 2026 00:00:00 GMT", True), ('W/"v1"', "", False)]


@pytest.mark.parametrize(("etag", "modified", "goes_on"), MARKS)
@pytest.mark.parametrize("is_changed", [False, True])
async def test_a_download_goes_on_where_the_server_says_that_it_is_the_same_file(
    rig: Rig, files: FileServer, etag: str, modified: str, goes_on: bool, is_changed: bool
) -> None:
    files.etag, files.modified, files.pause_at = etag, modified, 2 << 20
    job = await pull(rig, named(files))
    await rig.until(job.id, lambda j: j.received_bytes >= 1 << 20)
    paused = await rig.downloads.pause(job.id)
    files.pause_at = None
    files.asked.clear()
    if is_changed:
        files.files["m.gguf"].write_bytes(OTHER)
        files.etag = files.etag.replace("v1", "v2")
        files.modified = files.modified.replace("01 Jan", "02 Jan")
    await rig.downloads.resume(job.id)
    done = await rig.ended(job.id)
    assert (done.state, done.error) == ("completed", None)
    assert shown(rig) == [OTHER if is_changed else CONTENT]
    starts = [asked.removeprefix("bytes=").split("-")[0] for _, asked, _ in files.asked]
    begins_anew = is_changed or not goes_on
    assert ("0" in starts or "" in starts) is begins_anew
    assert paused.received_bytes > 0
    if goes_on:
        assert files.asked[0][2]  # it asked for the rest of that very state


async def test_a_server_without_ranges_will_do(rig: Rig, files: FileServer) -> None:
    files.ranges = False
    done = await rig.ended((await pull(rig, named(files))).id)
    assert (done.state, done.error) == ("completed", None)
    assert shown(rig) == [CONTENT]


async def test_what_was_published_but_not_shown_is_not_fetched_again(
    rig: Rig, files: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(target: str, link: Path) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "symlink", refuse)
    job = await pull(rig, named(files))
    assert (await rig.ended(job.id)).state == "failed"
    monkeypatch.undo()
    await rig.reopen()
    files.asked.clear()
    await rig.downloads.resume(job.id)
    assert (await rig.ended(job.id)).state == "completed"
    assert shown(rig) == [CONTENT]
    assert files.asked == []


async def test_the_same_file_again_is_checked_and_not_fetched(rig: Rig, files: FileServer) -> None:
    job = await pull(rig, named(files))
    await rig.ended(job.id)
    await rig.downloads.remove(job.id)
    files.asked.clear()
    assert (await rig.ended((await pull(rig, named(files))).id)).state == "completed"
    assert len(files.asked) == 1  # what there is, and no more
    assert shown(rig) == [CONTENT]


# What there is at a URL


async def looked(files: FileServer, name: str = "m.gguf") -> object:
    source = DownloadSource("https://hub.example", lambda: "secret", 60)
    try:
        return await source.look(files.url(name))
    finally:
        await source.close()


@pytest.mark.parametrize(
    ("change", "name", "error"),
    [
        ({"status": 403}, "m.gguf", Gated),
        ({"status": 410}, "m.gguf", NotFound),
        ({"status": 500}, "m.gguf", ServerUnavailable),
        ({}, "none.gguf", NotFound),
        ({}, "page.gguf", InvalidRequest),
        ({"length": False, "ranges": False}, "m.gguf", InvalidRequest),
        ({"redirects": {"m.gguf": "m.gguf"}}, "m.gguf", ServerUnavailable),
        ({"redirects": {"m.gguf": "file:///etc/passwd"}}, "m.gguf", HubUnavailable),
        ({"redirects": {"m.gguf": "http://192.0.2.1/m.gguf"}}, "m.gguf", DeckError),
    ],
)
async def test_what_cannot_be_fetched_is_said_before_anything_is_begun(
    files: FileServer, change: dict[str, object], name: str, error: type[DeckError]
) -> None:
    for key, value in change.items():
        setattr(files, key, value)
    with pytest.raises(error) as refused:
        await looked(files, name)
    assert refused.value.remedy
    assert files.tokens == []


async def test_a_redirect_is_followed_and_its_promise_kept(files: FileServer) -> None:
    files.redirects["latest.gguf"] = "/m.gguf"
    files.digest = "Repr-Digest"
    source = DownloadSource("https://hub.example", lambda: None, 60)
    offer = await source.look(files.url("latest.gguf"))
    assert (offer.size_bytes, offer.validator, offer.sha256) == (SIZE, '"v1"', SHA256)
    assert await source.read(files.url("latest.gguf"), 4, 100) == CONTENT[4:104]
    await source.close()


async def test_a_server_that_is_not_there_says_so() -> None:
    source = DownloadSource("https://hub.example", lambda: None, 60)
    with pytest.raises(ServerUnavailable):
        await source.look("http://127.0.0.1:9/m.gguf")
    await source.close()


@pytest.mark.parametrize(
    ("headers", "digest"),
    [
        ({}, ""),
        ({"x-linked-etag": f'"{SHA256}"'}, SHA256),
        ({"x-linked-etag": '"' + "a" * 40 + '"'}, ""),
        ({"etag": f'"{SHA256}"'}, ""),
        ({"digest": "md5=abc,SHA-256=" + "A" * 43 + "="}, "00" * 32),
        ({"repr-digest": "sha-512=:abc=:, sha-256=:" + "A" * 43 + "=:"}, "00" * 32),
        ({"digest": "sha-256=nonsense"}, ""),
    ],
)
def test_what_a_server_promises(headers: dict[str, str], digest: str) -> None:
    assert stated_sha256(headers) == digest


# Where a URL may lead


@pytest.mark.parametrize(
    ("url", "trusted", "good"),
    [
        ("https://files.example/m.gguf", (), True),
        ("http://files.example/m.gguf", (), False),
        ("http://files.example/m.gguf", ("Files.Example",), True),
        ("http://127.0.0.1:8000/m.gguf", (), True),
        ("http://localhost/m.gguf", (), True),
        ("http://[::1]/m.gguf", (), True),
        ("https://10.0.0.1/m.gguf", (), False),
        ("https://10.0.0.1/m.gguf", ("10.0.0.1",), True),
        ("https://169.254.169.254/m.gguf", (), False),
        ("https://[fd00::1]/m.gguf", (), False),
        ("https://[::ffff:10.0.0.1]/m.gguf", (), False),
    ],
)
def test_which_urls_may_be_asked(url: str, trusted: tuple[str, ...], good: bool) -> None:
    if good:
        check_url(url, trusted)
        return
    with pytest.raises(Forbidden, match="trusted_hosts"):
        check_url(url, trusted)


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("1.1.1.1", True),
        ("2606:4700::1111", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("100.64.0.1", False),
        ("169.254.169.254", False),
        ("0.0.0.0", False),  # noqa: S104 - it is refused
        ("224.0.0.1", False),
        ("::1", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("::ffff:127.0.0.1", False),
        ("64:ff9b::a00:1", False),
        ("64:ff9b::101:101", True),
        ("2002:a00:1::", False),
        ("::127.0.0.1", False),
        ("::ffff:0:127.0.0.1", False),
        ("64:ff9b:1::a00:1", False),
        ("fec0::1", False),
    ],
)
def test_which_addresses_are_of_the_internet(address: str, public: bool) -> None:
    assert is_public(address) is public


async def test_a_name_that_leads_inside_is_not_connected_to(
    files: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(PrivateAddress):
        await dial("localhost", 1, public=True)
    loop = asyncio.get_running_loop()
    port = int(files.url("").rsplit(":", 1)[1].strip("/"))
    real = loop.getaddrinfo

    async def rebound(host: str, port_: int, **named: int) -> object:
        return await real("127.0.0.1", port, **named)

    monkeypatch.setattr(loop, "getaddrinfo", rebound)
    source = DownloadSource("https://hub.example", lambda: None, 60)
    with pytest.raises(Forbidden, match=r"files\.example leads to 127\.0\.0\.1"):
        await source.look("https://files.example/m.gguf")
    await source.close()
    assert files.asked == []


async def test_a_redirect_into_the_machine_is_not_followed() -> None:
    asked = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return httpx.Response(302, headers={"location": "https://127.0.0.1/m.gguf"})

    source = DownloadSource("https://hub.example", lambda: None, 60, httpx.MockTransport(answer))
    with pytest.raises(HubUnavailable, match="not followed"):
        await source.look("https://files.example/m.gguf")
    assert asked == ["https://files.example/m.gguf"]


async def test_a_server_that_drips_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-9/10\r\n")
        writer.write(b"Content-Length: 10\r\n\r\n")
        await reader.read()
        writer.close()

    monkeypatch.setattr("modeldeck.core.downloads.http.source.LOOK_S", 0.2)
    async with serving(serve) as port:
        source = DownloadSource("https://hub.example", lambda: None, 60)
        secret = f"http://127.0.0.1:{port}/m.gguf?X-Amz-Signature=planted"
        for question in (source.look(secret), source.read(secret, 0, 10)):
            with pytest.raises(ServerUnavailable, match="did not answer in full") as refused:
                await question
            assert "planted" not in str(refused.value)
        await source.close()
