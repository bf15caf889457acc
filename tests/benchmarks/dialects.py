"""Streams of every dialect beside OpenAI's chat route: the first byte of text, and tokens/s.

    python -m tests.benchmarks.dialects [--mb 50] [--tokens 96] [--rounds 9]

One core, one model, one request at a time; the dialects take turns in every round, in another order
each time, and each asks something new, so that no prompt is found in a cache. Prints medians, and
the median ratios to the chat route: each should be within 3 % of it. The CPU time is that of the
core without its engine: it differs less than the other figures where other programs run as well.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from modeldeck.core.demo.model_writer import write_gguf
from modeldeck.core.schema import LoadOptions
from tests.benchmarks.generation import BATCH, CONTEXT, Run, loaded_core, timed
from tests.benchmarks.processes import cpu_s


@dataclass(frozen=True, slots=True)
class DialectRoute:
    """How a dialect is asked for a stream."""

    path: str
    limit: str
    """Field of the request with the most tokens."""
    asks: str
    """Field with the conversation."""
    mark: bytes
    """What a line of its stream has in it where it brings text."""


@dataclass(frozen=True, slots=True)
class DialectRun:
    """One answer, and what it cost the core."""

    run: Run
    cpu_s: float
    """CPU seconds of the core for each token."""


ROUTES = {
    "OpenAI chat": DialectRoute("/v1/chat/completions", "max_tokens", "messages", b'"content":"'),
    "Responses": DialectRoute(
        "/v1/responses", "max_output_tokens", "input", b'"type":"response.output_text.delta"'
    ),
    "Messages": DialectRoute("/v1/messages", "max_tokens", "messages", b'"type":"text_delta"'),
    "Ollama": DialectRoute("/api/chat", "num_predict", "messages", b'"content":"'),
}


def ask(url: str, model: str, route: DialectRoute, text: str, tokens: int) -> Run:
    """One answer, over a connection that is there already."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=600)
    connection.connect()
    given: dict[str, Any] = {"model": model, "stream": True, route.limit: tokens, "temperature": 0}
    if route.path.startswith("/api"):
        given = {"model": model, "options": {route.limit: tokens, "temperature": 0}}
    body = json.dumps({**given, route.asks: [{"role": "user", "content": text}]})
    begin = time.perf_counter()
    connection.request("POST", route.path, body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    times: list[float] = []
    while line := answer.readline():
        if route.mark in line and b'"content":""' not in line:
            times.append(time.perf_counter())
    connection.close()
    return timed(begin, times[0], times[-1], tokens)


def show(runs: dict[str, list[DialectRun]]) -> None:
    """Print medians, and median ratios to the first dialect, round by round."""
    base = next(iter(runs.values()))
    for name, found in runs.items():
        pairs = list(zip(found, base, strict=True))
        speed = statistics.median(each.run.tokens_per_s for each in found)
        first = statistics.median(each.run.first_s for each in found)
        cost = statistics.median(each.cpu_s for each in found)
        faster = statistics.median(a.run.tokens_per_s / b.run.tokens_per_s for a, b in pairs)
        later = statistics.median(a.run.first_s / b.run.first_s for a, b in pairs)
        dearer = statistics.median(a.cpu_s / b.cpu_s for a, b in pairs)
        print(
            f"{name:12} {speed:8.2f} tokens/s ({faster:5.3f} of chat)"
            f"   first text {1000 * first:8.1f} ms ({later:5.3f} of chat)"
            f"   CPU {1e6 * cost:6.1f} µs a token ({dearer:5.3f} of chat)"
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--mb", type=int, default=50)
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=max(1, (os.cpu_count() or 1) // 2))
    asked = parser.parse_args()
    options = LoadOptions(
        context_length=CONTEXT, batch_size=BATCH, threads=asked.threads, idle_ttl_s=0
    )
    with tempfile.TemporaryDirectory(prefix="md-") as name:
        folder = Path(name)
        (folder / "model").mkdir()
        path = folder / "model" / "bench-F16.gguf"
        write_gguf(path, size_bytes=asked.mb << 20)
        runs: dict[str, list[DialectRun]] = {dialect: [] for dialect in ROUTES}
        order = list(ROUTES)
        with loaded_core(path, folder, options) as (process, model):
            for turn in range(-1, asked.rounds):
                order = order[1:] + order[:1]
                for dialect in order:
                    text = f"{turn} {dialect} {'word ' * 60} please loop"
                    before = cpu_s(process.process.pid)
                    run = ask(process.url, model, ROUTES[dialect], text, asked.tokens)
                    used = (cpu_s(process.process.pid) - before) / asked.tokens
                    if turn >= 0:  # the first round warms up
                        runs[dialect].append(DialectRun(run, used))
    show(runs)


if __name__ == "__main__":
    main()
