"""Fills all cells of a model's context with several sequences, and tells what that took.

A child process of its own, since it is the peak of the process that counts, and since llama.cpp
ends the process on a bad model:

    python -m tests.support.slots '[["/model.gguf", {"context_length": 512, "parallel": 4}]]'

It makes the context with modeldeck's own parameters. One sequence fills all cells, then several do:
their prompts share batches, and the next tokens of all are computed at once. With `shared` as a
second argument they then share one long beginning, which is read once and copied, and one of them
reads on: some models take memory for each of those who share a cell.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from modeldeck.core.errors import EngineFailed
from modeldeck.core.memory import probe
from modeldeck.core.runtime import child  # what an engine process has in memory
from modeldeck.core.runtime.engines.base import Flag
from modeldeck.core.runtime.engines.heap import trim_heap
from modeldeck.core.runtime.engines.llama.devices import Devices
from modeldeck.core.runtime.engines.llama.engine import LlamaEngine
from modeldeck.core.runtime.engines.llama.log import buffers
from modeldeck.core.schema import LoadOptions

DEFAULT_CONTEXT = 8192
ANSWER = 4
"""Tokens of each sequence after its prompt."""

Case = tuple[str, LoadOptions]
"""Path of a model, and how it is loaded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """What a model took whose cells are full."""

    cells: int
    sequences: int
    kv_bytes: int
    """As llama.cpp logged it when it made the context; so are the outputs."""
    output_bytes: int
    compute_bytes: int
    """Of the compute buffers at the end: llama.cpp makes them anew where they are too small."""
    peak_bytes: int
    """The largest resident size of the process so far."""

    @property
    def allocated_bytes(self) -> int:
        """All that llama.cpp allocated for the context."""
        return self.kv_bytes + self.output_bytes + self.compute_bytes


@dataclass(frozen=True, slots=True)
class Row:
    """A token of a batch."""

    token: int
    position: int
    sequence: int
    output: bool = False


def batches(sequences: int, cells: int, size: int) -> Iterator[list[Row]]:
    """Batches of at most `size` rows that fill the cells with `sequences`. Pure.

    The first half of each prompt is read alone, the second together with those of the others. Then
    all write at once. As in an engine, every batch has an output.
    """
    each = cells // sequences - ANSWER
    for sequence in range(sequences):
        yield from _cut(_prompt(sequence, range(each // 2)), size)
    # Not equally many of each: recurrent layers are evaluated with parts of such a batch.
    rest = [row for s in range(sequences) for row in _prompt(s, range(each // 2, each))]
    yield from _cut(rest, size)
    for step in range(ANSWER):
        yield [Row(65, each + step, sequence, True) for sequence in range(sequences)]


def behind(sequences: int, cells: int, size: int) -> Iterator[list[Row]]:
    """Batches that fill the rest: the last of some sequences, which share all before, reads on."""
    yield from _cut(_prompt(sequences - 1, range(cells - size, cells)), size)


def _cut(rows: list[Row], size: int) -> Iterator[list[Row]]:
    for start in range(0, len(rows), size):
        some = rows[start : start + size]
        yield [*some[:-1], replace(some[-1], output=True)]


def _prompt(sequence: int, positions: range) -> list[Row]:
    return [Row(40 + (sequence * 31 + p * 7) % 200, p, sequence) for p in positions]


def fill(engine: LlamaEngine, path: str, options: LoadOptions, *, shared: bool) -> Filled:
    """Load a model in this process, fill its cells, and free it. Raises EngineFailed."""
    c, loader, log = engine._c, engine._loader, engine._log
    log.begin()
    try:
        options = loader.choose_mmap(path, options)
        model = loader.open(path, loader.model_parameters(options))
        embedding = loader.is_embedding(model, options)
        if embedding:
            raise EngineFailed("It embeds texts, and answers none.")
        wanted = loader.context_parameters(model, options, DEFAULT_CONTEXT, embedding=embedding)
        context, _ = loader.make_context(model, options, wanted)
        logged = buffers(log.lines)
        trim_heap()
        sequences, cells = c.llama_n_seq_max(context), c.llama_n_ctx(context)
        batch = c.llama_batch_init(wanted.n_batch, 0, 1)
        memory, size = c.llama_get_memory(context), wanted.n_batch
        for count in dict.fromkeys((1, sequences)):
            c.llama_memory_clear(memory, False)
            for rows in batches(count, cells, size):
                _decode(c, context, batch, rows)
        if shared:
            c.llama_memory_clear(memory, False)
            for rows in _cut(_prompt(0, range(cells - size)), size):
                _decode(c, context, batch, rows)
            for sequence in range(1, sequences):
                c.llama_memory_seq_cp(memory, 0, sequence, -1, -1)
            for rows in behind(sequences, cells, size):
                _decode(c, context, batch, rows)
        c.llama_batch_free(batch)
        counts = Devices(c).counts(context)
        held = probe.process(os.getpid())
        return Filled(
            cells=cells,
            sequences=sequences,
            kv_bytes=logged.kv_bytes,
            output_bytes=logged.output_bytes,
            compute_bytes=sum(count.compute for count in counts),
            peak_bytes=(held.peak_bytes if held else None) or 0,
        )
    finally:
        loader.release()


def _decode(c: Any, context: Any, batch: Any, rows: list[Row]) -> None:
    batch.n_tokens = len(rows)
    for i, row in enumerate(rows):
        batch.token[i], batch.pos[i], batch.logits[i] = row.token, row.position, row.output
        batch.n_seq_id[i], batch.seq_id[i][0] = 1, row.sequence
    if (result := c.llama_decode(context, batch)) != 0:
        raise EngineFailed(f"llama_decode gave {result} for {len(rows)} rows.")
    c.llama_synchronize(context)


async def filled(cases: Sequence[Case], *, shared: bool = False) -> list[Filled]:
    """What filling each model takes, one after another in a process of their own.

    With `shared` all sequences share a beginning at the end.

    Only the first peak is that of one model. Raises EngineFailed.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.support.slots",
        msgspec.json.encode(cases).decode(),
        *(["shared"] if shared else []),
        cwd=Path(__file__).parents[2],
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    if process.returncode:
        raise EngineFailed(f"{cases} ended with {process.returncode}: {errors[-300:]!r}")
    return msgspec.json.decode(output, type=list[Filled])


def main() -> None:
    """Read the command line, and print what was found as JSON."""
    assert child.HEARTBEAT_S
    engine = LlamaEngine(Flag())
    engine.hello()
    cases = msgspec.json.decode(sys.argv[1], type=list[Case])
    shared = sys.argv[2:] == ["shared"]
    found = [fill(engine, path, options, shared=shared) for path, options in cases]
    sys.stdout.write(msgspec.json.encode(found).decode() + "\n")


if __name__ == "__main__":
    main()
