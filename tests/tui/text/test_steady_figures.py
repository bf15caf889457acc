"""Figures of the machine stand still while only other programs move them a little."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from modeldeck.core.schema import (
    Disk,
    Download,
    Fit,
    Forecast,
    Gpu,
    Host,
    Instance,
    InstanceState,
    Memory,
    Settings,
)
from modeldeck.core.schema.state import State
from modeldeck.tui.text.steady_figures import SteadyFigures, with_steady_room

GIB = 1 << 30
MIB = 1 << 20
GPU = Gpu(
    index=0, name="GPU", total_bytes=24 * GIB, used_bytes=GIB, free_bytes=23 * GIB, celsius=40
)
MEMORY = Memory(
    total_bytes=16 * GIB,
    available_bytes=8 * GIB,
    budget_bytes=7 * GIB,
    swap_used_bytes=0,
    gpus=(GPU,),
)
DISK = Disk(path="/hub", free_bytes=80 * GIB, cache_bytes=GIB, partial_bytes=0)
LOADED = Instance(
    id="i",
    model_id="m",
    unique="o/m",
    engine="llama.cpp",
    state=InstanceState.READY,
    measured_bytes=GIB,
)
JOB = Download(id="j", unique="o/m", model_id="m", repo="o/m", revision="0", state="downloading")


def state(**changes: Any) -> State:
    known: dict[str, Any] = {
        "host": Host(name="box", version="1", started_at=""),
        "memory": MEMORY,
        "disk": DISK,
        "instances": {LOADED.id: LOADED},
    }
    return State(**{**known, **changes})


def after(shown: State, *newest: State) -> State:
    """What is shown after some States, in each of which memory and disk were measured."""
    figures = SteadyFigures()
    figures.came(shown)
    for state in newest:
        shown = figures.shown(shown, state, memory_read=True, disk_read=True)
    return shown


def memory(**changes: Any) -> Memory:
    return replace(MEMORY, **changes)


def gpu(**changes: Any) -> Memory:
    return memory(gpus=(replace(GPU, **changes),))


@pytest.mark.parametrize(
    "newest",
    [
        memory(available_bytes=8 * GIB + 63 * MIB, budget_bytes=7 * GIB + 63 * MIB),
        memory(available_bytes=8 * GIB - 63 * MIB, swap_used_bytes=63 * MIB),
        gpu(used_bytes=GIB + 63 * MIB, free_bytes=23 * GIB - 63 * MIB),
    ],
)
def test_a_small_change_of_memory_is_not_shown(newest: Memory) -> None:
    assert after(state(), state(memory=newest)) == state()


@pytest.mark.parametrize(
    "newest",
    [
        memory(available_bytes=8 * GIB + 90 * MIB),
        memory(available_bytes=8 * GIB - 90 * MIB),
        memory(budget_bytes=6 * GIB),
        memory(swap_used_bytes=GIB),
        memory(available_bytes=None, budget_bytes=None),
        memory(total_bytes=8 * GIB),
        memory(gpus=()),
        gpu(used_bytes=2 * GIB),
        gpu(free_bytes=None),
    ],
)
def test_a_change_that_counts_is_shown_at_once(newest: Memory) -> None:
    assert after(state(), state(memory=newest)).memory == newest


def test_small_changes_add_up() -> None:
    free = [8 * GIB - step * 20 * MIB for step in range(1, 9)]
    states = [state(memory=memory(available_bytes=bytes_)) for bytes_ in free]
    seen = [after(state(), *states[:count]).memory.available_bytes for count in range(1, 9)]
    assert seen == [*[8 * GIB] * 4, *[free[4]] * 4], "a slow leak of another program is seen"


@pytest.mark.parametrize(
    "changes",
    [
        {"instances": {}},
        {"instances": {"i": replace(LOADED, state=InstanceState.BUSY)}},
        {"instances": {"i": replace(LOADED, measured_bytes=2 * GIB)}},
        {"instances": {"i": replace(LOADED, measured_bytes=None)}},
        {"instances": {"i": LOADED, "k": replace(LOADED, id="k")}},
        {"settings": Settings(memory_budget_bytes=7 * GIB)},
    ],
)
def test_what_modeldeck_does_to_memory_is_shown_to_the_byte(changes: dict[str, Any]) -> None:
    newest = state(memory=memory(available_bytes=8 * GIB + MIB), **changes)
    assert after(state(), newest) == newest


@pytest.mark.parametrize(
    "changes", [{"instances": {}}, {"settings": Settings(memory_budget_bytes=7 * GIB)}]
)
def test_what_it_did_to_memory_is_measured_after_it_was_told(changes: dict[str, Any]) -> None:
    figures, shown = SteadyFigures(), state()
    figures.came(shown)
    told = state(**changes)
    shown = figures.shown(shown, told)
    assert shown == told
    newest = replace(told, memory=memory(available_bytes=8 * GIB + MIB))
    shown = figures.shown(shown, newest, memory_read=True)
    assert shown == newest
    later = replace(told, memory=memory(available_bytes=8 * GIB + 2 * MIB))
    assert figures.shown(shown, later, memory_read=True) is shown, "the first one only"


def test_what_a_loaded_model_holds_is_new_while_the_machine_stands_still() -> None:
    grown = {"i": replace(LOADED, measured_bytes=GIB + MIB)}
    newest = state(memory=memory(available_bytes=8 * GIB + MIB), instances=grown)
    assert after(state(), newest) == state(instances=grown)


def test_the_order_of_loaded_models_does_not_count() -> None:
    other = replace(LOADED, id="k", measured_bytes=2 * GIB)
    shown = state(instances={"i": LOADED, "k": other})
    newest = state(
        memory=memory(available_bytes=8 * GIB + MIB), instances={"k": other, "i": LOADED}
    )
    assert after(shown, newest) is shown


def test_temperature_power_and_load_of_a_gpu_are_always_new() -> None:
    newest = gpu(celsius=60, watts=200, busy=0.5, used_bytes=GIB + MIB)
    shown = after(state(), state(memory=newest))
    assert shown.memory == gpu(celsius=60, watts=200, busy=0.5)


def test_free_disk_stands_still_unless_it_is_ours_that_moves() -> None:
    less = replace(DISK, free_bytes=80 * GIB - 100 * MIB)
    much_less = replace(DISK, free_bytes=79 * GIB)
    ours = replace(less, cache_bytes=GIB + 100 * MIB)
    moving = {"j": JOB}
    assert after(state(), state(disk=less)) == state()
    assert after(state(), state(disk=much_less)).disk == much_less
    assert after(state(), state(disk=ours)).disk == ours
    assert after(state(), state(disk=less, downloads=moving)).disk == less


def test_words_of_what_is_missing_do_not_count_beside_a_forecast() -> None:
    forecast = Forecast(
        total_bytes=GIB,
        weights_bytes=GIB,
        kv_bytes=0,
        compute_bytes=0,
        overhead_bytes=0,
        exact=True,
    )
    shown = {"a": fit(forecast=forecast, reason="1.0 GiB are missing")}
    newest = {"a": replace(shown["a"], available_bytes=8 * GIB + MIB, reason="1.1 GiB are missing")}
    assert with_steady_room(shown, newest) == shown


def test_the_next_event_is_applied_to_figures_as_they_came() -> None:
    figures, shown = SteadyFigures(), state()
    figures.came(shown)
    newest = state(seq=7, memory=memory(available_bytes=8 * GIB + MIB))
    shown = figures.shown(shown, newest, memory_read=True)
    assert shown == state()
    assert figures.base(shown) == newest


def test_a_state_with_nothing_new_is_the_same_object() -> None:
    shown = state()
    assert after(shown, state(seq=9)) is shown
    assert after(shown, state(seq=9, memory=gpu(used_bytes=GIB + MIB))) is shown
    assert after(shown, state(seq=9, memory=gpu(celsius=50))).seq == 9


def fit(**changes: Any) -> Fit:
    known: dict[str, Any] = {
        "verdict": "fits",
        "forecast": None,
        "available_bytes": 8 * GIB,
        "exact": True,
        "reason": None,
    }
    return Fit(**{**known, **changes})


@pytest.mark.parametrize(
    ("newest", "steady"),
    [
        (fit(available_bytes=8 * GIB + MIB), True),
        (fit(available_bytes=8 * GIB + MIB, reason="1.0 GiB are missing"), False),
        (fit(available_bytes=8 * GIB + 100 * MIB), False),
        (fit(available_bytes=None), False),
        (fit(available_bytes=8 * GIB + MIB, exact=False), False),
        (fit(available_bytes=8 * GIB + MIB, verdict="too large"), False),
    ],
)
def test_a_fit_is_new_where_more_than_free_memory_moved(newest: Fit, steady: bool) -> None:
    shown = {"a": fit(), "gone": fit()}
    found = with_steady_room(shown, {"a": newest, "b": newest})
    assert found == {"a": fit() if steady else newest, "b": newest}
