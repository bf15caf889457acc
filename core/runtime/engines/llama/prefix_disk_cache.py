"""States of conversations in files, which outlive the process.

The files hold what people wrote, so only their owner may read them. Each belongs to a fingerprint:
a state is of use only for the very model, engine and options that made it. A file that is damaged,
or of anything else, is not used: its end is a digest of all the rest.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import stat
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import msgspec
import numpy as np

from modeldeck.core.runtime.engines.base import say
from modeldeck.core.runtime.engines.llama.batch import Tokens
from modeldeck.core.runtime.engines.llama.files import parts_of
from modeldeck.core.runtime.engines.llama.prefix_cache import (
    Checkpoint,
    StoredPrefix,
    best_prefix,
)
from modeldeck.core.runtime.prefix_folder import SUFFIX, UNFINISHED
from modeldeck.core.runtime.process.messages import LoadModel
from modeldeck.core.storage.files import OWNER_ONLY, make_private

MAGIC = b"mdprefix"
FORMAT = 1
"""Raised with every change of the files' format."""
HEAD_BYTES = 1 << 16
"""The longest header, in bytes."""
DIGEST_BYTES = 32


class PrefixHeader(msgspec.Struct, frozen=True):
    """What a file says of itself, after the magic bytes and the length of this header."""

    fingerprint: str
    tokens: int
    state: int
    """Bytes of the state."""
    checkpoints: tuple[tuple[int, int], ...]
    """Length in tokens and bytes of each checkpoint."""

    @property
    def body_bytes(self) -> int:
        """Bytes of what follows the header, with the digest."""
        checkpoints = sum(size for _, size in self.checkpoints)
        return 4 * self.tokens + self.state + checkpoints + DIGEST_BYTES

    def start(self) -> bytes:
        """The begin of a file, up to and with this header."""
        data = msgspec.json.encode(self)
        return MAGIC + len(data).to_bytes(4, "little") + data


def fingerprint(command: LoadModel, *, engine: str, flash: bool, cells: int) -> str:
    """The fingerprint of everything that the states of a load depend on. Raises OSError.

    Args:
        command: The load.
        engine: Version of the engine.
        flash: Whether it has flash attention, which keeps values in another order.
        cells: Cells of the KV cache.
    """
    options = command.options
    parts = {
        "format": FORMAT,
        "engine": engine,
        "machine": (platform.machine(), sys.byteorder),
        "files": [file_identity(part) for part in parts_of(command.path) if os.path.exists(part)],
        "loras": [(file_identity(lora.path), lora.scale) for lora in options.loras or ()],
        "kv": options.kv_cache_type,
        "gpu_layers": options.gpu_layers,
        "flash": flash,
        "cells": cells,
    }
    return hashlib.sha256(msgspec.json.encode(parts, order="deterministic")).hexdigest()


def file_identity(path: str) -> tuple[str, int, int]:
    """What tells a file from another, or from itself after a change. Raises OSError.

    The Hub's cache names files by their hash.
    """
    real = os.path.realpath(path)
    found = os.stat(real)
    return real, found.st_size, found.st_mtime_ns


def open_prefix_files(
    command: LoadModel, *, engine: str, flash: bool, cells: int
) -> PrefixFiles | None:
    """The files of a load; None where none are wanted. Arguments are those of `fingerprint`."""
    if command.prefix_cache_folder is None or not command.prefix_cache_disk_bytes:
        return None
    try:
        made_for = fingerprint(command, engine=engine, flash=flash, cells=cells)
    except OSError as error:  # the model was deleted meanwhile
        say("warning", f"no conversations are saved: {error}")
        return None
    return PrefixFiles(Path(command.prefix_cache_folder), command.prefix_cache_disk_bytes, made_for)


