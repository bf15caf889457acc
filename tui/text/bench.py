"""Benchmarks as lines of text. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from modeldeck.core.schema import last_same
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text.format import TextColumn

if TYPE_CHECKING:
    from modeldeck.core.schema import Bench, BenchProgress, BenchRow
    from modeldeck.tui.text.format import Glyphs

BAR = 4
"""Width in cells of the bar of a benchmark that runs."""


def head(bench: Bench, name: str) -> str:
    """What was measured, and how it was loaded."""
    options = bench.options
    how = [
        f"{bench.engine} {bench.engine_version or ''}".strip(),
        ", ".join(bench.devices),
        f"{fmt.tokens(bench.context_length)} context",
        f"KV {options.kv_cache_type}" if options.kv_cache_type else "",
        "" if options.flash_attention is None
        else f"flash attention {'on' if options.flash_attention else 'off'}",
    ]  # fmt: skip
    return f"{fmt.clean(name)} on {fmt.clean(bench.machine)}   {', '.join(filter(None, how))}"


def figures(bench: Bench, other: Bench | None, width: int) -> list[str]:
    """A table of the figures; `other` is compared with, where there is one."""
    first = bench.rows[0]
    long = next((r.long_prompt_tokens for r in bench.rows if r.long_prompt_tokens), None)
    heads = (
        TextColumn(title=""),
        TextColumn(title=f"prompt {first.prompt_tokens}", right=True),
        TextColumn(title=f"prompt {fmt.tokens(long) if long else '4k'}", right=True),
        TextColumn(title=f"generate {first.written_tokens}", right=True),
        TextColumn(title=""),
        TextColumn(title="first token", right=True),
    )
    cells = [_cells(row) for row in bench.rows]
    if other is not None:
        cells.append(_compared(bench, other))
    return fmt.table(heads, cells, width)


def _cells(row: BenchRow) -> tuple[str, ...]:
    each = row.tokens_per_s / row.at_once if row.tokens_per_s and row.at_once > 1 else None
    return (
        f"{row.at_once} at once",
        _speed(row.prompt_tokens_per_s),
        _speed(row.long_prompt_tokens_per_s),
        _speed(row.tokens_per_s),
        f"{per_s(each)} each" if each else "",
        f"{row.time_to_first_token_s:.1f} s"
        if row.time_to_first_token_s >= 0.05
        else f"{row.time_to_first_token_s * 1000:.0f} ms",
    )


def per_s(rate: float) -> str:
    """Tokens in a second, with a decimal below a hundred.

    >>> per_s(31.42), per_s(1020.4)
    ('31.4', '1,020')
    """
    return f"{rate:.1f}" if rate < 99.95 else f"{rate:,.0f}"


def _speed(rate: float | None) -> str:
    return fmt.UNKNOWN if rate is None else f"{per_s(rate)} tok/s"


def _compared(bench: Bench, other: Bench) -> tuple[str, ...]:
    """How much faster it is than another one, of the first row that both have."""
    theirs = {row.at_once: row for row in other.rows}
    pairs = [(row, theirs[row.at_once]) for row in bench.rows if row.at_once in theirs]
    engine = f"{other.engine} {other.engine_version or ''}".strip()
    differs = engine if other.engine_version != bench.engine_version else ""
    kind = "same" if last_same([other], bench) else "loaded otherwise"
    name = f"{fmt.day(other.at)}, {kind}"
    if not pairs:
        return (name, *[fmt.UNKNOWN] * 3, differs, "")
    new, old = pairs[0]
    return (
        name,
        _change(new.prompt_tokens_per_s, old.prompt_tokens_per_s),
        _change(new.long_prompt_tokens_per_s, old.long_prompt_tokens_per_s),
        _change(new.tokens_per_s, old.tokens_per_s),
        differs,
        "",
    )


def _change(new: float | None, old: float | None) -> str:
    return f"{new / old - 1:+.1%}".replace("%", " %") if new and old else fmt.UNKNOWN


def found(benches: Iterable[Bench], text: str) -> Bench | None:
    """The newest benchmark of a day (`2026-11-14` or `14-nov`), or the one with this id."""
    wanted = text.strip().casefold()
    named = [
        bench
        for bench in benches
        if bench.id == wanted
        or (len(wanted) >= 10 and bench.at.casefold().startswith(wanted))
        or fmt.day(bench.at).replace(" ", "-").casefold() == wanted.replace(" ", "-")
    ]
    return max(named, key=lambda bench: bench.at, default=None)


def end(bench: Bench) -> str:
    """That it is kept, how long it took, and whether something disturbed it."""
    unsteady = " Unsteady: something else ran." if bench.unsteady else ""
    return f"Kept. {fmt.span(bench.seconds)}.{unsteady}"


def listed(benches: Sequence[Bench], width: int) -> list[str]:
    """A table of benchmarks, a line each."""
    heads = (
        TextColumn(title="when"),
        TextColumn(title="id"),
        TextColumn(title="model", shrink=True),
        TextColumn(title="engine"),
        TextColumn(title="context", right=True),
        TextColumn(title="prompt", right=True),
        TextColumn(title="generate", right=True),
    )
    rows = [
        (
            bench.at[:10],
            bench.id,
            bench.unique,
            f"{bench.engine} {bench.engine_version or ''}".strip(),
            fmt.tokens(bench.context_length),
            _speed(bench.rows[0].prompt_tokens_per_s),
            _speed(bench.rows[0].tokens_per_s),
        )
        for bench in benches
        if bench.rows
    ]
    return fmt.table(heads, rows, width)


def progress(bench: BenchProgress) -> str:
    """How far a benchmark is, in words."""
    if bench.waits_for:
        return f"waiting for the requests of {fmt.clean(bench.waits_for)}"
    if bench.state in ("waiting", "loading"):
        return bench.state
    return f"bench {max(1, bench.step)} of {bench.steps}"


def progress_line(bench: BenchProgress, signs: Glyphs) -> str:
    """The same with a bar."""
    part = (bench.step - 1) / bench.steps if bench.step else 0.0
    shape = f" {fmt.bar(part, BAR, signs)}" if bench.state == "measuring" else ""
    return f"{signs.busy} {progress(bench)}{shape}"
