"""What a benchmark measures, and its figures from what was timed. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from modeldeck.core.schema import BenchRow, Instance

RUNS = 3
"""Runs of each measurement; the median counts."""
SHORT, LONG = 512, 4096
"""Tokens of the prompts."""
WRITTEN = 128
"""Tokens of the answers."""
LEAST_PROMPT = 64
"""Tokens of a prompt that are too few to time the reading of."""
MARGIN = 16
"""Tokens of the context that are left free: prompts are a few longer or shorter than wished."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """Requests that are made at once, several times."""

    at_once: int
    prompt_tokens: int
    written_tokens: int
    long: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerTimes:
    """One answer, timed from the moment when all requests of its run were made."""

    prompt_tokens: int
    """Tokens of the prompt that were read, not found in a cache."""
    written_tokens: int
    first_s: float
    end_s: float


def counts(wished: Sequence[int], parallel: int) -> tuple[int, ...]:
    """Numbers of requests at once: the wished ones, else one and up to four.

    >>> counts((), 8), counts((), 1), counts((8,), 8)
    ((1, 4), (1,), (8,))
    """
    return tuple(sorted(set(wished or (1, min(4, parallel)))))


def measurements(at_once: Iterable[int], instance: Instance) -> tuple[Measurement, ...]:
    """What to measure with a loaded model; prompts that its context has no room for are left out.

    A short prompt is shorter where the context is small.
    """
    found = []
    for count in at_once:
        room = _room(instance, count) - MARGIN
        short = min(SHORT, room - WRITTEN)
        if short < LEAST_PROMPT:
            continue
        found.append(
            Measurement(at_once=count, prompt_tokens=short, written_tokens=WRITTEN, long=False)
        )
        if room > LONG:
            found.append(
                Measurement(at_once=count, prompt_tokens=LONG, written_tokens=1, long=True)
            )
    return tuple(found)


def _room(instance: Instance, count: int) -> int:
    """Tokens that each of several requests may have."""
    length = instance.context_length or 0
    shared = instance.cache_tokens
    return length if shared is None else min(length, shared // count)


def row(short: Sequence[Sequence[AnswerTimes]], long: Sequence[Sequence[AnswerTimes]]) -> BenchRow:
    """The figures of the runs with short and with long prompts, each with its answers.

    `long` may be empty.
    """
    figures = [
        _rates(short, _read_rate),
        _rates(long, _read_rate),
        _rates(short, _write_rate),
        _rates(short, lambda answers: max(answer.first_s for answer in answers)),
    ]
    prompt, long_prompt, written, first = (median(each) if each else None for each in figures)
    answers = [answer for run in short for answer in run]
    return BenchRow(
        at_once=len(short[0]),
        prompt_tokens_per_s=prompt,
        long_prompt_tokens_per_s=long_prompt,
        tokens_per_s=written,
        time_to_first_token_s=first or 0.0,
        prompt_tokens=round(median(answer.prompt_tokens for answer in answers)),
        long_prompt_tokens=(
            round(median(answer.prompt_tokens for run in long for answer in run)) if long else None
        ),
        written_tokens=round(sum(answer.written_tokens for answer in answers) / len(answers)),
        spread=max(map(spread, figures[:3])),
    )


def _rates(
    runs: Sequence[Sequence[AnswerTimes]],
    figure: Callable[[Sequence[AnswerTimes]], float | None],
) -> list[float]:
    return [found for run in runs if (found := figure(run)) is not None]


def _read_rate(answers: Sequence[AnswerTimes]) -> float | None:
    """Tokens of all prompts, by the time until the last one had its first token."""
    took_s = max(answer.first_s for answer in answers)
    tokens = sum(answer.prompt_tokens for answer in answers)
    return tokens / took_s if took_s > 0 and tokens else None


def _write_rate(answers: Sequence[AnswerTimes]) -> float | None:
    """Tokens after the first of each answer, by the time from the first one to the last end."""
    took_s = max(answer.end_s for answer in answers) - min(answer.first_s for answer in answers)
    tokens = sum(answer.written_tokens - 1 for answer in answers)
    return tokens / took_s if took_s > 0 and tokens > 0 else None


def spread(values: Sequence[float]) -> float:
    """Difference between the largest and the least, as a fraction of the median.

    >>> spread([10.0, 11.0, 12.0]), spread([])
    (0.18181818181818182, 0.0)
    """
    return (max(values) - min(values)) / median(values) if values and median(values) else 0.0
