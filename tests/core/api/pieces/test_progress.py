from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeldeck.core.api.pieces.progress import (
    INTERVAL_S,
    ProgressState,
    percentage,
    phase,
    present_frame,
)
from modeldeck.core.api.pieces.schema import check
from modeldeck.core.schema import Download, ErrorInfo, Host, Memory, Model
from modeldeck.core.schema.state import (
    DownloadChanged,
    DownloadRemoved,
    Event,
    MemoryChanged,
    ModelChanged,
    ModelRemoved,
    State,
)

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
MODEL = Model(id="m", unique="deck/m", name="M", format="gguf", source="builtin")
HERE = replace(MODEL, downloaded=True)
JOB = Download(
    id="j", model_id="m", unique="deck/m", repo="deck/m", revision="c", state="downloading",
    total_bytes=1000, created_at="2026-01-01T11:00:00Z",
)  # fmt: skip
INITIALIZED = {"status": "INITIALIZED"}
COMPLETED = {"status": "COMPLETED", "percentage": 100}
FAILED = {"status": "FAILED"}
CANCELED = {"status": "CANCELED"}
RESET = {"status": "RESET"}
WRONG = ErrorInfo(code="corrupt", message="wrong hash")


def at(percent: float) -> dict[str, Any]:
    return {"status": "IN-PROGRESS", "percentage": percent}


def state_of(model: Model | None = MODEL, *jobs: Download, seq: int = 1) -> State:
    return State(
        seq=seq,
        host=Host(name="h", version="1", started_at=""),
        models={} if model is None else {model.id: model},
        downloads={job.id: job for job in jobs},
    )


def ended(state: Any, seconds_ago: float = 0, **fields: Any) -> Download:
    finished = (NOW - timedelta(seconds=seconds_ago)).isoformat()
    return replace(JOB, state=state, finished_at=finished, **fields)


def read(frames: list[bytes]) -> list[dict[str, Any]]:
    decoded = [json.loads(frame) for frame in frames]
    for frame in decoded:
        check(frame, "ModelDownloadProgress")
    return decoded


class Listener:
    """A machine with a clock that goes a second further at every item."""

    def __init__(self, *jobs: Download, model: Model = MODEL) -> None:
        self.progress = ProgressState("m")
        self.first = read(self.progress.begin(state_of(model, *jobs), NOW))
        self.seq = 1
        self.clock = 0.0

    def hear(self, *records: Any, step_s: float = 1.0) -> list[dict[str, Any]]:
        frames: list[bytes] = []
        for record in records:
            self.clock += step_s
            self.seq += 1
            frames += self.progress.follow(self._event(record), self.clock)
        return read(frames)

    def _event(self, record: Any) -> State | Event:
        match record:
            case Download():
                return DownloadChanged(seq=self.seq, download=record)
            case Model():
                return ModelChanged(seq=self.seq, model=record)
            case _:
                return record  # type: ignore[no-any-return]  # an event as it is


@pytest.mark.parametrize(
    ("job", "expected"),
    [
        (replace(JOB, state="queued"), "running"),
        (JOB, "running"),
        (replace(JOB, state="verifying"), "running"),
        (replace(JOB, state="paused"), "running"),
        (replace(JOB, state="paused", error=WRONG), "FAILED"),
        (replace(JOB, state="failed", error=WRONG), "FAILED"),
        (replace(JOB, state="canceled"), "CANCELED"),
        (replace(JOB, state="completed"), "COMPLETED"),
    ],
)
def test_what_a_job_is_for_the_documented_api(job: Download, expected: str) -> None:
    assert phase(job) == expected


@pytest.mark.parametrize(
    ("received", "verified", "total", "percent"),
    [
        (0, 0, 1000, 0.0),
        (1, 0, 1000, 0.1),
        (0, 2, 1000, 0.2),
        (1, 0, 3, 33.3),
        (2, 0, 3, 66.6),
        (1000, 1000, 1000, 99.9),
        (2000, 0, 1000, 99.9),
        (5, 0, 0, 0.0),
    ],
)
def test_percentages_stay_below_100_while_it_runs(
    received: int, verified: int, total: int, percent: float
) -> None:
    job = replace(JOB, received_bytes=received, verified_bytes=verified, total_bytes=total)
    assert percentage(job) == percent


