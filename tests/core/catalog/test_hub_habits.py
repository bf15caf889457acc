"""A hub with one odd habit at a time: what it costs, and what a person is told."""

from __future__ import annotations

import asyncio
import gzip
import json
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from modeldeck.core.catalog import records
from modeldeck.core.catalog.hub import HubClient
from modeldeck.core.catalog.hub_token import stored
from modeldeck.core.demo.hub import TOKEN, DemoHub
from modeldeck.core.demo.repository import demo_repo
from modeldeck.core.errors import Corrupt, DeckError, Gated, HubUnavailable, NotFound
from modeldeck.core.formats import gguf_parser
from modeldeck.core.schema import RepoFile
from tests.support.absurd_headers import gguf_of, large_table, many_arrays
from tests.support.stream_server import serving

SEARCH = "/api/models"
TINY = "deck/tiny-GGUF"


@pytest.fixture
async def client(hub: DemoHub, tmp_path: Path) -> AsyncIterator[HubClient]:
    made = HubClient(hub.url, lambda: None, tmp_path / "cache", timeout_s=60)
    yield made
    await made.close()


async def every(client: HubClient) -> list[DeckError]:
    """What each kind of question to the Hub is answered with: an error."""
    file = RepoFile(path="tiny-Q8_0.gguf", size_bytes=1000, blob="0" * 64, lfs=True)
    config = RepoFile(path="config.json", size_bytes=1000, blob="0" * 40)
    weights = RepoFile(path="model.safetensors", size_bytes=1000, blob="1" * 64, lfs=True)
    questions: list[Awaitable[object]] = [
        client.search("tiny"),
        client.repository(TINY),
        client.card(TINY, "0" * 40),
        client.read_header(TINY, "main", file),
        client.read_folder("deck/tiny-mlx", "main", [config, weights]),
    ]
    found = []
    for question in questions:
        with pytest.raises(DeckError) as refused:
            await question
        found.append(refused.value)
    return found


def hit(repo: str, **about: Any) -> dict[str, Any]:
    return {"id": repo, "downloads": 7, "tags": ["gguf"], **about}


@pytest.mark.parametrize(
    "bad",
    [
        None,
        7,
        [],
        "a/b",
        {},
        {"id": 7},
        {"id": "../../etc/passwd"},
        {"id": "a/b\n"},
        [[[[[]]]]],
    ],
)
async def test_one_bad_hit_does_not_spoil_a_search(
    client: HubClient, hub: DemoHub, bad: object
) -> None:
    body = json.dumps([hit("a/one"), bad, hit("a/two")]).encode()
    hub.faults.answer(200, body, times=2, path=SEARCH)
    assert [found.repo for found in (await client.search("x")).hits] == ["a/one", "a/two"]


@pytest.mark.parametrize(
    "odd",
    [
        {"downloads": "many"},
        {"downloads": 1 << 80},
        {"likes": -1},
        {"lastModified": "soon"},
        {"lastModified": "9999-12-31T23:59:59-23:59"},
        {"gated": {"a": 1}},
        {"cardData": {"license": ["mit"]}},
        {"cardData": "mit"},
        {"siblings": None},
    ],
)
async def test_one_odd_field_does_not_spoil_a_hit(
    client: HubClient, hub: DemoHub, odd: dict[str, Any]
) -> None:
    hub.faults.answer(200, json.dumps([hit("a/one", **odd)]).encode(), times=2, path=SEARCH)
    (found,) = (await client.search("x")).hits
    assert (found.repo, found.formats) == ("a/one", ("gguf",))


async def test_one_odd_file_does_not_spoil_a_repository(client: HubClient, hub: DemoHub) -> None:
    good = {"rfilename": "m-Q8_0.gguf", "size": 9, "blobId": "1" * 40}
    odd: list[Any] = [
        None,
        "x",
        {"rfilename": 7},
        {**good, "size": -1},
        {**good, "size": 1 << 70},
        {**good, "blobId": "../x"},
        {**good, "lfs": {"sha256": 7}},
        {**good, "rfilename": "../../x.gguf"},
    ]
    record = {"id": TINY, "sha": "0" * 40, "siblings": [*odd, good]}
    hub.faults.answer(200, json.dumps(record).encode(), path="/api/models/")
    (variant,) = (await client.repository(TINY)).variants
    assert [file.path for file in variant.files] == ["m-Q8_0.gguf"]


