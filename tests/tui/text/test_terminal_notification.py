"""Telling the terminal that a long job has ended."""

from __future__ import annotations

from dataclasses import replace

import pytest

from modeldeck.core.schema import Download, Host, Instance, InstanceState
from modeldeck.core.schema.state import State
from modeldeck.tui.text.terminal_notification import Way, ended, sequence

JOB = Download(
    id="d", model_id="m", unique="o/r:Q", repo="o/r", revision="0" * 40, state="downloading",
    seconds=10.0,
)  # fmt: skip
LOADING = Instance(
    id="i", model_id="m", unique="o/r:Q", state=InstanceState.STARTING, engine="llama.cpp"
)
BEFORE = State(
    host=Host(name="box", version="1", started_at="2026-01-01T00:00:00Z"),
    downloads={"d": JOB},
    instances={"i": LOADING},
)


def after(**changes: object) -> State:
    return replace(BEFORE, **changes)  # type: ignore[arg-type] # fields by name


def test_what_took_long_is_told_when_it_ends() -> None:
    done = after(downloads={"d": replace(JOB, state="completed", seconds=40.0)})
    assert ended(BEFORE, done, 30) == ["o/r:Q downloaded"]
    assert ended(BEFORE, done, 50) == []
    assert ended(done, done, 30) == []
    failed = after(downloads={"d": replace(JOB, state="failed", seconds=40.0)})
    assert ended(BEFORE, failed, 30) == ["o/r:Q could not be downloaded"]
    loaded = after(instances={"i": replace(LOADING, state=InstanceState.READY, load_s=61.0)})
    assert ended(BEFORE, loaded, 30) == ["o/r:Q loaded"]


def test_how_things_were_found_is_no_news() -> None:
    done = after(downloads={"d": replace(JOB, state="completed", seconds=40.0)})
    assert ended(None, done, 30) == []
    other = replace(done, host=replace(BEFORE.host, started_at="2026-02-01T00:00:00Z"))
    assert ended(BEFORE, other, 30) == []


@pytest.mark.parametrize(
    ("way", "environ", "sent"),
    [
        ("off", {}, ""),
        ("bell", {}, "\a"),
        ("bell", {"TMUX": "x"}, "\a"),
        ("osc9", {}, "\x1b]9;it is, done\a"),
        ("osc9", {"TMUX": "x"}, "\x1bPtmux;\x1b\x1b]9;it is, done\a\x1b\\\a"),
    ],
)
def test_the_terminal_is_told_as_it_understands(
    way: Way, environ: dict[str, str], sent: str
) -> None:
    assert sequence("it is\x1b]0;x\a; done", way, environ) == sent
