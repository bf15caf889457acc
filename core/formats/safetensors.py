"""Headers of safetensors files and the index of split weights, read without the weights.

Sources: the safetensors format (huggingface/safetensors, README "Format"), and the index that
transformers writes beside split weights.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import prod
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from modeldeck.core.errors import Corrupt
from modeldeck.core.formats.hub_names import check_path
from modeldeck.core.formats.lfs import refuse_pointer
from modeldeck.core.storage.foreign_files import open_regular

MAX_HEADER = 32 << 20
"""Maximum bytes of the JSON in a safetensors file. The reference implementation allows 100 MB; the
largest known have some 7 MB, and decoding holds the GIL."""
MAX_TENSORS = 1 << 16
"""Maximum tensors per file; the largest models have some 100,000 in 160 files."""
MAX_ENTRIES = 1 << 19
"""Maximum commas and colons in a configuration or an index, which limits its values."""
MAX_DIMENSIONS = 32
MAX_INDEX = 32 << 20
"""Maximum bytes of `model.safetensors.index.json`; about 100 per tensor."""

_MAX_ROW = 4096
"""Maximum bytes of one entry of a header."""


INDEX = "model.safetensors.index.json"
WEIGHTS = "model*.safetensors"
"""Weights files that mlx-lm reads (`mlx_lm.utils.load_model`), regardless of the index."""

_LENGTH = struct.Struct("<Q")
_DTYPE_BITS = {
    **{"F64": 64, "I64": 64, "U64": 64, "F32": 32, "I32": 32, "U32": 32, "C64": 64},
    **{"F16": 16, "BF16": 16, "I16": 16, "U16": 16, "I8": 8, "U8": 8, "BOOL": 8},
    **{"F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4},
}

_REMEDY = "Download it again, or take another repository."


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSizes:
    """Sizes from the header of a safetensors file."""

    tensor_bytes: int
    elements: int
    """Stored numbers; a packed number of 32 bits contains several weights."""
    packed_elements: int
    """Elements of type U32, in which MLX packs quantized weights."""
    tensors: int


def header_end(data: bytes) -> int:
    """Return the end of the header, in bytes, of the safetensors file that starts with `data`."""
    return _LENGTH.size + (int(_LENGTH.unpack_from(data)[0]) if len(data) >= _LENGTH.size else 0)


def read_header(data: bytes, size: int) -> TensorSizes | None:
    """Parse the header of a safetensors file of `size` bytes; None if `data` is too short.

    Raises Corrupt if the tensors do not fill the file exactly, as the format requires.
    """
    refuse_pointer(data, "This safetensors file")
    if len(data) < _LENGTH.size:
        return None
    length = int(_LENGTH.unpack_from(data)[0])
    start = _LENGTH.size + length
    if length > MAX_HEADER or start > size:
        raise_corrupt("a safetensors file", f"its header claims {length} bytes")
    if len(data) < start:
        return None
    table = _table(data[_LENGTH.size : start])
    spans, elements, packed = [], 0, 0
    for name, row in table.items():
        if name == "__metadata__":
            continue
        dtype, shape, begin, end = _row(name, row)
        bits = prod(shape) * _DTYPE_BITS[dtype]
        if end - begin != -(-bits // 8):
            raise_corrupt("a safetensors file", f"the size of {name[:80]!r} does not fit its shape")
        spans.append((begin, end))
        elements += prod(shape)
        packed += prod(shape) if dtype == "U32" else 0
    spans.sort()
    ends = [0, *(end for _, end in spans)]
    if any(begin != end for (begin, _), end in zip(spans, ends, strict=False)):
        raise_corrupt("a safetensors file", "its tensors overlap or leave gaps")
    if start + ends[-1] != size:
        raise_corrupt(
            "a safetensors file", f"it has {size} bytes and should have {start + ends[-1]}"
        )
    return TensorSizes(
        tensor_bytes=ends[-1], elements=elements, packed_elements=packed, tensors=len(spans)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """Parse the index of split weights."""

    files: frozenset[str]
    total_bytes: int | None
    """Bytes of all tensors; None if missing."""
    tensors: int


def read_index(data: bytes) -> Index:
    """Parse the index of split weights.

    Raises Corrupt, and InvalidRequest for a file name that leaves the folder.
    """
    document = parse_json(data, INDEX, MAX_INDEX)
    table, metadata = document.get("weight_map"), document.get("metadata")
    if not isinstance(table, dict) or not all(isinstance(name, str) for name in table.values()):
        raise_corrupt(INDEX, "it has no table of weights")
    total = positive(metadata, "total_size") if isinstance(metadata, dict) else None
    files = frozenset(check_path(name) for name in set(table.values()))
    return Index(files=files, total_bytes=total, tensors=len(table))


def is_weights(path: str) -> bool:
    """Whether mlx-lm reads weights from this path of a repository.

    >>> is_weights("model-00001-of-00002.safetensors"), is_weights("adapters.safetensors")
    (True, False)
    """
    return "/" not in path and fnmatchcase(path, WEIGHTS)


def missing_weights(named: Collection[str], present: Collection[str]) -> tuple[str, ...]:
    """Return the files in an index that are missing; none for an index of another model.

    mlx-lm writes a quantized model into new files, and some publishers keep the index of the
    original, whose files were never part of the repository. So an index counts only if at least one
    of its files is present; of its files only those count that mlx-lm reads.

    >>> missing_weights({"model-00001-of-00002.safetensors"}, {"model.safetensors"})
    ()
    """
    if not set(named) & set(present):
        return ()
    return tuple(sorted(filter(is_weights, set(named) - set(present))))


def check_complete(named: Collection[str], present: Collection[str]) -> None:
    """Raise Corrupt if files named in the index are missing."""
    if missing := missing_weights(named, present):
        raise_corrupt(INDEX, f"it names {missing[0]}, which is not there")


def read_weights(path: Path) -> TensorSizes:
    """Read the header of a weights file. Raises Corrupt and OSError."""
    with open_regular(path) as file:
        first = file.read(_LENGTH.size)
        length = int(_LENGTH.unpack(first)[0]) if len(first) == _LENGTH.size else 0
        data = first + file.read(min(length, MAX_HEADER))
        weights = read_header(data, os.fstat(file.fileno()).st_size)
    if weights is None:
        raise_corrupt(path.name, "it is cut off")
    return weights


def _table(data: bytes) -> dict[str, msgspec.Raw]:
    """Split a header into its entries, which stay undecoded; only names are decoded."""
    # An entry has four colons: after its name, `dtype`, `shape` and `data_offsets`.
    if data.count(b":") > 4 * MAX_TENSORS:
        raise_corrupt("a safetensors header", f"it describes more than {MAX_TENSORS} tensors")
    try:
        return msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Corrupt(f"a safetensors header is not sound: {error}.", _REMEDY) from error


def parse_json(data: bytes, what: str, limit: int) -> dict[str, Any]:
    """Parse a JSON object of `limit` bytes and `MAX_ENTRIES` at most. Raises Corrupt."""
    refuse_pointer(data, what)
    if len(data) > limit:
        raise_corrupt(what, f"it is larger than {limit} bytes")
    if data.count(b",") + data.count(b":") > MAX_ENTRIES:
        raise_corrupt(what, f"it has more than {MAX_ENTRIES} entries")
    try:
        return msgspec.json.decode(data, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Corrupt(f"{what} is not sound: {error}.", _REMEDY) from error


def _row(name: str, row: msgspec.Raw) -> tuple[str, list[int], int, int]:
    """Decode an entry: type, shape, begin and end of a tensor."""
    if len(memoryview(row)) > _MAX_ROW:
        raise_corrupt("a safetensors file", f"the entry of {name[:80]!r} is far too long")
    try:
        entry = msgspec.json.decode(row, type=_TensorRow)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Corrupt(f"The entry of {name[:80]!r} is not sound: {error}.", _REMEDY) from error
    begin, end = entry.data_offsets
    if len(entry.shape) > MAX_DIMENSIONS:
        raise_corrupt("a safetensors file", f"{name[:80]!r} has {len(entry.shape)} dimensions")
    if entry.dtype not in _DTYPE_BITS or begin > end or any(n < 0 for n in (begin, *entry.shape)):
        raise_corrupt("a safetensors file", f"the entry of {name[:80]!r} has impossible values")
    return entry.dtype, entry.shape, begin, end


@dataclass(frozen=True, slots=True, kw_only=True)
class _TensorRow:
    dtype: str
    shape: list[int]
    data_offsets: tuple[int, int]


def positive(document: Mapping[str, Any], key: str) -> int | None:
    """Return a number above 0 and up to 2**40 of a document; None for any other value."""
    value = document.get(key)
    good = isinstance(value, int) and not isinstance(value, bool) and 0 < value <= 1 << 40
    return value if good else None


def raise_corrupt(what: str, why: str) -> NoReturn:
    """Raise Corrupt for a file that breaks its format."""
    raise Corrupt(f"{what} is not sound: {why}.", _REMEDY)