DEEP = b"[" * 200_000 + b"]" * 200_000
GZIP = {"Content-Encoding": "gzip"}
ANSWERS: dict[str, tuple[bytes, dict[str, str], str]] = {
    "a page": (b" <html>Log in</html>", {}, "web page"),
    "no JSON": (b"{", {}, "not the JSON"),
    "nothing": (b"", {}, "not the JSON"),
    "other JSON": (b'"x"', {}, "not the JSON"),
    "deep": (DEEP, {}, "not the JSON"),
    "deep within": (b'{"id": "a/b", "siblings": [' + DEEP + b"]}", {}, "not the JSON"),
    "large": (b"[" + b" " * records.MAX_REPOSITORY + b"]", {}, "more than"),
    "a bomb": (gzip.compress(b" " * (64 << 20)), GZIP, "more than"),
    "many entries": (b"[" + b"1," * records.MAX_ENTRIES + b"1,1]", {}, "too many entries"),
    "no gzip": (b"[]", GZIP, "cannot be decompressed"),
    "brotli": (b"[]", {"Content-Encoding": "br"}, "cannot be decompressed"),
}


@pytest.mark.parametrize(("body", "headers", "said"), ANSWERS.values(), ids=ANSWERS.keys())
async def test_an_answer_that_no_hub_gives_is_an_error_that_costs_little(
    client: HubClient, hub: DemoHub, body: bytes, headers: dict[str, str], said: str
) -> None:
    hub.faults.answer(200, body, headers, times=100, path=SEARCH)
    began = time.thread_time()
    with pytest.raises(HubUnavailable, match=said) as refused:
        await client.repository(TINY)
    assert "Check" in refused.value.remedy or "no_proxy" in refused.value.remedy
    with pytest.raises(HubUnavailable, match=said):
        await client.search("tiny")
    assert time.thread_time() - began < 1, "of this thread, which is the loop's"


async def test_files_beyond_any_number_are_not_read(client: HubClient, hub: DemoHub) -> None:
    one = {"rfilename": "x", "size": 1, "blobId": "1" * 40}
    siblings = [one] * (records.MAX_FILES + 1)
    body = json.dumps({"id": TINY, "sha": "0" * 40, "siblings": siblings}).encode()
    hub.faults.answer(200, body, path=SEARCH)
    with pytest.raises(HubUnavailable, match="20001 files"):
        await client.repository(TINY)


def test_names_without_end_are_sorted_in_a_second() -> None:
    files = [f"mmproj-{n}.gguf" for n in range(8000)] + [f"{n}/\u00e9.gguf" for n in range(12_000)]
    record = {
        "id": TINY,
        "sha": "0" * 40,
        "siblings": [{"rfilename": f, "size": 1, "blobId": "1" * 40} for f in files],
    }
    began = time.thread_time()
    found = records.repository("https://hub", json.dumps(record).encode())
    assert len(found.variants) == 12_000
    assert time.thread_time() - began < 5  # twenty times that where each is compared with all


async def test_an_answer_that_drips_ends(tmp_path: Path) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        try:
            while True:
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.02)
        except ConnectionError:
            pass
        finally:
            writer.close()

    async with serving(serve) as port:
        client = HubClient(f"http://127.0.0.1:{port}", lambda: None, tmp_path / "c", timeout_s=0.3)
        with pytest.raises(HubUnavailable, match="whole answer within"):
            await client.repository(TINY)
        await client.close()


@pytest.mark.parametrize(
    ("status", "headers", "kind", "said"),
    [
        (403, {}, HubUnavailable, "without saying why"),
        (401, {}, HubUnavailable, "without saying why"),
        (403, {"X-Error-Message": "Access to this resource is disabled."}, NotFound, "disabled"),
        (403, {"X-Error-Message": "Forbidden: your IP"}, Gated, "your IP"),
        (401, {"X-Error-Code": "RepoNotFound"}, NotFound, "or it is private"),
    ],
)
async def test_not_every_refusal_is_a_gated_or_a_missing_repository(
    client: HubClient, hub: DemoHub, status: int, headers: dict[str, str], kind: type, said: str
) -> None:
    page = b"<html>The proxy of your company</html>"
    hub.faults.answer(status, page, headers, times=100)
    search, *rest = await every(client)
    assert type(search) is HubUnavailable
    assert "gated" not in str(search)
    for error in rest:
        assert "gated" not in str(error)
        if error.message != f"{TINY} has no model card.":
            assert type(error) is kind
            assert said in error.message


