"""What the dashboard sends to its terminal and takes of a core, beside other programs.

    python -m tests.benchmarks.terminal [--seconds N] [--only WORD] [--peer NAME=COMMAND]...

Each runs on a pty, at each size: first it is left alone, then the arrow that goes down is pressed
twenty times. The dashboard is measured on a core with nothing to do, on one with eight downloads,
and on one that answers three requests at once; an empty Textual app is the floor. At 120x40 at rest
nothing is to be sent, with three requests 1.5 kB a second, and for a key 1.5 kB: where the
dashboard sends more, the program ends with code 1; the clock on Memory moves once a minute. Run it
on a quiet machine, since programs that take or give back much memory are shown.

Of other programs htop, btop, posting and parllama are measured where they are on PATH. The first
two draw figures of the machine the whole time, which the dashboard does only where something moves;
posting goes through thirty requests, parllama shows its options, and a clock.

Bytes and clears of the whole screen belong to the program; the share of a core belongs to the
machine, so look at what it is beside the others.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import os
import pty
import select
import shlex
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from modeldeck.core.client.client import Client
from modeldeck.core.demo.hub import DemoHub
from modeldeck.core.demo.model_writer import write_gguf
from modeldeck.core.demo.repositories import build
from modeldeck.core.demo.repository import DemoRepo, demo_repo
from modeldeck.core.schema import GenerateRequest, LoadOptions, Message
from tests.benchmarks import peers
from tests.benchmarks.first_paint import EMPTY
from tests.support.process import CoreProcess

SIZES = ((120, 40), (80, 24), (60, 15))
JOBS = 8
MODEL_BYTES = 32 << 20
LINE_BYTES_PER_S = 8_000
"""Of each connection to the hub: slow enough that no download ends while it is looked at."""
SETTLE_S = 6.0
"""For a program to draw what it has to draw once."""
MEASURED_S = 300.0
"""For a core to measure its engines."""
KEYS = 20
KEY_S = 0.1
DOWN = b"\x1b[B"
CLEAR = b"\x1b[2J"
ASKERS = 3
MODEL = "deck/tiny-GGUF:Q8_0"
CONTEXT = 1 << 16
LONG = GenerateRequest(messages=(Message(role="user", content="loop"),), temperature=0.0)
"""A request whose answer ends where the context is full."""
BUDGET_SIZE = (120, 40)
"""Where the budgets hold; lower screens send less."""
CLOCK_BYTES = 200.0
"""For the clock below the history on Memory, once a minute."""
WITH_REQUESTS = 1500.0
"""Bytes per second, while `ASKERS` requests are answered."""
FOR_A_KEY = 1500.0
"""Bytes."""

DASHBOARD = (sys.executable, "-P", "-c", "from modeldeck.tui import program; program.main()")


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What is measured."""

    name: str
    command: Sequence[str]
    environ: Mapping[str, str]
    keys: bytes = b""
    """Pressed first, to come to the screen that is meant."""
    most_per_s: float | None = None
    """Bytes per second that it may send at `BUDGET_SIZE`, left alone; None for no budget."""
    most_per_key: float | None = None
    """Bytes that it may send there for a key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What it came to."""

    bytes_per_s: float
    """While it was left alone."""
    share: float
    """Of a core, meanwhile."""
    bytes_per_key: float
    clears: int
    """Of the whole screen, from the first look to the last key."""


