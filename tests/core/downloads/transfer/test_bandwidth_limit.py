"""How fast downloads may come: on a clock of its own, and over real connections."""

from __future__ import annotations

import random
import threading
import time
from typing import TYPE_CHECKING

import pytest

from modeldeck.core.downloads.transfer.bandwidth_limit import RateLimiter, RateLimits
from modeldeck.core.errors import InvalidRequest, NotFound

if TYPE_CHECKING:
    from tests.core.downloads.conftest import Rig

PADDED = "deck/padded-GGUF"


class Clock:
    """Time that passes when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)

    def received(self, limiter: RateLimiter, seconds: float, most: int) -> int:
        """Bytes that a line brings in a time, in pieces of at most `most` at random."""
        chance, count, until = random.Random(1), 0, self.now + seconds
        while self.now < until:
            if (wait := limiter.wait_s()) > 0:
                self.now += wait + chance.random() * 0.005  # woken a little late
                continue
            piece = chance.randint(1, min(most, limiter.most_bytes()))
            limiter.spend(piece)
            count += piece
            self.now += piece / 1e9
        return count


@pytest.mark.parametrize("rate", [3_000, 100_000, 5_000_000, 80_000_000])
def test_a_limit_is_kept_within_five_percent(monkeypatch: pytest.MonkeyPatch, rate: int) -> None:
    clock = Clock(monkeypatch)
    limiter = RateLimiter(rate=rate)
    assert clock.received(limiter, 10, 1 << 20) == pytest.approx(10 * rate, rel=0.05)


def test_a_limit_that_is_changed_is_kept_from_then_on(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    limiter = RateLimiter(rate=1_000_000)
    clock.received(limiter, 3, 1 << 20)
    for rate in (50_000, 20_000_000, 400_000):
        limiter.set(rate)
        assert clock.received(limiter, 5, 1 << 20) == pytest.approx(5 * rate, rel=0.05)


def test_what_was_spent_under_one_limit_is_owed_under_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Clock(monkeypatch)
    limiter = RateLimiter(rate=1_000)
    limiter.spend(10_000)
    assert limiter.wait_s() == pytest.approx(10)
    limiter.set(100_000)
    assert limiter.wait_s() == pytest.approx(0.1)
    limiter.set(None)
    assert limiter.wait_s() <= 0


def test_a_job_has_its_own_limit_and_that_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    limits = RateLimits()
    one, other = limits.of("one"), limits.of("other")
    one.set(100_000)
    assert (one.lowest_rate, other.lowest_rate) == (100_000, None)
    assert clock.received(one, 5, 1 << 20) == pytest.approx(500_000, rel=0.05)
    limits.all.set(50_000)
    assert (one.lowest_rate, other.lowest_rate) == (50_000, 50_000)
    assert clock.received(one, 5, 1 << 20) == pytest.approx(250_000, rel=0.05)
    other.spend(1_000_000)
    assert one.wait_s() > 10, "what one job takes, another waits for"


@pytest.mark.parametrize("rate", [0, -1])
def test_a_limit_of_nothing_is_refused(rate: int) -> None:
    with pytest.raises(InvalidRequest, match="Pause"):
        RateLimiter().set(rate)


@pytest.mark.parametrize("how", ["raised", "stopped"])
def test_whoever_waits_is_woken(how: str) -> None:
    limiter, stopped, admitted = RateLimiter(rate=1), threading.Event(), list[int]()
    limiter.spend(1_000_000)
    thread = threading.Thread(target=lambda: admitted.append(limiter.admit(stopped.is_set)))
    thread.start()
    if how == "raised":
        limiter.set(None)
    else:
        stopped.set()
        limiter.wake()
    thread.join(60)
    assert [count > 0 for count in admitted] == [how == "raised"]


@pytest.mark.parametrize("which", ["all", "job"])
async def test_a_download_keeps_to_its_limit_until_it_is_lifted(rig: Rig, which: str) -> None:
    rate = 4_000_000
    rig.hold()
    job = await rig.start(PADDED)
    if which == "all":
        rig.downloads.set_limit(rate)
    else:
        await rig.downloads.set_job_limit(job.id, rate)
    told: list[tuple[float, int]] = []
    rig.on_change = lambda j: told.append((time.monotonic(), j.received_bytes))
    rig.let_go()
    await rig.until(job.id, lambda j: j.received_bytes > 3 * rate)
    # Never faster. That it is not slower is proved on the clock above: here the machine is shared.
    # From before the first count to after the last, however late either is told.
    (began, _), (_, first), *_, (ended, last) = told
    assert last - first > rate
    assert last - first <= rate * ((ended - began) * 1.05 + 0.5)
    rig.downloads.set_limit(None)
    await rig.downloads.set_job_limit(job.id, None)
    assert (await rig.ended(job.id)).state == "completed"
    with pytest.raises(NotFound):
        await rig.downloads.set_job_limit("nobody", rate)
