"""What is said of the difference between two States."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from modeldeck.core.schema import Download, ErrorInfo, Host, Instance, InstanceState, Verification
from modeldeck.core.schema.state import State
from modeldeck.tui.dashboard.notifications import news

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


def test_nothing_is_said_of_what_was_found_or_of_another_core() -> None:
    done = state(job=replace(JOB, state="completed"))
    assert news(None, done, KEYS) == []
    other = replace(done, host=replace(HOST, started_at="2026-01-02T00:00:00Z"))
    assert news(state(job=JOB), other, KEYS) == []
    assert news(done, done, KEYS) == []


def test_a_download_that_ended_is_told_once_seen_under_way_or_not() -> None:
    done = state(job=replace(JOB, state="completed"))
    for before in (state(job=JOB), state()):
        ((text, severity),) = news(before, done, KEYS)
        assert severity == "done"
        assert text.startswith("o/r:Q8_0 downloaded: 5.0 GB in 2m04s")
    failed = state(job=replace(JOB, state="failed", error=ERROR))
    assert news(state(job=JOB), failed, KEYS) == [
        ("The download of o/r:Q8_0 failed: It is corrupt. Fetch it again.", "error")
    ]
    assert news(state(job=JOB), state(job=replace(JOB, state="paused")), KEYS) == []


def test_a_load_that_ended_is_told() -> None:
    before = state(instance=INSTANCE)
    ready = replace(INSTANCE, state=InstanceState.READY, load_s=0.42)
    ((text, severity),) = news(before, state(instance=ready), KEYS)
    assert (text[:29], severity) == ("o/r:Q8_0 ready in 0.42 s  (ll", "done")
    failed = state(instance=replace(INSTANCE, state=InstanceState.FAILED, error=ERROR))
    ((text, severity),) = news(before, failed, KEYS)
    assert severity == "error"
    assert text.startswith("o/r:Q8_0 could not be loaded: It is corrupt.")
    ((text, _),) = news(state(instance=ready), failed, KEYS)
    assert "ended" in text
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
            " fetches them again.",
        ),
        (
            {"state": "failed", "error": ERROR},
            "error",
            "The check of o/r:Q8_0 failed: It is corrupt. Fetch it again.",
        ),
        ({"state": "canceled"}, "note", "The check of o/r:Q8_0 was called off."),
    ],
)
def test_a_check_that_ended_is_told(ended: dict[str, Any], severity: str, words: str) -> None:
    before = replace(state(), verifications={"v": CHECK})
    now = replace(state(), verifications={"v": replace(CHECK, **ended)})
    assert news(before, now, KEYS) == [(words, severity)]
    assert news(now, now, KEYS) == []
