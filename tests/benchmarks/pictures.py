"""Time to the first token about a picture, beside llama-server.

    LLAMA_SERVER=path python -m tests.benchmarks.pictures [--kind gemma3]
        [--starts 4] [--rounds 3]

The same model and projector with the same options in a real core and in llama-server (left out
where `LLAMA_SERVER` names none), started several times as `many_requests` does. They take turns in
every round, in another order each time. Every round has a new picture, as a PNG of 1,000 by 750
pixels. Prints the medians, and the median ratios of the core to llama-server round by round:

- `new`: a question about a picture that was not seen before;
- `again`: another question about the same picture, which is held;
- `beside`: the longest pause of three answers that are written while a new picture is read.

Wanted: a time to the first token of at most llama-server's. Needs the extras `local` and `bench`,
and a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import os
import tempfile
import zlib
from contextlib import ExitStack
from pathlib import Path

import psutil

from modeldeck.core.runtime.engines.llama.projector_limits import IMAGE_TOKENS
from tests.benchmarks.generation import loaded_core
from tests.benchmarks.many_requests import (
    Answer,
    Messages,
    Scenario,
    Side,
    add_options,
    alone,
    ask,
    chosen,
    llama_server,
    load_options,
    measure_and_show,
)
from tests.support.pictures import picture
from tests.support.projector_kinds import Tower
from tests.support.projectors import write_seeing_model

TOWER = Tower(image=448, width=576, feed_forward=2152, heads=8, blocks=12)
"""Half the widths of the encoder of Gemma 3: a picture takes about a second on one processor. With
widths that are powers of two the time depended on where the memory happened to lie."""
SIZE = (1000, 750)


def about(seed: str, question: str) -> Messages:
    """A conversation of one question about the picture of a seed."""
    colour = tuple(zlib.crc32(seed.encode()).to_bytes(4)[:3])
    data = base64.b64encode(picture(colour, SIZE)).decode()
    content = [
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}},
        {"type": "text", "text": question},
    ]
    return [{"role": "user", "content": content}]


async def new(side: Side, seed: str) -> list[Answer]:
    """A question about a new picture."""
    return [await ask(side, about(seed, "What is this?"), 4)]


async def again(side: Side, seed: str) -> list[Answer]:
    """A second question about a picture."""
    await ask(side, about(seed, "What is this?"), 4)
    return [await ask(side, about(seed, "What colour has it?"), 4)]


async def beside(side: Side, seed: str) -> list[Answer]:
    """Three answers, beside which a picture is read."""
    writers = [asyncio.create_task(ask(side, alone(f"{seed} {index}"), 256)) for index in range(3)]
    await asyncio.sleep(0.1)
    await ask(side, about(seed, "What is this?"), 4)
    return await asyncio.gather(*writers)


SCENARIOS: dict[str, Scenario] = {"new": new, "again": again, "beside": beside}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--kind", default="gemma3", help="of projector, as the tests write it")
    add_options(parser)
    asked = parser.parse_args()

    def begin(stack: ExitStack) -> dict[str, Side]:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="md-")))
        model = write_seeing_model(folder, asked.kind, TOWER)
        loaded = loaded_core(model.path, folder, load_options(asked.threads))
        process, name = stack.enter_context(loaded)
        sides = {"core": Side(process.url, name, psutil.Process(process.process.pid))}
        if program := os.environ.get("LLAMA_SERVER"):
            more = ("--mmproj", str(model.projector), "--image-max-tokens", str(IMAGE_TOKENS))
            server = llama_server(program, model.path, asked.threads, *more)
            sides["llama-server"] = stack.enter_context(server)
        return sides

    measure_and_show(begin, chosen(SCENARIOS, asked.only), asked.starts, asked.rounds)


if __name__ == "__main__":
    main()
