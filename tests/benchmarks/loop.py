"""How long the core's loop is ever blocked: 100 jobs queued, 1,000 files, front ends attached.

    python -m tests.benchmarks.loop [--jobs 100] [--files 10] [--kib 256] [--clients 3]
      [--stacks]

A hub, a core and this process, each by itself. The core runs as it always does, with two watchers
in it: a coroutine that should wake every two milliseconds and notes how late it was, and a clock on
each step of the loop; with `--stacks` a thread as well that looks where the loop is whenever it is
late. What is told: the longest and the rarest delays, how many were above the limit of 20 ms, the
most processor time that one step took, and how many batches a second a front end got that asked for
four. Being put off the processor counts as being late too, so the machine should have little else
to do; the time of the steps does not depend on that.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from modeldeck.core.client.client import Client
from modeldeck.core.schema.state import State

LIMIT_MS = 20.0
"""DESIGN: nothing blocks the loop longer."""

FEED_HZ = 4.0

HUB = """
import asyncio, os, sys
from pathlib import Path
from modeldeck.core.demo.hub import DemoHub
from modeldeck.core.demo.repository import demo_repo

folder, jobs, files, size = Path(sys.argv[1]), *map(int, sys.argv[2:])

def repo(number):
    place = folder / f"r{number}"
    place.mkdir()
    for part in range(1, files + 1):
        (place / f"m-Q8_0-{part:05}-of-{files:05}.gguf").write_bytes(os.urandom(size))
    return demo_repo(f"deck/bench-{number:03}-GGUF", place)

async def main():
    async with DemoHub([repo(number) for number in range(jobs)]) as hub:
        print(hub.url, flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)

asyncio.run(main())
"""

CORE = """
import asyncio, json, os, resource, sys, threading, time, traceback
from modeldeck.core.config import config_file
from modeldeck.core.config.paths import locate
from modeldeck.core.server import serve

if hasattr(os, "nice") and os.geteuid() == 0:
    os.nice(-15)
late, beat, stacks = [], time.perf_counter(), []
with_stacks = sys.argv[1] == "stacks"

async def heart():
    global beat
    while True:
        begin = time.perf_counter()
        await asyncio.sleep(0.002)
        beat = time.perf_counter()
        late.append((beat - begin - 0.002) * 1000)

class Longest:
    seconds, name = 0.0, ""

    def append(self, seconds, handle):
        if seconds > self.seconds:
            task = getattr(handle._callback, "__self__", None)
            coro = task.get_coro() if isinstance(task, asyncio.Task) else handle._callback
            self.seconds, self.name = seconds, getattr(coro, "__qualname__", repr(coro))

def look(loop_thread):
    while True:
        time.sleep(0.002)
        if time.perf_counter() - beat > 0.012:
            seen = beat
            where = traceback.extract_stack(sys._current_frames().get(loop_thread))[-9:]
            while beat == seen:
                time.sleep(0.001)
            stacks.append(((beat - seen) * 1000, " < ".join(
                f"{os.path.basename(f.filename)}:{f.lineno} {f.name}" for f in reversed(where))))

async def main():
    paths = locate()
    settings, problems = config_file.load(paths.config_file)
    tasks = []
    def ready(_):
        global steps
        steps = Longest()
        tasks.append(asyncio.create_task(heart()))
        if with_stacks:
            threading.Thread(target=look, args=(threading.get_ident(),), daemon=True).start()
        print(json.dumps({"socket": str(paths.socket)}), flush=True)
    await serve(paths, settings, problems, ready)
    tasks[0].cancel()

def timed(handle, run=asyncio.Handle._run):
    begin = time.thread_time()
    run(handle)
    steps.append(time.thread_time() - begin, handle)

