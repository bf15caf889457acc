"""How long a key takes to be seen on a dashboard with much on it.

    python -m tests.benchmarks.keys [--keys N]

The core lists 300 models of a person's own and answers or holds 50 requests, and 300 chats are
kept. On each screen keys are pressed that change something there; what counts is the time from
writing a key to the pty until the next bytes come back. The median is to be within 50 ms on every
screen: beyond it the program ends with code 1. An engine that follows scripts answers, so that the
processor is left to the dashboard.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from modeldeck.core.client.client import Client
from modeldeck.core.config.paths import locate
from modeldeck.core.demo.repositories import build
from modeldeck.core.schema import GenerateRequest, LoadOptions, ModelSeed
from modeldeck.tui.chats.chat import Chat, ChatTurn
from modeldeck.tui.chats.store import ChatStore
from tests.benchmarks.terminal import DASHBOARD, SETTLE_S, Program, Terminal, core
from tests.support import scripted_engine

MODELS = 300
CHATS = 300
REQUESTS = 50
AT_ONCE = 4
BUDGET_S = 0.05
QUIET_S = 0.15
"""Between a key and the next one, for what the key before brings later."""
CURSOR = b"jjjjkkkk"
FILTER = b"mo\x7f\x7f"
SCREENS = (
    ("catalog", b"1", CURSOR),
    ("filter", b"1/", FILTER),
    ("memory", b"3", b"\r"),
    ("requests", b"3r", CURSOR),
    ("kept chats", b"4\x1bc", CURSOR),
)
"""Name, the keys that lead there, and those that are measured, again and again."""
ENV = {"MODELDECK_RUNTIME_QUEUE_LENGTH": "64"}


def files(folder: Path) -> list[str]:
    """The same small model under as many names."""
    build(folder / "demo", 1 << 20)
    source = folder / "demo" / "tiny-GGUF" / "tiny-F16.gguf"
    found = []
    for number in range(MODELS):
        path = folder / f"model-{number:03}.gguf"
        os.link(source, path)
        found.append(str(path))
    return found


async def keep_chats(path: Path) -> None:
    """Write conversations of one question and one answer."""
    store = ChatStore(path)
    for number in range(CHATS):
        question = ChatTurn(role="user", text=f"question {number}", at=number + 1.0)
        chat = Chat().with_turn(question)
        answer = ChatTurn(role="assistant", text="so", parent=question.id, at=number + 2.0)
        await store.save(chat.with_turn(answer))
    await store.close()


@asynccontextmanager
async def crowded(folder: Path) -> AsyncIterator[dict[str, str]]:
    """A core with all of it, and the environment in which the dashboard finds it."""
    with core(folder, "http://127.0.0.1:9", ENV) as (process, environ):
        await keep_chats(locate(environ).state / "chats.db")
        async with Client(socket=process.socket) as client:
            models = [
                await client.create_model(ModelSeed(unique=path, name=Path(path).stem))
                for path in await asyncio.to_thread(files, folder)
            ]
            first = models[0].id
            await client.loaded(first, LoadOptions(parallel=AT_ONCE, context_length=4096))
            asking = [asyncio.create_task(ask(client, first)) for _ in range(REQUESTS)]
            await client.feed.until(lambda s: sum(r.live for r in s.requests.values()) == REQUESTS)
            try:
                yield environ
            finally:
                for task in asking:
                    task.cancel()
                await asyncio.gather(*asking, return_exceptions=True)


async def ask(client: Client, model: str) -> None:
    """A request that does not end."""
    async with client.generate(model, GenerateRequest(prompt="endless")) as chunks:
        async for _ in chunks:
            pass


def delays(program: Program, keys: bytes, count: int) -> list[float]:
    """Seconds from each key to the next bytes."""
    terminal = Terminal(program, 120, 40)
    found = []
    try:
        terminal.read(SETTLE_S)
        for key in program.keys:
            terminal.press(bytes((key,)))
            terminal.read(1.0)
        terminal.read(SETTLE_S)
        for key in itertools.islice(itertools.cycle(keys), count):
            pressed = time.perf_counter()
            terminal.press(bytes((key,)))
            while not terminal.read(0.001):
                if time.perf_counter() - pressed > SETTLE_S:
                    raise SystemExit(f"{program.name}: no key is heard")
            found.append(time.perf_counter() - pressed)
            terminal.read(QUIET_S)
    finally:
        terminal.end()
    return found


def show(name: str, found: Sequence[float]) -> bool:
    """Print median and worst of a screen; whether the median is within the budget."""
    middle = statistics.median(found)
    print(f"{name:<12} {middle * 1000:>6.1f} ms  {max(found) * 1000:>6.1f} ms", flush=True)
    return middle <= BUDGET_S


async def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="How long a key takes to be seen.")
    parser.add_argument("--keys", type=int, default=40, help="on each screen")
    given = parser.parse_args()
    print(f"{'':<12} {'median':>9}  {'worst':>9}   of {given.keys} keys at 120x40")
    slow = []
    with tempfile.TemporaryDirectory(prefix="md-") as name, pytest.MonkeyPatch.context() as patch:
        scripted_engine.install(Path(name), patch)
        async with crowded(Path(name)) as environ:
            for screen, way, keys in SCREENS:
                program = Program(name=screen, command=DASHBOARD, environ=environ, keys=way)
                if not show(screen, await asyncio.to_thread(delays, program, keys, given.keys)):
                    slow.append(screen)
    if slow:
        raise SystemExit(f"over {BUDGET_S * 1000:.0f} ms: {', '.join(slow)}")


if __name__ == "__main__":
    asyncio.run(main())
