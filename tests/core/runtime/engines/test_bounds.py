"""What an engine does before the first token has an end: time, memory, a cancellation."""

import itertools
import resource
import sys
import threading
import time
from collections.abc import Callable

import pytest

from modeldeck.core.errors import Cancelled, InvalidRequest
from modeldeck.core.runtime.engines.base import Flag
from modeldeck.core.runtime.engines.bounds import HARD_EXTRA_S, HARD_FACTOR, Bounded

MIB = 1 << 20


def spin() -> None:
    """Run for ever."""
    for _ in itertools.count():
        pass


def spin_stubbornly() -> None:
    """Run for ever, whatever a part of it raises."""
    while True:
        try:
            spin()
        except Exception:  # noqa: S112 (as code that is not ours may have it)
            continue


def spin_in_a_pattern() -> None:
    """Run for ever in a loop of C, which holds the interpreter's lock and hears signals only."""
    import re

    re.match(r"(a|aa)+$", "a" * 200 + "b")


@pytest.mark.parametrize("work", [spin, spin_stubbornly, spin_in_a_pattern])
def test_work_without_an_end_is_ended(work: Callable[[], None]) -> None:
    before = time.process_time()
    with pytest.raises(InvalidRequest, match=r"The schema took over 0\.5 s\."):
        Flag().bounds.run("The schema", work, cpu_s=0.5)
    assert time.process_time() - before < 10  # not for ever


def test_a_cancellation_is_heard_meanwhile() -> None:
    flag = Flag()
    late = threading.Timer(0.3, flag.set)
    late.start()
    with pytest.raises(Cancelled):
        flag.bounds.run("The template", spin, cpu_s=60)
    late.join()


def test_a_cancelled_command_ends_its_own_work() -> None:
    flag = Flag()
    late = threading.Timer(0.3, lambda: setattr(flag, "command_cancelled", True))
    late.start()
    with pytest.raises(Cancelled):
        flag.bounds.run("The template", spin, cpu_s=60)
    late.join()
    assert not flag, "what else is in work goes on"


def test_work_tells_which_command_it_belongs_to() -> None:
    bounds, found = Flag().bounds, []
    for number, run in ((3, bounds.run), (4, bounds.watch)):
        bounds.number = number
        run("It", lambda: found.append(bounds.current), cpu_s=9)
    assert [bounded.number for bounded in found if bounded] == [3, 4]


def test_work_that_takes_more_and_more_memory_is_ended() -> None:
    kept: list[bytes] = []

    def grow() -> None:
        while True:
            kept.append(b"x" * MIB)

    with pytest.raises(InvalidRequest, match="over 64 MiB of memory"):
        Flag().bounds.run("The template", grow, cpu_s=60, memory_bytes=64 * MIB)
    assert len(kept) < 1024


@pytest.mark.skipif(sys.platform != "linux", reason="macOS keeps to no limit of address space")
def test_one_operation_that_takes_much_memory_is_refused_by_the_system() -> None:
    limit = resource.getrlimit(resource.RLIMIT_AS)
    with pytest.raises(InvalidRequest, match="memory"):
        Flag().bounds.run("It", lambda: b"x" * (1 << 40), cpu_s=60, memory_bytes=64 * MIB)
    assert resource.getrlimit(resource.RLIMIT_AS) == limit


def test_bounds_hold_for_their_work_only() -> None:
    flag = Flag()
    assert flag.bounds.run("It", lambda: 7, cpu_s=0.1, memory_bytes=64 * MIB) == 7
    assert flag.bounds.current is None
    with pytest.raises(ZeroDivisionError):
        flag.bounds.run("It", lambda: 1 // 0, cpu_s=0.1)
    flag.set()
    until = time.process_time() + 0.8  # several ticks, if there were any
    while time.process_time() < until:
        pass


def test_on_another_thread_work_is_watched_only() -> None:
    flag, found = Flag(), []

    def work() -> None:
        found.append(flag.bounds.current)

    thread = threading.Thread(target=lambda: flag.bounds.run("It", work, cpu_s=9))
    thread.start()
    thread.join()
    assert [bounded.what for bounded in found if bounded] == ["It"]
    assert flag.bounds.current is None


def test_native_work_is_stuck_far_beyond_its_bound_only() -> None:
    now = time.process_time()
    assert not Bounded("It", 5.0, started_cpu_s=now).is_stuck(90)
    assert Bounded("It", 5.0, started_cpu_s=now).is_stuck(110)
    used = HARD_FACTOR * 5.0 + HARD_EXTRA_S
    assert not Bounded("It", 5.0, started_cpu_s=now - used + 2).is_stuck(30)
    assert Bounded("It", 5.0, started_cpu_s=now - used - 1).is_stuck(30)
