"""Files that others chose: never waited for without end, whatever lies there."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from modeldeck.core.api.http import tls
from modeldeck.core.catalog import hub_token
from modeldeck.core.concurrency import DaemonThreadPool
from modeldeck.core.config import config, config_file
from modeldeck.core.downloads.transfer.partial_file import PartialFile
from modeldeck.core.errors import DeckError, StorageTimeout
from modeldeck.core.formats import gguf_parser, mlx_folder
from modeldeck.core.hub_cache import scan, undo
from modeldeck.core.hub_cache.layout import HubCache
from modeldeck.core.network.certificates import CertificateStore
from modeldeck.core.runtime.engines.llama import adapters, files
from modeldeck.core.runtime.engines.mlx import engine
from modeldeck.core.schema import ModelSeed
from modeldeck.core.service.library import chat_templates, custom_files, entries, model_cards
from modeldeck.core.service.library.copying import ModelCopying
from modeldeck.core.storage import foreign_files
from modeldeck.core.storage.foreign_files import (
    in_file_thread,
    open_regular,
    read_regular,
    stat_regular,
)

COMMIT = "c" * 40
BLOB = "b" * 64


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    """A named pipe without a writer: opening it as files are opened blocks for ever."""
    path = tmp_path / "model.gguf"
    os.mkfifo(path)
    return path


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """A hung mount: `stat` of everything below a folder `hung` waits until this is set."""
    opened, really = threading.Event(), os.stat

    def hanging(path: Any, *args: Any, **more: Any) -> os.stat_result:
        if not isinstance(path, int) and "/hung/" in os.fspath(path):
            opened.wait(60)
        return really(path, *args, **more)

    monkeypatch.setattr(os, "stat", hanging)
    yield opened
    opened.set()


def test_a_regular_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    (tmp_path / "link").symlink_to(path)
    with open_regular(tmp_path / "link", noatime=True) as file:
        assert file.read() == b"content"
        assert not os.get_inheritable(file.fileno())
    assert read_regular(path, 7) == b"content"
    with pytest.raises(OSError, match="more than 6 bytes"):
        read_regular(path, 6)


def test_anything_else_is_refused_in_words(
    pipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        monkeypatch.chdir(tmp_path)  # the path of a socket is short
        bound.bind("sock")
        for path, words in (
            (pipe, "named pipe"),
            (tmp_path, "directory"),
            (Path("/dev/zero"), "device"),
            (Path("sock"), "socket"),
            (tmp_path / "none", "No such file"),
        ):
            for look in (open_regular, stat_regular, lambda path: read_regular(path, 10)):
                with pytest.raises(OSError, match=words):
                    look(path)


def folder_with_pipe(tmp_path: Path, name: str) -> Path:
    """An MLX folder one of whose files is a pipe."""
    folder = tmp_path / "mlx"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / "model.safetensors").write_bytes(b"\2\0\0\0\0\0\0\0{}")
    (folder / "tokenizer.json").write_text("{}")
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    return folder


def a_cache(tmp_path: Path, pipe: Path) -> HubCache:
    """A cache whose ref, blob and partial are pipes."""
    cache = HubCache(tmp_path / "hub")
    for path in (
        cache.ref("a/b", "main"),
        cache.blob("a/b", BLOB),
        cache.partial("a/b", BLOB),
        cache.pointer("a/b", COMMIT, "README.md"),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(path)
    return cache


READERS: dict[str, Callable[[Path, Path], Any]] = {
    "gguf header": lambda pipe, _: gguf_parser.read(pipe),
    "custom model": lambda pipe, _: entries.from_seed(ModelSeed(unique=str(pipe)), "http://hub"),
    "MLX config": lambda _, tmp: mlx_folder.read_folder(folder_with_pipe(tmp, "config.json")),
    "MLX weights": lambda _, tmp: mlx_folder.read_folder(
        folder_with_pipe(tmp, "model.safetensors")
    ),
    "engine, MLX weights": lambda _, tmp: engine._checked(
        folder_with_pipe(tmp, "model.safetensors")
    ),
    "engine, MLX vocabulary": lambda _, tmp: engine._refuse_irregular(
        folder_with_pipe(tmp, "vocab.json")
    ),
    "engine, GGUF": lambda pipe, _: files.check_files(str(pipe)),
    "engine, adapter": lambda pipe, _: adapters.adapter_bytes(str(pipe)),
    "card": lambda pipe, _: model_cards._read_limited(pipe),
    "verification": lambda pipe, _: scan.digest(pipe, BLOB, lambda _: None),
    "certificate": lambda pipe, _: tls.context(str(pipe), None),
    "content for another machine": lambda pipe, tmp: ModelCopying(
        library=SimpleNamespace(),  # type: ignore[arg-type] # nothing of it is asked
        downloads=SimpleNamespace(),  # type: ignore[arg-type]
        cache=SimpleNamespace(blob=a_cache(tmp, pipe).blob, of=lambda _: HubCache(tmp / "hub")),  # type: ignore[arg-type]
    ).open("a/b", BLOB),
    "settings": lambda pipe, _: config_file.set_values(pipe, "downloads", {"jobs_at_once": 1}),
}


def test_certificates_of_servers_that_are_a_pipe_are_refused(
    pipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(pipe))
    with pytest.raises(DeckError, match="named pipe"):
        CertificateStore().context()


@pytest.mark.parametrize("reader", READERS)
def test_no_reader_waits_for_a_pipe(reader: str, pipe: Path, tmp_path: Path) -> None:
    with pytest.raises((OSError, DeckError)):
        READERS[reader](pipe, tmp_path)


def test_what_can_do_without_goes_on(pipe: Path, tmp_path: Path) -> None:
    cache = a_cache(tmp_path, pipe)
    assert chat_templates.read(pipe, "gguf") is None
    assert chat_templates.read(folder_with_pipe(tmp_path, "chat_template.jinja"), "mlx") is None
    with pytest.raises(DeckError, match="named pipe"):
        hub_token.stored(tmp_path, {"HF_TOKEN_PATH": str(pipe)})
    settings, problems = config_file.load(pipe, {})
    assert settings == config.Config()
    assert "named pipe" in str(problems[0])
    assert not custom_files.look_at(str(pipe)).exists
    (snapshot,) = scan.scan(cache.root)
    assert snapshot.refs == ()
    taken = undo.RemovedLinks(links={}, refs={str(cache.ref("a/b", "main")): COMMIT})
    with pytest.raises(DeckError):
        undo.restore(taken)
    cache.set_ref("a/b", "main", COMMIT)
    assert cache.ref("a/b", "main").read_text() == COMMIT


def test_the_further_parts_of_a_split_model_are_looked_at(tmp_path: Path) -> None:
    first = tmp_path / "m-00001-of-00003.gguf"
    first.write_bytes(b"GGUF")
    files.check_files(str(first))  # what is missing llama.cpp tells
    os.mkfifo(tmp_path / "m-00003-of-00003.gguf")
    with pytest.raises(DeckError, match=r"00003-of-00003.*named pipe"):
        files.check_files(str(first))


async def test_a_partial_that_is_a_pipe_is_refused(pipe: Path, tmp_path: Path) -> None:
    cache = a_cache(tmp_path, pipe)
    for path, write in ((cache.partial("a/b", BLOB), True), (cache.blob("a/b", BLOB), False)):
        with pytest.raises(DeckError, match="named pipe"):
            await PartialFile.open(path, write=write)


# Threads


async def test_what_hangs_is_given_up_in_words_and_not_tried_again(gate: threading.Event) -> None:
    calls: list[str] = []
    begun = threading.Event()

    def look(path: str) -> str:
        calls.append(path)
        begun.set()
        try:
            os.stat(path)
        except FileNotFoundError:
            pass
        return path

    with pytest.raises(StorageTimeout, match=r"/hung/a did not answer within 0\.1 s"):
        await in_file_thread(lambda: look("/hung/a"), "/hung/a", limit_s=0.1)
    with pytest.raises(StorageTimeout, match="earlier attempt"):
        await in_file_thread(lambda: look("/hung/a"), "/hung/a")
    assert await asyncio.to_thread(begun.wait, 60)
    assert calls == ["/hung/a"]
    assert await in_file_thread(lambda: look("/fine"), "/fine") == "/fine"
    gate.set()
    async with asyncio.timeout(60):
        while "/hung/a" in foreign_files.CACHE.stuck:  # noqa: ASYNC110 - a thread leaves it
            await asyncio.sleep(0.01)
    assert await in_file_thread(lambda: look("/hung/a"), "/hung/a") == "/hung/a"


async def test_a_hung_mount_of_custom_models_leaves_the_cache_usable(
    gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    custom = DaemonThreadPool(2, "custom", limit_s=0.05, most_stuck=4)
    monkeypatch.setattr(foreign_files, "CUSTOM", custom)
    for number in range(4):
        path = f"/hung/{number}"
        with pytest.raises(StorageTimeout, match="did not answer"):
            await in_file_thread(partial(os.stat, path), path, custom=True, limit_s=0.05)
    assert len(custom.stuck) == 4
    with pytest.raises(StorageTimeout, match="files do not answer, the first is /hung/0"):
        await in_file_thread(lambda: 1, "/elsewhere", custom=True)
    assert await in_file_thread(lambda: 1, "/in/the/cache") == 1
