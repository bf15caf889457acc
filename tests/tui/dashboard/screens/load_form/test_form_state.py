"""Each key of the load form, without a screen."""

from __future__ import annotations

import doctest
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from modeldeck.core.schema import Eviction, LoadOptions, Runtime
from modeldeck.tui.dashboard.screens.load_form import (
    adapters,
    asking,
    field_values,
    fields,
)
from modeldeck.tui.dashboard.screens.load_form.facts import FormFacts
from modeldeck.tui.dashboard.screens.load_form.fields import shown_fields
from modeldeck.tui.dashboard.screens.load_form.form_state import FormState, press
from modeldeck.tui.dashboard.screens.load_form.ways import ways
from tests.tui.dashboard.screens.load_form.conftest import (
    MODEL,
    PLAN,
    TOO_LARGE,
    facts,
    reloading,
)


def pressed(known: FormFacts, *keys: str, **start: Any) -> tuple[FormState, Sequence[str]]:
    """The state after keys, and what they asked for."""
    state, acts = FormState(**start), []
    for key in keys:
        state, act = press(state, key, known)
        acts += [act] if act else []
    return state, acts


def test_the_examples_of_the_docstrings() -> None:
    for module in (adapters, asking, field_values, fields):
        result = doctest.testmod(module)
        assert result.attempted
        assert not result.failed


@pytest.mark.parametrize(
    ("keys", "chosen"),
    [
        (("right",), {"context_length": 16384}),
        (("left",), {"context_length": 4096}),
        (("right",) * 9, {"context_length": 40960}),
        (("left",) * 9, {"context_length": 512}),
        (("1", "6", "k"), {"context_length": 16384}),
        (("1", "0", "0", "0"), {"context_length": 1000}),
        (("1", "0", "0", "0", "right"), {"context_length": 1024}),
        (("5", "0", "k"), {"context_length": 40960}),  # 50k is more than it was trained for
        (("9", "9", "9", "9", "9"), {"context_length": 40960}),
        (("5", "0", "k", "backspace"), {"context_length": 4096}),
        (("right", "backspace"), {}),
        (("1", "2", "backspace", "backspace"), {}),
        (("f",), {"context_length": 31744}),
        (("tab", "right"), {"parallel": 5}),
        (("tab", "1", "6"), {"parallel": 16}),
        (("tab", "2", "0"), {"parallel": 16}),
        (("tab", "tab", "right"), {"kv_cache_type": "q8_0"}),
        (
            ("tab", "tab", "right", "tab", "right"),
            {"kv_cache_type": "q8_0", "flash_attention": True},
        ),
        (("up", "up", "space"), {"pinned": True}),
        (("up", "up", "up", "1", "5"), {"idle_ttl_s": 900}),
        (("up", "up", "up", "right", "right"), {"idle_ttl_s": 300}),
    ],
)
def test_what_keys_choose(keys: tuple[str, ...], chosen: dict[str, Any]) -> None:
    state, acts = pressed(facts(largest=31744), *keys)
    assert state.chosen == chosen
    assert acts == []
    LoadOptions(**state.chosen)


def test_what_is_impossible_cannot_be_chosen() -> None:
    known = facts()
    state, _ = pressed(known, "tab", "tab", *["right"] * 9)
    assert state.chosen == {"kv_cache_type": "q4_0"}, "the smallest that the model can have"
    state, _ = pressed(known, "tab", *["right"] * 9, at="kv_cache_type", chosen=state.chosen)
    assert state.chosen["flash_attention"] is True, "a small KV cache needs it"
    state, _ = pressed(known, "tab", "tab", "tab", "right", "right")
    assert state.chosen == {"flash_attention": False}
    state, _ = pressed(known, *["right"] * 9, at="kv_cache_type", chosen=state.chosen)
    assert state.chosen.get("kv_cache_type", "f16") == "f16", "without it, none is small"


def test_a_number_that_is_none_yet_is_an_error_and_blocks_the_load() -> None:
    known = facts()
    state, acts = pressed(known, "8", "enter", "ctrl+s")
    assert (state.note, state.faulty, state.chosen, acts) == ("at least 16", True, {}, [])
    state, acts = pressed(known, "8", "0", "0", "enter")
    assert (state.chosen, acts) == ({"context_length": 800}, ["load"])
    state, acts = pressed(known, "8", "tab", "enter")
    assert (state.faulty, acts) == (False, ["load"]), "what was no number is dropped"
    state, _ = pressed(known, "4", "1", "k")
    assert state.note == "at most 40k: what it was trained for"


def test_a_longer_context_gives_up_fewer_shared_tokens() -> None:
    chosen = {"cache_tokens": 16384, "parallel": 4}
    assert pressed(facts(), "right", chosen=chosen)[0].chosen["cache_tokens"] == 16384
    state, _ = pressed(facts(), "right", "right", chosen=chosen)
    assert state.chosen == {"parallel": 4, "context_length": 32768}