class PrefixFiles:
    """The files of one fingerprint in a folder that others share.

    One thread may save while another one finds and loads.
    """

    def __init__(self, folder: Path, limit_bytes: int, fingerprint: str) -> None:
        """Read which texts there are.

        Args:
            folder: The folder; it is made, or restricted to its owner.
            limit_bytes: Most bytes of all files in it, whatever their fingerprint.
            fingerprint: Of the loaded model.
        """
        self._folder = folder
        self._limit_bytes = limit_bytes
        self._fingerprint = fingerprint
        self._texts: dict[Path, PrefixText] = {}
        try:
            make_private(folder)
            _unfinished_bytes(folder)
            for path in folder.glob(f"{fingerprint[:32]}-*{SUFFIX}"):
                self._index(path)
        except OSError as error:
            say("warning", f"the folder of saved conversations cannot be used: {error}")

    def _index(self, path: Path) -> None:
        try:
            with _opened(path) as file:
                header = _read_header(file, self._fingerprint)
                self._texts[path] = PrefixText(
                    np.frombuffer(file.read(4 * header.tokens), np.int32),
                    tuple(length for length, _ in header.checkpoints),
                )
        except (OSError, ValueError) as error:
            self._refuse(path, error)

    def _refuse(self, path: Path, error: Exception) -> None:
        self._texts.pop(path, None)
        if isinstance(error, FileNotFoundError):
            return  # another engine made room
        say("warning", f"a saved conversation is not used: {error}")
        with suppress(OSError):
            path.unlink()

    def find(self, prompt: Tokens, *, rewinds: bool) -> tuple[Path | None, int]:
        """The file with the longest beginning of a prompt, and how many tokens that has."""
        return best_prefix(list(self._texts.items()), prompt, rewinds=rewinds)

    def size(self, path: Path) -> int:
        """Bytes of a file; 0 for one that has gone."""
        try:
            return path.stat().st_size
        except OSError:
            return 0

    def load(self, path: Path) -> StoredPrefix | None:
        """Read a file, which counts as used now; None for one that is damaged or has gone."""
        try:
            with _opened(path) as file:
                entry = _read(file, self._fingerprint)
            os.utime(path)
        except (OSError, ValueError) as error:
            self._refuse(path, error)
            return None
        except MemoryError:
            return None
        return entry

    def save(self, entry: StoredPrefix) -> None:
        """Write a state, in place of those of its beginnings; the oldest files make room."""
        name = hashlib.sha256(entry.tokens.tobytes()).hexdigest()[:32]
        path = self._folder / f"{self._fingerprint[:32]}-{name}{SUFFIX}"
        header = PrefixHeader(
            fingerprint=self._fingerprint,
            tokens=len(entry.tokens),
            state=entry.state.nbytes,
            checkpoints=tuple((found.length, found.state.nbytes) for found in entry.checkpoints),
        )
        start = header.start()
        try:
            if path in self._texts:
                with suppress(FileNotFoundError):  # another engine made room, or it was pruned
                    os.utime(path)
                    return
                self._texts.pop(path, None)
            if not self._make_room(len(start) + header.body_bytes):
                return
            unfinished = path.with_suffix(UNFINISHED)
            with open(unfinished, "xb", opener=_private) as file:
                with suppress(OSError):  # not every file system has locks
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # it is being written
                file.truncate(len(start) + header.body_bytes)  # others count all of it at once
                _write(file, start, entry)
                file.flush()
                # Not forced to the disk: after a power loss the digest tells what is not whole.
                os.replace(unfinished, path)
        except OSError as error:
            say("warning", f"a conversation could not be saved: {error}")
            with suppress(OSError):
                path.with_suffix(UNFINISHED).unlink(missing_ok=True)
            return
        for other, text in list(self._texts.items()):
            if len(text.tokens) <= len(entry.tokens) and np.array_equal(
                text.tokens, entry.tokens[: len(text.tokens)]
            ):
                self._texts.pop(other, None)
                with suppress(OSError):  # then it goes when room is made
                    other.unlink()
        lengths = tuple(found.length for found in entry.checkpoints)
        self._texts[path] = PrefixText(entry.tokens, lengths)

    def _make_room(self, size: int) -> bool:
        """Delete what was used longest ago until `size` bytes fit; return whether they do.

        Raises OSError.
        """
        if size > self._limit_bytes:
            return False
        found = []
        for path in self._folder.glob(f"*{SUFFIX}"):
            with suppress(FileNotFoundError):  # another engine has deleted it
                about = path.stat()
                found.append((about.st_mtime_ns, about.st_size, path))
        taken = sum(size for _, size, _ in found) + _unfinished_bytes(self._folder)
        for _, bytes_, path in sorted(found):
            if taken + size <= self._limit_bytes:
                break
            path.unlink(missing_ok=True)
            self._texts.pop(path, None)
            taken -= bytes_
        return taken + size <= self._limit_bytes


