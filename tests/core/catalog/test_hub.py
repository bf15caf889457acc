import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from modeldeck.core.catalog.hub import HubClient
from modeldeck.core.catalog.records import parameters
from modeldeck.core.catalog.variants import find
from modeldeck.core.demo.hub import STRANGER, TOKEN, DemoHub
from modeldeck.core.demo.model_writer import write_mlx
from modeldeck.core.demo.repository import demo_repo
from modeldeck.core.errors import (
    Corrupt,
    DeckError,
    Forbidden,
    Gated,
    HubUnavailable,
    InvalidRequest,
    NotFound,
)
from modeldeck.core.formats import gguf_parser, mlx_folder, safetensors
from modeldeck.core.schema import RepoFile
from tests.support.stream_server import serving

Maker = Callable[..., HubClient]


@pytest.fixture
async def make(hub: DemoHub, tmp_path: Path) -> AsyncIterator[Maker]:
    """Makes clients of the demo hub, which share one cache, and closes them."""
    made: list[HubClient] = []

    def maker(token: str | None = None, url: str = hub.url) -> HubClient:
        made.append(HubClient(url, lambda: token, tmp_path / "cache", timeout_s=60))
        return made[-1]

    yield maker
    for one in made:
        await one.close()


async def header_of(
    client: HubClient, repo: str, label: str
) -> tuple[gguf_parser.GgufHeader, bytes, RepoFile]:
    found = await client.repository(repo)
    variant = find(found.variants, label)
    assert variant is not None
    return *await client.read_header(repo, found.revision, variant.files[0]), variant.files[0]


async def test_search_finds_what_can_be_loaded_the_most_downloaded_first(make: Maker) -> None:
    result = await make().search(" TINY ")
    assert (result.query, result.from_cache, result.error) == ("TINY", False, None)
    assert [(hit.repo, hit.formats) for hit in result.hits] == [
        ("deck/tiny-GGUF", ("gguf",)),
        ("deck/tiny-mlx", ("mlx",)),
        ("deck/tiny-see-GGUF", ("gguf",)),
        ("deck/tiny-think-GGUF", ("gguf",)),
        ("deck/tiny-split-GGUF", ("gguf",)),
        ("deck/tiny-embed-GGUF", ("gguf",)),
    ]
    first = result.hits[0]
    assert (first.downloads, first.likes, first.license) == (4200, 42, "apache-2.0")
    assert first.last_modified == "2026-01-01T00:00:00Z"
    assert not first.gated


async def test_search_keeps_to_its_limits(make: Maker) -> None:
    assert len((await make().search("tiny", 2)).hits) == 2
    assert (await make().search("no such thing")).hits == ()
    with pytest.raises(InvalidRequest):
        await make().search("x" * 1000)


async def test_a_gated_repository_shows_as_such(make: Maker) -> None:
    (hit,) = (await make().search("gated")).hits
    assert hit.gated
    assert (await make().repository("deck/gated-GGUF")).gated


async def test_a_repository_and_its_variants(make: Maker, hub: DemoHub, demo_models: Path) -> None:
    found = await make().repository("deck/tiny-GGUF")
    assert (found.license, found.gated, found.from_cache) == ("apache-2.0", False, False)
    assert len(found.revision) == 40
    assert [v.unique for v in found.variants] == ["deck/tiny-GGUF:Q8_0", "deck/tiny-GGUF:F16"]
    (file,) = found.variants[0].files
    assert file.size_bytes == (demo_models / "tiny-GGUF" / file.path).stat().st_size
    assert file.lfs
    assert len(file.blob) == 64


async def test_split_and_mlx_repositories(make: Maker) -> None:
    (split,) = (await make().repository("deck/tiny-split-GGUF")).variants
    assert (split.label, len(split.files)) == ("F16", 3)
    (mlx,) = (await make().repository("deck/tiny-mlx")).variants
    assert (mlx.unique, mlx.files[0].path) == ("deck/tiny-mlx", "config.json")
    assert {file.lfs for file in mlx.files} == {True, False}


async def test_the_repositorys_own_spelling_counts(make: Maker) -> None:
    assert (await make().repository("DECK/tiny-gguf")).repo == "deck/tiny-GGUF"