asyncio.Handle._run = timed
steps = Longest()
began = time.process_time()
asyncio.run(main())
late.sort()
print(json.dumps({
    "max_ms": late[-1], "p999_ms": late[int(len(late) * 0.999)],
    "p99_ms": late[int(len(late) * 0.99)], "step": steps.name,
    "over": sum(each > 20 for each in late), "beats": len(late), "stacks": sorted(stacks)[-20:],
    "step_ms": steps.seconds * 1000, "cpu_s": time.process_time() - began,
    "rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}), flush=True)
"""


@dataclass(slots=True)
class Seen:
    """What one front end got."""

    batches: int = 0
    began: float = 0.0
    last: float = 0.0

    def saw(self, now: float) -> None:
        """A state came; those that follow each other at once are one batch."""
        self.began = self.began or now
        self.batches += now - self.last > 0.05
        self.last = now

    @property
    def hz(self) -> float:
        """Batches a second."""
        return self.batches / max(self.last - self.began, 1e-9)


async def watch(client: Client, seen: Seen, jobs: int, max_hz: float | None) -> State:
    """Follow the feed until all jobs are completed."""
    async with client.feed.states(max_hz=max_hz) as states:
        async for state in states:
            seen.saw(time.perf_counter())
            done = [job.state for job in state.downloads.values()]
            if "failed" in done:
                raise SystemExit("a download failed")
            if done.count("completed") == jobs:
                return state
    raise AssertionError("the feed never ends by itself")


async def measured(socket: Path, jobs: int, clients: int) -> tuple[Seen, float]:
    """Queue everything, and follow it as several front ends do."""
    async with AsyncExitStack() as stack:
        ends = [await stack.enter_async_context(Client(socket=socket)) for _ in range(clients + 1)]
        seen = [Seen() for _ in ends]
        begin = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for number, (client, each) in enumerate(zip(ends, seen, strict=True)):
                group.create_task(watch(client, each, jobs, FEED_HZ if number else None))
            for number in range(jobs):
                await ends[0].download(f"deck/bench-{number:03}-GGUF:Q8_0")
        return seen[-1], time.perf_counter() - begin


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--jobs", type=int, default=100)
    parser.add_argument("--files", type=int, default=10)
    parser.add_argument("--kib", type=int, default=256)
    parser.add_argument("--clients", type=int, default=3)
    parser.add_argument("--stacks", action="store_true")
    options = parser.parse_args()
    root = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(prefix="md-", dir=root) as folder:
        words = [folder, str(options.jobs), str(options.files), str(options.kib << 10)]
        hub = subprocess.Popen(
            [sys.executable, "-c", HUB, *words],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert hub.stdout is not None
        environ = {
            **os.environ,
            "HF_ENDPOINT": hub.stdout.readline().strip(),
            "MODELDECK_HOME": os.path.join(folder, "h"),
            "HF_HOME": os.path.join(folder, "hf"),
        }
        core = subprocess.Popen(
            [sys.executable, "-c", CORE, "stacks" if options.stacks else "plain"],
            stdout=subprocess.PIPE, env=environ, text=True,
        )  # fmt: skip
        assert core.stdout is not None
        socket = Path(json.loads(core.stdout.readline())["socket"])
        try:
            seen, seconds = asyncio.run(measured(socket, options.jobs, options.clients))
            core.terminate()
            told = json.loads(core.stdout.readline())
        finally:
            core.kill()
            core.wait()
            hub.kill()
            hub.wait()
    print(f"{options.jobs} jobs of {options.files} files in {seconds:.1f} s")
    print(
        f"loop late: at most {told['max_ms']:.1f} ms, p99.9 {told['p999_ms']:.1f}, p99"
        f" {told['p99_ms']:.1f}; above {LIMIT_MS:g} ms {told['over']} of {told['beats']} times"
    )
    print(
        f"longest step of the loop: {told['step_ms']:.1f} ms of processor time, in {told['step']}"
    )
    print(f"core: {told['cpu_s']:.1f} s CPU, {told['rss_mib']:.0f} MiB RSS at most")
    print(f"a front end that asked for {FEED_HZ:g} Hz got {seen.hz:.1f} batches a second")
    for milliseconds, stack in told["stacks"]:
        print(f"{milliseconds:6.1f} ms {stack}")


if __name__ == "__main__":
    main()
