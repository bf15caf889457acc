"""Records what requests say and what models answer, for some minutes: in memory only.

Nothing of it goes to the disk or into a log. It is bounded in bytes and in time; at its end all of
it is dropped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from modeldeck.core.schema import (
    Chunk,
    GenerateRequest,
    Message,
    Model,
    RecordedText,
    Recording,
)
from modeldeck.core.schema.state import RecordingChanged
from modeldeck.core.service.feed import Feed

MOST_BYTES = 64 << 20
"""Bytes of all texts together; beyond that the oldest are dropped."""
OVERHEAD = 256
"""Bytes that are counted for each request and each piece besides their text."""


@dataclass(slots=True)
class _Recorded:
    """The texts of one request."""

    prompt: str | None
    messages: tuple[Message, ...]
    size: int
    answer: list[str] = field(default_factory=list)
    thought: list[str] = field(default_factory=list)


class RequestRecorder:
    """The recording in force, if any, and the texts of requests that came since it began."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._texts: dict[str, _Recorded] = {}
        """By the ids of requests, the oldest first."""
        self._bytes = 0
        self._timer: asyncio.TimerHandle | None = None

    def start(self, seconds: float, models: Sequence[str], by: str) -> Recording:
        """Record requests that come from now on, for some seconds; replaces a recording.

        `models` are ids; empty for all. What was recorded so far stays.
        """
        self._cancel()
        until = datetime.now(UTC) + timedelta(seconds=seconds)
        recording = Recording(
            until=until.isoformat(timespec="seconds"), models=tuple(models), by=by
        )
        self._timer = asyncio.get_running_loop().call_later(seconds, self.stop)
        self._feed.commit(RecordingChanged, recording=recording)
        return recording

    def stop(self) -> None:
        """End the recording, and drop all texts."""
        self._cancel()
        self._texts.clear()
        self._bytes = 0
        if self._feed.state.recording is not None:
            self._feed.commit(RecordingChanged, recording=None)

    def close(self) -> None:
        """Drop everything, as the core ends."""
        self._cancel()
        self._texts.clear()

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def begin(self, key: str, model: Model, request: GenerateRequest) -> None:
        """Take the text of a request, where requests to its model are recorded.

        The files of its images and recordings are left out.
        """
        recording = self._feed.state.recording
        if recording is None or (recording.models and model.id not in recording.models):
            return
        messages = tuple(map(_without_files, request.messages))
        size = 4 * (OVERHEAD + len(request.prompt or "") + sum(map(_length, messages)))
        self._texts[key] = _Recorded(prompt=request.prompt, messages=messages, size=size)
        self._bytes += size
        self._make_room()

    def add(self, key: str, chunk: Chunk) -> None:
        """Take a piece of the answer to a request that is recorded."""
        text = self._texts.get(key)
        if text is None or not (chunk.text or chunk.thought):
            return
        (text.thought if chunk.thought else text.answer).append(chunk.thought or chunk.text)
        size = OVERHEAD + 4 * len(chunk.text or chunk.thought)
        text.size += size
        self._bytes += size
        self._make_room()

    def _make_room(self) -> None:
        while self._bytes > MOST_BYTES:
            oldest = next(iter(self._texts))
            self._bytes -= self._texts.pop(oldest).size

    def text(self, key: str) -> RecordedText | None:
        """What a request says and what was answered so far; None where that is not recorded."""
        text = self._texts.get(key)
        if text is None:
            return None
        return RecordedText(
            prompt=text.prompt,
            messages=text.messages,
            thought="".join(text.thought),
            answer="".join(text.answer),
        )


def _without_files(message: Message) -> Message:
    return replace(message, media=tuple(replace(each, data=b"") for each in message.media))


def _length(message: Message) -> int:
    """Characters of a message, with what is counted besides them."""
    parts = (*message.media, *message.tool_calls)
    calls = sum(len(call.name) + len(call.arguments) for call in message.tool_calls)
    return OVERHEAD * (1 + len(parts)) + len(message.content) + len(message.thought) + calls
