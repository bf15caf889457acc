"""What machines answered is kept for a while, and belongs to the question that was asked."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from modeldeck.core.errors import CoreUnreachable, DeckError, NotFound
from modeldeck.core.schema import Host, Instance, InstanceState, LoadOptions, LoadPlan
from modeldeck.core.schema.state import State
from modeldeck.tui.dashboard.screens.fleet import question
from modeldeck.tui.dashboard.screens.fleet.question import ANSWER_S, ServingQuestion
from modeldeck.tui.dashboard.screens.fleet.ranking import ServingWay, WantedModel
from modeldeck.tui.remote.core_link import CoreLink

STATE = State(host=Host(name="box", version="1", started_at="2026-01-01T00:00:00Z"))


def plan(name: str) -> LoadPlan:
    return LoadPlan(
        model_id="m", unique=name, engine="llama.cpp", options=LoadOptions(), verdict="fits",
        forecast=None,
    )  # fmt: skip


def link(plans: Callable[[str], LoadPlan], state: State = STATE) -> tuple[CoreLink, list[Any]]:
    """A link to a core that plans so, and the plans that it was asked for."""
    calls: list[Any] = []

    async def plan_load(ref: str, options: LoadOptions, **how: bool) -> LoadPlan:
        calls.append((ref, options.context_length, how))
        return plans(ref)

    client = SimpleNamespace(plan_load=plan_load)
    return cast("CoreLink", SimpleNamespace(client=client, latest=state)), calls


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The time that questions read; a test sets it."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(question, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


async def test_an_answer_stays_ten_seconds_and_is_asked_for_once(clock: SimpleNamespace) -> None:
    asked = ServingQuestion(WantedModel(name="tiny"))
    there, calls = link(lambda _: plan("o/tiny:Q8"))
    assert asked.claim(0)
    clock.now += 2 * ANSWER_S
    assert not asked.claim(0), "it is being asked"
    await asked.ask(0, there)
    clock.now = 1000.0 + ANSWER_S - 0.1
    assert not asked.claim(0)
    clock.now += 0.1
    assert asked.claim(0)
    assert [call[0] for call in calls] == ["tiny"]


async def test_answers_of_machines_that_are_away_do_not_count(clock: SimpleNamespace) -> None:
    asked = ServingQuestion(WantedModel(name="tiny", context_length=4096))
    there, calls = link(lambda _: plan("o/tiny:Q8"))
    for at in (0, 1):
        assert asked.claim(at)
        await asked.ask(at, there)
    assert set(asked.answers([0, 1])) == {0, 1}
    assert set(asked.answers([1])) == {1}
    assert asked.took_s([1]) == 0.0
    assert asked.took_s([]) is None
    assert calls[0] == ("tiny", 4096, {"make_room": True})


def fails(error: DeckError) -> Callable[[str], LoadPlan]:
    def plans(_: str) -> LoadPlan:
        raise error

    return plans


async def test_a_machine_that_goes_away_meanwhile_is_asked_when_it_is_back(
    clock: SimpleNamespace,
) -> None:
    asked = ServingQuestion(WantedModel(name="tiny"))
    assert asked.claim(0)
    await asked.ask(0, link(fails(CoreUnreachable("It went away.")))[0])
    assert asked.answers([0]) == {}
    assert asked.claim(0), "at once"


async def test_a_short_name_that_one_machine_knows_is_asked_of_the_others_in_full(
    clock: SimpleNamespace,
) -> None:
    def knows_no_short_names(name: str) -> LoadPlan:
        if "/" not in name:
            raise NotFound(f"There is no model {name!r}.")
        return plan(name)

    asked = ServingQuestion(WantedModel(name="tiny"))
    other, calls = link(knows_no_short_names)
    assert asked.claim(1)
    await asked.ask(1, other)
    assert asked.answers([1])[1].word == "no such model"
    assert not asked.claim(1)
    assert asked.claim(0)
    await asked.ask(0, link(lambda _: plan("o/tiny:Q8"))[0])
    assert asked.claim(1), "it is asked again"
    await asked.ask(1, other)
    assert asked.answers([1])[1].unique == "o/tiny:Q8"
    assert [call[0] for call in calls] == ["tiny", "tiny", "o/tiny:Q8"]


@pytest.mark.parametrize(
    ("wanted", "way", "reloads"),
    [
        (None, ServingWay.LOADED, []),
        (4096, ServingWay.DOWNLOADS, [{"make_room": True, "reload": True}]),
    ],
)
async def test_a_loaded_model_with_a_shorter_context_would_be_reloaded(
    wanted: int | None, way: ServingWay, reloads: list[Any], clock: SimpleNamespace
) -> None:
    loaded = Instance(
        id="i", model_id="m", unique="o/tiny:Q8", engine="llama.cpp", state=InstanceState.READY,
        context_length=2048,
    )  # fmt: skip
    state = State(host=STATE.host, instances={"i": loaded})
    asked = ServingQuestion(WantedModel(name="tiny", context_length=wanted))
    there, calls = link(plan, state)
    assert asked.claim(0)
    await asked.ask(0, there)
    assert asked.answers([0])[0].way is way
    assert [call[2] for call in calls[1:]] == reloads
