"""Which models the catalog shows, in which order, and what it counts. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from modeldeck.core.schema import (
    Download,
    Host,
    Instance,
    InstanceState,
    Model,
    SearchHit,
    SearchResult,
    Verification,
)
from modeldeck.core.schema.state import State
from modeldeck.tui.dashboard.screens.catalog.rows import (
    CatalogSort,
    Heading,
    ModelCounts,
    Show,
    firsts,
    glance_at,
    hub_rows,
    select,
    standing,
)


def model(name: str, **more: Any) -> Model:
    return Model(id=name, unique=name, name=name, format="gguf", **{"source": "builtin", **more})


def job(of: str, state: Any) -> Download:
    return Download(id=of, model_id=of, unique=of, repo="", revision="", state=state)


def instance(of: str, state: InstanceState) -> Instance:
    return Instance(id=of, model_id=of, unique=of, state=state, engine="llama.cpp")


def check(id: str, state: Any, *models: str, corrupt: tuple[str, ...] = ()) -> Verification:
    return Verification(
        id=id, what="", state=state, model_ids=models, corrupt=corrupt, finished_at=f"at {id}"
    )


def by_id(*records: Any) -> Mapping[str, Any]:
    return {record.id: record for record in records}


STATE = State(
    host=Host(name="", version="", started_at=""),
    models=by_id(
        model("a-listed"),
        model("b-here", downloaded=True),
        model("c-coming"),
        model("d-failed"),
        model("e-loading", downloaded=True),
        model("f-broken", downloaded=True),
        model("g-of-hub", source="hub"),
        model("h-again", downloaded=True),
    ),
    downloads=by_id(
        job("c-coming", "downloading"),
        job("d-failed", "failed"),
        job("b-here", "completed"),
        job("h-again", "failed"),
    ),
    instances=by_id(
        instance("e-loading", InstanceState.STARTING), instance("f-broken", InstanceState.FAILED)
    ),
)
NOW = standing(STATE, {})


def shown(show: Show, state: State = STATE) -> list[str]:
    found = select(state.models.values(), "", show, CatalogSort.NAME, standing(state, {}))
    return [model.id for model in found]


@pytest.mark.parametrize(
    ("show", "names"),
    [
        (Show.DOWNLOADED, ["b-here", "e-loading", "f-broken", "h-again"]),
        (Show.LOADED, ["e-loading"]),
        (Show.MOVING, ["c-coming", "d-failed", "e-loading", "f-broken"]),
        (Show.CUSTOM, []),
    ],
)
def test_what_belongs_where(show: Show, names: list[str]) -> None:
    assert shown(show) == names


def test_a_glance_counts_what_is_here_moving_and_failed() -> None:
    assert glance_at(STATE.models.values(), NOW) == ModelCounts(here=4, moving=2, failed=2)


def test_what_one_had_to_do_with_comes_first_and_rows_stay_while_one_looks() -> None:
    first = firsts(STATE.models.values(), NOW)
    order = [
        m.id for m in select(STATE.models.values(), "", Show.ALL, CatalogSort.HERE, NOW, first)
    ]
    assert order[-1] == "a-listed"
    assert order[:-1] == sorted(order[:-1])
    ended = replace(STATE, downloads={})
    now = standing(ended, {})
    assert order == [
        m.id for m in select(ended.models.values(), "", Show.ALL, CatalogSort.HERE, now, first)
    ]


def test_a_check_says_which_models_are_sound_and_which_are_not() -> None:
    found = standing(
        replace(
            STATE,
            verifications=by_id(
                check("1", "completed", "b-here", "f-broken", corrupt=("b-here", "f-broken")),
                check("2", "completed", "b-here", "h-again"),
                check("3", "failed", "h-again"),
                check("4", "verifying", "e-loading"),
            ),
        ),
        {},
    )
    assert found.corrupt == {"f-broken"}
    assert found.sound == {"b-here": "at 2", "h-again": "at 2"}
    assert found.checking == {"e-loading"}
    assert found.failed(model("f-broken"))
    assert found.moving(model("e-loading"))


HIT = SearchHit(repo="a/b")
AWAY = "http://hub cannot be reached: refused."


@pytest.mark.parametrize(
    ("result", "asking", "words"),
    [
        (None, False, "h asks"),
        (None, True, "asking"),
        (SearchResult(query="q", hits=()), False, "no results"),
        (SearchResult(query="q", hits=(HIT,)), False, 'Hugging Face: "q"'),
        (SearchResult(query="q", hits=(), error=AWAY), False, AWAY),
        (SearchResult(query="q", hits=(HIT,), error=AWAY, from_cache=True), False, "offline copy"),
    ],
)
def test_the_rule_says_how_it_stands_with_the_hub(
    result: SearchResult | None, asking: bool, words: str
) -> None:
    heading, *hits = hub_rows(result, "q", asking=asking, key="h")
    assert isinstance(heading, Heading)
    assert words in heading.words
    assert heading.words.count("cannot be reached") <= 1
    assert hits == list(result.hits if result else ())


def test_without_words_there_is_no_hub() -> None:
    assert hub_rows(None, "", asking=False, key="h") == []