class Terminal:
    """A program on a pty."""

    def __init__(self, program: Program, columns: int, rows: int) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self._process = subprocess.Popen(
            program.command, stdin=theirs, stdout=theirs, stderr=theirs,
            env=dict(program.environ), start_new_session=True,
        )  # fmt: skip
        os.close(theirs)
        self._figures = psutil.Process(self._process.pid)

    def read(self, seconds: float) -> bytes:
        """What it sends in this time."""
        sent, late = b"", time.monotonic() + seconds
        while (left := late - time.monotonic()) > 0:
            if select.select([self._ours], [], [], left)[0]:
                try:
                    sent += os.read(self._ours, 1 << 16)
                except OSError as error:
                    raise SystemExit(f"it ended: {self._process.args!r}") from error
        return sent

    def press(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self._ours, keys)

    @property
    def cpu_s(self) -> float:
        """Seconds of the processor that it took so far, without those it started."""
        used = self._figures.cpu_times()
        return float(used.user + used.system)

    def end(self) -> None:
        """End it, whatever it does."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        os.close(self._ours)


def measure(program: Program, columns: int, rows: int, seconds: float) -> Figures:
    """Leave it alone, then press keys."""
    terminal = Terminal(program, columns, rows)
    try:
        terminal.read(SETTLE_S)
        if program.keys:
            terminal.press(program.keys)
            terminal.read(SETTLE_S)
        before = terminal.cpu_s
        alone = terminal.read(seconds)
        share = (terminal.cpu_s - before) / seconds
        moved = b""
        for _ in range(KEYS):
            terminal.press(DOWN)
            moved += terminal.read(KEY_S)
    finally:
        terminal.end()
    return Figures(
        bytes_per_s=len(alone) / seconds,
        share=share,
        bytes_per_key=len(moved) / KEYS,
        clears=(alone + moved).count(CLEAR),
    )


@contextmanager
def core(
    folder: Path, hub: str, more: Mapping[str, str] | None = None
) -> Iterator[tuple[CoreProcess, dict[str, str]]]:
    """A core of its own, and the environment in which the dashboard finds it."""
    environ = {
        **os.environ,
        "MODELDECK_HOME": str(folder / "home"),
        "HF_HOME": str(folder / "hf"),
        "HF_ENDPOINT": hub,
        "MODELDECK_DOWNLOADS_DISK_FLOOR_BYTES": "0",
        "TERM": "xterm-256color",
        "COLORTERM": "truecolor",
        **(more or {}),
    }
    with CoreProcess(environ) as process:
        yield process, environ


def repositories(folder: Path) -> list[DemoRepo]:
    """Models to download."""
    found = []
    for number in range(JOBS):
        name = f"model{number}-GGUF"
        path = folder / name / f"model{number}-F16.gguf"
        write_gguf(path, "F16", size_bytes=MODEL_BYTES, extra_tokens=number)
        found.append(demo_repo(f"deck/{name}", folder / name, tags=("gguf",)))
    return found


@asynccontextmanager
async def downloading(folder: Path, hub: DemoHub) -> AsyncIterator[dict[str, str]]:
    """A core that downloads everything at once."""
    with core(folder, hub.url) as (process, environ):
        async with Client(socket=process.socket) as client:
            await client.change_settings(jobs_at_once=JOBS)
            for number in range(JOBS):
                await client.download(f"deck/model{number}-GGUF:F16")
            await client.feed.until(
                lambda s: sum(d.state == "downloading" for d in s.downloads.values()) == JOBS
            )
            yield environ


@asynccontextmanager
async def answering(folder: Path, hub: DemoHub) -> AsyncIterator[dict[str, str]]:
    """A core that answers `ASKERS` requests at any time."""
    environ = {"MODELDECK_RUNTIME_STOP_LOOPS": "false"}
    with core(folder, hub.url, environ) as (process, environ):
        async with Client(socket=process.socket) as client:
            await client.download(MODEL)
            await client.feed.until(lambda s: any(m.downloaded for m in s.models.values()))
            await client.loaded(MODEL, LoadOptions(context_length=CONTEXT, parallel=ASKERS))
            askers = [asyncio.create_task(ask(client)) for _ in range(ASKERS)]
            await client.feed.until(
                lambda s: sum(r.state == "writing" for r in s.requests.values()) == ASKERS
            )
            try:
                yield environ
            finally:
                for asker in askers:
                    asker.cancel()
                await asyncio.gather(*askers, return_exceptions=True)


async def ask(client: Client) -> None:
    """Ask again and again."""
    while True:
        async with client.generate(MODEL, LONG) as chunks:
            async for _ in chunks:
                pass


def show(program: Program, seconds: float, sizes: Sequence[tuple[int, int]] = SIZES) -> None:
    """Measure it at every size, and print what it came to."""
    for columns, rows in sizes:
        came = measure(program, columns, rows, seconds)
        size = f"{columns}x{rows}"
        print(
            f"{program.name:<26} {size:<7} {came.bytes_per_s:>9,.0f} {came.share * 100:>7.2f} %"
            f" {came.bytes_per_key:>10,.0f} {came.clears:>7}",
            flush=True,
        )
        if (columns, rows) == BUDGET_SIZE:
            over_budget.extend(over(program, came))


over_budget: list[str] = []
"""What sent more than it may, so far."""


def over(program: Program, came: Figures) -> Iterator[str]:
    """Where a program sent more than it may, in words."""
    most = program.most_per_s
    if most is not None and came.bytes_per_s > most:
        yield f"{program.name}: {came.bytes_per_s:,.0f} bytes/s, not {most:,.0f}"
    most = program.most_per_key
    if most is not None and came.bytes_per_key > most:
        yield f"{program.name}: {came.bytes_per_key:,.0f} bytes/key, not {most:,.0f}"


async def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="What the dashboard sends to its terminal.")
    parser.add_argument("--seconds", type=float, default=10.0, help="for each look")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=COMMAND")
    parser.add_argument("--only", choices=("dashboard", "peers"), help="instead of both")
    given = parser.parse_args()
    plain = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
    print(f"{'':<26} {'':<7} {'bytes/s':>9} {'of a core':>9} {'bytes/key':>10} {'clears':>7}")
    empty = (sys.executable, "-P", "-c", EMPTY)
    show(Program(name="empty Textual app", command=empty, environ=plain), given.seconds)
    if given.only != "peers":
        await dashboard(given.seconds)
    if given.only != "dashboard":
        others(given.seconds, plain, given.peer)
    if over_budget:
        raise SystemExit("over budget:\n" + "\n".join(over_budget))


def others(seconds: float, plain: Mapping[str, str], further: Sequence[str]) -> None:
    """Measure the programs that are there, each at a home that is new at every size."""
    for peer in peers.PEERS:
        if (path := peers.path_of(peer)) is None:
            print(f"{peer.name} is not on PATH")
            continue
        name = f"{peer.name} {peers.version(path)}".rstrip()
        for columns, rows in SIZES:
            with tempfile.TemporaryDirectory(prefix="md-", ignore_cleanup_errors=True) as home:
                command = (path, *peer.words(Path(home)))
                environ = {**plain, "HOME": home, **peer.environ}
                program = Program(name=name, command=command, environ=environ)
                show(program, seconds, ((columns, rows),))
    for text in further:
        name, _, words = text.partition("=")
        show(Program(name=name, command=shlex.split(words), environ=plain), seconds)


async def at_rest(process: CoreProcess) -> None:
    """Wait until a new core has measured its engines, which takes memory and gives it back.

    Raises TimeoutError where it cannot measure them.
    """
    async with asyncio.timeout(MEASURED_S), Client(socket=process.socket) as client:
        await client.feed.until(
            lambda s: (
                bool(s.runtimes)
                and all(r.overhead_bytes is not None for r in s.runtimes if r.available)
            )
        )
    await asyncio.sleep(SETTLE_S)


async def dashboard(seconds: float) -> None:
    """Measure the dashboard on a core with nothing to do, and on one with downloads."""
    with tempfile.TemporaryDirectory(prefix="md-") as name:
        folder = Path(name)
        with core(folder / "idle", "http://127.0.0.1:9") as (process, environ):
            await at_rest(process)
            clock = CLOCK_BYTES * (1 + seconds // 60) / seconds
            for screen, keys, most in (
                ("catalog", b"1", 0.0), ("downloads", b"2", 0.0), ("memory", b"3", clock),
            ):  # fmt: skip
                idle = Program(
                    name=f"idle, {screen}",
                    command=DASHBOARD, environ=environ, keys=keys,
                    most_per_s=most, most_per_key=FOR_A_KEY,
                )  # fmt: skip
                show(idle, seconds)
        made = await asyncio.to_thread(repositories, folder / "hub")
        with DemoHub.in_thread(made, rate_bytes_per_s=LINE_BYTES_PER_S) as hub:
            async with downloading(folder / "busy", hub) as environ:
                for screen, keys in (("catalog", b"1"), ("downloads", b"2")):
                    busy = Program(
                        name=f"{JOBS} downloads, {screen}",
                        command=DASHBOARD, environ=environ, keys=keys,
                    )  # fmt: skip
                    await asyncio.to_thread(show, busy, seconds)
        demo = await asyncio.to_thread(build, folder / "demo", MODEL_BYTES)
        with DemoHub.in_thread(demo) as hub:
            async with answering(folder / "asked", hub) as environ:
                for screen, keys in (("catalog", b"1"), ("memory", b"3"), ("requests", b"3r")):
                    asked = Program(
                        name=f"{ASKERS} requests, {screen}",
                        command=DASHBOARD, environ=environ, keys=keys, most_per_s=WITH_REQUESTS,
                    )  # fmt: skip
                    await asyncio.to_thread(show, asked, seconds)


if __name__ == "__main__":
    asyncio.run(main())
