"""The terms of downloads: will, clock and good neighbour, and where they are remembered."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

import pytest

from modeldeck.core.config import config, config_file
from modeldeck.core.errors import InvalidRequest, StorageFailed
from modeldeck.core.schema import Download, Host, Settings
from modeldeck.core.schema.state import DownloadChanged, State
from modeldeck.core.service import bandwidth
from modeldeck.core.service.bandwidth import BandwidthController
from modeldeck.core.service.feed import Feed

RATE = 8_000_000


@dataclass
class Rig:
    """A bandwidth controller with a clock and a queue of a test's own."""

    config_file: Path
    clock: datetime = datetime(2026, 1, 1, 12, 0)
    seconds: float = 0.0
    limits: list[int | None] = field(default_factory=list)
    jobs_at_once: list[int] = field(default_factory=list)
    feed: Feed = field(
        default_factory=lambda: Feed(State(host=Host(name="", version="", started_at="")))
    )

    def make(self, settings: config.DownloadSettings | None = None) -> BandwidthController:
        async def set_jobs_at_once(count: int) -> None:
            self.jobs_at_once.append(count)

        return BandwidthController(
            feed=self.feed,
            settings=settings or config.DownloadSettings(),
            config_file=self.config_file,
            set_limit=self.limits.append,
            set_jobs_at_once=set_jobs_at_once,
            now=lambda: self.clock,
            clock=lambda: self.seconds,
        )

    @property
    def settings(self) -> Settings:
        return self.feed.state.settings

    def flow(self, rate: int | None) -> None:
        """Let the downloads take this much."""
        job = Download(
            id="j", model_id="m", unique="u", repo="o/r", revision="", state="downloading"
        )
        self.feed.commit(DownloadChanged, download=replace(job, rate_bytes_per_s=rate))


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path / "config.toml")


async def test_a_change_holds_at_once_and_is_remembered(rig: Rig) -> None:
    terms = rig.make()
    told = await terms.change({"rate_limit_bytes_per_s": 5000, "jobs_at_once": 3})
    assert told == rig.settings
    assert (told.rate_limit_bytes_per_s, told.rate_in_force_bytes_per_s) == (5000, 5000)
    assert (told.jobs_at_once, rig.jobs_at_once, rig.limits) == (3, [3], [5000])
    written, problems = config_file.load(rig.config_file, {})
    assert not problems
    assert (written.downloads.rate_limit_bytes_per_s, written.downloads.jobs_at_once) == (5000, 3)
    await terms.change({"rate_limit_bytes_per_s": None})
    assert (rig.limits[-1], rig.settings.jobs_at_once) == (None, 3)


async def test_a_bad_change_changes_nothing(rig: Rig) -> None:
    terms = rig.make()
    with pytest.raises(InvalidRequest):
        await terms.change({"give_way": True, "jobs_at_once": 0})
    rig.config_file.mkdir()
    with pytest.raises(StorageFailed):
        await terms.change({"give_way": True})
    assert (rig.limits, rig.settings) == ([], Settings())


async def test_the_limit_follows_the_clock_and_says_so(rig: Rig) -> None:
    settings = config.DownloadSettings(
        rate_limit_bytes_per_s=1000, schedule={"01:00-07:00": "none", "08:00-09:00": 10}
    )
    terms = rig.make(settings)
    seen = []
    for hour in (0, 1, 7, 8, 9):
        rig.clock = rig.clock.replace(hour=hour)
        terms.update()
        seen.append((rig.settings.rate_in_force_bytes_per_s, rig.settings.rate_reason))
    assert seen == [
        (1000, ""), (None, "schedule"), (1000, ""), (10, "schedule"), (1000, ""),
    ]  # fmt: skip
    assert rig.limits == [1000, None, 1000, 10, 1000]
    assert rig.settings.rate_limit_bytes_per_s == 1000


async def test_downloads_give_way_while_a_front_end_waits(rig: Rig) -> None:
    terms = rig.make(config.DownloadSettings(give_way=True, rate_limit_bytes_per_s=RATE * 10))
    rig.flow(RATE)
    assert terms.ping_s == bandwidth.ACTIVE_S
    with terms.listening() as listener, terms.listening():
        for second, took in enumerate((0.01, 0.4, 0.4, 0.4)):
            rig.seconds = second
            listener.asked()
            assert listener.waits
            rig.seconds = second + took
            listener.answered()
            terms.tick()
        assert rig.limits[-1] == RATE // 2
        assert rig.settings.rate_reason == "give way"
        assert rig.settings.rate_limit_bytes_per_s == RATE * 10
        await terms.change({"give_way": False})
        assert (rig.limits[-1], rig.settings.rate_reason) == (RATE * 10, "")
        assert terms.ping_s is None


async def test_who_left_is_not_waited_for(rig: Rig) -> None:
    terms = rig.make(config.DownloadSettings(give_way=True))
    rig.flow(RATE)
    with terms.listening() as listener:
        listener.asked()
        listener.answered()
        listener.asked()
    rig.seconds = 100
    for _ in range(5):
        terms.tick()
    assert rig.limits[-1] is None
