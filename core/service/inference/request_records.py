"""The requests to models in State: those that run or wait, and the last that ended.

Records hold who asks and figures, never what was said. They change with every token, so they are
committed at most every `INTERVAL_S`, each with its newest values.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any, Literal

from modeldeck.core.errors import Busy, Cancelled, Conflict, DeckError, NotFound
from modeldeck.core.schema import (
    Chunk,
    GenerateRequest,
    Model,
    Requester,
    RequestInfo,
    RequestState,
)
from modeldeck.core.schema.clock import now
from modeldeck.core.schema.state import RequestChanged, RequestRemoved, RequestsTodayChanged
from modeldeck.core.service.feed import Feed

INTERVAL_S = 0.25
"""Seconds between two commits."""
KEPT = 50
"""Ended requests that are kept."""
BENCH_DIALECT = "bench"
"""Dialect of the requests of a benchmark, which leave no record when they end."""


class RequestTicket:
    """One request from its arrival to its end, and what cancels it."""

    def __init__(self, info: RequestInfo, changed: Callable[[RequestTicket], None]) -> None:
        self.id = info.id
        self._info = info
        self._changed = changed
        self._news: dict[str, Any] = {}
        """Fields that changed since `_info` was made: with each token some do."""
        self._ended = False
        self._error: Cancelled | None = None
        """Set when it was cancelled by a person."""
        self._interrupt: Callable[[], Any] | None = None
        self._stop: Callable[[DeckError], None] | None = None
        self._began: float | None = None
        self._first: float | None = None

    @property
    def info(self) -> RequestInfo:
        """Its record as it is now."""
        if self._news:
            news, self._news = self._news, {}
            self._info = replace(self._info, **self._speed(news), **news)
        return self._info

    def note(self, **changes: Any) -> None:
        """Note fields that changed, by name. What comes after its end is dropped."""
        if self._ended:
            return
        if self._began is None and changes.get("state") == "prompt":
            self._began = time.monotonic()
        elif self._first is None and "completion_tokens" in changes:
            self._first = time.monotonic()
        self._news.update(changes)
        self._changed(self)

    def _speed(self, news: dict[str, Any]) -> dict[str, Any]:
        """The figures of time, as far as the engine has not told them itself."""
        count = news.get("completion_tokens")
        if not count or "tokens_per_s" in news or self._began is None or self._first is None:
            return {}
        spent_s = time.monotonic() - self._first
        rate = (count - 1) / spent_s if count > 1 and spent_s else None
        return {"time_to_first_token_s": self._first - self._began, "tokens_per_s": rate}

    def end(self, state: RequestState, **changes: Any) -> None:
        """Note its end; only the first one counts."""
        self.note(state=state, place=None, why="", ended_at=now(), **changes)
        self._ended = True

    def discard(self) -> None:
        """End it without a record."""
        self._ended = True

    def complete(self, last: Chunk) -> None:
        """Note the end of an answer with its last piece."""
        if last.finish_reason in ("stop", "tool_calls"):
            self.end("done")
        else:
            self.end("cut", error_code="" if last.finish_reason == "length" else Cancelled.code)

    def fail(self, error: DeckError) -> None:
        """Note the error that it ended with."""
        state: RequestState = "cut" if isinstance(error, Cancelled) else "failed"
        self.end(state, error_code=error.code)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """While the block runs, a cancellation raises Cancelled in it.

        The block may only await what its own task awaits: it must not be suspended by a `yield`.
        """
        task = asyncio.current_task()
        assert task is not None
        self._check()
        self._interrupt = task.cancel
        try:
            yield
        except asyncio.CancelledError:
            if self._error is None or task.uncancel() > 0:
                raise
            raise self._error from None
        finally:
            self._interrupt = None

    @contextmanager
    def stoppable(self, stop: Callable[[DeckError], None]) -> Iterator[None]:
        """While the block runs, a cancellation calls `stop` with the error for the requester."""
        self._check()
        self._stop = stop
        try:
            yield
        finally:
            self._stop = None

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def cancel(self, by: str, client: str = "") -> None:
        """Cancel it; `by` says who does, `client` by which front end. Raises Conflict."""
        if self._ended:
            raise Conflict(f"That request has ended: it is {self.info.state}.")
        self._error = Cancelled(f"The request was cancelled by {by}.", "Ask again if need be.")
        self.end("cancelled", cancelled_by=by, canceller=client)
        if self._interrupt is not None:
            self._interrupt()
        elif self._stop is not None:
            self._stop(self._error)


class RequestRecords:
    """All requests, and their records in State."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._live: dict[str, RequestTicket] = {}
        self._ended: deque[str] = deque()
        """Ids of ended requests in State, the oldest first."""
        self._dirty: dict[str, RequestTicket] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self.on_arrival: Callable[[RequestInfo], None] = lambda info: None
        """Called with each request when it comes."""

    def close(self) -> None:
        """Commit no more changes."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()

    @contextmanager
    def opened(
        self,
        model: Model,
        requester: Requester,
        kind: Literal["text", "embedding", "ranking"] = "text",
        request: GenerateRequest | None = None,
    ) -> Iterator[RequestTicket]:
        """Keep the record of a request during the block; how the block ends is how it ended.

        One that is refused as busy leaves no record: a burst of them would push out all others. Nor
        does one of a benchmark.
        """
        info = RequestInfo(
            id=uuid.uuid4().hex[:12],
            model_id=model.id,
            unique=model.unique,
            who=requester.who,
            dialect=requester.dialect,
            priority=requester.priority,
            client=requester.client,
            origin=requester.origin,
            program=requester.program,
            kind=kind,
            max_tokens=request.max_tokens if request else None,
            temperature=request.temperature if request else None,
            tools=len(request.tools) if request else 0,
            since=now(),
            state="waiting",
        )
        ticket = self._live[info.id] = RequestTicket(info, self._changed)
        self._changed(ticket)
        self.on_arrival(info)
        try:
            yield ticket
        except Busy:
            self._forget(ticket)
            raise
        except DeckError as error:
            ticket.fail(error)
            raise
        except (asyncio.CancelledError, GeneratorExit):
            ticket.end("left")
            raise
        except Exception:
            ticket.end("failed", error_code="error")
            raise
        finally:
            ticket.end("left")
            del self._live[info.id]
            if info.dialect == BENCH_DIALECT:
                self._forget(ticket)

    def list(self) -> tuple[RequestInfo, ...]:
        """The requests as they are now, in the order of their arrival."""
        dirty = {key: ticket.info for key, ticket in self._dirty.items()}
        return tuple({**self._feed.state.requests, **dirty}.values())

    def for_whom(self, instance_id: str) -> tuple[str, ...]:
        """For whom an instance has requests that run or wait, one entry for each."""
        live = (info for info in self.list() if info.live)
        return tuple(info.who for info in live if info.instance_id == instance_id)

    def get(self, key: str) -> RequestInfo:
        """A request that runs or waits, or one of the last that ended. Raises NotFound."""
        found = {info.id: info for info in self.list()}.get(key)
        if found is None:
            raise NotFound(f"There is no request {key[:40]!r}.", "`modeldeck requests`")
        return found

    def cancel(self, key: str, by: str, client: str = "") -> RequestInfo:
        """Cancel a request: see `RequestTicket.cancel`. Raises NotFound, and Conflict."""
        ticket = self._live.get(key)
        if ticket is None:
            raise Conflict(f"That request has ended: it is {self.get(key).state}.")
        ticket.cancel(by, client)
        return ticket.info

    # Changes

    def _forget(self, ticket: RequestTicket) -> None:
        """Drop the record of a request that was not taken."""
        ticket.discard()
        self._dirty.pop(ticket.id, None)
        if ticket.id in self._feed.state.requests:
            self._feed.commit(RequestRemoved, id=ticket.id)

    def _changed(self, ticket: RequestTicket) -> None:
        self._dirty[ticket.id] = ticket
        if self._timer is None and not self._closed:
            self._flush()

    def _flush(self) -> None:
        """Commit what has changed, and again after the interval while there are changes."""
        self._timer = None
        if not self._dirty:
            return
        dirty, self._dirty = self._dirty, {}
        changed = {key: ticket.info for key, ticket in dirty.items()}
        ended = [info for info in changed.values() if not info.live]
        self._count(ended)
        self._ended.extend(info.id for info in ended)
        surplus = {self._ended.popleft() for _ in range(len(self._ended) - KEPT)}
        for key, info in changed.items():
            if key not in surplus:
                self._feed.commit(RequestChanged, request=info)
        for key in surplus & self._feed.state.requests.keys():
            self._feed.commit(RequestRemoved, id=key)
        self._timer = asyncio.get_running_loop().call_later(INTERVAL_S, self._flush)

    def _count(self, ended: Sequence[RequestInfo]) -> None:
        """Count requests that ended, on the day of their end."""
        if not ended:
            return
        totals = self._feed.state.requests_today
        for info in ended:
            totals = totals.with_ended(info, f"{datetime.now().astimezone():%Y-%m-%d}")
        self._feed.commit(RequestsTodayChanged, totals=totals)
