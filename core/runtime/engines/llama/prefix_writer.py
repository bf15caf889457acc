"""Writes states of conversations to files on a thread, so that no turn waits for a disk."""

from __future__ import annotations

import threading
import traceback
from collections import deque
from pathlib import Path

from modeldeck.core.runtime.engines.heap import trim_heap
from modeldeck.core.runtime.engines.llama.batch import Tokens, common_length
from modeldeck.core.runtime.engines.llama.prefix_cache import WORTH, PrefixStore, StoredPrefix


class PrefixWriter:
    """A store of states that are written one after another, in the order in which they come.

    Its methods are called on one thread. The store is read on it while another state is written.
    """

    def __init__(self, store: PrefixStore) -> None:
        self._store = store
        self._change = threading.Condition()
        """Guards the attributes below, and tells when a state was written."""
        self._waiting: deque[StoredPrefix] = deque()
        """What is not written yet; the first is being written."""
        self._is_writing = False
        """Whether the thread runs; it ends when nothing waits."""

    @property
    def waiting_bytes(self) -> int:
        """Bytes of the states that are not written yet."""
        with self._change:
            return sum(entry.total_bytes for entry in self._waiting)

    def save(self, entry: StoredPrefix, *, most_bytes: int) -> None:
        """Write a state soon; waits as long as those that wait would have over `most_bytes`.

        One that is larger by itself is written at once.
        """
        if entry.total_bytes > most_bytes:
            self.flush()
            self._store.save(entry)
            return
        with self._change:
            self._change.wait_for(lambda: self._fits(entry, most_bytes))
            self._waiting.append(entry)
            if not self._is_writing:
                try:
                    threading.Thread(target=self._write, daemon=True).start()
                except RuntimeError:  # no thread can be had; else `flush` would wait for ever
                    self._waiting.pop()
                    self._store.save(entry)
                else:
                    self._is_writing = True

    def _fits(self, entry: StoredPrefix, most_bytes: int) -> bool:
        return sum(one.total_bytes for one in (*self._waiting, entry)) <= most_bytes

    def _write(self) -> None:
        while True:
            with self._change:
                if not self._waiting:
                    self._is_writing = False
                    break
                entry = self._waiting[0]
            try:
                self._store.save(entry)
            except Exception:  # no memory, or a bug: the state is lost, and the next one is written
                traceback.print_exc()
            del entry
            with self._change:
                self._waiting.popleft()
                self._change.notify_all()
        trim_heap()

    def flush(self) -> None:
        """Wait until all states are written."""
        with self._change:
            self._change.wait_for(lambda: not self._waiting)

    # As of the store

    def find(self, prompt: Tokens, *, rewinds: bool) -> tuple[Path | None, int]:
        """The state with the longest beginning of a prompt, and how many tokens that has.

        Waits for those that are being written, where one of them begins like it.
        """
        with self._change:
            waiting = tuple(self._waiting)
        if any(common_length(entry.tokens, prompt) >= WORTH for entry in waiting):
            self.flush()
        return self._store.find(prompt, rewinds=rewinds)

    def size(self, path: Path) -> int:
        """Bytes of a state."""
        return self._store.size(path)

    def load(self, path: Path) -> StoredPrefix | None:
        """Read a state; None where it cannot be read any more."""
        return self._store.load(path)
