"""Generation through the core beside llama-cpp-python itself and beside its own server.

    LLAMA_CPP_SERVER_PYTHON=path python -m tests.benchmarks.generation [--mb 200] [--tokens 128]

The same model with the same options, in three processes: an engine of a real core, asked over HTTP
(`/v1/chat/completions`, streamed); `llama_cpp.Llama`, asked in its own process; and
`llama_cpp.server`, asked over HTTP (left out where `LLAMA_CPP_SERVER_PYTHON` names no Python with
the extra `server` of llama-cpp-python). They take turns in every round, in another order each time,
so that what else the machine does weighs on all of them. Each round asks something new, so that no
prompt is found in a cache. Prints the medians, and the median ratios to `llama_cpp.Llama`: the core
should have at least 0.97 of its tokens per second, and the first token within 5 ms of it.

Needs the extra `local`.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from modeldeck.core.client.client import Client
from modeldeck.core.demo.hub import DemoHub
from modeldeck.core.demo.model_writer import write_gguf
from modeldeck.core.demo.repository import demo_repo
from modeldeck.core.schema import LoadOptions
from tests.support.process import CoreProcess

CONTEXT, BATCH = 2048, 512
START_S = 120.0
SERVER = "LLAMA_CPP_SERVER_PYTHON"
"""The variable that names a Python interpreter with llama-cpp-python and its extra `server`."""

DIRECT = """
import json, sys, time
from llama_cpp import Llama
options = json.loads(sys.argv[2])
model = Llama(sys.argv[1], verbose=False, flash_attn=True, **options)
print("ready", flush=True)
for line in sys.stdin:
    request = json.loads(line)
    begin = time.perf_counter()
    times = []
    for chunk in model.create_chat_completion(**request):
        if chunk["choices"][0]["delta"].get("content"):
            times.append(time.perf_counter())
    print(json.dumps([begin, times[0], times[-1]]), flush=True)
"""


@dataclass(frozen=True, slots=True)
class Run:
    """One answer."""

    first_s: float
    """Time to its first token."""
    tokens_per_s: float
    """After the first one."""


Ask = Callable[[str, int], Run]
"""Asks for a number of tokens."""


def request(text: str, tokens: int) -> dict[str, object]:
    """The body that all three understand."""
    return {
        "messages": [{"role": "user", "content": text}],
        "max_tokens": tokens,
        "temperature": 0.0,
        "stream": True,
    }


def timed(begin: float, first: float, last: float, tokens: int) -> Run:
    """A run from three points in time."""
    return Run(first - begin, (tokens - 1) / (last - first))


def over_http(url: str, model: str) -> Ask:
    """Asks a server that speaks OpenAI's API, over a connection that is there already."""
    parts = urlsplit(url)

    def ask(text: str, tokens: int) -> Run:
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=600)
        connection.connect()
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        body = json.dumps({"model": model, **request(text, tokens)})
        begin = time.perf_counter()
        connection.request(
            "POST", "/v1/chat/completions", body, {"Content-Type": "application/json"}
        )
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        times: list[float] = []
        while line := answer.readline():
            if b'"content":"' in line.replace(b": ", b":") and b'"content":""' not in line:
                times.append(time.perf_counter())
        connection.close()
        return timed(begin, times[0], times[-1], tokens)

    return ask


