"""Answers all requests in work, turn by turn: most of them in a batch, some alone."""

from __future__ import annotations

import time
from bisect import insort
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import msgspec

from modeldeck.core.errors import DeckError, EngineFailed
from modeldeck.core.runtime.engines.mlx.alone import AloneAnswer
from modeldeck.core.runtime.engines.mlx.answer import MlxAnswer
from modeldeck.core.runtime.engines.mlx.batch import LEAST_COPIED, AnswerBatch
from modeldeck.core.runtime.engines.mlx.model import MlxModel
from modeldeck.core.runtime.engines.mlx.prefix_cache import (
    NOTHING_FOUND,
    FoundPrefix,
    MlxPrefixCache,
    common_length,
    packed,
)
from modeldeck.core.runtime.engines.mlx.turn_order import (
    CROWDED,
    READING,
    InWork,
    must_leave,
    read_at_once,
    why_wait,
)
from modeldeck.core.runtime.process.messages import (
    CommandFailed,
    EngineReport,
    PromptProgress,
    RequestWaits,
)
from modeldeck.core.schema.errors import to_info

Held = tuple[list[int], list[Any]]
"""A text, and the caches that hold it."""


class MlxTurns:
    """The answers in work, and the prompt cache."""

    def __init__(self, model: MlxModel, cache_bytes: int, turn_s: float) -> None:
        """Begin without requests.

        Args:
            model: The model that answers.
            cache_bytes: Most bytes of caches to keep for later requests.
            turn_s: Seconds that prompts are read for at most while answers are written.
        """
        self._model = model
        self._turn_s = turn_s
        self.cache = MlxPrefixCache(cache_bytes, model)
        self._answers: dict[int, MlxAnswer] = {}
        """All requests in work, by number."""
        self._waiting: list[MlxAnswer] = []
        """Those that are not being written, in the order in which they came."""
        self._batch: AnswerBatch | None = None
        self._alone: AloneAnswer | None = None
        self._suspended: dict[int, AloneAnswer] = {}
        """Answers that were begun alone and are paused."""
        self._crowded = False
        self._token_s: float | None = None
        """Seconds that a token of a prompt took to read at last."""
        self._reports: list[EngineReport] = []

    # Requests

    def report(self, report: EngineReport) -> None:
        """Send a report with the end of this turn."""
        self._reports.append(report)

    def add(self, answer: MlxAnswer) -> None:
        """Take a request in."""
        if not self._answers:
            self._model.mx.reset_peak_memory()
        self._answers[answer.number] = answer
        self._waiting.append(answer)

    def cancel(self, number: int) -> None:
        """Forget a request."""
        answer = self._answers.pop(number, None)
        if answer is not None:
            with self._failures():
                self._keep(answer, self._leave(answer))
            self._crowded = False
            self._rest()

    def pause(self, number: int) -> None:
        """Leave a request out until `resume`; its caches are held for it meanwhile."""
        answer = self._answers.get(number)
        if answer is None or answer.paused:
            return
        answer.paused = True
        if self._alone is not None and self._alone.answer is answer:
            self._alone.suspend()
            self._suspended[number], self._alone = self._alone, None
            self._wait(answer)
        elif answer not in self._waiting:
            with self._failures():
                self._set_aside(answer)
            self._rest()

    def resume(self, number: int) -> None:
        """Go on with a request, when it is its turn."""
        if number in self._answers:
            self._answers[number].paused = False

    def shrink_cache(self, keep_bytes: int, *, stays: bool) -> None:
        """Drop kept caches beyond `keep_bytes`, and have mlx give their memory back.

        Where it `stays` so, that is the limit from now on.
        """
        self.cache.shrink(keep_bytes, stays=stays)
        self._model.mx.clear_cache()

    @property
    def working(self) -> bool:
        """Whether any request is not paused, or a report was not sent."""
        return bool(self._reports) or any(not answer.paused for answer in self._answers.values())

    def reset(self) -> None:
        """Forget all requests, and close what they are written with."""
        self._suspended.clear()
        self._answers.clear()
        self._waiting.clear()
        self._reports.clear()
        self._drop()
        self._rest()

    # Turns

    def step(self) -> list[EngineReport]:
        """Do one turn, and return its reports in order."""
        with self._failures():
            self._begin_more()
            if self._alone is not None:
                self._step_alone(self._alone)
            elif self._batch is not None:
                self._step_batch(self._batch)
        self._rest()
        reports, self._reports = self._reports, []
        return reports

    @contextmanager
    def _failures(self) -> Iterator[None]:
        """Report failures of mlx in the block, as for no memory, to what is being written."""
        try:
            yield
        except (RuntimeError, ValueError) as error:
            writing = [one for one in self._answers.values() if one not in self._waiting]
            self._drop()
            self._fail(writing, _engine_failed(error))

    def _drop(self) -> None:
        """Let go of what answers are written with, after a failure, whatever state it is in."""
        batch, self._batch = self._batch, None
        alone, self._alone = self._alone, None
        with suppress(RuntimeError, ValueError):
            if batch is not None:
                batch.close()
            if alone is not None:
                alone.suspend()

    def _step_alone(self, alone: AloneAnswer) -> None:
        answer = alone.answer
        before = answer.read
        found = alone.step()
        if found is None:
            self._tell_read(answer, before)
        else:
            self._take(answer, *found)

    def _step_batch(self, batch: AnswerBatch) -> None:
        reading = batch.reading
        before = reading.read if reading is not None else 0
        writers = len(batch.answers) - (reading is not None)
        started = time.perf_counter()
        written = batch.step(read_at_once(self._model.step, self._turn_s, self._token_s, writers))
        if reading is not None and reading.read > before:
            self._token_s = (time.perf_counter() - started) / (reading.read - before)
            self._tell_read(reading, before)
        for new in written:
            self._take(new.answer, new.token, new.likely, held=new.held)
        for answer in batch.answers:
            if answer.stuck and answer.failure is not None:
                self._fail([answer], answer.failure)
        self._make_room(batch)

    def _tell_read(self, answer: MlxAnswer, before: int) -> None:
        if answer.read > before:
            self.report(
                PromptProgress(
                    id=answer.number,
                    tokens=min(answer.read, answer.prompt_tokens),
                    cached_tokens=answer.cached or 0,
                    total_tokens=answer.prompt_tokens,
                )
            )

    def _take(self, answer: MlxAnswer, token: int, likely: Any, held: Held | None = None) -> None:
        """Add a token to an answer, and end it where it does not go on."""
        if answer.stuck and answer.failure is not None:
            self._fail([answer], answer.failure)
        elif not answer.take(token, likely):
            self._complete(answer, held)
        elif answer.failure is not None:
            self._fail([answer], answer.failure)

    # Beginning

    def _begin_more(self) -> None:
        """Begin the answers that wait, as far as there is room, in the order they came."""
        while True:
            first = next((answer for answer in self._waiting if not answer.paused), None)
            if first is None:
                return
            model = self._model
            why = why_wait(
                len(first.text),
                first.alone,
                self._in_work(but=first),
                model.parallel,
                model.cache_tokens,
            )
            if why is not None:
                self._tell_waiting(why)
                return
            self._waiting.remove(first)
            self._begin(first)

    def _in_work(self, but: MlxAnswer | None = None) -> InWork:
        """What is being written, and what is held for answers that wait, `but` for one."""
        rows = self._batch.answers if self._batch is not None else ()
        waiting = [one for one in self._waiting if one is not but]
        held = [len(one.aside[0]) for one in waiting if one.aside is not None]
        held += [len(alone.answer.text) for alone in self._suspended.values()]
        return InWork(
            lengths=tuple(len(answer.text) for answer in rows),
            held=sum(held),
            reading=self._batch is not None and self._batch.reading is not None,
            alone=self._alone.answer.alone if self._alone is not None else None,
            crowded=self._crowded,
        )

    def _tell_waiting(self, why: str) -> None:
        """Tell the requests that wait why, once."""
        for answer in self._waiting:
            if why != READING and why != answer.waits_for and not answer.paused:
                answer.waits_for = why
                self.report(RequestWaits(id=answer.number, why=why))

    def _begin(self, answer: MlxAnswer) -> None:
        answer.waits_for = ""
        if answer.alone is not None:
            self._alone = self._suspended.pop(answer.number, None)
            if self._alone is not None:
                self._alone.go_on()
                return
        found = self._find(answer)
        if answer.cached is None:
            answer.cached = found.tokens
        if answer.alone is not None:
            self._alone = AloneAnswer(self._model, answer, found)
        else:
            if self._batch is None:
                self._batch = AnswerBatch(self._model, self.cache.keep)
            self._batch.insert(answer, found)
        self._tell_read(answer, -1)

    def _find(self, answer: MlxAnswer) -> FoundPrefix:
        """The longest beginning of a text that is in a cache; the last token is always read."""
        text = answer.text[:-1]
        aside, answer.aside = answer.aside, None
        own = self._of_aside(aside, text) if aside is not None else NOTHING_FOUND
        found = max(own, self.cache.find(text), key=lambda one: one.tokens)
        if self._batch is not None:
            near = self._batch.find(text)
            if near.tokens >= found.tokens + LEAST_COPIED:
                return near
        return found

    def _of_aside(self, aside: Held, text: list[int]) -> FoundPrefix:
        """What an answer held while it was out of the batch, cut to its text."""
        tokens, caches = aside
        alike = common_length(packed(tokens), packed(text))
        if alike < len(tokens):
            if not alike or not self._model.can_cut(caches):
                return NOTHING_FOUND
            self._model.cut(caches, len(tokens) - alike)
        return FoundPrefix(tokens=alike, caches=caches)

    # Waiting again

    def _make_room(self, batch: AnswerBatch) -> None:
        """Have the youngest answers wait, as long as all together hold too many tokens."""
        limit = self._model.cache_tokens
        for answer in reversed(self._waiting):
            if answer.aside is not None and must_leave(self._in_work(), limit):
                self._keep(answer, answer.aside)
                answer.aside = None
        while must_leave(self._in_work(), limit):
            youngest = max(batch.answers, key=self._place)
            self._crowded = True
            self._set_aside(youngest)
            if youngest.aside is not None:
                self._keep(youngest, youngest.aside)
                youngest.aside = None
            if youngest.number in self._answers:
                youngest.waits_for = CROWDED
                self.report(RequestWaits(id=youngest.number, why=CROWDED))

    def _place(self, answer: MlxAnswer) -> int:
        """The place of an answer in the order in which requests came."""
        return list(self._answers).index(answer.number)

    def _set_aside(self, answer: MlxAnswer) -> None:
        """Leave an answer out of the batch, with what it holds."""
        held = self._leave(answer)
        if not answer.take_ahead():
            self._complete(answer, held)
            return
        if held is not None:
            self._model.hold(held[1])
        answer.aside = held
        self._wait(answer)

    def _wait(self, answer: MlxAnswer) -> None:
        insort(self._waiting, answer, key=self._place)

    # Ending

    def _complete(self, answer: MlxAnswer, held: Held | None) -> None:
        """Report the end of an answer, and keep its caches."""
        self._keep(answer, self._leave(answer) or held)
        done = answer.complete()
        self._end(answer)
        del held
        self.report(
            msgspec.structs.replace(
                done,
                engine_bytes=self._model.mx.get_active_memory(),
                engine_peak_bytes=self._model.mx.get_peak_memory(),
                prefix_cache_bytes=self.cache.size_bytes,
            )
        )

    def _fail(self, answers: list[MlxAnswer], error: DeckError) -> None:
        """Report that answers cannot go on."""
        for answer in answers:
            if answer.number in self._answers:
                try:
                    self._leave(answer)
                finally:
                    self._end(answer)
                self.report(CommandFailed(id=answer.number, error=to_info(error)))

    def _leave(self, answer: MlxAnswer) -> Held | None:
        """Stop writing an answer; return its text and caches, where it had any."""
        if answer in self._waiting:
            self._waiting.remove(answer)
        aside, answer.aside = answer.aside, None
        alone = self._suspended.pop(answer.number, None)
        if self._alone is not None and self._alone.answer is answer:
            alone, self._alone = self._alone, None
        if alone is not None:
            return alone.close()
        if self._batch is not None and answer in self._batch.answers:
            return self._batch.remove(answer, keep=True)
        return aside

    def _end(self, answer: MlxAnswer) -> None:
        self._answers.pop(answer.number, None)
        self._crowded = False

    def _keep(self, answer: MlxAnswer, held: Held | None) -> None:
        """Keep what an answer has read for later requests, unless it asked not to."""
        if held is not None and answer.request.cache:
            self.cache.keep(*held, "assistant")

    def _rest(self) -> None:
        """Close what nothing is written with, and free what mlx keeps for reuse."""
        if self._batch is not None and not self._batch.answers:
            self._batch.close()
            self._batch = None
        if not self._answers:
            self._model.mx.clear_cache()


def _engine_failed(error: Exception) -> EngineFailed:
    return EngineFailed(
        f"mlx could not go on: {' '.join(str(error).split())}.",
        "Send less, or unload another model." if "alloc" in str(error) else "",
    )