class PrefixText(msgspec.Struct, frozen=True):
    """The tokens of a text, and where its state has checkpoints."""

    tokens: Tokens
    lengths: tuple[int, ...]


def _unfinished_bytes(folder: Path) -> int:
    """Bytes of the files that engines are writing now. Raises OSError.

    Those that are left of a process that was ended while it wrote are removed: they are not locked.
    """
    total = 0
    for path in folder.glob(f"*{UNFINISHED}"):
        try:
            with _opened(path) as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink(missing_ok=True)
        except BlockingIOError:
            with suppress(FileNotFoundError):
                total += path.stat().st_size
        except OSError:  # no file of ours, or it is whole by now
            path.unlink(missing_ok=True)
    return total


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, OWNER_ONLY)


def _opened(path: Path) -> BinaryIO:
    """Open a file for reading. Raises OSError, also for what is no plain file of this user."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    about = os.fstat(descriptor)
    if not stat.S_ISREG(about.st_mode) or about.st_uid != os.getuid():
        os.close(descriptor)
        raise OSError(f"{path.name} is no file of this user")
    return os.fdopen(descriptor, "rb")


def _read_header(file: BinaryIO, fingerprint: str) -> PrefixHeader:
    """Read the header. Raises ValueError where it does not fit the file or the fingerprint."""
    start = file.read(len(MAGIC) + 4)
    length = int.from_bytes(start[len(MAGIC) :], "little")
    if not start.startswith(MAGIC) or length > HEAD_BYTES:
        raise ValueError("it is of another kind")
    header = msgspec.json.decode(file.read(length), type=PrefixHeader)
    if header.fingerprint != fingerprint:
        raise ValueError("it belongs to another model")
    numbers = [header.tokens, header.state, *(n for pair in header.checkpoints for n in pair)]
    expected = len(start) + length + header.body_bytes
    if min(numbers) < 0 or os.fstat(file.fileno()).st_size != expected:
        raise ValueError("it is not whole")
    return header


def _read(file: BinaryIO, fingerprint: str) -> StoredPrefix:
    """Read a state. Raises ValueError for a damaged file."""
    header = _read_header(file, fingerprint)
    begin = file.tell()
    file.seek(0)
    digest = hashlib.sha256(file.read(begin))

    def part(size: int) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
        array = np.empty(size, np.uint8)
        if file.readinto(array.data) != size:  # type: ignore[attr-defined]  # it is buffered
            raise ValueError("it is not whole")
        digest.update(array.data)
        return array

    tokens = part(4 * header.tokens).view(np.int32)
    state = part(header.state)
    checkpoints = tuple(Checkpoint(length, part(size)) for length, size in header.checkpoints)
    if file.read() != digest.digest():
        raise ValueError("it is damaged")
    return StoredPrefix(tokens, state, checkpoints)


def _write(file: BinaryIO, start: bytes, entry: StoredPrefix) -> None:
    digest = hashlib.sha256()
    parts: Iterable[bytes | memoryview] = (
        start,
        entry.tokens.tobytes(),
        entry.state.data,
        *(found.state.data for found in entry.checkpoints),
    )
    for part in parts:
        digest.update(part)
        file.write(part)
    file.write(digest.digest())
