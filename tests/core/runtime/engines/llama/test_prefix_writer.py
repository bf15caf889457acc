"""States are written beside the turns, within a number of bytes, and found again."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from modeldeck.core.runtime.engines.llama.batch import Tokens
from modeldeck.core.runtime.engines.llama.prefix_cache import PrefixCache, StoredPrefix
from modeldeck.core.runtime.engines.llama.prefix_disk_cache import PrefixFiles
from modeldeck.core.runtime.engines.llama.prefix_writer import PrefixWriter

SIZE = 1000
PATIENCE_S = 60.0


def entry(first: int, size: int = SIZE) -> StoredPrefix:
    text = np.arange(first, first + 50, dtype=np.int32)
    return StoredPrefix(text, np.zeros(size - text.nbytes, np.uint8))


class SlowFiles(PrefixFiles):
    """Files on a disk that writes only where it may."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, 1 << 20, "a" * 64)
        self.may = threading.Event()
        self.begun = threading.Event()
        self.threads: list[int] = []
        self.fails = False

    def save(self, entry: StoredPrefix) -> None:
        self.begun.set()
        assert self.may.wait(PATIENCE_S)
        self.threads.append(threading.get_ident())
        if self.fails:
            self.fails = False
            raise MemoryError
        super().save(entry)


@pytest.fixture
def files(tmp_path: Path) -> Iterator[SlowFiles]:
    found = SlowFiles(tmp_path)
    yield found
    found.may.set()


def begin(prompt: StoredPrefix) -> Tokens:
    return np.append(prompt.tokens, np.int32(-1))


def test_nothing_waits_for_a_state_to_be_written_until_too_much_waits(files: SlowFiles) -> None:
    writer = PrefixWriter(files)
    for first in (0, 100, 200):
        writer.save(entry(first), most_bytes=3 * SIZE)
    assert writer.waiting_bytes == 3 * SIZE
    assert files.begun.wait(PATIENCE_S)
    assert not files.threads
    assert writer.find(begin(entry(500)), rewinds=True) == (None, 0), "of others nothing waits"
    fourth = threading.Thread(target=writer.save, args=[entry(300)], kwargs={"most_bytes": 3000})
    fourth.start()
    fourth.join(0.05)
    assert fourth.is_alive(), "it waits for room"
    files.may.set()
    fourth.join(PATIENCE_S)
    path, length = writer.find(begin(entry(300)), rewinds=True)
    assert path is not None
    assert (length, writer.waiting_bytes) == (50, 0)
    assert threading.get_ident() not in files.threads


def test_a_state_that_is_larger_than_all_that_may_wait_is_written_at_once(
    files: SlowFiles,
) -> None:
    files.may.set()
    PrefixWriter(files).save(entry(0), most_bytes=SIZE - 1)
    assert files.threads == [threading.get_ident()]


def test_one_that_cannot_be_written_costs_no_other(
    files: SlowFiles, capfd: pytest.CaptureFixture[str]
) -> None:
    writer = PrefixWriter(files)
    files.fails = True
    for first in (0, 100):
        writer.save(entry(first), most_bytes=2 * SIZE)
    files.may.set()
    writer.flush()
    assert writer.find(begin(entry(0)), rewinds=True) == (None, 0)
    assert writer.find(begin(entry(100)), rewinds=True)[1] == 50
    assert "MemoryError" in capfd.readouterr().err


def test_a_cache_is_never_over_its_limit_with_what_is_being_written(files: SlowFiles) -> None:
    cache = PrefixCache(8 * SIZE, rewinds=True, in_use=tuple)
    cache.files = writer = PrefixWriter(files)
    for first in range(8):
        assert cache.make_room(SIZE)
        cache.add(entry(100 * first))
        assert cache.bytes <= 8 * SIZE
    assert writer.waiting_bytes == 2 * SIZE, "an eighth state has made room for itself"
    files.may.set()
    writer.flush()
    assert cache.bytes == 6 * SIZE
    found, length = cache.find(begin(entry(0)))
    assert found is not None
    assert length == 50, "what memory had no room for is read from its file"


def test_a_state_is_written_at_once_where_no_thread_can_be_had(
    files: SlowFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    files.may.set()
    writer = PrefixWriter(files)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        writer.save(entry(0), most_bytes=3 * SIZE)
    assert files.threads == [threading.get_ident()]
    writer.save(entry(100), most_bytes=3 * SIZE)
    writer.flush()
    assert len(files.threads) == 2
    assert files.threads[1] != threading.get_ident()
