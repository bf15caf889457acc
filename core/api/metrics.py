"""Metrics in Prometheus text format: listener, core, machine, downloads and generation.

Written without the client library: its counters cost ten times as much, and each request has six.
Labels have few values: route templates, status classes and state names; only loaded models are
labels of their own.

Format: https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format. Names by
https://prometheus.io/docs/practices/naming/.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Literal, get_args

import psutil

from modeldeck.core.api.http.messages import Request, Response
from modeldeck.core.api.http.meter import BUCKETS_S, RequestMetrics
from modeldeck.core.schema import LIVE_STATES, DownloadState, InstanceState

if TYPE_CHECKING:
    from modeldeck.core.service.deck import Deck

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Kind = Literal["counter", "gauge", "histogram"]


class MetricsText:
    """Builds a page of metric families and their samples."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def family(self, name: str, kind: Kind, text: str) -> None:
        """Start a family; its samples follow."""
        self._name = f"modeldeck_{name}"
        self._lines.append(f"# HELP {self._name} {text}")
        self._lines.append(f"# TYPE {self._name} {kind}")

    def sample(self, value: float | None, suffix: str = "", **labels: str) -> None:
        """Add a value; an unknown one (None) is left out."""
        if value is None:
            return
        pairs = ",".join(f'{name}="{_escaped(text)}"' for name, text in labels.items())
        braces = f"{{{pairs}}}" if pairs else ""
        self._lines.append(f"{self._name}{suffix}{braces} {value:.12g}")

    def one(self, name: str, kind: Kind, text: str, value: float | None) -> None:
        """Add a family with one sample."""
        if value is not None:
            self.family(name, kind, text)
            self.sample(value)

    def by(self, name: str, kind: Kind, text: str, label: str, values: Mapping[str, float]) -> None:
        """Add a family with one label."""
        if values:
            self.family(name, kind, text)
            for key, value in values.items():
                self.sample(value, **{label: key})

    def text(self) -> bytes:
        """The whole page."""
        return ("\n".join(self._lines) + "\n").encode()


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def get_metrics(deck: Deck, request: Request) -> Response:
    """Metrics of the core, in Prometheus text format."""
    meter = request.meter
    assert meter is not None
    body = exposition(deck, meter, meter.connections)
    return Response(body=body, content_type=CONTENT_TYPE)


def exposition(deck: Deck, meter: RequestMetrics, connections: int) -> bytes:
    """The page of metrics."""
    page = MetricsText()
    _process(page, deck)
    _requests(page, meter)
    page.one("http_connections", "gauge", "Open connections.", connections)
    page.one("websockets", "gauge", "Open WebSockets.", meter.sockets)
    page.by("http_connections_refused_total", "counter", "Connections not let in.", "reason",
            meter.refused)  # fmt: skip
    _work(page, deck)
    _machine(page, deck)
    return page.text()


def _process(page: MetricsText, deck: Deck) -> None:
    page.family("info", "gauge", "Version of the core.")
    page.sample(1, version=deck.state.host.version)
    process = psutil.Process()
    with process.oneshot():
        times = process.cpu_times()
        page.one("process_cpu_seconds_total", "counter", "Processor time of the core.",
                 times.user + times.system)  # fmt: skip
        page.one("process_resident_memory_bytes", "gauge", "Memory of the core.",
                 process.memory_info().rss)  # fmt: skip
        page.one("process_start_time_seconds", "gauge", "When the core started.",
                 process.create_time())  # fmt: skip
    page.one("time_seconds", "gauge", "The clock of the core.", time.time())


