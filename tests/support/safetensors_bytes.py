"""Bytes of made-up safetensors files, and of the JSON files beside them."""

from __future__ import annotations

import json
import struct
from typing import Any

STALE = {f"{n}": f"model-0000{n}-of-00004.safetensors" for n in (1, 2, 3, 4)}
"""The index of an original in four files, left beside a quantized model in one."""


def encoded(document: object) -> bytes:
    return json.dumps(document).encode()


def weights(rows: dict[str, Any], data: int) -> bytes:
    head = encoded(rows)
    return struct.pack("<Q", len(head)) + head + bytes(data)


def row(dtype: str, shape: list[int], begin: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