@pytest.mark.parametrize(
    ("model", "job", "frame"),
    [
        (MODEL, None, None),
        (HERE, None, COMPLETED),
        (MODEL, replace(JOB, received_bytes=421), at(42.1)),
        (HERE, replace(JOB, received_bytes=421), at(42.1)),
        (MODEL, replace(JOB, state="queued"), at(0.0)),
        (HERE, ended("completed"), COMPLETED),
        (MODEL, ended("completed"), None),
        (MODEL, ended("failed", 29), FAILED),
        (MODEL, ended("failed", 31), None),
        (MODEL, ended("canceled", 29), CANCELED),
        (MODEL, ended("canceled", 31), None),
        (HERE, ended("canceled", 1), COMPLETED),
        (MODEL, replace(JOB, state="paused", error=WRONG), FAILED),
        (MODEL, replace(JOB, state="failed", finished_at="?"), None),
    ],
)
def test_a_socket_that_comes_is_told_the_present_state(
    model: Model, job: Download | None, frame: dict[str, Any] | None
) -> None:
    made = present_frame(model, job, NOW)
    assert (None if made is None else json.loads(made)) == frame
    jobs = () if job is None else (job,)
    assert Listener(*jobs, model=model).first == ([] if frame is None else [frame])


def test_a_whole_run() -> None:
    listener = Listener()
    assert listener.first == []
    assert listener.hear(replace(JOB, state="queued")) == [INITIALIZED, at(0.0)]
    assert listener.hear(JOB) == []
    assert listener.hear(replace(JOB, received_bytes=500)) == [at(50.0)]
    assert listener.hear(replace(JOB, received_bytes=1000, state="verifying")) == [at(99.9)]
    assert listener.hear(HERE) == []
    assert listener.hear(ended("completed", received_bytes=1000)) == [COMPLETED]
    assert listener.hear(ended("completed", received_bytes=1000)) == []


def test_a_socket_that_comes_in_the_middle_never_hears_initialized() -> None:
    listener = Listener(replace(JOB, received_bytes=100))
    assert listener.first == [at(10.0)]
    assert listener.hear(replace(JOB, received_bytes=100)) == []
    assert listener.hear(replace(JOB, received_bytes=300)) == [at(30.0)]
    assert listener.hear(HERE, ended("completed")) == [COMPLETED]


def test_the_number_never_falls_and_small_steps_are_kept_back() -> None:
    listener = Listener(replace(JOB, received_bytes=500))
    assert listener.hear(replace(JOB, received_bytes=100)) == []
    assert listener.hear(replace(JOB, received_bytes=500)) == []
    assert listener.hear(replace(JOB, received_bytes=501)) == [at(50.1)]
    big = replace(JOB, total_bytes=10_000_000, received_bytes=5_019_999)
    assert listener.hear(big) == []


def test_frames_do_not_come_faster_than_a_client_wants_them() -> None:
    listener = Listener(replace(JOB, received_bytes=0))
    jobs = [replace(JOB, received_bytes=n * 10) for n in range(1, 41)]
    frames = listener.hear(*jobs, step_s=INTERVAL_S / 4)
    assert len(frames) == 10


def test_completed_waits_until_the_model_is_downloaded() -> None:
    listener = Listener(JOB)
    assert listener.hear(ended("completed")) == []
    assert listener.hear(replace(MODEL, name="renamed")) == []
    assert listener.hear(HERE) == [COMPLETED]
    assert listener.hear(HERE) == []


@pytest.mark.parametrize(("end", "frame"), [("failed", FAILED), ("canceled", CANCELED)])
def test_a_run_ends_once_and_may_begin_anew(end: str, frame: dict[str, Any]) -> None:
    listener = Listener(replace(JOB, received_bytes=900))
    assert listener.hear(ended(end, received_bytes=900)) == [frame]
    assert listener.hear(ended(end, received_bytes=900)) == []
    again = replace(JOB, received_bytes=900)
    assert listener.hear(again) == [INITIALIZED, at(90.0)]
    assert listener.hear(ended(end, received_bytes=900)) == [frame]


def test_running_out_of_room_is_a_failure_and_going_on_a_new_run() -> None:
    listener = Listener(JOB)
    paused = replace(JOB, state="paused", error=WRONG)
    assert listener.hear(paused) == [FAILED]
    assert listener.hear(JOB) == [INITIALIZED, at(0.0)]


def test_a_pause_by_a_person_is_no_end() -> None:
    listener = Listener(replace(JOB, received_bytes=10))
    assert listener.hear(replace(JOB, state="paused", received_bytes=10)) == []
    assert listener.hear(replace(JOB, received_bytes=20)) == [at(2.0)]


def test_a_run_that_is_over_at_once_has_a_start_and_an_end() -> None:
    assert Listener().hear(ended("failed")) == [INITIALIZED, FAILED]
    assert Listener().hear(HERE, ended("completed")) == [INITIALIZED, COMPLETED]


def test_an_old_end_is_not_told_again() -> None:
    old = ended("failed", seconds_ago=3600)
    listener = Listener(old)
    assert listener.first == []
    assert listener.hear(old, replace(old, seconds=3.0)) == []


def test_reset_follows_when_the_files_are_gone() -> None:
    listener = Listener(model=HERE)
    assert listener.first == [COMPLETED]
    assert listener.hear(MODEL) == [RESET]
    assert listener.hear(MODEL) == []


