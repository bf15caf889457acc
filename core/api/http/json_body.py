"""Bodies of requests, decoded as JSON within bounds of depth and number of values. Pure.

msgspec decodes without letting another thread run: 1 MiB of text takes up to 4 ms, 1 MiB of empty
objects 15 ms and fifty times its size in memory. So large bodies may not have very many values.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from modeldeck.core.errors import InvalidRequest

JSON_DEPTH = 64
"""Levels of arrays and objects in a body. Ours need 5, a tool's JSON schema in a chat about 15."""
MOST_VALUES = 1 << 20
"""Commas, arrays and objects in a body: the tokens of a long text are the most that is useful."""

_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_MARKS = (b"{", b"[", b",")


def decode(body: bytes | bytearray) -> Any:
    """The value of a body; None where it is empty. Raises InvalidRequest."""
    if len(body) > MOST_VALUES:
        _check_values(body)
    try:
        value = msgspec.json.decode(body) if body else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if not body.strip():
            return None
        raise InvalidRequest(f"The body is not JSON: {error}.", "Send valid JSON.") from error
    if body.count(b"[") + body.count(b"{") > JSON_DEPTH:
        _check_depth(value)
    return value


def _check_values(body: bytes | bytearray) -> None:
    """Raise InvalidRequest for more values than `MOST_VALUES`."""
    count = sum(body.count(mark) for mark in _MARKS)
    if count <= MOST_VALUES:
        return
    # Only what is outside of strings counts. String by string, so that other threads may run.
    for string in _STRING.finditer(body):
        text = string[0]
        count -= sum(text.count(mark) for mark in _MARKS)
    if count > MOST_VALUES:
        raise InvalidRequest(f"The body has more than {MOST_VALUES} values.", "Send less at once.")


def _check_depth(value: object) -> None:
    """Raise InvalidRequest for nesting deeper than `JSON_DEPTH`, without recursion of our own."""
    level: list[object] = [value]
    for _ in range(JSON_DEPTH):
        level = [
            child
            for item in level
            if isinstance(item, dict | list)
            for child in (item.values() if isinstance(item, dict) else item)
            if isinstance(child, dict | list)
        ]
        if not level:
            return
    raise InvalidRequest(f"The body is nested deeper than {JSON_DEPTH} levels.")