async def test_a_revision_can_be_named(make: Maker) -> None:
    newest = await make().repository("deck/tiny-GGUF")
    assert await make().repository("deck/tiny-GGUF", newest.revision) == newest
    with pytest.raises(NotFound, match="revision"):
        await make().repository("deck/tiny-GGUF", "v9")


async def test_what_is_not_there_is_not_found(make: Maker) -> None:
    for token in (None, TOKEN):
        with pytest.raises(NotFound, match="not on the Hub"):
            await make(token).repository("deck/none")


@pytest.mark.parametrize("repo", ["", "../x", "a/b/c", "deck/tiny-GGUF?x=1", "deck/tiny\n"])
async def test_a_name_that_is_none_is_never_sent(make: Maker, hub: DemoHub, repo: str) -> None:
    with pytest.raises(InvalidRequest):
        await make().repository(repo)
    with pytest.raises(InvalidRequest):
        await make().repository("deck/tiny-GGUF", "../main")
    assert hub.log == ()


async def test_without_a_network_earlier_answers_stand(make: Maker, hub: DemoHub) -> None:
    before, searched = await make().repository("deck/tiny-GGUF"), await make().search("Tiny")
    hub.online = False
    client = make()
    kept = await client.repository("Deck/tiny-gguf")
    assert kept == replace(before, from_cache=True)
    assert await client.repository("deck/tiny-GGUF", before.revision) == kept
    again = await client.search("tiny")
    assert (again.hits, again.from_cache) == (searched.hits, True)
    assert again.error is not None
    assert hub.url in again.error


async def test_without_a_network_and_an_earlier_answer_it_says_so(
    make: Maker, hub: DemoHub
) -> None:
    await make().repository("deck/tiny-GGUF")
    hub.online = False
    client = make()
    for question in (client.search("tiny"), client.repository("deck/tiny-mlx")):
        with pytest.raises(HubUnavailable, match="cannot be reached") as refused:
            await question
        assert "network" in refused.value.remedy


async def test_another_hubs_answers_are_not_taken(make: Maker) -> None:
    await make().repository("deck/tiny-GGUF")
    with pytest.raises(HubUnavailable):
        await make(url="http://127.0.0.1:9").repository("deck/tiny-GGUF")


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_hub_in_trouble_is_as_good_as_none(make: Maker, hub: DemoHub, status: int) -> None:
    hub.faults.status(status, times=100)
    with pytest.raises(HubUnavailable):
        await make().repository("deck/tiny-GGUF")
    hub.faults.clear()
    await make().repository("deck/tiny-GGUF")
    hub.faults.status(status, times=100)
    assert (await make().repository("deck/tiny-GGUF")).from_cache


async def test_a_refusal_is_not_papered_over_with_an_earlier_answer(
    make: Maker, hub: DemoHub
) -> None:
    await make().repository("deck/tiny-GGUF")
    hub.faults.status(404, times=100)
    with pytest.raises(NotFound):
        await make().repository("deck/tiny-GGUF")


async def test_what_is_no_hub_is_said_to_be_none(make: Maker) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = b"<html>Hello</html>"
        head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
        writer.write(head + body)
        writer.close()

    async with serving(serve) as port:
        client = make(url=f"http://127.0.0.1:{port}")
        questions: list[Awaitable[object]] = [client.search("tiny"), client.repository("a/b")]
        for question in questions:
            with pytest.raises(HubUnavailable, match="did not answer as a Hub"):
                await question


async def test_damaged_answers_on_disk_are_asked_anew(make: Maker, tmp_path: Path) -> None:
    before = await make().repository("deck/tiny-GGUF")
    await header_of(make(), "deck/tiny-GGUF", "Q8_0")
    for path in (tmp_path / "cache").rglob("*"):
        if path.is_file():
            path.write_bytes(b"{")
    assert await make().repository("deck/tiny-GGUF") == before
    header, data, _ = await header_of(make(), "deck/tiny-GGUF", "Q8_0")
    assert header == gguf_parser.parse(data)


async def read_mlx(client: HubClient, repo: str) -> mlx_folder.MlxFolder:
    found = await client.repository(repo)
    (variant,) = found.variants
    return await client.read_folder(repo, found.revision, variant.files)


