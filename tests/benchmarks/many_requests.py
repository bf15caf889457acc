"""Many requests at once, and conversations in turn, beside llama-server and llama_cpp.server.

    LLAMA_SERVER=path LLAMA_CPP_SERVER_PYTHON=path python -m tests.benchmarks.many_requests
        [--mb 60] [--starts 4] [--rounds 3]

The same model with the same options in a real core, in llama-server (left out where `LLAMA_SERVER`
names none) and in llama_cpp.server, which answers one request at a time (left out where
`LLAMA_CPP_SERVER_PYTHON` names no Python that has it). They take turns in every round, in another
order each time. Every round asks something new. All are started several times, each time with an
environment of another length: where a program's memory lies depends on it, and with that up to a
tenth of llama-server's time. Prints the medians of all rounds, and the median ratios of the core to
each of them round by round:

- `at once`: N requests that share nothing, prompts of 270 and of 1,000 tokens;
- `shared`: eight requests with one long system prompt and a question each;
- `in turn`: six conversations with one system prompt that take turns, three questions each: how
  many tokens of the prompts were read, and the time to the first token;
- `pause`: the longest pause of three answers while a long prompt is read beside them.

Wanted: tokens per second and processor seconds within 3 % of llama-server where nothing is shared,
1.2 times its speed with a shared system prompt, half of its tokens in conversations.

Needs the extra `local`, and a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from modeldeck.core.demo.model_writer import write_gguf
from modeldeck.core.schema import LoadOptions
from tests.benchmarks.generation import SERVER, START_S, llama_cpp_server, loaded_core
from tests.benchmarks.processes import used_s

CONTEXT, BATCH, PARALLEL = 16_384, 512, 16
LEVELS = (1, 2, 4, 8, 16)
TOKENS = 64
SHORT_WORDS, SYSTEM_WORDS, LONG_WORDS = 60, 190, 230
"""A word of the model's vocabulary has four to five tokens: prompts of 270, 860 and 1,000."""
TALKERS, QUESTIONS = 6, 3
FILLER = "MODELDECK_BENCHMARK_FILLER"
LENGTH_STEP = 13
"""Bytes by which the environment of a start is longer than that of the one before: no two of 16
starts have lengths with the same remainder of 16, what `malloc` rounds to."""


@dataclass(slots=True)
class Answer:
    """One answer: when its pieces came, and what the server counted."""

    begin: float
    times: list[float] = field(default_factory=list)
    prompt_tokens: int = 0
    cached_tokens: int = 0
    text: str = ""

    @property
    def first_s(self) -> float:
        """Time to the first token in seconds."""
        return self.times[0] - self.begin

    @property
    def longest_pause_s(self) -> float:
        """The longest time between two pieces in seconds."""
        pauses = (b - a for a, b in zip(self.times, self.times[1:], strict=False))
        return max(pauses, default=0.0)


@dataclass(frozen=True, slots=True)
class Side:
    """A server under test."""

    url: str
    model: str
    process: psutil.Process

    def cpu_s(self) -> float:
        """Processor seconds of its processes so far."""
        return used_s(self.process)


@dataclass(frozen=True, slots=True)
class Sample:
    """One round of one side."""

    tokens_per_s: float
    first_s: float
    worst_first_s: float
    cpu_s: float
    read_tokens: int
    longest_pause_s: float


Messages = list[dict[str, Any]]


async def ask(side: Side, messages: Messages, tokens: int) -> Answer:
    """Ask for a streamed answer of a number of tokens."""
    parts = urlsplit(side.url)
    body = json.dumps(
        {
            "model": side.model,
            "messages": messages,
            "max_tokens": tokens,
            "temperature": 0.0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    ).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=1 << 22)
    answer = Answer(time.perf_counter())
    writer.write(head.encode() + body)
    status = await reader.readline()
    assert b" 200 " in status, status + await reader.read(2000)
    while line := await reader.readline():
        if line.startswith(b"data: {"):
            _take(answer, json.loads(line[6:]))
    writer.close()
    assert answer.times, "no text came"
    return answer


def _take(answer: Answer, event: dict[str, Any]) -> None:
    for choice in event.get("choices", ()):
        if text := choice["delta"].get("content"):
            answer.times.append(time.perf_counter())
            answer.text += text
        elif choice.get("finish_reason") and not answer.times:
            answer.times.append(time.perf_counter())  # its first token is one without a text
    if usage := event.get("usage"):
        answer.prompt_tokens = usage["prompt_tokens"]
        answer.cached_tokens = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0


