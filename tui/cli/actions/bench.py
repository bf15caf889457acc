"""The work of `modeldeck bench`: begin it, follow it, and show the figures beside the last ones."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from modeldeck.core.errors import Cancelled, DeckError, NotFound
from modeldeck.core.schema import last_same
from modeldeck.core.schema.errors import from_info
from modeldeck.tui.text import bench as bench_text
from modeldeck.tui.text.model_names import title

if TYPE_CHECKING:
    from modeldeck.core.client.client import Client
    from modeldeck.core.schema import Bench, BenchProgress
    from modeldeck.tui.cli.output import Output

FOLLOW_HZ = 4.0
"""States a second that are looked at."""
PATIENCE_S = 10.0
"""For a core that went away while its benchmark is followed."""


async def show(client: Client, out: Output, ref: str | None) -> None:
    """List what was kept, of one model or of all."""
    benches = await client.benches(ref)
    out.record(benches)
    if benches:
        out.lines(bench_text.listed(benches, out.room))
    else:
        out.note("No benchmark was kept. `modeldeck bench MODEL` runs one.")


async def run(
    client: Client,
    out: Output,
    ref: str,
    at_once: Sequence[int],
    *,
    yes: bool,
    against: str | None,
) -> None:
    """Measure a model, and compare with the last benchmark that was the same, or a named one."""
    model, state = await client.model(ref), await client.state()
    kept = await client.benches(model.id)
    if against is not None and bench_text.found(kept, against) is None:
        raise NotFound(
            f"No benchmark of {model.name} is of {against!r}.", "`modeldeck bench --list` has them."
        )
    loaded = any(i.model_id == model.id and i.state.live for i in state.instances.values())
    if not loaded and not yes:
        question = f"{model.name} is not loaded. Load it for the benchmark?"
        if not out.confirm(question):
            raise Cancelled("Nothing was measured.")
    bench = await _followed(client, out, await client.bench(model.id, at_once, load=not loaded))
    other = last_same(kept, bench) if against is None else bench_text.found(kept, against)
    out.record({"bench": bench, "against": other})
    out.line(bench_text.head(bench, title(model.id, model.unique, state.models)))
    out.lines(bench_text.figures(bench, other, out.room))
    out.line(bench_text.end(bench))


async def _followed(client: Client, out: Output, begun: BenchProgress) -> Bench:
    """Show a benchmark until its end; ctrl-C cancels it. Raises what it ended with."""
    try:
        with out.progress() as progress:
            async with client.feed.states(max_hz=FOLLOW_HZ, patience_s=PATIENCE_S) as states:
                async for state in states:
                    now = state.bench
                    if now is None or now.id != begun.id:
                        raise Cancelled("The benchmark is gone: the core was started again.")
                    if now.result is not None:
                        return now.result
                    if now.error is not None:
                        raise from_info(now.error)
                    words = bench_text.progress(now)
                    progress.show(bench_text.progress_line(now, out.signs), words, words)
    except asyncio.CancelledError:
        with suppress(DeckError):  # it has ended, or the core is gone
            await client.cancel_bench()
        raise
    raise AssertionError("the feed never ends by itself")
