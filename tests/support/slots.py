"""Fills all cells of a model's context with several sequences, and tells what the process took.

A child process of its own, since it is the peak of the process that counts:

    python -m tests.support.slots MODEL_PATH LOAD_OPTIONS_AS_JSON

It makes the context with modeldeck's own parameters. One sequence fills all cells, then several do:
their prompts share batches, and the next tokens of all are computed at once.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """What a process took whose cells are full."""

    kv_bytes: int
    """As llama.cpp logged it when it made the context."""
    compute_bytes: int
    """Of the compute buffers at the end, which llama.cpp makes anew where they are too small."""
    peak_bytes: int
    """The largest resident size of the process."""


@dataclass(frozen=True, slots=True)
class Row:
    """A token of a batch."""

    token: int
    position: int
    sequence: int
    output: bool = False


def batches(sequences: int, cells: int, size: int) -> Iterator[list[Row]]:
    """Batches of at most `size` rows that fill the cells with `sequences`, prompts first. Pure."""
    each = cells // sequences - ANSWER
    rest = [_prompt(s, p) for s in range(sequences) for p in range(each)]
    for start in range(0, len(rest), size):
        rows = rest[start : start + size]
        yield [*rows[:-1], replace(rows[-1], output=True)]
    for step in range(ANSWER):
        yield [Row(65, each + step, sequence, True) for sequence in range(sequences)]


def _prompt(sequence: int, position: int) -> Row:
    return Row(40 + (sequence * 31 + position * 7) % 200, position, sequence)


def fill(path: str, options: LoadOptions) -> Filled:
    """Load a model in this process and fill its cells. Raises EngineFailed."""
    engine = LlamaEngine(Flag())
    engine.hello()
    c, loader = engine._c, engine._loader
    options = loader.choose_mmap(path, options)
    model = loader.open(path, loader.model_parameters(options))
    embedding = loader.is_embedding(model, options)
    wanted = loader.context_parameters(model, options, DEFAULT_CONTEXT, embedding=embedding)
    context, _ = loader.make_context(model, options, wanted)
    logged = buffers(engine._log.lines)
    trim_heap()
    sequences, cells = c.llama_n_seq_max(context), c.llama_n_ctx(context)
    batch = c.llama_batch_init(wanted.n_batch, 0, 1)
    for count in dict.fromkeys((1, sequences)):
        c.llama_memory_clear(c.llama_get_memory(context), False)
        for rows in batches(count, cells, wanted.n_batch):
            _decode(c, context, batch, rows)
    counts = Devices(c).counts(context)
    memory = probe.process(os.getpid())
    return Filled(
        kv_bytes=logged.kv_bytes,
        compute_bytes=sum(count.compute for count in counts),
        peak_bytes=(memory.peak_bytes if memory else None) or 0,
    )


def _decode(c: Any, context: Any, batch: Any, rows: list[Row]) -> None:
    batch.n_tokens = len(rows)
    for i, row in enumerate(rows):
        batch.token[i], batch.pos[i], batch.logits[i] = row.token, row.position, row.output
        batch.n_seq_id[i], batch.seq_id[i][0] = 1, row.sequence
    if (result := c.llama_decode(context, batch)) != 0:
        raise EngineFailed(f"llama_decode gave {result} for {len(rows)} rows.")
    c.llama_synchronize(context)


async def filled(path: Path, options: LoadOptions) -> Filled:
    """What filling a model takes in a process of its own. Raises EngineFailed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.support.slots",
        str(path),
        msgspec.json.encode(options).decode(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    if process.returncode:
        raise EngineFailed(f"{path} ended with {process.returncode}: {errors[-300:]!r}")
    return msgspec.json.decode(output, type=Filled)


def main() -> None:
    """Read the command line, and print what was found as JSON."""
    assert child.HEARTBEAT_S
    path, options = sys.argv[1:]
    found = fill(path, msgspec.json.decode(options, type=LoadOptions))
    sys.stdout.write(msgspec.json.encode(found).decode() + "\n")


if __name__ == "__main__":
    main()
