"""Runs benchmarks, one at a time, through the way that every request to a model takes.

Theory of operation. A benchmark gives way: it begins when no request to any model runs, and ends at
once when one comes, since both would be slower and its figures wrong. Its own requests have the
dialect `bench` and the lowest priority; they leave no record and nothing in caches. They are kept
in the core's database, as they tell of this machine and every front end shows them.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import msgspec

from modeldeck.core.concurrency import BackgroundTasks, together
from modeldeck.core.errors import (
    Cancelled,
    Conflict,
    DeckError,
    EngineFailed,
    InvalidRequest,
    NotFound,
)
from modeldeck.core.schema import (
    Bench,
    BenchProgress,
    BenchRow,
    BenchState,
    BenchWish,
    GenerateRequest,
    Instance,
    InstanceState,
    LoadOptions,
    Model,
    ModelSpeed,
    Requester,
    RequestInfo,
    TokenQuery,
)
from modeldeck.core.schema.clock import now
from modeldeck.core.schema.errors import to_info
from modeldeck.core.schema.state import BenchChanged
from modeldeck.core.service.bench import figures
from modeldeck.core.service.bench.figures import AnswerTimes, Measurement
from modeldeck.core.service.feed import Feed
from modeldeck.core.service.inference.answers import ModelAnswers
from modeldeck.core.service.inference.request_records import BENCH_DIALECT, RequestRecords
from modeldeck.core.storage.database import Database

T = TypeVar("T")

KEPT = 500
"""Benchmarks that are kept; the oldest go first."""
IDLE_HZ = 4.0
"""Looks a second at the requests that a benchmark waits for."""
TEXT = "The quick brown fox jumps over the lazy dog and counts one two three four five six seven. "
"""What prompts are made of; each begins with other letters, so that no cache has it."""
_WHO = Requester(origin="bench", who="bench", dialect=BENCH_DIALECT, priority="batch")


class BenchRuns:
    """Runs benchmarks and keeps their figures."""

    def __init__(
        self,
        *,
        feed: Feed,
        store: Database,
        answers: ModelAnswers,
        records: RequestRecords,
        tasks: BackgroundTasks,
        load: Callable[[str, int | None, str], Awaitable[Instance]],
        measured: Callable[[Mapping[str, ModelSpeed]], None],
    ) -> None:
        """`load` loads a model, for a number of requests at once or as usual, until it is ready.

        `measured` is told the newest figures of each model, by its id.
        """
        self._feed = feed
        self._store = store
        self._answers = answers
        self._records = records
        self._tasks = tasks
        self._load = load
        self._measured = measured
        self._kept: list[Bench] = []
        self._running: asyncio.Task[None] | None = None
        self._stopped: Cancelled | None = None
        """Why the one that runs was stopped."""
        records.on_arrival = self._request_came

    async def open(self) -> None:
        """Read what was kept."""
        self._kept = [bench for _, bench in await self._store.records("benches", Bench)]
        self._tell()

    def benches(self, model_id: str | None = None) -> tuple[Bench, ...]:
        """Benchmarks that were kept, newest first; of one model, or of all."""
        wanted = [b for b in self._kept if model_id in (None, b.model_id)]
        return tuple(sorted(wanted, key=lambda bench: bench.at, reverse=True))

    def start(
        self, model: Model, instance: Instance | None, wish: BenchWish, origin: str
    ) -> BenchProgress:
        """Begin a benchmark; its progress is in `State.bench`.

        `instance` is the model's, if it is loaded. Raises Conflict while another one runs, and for
        a model that is not loaded unless it may be; InvalidRequest for one that writes no text, or
        does not answer as many requests at once.
        """
        running = self._feed.state.bench
        if running is not None and running.live:
            raise Conflict(
                f"A benchmark of {running.unique} runs.", "Wait for its end, or cancel it."
            )
        if not model.generates_text:
            raise InvalidRequest(f"{model.name} writes no text, so there is nothing to time.")
        loaded = instance is not None and instance.state is not InstanceState.STARTING
        if not loaded and not wish.load:
            raise Conflict(f"{model.name} is not loaded.", "Load it, or let the benchmark do it.")
        if loaded and instance is not None:
            _check_counts(wish.at_once, model, instance)
        progress = BenchProgress(
            id=uuid.uuid4().hex[:12], model_id=model.id, unique=model.unique, origin=origin,
            state="waiting", steps=2 * len(figures.counts(wish.at_once, 4)),
        )  # fmt: skip
        self._stopped = None
        self._publish(progress)
        most = max(wish.at_once, default=None)
        work = self._measure(progress, model, wish, None if loaded else most)
        self._tasks.start(self._run(work), name="a benchmark")
        return progress

    def cancel(self, by: str) -> BenchProgress:
        """Stop the benchmark that runs. Raises NotFound."""
        if (progress := self._stop(f"{by} cancelled it.", "")) is None:
            raise NotFound("No benchmark runs.", "`modeldeck bench MODEL` begins one.")
        return progress

    def _request_came(self, info: RequestInfo) -> None:
        """Make way for a request to a model."""
        progress = self._feed.state.bench
        if info.dialect != BENCH_DIALECT and progress is not None and progress.state == "measuring":
            self._stop(f"{info.who} asked {info.unique}.", "Run it again when nothing else asks.")

    def _stop(self, why: str, remedy: str) -> BenchProgress | None:
        progress = self._feed.state.bench
        if progress is None or not progress.live:
            return None
        if self._stopped is None:
            self._stopped = Cancelled(f"The benchmark was stopped: {why}", remedy)
            if self._running is not None:
                self._running.cancel()
        return progress

    # A benchmark

    async def _run(self, work: Coroutine[Any, Any, None]) -> None:
        """Do the work of a benchmark, and publish how it ended."""
        self._running = asyncio.current_task()
        try:
            if self._stopped is not None:
                work.close()
                raise self._stopped
            await work
        except asyncio.CancelledError:
            why = self._stopped or Cancelled("The benchmark was stopped: the core ends.")
            self._end("stopped", why)
            if self._stopped is None:
                raise
        except DeckError as error:
            self._end("stopped" if isinstance(error, Cancelled) else "failed", error)
        except Exception:
            self._end("failed", EngineFailed("modeldeck itself failed.", "See the log."))
            raise
        finally:
            self._running = None

    def _end(self, state: BenchState, error: DeckError) -> None:
        progress = self._feed.state.bench
        assert progress is not None
        self._publish(replace(progress, state=state, waits_for="", error=to_info(error)))

    async def _measure(
        self, progress: BenchProgress, model: Model, wish: BenchWish, parallel: int | None
    ) -> None:
        """Load the model if need be, measure, and keep the figures."""
        progress = await self._until_idle(progress)
        progress = self._publish(replace(progress, state="loading", waits_for=""))
        instance = await self._load(model.id, parallel, progress.origin)
        _check_counts(wish.at_once, model, instance)
        steps = figures.measurements(figures.counts(wish.at_once, instance.parallel), instance)
        if not steps:
            raise InvalidRequest(
                f"The context of {model.name} has no room for a benchmark.",
                "Load it with 1k or more.",
            )
        progress = await self._until_idle(progress)
        progress = self._publish(replace(progress, state="measuring", steps=len(steps)))
        began = time.monotonic()
        per_token = await self._letters_per_token(model)
        await self._timed(
            model, instance, replace(steps[0], prompt_tokens=16), per_token
        )  # warms up
        found: dict[Measurement, list[list[AnswerTimes]]] = {}
        for number, step in enumerate(steps, 1):
            progress = self._publish(replace(progress, step=number))
            found[step] = [
                await self._timed(model, instance, step, per_token) for _ in range(figures.RUNS)
            ]
        bench = self._bench(progress, model, instance, found, time.monotonic() - began)
        await self._keep(bench)
        self._publish(replace(progress, state="done", result=bench))

    async def _until_idle(self, progress: BenchProgress) -> BenchProgress:
        """Wait until no request to a model runs or waits."""
        with self._feed.subscribe(IDLE_HZ, watching=False) as subscription:
            async for _ in subscription.batches():
                others = [
                    r.who for r in self._records.list() if r.live and r.dialect != BENCH_DIALECT
                ]
                if not others:
                    break
                who = ", ".join(dict.fromkeys(others))
                if (progress.state, progress.waits_for) != ("waiting", who):
                    progress = self._publish(replace(progress, state="waiting", waits_for=who))
        return progress

    async def _letters_per_token(self, model: Model) -> float:
        text = TEXT * 20
        query = TokenQuery(text=text, count_only=True)
        return len(text) / max(1, (await self._answers.tokens(model, query, _WHO, None)).count)

    async def _timed(
        self, model: Model, instance: Instance, step: Measurement, per_token: float
    ) -> list[AnswerTimes]:
        """Make the requests of one run at once; return the times of each."""
        now_loaded = self._feed.state.instances.get(instance.id)
        if now_loaded is None or not now_loaded.state.live:
            raise Cancelled(
                f"The benchmark was stopped: {model.name} was unloaded.", "Run it again."
            )
        began = time.monotonic()
        return await together(
            self._answer(model, step, per_token, began) for _ in range(step.at_once)
        )

    async def _answer(
        self, model: Model, step: Measurement, per_token: float, began: float
    ) -> AnswerTimes:
        length = max(1, round(step.prompt_tokens * per_token))
        text = f"{uuid.uuid4().hex[:8]} {TEXT * (length // len(TEXT) + 1)}"
        request = GenerateRequest(
            prompt=text[:length], max_tokens=step.written_tokens, temperature=0.0, cache=False
        )
        first = read = written = None
        async with self._answers.text(model, request, _WHO, LoadOptions(), None) as reply:
            async for chunk in reply.chunks:
                if first is None and (chunk.text or chunk.thought or chunk.finish_reason):
                    first = time.monotonic() - began
                if chunk.finish_reason is not None:
                    read = (chunk.prompt_tokens or 0) - (chunk.cached_tokens or 0)
                    written = chunk.completion_tokens or 0
        end = time.monotonic() - began
        return AnswerTimes(
            prompt_tokens=read or 0,
            written_tokens=written or 0,
            first_s=first if first is not None else end,
            end_s=end,
        )

    # What is kept

    def _bench(
        self,
        progress: BenchProgress,
        model: Model,
        instance: Instance,
        found: Mapping[Measurement, Sequence[Sequence[AnswerTimes]]],
        seconds: float,
    ) -> Bench:
        state = self._feed.state
        engine = next((r for r in state.runtimes if r.name == instance.engine), None)
        return Bench(
            id=progress.id,
            model_id=model.id,
            unique=model.unique,
            revision=model.revision,
            machine=state.host.name,
            engine=instance.engine,
            engine_version=engine.version if engine else None,
            devices=engine.devices if engine else (),
            context_length=instance.context_length,
            options=instance.options,
            at=now(),
            seconds=seconds,
            runs=figures.RUNS,
            rows=_rows(found),
        )

    async def _keep(self, bench: Bench) -> None:
        await self._store.put("benches", bench.id, msgspec.json.encode(bench))
        self._kept.append(bench)
        while len(self._kept) > KEPT:
            await self._store.remove("benches", self._kept[0].id)
            del self._kept[0]
        self._tell()

    def _tell(self) -> None:
        self._measured({bench.model_id: _speed(bench) for bench in self._kept if bench.rows})

    def _publish(self, progress: BenchProgress) -> BenchProgress:
        if self._feed.state.bench != progress:
            self._feed.commit(BenchChanged, bench=progress)
        return progress


def _check_counts(at_once: Sequence[int], model: Model, instance: Instance) -> None:
    """Raise InvalidRequest for more requests at once than a loaded model answers."""
    most = max(at_once, default=1)
    if most > instance.parallel:
        raise InvalidRequest(
            f"{model.name} is loaded for {instance.parallel} at once, not for {most}.",
            f"`modeldeck load {model.unique} --parallel {most} --reload` loads it so.",
        )


def _rows(found: Mapping[Measurement, Sequence[Sequence[AnswerTimes]]]) -> tuple[BenchRow, ...]:
    """The figures, a row for each number of requests at once."""
    short = {step.at_once: runs for step, runs in found.items() if not step.long}
    long = {step.at_once: runs for step, runs in found.items() if step.long}
    return tuple(figures.row(runs, long.get(count, ())) for count, runs in short.items())


def _speed(bench: Bench) -> ModelSpeed:
    """The figures with one request, or with the least that was measured."""
    row = bench.rows[0]
    return ModelSpeed(
        tokens_per_s=row.tokens_per_s,
        prompt_tokens_per_s=row.prompt_tokens_per_s,
        context_length=bench.context_length,
        revision=bench.revision,
        at=bench.at,
    )