async def test_an_mlx_model_is_read_without_its_weights(
    make: Maker, hub: DemoHub, demo_models: Path
) -> None:
    folder = demo_models / "tiny-mlx"
    assert await read_mlx(make(), "deck/tiny-mlx") == mlx_folder.read_folder(folder)
    sent = sum(exchange.bytes_sent for exchange in hub.log if exchange.origin == "storage")
    assert sent < (folder / "model.safetensors").stat().st_size / 4
    hub.clear_log()
    await read_mlx(make(), "deck/tiny-mlx")
    assert not [exchange for exchange in hub.log if exchange.origin == "storage"], "it was kept"


async def test_the_index_of_a_split_mlx_model_tells_the_size_of_its_weights(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "big-mlx"
    write_mlx(folder, shard_bytes=1 << 20)
    repo = demo_repo("deck/big-mlx", folder, tags=("mlx",), library_name="mlx")
    index = folder / safetensors.INDEX
    there = mlx_folder.read_folder(folder)
    with DemoHub.in_thread((repo,)) as hub:
        client = HubClient(hub.url, lambda: None, tmp_path / "cache", timeout_s=60)
        found = await read_mlx(client, "deck/big-mlx")
        assert (found.config, found.weights_bytes) == (there.config, there.weights_bytes)
        assert not [exchange for exchange in hub.log if exchange.origin == "storage"]
        await client.close()
    document = json.loads(index.read_text())
    document["metadata"]["total_size"] = 1 << 50
    index.write_text(json.dumps(document))
    repo = demo_repo("deck/big-mlx", folder, tags=("mlx",), library_name="mlx")
    with DemoHub.in_thread((repo,)) as hub:
        client = HubClient(hub.url, lambda: None, tmp_path / "cache", timeout_s=60)
        assert await read_mlx(client, "deck/big-mlx") == there, "the headers tell better"
        await client.close()


async def test_the_index_of_another_model_on_the_hub_is_not_believed(tmp_path: Path) -> None:
    folder = tmp_path / "quant-mlx"
    write_mlx(folder)
    there = mlx_folder.read_folder(folder)
    table = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    index = {"metadata": {"total_size": 4 * there.weights_bytes}, "weight_map": table}
    (folder / safetensors.INDEX).write_text(json.dumps(index))
    repo = demo_repo("deck/quant-mlx", folder, tags=("mlx",), library_name="mlx")
    with DemoHub.in_thread((repo,)) as hub:
        client = HubClient(hub.url, lambda: None, tmp_path / "cache", timeout_s=60)
        assert await read_mlx(client, "deck/quant-mlx") == there
        await client.close()


@pytest.mark.parametrize(
    ("file", "code"),
    [
        ("config.json", {"model_file": "run.py"}),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["run.Tokenizer", None]}}),
    ],
)
async def test_a_configuration_with_code_on_the_hub_is_refused(
    tmp_path: Path, file: str, code: dict[str, object]
) -> None:
    folder = tmp_path / "code-mlx"
    write_mlx(folder)
    document = {**json.loads((folder / file).read_text()), **code}
    (folder / file).write_text(json.dumps(document))
    repo = demo_repo("deck/code-mlx", folder, tags=("mlx",), library_name="mlx")
    with DemoHub.in_thread((repo,)) as hub:
        client = HubClient(hub.url, lambda: None, tmp_path / "cache", timeout_s=60)
        with pytest.raises(Forbidden, match="Python code"):
            await read_mlx(client, "deck/code-mlx")
        with pytest.raises(Corrupt, match="no MLX model"):
            await client.read_folder("deck/code-mlx", "main", ())
        await client.close()


async def test_a_header_is_read_without_the_file(
    make: Maker, hub: DemoHub, demo_models: Path
) -> None:
    header, data, file = await header_of(make(), "deck/padded-GGUF", "F16")
    path = demo_models / "padded-GGUF" / file.path
    assert header == gguf_parser.read(path)
    assert path.read_bytes()[: len(data)] == data
    sent = sum(exchange.bytes_sent for exchange in hub.log if exchange.origin == "storage")
    assert sent < 2 * gguf_parser.FIRST_READ < path.stat().st_size


async def test_a_header_is_fetched_once_and_stands_without_a_network(
    make: Maker, hub: DemoHub
) -> None:
    before = await header_of(make(), "deck/tiny-GGUF", "Q8_0")
    hub.online = False
    assert await header_of(make(), "deck/tiny-GGUF", "Q8_0") == before


