"""When reports of an engine process are written: at once, or with those that follow."""

from __future__ import annotations

import io
from typing import Any

import pytest

from modeldeck.core.runtime.child import Child
from modeldeck.core.runtime.engines.base import Flag
from modeldeck.core.runtime.process import report_writer
from modeldeck.core.runtime.process.frames import FrameDecoder
from modeldeck.core.runtime.process.messages import (
    Alive,
    AnswerDone,
    CommandFailed,
    EngineReport,
    PromptProgress,
    TextPiece,
    TokenizeText,
    report,
)
from modeldeck.core.runtime.process.report_writer import MOST_HELD, ReportWriter, may_wait
from modeldeck.core.schema import ErrorInfo, TokenQuery

PROGRESS = PromptProgress(id=1, tokens=5, cached_tokens=0, total_tokens=9)
FAILED = CommandFailed(id=1, error=ErrorInfo(code="cancelled", message="Cancelled."))


def piece(text: str, number: int = 1) -> TextPiece:
    return TextPiece(id=number, text=text)


class Pipe(io.BytesIO):
    """Keeps the reports of each write apart."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[list[EngineReport]] = []

    def write(self, data: bytes, /) -> int:  # type: ignore[override]  # any buffer elsewhere
        self.writes.append([report(payload) for payload in FrameDecoder().feed(data)])
        return len(data)


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Text may wait for as long as the test takes."""
    monkeypatch.setattr(report_writer, "HOLD_S", 1e9)


@pytest.mark.parametrize(
    ("reports", "waits"),
    [
        ([], True),
        ([piece("a")], True),
        ([piece("a"), piece("b", 2)], False),
        ([piece("a"), AnswerDone(id=1, reason="stop")], False),
        ([piece("a"), PROGRESS], False),
        ([FAILED], False),
    ],
)
def test_only_text_that_is_not_the_first_of_its_answer_waits(
    reports: list[EngineReport], waits: bool
) -> None:
    assert may_wait(reports, {1}) is waits


@pytest.mark.usefixtures("unhurried")
def test_text_of_turns_goes_in_one_write_before_what_follows_it() -> None:
    pipe = Pipe()
    writer = ReportWriter(pipe)
    done = AnswerDone(id=1, reason="stop")
    for turn in ([PROGRESS], [piece("a")], [piece("b")], [piece("c")], [piece("d"), done]):
        writer.send_turn(turn)
    assert pipe.writes == [[PROGRESS], [piece("a")], [*map(piece, "bcd"), done]]


@pytest.mark.usefixtures("unhurried")
def test_nothing_overtakes_text_that_waits() -> None:
    pipe = Pipe()
    writer = ReportWriter(pipe)
    writer.send_turn([piece("a")])
    writer.send_turn([piece("b")])
    writer.send(Alive())
    writer.send_turn([piece("c")])
    writer.flush()
    writer.flush()
    assert pipe.writes == [[piece("a")], [piece("b"), Alive()], [piece("c")]]


class CountedLater:
    """An engine with an answer in work that takes in a question for tokens."""

    working = True

    def __init__(self, pipe: Pipe) -> None:
        self.pipe = pipe
        self.seen: list[list[EngineReport]] = []
        """What was written when it was asked."""
        self.paused: list[int] = []

    def tokenize(self, number: int, query: TokenQuery) -> None:
        self.seen = list(self.pipe.writes)

    def pause(self, number: int) -> None:
        self.paused.append(number)


@pytest.mark.usefixtures("unhurried")
def test_text_does_not_wait_while_tokens_are_counted() -> None:
    pipe = Pipe()
    engine: Any = CountedLater(pipe)
    child = Child(engine, Flag(), pipe)
    child._waiting.append(TokenizeText(id=2, query=TokenQuery(text="a")))
    for text in "ab":
        child.reports.send_turn([piece(text)])
    child._pause(2)
    child._begin_commands()
    assert engine.seen == [[piece("a")], [piece("b")]]
    assert engine.paused == [2, 2]  # it knew no such request the first time


@pytest.mark.usefixtures("unhurried")
def test_the_text_of_an_answer_that_was_begun_again_is_shown_at_once() -> None:
    pipe = Pipe()
    writer = ReportWriter(pipe)
    for turn in ([piece("a")], [PROGRESS], [piece("b")], [FAILED], [piece("c")]):
        writer.send_turn(turn)
    assert len(pipe.writes) == 5


@pytest.mark.usefixtures("unhurried")
def test_only_so_many_reports_wait() -> None:
    pipe = Pipe()
    writer = ReportWriter(pipe)
    for _ in range(1 + MOST_HELD):
        writer.send_turn([piece("a")])
    assert [len(reports) for reports in pipe.writes] == [1, MOST_HELD]


def test_text_does_not_wait_where_turns_are_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_writer, "HOLD_S", 0)
    pipe = Pipe()
    writer = ReportWriter(pipe)
    for text in "abc":
        writer.send_turn([piece(text)])
    assert len(pipe.writes) == 3