def _requests(page: MetricsText, meter: RequestMetrics) -> None:
    tallies = [({"route": r, "method": m}, tally) for (r, m), tally in meter.tallies.items()]
    if not tallies:
        return
    page.family("http_requests_total", "counter", "Requests, by route, method, status class.")
    for labels, tally in tallies:
        for digit, count in enumerate(tally.classes):
            if count:
                page.sample(count, **labels, status=f"{digit}xx")
    page.family("http_response_bytes_total", "counter", "Bytes of bodies sent.")
    for labels, tally in tallies:
        page.sample(tally.sent_bytes, **labels)
    page.family("http_request_seconds", "histogram", "From the head of a request to its answer.")
    for labels, tally in tallies:
        total = 0
        for edge, count in zip((*BUCKETS_S, float("inf")), tally.buckets, strict=True):
            total += count
            page.sample(total, "_bucket", **labels, le="+Inf" if edge > 1e9 else f"{edge:g}")
        page.sample(tally.seconds, "_sum", **labels)
        page.sample(total, "_count", **labels)


def _counted(names: Iterable[str], found: Iterable[str]) -> dict[str, float]:
    """Count of each name, zeros included: graphs need them."""
    counts = Counter(found)
    return {name: counts[name] for name in names}


def _work(page: MetricsText, deck: Deck) -> None:
    state, counters = deck.state, deck.counters
    jobs = _counted(get_args(DownloadState), (job.state for job in state.downloads.values()))
    page.by("downloads", "gauge", "Downloads in the list.", "state", jobs)
    page.by("downloads_ended_total", "counter", "Downloads that ended.", "outcome",
            counters.downloads)  # fmt: skip
    page.one("download_received_bytes_total", "counter", "Bytes that downloads received.",
             counters.received_bytes)  # fmt: skip
    instances = state.instances.values()
    found = _counted([s.value for s in InstanceState], (i.state.value for i in instances))
    page.by("instances", "gauge", "Loaded models.", "state", found)
    page.by("instance_memory_bytes", "gauge", "Memory of each loaded model.", "model",
            {i.unique: i.measured_bytes for i in instances if i.measured_bytes is not None},
            )  # fmt: skip
    page.by("requests", "gauge", "Requests to models that have not ended.", "state",
            _counted(LIVE_STATES, (r.state for r in state.requests.values() if r.live)),
            )  # fmt: skip
    page.one("requests_running", "gauge", "Requests that models answer now.",
             sum(i.running for i in instances))  # fmt: skip
    page.one("requests_waiting", "gauge", "Requests that wait for a loaded model.",
             sum(i.requests - i.running for i in instances))  # fmt: skip
    page.by("answers_total", "counter", "Answers of models.", "end", counters.answers)
    page.one("kept_answers", "gauge", "Answers that clients may name again.",
             len(deck.answers.store))  # fmt: skip
    page.one("kept_answers_bytes", "gauge", "Memory of those answers.",
             deck.answers.store.total_bytes)  # fmt: skip
    page.one("kept_conversations", "gauge", "Conversations that clients build up here.",
             len(deck.answers.conversations))  # fmt: skip
    page.one("kept_conversations_bytes", "gauge", "Memory of those conversations.",
             deck.answers.conversations.total_bytes)  # fmt: skip
    page.by("tokens_total", "counter", "Tokens of prompts and answers.", "kind",
            {"prompt": counters.prompt_tokens, "completion": counters.completion_tokens,
             "cached": counters.cached_tokens},
            )  # fmt: skip


def _machine(page: MetricsText, deck: Deck) -> None:
    state = deck.state
    models = _counted(("listed", "downloaded"),
                      ("downloaded" if m.downloaded else "listed" for m in state.models.values()),
                      )  # fmt: skip
    page.by("models", "gauge", "Models in the list.", "state", models)
    page.one("memory_total_bytes", "gauge", "Memory.", state.memory.total_bytes)
    page.one("memory_available_bytes", "gauge", "Memory that is free to take.",
             state.memory.available_bytes)  # fmt: skip
    page.one("memory_budget_bytes", "gauge", "Memory budget of models.", state.memory.budget_bytes)
    page.one("disk_free_bytes", "gauge", "Free disk where the cache is.", state.disk.free_bytes)
    page.one("cache_bytes", "gauge", "The cache.", state.disk.cache_bytes)
    page.one("partial_bytes", "gauge", "Partial files.", state.disk.partial_bytes)
    saved = state.disk.prefix_cache_bytes
    page.one("saved_prefixes_bytes", "gauge", "Conversations that engines saved.", saved)
