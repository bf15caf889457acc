"""A load that makes no progress is given up; one that is slow is not."""

import os
import signal
from pathlib import Path

import pytest

from modeldeck.core.errors import EngineFailed
from modeldeck.core.runtime.instance import load_watchdog
from modeldeck.core.runtime.instance.load_watchdog import idle_ticks, next_report
from modeldeck.core.runtime.process.engine_process import EngineProcess
from modeldeck.core.runtime.process.messages import LoadModel, LoadProgress
from modeldeck.core.schema import LoadOptions
from tests.support.signals import suspend


async def silence(process: EngineProcess) -> None:
    """Take what is on its way until nothing comes any more."""
    while True:
        await next_report(process, 1)


def write(proc: Path, *threads: str) -> Path:
    for number, state in enumerate(threads):
        folder = proc / "7" / "task" / str(number)
        folder.mkdir(parents=True)
        fields = " ".join(str(n) for n in range(4, 53))  # utime is 14, stime 15
        (folder / "stat").write_text(f"{number} (python (3) x) {state} {fields}\n")
    return proc


@pytest.mark.parametrize(
    ("threads", "found"),
    [
        (["S"], 14 + 15),
        (["S", "S"], 2 * (14 + 15)),
        (["S", "D"], None),  # the disk
        (["R"], None),
        (["T", "S"], None),
    ],
)
def test_a_process_is_quiet_only_when_all_of_it_sleeps(
    tmp_path: Path, threads: list[str], found: int | None
) -> None:
    assert idle_ticks(7, write(tmp_path, *threads)) == found
    assert idle_ticks(8, tmp_path) is None


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads /proc")
async def test_a_process_that_waits_for_itself_is_told_before_the_time_is_over(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_watchdog, "STUCK_S", 0.3)
    monkeypatch.setattr(load_watchdog, "LOOK_S", 0.1)
    process = await EngineProcess.start("llama.cpp", lambda *_: None)
    try:
        with pytest.raises(EngineFailed, match="is stuck") as caught:
            await next_report(process, 3600)  # it was asked nothing, so it does nothing
        assert "memory" in caught.value.remedy
        process.send(LoadModel(id=1, path=str(tiny), options=LoadOptions(), default_context=512))
        assert isinstance(await next_report(process, 3600), LoadProgress), "nothing was lost"
        suspend(process.pid)  # by a person: it may go on
        with pytest.raises(EngineFailed, match="no progress for 1 s"):
            await silence(process)
    finally:
        os.kill(process.pid, signal.SIGCONT)
        assert await process.end()
