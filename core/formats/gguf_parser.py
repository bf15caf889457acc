"""Read the header of a GGUF file: metadata and the table of tensors, without the weights.

Sources: the GGUF specification (ggml, docs/gguf.md), and llama.cpp for the limits
(ggml/src/gguf.cpp). A header is untrusted: each count and length is checked against a limit and the
available bytes before memory is allocated for it, and every tensor must be inside the file
(CVE-2026-7482: an offset beyond the end read foreign memory).

Long arrays, such as a vocabulary of 150,000 tokens, are skipped and only their length is kept, so a
header is read in milliseconds; building all strings would take seconds. The kept values have a
total limit. `Parser` takes the bytes in pieces and continues where it stopped.
"""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from math import prod
from pathlib import Path

from modeldeck.core.errors import Corrupt, StorageFailed
from modeldeck.core.formats.gguf_header import GgufHeader, TensorInfo, Value
from modeldeck.core.formats.lfs import refuse_pointer
from modeldeck.core.storage.foreign_files import open_regular

__all__ = ["GgufHeader", "Parser", "TensorInfo", "check_size", "parse", "read", "read_remote"]

MAX_HEADER = 64 << 20
"""Maximum bytes. The largest known headers (vocabulary of 260,000 with merges) have 12 MB."""
FIRST_READ = 1 << 20
"""Bytes of the first range: a vocabulary of 30,000 fits (measured: 150,000 tokens take 3.3 MB)."""
NEXT_READ = 4 << 20
"""Bytes of each further range: doubling fetched nearly three times what was needed."""

_MAX_STRING = 8 << 20
_MAX_VALUES = 1 << 22
"""Maximum values of all arrays; the longest known one is a list of half a million merges."""
_KEPT_ARRAY = 1024
"""Longest array whose values are kept: one per layer, never one per token."""
_MAX_KEPT = 1 << 17
"""Maximum kept array values in total; models have a few lists of one value per layer."""
_MAX_TEXT = 32 << 20
"""Maximum bytes of kept strings in total; a chat template has some 10 KB."""
_MAX_PAIRS = 1 << 14
"""Maximum metadata entries; models have some fifty."""
_MAX_TENSORS = 1 << 16
"""Maximum tensors; the largest models have some 2,000 per file."""
_MAX_DIMENSIONS = 4
"""GGML_MAX_DIMS."""
_MAX_BYTES = (1 << 63) - 1
_MAX_KEY = 65535
"""Maximum bytes of a key, by the specification."""

_SCALARS = {
    code: struct.Struct("<" + letter)
    for code, letter in zip((*range(8), 10, 11, 12), "BbHhIif?Qqd", strict=True)
}
_STRING, _ARRAY = 8, 9
_COUNT = struct.Struct("<Q")
_TYPE = struct.Struct("<I")

_BLOCKS = {
    **{0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34)},
    **{9: (32, 36), 10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176)},
    **{14: (256, 210), 15: (256, 292), 16: (256, 66), 17: (256, 74), 18: (256, 98)},
    **{19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82), 23: (256, 136), 24: (1, 1)},
    **{25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2)},
    **{34: (256, 54), 35: (256, 66), 39: (32, 17), 40: (64, 36), 41: (128, 18)},
}
"""Elements and bytes of a block, by ggml type (ggml.c, `type_traits`)."""

_RANGES = {
    "context_length": (1, 1 << 31),
    "embedding_length": (1, 1 << 20),
    "block_count": (1, 1 << 12),
    "attention.head_count": (0, 1 << 16),
    "attention.head_count_kv": (0, 1 << 16),
    "attention.key_length": (1, 1 << 16),
    "attention.value_length": (1, 1 << 16),
}
"""Allowed ranges, wider than any model's; outside, llama.cpp aborts or exhausts memory."""

_REMEDY = "Download it again, or take another file; the publisher may have a newer one."


class _NeedMore(Exception):
    """The header is longer than the bytes so far."""


def parse(data: bytes | bytearray | memoryview) -> GgufHeader | None:
    """Parse the header at the start of `data`; None if it is longer than `data`.

    Raises Corrupt for an invalid header.
    """
    return Parser().feed(data)


def read(path: Path) -> GgufHeader:
    """Read the header of a file. Raises StorageFailed, and Corrupt, also for a truncated file."""
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            parser = Parser()
            while True:
                step = file.read(NEXT_READ if parser.data else FIRST_READ)
                if (header := parser.feed(step)) is not None:
                    return check_size(header, size)
                if not step or len(parser.data) > MAX_HEADER:
                    raise _corrupt("its header is cut off or far too long")
    except OSError as error:
        raise StorageFailed(
            f"{path} cannot be read: {error.strerror}.", "Check that it is there and readable."
        ) from error


