"""Benchmarks of models: how fast this machine reads prompts with them, and writes answers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from modeldeck.core.schema.errors import ErrorInfo
from modeldeck.core.schema.models import Engine
from modeldeck.core.schema.runtime import LoadOptions

BenchState = Literal["waiting", "loading", "measuring", "done", "stopped", "failed"]
"""`stopped` is one that a person or a request to a model ended."""

LIVE_BENCH = ("waiting", "loading", "measuring")
"""States of a benchmark that has not ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchRow:
    """Figures with a number of requests at once: medians of the runs."""

    at_once: int
    prompt_tokens_per_s: float | None
    """Tokens of short prompts that were read in a second, of all requests together."""
    long_prompt_tokens_per_s: float | None
    """The same of long prompts; None where the context has no room for them."""
    tokens_per_s: float | None
    """Tokens that were written in a second, of all requests together; None where the model ended
    its answers at once."""
    time_to_first_token_s: float
    """After a short prompt; of the slowest of the requests."""
    prompt_tokens: int
    """Length of the short prompts."""
    long_prompt_tokens: int | None
    """Length of the long ones."""
    written_tokens: int
    """Length of the answers, on average."""
    spread: float = 0.0
    """Largest difference between two runs of one of these figures, as a fraction of its median."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """A benchmark that was kept."""

    id: str
    model_id: str
    unique: str
    revision: str | None
    """The commit of the model; None for one that is not from the Hub."""
    machine: str
    """Name of the machine."""
    engine: Engine
    engine_version: str | None
    devices: tuple[str, ...]
    """What the engine could use, as in `Runtime.devices`."""
    context_length: int | None
    options: LoadOptions
    """How the model was loaded."""
    at: str
    """When it ended: ISO 8601, UTC."""
    seconds: float
    """How long it took, without the load."""
    runs: int
    rows: tuple[BenchRow, ...]

    @property
    def unsteady(self) -> bool:
        """Whether the runs differ by more than a tenth: something else ran."""
        return any(row.spread > 0.1 for row in self.rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchProgress:
    """The benchmark that runs, or the last one since the core was started."""

    id: str
    model_id: str
    unique: str
    state: BenchState
    step: int = 0
    """Which measurement runs, from 1; 0 before the first."""
    steps: int
    """How many there are."""
    waits_for: str = ""
    """Whose requests it waits for."""
    origin: str = ""
    """The client that began it, as in the audit trail."""
    error: ErrorInfo | None = None
    """Why it ended without figures."""
    result: Bench | None = None
    """Its figures, when done."""

    @property
    def live(self) -> bool:
        """Whether it has not ended."""
        return self.state in LIVE_BENCH


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchWish:
    """What to measure."""

    at_once: tuple[int, ...] = field(default=())
    """Numbers of requests at once; empty for one, and as many as the model answers up to four."""
    load: bool = False
    """Whether a model that is not loaded is loaded for it; it stays loaded."""


def last_same(benches: Iterable[Bench], new: Bench) -> Bench | None:
    """The newest other benchmark of the same files, loaded the same way on the same devices.

    The version of the engine may be another: what that changes is what one wants to know.
    """
    same = [
        bench
        for bench in benches
        if bench.id != new.id and bench.at <= new.at and _what(bench) == _what(new)
    ]
    return max(same, key=lambda bench: bench.at, default=None)


def _what(bench: Bench) -> tuple[object, ...]:
    shape = tuple((r.at_once, r.prompt_tokens // 64) for r in bench.rows)
    return (
        *(bench.model_id, bench.revision, bench.machine, bench.engine, bench.devices),
        *(bench.context_length, _speed_options(bench.options), shape),
    )


def _speed_options(options: LoadOptions) -> tuple[object, ...]:
    """The options that change how fast a model is."""
    return (
        *(options.parallel, options.cache_tokens, options.gpu_layers, options.kv_cache_type),
        *(options.flash_attention, options.threads, options.batch_size, options.loras),
        *(options.draft_model, options.draft_tokens),
    )
