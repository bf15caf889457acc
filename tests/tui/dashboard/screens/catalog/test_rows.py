"""Which models the catalog shows, in which order, and what it counts. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from modeldeck.core.schema import (
    Download,
    Fit,
    Forecast,
    Host,
    Instance,
    InstanceState,
    Model,
    SearchHit,
    SearchResult,
    Verdict,
    Verification,
)
from modeldeck.core.schema.state import State
from modeldeck.tui.dashboard.screens.catalog.catalog_list import ListFilter, select
from modeldeck.tui.dashboard.screens.catalog.columns import used_words
from modeldeck.tui.dashboard.screens.catalog.filters import LANGUAGE
from modeldeck.tui.dashboard.screens.catalog.rows import (
    Heading,
    ModelCounts,
    RowContext,
    Show,
    firsts,
    glance_at,
    hub_rows,
    standing,
)
from modeldeck.tui.dashboard.widgets.column_choice import STANDARD, ColumnChoice


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


def listed(
    models: Iterable[Model],
    text: str = "",
    now: RowContext = NOW,
    *,
    show: Show = Show.ALL,
    choice: ColumnChoice = STANDARD,
    first: frozenset[str] = frozenset(),
) -> list[str]:
    chosen = ListFilter(text=text, shown=show, choice=choice, first=first)
    return [model.id for model in select(models, LANGUAGE.parse(text), chosen, now)]


def shown(show: Show, state: State = STATE) -> list[str]:
    return listed(
        state.models.values(), "", standing(state, {}), show=show, choice=ColumnChoice(sort="name")
    )


@pytest.mark.parametrize(
    ("show", "names"),
    [
        (Show.DOWNLOADED, ["b-here", "e-loading", "f-broken", "h-again"]),
        (Show.LOADED, ["e-loading"]),
        (Show.BUSY, ["c-coming", "d-failed", "e-loading", "f-broken"]),
        (Show.CUSTOM, []),
    ],
)
def test_what_belongs_where(show: Show, names: list[str]) -> None:
    assert shown(show) == names


def test_a_glance_counts_what_is_here_moving_and_failed() -> None:
    assert glance_at(STATE.models.values(), NOW) == ModelCounts(here=4, moving=2, failed=2)


def test_what_one_had_to_do_with_comes_first_and_rows_stay_while_one_looks() -> None:
    first = firsts(STATE.models.values(), NOW)
    order = listed(STATE.models.values(), first=first)
    assert order[-1] == "a-listed"
    assert order[:-1] == sorted(order[:-1])
    ended = replace(STATE, downloads={})
    now = standing(ended, {})
    assert order == listed(ended.models.values(), "", now, first=first)


GIB = 1 << 30


def fit(verdict: Verdict, gib: float | None) -> Fit:
    total = None if gib is None else int(gib * GIB)
    forecast = total and Forecast(
        total_bytes=total, weights_bytes=total, kv_bytes=0, compute_bytes=0, overhead_bytes=0,
        exact=True,
    )  # fmt: skip
    return Fit(verdict=verdict, forecast=forecast or None, available_bytes=20 * GIB, exact=True)


def ago(**span: float) -> str:
    return (datetime.now(UTC) - timedelta(**span)).isoformat()


MANY = (
    model("b", parameters=8.2, size_bytes=5_000_000_000, context_length=40960, downloaded=True,
          quantization="Q4_K_M", license="apache-2.0", capabilities=("tools", "thinking"),
          last_used_at=ago(days=3)),
    model("a", parameters=0.6, size_bytes=639_000_000, context_length=40960, quantization="Q8_0",
          capabilities=("tools",)),
    model("d", parameters=116.8, source="custom", custom=True, gated=True),
    model("c", parameters=0.3, usage=("embedding",), engine="mlx", license="MIT",
          last_used_at=ago(days=40)),
    model("e"),
)  # fmt: skip
FITS = {
    "a": fit("fits", 1),
    "b": fit("tight", 15),
    "d": fit("too large", 40),
    "c": fit("fits", 0.5),
}
LOADED = replace(
    NOW, fits=FITS, instances={"a": replace(instance("a", InstanceState.BUSY), tokens_per_s=31.4)}
)


@pytest.mark.parametrize(
    ("sort", "reverse", "order"),
    [
        ("", False, "abcde"),
        ("name", False, "abcde"),
        ("name", True, "edcba"),
        ("parameters", False, "cabde"),
        ("parameters", True, "dbace"),  # what is not known stays last
        ("quantization", False, "cdeba"),
        ("fit", False, "cabde"),
        ("fit", True, "dbace"),
        ("can", False, "bacde"),
        ("state", False, "abcde"),
        ("state", True, "cdeba"),
        ("speed", True, "abcde"),
        ("size", False, "abcde"),
        ("size", True, "bacde"),
        ("context", False, "abcde"),
        ("runtime", False, "cabde"),
        ("from", False, "dabce"),
        ("used", False, "abcde"),  # what answers now, then what did last
        ("used", True, "cbade"),
        ("no such column", False, "abcde"),
    ],
)
def test_models_by_each_column(sort: str, reverse: bool, order: str) -> None:
    choice = ColumnChoice(sort=sort, reverse=reverse)
    assert "".join(listed(MANY, "", LOADED, choice=choice)) == order


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("params<1", "ac"),
        ("size<1G", "a"),
        ("ctx>=32k", "ab"),
        ("tok/s>20", "a"),
        ("fit<12", "ac"),
        ("fits", "ac"),
        ("tight", "b"),
        ("over", "d"),
        ("loaded", "a"),
        ("downloaded", "b"),
        ("busy", "a"),
        ("failed", ""),
        ("gated", "d"),
        ("custom", "d"),
        ("tools", "ab"),
        ("thinking", "b"),
        ("-thinking tools", "a"),
        ("vision", ""),
        ("audio", ""),
        ("embedding", "c"),
        ("rerank", ""),
        ("quant:q4", "b"),
        ("runtime:mlx", "c"),
        ("from:built", "abce"),
        ("license:apache", "b"),
        ("license:mit", "c"),
        ("used<7", "ab"),
        ("used>1w", "c"),
        ("gguf", "abcde"),
    ],
)
def test_tests_of_the_catalog(text: str, found: str) -> None:
    assert "".join(listed(MANY, text, LOADED)) == found


def test_when_a_model_was_used_last() -> None:
    told = {entry.id: used_words(entry, LOADED) for entry in MANY}
    assert told == {"a": "now", "b": "3 d", "c": "1 mo", "d": "", "e": ""}
    idle = replace(instance("b", InstanceState.READY), idle_s=7300.0)
    assert used_words(MANY[0], replace(LOADED, instances={"b": idle})) == "2 h"


def test_a_model_is_new_for_a_week() -> None:
    for days, found in ((1, ["x"]), (8, [])):
        at = (datetime.now(UTC) - timedelta(days=days)).isoformat()
        assert listed([model("x", source="custom", created_at=at)], "new") == found
    assert listed([model("x", source="custom", created_at="once")], "new") == []


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
        (None, False, "h searches"),
        (None, True, "searching…"),
        (SearchResult(query="q", hits=()), False, "no results"),
        (SearchResult(query="q", hits=(HIT,)), False, 'Hugging Face "q"'),
        (SearchResult(query="q", hits=(), error=AWAY), False, AWAY),
        (SearchResult(query="q", hits=(HIT,), error=AWAY, from_cache=True), False, "offline: "),
    ],
)
def test_the_rule_says_how_it_stands_with_the_hub(
    result: SearchResult | None, asking: bool, words: str
) -> None:
    found = result.hits if result else ()
    heading, *hits = hub_rows(result, "q", found, asking=asking, key="h")
    assert isinstance(heading, Heading)
    assert words in heading.words
    assert heading.words.count("cannot be reached") <= 1
    assert hits == list(found)
    assert heading.heads == bool(hits)


def test_without_words_there_is_no_hub() -> None:
    assert hub_rows(None, "", (), asking=False, key="h") == []