@contextmanager
def direct(path: Path, options: dict[str, int]) -> Iterator[Ask]:
    """`llama_cpp.Llama` in a process of its own."""
    command = [sys.executable, "-c", DIRECT, str(path), json.dumps(options)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        lines, out = process.stdout, process.stdin

        def ask(text: str, tokens: int) -> Run:
            out.write(json.dumps(request(text, tokens)) + "\n")
            out.flush()
            begin, first, last = json.loads(lines.readline())
            return timed(begin, first, last, tokens)

        yield ask
        process.stdin.close()


@contextmanager
def llama_cpp_server(
    python: str, path: Path, options: dict[str, int]
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """`llama_cpp.server` in a process of its own, run by this interpreter; also returns its URL.

    It answers one request at a time; the others wait.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [python, "-m", "llama_cpp.server", "--model", str(path)]
    command += ["--port", str(port), "--flash_attn", "true", "--verbose", "false"]
    command += ["--interrupt_requests", "false"]
    for name, value in options.items():
        command += [f"--{name}", str(value)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        late = time.monotonic() + START_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError as error:
                if process.poll() is not None or time.monotonic() > late:
                    raise SystemExit(
                        f"llama_cpp.server did not start: is {SERVER} right?"
                    ) from error
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}", process
    finally:
        process.terminate()
        process.wait()


@contextmanager
def core(path: Path, folder: Path, threads: int) -> Iterator[Ask]:
    """A real core that has loaded the model."""
    options = LoadOptions(
        context_length=CONTEXT,
        batch_size=BATCH,
        threads=threads,
        flash_attention=True,
        idle_ttl_s=0,
    )
    with loaded_core(path, folder, options) as (process, model):
        yield over_http(process.url, model)


@contextmanager
def loaded_core(
    path: Path, folder: Path, options: LoadOptions
) -> Iterator[tuple[CoreProcess, str]]:
    """A real core that has loaded the model, and the model's name."""
    repository = demo_repo("deck/bench-GGUF", path.parent)
    environ = {
        **os.environ,
        "MODELDECK_HOME": str(folder / "home"),
        "HF_HOME": str(folder / "hf"),
        "MODELDECK_RUNTIME_CALIBRATE": "false",  # once on each machine, and is over by then
    }
    with ExitStack() as stack:
        hub = stack.enter_context(DemoHub.in_thread([repository]))
        process = stack.enter_context(CoreProcess({**environ, "HF_ENDPOINT": hub.url}))
        yield process, asyncio.run(_loaded(process, options))


async def _loaded(process: CoreProcess, options: LoadOptions) -> str:
    async with Client(socket=process.socket) as client:
        model, _ = await client.download("deck/bench-GGUF")
        await client.feed.until(lambda state: any(m.downloaded for m in state.models.values()))
        await client.loaded(model.id, options, force=True)
        return model.unique


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--mb", type=int, default=200)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=max(1, (os.cpu_count() or 1) // 2))
    asked = parser.parse_args()
    options = {
        "n_ctx": CONTEXT,
        "n_batch": BATCH,
        "n_threads": asked.threads,
        "n_threads_batch": asked.threads,
    }
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="md-")))
        (folder / "model").mkdir()
        path = folder / "model" / "bench-F16.gguf"
        write_gguf(path, size_bytes=asked.mb << 20)
        sides: dict[str, Ask] = {
            "llama_cpp.Llama": stack.enter_context(direct(path, options)),
            "core": stack.enter_context(core(path, folder, asked.threads)),
        }
        if python := os.environ.get(SERVER):
            url, _ = stack.enter_context(llama_cpp_server(python, path, options))
            sides["llama_cpp.server"] = over_http(url, "model")
        runs: dict[str, list[Run]] = {name: [] for name in sides}
        order = list(sides)
        for turn in range(-1, asked.rounds):
            order = order[1:] + order[:1]
            for name in order:
                run = sides[name](f"{turn} {'word ' * 60} please loop", asked.tokens)
                if turn >= 0:  # the first round warms up
                    runs[name].append(run)
    show(runs)


def show(runs: dict[str, list[Run]]) -> None:
    """Print medians, and median ratios and differences to the first side, round by round."""
    base = next(iter(runs.values()))
    for name, found in runs.items():
        speed = statistics.median(run.tokens_per_s for run in found)
        first = statistics.median(run.first_s for run in found)
        ratio = statistics.median(
            run.tokens_per_s / other.tokens_per_s for run, other in zip(found, base, strict=True)
        )
        later = statistics.median(
            run.first_s - other.first_s for run, other in zip(found, base, strict=True)
        )
        print(
            f"{name:18} {speed:8.2f} tokens/s ({ratio:5.3f} of direct)"
            f"   first token {1000 * first:8.1f} ms ({1000 * later:+7.1f} ms)"
        )


if __name__ == "__main__":
    main()