def test_reset_follows_when_a_partial_download_is_gone() -> None:
    listener = Listener(replace(JOB, received_bytes=900))
    assert listener.hear(ended("canceled", received_bytes=900)) == [CANCELED]
    assert listener.hear(ended("canceled", received_bytes=0)) == [RESET]
    assert listener.hear(ended("canceled", received_bytes=0)) == []


def test_a_partial_that_is_lost_with_the_run_is_part_of_its_end() -> None:
    listener = Listener(replace(JOB, received_bytes=900))
    assert listener.hear(ended("failed", received_bytes=0)) == [FAILED]


def test_a_running_download_hears_no_reset() -> None:
    listener = Listener(JOB, model=HERE)
    assert listener.hear(MODEL) == []
    assert listener.hear(HERE, ended("completed")) == [COMPLETED]


def test_an_older_job_does_not_disturb_the_one_that_runs() -> None:
    older = replace(ended("failed"), id="old", created_at="2025-01-01T00:00:00Z")
    listener = Listener(JOB, older)
    assert listener.hear(replace(older, seconds=1.0)) == []
    assert listener.hear(ended("canceled")) == [CANCELED]


def test_a_job_that_is_taken_off_the_list_was_canceled() -> None:
    listener = Listener(JOB)
    assert listener.hear(DownloadRemoved(seq=5, id="j")) == [CANCELED]
    assert listener.hear(DownloadRemoved(seq=6, id="j")) == []


def test_a_model_that_goes_takes_its_socket_along() -> None:
    listener = Listener(JOB, model=HERE)
    assert listener.hear(ModelRemoved(seq=5, id="m")) == [CANCELED, RESET]
    assert listener.progress.gone
    progress = ProgressState("m")
    assert progress.begin(state_of(None), NOW) == []
    assert progress.gone


def test_files_that_go_before_the_model_has_them_were_not_completed() -> None:
    listener = Listener(JOB)
    assert listener.hear(ended("completed")) == []
    assert listener.hear(replace(JOB, id="k")) == [FAILED, INITIALIZED, at(0.0)]


def test_others_are_none_of_its_business() -> None:
    listener = Listener()
    other = replace(JOB, id="x", model_id="x")
    events = (other, replace(HERE, id="x"), ModelRemoved(seq=9, id="x"))
    assert listener.hear(*events, MemoryChanged(seq=9, memory=Memory())) == []


def test_after_an_overflow_the_end_that_was_missed_is_told() -> None:
    listener = Listener(replace(JOB, received_bytes=10))
    assert listener.hear(state_of(HERE, ended("completed"))) == [COMPLETED]
    assert listener.hear(state_of(MODEL, ended("completed"))) == [RESET]


def test_after_an_overflow_a_new_run_begins_anew() -> None:
    listener = Listener(replace(JOB, received_bytes=10))
    new = replace(JOB, id="k", created_at="2026-01-01T11:30:00Z")
    failed = ended("failed", received_bytes=10)
    assert listener.hear(state_of(MODEL, failed, new)) == [FAILED, INITIALIZED, at(0.0)]
    newer = replace(JOB, id="l", created_at="2026-01-01T11:40:00Z")
    assert listener.hear(state_of(MODEL, newer)) == [CANCELED, INITIALIZED, at(0.0)]
    assert listener.hear(state_of(None)) == [CANCELED]
    assert listener.progress.gone


STATES = st.sampled_from(
    ["queued", "downloading", "verifying", "paused", "completed", "failed", "canceled"]
)
JOBS = st.builds(
    lambda state, key, received, error: replace(
        JOB, state=state, id=key, received_bytes=received, error=WRONG if error else None
    ),
    STATES,
    st.sampled_from(["a", "b"]),
    st.integers(0, 1000),
    st.booleans(),
)
ITEMS = (
    JOBS
    | st.sampled_from([MODEL, HERE])
    | st.builds(state_of, st.sampled_from([MODEL, HERE]), JOBS)
    | st.sampled_from([DownloadRemoved(seq=1, id="a"), DownloadRemoved(seq=1, id="b")])
)


@given(st.lists(JOBS, max_size=1), st.sampled_from([MODEL, HERE]), st.lists(ITEMS, max_size=30))
def test_whatever_happens_the_frames_are_a_row_of_whole_runs(
    jobs: list[Download], model: Model, items: list[Any]
) -> None:
    listener = Listener(*jobs, model=model)
    frames = listener.first + listener.hear(*items)
    running = bool(frames) and frames[0]["status"] == "IN-PROGRESS"
    last = frames[0].get("percentage", -1.0) if running else -1.0
    ended_at_start = bool(listener.first) and not running
    for frame in frames[1 if running or ended_at_start else 0 :]:
        match frame["status"]:
            case "INITIALIZED":
                assert not running
                running, last = True, -1.0
            case "IN-PROGRESS":
                assert running
                assert last < frame["percentage"] < 100
                last = frame["percentage"]
            case "RESET":
                assert not running
            case _:
                assert running
                running = False
