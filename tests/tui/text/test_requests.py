from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from modeldeck.core.schema import RequestInfo, RequestState
from modeldeck.tui.text.requests import moved, news, state_words, table

NOW = datetime(2026, 1, 1, 0, 1, tzinfo=UTC)


def info(state: RequestState, **more: Any) -> RequestInfo:
    return RequestInfo(
        **{
            **{"id": state, "model_id": "m", "unique": "deck/tiny:F16", "who": "laptop"},
            **{"dialect": "openai", "since": "2026-01-01T00:00:00Z", "state": state, **more},
        }
    )


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (info("waiting"), "waiting"),
        (info("waiting", place=1), "waiting, next"),
        (info("waiting", place=2), "waiting, 2nd"),
        (info("waiting", place=3), "waiting, 3rd"),
        (info("waiting", place=11), "waiting, 11th"),
        (info("waiting", place=21), "waiting, 21st"),
        (info("waiting", place=2, why="the cache is full"), "waiting: the cache is full"),
        (info("prompt"), "prompt"),
        (info("prompt", prompt_tokens=200, prompt_read=50), "prompt 25 %"),
        (info("thinking"), "thinking"),
        (info("cancelled", cancelled_by="laptop"), "cancelled by laptop"),
        (info("left"), "client left"),
        (info("failed", error_code="engine_failed"), "failed (engine_failed)"),
        (info("failed"), "failed"),
    ],
)
def test_a_state_is_told_in_words(request_: RequestInfo, words: str) -> None:
    assert state_words(request_) == words


def test_the_live_ones_come_first_with_their_figures() -> None:
    done = info("done", ended_at="2026-01-01T00:00:05Z", prompt_tokens=12, cached_tokens=8)
    writing = info("writing", completion_tokens=7, tokens_per_s=31.26, priority="batch")
    heading, first, second = table([done, writing], NOW, 160)
    assert heading.split()[:3] == ["id", "who", "model"]
    for part in ("laptop (batch)", "writing", "7", "31.3"):
        assert part in first
    for part in ("done", "12", "8", "5.0 s"):
        assert part in second
    assert all(len(line) <= 80 for line in table([done, writing], NOW, 80))


def test_what_came_to_another_state_is_news() -> None:
    waiting, writing, done = (
        info(word, id="1", completion_tokens=7) for word in ("waiting", "writing", "done")
    )
    other = info("writing", id="2")
    assert moved({}, {"1": waiting}) == [waiting]
    assert moved({"1": waiting, "2": other}, {"1": writing, "2": other}) == [writing]
    assert moved({"1": writing}, {}) == []
    assert news(writing).endswith("laptop  deck/tiny:F16  writing")
    assert news(done).endswith("laptop  deck/tiny:F16  done  7 tokens")