async def read_remote(
    fetch: Callable[[int, int], Awaitable[bytes]], size: int
) -> tuple[GgufHeader, bytes]:
    """Read the header of a remote file; return it and its bytes.

    Args:
        fetch: Returns bytes; called with offset and length.
        size: Size of the file in bytes.

    Raises Corrupt as `read`, and the errors of `fetch`.
    """
    parser = Parser()
    while True:
        had = len(parser.data)
        want = min(NEXT_READ if had else FIRST_READ, size - had)
        piece = (await fetch(had, want))[:want] if want > 0 else b""
        # A long vocabulary takes tens of milliseconds: not on the event loop.
        header = await asyncio.to_thread(parser.feed, piece)
        if header is not None:
            return check_size(header, size), bytes(parser.data[: header.data_offset])
        if not piece or len(parser.data) > MAX_HEADER:
            raise _corrupt("its header is cut off or far too long")


def check_size(header: GgufHeader, size: int) -> GgufHeader:
    """Return the header if its tensors fit into `size` bytes. Raises Corrupt otherwise."""
    if header.file_size > size:
        raise _corrupt(f"it has {size} bytes, and its header describes {header.file_size}")
    return header


def _corrupt(what: str) -> Corrupt:
    return Corrupt(f"This is not a sound GGUF file: {what}.", _REMEDY)


