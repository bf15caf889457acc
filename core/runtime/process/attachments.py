"""The files in commands: they travel as they are, in frames of their own, before the command.

A request may bring 64 MiB of images. As text in a JSON object they would be a third larger, and
turning them into text and back would hold up the core's event loop. A frame with a piece of a file
begins with a byte that begins no JSON; its command takes the files that came before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

import msgspec

from modeldeck.core.runtime.process.frames import FrameDecoder, head
from modeldeck.core.runtime.process.messages import (
    AnyCommand,
    EngineCommand,
    GenerateText,
    TokenizeText,
    command,
    frame,
)
from modeldeck.core.schema import GenerateRequest

PIECE_BYTES = 256 << 10
"""Bytes of a file in a frame: few enough to be copied in no time."""
_MORE, _LAST = b"\x00", b"\x01"
"""What a piece of a file begins with: another one of it follows, or it is the last."""

C = TypeVar("C", bound=EngineCommand)


def outgoing(message: EngineCommand) -> Iterator[bytes | memoryview]:
    """What is written for a command, in pieces. Raises `frames.FrameError` when it is too long."""
    request = _request_of(message)
    files = [media.data for m in request.messages for media in m.media] if request else []
    command_frame = frame(_with_files(message, [b""] * len(files)) if files else message)
    for file in files:
        yield from _pieces(file)
    yield command_frame


def _pieces(file: bytes) -> Iterator[bytes | memoryview]:
    view = memoryview(file)
    for start in range(0, len(view) or 1, PIECE_BYTES):
        piece = view[start : start + PIECE_BYTES]
        kind = _LAST if start + PIECE_BYTES >= len(view) else _MORE
        yield head(1 + len(piece)) + kind
        yield piece


def _request_of(message: EngineCommand) -> GenerateRequest | None:
    match message:
        case GenerateText(request=request):
            return request
        case TokenizeText(query=query):
            return query.request
    return None


def _with_files(message: C, files: Sequence[bytes]) -> C:
    """A command whose images and recordings have these files, in order."""
    request, rest = _request_of(message), iter(files)
    assert request is not None
    messages = tuple(
        replace(m, media=tuple(replace(media, data=next(rest)) for media in m.media))
        if m.media
        else m
        for m in request.messages
    )
    request = replace(request, messages=messages)
    if isinstance(message, TokenizeText):
        return msgspec.structs.replace(message, query=replace(message.query, request=request))
    return msgspec.structs.replace(message, request=request)


class CommandDecoder:
    """Reads commands and their files from a stream of bytes."""

    def __init__(self) -> None:
        self._frames = FrameDecoder()
        self._files: list[bytes] = []
        self._pieces: list[bytes] = []

    def feed(self, data: bytes) -> Iterator[AnyCommand]:
        """Take received bytes and yield the commands that are complete.

        Raises `frames.FrameError`, and msgspec.DecodeError for what is no command.
        """
        for payload in self._frames.feed(data):
            kind = payload[:1]
            if kind in (_MORE, _LAST):
                self._pieces.append(payload[1:])
                if kind == _LAST:
                    self._files.append(b"".join(self._pieces))
                    self._pieces = []
                continue
            yield self._with_its_files(command(payload))

    def _with_its_files(self, message: AnyCommand) -> AnyCommand:
        request = _request_of(message)
        if request is None or not any(m.media for m in request.messages):
            return message
        files, self._files = self._files, []
        return _with_files(message, files)
