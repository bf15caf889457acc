"""Which machine would serve a model best: from what each answers to its place."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest

from modeldeck.core.errors import Ambiguous, DeckError, EngineMissing, NotDownloaded, NotFound
from modeldeck.core.schema import (
    Eviction,
    Forecast,
    Instance,
    InstanceState,
    LoadOptions,
    LoadPlan,
    Model,
)
from modeldeck.core.schema.errors import to_info
from modeldeck.tui.dashboard.screens.fleet import ranking
from modeldeck.tui.dashboard.screens.fleet.ranking import (
    ServingAnswer,
    ServingWay,
    WantedModel,
    ranks,
)

MODEL = Model(
    id="m", unique="o/r:Q4", name="R", format="gguf", source="builtin", size_bytes=5_000,
    downloaded=True,
)  # fmt: skip
NEEDS = Forecast(
    total_bytes=6 << 30, weights_bytes=0, kv_bytes=0, compute_bytes=0, overhead_bytes=0, exact=True
)
PLAN = LoadPlan(
    model_id="m", unique="o/r:Q4", engine="llama.cpp", options=LoadOptions(context_length=8192),
    verdict="fits", forecast=NEEDS,
)  # fmt: skip
OTHER = Eviction(instance_id="i", unique="o/other:Q4", bytes=1 << 30)
ABSENT = replace(MODEL, downloaded=False)
UNLOADS = replace(PLAN, verdict="fits after unloading", evictions=(OTHER,))
TO_DOWNLOAD = replace(PLAN, refusal=to_info(NotDownloaded("R is not downloaded.")))
LOADED = Instance(
    id="i", model_id="m", unique="o/r:Q4", engine="llama.cpp", state=InstanceState.READY,
    context_length=8192,
)  # fmt: skip

ANSWERS = {
    "loaded": ranking.loaded(LOADED),
    "fits": ranking.planned(MODEL, PLAN, None),
    "unloads": ranking.planned(MODEL, UNLOADS, None),
    "downloads": ranking.planned(ABSENT, TO_DOWNLOAD, None),
    "too large": ranking.planned(MODEL, replace(PLAN, verdict="too large"), None),
}
"""From the best to the worst."""


def test_a_better_way_comes_first_wherever_the_machine_stands() -> None:
    for order in permutations(ANSWERS):
        answers = dict(enumerate(ANSWERS[word] for word in order))
        places = ranks(answers, {})
        found = [answers[at].word for at in sorted(places, key=lambda at: places[at])]
        assert found == ["loaded", "fits", "unloads", "downloads"], order
        assert sorted(places.values()) == [1, 2, 3, 4], "one that would not serve has no place"


@pytest.mark.parametrize(
    ("words", "prefer", "places"),
    [
        (("fits", "fits"), {}, {0: 1, 1: 2}),
        (("fits", "fits"), {1: 1}, {1: 1, 0: 2}),
        (("fits", "fits", "fits"), {0: -1, 2: 5}, {2: 1, 1: 2, 0: 3}),
        (("loaded", "fits"), {1: 100}, {0: 1, 1: 2}),
        (("too large", "downloads"), {0: 100}, {1: 1}),
        ((), {0: 1}, {}),
    ],
)
def test_preference_decides_among_equals_only(
    words: tuple[str, ...], prefer: dict[int, int], places: dict[int, int]
) -> None:
    answers = dict(enumerate(ANSWERS[word] for word in words))
    assert ranks(answers, prefer) == places


def test_what_it_would_take_plays_no_part() -> None:
    small = replace(ANSWERS["fits"], needs_bytes=1)
    assert ranks({0: ANSWERS["fits"], 1: small}, {}) == {0: 1, 1: 2}


@pytest.mark.parametrize(
    ("model", "plan", "free", "way", "word"),
    [
        (MODEL, PLAN, 0, ServingWay.FITS, "fits"),
        (MODEL, UNLOADS, None, ServingWay.UNLOADS, "unloads"),
        (MODEL, replace(PLAN, replaces=OTHER), None, ServingWay.UNLOADS, "unloads"),
        (ABSENT, TO_DOWNLOAD, 5_000, ServingWay.DOWNLOADS, "downloads"),
        (ABSENT, TO_DOWNLOAD, None, ServingWay.DOWNLOADS, "downloads"),
        (None, TO_DOWNLOAD, 0, ServingWay.DOWNLOADS, "downloads"),
        (ABSENT, TO_DOWNLOAD, 4_999, None, "disk is full"),
        (ABSENT, replace(TO_DOWNLOAD, verdict="too large"), 5_000, None, "too large"),
        (MODEL, replace(PLAN, verdict="unknown"), None, None, "unknown"),
        (MODEL, replace(PLAN, refusal=to_info(EngineMissing("No llama.cpp."))), None, None,
         "no engine"),
    ],
)  # fmt: skip
def test_a_plan_becomes_an_answer(
    model: Model | None, plan: LoadPlan, free: int | None, way: ServingWay | None, word: str
) -> None:
    answer = ranking.planned(model, plan, free)
    assert (answer.way, answer.word) == (way, word)
    assert answer.unique == "o/r:Q4"
    assert answer.needs_bytes == 6 << 30


def test_an_answer_tells_what_comes_first_and_why_not() -> None:
    assert ANSWERS["unloads"].unloads == ("o/other:Q4",)
    assert ANSWERS["downloads"].download_bytes == 5_000
    assert ANSWERS["fits"].download_bytes is None
    assert ANSWERS["downloads"].reason == "", "it would serve"
    refusal = to_info(EngineMissing("No llama.cpp.", "Install it."))
    assert ranking.planned(MODEL, replace(PLAN, refusal=refusal), None).reason == (
        "No llama.cpp. Install it."
    )


@pytest.mark.parametrize(
    ("state", "length", "wanted", "found"),
    [
        (InstanceState.READY, 8192, None, True),
        (InstanceState.BUSY, 8192, 8192, True),
        (InstanceState.STARTING, None, None, True),
        (InstanceState.READY, 8192, 16384, False),
        (InstanceState.STOPPING, 8192, None, False),
        (InstanceState.FAILED, 8192, None, False),
    ],
)
def test_a_loaded_model_serves_where_its_context_is_long_enough(
    state: InstanceState, length: int | None, wanted: int | None, found: bool
) -> None:
    instance = replace(LOADED, state=state, context_length=length)
    others = [replace(LOADED, model_id="other")]
    assert (ranking.serving_instance([*others, instance], "m", wanted) is not None) is found
    assert ranking.serving_instance(others, "m", wanted) is None


def test_a_model_that_is_being_loaded_says_so() -> None:
    starting = replace(LOADED, state=InstanceState.STARTING, context_length=None)
    answer = ranking.loaded(replace(starting, options=LoadOptions(context_length=4096)))
    assert (answer.way, answer.word, answer.context_length) == (ServingWay.LOADED, "loading", 4096)


@pytest.mark.parametrize(
    ("error", "word"),
    [(NotFound("There is no model 'x'."), "no such model"), (Ambiguous("Two of them."), "unknown")],
)
def test_an_error_is_an_answer(error: DeckError, word: str) -> None:
    answer = ranking.refused(error)
    assert (answer.way, answer.word, answer.reason) == (None, word, str(error))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("qwen3-8b", WantedModel(name="qwen3-8b")),
        ("  Qwen3 8B ", WantedModel(name="Qwen3 8B")),
        ("tiny 16k", WantedModel(name="tiny", context_length=16384)),
        ("tiny at 4096", WantedModel(name="tiny", context_length=4096)),
        ("at 4096", WantedModel(name="at", context_length=4096)),
        ("16k", WantedModel(name="16k")),
        ("", None),
    ],
)
def test_a_line_names_a_model_and_a_context_length(text: str, wanted: WantedModel | None) -> None:
    assert ranking.wanted(text) == wanted


@pytest.mark.parametrize(
    ("asked", "lengths", "common"),
    [
        (16384, (8192,), 16384),
        (None, (8192, 8192), 8192),
        (None, (8192, 4096), None),
        (None, (), None),
    ],
)
def test_a_context_length_is_named_where_it_is_one(
    asked: int | None, lengths: tuple[int, ...], common: int | None
) -> None:
    answers = [
        ServingAnswer(way=ServingWay.FITS, word="fits", context_length=length) for length in lengths
    ]
    wanted = WantedModel(name="x", context_length=asked)
    assert ranking.common_context(wanted, [*answers, ranking.refused(NotFound("x"))]) == common
