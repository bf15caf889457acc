"""What is said of the difference between two States."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from modeldeck.core.config.config import Tui
from modeldeck.core.schema import (
    Download,
    ErrorInfo,
    Host,
    Instance,
    InstanceState,
    Model,
    Verification,
)
from modeldeck.core.schema.state import State
from modeldeck.tui.dashboard.news_display import NewsDisplay
from modeldeck.tui.dashboard.notifications import News, news
from modeldeck.tui.dashboard.widgets.notice import Severity
from modeldeck.tui.remote.core_link import LinkState, LinkStatus

HOST = Host(name="box", version="1", started_at="2026-01-01T00:00:00Z")
JOB = Download(
    id="d", model_id="m", unique="o/r:Q8_0", repo="o/r", revision="0" * 40, state="downloading",
    total_bytes=5_000_000_000, seconds=124,
)  # fmt: skip
INSTANCE = Instance(
    id="i", model_id="m", unique="o/r:Q8_0", state=InstanceState.STARTING, engine="llama.cpp"
)
KEYS = {"catalog.delete": "x", "catalog.download": "f2"}.__getitem__
ERROR = ErrorInfo(code="corrupt", message="It is corrupt.", remedy="Fetch it again.")


def state(*, job: Download | None = None, instance: Instance | None = None) -> State:
    return State(
        host=HOST,
        downloads={job.id: job} if job else {},
        instances={instance.id: instance} if instance else {},
    )


@pytest.mark.parametrize(
    ("now", "said"), [(LinkState.LIVE, ["The core answers again."]), (LinkState.CONNECTING, [])]
)
def test_a_core_answers_again_once_it_does(now: LinkState, said: list[str]) -> None:
    told: list[str] = []
    messages: Any = SimpleNamespace(say=lambda text, severity: told.append(text))
    lost = LinkStatus(state=LinkState.LOST)
    NewsDisplay(messages, Tui(), KEYS).tell_link(lost, LinkStatus(state=now))
    assert told == said


def test_nothing_is_said_of_what_was_found_or_of_another_core() -> None:
    done = state(job=replace(JOB, state="completed"))
    assert news(None, done, KEYS) == []
    other = replace(done, host=replace(HOST, started_at="2026-01-02T00:00:00Z"))
    assert news(state(job=JOB), other, KEYS) == []
    assert news(done, done, KEYS) == []


def test_a_download_that_ended_is_told_once_seen_under_way_or_not() -> None:
    done = state(job=replace(JOB, state="completed"))
    for before in (state(job=JOB), state()):
        (told,) = news(before, done, KEYS)
        assert (told.severity, told.about) == ("done", "m")
        assert told.text.startswith("o/r:Q8_0 downloaded: 5.0 GB in 2m04s")
    failed = state(job=replace(JOB, state="failed", error=ERROR))
    assert news(state(job=JOB), failed, KEYS) == [
        News("The download of o/r:Q8_0 failed: It is corrupt. Fetch it again.", "error", "m")
    ]
    assert news(state(job=JOB), state(job=replace(JOB, state="paused")), KEYS) == []


def test_a_load_that_ended_is_told() -> None:
    before = state(instance=INSTANCE)
    ready = replace(INSTANCE, state=InstanceState.READY, load_s=0.42, context_length=8192)
    assert news(before, state(instance=ready), KEYS) == [
        News("o/r:Q8_0 is ready: 0.42 s, 8k context", "done", "m")
    ]
    failed = state(instance=replace(INSTANCE, state=InstanceState.FAILED, error=ERROR))
    (told,) = news(before, failed, KEYS)
    assert (told.severity, told.about) == ("error", "m")
    assert told.text.startswith("o/r:Q8_0 could not be loaded: It is corrupt.")
    assert "ended" in news(state(instance=ready), failed, KEYS)[0].text
    busy = state(instance=replace(ready, state=InstanceState.BUSY))
    assert news(busy, state(instance=ready), KEYS) == []


CHECK = Verification(id="v", what="o/r:Q8_0", state="verifying", files=3, total_bytes=5_000_000_000)


@pytest.mark.parametrize(
    ("ended", "severity", "words"),
    [
        ({"state": "completed"}, "done", "o/r:Q8_0: 3 files verified, 5.0 GB"),
        (
            {"state": "completed", "unchecked": ("/a",)},
            "done",
            "o/r:Q8_0: 3 files verified, 5.0 GB; 1 file without a hash to check against",
        ),
        (
            {"state": "completed", "wrong": ("/s/a.gguf", "/s/b.gguf")},
            "error",
            "o/r:Q8_0: 2 of 3 files corrupt: a.gguf, b.gguf. In the Catalog x deletes them, f2"
            " downloads them again.",
        ),
        (
            {"state": "failed", "error": ERROR},
            "error",
            "The check of o/r:Q8_0 failed: It is corrupt. Fetch it again.",
        ),
        ({"state": "canceled"}, "note", "Check of o/r:Q8_0 cancelled."),
    ],
)
def test_a_check_that_ended_is_told(ended: dict[str, Any], severity: Severity, words: str) -> None:
    before = replace(state(), verifications={"v": CHECK})
    now = replace(state(), verifications={"v": replace(CHECK, **ended)})
    assert news(before, now, KEYS) == [News(words, severity, "o/r:Q8_0")]
    assert news(now, now, KEYS) == []


def test_a_check_of_one_model_names_it_as_its_row() -> None:
    running = replace(
        state(), models={"m": MODEL}, verifications={"v": replace(CHECK, model_ids=("m",))}
    )
    ended = replace(CHECK, model_ids=("m",), state="completed")
    (told,) = news(running, replace(running, verifications={"v": ended}), KEYS)
    assert told.text == "Tiny: 3 files verified, 5.0 GB"


MODEL = Model(
    id="m", unique="o/r:Q8_0", name="Tiny", format="gguf", source="hub", quantization="Q8_0"
)


def test_a_model_is_named_as_its_row_unless_two_rows_share_the_name() -> None:
    sibling = replace(MODEL, id="n", unique="o/r:F16", quantization="F16")
    twin = replace(MODEL, id="o", unique="other/r:Q8_0")
    ready = replace(INSTANCE, state=InstanceState.READY, load_s=0.42, context_length=8192)
    before, after = state(instance=INSTANCE), state(instance=ready)
    for models, name in (
        ([MODEL], "Tiny"),
        ([MODEL, sibling], "Tiny Q8_0"),
        ([MODEL, sibling, twin], "o/r:Q8_0"),
    ):
        now = replace(after, models={model.id: model for model in models})
        assert news(before, now, KEYS)[0].text == f"{name} is ready: 0.42 s, 8k context"