def words(seed: str, count: int) -> str:
    """A text of a number of words that no other seed begins with."""
    return f"{seed} " + " ".join(f"word {index * 7 % 97}" for index in range(count // 2))


def alone(text: str) -> Messages:
    """A conversation of one question."""
    return [{"role": "user", "content": f"{text} please loop"}]


Scenario = Callable[[Side, str], Awaitable[list[Answer]]]


def at_once(level: int, count: int) -> Scenario:
    """Requests that share nothing, with prompts of `count` words."""

    async def run(side: Side, seed: str) -> list[Answer]:
        asked = [alone(words(f"{seed}-{index}", count)) for index in range(level)]
        return await asyncio.gather(*(ask(side, messages, TOKENS) for messages in asked))

    return run


async def shared(side: Side, seed: str) -> list[Answer]:
    """Requests with one long system prompt."""
    system = {"role": "system", "content": words(seed, SYSTEM_WORDS)}
    asked = [[system, *alone(words(f"{seed} q{index}", 10))] for index in range(8)]
    return await asyncio.gather(*(ask(side, messages, TOKENS) for messages in asked))


async def in_turn(side: Side, seed: str) -> list[Answer]:
    """Conversations that take turns; the answers after each one's first."""
    system = {"role": "system", "content": words(seed, 100)}
    talks: list[Messages] = [[system] for _ in range(TALKERS)]
    found: list[Answer] = []
    for turn in range(QUESTIONS):
        for index, talk in enumerate(talks):
            talk += alone(words(f"{seed} {index} {turn}", 6))
            answer = await ask(side, talk, 16)
            talk.append({"role": "assistant", "content": answer.text})
            if turn:
                found.append(answer)
    return found


async def pause(side: Side, seed: str) -> list[Answer]:
    """Three answers, beside which a long prompt is read."""
    writers = [asyncio.create_task(ask(side, alone(f"{seed} {index}"), 256)) for index in range(3)]
    await asyncio.sleep(0.2)
    await ask(side, alone(words(f"{seed} long", 3 * LONG_WORDS)), 4)
    return await asyncio.gather(*writers)


def sampled(side: Side, scenario: Scenario, seed: str) -> Sample:
    """Run a scenario once."""
    before, begin = side.cpu_s(), time.perf_counter()
    answers = asyncio.run(_within(scenario(side, seed)))
    seconds, cpu = time.perf_counter() - begin, side.cpu_s() - before
    return Sample(
        tokens_per_s=sum(len(answer.times) for answer in answers) / seconds,
        first_s=statistics.median(answer.first_s for answer in answers),
        worst_first_s=max(answer.first_s for answer in answers),
        cpu_s=cpu,
        read_tokens=sum(answer.prompt_tokens - answer.cached_tokens for answer in answers),
        longest_pause_s=max(answer.longest_pause_s for answer in answers),
    )


async def _within(work: Awaitable[list[Answer]]) -> list[Answer]:
    return await asyncio.wait_for(work, 600)


@contextmanager
def llama_server(program: str, path: Path, threads: int, *more: str) -> Iterator[Side]:
    """llama-server with the options of the core, and with more of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [program, "-m", str(path), "--port", str(port), "-c", str(CONTEXT)]
    command += ["-np", str(PARALLEL), "-kvu", "-b", str(BATCH), "-ub", str(BATCH), "-fa", "on"]
    command += ["-t", str(threads), "-tb", str(threads), "--no-webui", *more]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_until_ready(process, port)
        yield Side(url, "model", psutil.Process(process.pid))
    finally:
        process.terminate()
        process.wait()


@contextmanager
def python_server(python: str, path: Path, threads: int) -> Iterator[Side]:
    """llama_cpp.server with the options of the core that it knows."""
    options = {"n_ctx": CONTEXT, "n_batch": BATCH, "n_ubatch": BATCH}
    options |= {"n_threads": threads, "n_threads_batch": threads}
    with llama_cpp_server(python, path, options) as (url, process):
        yield Side(url, "model", psutil.Process(process.pid))


def _wait_until_ready(process: subprocess.Popen[bytes], port: int) -> None:
    late = time.monotonic() + START_S
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), 1) as line:
                line.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
                if b" 200 " in line.recv(100):
                    return
        except OSError:
            pass
        if process.poll() is not None or time.monotonic() > late:
            raise SystemExit("llama-server did not start: is LLAMA_SERVER right?")
        time.sleep(0.1)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--mb", type=int, default=60)
    add_options(parser)
    asked = parser.parse_args()

    def begin(stack: ExitStack) -> dict[str, Side]:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="md-")))
        (folder / "model").mkdir()
        path = folder / "model" / "bench-F16.gguf"
        write_gguf(path, size_bytes=asked.mb << 20)
        loaded = loaded_core(path, folder, load_options(asked.threads))
        process, model = stack.enter_context(loaded)
        sides = {"core": Side(process.url, model, psutil.Process(process.process.pid))}
        if program := os.environ.get("LLAMA_SERVER"):
            sides["llama-server"] = stack.enter_context(llama_server(program, path, asked.threads))
        if python := os.environ.get(SERVER):
            sides["llama_cpp.server"] = stack.enter_context(
                python_server(python, path, asked.threads)
            )
        return sides

    scenarios: dict[str, Scenario] = {
        **{f"at once {level:2}, 270 tokens": at_once(level, SHORT_WORDS) for level in LEVELS},
        "at once  4, 1000 tokens": at_once(4, LONG_WORDS),
        "shared  8": shared,
        "in turn": in_turn,
        "pause": pause,
    }
    measure_and_show(begin, chosen(scenarios, asked.only), asked.starts, asked.rounds)


def load_options(threads: int) -> LoadOptions:
    """How the core loads the model: as llama-server does with the options it is started with."""
    return LoadOptions(
        context_length=CONTEXT,
        batch_size=BATCH,
        threads=threads,
        flash_attention=True,
        idle_ttl_s=0,
        parallel=PARALLEL,
    )


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of how often is measured, and what."""
    parser.add_argument("--starts", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3, help="of each start")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", nargs="*", default=(), help="names of scenarios")


def chosen(scenarios: dict[str, Scenario], only: Sequence[str]) -> dict[str, Scenario]:
    """The scenarios that are asked for by their name, or its first word; all without any."""
    return {
        name: scenario
        for name, scenario in scenarios.items()
        if not only or name in only or name.split()[0] in only
    }


def measure_and_show(
    begin: Callable[[ExitStack], dict[str, Side]],
    scenarios: dict[str, Scenario],
    starts: int,
    rounds: int,
) -> None:
    """Measure the servers that `begin` starts, in several starts, and print."""
    found: dict[str, dict[str, list[Sample]]] = {name: {} for name in scenarios}
    for start in range(starts):
        with ExitStack() as stack:
            stack.enter_context(environment_of_length(LENGTH_STEP * start))
            sides = begin(stack)
            for name, scenario in scenarios.items():
                for side, samples in measured(sides, name, scenario, rounds).items():
                    found[name].setdefault(side, []).extend(samples)
    for name, of_sides in found.items():
        show(name, of_sides)


@contextmanager
def environment_of_length(length: int) -> Iterator[None]:
    """Make the environment of the programs that are started longer by `length` bytes.

    Mytkowicz et al., "Producing wrong data without doing anything obviously wrong!", 2009.
    """
    os.environ[FILLER] = "x" * length
    try:
        yield
    finally:
        del os.environ[FILLER]


def measured(
    sides: dict[str, Side], name: str, scenario: Scenario, rounds: int
) -> dict[str, list[Sample]]:
    """Samples of each side, which take turns; the first round warms up."""
    found: dict[str, list[Sample]] = {side: [] for side in sides}
    order = list(sides)
    for turn in range(-1, rounds):
        order = order[1:] + order[:1]
        for side in order:
            sample = sampled(sides[side], scenario, f"{name} {turn}")
            if turn >= 0:
                found[side].append(sample)
    return found


FIGURES: tuple[tuple[str, Callable[[Sample], float]], ...] = (
    ("tok/s", lambda s: s.tokens_per_s),
    ("first ms", lambda s: 1000 * s.first_s),
    ("worst ms", lambda s: 1000 * s.worst_first_s),
    ("cpu s", lambda s: s.cpu_s),
    ("read", lambda s: s.read_tokens),
    ("pause ms", lambda s: 1000 * s.longest_pause_s),
)


def show(name: str, found: dict[str, list[Sample]]) -> None:
    """Print medians of each side, and the ratios of the first to each other one."""
    print(name)
    base, *others = found
    for side, samples in found.items():
        line = "  ".join(f"{head} {_median(samples, get):8.2f}" for head, get in FIGURES)
        print(f"  {side:16} {line}")
    for other in others:
        pairs = list(zip(found[base], found[other], strict=True))
        line = "  ".join(f"{head} x{_ratio(pairs, get):7.2f}" for head, get in FIGURES)
        print(f"  {'to ' + other:16} {line}", flush=True)


def _median(samples: Sequence[Sample], get: Callable[[Sample], float]) -> float:
    return statistics.median(get(sample) for sample in samples)


def _ratio(pairs: Sequence[tuple[Sample, Sample]], get: Callable[[Sample], float]) -> float:
    """The median ratio; not a number where the other side does not tell its figure."""
    return statistics.median(get(a) / get(b) if get(b) else math.nan for a, b in pairs)


if __name__ == "__main__":
    main()
