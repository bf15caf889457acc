"""Headers of models that no real model has: each is a hazard to a program that reads it whole."""

from __future__ import annotations

import struct
from pathlib import Path

from modeldeck.core.demo.model_writer import write_mlx


def gguf_of(arrays: int, kind: int, length: int, values: bytes) -> bytes:
    """A GGUF header with this number of equal arrays, and no tensors."""
    start = b"GGUF" + struct.pack("<IQQ", 3, 0, arrays)
    about = struct.pack("<IIQ", 9, kind, length)
    keys = (b"key.%d" % number for number in range(arrays))
    return start + b"".join(struct.pack("<Q", len(k)) + k + about + values for k in keys)


def many_arrays(path: Path) -> None:
    """A header whose arrays, each short enough to be kept, hold ten million values."""
    (path / "m-F16.gguf").write_bytes(gguf_of(10_000, 0, 1024, bytes(1024)))


def large_table(path: Path) -> None:
    """A safetensors header with a million rows."""
    write_mlx(path)
    row = '"%d":{"dtype":"U8","shape":[1],"data_offsets":[%d,%d]}'
    rows = ",".join(row % (n, n, n + 1) for n in range(400_000))
    table = f"{{{rows}}}".encode()
    size = len(table).to_bytes(8, "little")
    (path / "model.safetensors").write_bytes(size + table + bytes(1_000_000))
