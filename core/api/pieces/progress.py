"""Progress sockets: download progress of one model over a WebSocket.

`ProgressState` is a pure state machine. It gets the State at the time the socket was opened
(`begin`) and then every change in order, and returns the frames to send. One run of a download is
INITIALIZED, any number of IN-PROGRESS with a number that never falls, and exactly one of COMPLETED,
FAILED or CANCELED. The rules follow from how real clients use the frames:

- A socket opened during a download gets the current progress and never INITIALIZED: one client
  stops at the first frame that is not IN-PROGRESS.
- COMPLETED waits until the model is `downloaded`: one client lists the models again as soon as it
  gets COMPLETED, and would loop.
- RESET follows when downloaded files are deleted, all or in part, never within a run.

A paused download is still running; one that stopped by itself (disk full) has failed.
"""

from __future__ import annotations

import asyncio
import logging
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Literal

from modeldeck.core.api.http.messages import WebSocket
from modeldeck.core.api.pieces.schema import timestamp
from modeldeck.core.schema import Download, Model
from modeldeck.core.schema.state import (
    DownloadChanged,
    DownloadRemoved,
    Event,
    ModelChanged,
    ModelRemoved,
    State,
)
from modeldeck.core.service.feed import Feed

logger = logging.getLogger(__name__)

RECENT = timedelta(seconds=30)
"""How long a failure or cancellation is sent to sockets that are opened afterwards."""

STEP = 0.1
"""Percent between two IN-PROGRESS frames at least: less is invisible on a progress bar."""

INTERVAL_S = 0.2
"""Seconds between two IN-PROGRESS frames at least. Downloads report about 4 times a second; this
only skips a report that follows another at once."""

HANDOVER_S = 1.0
"""Seconds an operation waits for its frames to be sent: a client that does not read its socket must
not block the response to another."""

End = Literal["COMPLETED", "FAILED", "CANCELED"]
Phase = Literal["running", "COMPLETED", "FAILED", "CANCELED"]

INITIALIZED = b'{"status":"INITIALIZED"}'
RESET = b'{"status":"RESET"}'


def phase(job: Download) -> Phase:
    """Phase of a download in the documented API."""
    match job.state:
        case "completed":
            return "COMPLETED"
        case "failed":
            return "FAILED"
        case "canceled":
            return "CANCELED"
        case "paused" if job.error is not None:
            return "FAILED"
        case _:
            return "running"


def newest(state: State, model_id: str) -> Download | None:
    """The newest download of a model."""
    jobs = (job for job in state.downloads.values() if job.model_id == model_id)
    return max(jobs, key=lambda job: job.created_at, default=None)


def percentage(job: Download) -> float:
    """Received percent, to a tenth; below 100 until everything is verified."""
    if job.total_bytes <= 0:
        return 0.0
    part = max(job.received_bytes, job.verified_bytes, 0) / job.total_bytes
    return min(math.floor(part * 1000) / 10, 99.9)


def running_frame(percent: float) -> bytes:
    """The frame of a running download."""
    return b'{"status":"IN-PROGRESS","percentage":%.1f}' % percent


def end_frame(end: End) -> bytes:
    """The last frame of a run; only COMPLETED has a percentage."""
    if end == "COMPLETED":
        return b'{"status":"COMPLETED","percentage":100}'
    return b'{"status":"%b"}' % end.encode()


def present_frame(model: Model, job: Download | None, at: datetime) -> bytes | None:
    """The current progress for a new socket; None if there is none to send."""
    state = phase(job) if job is not None else None
    if job is not None and state == "running":
        return running_frame(percentage(job))
    if model.downloaded:
        return end_frame("COMPLETED")
    if job is not None and state in ("FAILED", "CANCELED") and _recent(job, at):
        return end_frame("FAILED" if state == "FAILED" else "CANCELED")
    return None


def _recent(job: Download, at: datetime) -> bool:
    try:
        return at - timestamp(job.finished_at or "") < RECENT
    except ValueError:  # not ended: it waits for free disk space, which is sent until it resumes
        return job.state == "paused"


