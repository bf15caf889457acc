"""JSON of requests: bodies decoded within bounds of depth, text and number, values encoded. Pure.

msgspec decodes without letting another thread run: 1 MiB of text takes up to 4 ms, 1 MiB of empty
objects 15 ms and fifty times its size in memory. So what makes a body large has to be images, whose
base64 is cut out before and put back afterwards, string by string.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from typing import Any

import msgspec

from modeldeck.core.errors import ContextExceeded, InvalidRequest

JSON_DEPTH = 64
"""Levels of arrays and objects in a body. Ours need 5, a tool's JSON schema in a chat about 15."""
MOST_VALUES = 1 << 20
"""Commas, arrays and objects in a body: the tokens of a long text are the most that is useful."""
MOST_OBJECTS = 1 << 16
"""Objects in a body: a conversation of thousands of messages has some ten thousand. Each takes a
few microseconds more when it becomes a message, on the loop."""
SMALL_BYTES = 1 << 20
"""Bodies up to this size are decoded as they are."""
TEXT_BYTES = 16 << 20
"""Bytes besides images: four million tokens, more than any model has in its context."""
IMAGE_BYTES = 64 << 10
"""Base64 of at least this length is cut out."""
WINDOW = 1 << 20
"""Bytes that are searched at a time: after each, other threads may run."""

_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_BEGINNING = re.compile(rb'(?<!\\)"(?:data:[a-z]+/[a-z0-9.+-]+;base64,)?[A-Za-z0-9+/=_-]{1024}')
"""A string that begins like base64. What follows a string cannot look so, nor can an escape."""
_BASE64 = re.compile(rb"[A-Za-z0-9+/=_-]*+")
_ESCAPED = re.compile(r'["\\\x00-\x1f]')
_OVERLAP = 1200
"""Bytes by which windows overlap: the longest match of `_BEGINNING`, about."""


def decode(body: bytes | bytearray) -> Any:
    """The value of a body; None where it is empty.

    Raises InvalidRequest, and ContextExceeded for too much text.
    """
    if len(body) <= SMALL_BYTES:
        return _decoded(body)
    places = list(_images(body))
    if len(body) - sum(end - start for start, end in places) > TEXT_BYTES:
        raise ContextExceeded(
            f"The prompt is too long: over {TEXT_BYTES} bytes ({ContextExceeded.code}).",
            "Send less.",
        )
    if not places:
        _check_values(body)
        return _decoded(body)
    marker = secrets.token_hex(16)
    pieces: list[bytes | bytearray] = []
    at = 0
    for number, (start, end) in enumerate(places):
        pieces += (body[at:start], f"{marker}{number}".encode())
        at = end
    rest = b"".join((*pieces, body[at:]))
    _check_values(rest)
    images = {f"{marker}{number}": place for number, place in enumerate(places)}
    return _restored(_decoded(rest), images, memoryview(body))


def encode(value: Any) -> bytes:
    """The JSON of a value. Long strings without anything to escape are put in as they are.

    msgspec lets no other thread run while it encodes: 20 MiB of base64 take it 30 ms.
    """
    marker = secrets.token_hex(16)
    images: list[str] = []
    text = msgspec.json.encode(_without_images(value, marker, images))
    if not images:
        return text
    pieces: list[bytes] = []
    for number, image in enumerate(images):
        before, _, text = text.partition(f"{marker}{number}.".encode())
        pieces += (before, image.encode("ascii"))
    return b"".join((*pieces, text))


def _without_images(value: Any, marker: str, images: list[str]) -> Any:
    """The value with marks in place of long strings, which go into `images` in order."""
    if isinstance(value, str):
        if len(value) < IMAGE_BYTES or not _is_plain(value):
            return value
        images.append(value)
        return f"{marker}{len(images) - 1}."
    if isinstance(value, list):
        return [_without_images(item, marker, images) for item in value]
    if isinstance(value, dict):
        return {name: _without_images(item, marker, images) for name, item in value.items()}
    return value


def _is_plain(text: str) -> bool:
    """Whether a string is ASCII without anything that JSON escapes."""
    steps = range(0, len(text), WINDOW)
    return text.isascii() and not any(_ESCAPED.search(text, at, at + WINDOW) for at in steps)


def _decoded(body: bytes | bytearray) -> Any:
    try:
        value = msgspec.json.decode(body) if body else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if not body.strip():
            return None
        raise InvalidRequest(f"The body is not JSON: {error}.", "Send valid JSON.") from error
    if body.count(b"[") + body.count(b"{") > JSON_DEPTH:
        _check_depth(value)
    return value


def _images(body: bytes | bytearray) -> Iterator[tuple[int, int]]:
    """Beginning and end of the contents of strings that are long base64."""
    at = 0
    while at < len(body):
        found = _BEGINNING.search(body, at, at + WINDOW)
        if found is None:
            at += WINDOW - _OVERLAP
            continue
        start, end = found.start() + 1, found.end()
        while (part := _BASE64.match(body, end, end + WINDOW)) is not None and part[0]:
            end = part.end()
        if body[end : end + 1] == b'"' and end - start >= IMAGE_BYTES:
            yield start, end
        at = end


def _restored(value: Any, images: dict[str, tuple[int, int]], body: memoryview) -> Any:
    """The value with the images in their places."""
    if isinstance(value, str):
        if (place := images.get(value)) is None:
            return value
        return str(body[place[0] : place[1]], "ascii")
    if isinstance(value, list):
        return [_restored(item, images, body) for item in value]
    if isinstance(value, dict):
        return {
            _restored(name, images, body): _restored(item, images, body)
            for name, item in value.items()
        }
    return value


def _check_values(body: bytes | bytearray) -> None:
    """Raise InvalidRequest for more values than `MOST_VALUES`, or objects than `MOST_OBJECTS`."""
    objects, values = _count(body)
    if values <= MOST_VALUES and objects <= MOST_OBJECTS:
        return
    # Only what is outside of strings counts. String by string, so that other threads may run.
    for string in _STRING.finditer(body):
        fewer_objects, fewer = _count(string[0])
        objects, values = objects - fewer_objects, values - fewer
    if values > MOST_VALUES:
        raise InvalidRequest(f"The body has more than {MOST_VALUES} values.", "Send less at once.")
    if objects > MOST_OBJECTS:
        raise InvalidRequest(
            f"The body has more than {MOST_OBJECTS} objects.", "Send less at once."
        )


def _count(text: bytes | bytearray) -> tuple[int, int]:
    """Number of marks of objects in a text, and of all marks."""
    objects = text.count(b"{")
    return objects, objects + text.count(b"[") + text.count(b",")


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
