"""Spoils the headers of projectors in many ways, each of which a file from anywhere could have."""

from __future__ import annotations

import random
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from modeldeck.core.formats import gguf_parser
from tests.support.projector_kinds import KINDS
from tests.support.projectors import write_projector

ODD = (0, 1, 2, 3, 5, 7, 8, 16, 100, 255, 4096, (1 << 16) - 1, (1 << 31) - 1, (1 << 32) - 1)
"""Numbers that are tried in place of one in a header."""
_NUMBER, _FLOAT, _BOOL = (4, 5), 6, 7
"""`enum gguf_type`, gguf.h."""
_KEY = re.compile(rb"clip\.[a-z_.]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoiledProjector:
    """A projector whose header was changed."""

    kind: str
    what: str
    """What was changed."""
    data: bytes


def spoiled(folder: Path, count: int, seed: int = 1) -> Iterator[SpoiledProjector]:
    """Yield spoiled projectors of all kinds in turn, the same for the same seed."""
    chance = random.Random(seed)
    plain: dict[str, tuple[bytes, int]] = {}
    names = sorted(KINDS)
    for number in range(count):
        kind = names[number % len(names)]
        if kind not in plain:
            path = write_projector(folder / f"{kind}.gguf", kind)
            plain[kind] = path.read_bytes(), gguf_parser.read(path).data_offset
        data, end = plain[kind]
        what, changed = _spoil(data, end, chance)
        yield SpoiledProjector(kind=kind, what=what, data=changed)


def _spoil(data: bytes, end: int, chance: random.Random) -> tuple[str, bytes]:
    way = chance.random()
    if way < 0.7:
        return _other_number(data, end, chance)
    if way < 0.8:
        return _other_shape(data, end, chance)
    changed = bytearray(data)
    if way < 0.9:
        at = [chance.randrange(end) for _ in range(chance.choice((1, 4)))]
        for each in at:
            changed[each] = chance.randrange(256)
        return f"bytes at {at}", bytes(changed)
    match = chance.choice(list(_KEY.finditer(data, 0, end)))
    changed[match.end() - 1] = ord("x")
    return f"no {match[0].decode()}", bytes(changed)


def _other_number(data: bytes, end: int, chance: random.Random) -> tuple[str, bytes]:
    """Another value of a key."""
    found: list[tuple[str, int, int]] = []
    for match in _KEY.finditer(data, 0, end):
        (type_,) = struct.unpack_from("<I", data, match.end())
        if type_ in (*_NUMBER, _FLOAT, _BOOL):
            found.append((match[0].decode(), type_, match.end() + 4))
    name, type_, at = chance.choice(found)
    changed = bytearray(data)
    if type_ == _BOOL:
        changed[at] ^= 1
        return f"{name}={changed[at]}", bytes(changed)
    if type_ == _FLOAT:
        number = chance.choice((0.0, -1.0, 1e30, float("nan"), float("inf")))
        struct.pack_into("<f", changed, at, number)
        return f"{name}={number}", bytes(changed)
    (before,) = struct.unpack_from("<I", data, at)
    near = (before + 1, max(0, before - 1), 2 * before, before // 2)
    value = chance.choice([odd for odd in (*ODD, *near, *near) if odd != before]) & 0xFFFFFFFF
    struct.pack_into("<I", changed, at, value)
    return f"{name}={value}", bytes(changed)


def _other_shape(data: bytes, end: int, chance: random.Random) -> tuple[str, bytes]:
    """Another size of a tensor, each way of which is 64 bits in the header."""
    names = list(re.finditer(rb"(?:v|a|mm|adapter|resampler)\.[a-z0-9_.]+", data[:end]))
    match = chance.choice(names)
    (ways,) = struct.unpack_from("<I", data, match.end())
    way = chance.randrange(min(ways, 4) or 1)
    at = match.end() + 4 + 8 * way
    (before,) = struct.unpack_from("<Q", data, at)
    value = chance.choice((before + 1, max(1, before // 2), 2 * before, 1, 0))
    changed = bytearray(data)
    struct.pack_into("<Q", changed, at, value)
    return f"{match[0].decode()}[{way}]={value}", bytes(changed)


def with_number(data: bytes, key: str, value: int) -> bytes:
    """A projector with another number under a key of its header, which it has."""
    at = data.index(key.encode()) + len(key)
    assert struct.unpack_from("<I", data, at)[0] in _NUMBER
    return data[: at + 4] + struct.pack("<I", value) + data[at + 8 :]


def without_tensor(data: bytes, name: str) -> bytes:
    """A projector whose tensor has another name."""
    assert data.count(name.encode()) == 1
    return data.replace(name.encode(), name[:-1].encode() + b"_")
