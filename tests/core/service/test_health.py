"""What `/health` says of what is waited for."""

from __future__ import annotations

import pytest

from modeldeck.core.api.native.health import health
from modeldeck.core.service.health import Health, Waits, judge


@pytest.mark.parametrize(
    ("waits", "status", "words"),
    [
        (Waits(), "ok", ""),
        (Waits(store_s=4.9), "ok", ""),
        (Waits(store_s=7), "unavailable", "database has not answered for 7 s"),
        (Waits(custom=1), "degraded", "1 file of a model does not answer"),
        (Waits(cache=2, custom=3), "degraded", "5 files of models do not answer"),
        (Waits(cache=33, cache_exhausted=True), "unavailable", "cache of models"),
        (Waits(custom=40), "degraded", "40 files"),
    ],
)
def test_what_hangs_is_said(waits: Waits, status: str, words: str) -> None:
    found = judge(waits)
    assert found.status == status
    assert words in found.message
    assert bool(found.message) == (status != "ok")


@pytest.mark.parametrize(
    ("found", "status"),
    [
        (Health(), 200),
        (Health(status="degraded", message="One."), 200),
        (Health(status="unavailable", message="All."), 503),
    ],
)
def test_only_what_stops_all_work_is_503(found: Health, status: int) -> None:
    class Deck:
        class state:
            class host:
                version = "1"

        def health(self) -> Health:
            return found

    answer = health(Deck(), None)  # type: ignore[arg-type] # nothing else is asked
    assert answer.status == status
    assert f'"status":"{found.status}"'.encode() in answer.body
    assert found.message.encode() in answer.body
