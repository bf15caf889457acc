"""What differs from run to run and from machine to machine, held still; all else is as it comes.

Records pass through `frozen` on their way from the real core to the dashboard: sizes of the
machine, rates, times, process numbers and addresses are replaced, by values that might have been.
Which models and jobs there are, what state they are in, what a plan or a model answers: that is
never touched. Clocks that the screens read stand still.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import fields, is_dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import pairwise
from math import ceil
from typing import Any, TypeVar

from modeldeck.core.client.client import Client
from modeldeck.core.client.feed import FeedReader
from modeldeck.core.config.config import RuntimeSettings
from modeldeck.core.errors import CoreUnreachable, DeckError
from modeldeck.core.memory import estimate
from modeldeck.core.schema import (
    AuditEntry,
    CacheListing,
    CacheRepository,
    Chunk,
    DeletionPlan,
    Disk,
    Download,
    Fit,
    Forecast,
    GenerateRequest,
    Host,
    Instance,
    LoadOptions,
    LoadPlan,
    LogLine,
    Memory,
    Model,
    Repository,
    Runtime,
    SearchResult,
    Settings,
)
from modeldeck.core.schema.state import Event, State
from modeldeck.tui.dashboard.widgets.bars import History

T = TypeVar("T")

NOW = datetime(2026, 3, 14, 15, 9, 26, tzinfo=UTC)
AT = NOW.isoformat(timespec="milliseconds").replace("+00:00", "Z")
GIB = 1 << 30
CACHE = "/home/deck/.cache/huggingface/hub"
FREE = int(45.8 * GIB)
RESERVE = RuntimeSettings().memory_reserve_bytes
JUDGED = ("fits", "tight", "too large")

_HELD: dict[type, dict[str, Any]] = {
    Host: {
        "name": "gpubox", "version": "0.1.0", "started_at": AT, "id": "", "pid": 4242,
        "platform": "Linux", "urls": ("http://127.0.0.1:5323",), "socket": "/run/core.sock",
        "hub": "https://hub.example",
    },
    Memory: {
        "total_bytes": 64 * GIB, "available_bytes": FREE, "swap_used_bytes": 0,
        "budget_bytes": 48 * GIB, "gpus": (),
    },
    Disk: {"path": CACHE, "free_bytes": 212_000_000_000,
           "cache_bytes": 29_400_000, "partial_bytes": 24_600_000},
    Runtime: {"why_not": None},
    Settings: {"disk_floor_bytes": 0},
    Fit: {"available_bytes": FREE},
    Instance: {
        "pid": 4711, "load_s": 0.5, "idle_s": 12.0, "tokens_per_s": 31.4,
        "time_to_first_token_s": 0.04, "started_at": AT,
    },
    Download: {"created_at": AT, "seconds": 2.0},
    LogLine: {"at": AT},
}  # fmt: skip

VERSIONS = {"llama.cpp": "0.3.36", "mlx": None}

COURSE = ((520, 9.2), (440, 9.6), (400, 14.8), (290, 15.1), (250, 21.3), (120, 12.4), (60, 18.2))
"""For how many seconds before `NOW` there was how much memory in use, in GiB, until the next."""
OVERHEAD = 50 << 20
SHARE = 0.37
"""Of a file that is on its way."""
PARTIAL = 24_600_000
RATE = 41_000_000.0
TOOK_S = 0.12
"""Of the slowest machine that says how it would serve a model."""


def frozen(value: T) -> T:
    """The record, and every record in it, with what varies held still."""
    made: Any = value
    if isinstance(made, tuple):
        made = tuple(map(frozen, made))
    elif isinstance(made, Mapping):
        made = {key: frozen(inner) for key, inner in made.items()}
    elif is_dataclass(made) and not isinstance(made, type):
        known = {f.name: frozen(getattr(made, f.name)) for f in fields(made)}
        held = {k: v for k, v in _HELD.get(type(made), {}).items() if known[k] not in (None, "")}
        made = _derived(replace(made, **known | held))
    return made  # type: ignore[no-any-return] # of the type that it was


def _derived(made: Any) -> Any:
    """What follows from other fields of the record, or lies in a folder of this run."""
    if isinstance(made, Model) and made.path:
        return replace(made, path=re.sub(r"^.*/hf/hub/", f"{CACHE}/", made.path))
    if isinstance(made, Runtime):
        version = VERSIONS.get(made.name)
        return replace(made, version=version, available=version is not None)
    if isinstance(made, Forecast):  # what an engine takes besides is learned from each load
        total = made.total_bytes - made.overhead_bytes + OVERHEAD
        return replace(made, overhead_bytes=OVERHEAD, total_bytes=total)
    if isinstance(made, Fit) and made.forecast is not None and made.verdict in JUDGED:
        # The core judged by the memory of the machine that takes the pictures.
        fit = estimate.judge(made.forecast, FREE, RESERVE)
        return replace(made, verdict=fit.verdict, reason=fit.reason)
    if isinstance(made, LoadPlan) and made.verdict in JUDGED:
        has_room = estimate.judge(made.forecast, FREE, RESERVE).verdict in ("fits", "tight")
        return replace(made, verdict="fits" if has_room else "too large")
    if isinstance(made, Instance) and made.forecast is not None and made.measured_bytes:
        measured = int(made.forecast.total_bytes * 0.986)
        return replace(
            made, measured_bytes=measured, peak_bytes=measured, private_bytes=measured,
            context_used=made.context_length,
        )  # fmt: skip
    if isinstance(made, Download):
        if made.finished_at:
            made = replace(made, finished_at=AT)
        if made.state in ("downloading", "paused"):
            arrived = ceil(made.total_bytes * SHARE)
            made = replace(
                made,
                received_bytes=arrived,
                verified_bytes=0,
                files=tuple(
                    replace(f, received_bytes=ceil(f.size_bytes * SHARE)) for f in made.files
                ),
            )
        if made.state == "downloading":
            left = made.total_bytes - made.received_bytes
            return replace(made, rate_bytes_per_s=RATE, eta_s=left / RATE)
        return replace(made, rate_bytes_per_s=None, eta_s=None)
    return made


class FrozenFeed(FeedReader):
    """The feed of a core, with values that do not change from one run to the next."""

    @asynccontextmanager
    async def watch(
        self,
        *,
        max_hz: float | None = None,
        patience_s: float | None = None,
        lost: Callable[[CoreUnreachable, float], None] | None = None,
    ) -> AsyncIterator[AsyncIterator[State | Event]]:
        """The feed, frozen."""

        def gone(_: CoreUnreachable, wait_s: float) -> None:
            if lost is not None and wait_s >= 3:
                lost(CoreUnreachable("The core went away."), 3.0)

        async with super().watch(max_hz=max_hz, patience_s=patience_s, lost=gone) as items:

            async def each() -> AsyncIterator[State | Event]:
                async for item in items:
                    yield frozen(item)

            yield each()


class FrozenClient(Client):
    """The client of a core, with answers that do not change from one run to the next."""

    @cached_property
    def feed(self) -> FrozenFeed:
        """The feed, frozen."""
        return FrozenFeed(self._core)

    @property
    def latency_s(self) -> float | None:
        """None: it varies."""
        return None

    async def plan_load(self, ref: str, options: LoadOptions, **how: bool) -> LoadPlan:
        """The plan, frozen."""
        return frozen(await super().plan_load(ref, options, **how))

    async def fits(self, context_length: int | None = None) -> dict[str, Fit]:
        """The verdicts, frozen."""
        return frozen(await super().fits(context_length))

    async def fit(self, ref: str, context_length: int | None = None) -> Fit:
        """The verdict, frozen."""
        return frozen(await super().fit(ref, context_length))

    async def search(self, query: str, limit: int | None = None) -> SearchResult:
        """What the Hub found; its address varies."""
        try:
            found = await super().search(query, limit)
        except DeckError as error:
            raise type(error)(without_addresses(error.message), error.remedy) from None
        return replace(found, error=without_addresses(found.error) if found.error else None)

    async def repository(self, repo: str, revision: str | None = None) -> Repository:
        """A repository; as it is."""
        return await super().repository(repo, revision)

    async def plan_deletion(self, refs: Any) -> DeletionPlan:
        """A plan; its folder varies."""
        plan = await super().plan_deletion(refs)
        shown = tuple(
            replace(i, path=re.sub(r"^.*/hf/hub/", f"{CACHE}/", i.path)) for i in plan.delete
        )
        return replace(plan, delete=shown)

    async def cache(self) -> CacheListing:
        """What the cache holds; when it was used, and what of it is on its way, varies."""
        listing = await super().cache()
        used_at = FrozenTime.monotonic() - 5 * 3600

        def held(repo: CacheRepository) -> CacheRepository:
            revisions = tuple(replace(each, used_at=used_at) for each in repo.revisions)
            partial = PARTIAL if repo.partial_bytes else 0
            return replace(repo, revisions=revisions, used_at=used_at, partial_bytes=partial)

        # The one that is paused has begun, or has not.
        begun = (r for r in listing.repositories if r.revisions or r.partial_bytes > 1 << 20)
        return CacheListing(path=CACHE, repositories=tuple(map(held, begun)))

    async def audit_trail(self, limit: int = 200) -> list[AuditEntry]:
        """The audit trail, frozen."""
        return [
            replace(
                entry,
                at=(NOW - timedelta(seconds=10 * age)).isoformat(),
                origin=re.sub(r"uid=\d+( pid=\d+)?", "uid=1000", entry.origin),
            )
            for age, entry in enumerate(await super().audit_trail(limit))
        ]

    async def log(
        self, after: int = 0, limit: int = 500, source: str | None = None
    ) -> list[LogLine]:
        """None: what a log says differs in more than its figures."""
        return []

    def generate(
        self, ref: str, request: GenerateRequest
    ) -> AbstractAsyncContextManager[AsyncIterator[Chunk]]:
        """An answer, with the counts of a machine that stands still."""
        return self._slowly(ref, request)

    @asynccontextmanager
    async def _slowly(
        self, ref: str, request: GenerateRequest
    ) -> AsyncIterator[AsyncIterator[Chunk]]:
        async with super().generate(ref, request) as chunks:

            async def each() -> AsyncIterator[Chunk]:
                async for chunk in chunks:
                    if chunk.finish_reason:
                        chunk = replace(chunk, tokens_per_s=31.4, time_to_first_token_s=0.04)
                    yield chunk

            yield each()


def lived(past: History) -> None:
    """The minutes before `NOW`, of a machine on which models came and went."""
    now = int(FrozenTime.monotonic())
    for (ago, gib), (until, _) in pairwise((*COURSE, (0, 0.0))):
        for at in range(now - ago, now - until):
            past.add(at, gib * GIB)


def without_addresses(text: str) -> str:
    """The text with addresses on this machine told as one."""
    return re.sub(r"(?:https?://)?127\.0\.0\.1:\d+", "https://hub.example", text)


class FrozenTime:
    """Stands in for the module `time` of the screens."""

    @staticmethod
    def monotonic() -> float:
        """Always the same."""
        return 1000.0

    time = perf_counter = monotonic


class FrozenMoment:
    """Stands in for the module `time` where moments are kept."""

    @staticmethod
    def time() -> float:
        """Always the same, in seconds since the epoch."""
        return NOW.timestamp()


class FrozenDatetime(datetime):
    """Stands in for `datetime` of the dashboard."""

    @classmethod
    def now(cls, tz: Any = None) -> datetime:  # type: ignore[override] # one moment for all
        """Always the same."""
        return NOW


def stop_clocks() -> None:
    """Hold the clocks that the screens read."""
    import textual._wait

    import modeldeck.tui.chats.chat
    import modeldeck.tui.chats.session
    import modeldeck.tui.dashboard.message_display
    import modeldeck.tui.dashboard.screens.chat.asking
    import modeldeck.tui.dashboard.screens.chat.chat_list
    import modeldeck.tui.dashboard.screens.chat.turns
    import modeldeck.tui.dashboard.screens.disk.screen
    import modeldeck.tui.dashboard.screens.downloads.screen
    import modeldeck.tui.dashboard.screens.fleet.question
    import modeldeck.tui.dashboard.screens.memory.history
    import modeldeck.tui.dashboard.screens.memory.screen
    import modeldeck.tui.dashboard.widgets.status_bar
    import modeldeck.tui.remote.core_link

    screens = (
        modeldeck.tui.remote.core_link, modeldeck.tui.dashboard.screens.disk.screen,
        modeldeck.tui.dashboard.screens.downloads.screen,
        modeldeck.tui.dashboard.screens.fleet.question,
        modeldeck.tui.dashboard.screens.memory.screen,
        modeldeck.tui.dashboard.widgets.status_bar,
        modeldeck.tui.dashboard.screens.chat.turns,
    )  # fmt: skip
    clocks: list[tuple[object, str, object]] = [
        (screen, "time", FrozenTime()) for screen in screens
    ]
    moments = (
        modeldeck.tui.chats.chat, modeldeck.tui.chats.session,
        modeldeck.tui.dashboard.screens.chat.asking,
    )  # fmt: skip
    clocks += [(module, "time", FrozenMoment()) for module in moments]
    # A pilot waits until the dashboard is idle, not the hub in the thread beside it.
    idle = (textual._wait, "process_time", time.thread_time)
    clocks += [
        (module, "datetime", FrozenDatetime)
        for module in (
            modeldeck.tui.dashboard.message_display, modeldeck.tui.dashboard.screens.chat.chat_list,
            modeldeck.tui.dashboard.screens.memory.history,
            modeldeck.tui.dashboard.screens.memory.screen,
        )
    ]  # fmt: skip
    asked = modeldeck.tui.dashboard.screens.fleet.question.ServingQuestion
    took = (asked, "took_s", lambda *_: TOOK_S)
    for module, name, held in [*clocks, idle, took]:
        setattr(module, name, held)