@pytest.mark.parametrize("name", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
async def test_offline_asks_nothing_and_answers_from_what_was_kept(
    client: HubClient, hub: DemoHub, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await client.repository(TINY)
    (first, *_) = before.variants
    header = await client.read_header(TINY, before.revision, first.files[0])
    hub.clear_log()
    monkeypatch.setenv(name, "1")
    other = HubClient(hub.url + "/", lambda: None, tmp_path / "other", timeout_s=60)
    for error in await every(other):
        assert isinstance(error, HubUnavailable)
        assert f"{name} is set" in error.message
        assert name in error.remedy
    kept = await client.repository(TINY)
    assert (kept.from_cache, kept.variants) == (True, before.variants)
    assert await client.read_header(TINY, before.revision, first.files[0]) == header
    assert hub.log == ()


async def test_a_token_with_a_byte_order_mark_is_sent_without_it(
    hub: DemoHub, tmp_path: Path
) -> None:
    (tmp_path / "token").write_bytes(("\ufeff" + TOKEN).encode())
    client = HubClient(hub.url, lambda: stored(tmp_path, {}), tmp_path / "cache", timeout_s=60)
    found = await client.repository("deck/gated-GGUF")
    await client.read_header(found.repo, found.revision, found.variants[0].files[0])
    (tmp_path / "token").write_bytes(("\u200b" + TOKEN).encode())
    for error in await every(client):
        assert str(tmp_path / "token") in error.message
        assert TOKEN not in repr(error) + repr(error.__cause__) + repr(error.__context__)
    await client.close()


async def test_a_proxy_that_is_not_spoken_is_one_clear_error(
    client: HubClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://me:secret@127.0.0.1:9")
    for error in await every(client):
        assert isinstance(error, HubUnavailable)
        assert "SOCKS proxy" in error.message
        assert "http://host:port" in error.remedy
        assert "secret" not in str(error)


async def test_parts_that_come_compressed_are_asked_for_whole(
    client: HubClient, hub: DemoHub, tmp_path: Path
) -> None:
    plain = await read(client, TINY)
    folder = await read_mlx(client)
    hub.compressed = "f"
    hub.clear_log()
    other = HubClient(hub.url, lambda: None, tmp_path / "other", timeout_s=60)
    assert await read(other, TINY) == plain
    hub.compressed = ".json"
    assert await read_mlx(other) == folder
    await other.close()


async def read(client: HubClient, repo: str) -> object:
    found = await client.repository(repo)
    return await client.read_header(repo, found.revision, found.variants[0].files[0])


async def read_mlx(client: HubClient, repo: str = "deck/tiny-mlx") -> object:
    found = await client.repository(repo)
    return await client.read_folder(repo, found.revision, found.variants[0].files)


Write = Callable[[Path], None]


@pytest.mark.parametrize(("write", "said"), [(many_arrays, "arrays hold"), (large_table, "header")])
async def test_absurd_headers_hold_up_neither_the_loop_nor_the_memory(
    tmp_path: Path, write: Write, said: str
) -> None:
    folder = tmp_path / "odd-mlx"
    folder.mkdir()
    write(folder)
    with DemoHub.in_thread((demo_repo("deck/odd-mlx", folder, tags=("mlx",)),)) as hub:
        client = HubClient(hub.url, lambda: None, tmp_path / "cache", timeout_s=60)
        found = await client.repository("deck/odd-mlx")
        began = time.thread_time()
        (variant,) = found.variants
        question: Awaitable[object] = (
            client.read_folder(found.repo, found.revision, variant.files)
            if variant.format == "mlx"
            else client.read_header(found.repo, found.revision, variant.files[0])
        )
        with pytest.raises(Corrupt, match=said):
            await question
        assert time.thread_time() - began < 1, "of this thread, which is the loop's"
        await client.close()


@pytest.mark.parametrize(("arrays", "length"), [(120, 1000), (2, 60_000)])
def test_the_pieces_of_a_header_are_read_once(arrays: int, length: int) -> None:
    """However many pieces it comes in, the work for each byte is the same."""
    data = gguf_of(arrays, 8, length, (struct.pack("<Q", 2) + b"ab") * length)
    whole = gguf_parser.parse(data)
    assert whole is not None
    parser, began = gguf_parser.Parser(), time.thread_time()
    found = [parser.feed(data[at : at + 512]) for at in range(0, len(data), 512)]
    assert time.thread_time() - began < 3  # 2,300 pieces; read anew each time, a minute
    assert found[-1] == whole
    assert found[:-1] == [None] * (len(found) - 1)
