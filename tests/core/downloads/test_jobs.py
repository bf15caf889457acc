"""What is told of jobs: how fast all of them are together, how long it will take, and no more."""

from __future__ import annotations

from pathlib import Path

import pytest

from modeldeck.core.downloads.job_records import DownloadJob, FileProgress
from modeldeck.core.downloads.jobs import JobTable
from modeldeck.core.downloads.journal import DownloadJournal
from modeldeck.core.schema import Download, DownloadState, RepoFile
from modeldeck.core.storage.database import Database

SIZE = 1 << 30
TICK_S = 0.25


class World:
    """A table whose progress and clock are the test's."""

    def __init__(self, folder: Path) -> None:
        self.progress: dict[str, FileProgress] = {}
        self.told: list[Download] = []
        self.looked: list[str] = []
        self.now = 1000.0
        self.table = JobTable(
            journal=DownloadJournal(Database(folder / "x.sqlite3")),
            progress=self._of,
            on_change=self.told.append,
        )

    def _of(self, job: DownloadJob) -> dict[str, FileProgress]:
        self.looked.append(job.id)
        return {file.blob: self.progress[file.blob] for file in job.files}

    def add(self, name: str, *, runs: bool = True) -> None:
        blob = name[0] * 64
        self.progress[blob] = FileProgress()
        file = RepoFile(path=f"{name}.gguf", size_bytes=SIZE, blob=blob, lfs=True)
        state: DownloadState = "downloading" if runs else "queued"
        self.table.put(
            DownloadJob(
                id=name, model_id=name, unique=name, repo="o/r", revision="0" * 40, ref=None,
                files=(file,), state=state,
            )
        )  # fmt: skip
        if runs:
            self.table.start_rate(name, self.now)

    def flow(self, seconds: float, **rates: float) -> list[float]:
        """Let bytes come; what all jobs together were told to be fast, tick by tick."""
        totals = []
        for _ in range(round(seconds / TICK_S)):
            self.now += TICK_S
            for name, rate in rates.items():
                self.progress[name[0] * 64].received_bytes += int(rate * TICK_S)
            self.table.announce_progress(self.now)
            views = self.table.views.values()
            totals.append(sum(view.rate_bytes_per_s or 0 for view in views))
        return totals


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_the_rates_of_all_jobs_add_up(world: World) -> None:
    world.add("a")
    world.add("b")
    world.add("c", runs=False)
    totals = world.flow(10, a=3e6, b=1e6)
    assert totals[-1] == pytest.approx(4e6, rel=0.01)
    assert world.table.views["c"].rate_bytes_per_s is None


def test_a_rate_does_not_jump_and_a_stall_fades(world: World) -> None:
    world.add("a")
    world.flow(10, a=2e6)
    burst = world.flow(TICK_S, a=20e6) + world.flow(1, a=2e6)
    assert max(burst) < 3.2e6
    stalled = world.flow(15)
    assert stalled == sorted(stalled, reverse=True)
    assert stalled[-1] < 0.3e6


def test_the_time_left_is_what_the_rate_makes_of_the_rest(world: World) -> None:
    world.add("a")
    world.flow(20, a=4e6)
    view = world.table.views["a"]
    assert view.rate_bytes_per_s is not None
    assert view.eta_s == pytest.approx((SIZE - view.received_bytes) / view.rate_bytes_per_s)
    assert view.eta_s == pytest.approx((SIZE - 80e6) / 4e6, rel=0.05)


def test_only_what_runs_is_looked_at_and_only_what_changed_is_told(world: World) -> None:
    """A hundred jobs that wait cost nothing while one runs: the work is that of what changes."""
    world.add("a")
    for number in range(100):
        world.add(f"q{number}", runs=False)
    world.looked.clear()
    world.told.clear()
    world.flow(5, a=1e6)
    assert set(world.looked) == {"a"}
    assert {view.id for view in world.told} == {"a"}
    world.told.clear()
    world.table.announce("q7")
    assert world.told == []
