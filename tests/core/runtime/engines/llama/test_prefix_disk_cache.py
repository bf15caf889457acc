"""Conversations in files: found again by the next process, and refused when they are not whole."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from modeldeck.core.runtime.engines.llama.batch import Tokens
from modeldeck.core.runtime.engines.llama.prefix_cache import Checkpoint, StoredPrefix
from modeldeck.core.runtime.engines.llama.prefix_disk_cache import PrefixFiles, fingerprint
from modeldeck.core.runtime.prefix_folder import saved_prefixes
from modeldeck.core.runtime.process.messages import LoadModel
from modeldeck.core.schema import GenerateRequest, LoadOptions, Lora
from tests.support import recorded
from tests.support.engine_turns import EngineTurns, Told

MINE, OTHER = "a" * 64, "b" * 64
LIMIT = 1 << 20


def tokens(*values: int) -> Tokens:
    return np.array(values, np.int32)


def entry(*text: int, size: int = 1000) -> StoredPrefix:
    state = np.arange(size, dtype=np.uint8)
    return StoredPrefix(tokens(*text), state, (Checkpoint(2, state[:10].copy()),))


def names(folder: Path) -> list[str]:
    return sorted(path.suffix for path in folder.iterdir())


def test_what_is_saved_is_found_by_the_next_process(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    PrefixFiles(folder, LIMIT, MINE).save(entry(1, 2, 3, 4))
    files = PrefixFiles(folder, LIMIT, MINE)
    assert files.find(tokens(1, 2, 3, 9), rewinds=True)[1] == 3
    path, length = files.find(tokens(1, 2, 3, 9), rewinds=False)
    assert path is not None
    assert length == 2, "at its checkpoint"
    found = files.load(path)
    assert found is not None
    assert found.tokens.tolist() == [1, 2, 3, 4]
    assert np.array_equal(found.state, entry(1).state)
    assert [(c.length, c.state.tolist()) for c in found.checkpoints] == [(2, list(range(10)))]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_another_model_s_files_are_left_alone(tmp_path: Path) -> None:
    PrefixFiles(tmp_path, LIMIT, MINE).save(entry(1, 2, 3))
    other = PrefixFiles(tmp_path, LIMIT, OTHER)
    assert other.find(tokens(1, 2, 3, 4), rewinds=True) == (None, 0)
    assert names(tmp_path) == [".prefix"]


def test_a_longer_text_takes_the_place_of_its_beginning(tmp_path: Path) -> None:
    files = PrefixFiles(tmp_path, LIMIT, MINE)
    for text in ((1, 2), (1, 3), (1, 2, 3), (1, 2, 3)):
        files.save(entry(*text))
    assert names(tmp_path) == [".prefix"] * 2
    assert files.find(tokens(1, 2, 3, 4), rewinds=True)[1] == 3


def test_a_file_that_cannot_be_deleted_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = PrefixFiles(tmp_path, LIMIT, MINE)
    files.save(entry(1, 2))

    def refuse(path: Path, *, missing_ok: bool = False) -> None:
        raise PermissionError(path)

    monkeypatch.setattr(Path, "unlink", refuse)
    files.save(entry(1, 2, 3))
    assert files.find(tokens(1, 2, 3, 4), rewinds=True)[1] == 3


def test_the_files_used_longest_ago_make_room(tmp_path: Path) -> None:
    limit = 190_000
    other, files = (PrefixFiles(tmp_path, limit, name) for name in (OTHER, MINE))
    other.save(entry(9))
    found = {}
    for first in range(3):
        files.save(entry(first, size=60_000))
        found[first], _ = files.find(tokens(first, 0), rewinds=True)
    for age, path in enumerate([found[1], found[2], found[0]]):
        assert path is not None
        os.utime(path, (1000 + age, 1000 + age))
    files.save(entry(7, size=60_000))
    left = {first for first in (*range(3), 7) if files.find(tokens(first, 0), rewinds=True)[0]}
    assert left == {0, 2, 7}
    assert PrefixFiles(tmp_path, limit, OTHER).find(tokens(9, 0), rewinds=True)[0]
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= limit
    files.save(entry(8, size=limit))
    assert files.find(tokens(8, 0), rewinds=True) == (None, 0), "it never fits"
    assert files.find(tokens(7, 0), rewinds=True)[0]


@pytest.mark.parametrize("place", [0, 9, 40, 120, -20, -1])
def test_a_damaged_file_is_refused_and_removed(tmp_path: Path, place: int) -> None:
    PrefixFiles(tmp_path, LIMIT, MINE).save(entry(1, 2, 3))
    (path,) = tmp_path.iterdir()
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    files = PrefixFiles(tmp_path, LIMIT, MINE)
    found, _ = files.find(tokens(1, 2, 3, 4), rewinds=True)
    assert found is None or files.load(found) is None
    assert names(tmp_path) == []
    assert files.find(tokens(1, 2, 3, 4), rewinds=True) == (None, 0)


@pytest.mark.parametrize("content", [b"", b"mdprefix", b"x" * 5000, b"mdprefix\xff\xff\xff\xff"])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / f"{MINE[:32]}-1.prefix").write_bytes(content)
    files = PrefixFiles(tmp_path, LIMIT, MINE)
    assert files.find(tokens(1, 2), rewinds=True) == (None, 0)


def test_pipes_and_links_are_refused(tmp_path: Path) -> None:
    folder, target = tmp_path / "kept", tmp_path / "target"
    PrefixFiles(folder, LIMIT, MINE).save(entry(1, 2, 3))
    (path,) = folder.iterdir()
    path.rename(target)
    path.symlink_to(target)
    os.mkfifo(folder / f"{MINE[:32]}-2.prefix")
    assert PrefixFiles(folder, LIMIT, MINE).find(tokens(1, 2, 3, 4), rewinds=True) == (None, 0)
    assert target.exists()


def test_what_was_not_finished_is_removed(tmp_path: Path) -> None:
    (tmp_path / "x.writing").write_bytes(b"half")
    PrefixFiles(tmp_path, LIMIT, MINE)
    assert names(tmp_path) == []


@pytest.fixture
def writing(tmp_path: Path) -> Iterator[Path]:
    """A file that another engine is writing."""
    path = tmp_path / "x.writing"
    with open(path, "xb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(60_000)
        yield path


def test_what_another_engine_is_writing_is_left_alone_and_counts(
    tmp_path: Path, writing: Path
) -> None:
    limit = 130_000
    files = PrefixFiles(tmp_path, limit, MINE)
    for first in (1, 2):
        files.save(entry(first, size=60_000))
    assert writing.exists()
    assert names(tmp_path) == [".prefix", ".writing"], "the first one made room"
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= limit
    assert saved_prefixes(tmp_path)[writing] == 60_000


def test_what_an_engine_left_unfinished_meanwhile_takes_no_room(tmp_path: Path) -> None:
    files = PrefixFiles(tmp_path, 100_000, MINE)
    (tmp_path / "x.writing").write_bytes(b"x" * 60_000)
    files.save(entry(1, size=60_000))
    assert names(tmp_path) == [".prefix"]


def test_a_state_is_written_again_whose_file_was_deleted(tmp_path: Path) -> None:
    files = PrefixFiles(tmp_path, LIMIT, MINE)
    files.save(entry(1, 2, 3))
    (path,) = tmp_path.iterdir()
    path.unlink()
    files.save(entry(1, 2, 3))
    found, _ = files.find(tokens(1, 2, 3, 4), rewinds=True)
    assert found == path
    assert files.load(path) is not None


def test_a_folder_that_cannot_be_used_costs_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    files = PrefixFiles(tmp_path / "file" / "kept", LIMIT, MINE)
    files.save(entry(1, 2, 3))
    assert files.find(tokens(1, 2, 3, 4), rewinds=True) == (None, 0)


def test_the_fingerprint_is_of_everything_that_a_state_depends_on(tmp_path: Path) -> None:
    model, lora = tmp_path / "m.gguf", tmp_path / "l.gguf"
    model.write_text("one")
    lora.write_text("one")
    command = LoadModel(id=1, path=str(model), options=LoadOptions(), default_context=512)

    def made(version: str = "1", flash: bool = True, cells: int = 512, **more: object) -> str:
        options = replace(command.options, **more)  # type: ignore[arg-type]  # any of its fields
        changed = LoadModel(id=2, path=str(model), options=options, default_context=512)
        return fingerprint(changed, engine=version, flash=flash, cells=cells)

    same = {made(), made(parallel=4), made(idle_ttl_s=3.0), made(threads=2)}
    assert len(same) == 1
    others = [
        made("2"),
        made(flash=False),
        made(cells=1024),
        made(kv_cache_type="q8_0"),
        made(loras=(Lora(path=str(lora)),)),
        made(loras=(Lora(path=str(lora), scale=0.5),)),
    ]
    model.write_text("other")
    assert len({*same, *others, made()}) == len(others) + 2


# With the engine


@pytest.fixture
def engines() -> Iterator[list[EngineTurns]]:
    """Engines to close after the test."""
    found: list[EngineTurns] = []
    yield found
    for engine in found:
        engine.close()


@pytest.mark.parametrize("architecture", ["llama", "jamba"])
def test_a_conversation_goes_on_after_a_restart(
    tmp_path: Path, engines: list[EngineTurns], architecture: str
) -> None:
    path = tmp_path / "model.gguf"
    file = Path(__file__).parents[2] / "architectures.json"
    recorded.read(file)[architecture].recipe(architecture).write(path)
    folder = tmp_path / "kept"

    def start(limit: int = 64 << 20) -> EngineTurns:
        engine = EngineTurns(
            path,
            LoadOptions(parallel=2, context_length=512, threads=1),
            cache_bytes=8 << 20,
            folder=folder,
            disk_bytes=limit,
        )
        engines.append(engine)
        return engine

    def asked(engine: EngineTurns, prompt: str, *, cache: bool = True) -> Told:
        request = GenerateRequest(prompt=prompt, temperature=0, max_tokens=8, cache=cache)
        (told,) = engine.together([request])
        return told

    text, private = "one two three " * 10, "something private " * 8
    engine = start()
    first = asked(engine, text)
    asked(engine, private, cache=False)
    assert engine.engine.cancel_limit_s
    engine.engine.close()
    assert len(list(folder.iterdir())) == 1
    engine = start()
    more = text + first.text + "and"
    again = asked(engine, more)
    assert again.done is not None
    assert (again.done.cached_tokens or 0) > 40
    fresh = start(0)
    assert not fresh.engine.cancel_limit_s
    assert asked(fresh, more).text == again.text