@pytest.mark.parametrize(
    ("keys", "acts"),
    [
        (("enter",), ["load"]),
        (("ctrl+s",), ["save"]),
        (("escape",), ["leave"]),
        (("question_mark",), ["help"]),
        (("end", "enter"), []),
        (("x", "q", "colon", "f12"), []),
    ],
)
def test_what_keys_ask_for(keys: tuple[str, ...], acts: list[str]) -> None:
    assert pressed(facts(), *keys)[1] == acts


def test_the_folded_fields_open_and_lora_asks_for_a_file() -> None:
    state, acts = pressed(facts(), "end", "enter", "tab", "right")
    assert (state.unfolded, state.at, state.chosen) == (True, "threads", {"threads": 1})
    state, _ = pressed(facts(), "end", "space", "left")
    assert not state.unfolded
    assert pressed(facts(), *["tab"] * 4, "enter")[1] == ["lora"]
    assert acts == []


def test_where_it_does_not_fit_digits_and_enter_take_a_way() -> None:
    known = facts(TOO_LARGE)
    assert [way.text for way in ways(known)] == [
        "4k context",
        "Qwen3-8B-GGUF:Q2_K",
        "load it anyway",
    ]
    state, acts = pressed(known, "1")
    assert (state.chosen, acts) == ({"context_length": 4096}, [])
    assert pressed(known, "enter")[0].chosen == {"context_length": 4096}
    assert pressed(known, "2")[1] == ["model"]
    assert pressed(known, "3")[1] == ["force"]
    assert pressed(known, "down", "down", "down", "enter")[1] == ["force"]
    state, _ = pressed(known, "tab", "right")
    assert state.chosen == {"parallel": 5}, "the fields can be changed all the same"


def test_idle_models_can_be_unloaded_for_it() -> None:
    gone = Eviction(instance_id="b", unique="deck/other-GGUF:Q8_0", bytes=9 << 30)
    roomy = replace(PLAN, verdict="fits after unloading", evictions=(gone,))
    known = facts(TOO_LARGE, roomy=roomy)
    assert ways(known)[0].text == "unload deck/other-GGUF:Q8_0"
    state, acts = pressed(known, "1")
    assert (state.make_room, state.chosen, acts) == (True, {}, [])


@pytest.mark.parametrize(
    ("changes", "there", "missing"),
    [
        ({}, {"context_length", "kv_cache_type", "more"}, {"gpu_layers", "vision", "draft_model"}),
        ({"projector": "/p.gguf"}, {"vision"}, set()),
        ({"usage": ("embedding",)}, {"context_length"}, {"parallel", "kv_cache_type", "loras"}),
    ],
)
def test_only_fields_of_use_are_shown(
    changes: dict[str, Any], there: set[str], missing: set[str]
) -> None:
    known = facts(model=replace(MODEL, **changes))
    names = {field.name for field in shown_fields(known, PLAN.options, unfolded=False)}
    assert there <= names
    assert not missing & names


def test_a_gpu_and_drafts_have_fields(gpu: Runtime) -> None:
    known = facts(replace(PLAN, drafts=("Qwen/Qwen3-0.6B-GGUF:Q8_0",)), runtimes=(gpu,))
    names = {field.name for field in shown_fields(known, PLAN.options, unfolded=True)}
    assert {"gpu_layers", "draft_model"} <= names
    state, _ = pressed(known, "right", "right", at="gpu_layers")
    assert state.chosen == {"gpu_layers": 1}
    state, _ = pressed(known, "right", at="draft_model")
    assert state.chosen == {"draft_model": "Qwen/Qwen3-0.6B-GGUF:Q8_0"}


def test_random_keys_never_raise_and_choose_only_what_the_core_takes() -> None:
    keys = [
        "tab",
        "up",
        "down",
        "left",
        "right",
        "space",
        "enter",
        "backspace",
        "0",
        "1",
        "5",
        "9",
        "k",
        "m",
        "f",
        "j",
        "home",
        "end",
        "escape",
        "x",
    ]
    for known in (facts(), facts(TOO_LARGE), facts(None), reloading("laptop")):
        state = FormState()
        seed = 7
        for _ in range(2000):
            seed = (seed * 1103515245 + 12345) % (1 << 31)
            state, _act = press(state, keys[(seed >> 8) % len(keys)], known)
            options = LoadOptions(**state.chosen)
            assert 16 <= (options.context_length or 16) <= 40960
            assert 1 <= (options.parallel or 1) <= 16
            small = options.kv_cache_type in field_values.QUANTIZED
            assert not (small and options.flash_attention is False)