class ProgressState:
    """State machine of one socket and model: turns feed items into frames. No I/O."""

    def __init__(self, model_id: str) -> None:
        self.model_id = model_id
        self.gone = False
        """Whether the model was removed from the list: no more frames follow."""
        self._running: str | None = None
        self._ended: tuple[str, Phase] | None = None
        self._downloaded = False
        self._partial = False
        self._held = False
        self._percent = -1.0
        self._sent_at = -math.inf

    def begin(self, state: State, at: datetime) -> list[bytes]:
        """The first frames of a socket opened at this State."""
        model, job = state.models.get(self.model_id), newest(state, self.model_id)
        if model is None:
            self.gone = True
            return []
        self._downloaded = model.downloaded
        if job is not None and phase(job) == "running":
            self._running, self._percent = job.id, percentage(job)
        elif job is not None:
            self._ended = job.id, phase(job)
        self._partial = job is not None and job.received_bytes > 0
        frame = present_frame(model, job, at)
        return [] if frame is None else [frame]

    def follow(self, item: State | Event, clock: float) -> list[bytes]:
        """The frames for the next feed item; `clock` is a monotonic time in seconds."""
        match item:
            case DownloadChanged(download=job) if job.model_id == self.model_id:
                return self._job(job, clock)
            case ModelChanged(model=model) if model.id == self.model_id:
                return self._presence(model.downloaded)
            case DownloadRemoved(id=key) if key == self._running:
                return self._end(key, "CANCELED")
            case ModelRemoved(id=key) if key == self.model_id:
                return self._leave()
            case State():
                return self._catch_up(item, clock)
            case _:
                return []

    def _catch_up(self, state: State, clock: float) -> list[bytes]:
        """The frames after a feed overflow: the end of the previous run, and later changes."""
        frames: list[bytes] = []
        model, last = state.models.get(self.model_id), newest(state, self.model_id)
        if model is not None and model.downloaded:
            self._downloaded = True
        if self._running is not None and (last is None or last.id != self._running):
            job = state.downloads.get(self._running)
            if job is not None and phase(job) != "running":
                frames += self._job(job, clock)
            else:
                frames += self._end(self._running, "CANCELED")
        if last is not None:
            frames += self._job(last, clock)
        return frames + (self._leave() if model is None else self._presence(model.downloaded))

    def _job(self, job: Download, clock: float) -> list[bytes]:
        now = phase(job)
        if now != "running" and self._running not in (None, job.id):
            return []  # an older job that changes while another runs
        partial, self._partial = self._partial, job.received_bytes > 0
        if now == "running":
            return self._run(job, clock)
        if self._running is None and self._ended == (job.id, now):
            lost = partial and not self._partial and now != "COMPLETED"
            return [RESET] if lost else []
        # A run that ended before its start was seen gets both frames at once.
        start = self._start() if self._running is None else []
        return start + self._end(job.id, now)

    def _run(self, job: Download, clock: float) -> list[bytes]:
        frames: list[bytes] = []
        if self._running != job.id:
            if self._running is not None:
                frames += self._end(self._running, "CANCELED")
            frames += self._start()
            self._running, self._percent, self._sent_at = job.id, -1.0, -math.inf
        percent = percentage(job)
        # With a tolerance of half a step and half a millisecond: tenths are not exact in binary.
        if percent - self._percent > STEP / 2 and clock - self._sent_at > INTERVAL_S - 0.0005:
            self._percent, self._sent_at = percent, clock
            frames.append(running_frame(percent))
        return frames

    def _start(self) -> list[bytes]:
        return [*self._lost(), INITIALIZED]

    def _lost(self) -> list[bytes]:
        """FAILED for a completed run whose files were deleted before the model had them."""
        held, self._held = self._held, False
        return [end_frame("FAILED")] if held else []

    def _end(self, job_id: str, end: End) -> list[bytes]:
        self._running, self._ended = None, (job_id, end)
        self._held = end == "COMPLETED" and not self._downloaded
        return [] if self._held else [end_frame(end)]

    def _presence(self, downloaded: bool) -> list[bytes]:
        before, self._downloaded = self._downloaded, downloaded
        if downloaded and self._held:
            self._held = False
            return [end_frame("COMPLETED")]
        return [RESET] if before and not downloaded and self._running is None else []

    def _leave(self) -> list[bytes]:
        self.gone = True
        frames = self._end(self._running, "CANCELED") if self._running is not None else []
        return frames + self._lost() + self._presence(downloaded=False)


class ProgressSocket:
    """One open socket: follows the feed and sends the frames of its `ProgressState`."""

    def __init__(self, model_id: str, socket: WebSocket) -> None:
        self.model_id = model_id
        self.socket = socket
        self._seen = 0
        self._moved = asyncio.Event()

    async def run(self, feed: Feed) -> None:
        """Accept the socket and serve it until the model is removed or the client is gone."""
        progress = ProgressState(self.model_id)
        clock = asyncio.get_running_loop().time
        with feed.subscribe(watching=False) as subscription:
            # The current State, taken before the first await: later changes come from the feed.
            state = feed.state
            subscription.take()
            frames = progress.begin(state, datetime.now(UTC))
            await self.socket.accept()
            await self._send(frames, state.seq)
            async for batch in subscription.batches():
                frames = [f for item in batch for f in progress.follow(item, clock())]
                await self._send(frames, batch[-1].seq if batch else 0)
                if progress.gone:
                    break
        await self.socket.close(1000, "The model is gone.")

    async def _send(self, frames: list[bytes], seq: int) -> None:
        for frame in frames:
            await self.socket.send(frame)
        self._seen = max(self._seen, seq)
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    def leave(self) -> None:
        """Wake all waiters of `reached`: nothing more will be sent."""
        self._seen = sys.maxsize
        self._moved.set()

    async def reached(self, seq: int) -> None:
        """Wait until everything up to this event is sent, or the socket is closed."""
        while self._seen < seq:
            await self._moved.wait()


class ProgressSockets:
    """The open progress sockets of one core."""

    def __init__(self) -> None:
        self._open: dict[str, set[ProgressSocket]] = {}

    @contextmanager
    def join(self, model_id: str, socket: WebSocket) -> Iterator[ProgressSocket]:
        """A `ProgressSocket` that is registered while the block runs."""
        follower = ProgressSocket(model_id, socket)
        self._open.setdefault(model_id, set()).add(follower)
        try:
            yield follower
        finally:
            follower.leave()
            self._open[model_id].discard(follower)
            if not self._open[model_id]:
                del self._open[model_id]

    async def wait_sent(self, model_id: str, seq: int) -> None:
        """Wait until the sockets of this model are sent all events up to `seq`.

        So INITIALIZED is sent before the response of the operation that started the download. Waits
        `HANDOVER_S` at most.
        """
        try:
            async with asyncio.timeout(HANDOVER_S):
                for follower in tuple(self._open.get(model_id, ())):
                    await follower.reached(seq)
        except TimeoutError:
            logger.info("a progress socket of model %s is not read", model_id)