class Parser:
    """Incremental parser of a header from pieces of bytes.

    Complete metadata entries, tensors, and strings of a skipped array are not parsed again. Only
    the entry at the end of a piece is parsed again with the next piece.
    """

    def __init__(self) -> None:
        self.data = bytearray()
        """All bytes so far."""
        self._at = 0
        self._version = 0
        self._counts = (0, 0)
        """Number of tensors and of metadata entries."""
        self._metadata: dict[str, Value] = {}
        self._array_lengths: dict[str, int] = {}
        self._keys: set[str] = set()
        self._tensors: dict[str, TensorInfo] = {}
        self._skipping = 0
        """Strings of a long array that are still to be skipped."""
        self._values = self._kept = self._text = 0
        self._alignment = 0

    def feed(self, piece: bytes | bytearray | memoryview) -> GgufHeader | None:
        """Add bytes; return the header once it is complete, else None.

        Raises Corrupt, as `parse`.
        """
        self.data += piece
        try:
            self._advance()
        except _NeedMore:
            return None
        return self._header()

    def _advance(self) -> None:
        """Parse up to the end of the table of tensors. Raises _NeedMore at the end of the bytes."""
        if not self._version:
            self._read_start()
        tensors, pairs = self._counts
        while len(self._keys) < pairs or self._skipping:
            self._read_item(self._pair)
        if not self._alignment:
            _check_ranges(self._metadata)
            self._alignment = _alignment(self._metadata)
        while len(self._tensors) < tensors:
            self._read_item(self._tensor)

    def _read_item(self, read: Callable[[], None]) -> None:
        """Read one item; go back to its start if the bytes end within it."""
        start, kept = self._at, (self._values, self._kept, self._text)
        try:
            read()
        except _NeedMore:
            if not self._skipping:
                self._at, (self._values, self._kept, self._text) = start, kept
            raise

    def _read_start(self) -> None:
        """Read magic, version and counts."""
        refuse_pointer(self.data, "This file")
        if self.data[:4] != b"GGUF"[: len(self.data)]:
            raise _corrupt("it does not begin with GGUF")
        self._at = 0
        self._take(4)
        version = self._type()
        if version & 0xFFFF == 0:
            raise _corrupt("it is for big-endian machines")
        if version not in (2, 3):
            raise _corrupt(f"its version is {version}, and this reads 2 and 3")
        self._counts = (
            self._count(_MAX_TENSORS, "tensors"),
            self._count(_MAX_PAIRS, "metadata entries"),
        )
        self._version = version

    def _header(self) -> GgufHeader | None:
        tensors = tuple(self._tensors.values())
        if any(tensor.offset % self._alignment for tensor in tensors):
            raise _corrupt("a tensor is not aligned")
        data_offset = -(-self._at // self._alignment) * self._alignment
        if data_offset > len(self.data) and tensors:
            return None
        return GgufHeader(
            version=self._version,
            metadata=self._metadata,
            array_lengths=self._array_lengths,
            tensors=tensors,
            data_offset=data_offset if tensors else self._at,
        )

    def _take(self, count: int) -> int:
        """Advance by `count` bytes; return where they start."""
        start, self._at = self._at, self._at + count
        if self._at > len(self.data):
            raise _NeedMore
        return start

    def _type(self) -> int:
        return int(_TYPE.unpack_from(self.data, self._take(4))[0])

    def _count(self, limit: int, what: str) -> int:
        count = int(_COUNT.unpack_from(self.data, self._take(8))[0])
        if count > limit:
            raise _corrupt(f"it claims {count} {what}")
        return count

    def _string(self, limit: int = _MAX_STRING) -> str:
        length = self._count(limit, "bytes in one string")
        start = self._take(length)
        self._text += length
        if self._text > _MAX_TEXT:
            raise _corrupt("its texts are far too long")
        return self.data[start : self._at].decode("utf-8", "replace")

    def _pair(self) -> None:
        if self._skipping:
            self._skip_strings()
            return
        key = self._string(_MAX_KEY)
        if key in self._keys:
            raise _corrupt(f"the entry {key[:80]!r} is there twice")
        value = self._value(key)
        self._keys.add(key)
        if value is not None:
            self._metadata[key] = value
        if self._skipping:
            self._skip_strings()

    def _value(self, key: str) -> Value | None:
        kind = self._type()
        if kind in _SCALARS:
            return self._scalar(kind)
        if kind == _STRING:
            return self._string()
        if kind == _ARRAY:
            return self._array(key)
        raise _corrupt(f"the entry {key[:80]!r} has the unknown type {kind}")

    def _scalar(self, kind: int) -> int | float | bool:
        layout = _SCALARS[kind]
        value: int | float | bool = layout.unpack_from(self.data, self._take(layout.size))[0]
        return value

    def _array(self, key: str) -> Value | None:
        """Read the values of a short array; None for a long one, which is only counted."""
        kind = self._type()
        length = self._count(_MAX_VALUES, "values in one array")
        if kind != _STRING and kind not in _SCALARS:
            raise _corrupt(f"the array {key[:80]!r} holds the unknown type {kind}")
        self._values += length
        if self._values > _MAX_VALUES:
            raise _corrupt(f"its arrays hold more than {_MAX_VALUES} values")
        if length > _KEPT_ARRAY:
            if kind == _STRING:
                self._skipping = length
            else:
                self._take(length * _SCALARS[kind].size)
            self._array_lengths[key] = length
            return None
        self._kept += length
        if self._kept > _MAX_KEPT:
            raise _corrupt(f"its short arrays hold more than {_MAX_KEPT} values")
        read = self._string if kind == _STRING else partial(self._scalar, kind)
        values = tuple(read() for _ in range(length))
        self._array_lengths[key] = length
        return values

    def _skip_strings(self) -> None:
        """Skip strings. With local variables only, since a vocabulary dominates the time."""
        data, at, unpack, end = self.data, self._at, _COUNT.unpack_from, len(self.data)
        left = self._skipping
        try:
            while left:
                after = at + 8 + unpack(data, at)[0]
                if after > end:
                    break
                at = after
                left -= 1
            else:
                after = at
        except struct.error:
            after = at
        self._at, self._skipping = at, left
        if after > MAX_HEADER:
            raise _corrupt("a string in an array is far too long")
        if left:
            raise _NeedMore

    def _tensor(self) -> None:
        name = self._string(_MAX_KEY)
        if name in self._tensors:
            raise _corrupt(f"the tensor {name[:80]!r} is there twice")
        dimensions = self._type()
        if dimensions > _MAX_DIMENSIONS:
            raise _corrupt(f"the tensor {name[:80]!r} has {dimensions} dimensions")
        shape = struct.unpack_from(f"<{dimensions}Q", self.data, self._take(8 * dimensions))
        kind = self._type()
        offset = int(_COUNT.unpack_from(self.data, self._take(8))[0])
        if kind not in _BLOCKS:
            raise _corrupt(f"the tensor {name[:80]!r} has the type {kind}, unknown to this version")
        elements, size = _BLOCKS[kind]
        if shape and shape[0] % elements:
            raise _corrupt(f"the rows of the tensor {name[:80]!r} are not whole blocks")
        size_bytes = prod(shape) // elements * size
        if offset + size_bytes > _MAX_BYTES:
            raise _corrupt(f"the tensor {name[:80]!r} is absurdly large")
        self._tensors[name] = TensorInfo(
            name=name, shape=shape, type=kind, offset=offset, size_bytes=size_bytes
        )


def _alignment(metadata: Mapping[str, Value]) -> int:
    value = metadata.get("general.alignment", 32)
    if not isinstance(value, int) or not 0 < value <= 1 << 16 or value & (value - 1):
        raise _corrupt(f"its alignment is {value!r}")
    return value


def _check_ranges(metadata: Mapping[str, Value]) -> None:
    architecture = metadata.get("general.architecture")
    for key, (least, most) in _RANGES.items():
        value = metadata.get(f"{architecture}.{key}")
        values = value if isinstance(value, tuple) else () if value is None else (value,)
        for number in values:
            if not isinstance(number, int) or not least <= number <= most:
                raise _corrupt(f"its {key} is {number!r}")