async def test_a_server_without_ranges_is_read_from_its_start(make: Maker, hub: DemoHub) -> None:
    hub.ranges = False
    header, data, _ = await header_of(make(), "deck/padded-GGUF", "F16")
    assert header == gguf_parser.parse(data)


@pytest.mark.parametrize(("token", "error"), [(None, Gated), (STRANGER, Gated), (TOKEN, None)])
async def test_a_gated_file_needs_a_token_that_may_read_it(
    make: Maker, hub: DemoHub, token: str | None, error: type[DeckError] | None
) -> None:
    if error is None:
        await header_of(make(token), "deck/gated-GGUF", "Q8_0")
    else:
        with pytest.raises(error, match="gated") as refused:
            await header_of(make(token), "deck/gated-GGUF", "Q8_0")
        assert f"{hub.url}/deck/gated-GGUF" in refused.value.remedy


async def test_the_token_goes_to_the_hub_and_to_nobody_else(make: Maker, hub: DemoHub) -> None:
    await header_of(make(TOKEN), "deck/tiny-GGUF", "Q8_0")
    assert any(exchange.origin == "storage" for exchange in hub.log)
    assert hub.leaks == ()
    assert all(exchange.authorization for exchange in hub.log if exchange.origin == "hub")


async def test_links_that_expired_are_the_hubs_trouble(make: Maker, hub: DemoHub) -> None:
    hub.link_lifetime_s = -60
    with pytest.raises(HubUnavailable, match="storage"):
        await header_of(make(), "deck/tiny-GGUF", "Q8_0")


@pytest.mark.parametrize("label", ["F16", "Q8_0"])
async def test_a_file_that_is_not_sound_is_found_out_before_it_is_fetched(
    make: Maker, label: str
) -> None:
    with pytest.raises(Corrupt):
        await header_of(make(), "deck/broken-GGUF", label)


async def test_a_file_that_changed_under_its_name_is_found_out(make: Maker) -> None:
    found = await make().repository("deck/tiny-GGUF")
    file = replace(found.variants[0].files[0], blob="0" * 64)
    with pytest.raises(Corrupt, match="another file"):
        await make().read_header(found.repo, found.revision, file)


async def test_a_file_that_is_not_there_is_not_found(make: Maker) -> None:
    found = await make().repository("deck/tiny-GGUF")
    file = replace(found.variants[0].files[0], path="none.gguf")
    with pytest.raises(NotFound, match="no such file"):
        await make().read_header(found.repo, found.revision, file)


async def test_a_dropped_connection_is_an_error_and_not_half_a_header(
    make: Maker, hub: DemoHub
) -> None:
    hub.faults.reset(after_bytes=1000, times=100, path="tiny-Q8_0")
    with pytest.raises(HubUnavailable):
        await header_of(make(), "deck/tiny-GGUF", "Q8_0")
    hub.faults.clear()
    await header_of(make(), "deck/tiny-GGUF", "Q8_0")


@pytest.mark.parametrize(
    ("location", "said"),
    [
        (b"ftp://127.0.0.1/x", "not followed"),
        (b"", "not followed"),
        (b"http://[::1/x", "malformed URL"),
        (b"http://127.0.0.1:x/", "malformed URL"),
        (b"/again", "without end"),
    ],
)
async def test_redirects_that_lead_nowhere_end(make: Maker, location: bytes, said: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 302 Found\r\nConnection: close\r\nContent-Length: 0\r\n")
        writer.write(b"Location: " + location + b"\r\n\r\n")
        writer.close()

    async with serving(serve) as port:
        client = make(url=f"http://127.0.0.1:{port}")
        file = RepoFile(path="x.gguf", size_bytes=1000, blob="0" * 64, lfs=True)
        with pytest.raises(HubUnavailable, match=said):
            await client.read_header("a/b", "main", file)


@pytest.mark.parametrize(
    ("repo", "count"),
    [
        ("Qwen/Qwen3-0.6B-GGUF", 0.6),
        ("a/SmolLM2-135M-Instruct", 0.135),
        ("a/Qwen3-30B-A3B-Instruct", 30),
        ("a/gemma_7b_it", 7),
        ("a/Mixtral-8x7B", None),
        ("7b/model", None),
        ("a/phi-4", None),
        ("a/x-4bit", None),
    ],
)
def test_parameters_are_read_from_the_name(repo: str, count: float | None) -> None:
    assert parameters(repo) == count
