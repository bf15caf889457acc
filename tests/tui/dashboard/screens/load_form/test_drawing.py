"""The load form as it is drawn, at every size, from plans that are made by hand."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from modeldeck.core.schema import Eviction, LoadPlan, Lora
from modeldeck.tui.dashboard import theme
from modeldeck.tui.dashboard.screens.load_form.drawing import Drawing, draw
from modeldeck.tui.dashboard.screens.load_form.facts import FormFacts
from modeldeck.tui.dashboard.screens.load_form.fields import CONTEXT
from modeldeck.tui.dashboard.screens.load_form.forecast_drawing import Painter
from modeldeck.tui.dashboard.screens.load_form.form_state import FormState
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text.format import ASCII, UNICODE, Glyphs
from tests.tui.dashboard.screens.load_form.conftest import (
    FORECAST,
    GIB,
    PLAN,
    TOO_LARGE,
    UNIQUE,
    facts,
    loaded,
    reloading,
)

SIZES = ((60, 36, 1), (79, 21, 0), (59, 12, 0))
"""Cells, lines and cells from the left: beside the list, and alone at 80x24 and 60x15."""
VARIABLES = dict.fromkeys(
    ("primary", "secondary", "accent", "success", "warning", "error"), "#808080"
) | {"foreground": "#ffffff", "background": "#000000"}


def drawn(
    known: FormFacts,
    size: tuple[int, int, int] = SIZES[1],
    glyphs: Glyphs = UNICODE,
    **state: Any,
) -> Drawing:
    width, height, pad = size
    painter = Painter(
        facts=known,
        state=FormState(**state),
        width=width,
        glyphs=glyphs,
        inks=theme.ink(VARIABLES),
    )
    return draw(painter, height, pad)


def text(known: FormFacts, size: tuple[int, int, int] = SIZES[1], **state: Any) -> str:
    return "\n".join(line.plain.rstrip() for line in drawn(known, size, **state).lines)


CASES = {
    "plain": facts(largest=31744),
    "no plan": facts(None),
    "failed": facts(None, failure="the core does not answer"),
    "too large": facts(TOO_LARGE),
    "reload": reloading("laptop", "cron"),
    "evicts": facts(
        replace(
            PLAN,
            verdict="fits after unloading",
            evictions=(Eviction(instance_id="one", unique=UNIQUE, bytes=9 * GIB),),
        ),
        instances={"one": replace(loaded(), model_id="other")},
    ),
    "warned": facts(replace(PLAN, warnings=("a" * 200,), notes=("b" * 200,))),
    "no forecast": facts(replace(PLAN, forecast=None, verdict="unknown")),
}


def test_without_an_answer_no_field_has_a_colour_that_is_dim() -> None:
    inks = theme.ink(VARIABLES)
    painter = Painter(
        facts=facts(), state=FormState(), width=79, glyphs=UNICODE, inks=inks, away=True
    )
    line = painter.field_line(CONTEXT)
    assert (line.style, line.spans) == (inks.muted, [])


WARNING = "context length 8192 is above the 4096 tokens that the model was trained for: expect less"


@pytest.mark.parametrize("size", SIZES[:2], ids=["beside", "80x24"])
def test_a_long_warning_is_whole_where_there_is_room(size: tuple[int, int, int]) -> None:
    lines = text(facts(replace(PLAN, warnings=(WARNING,))), size).split("\n")
    assert f"! {WARNING}" in " ".join(line.strip() for line in lines)


@pytest.mark.parametrize("size", SIZES[:2], ids=["beside", "80x24"])
def test_this_load_is_named_beside_many_others(size: tuple[int, int, int]) -> None:
    others = {
        f"other {n}": replace(loaded(), id=f"other {n}", model_id=f"other {n}", unique=f"o/m{n}")
        for n in range(5)
    }
    (labels,) = [
        line for line in text(facts(instances=others), size).split("\n") if "others" in line
    ]
    assert re.search(r"others.* 6 this +free$", labels)


@pytest.mark.parametrize("size", SIZES, ids=["beside", "80x24", "60x15"])
@pytest.mark.parametrize("known", CASES.values(), ids=list(CASES))
def test_every_line_fits_and_the_forecast_is_in_sight(
    known: FormFacts, size: tuple[int, int, int]
) -> None:
    width, height, pad = size
    for at in ("context_length", "pinned", "cache_tokens"):
        for chosen in ({}, {"context_length": 16384, "kv_cache_type": "q8_0"}):
            found = drawn(known, size, at=at, unfolded=True, chosen=chosen)
            assert len(found.lines) <= height
            widths = [fmt.columns(line.plain.rstrip()) for line in found.lines]
            assert max(widths) <= width + pad
            words = "\n".join(line.plain for line in found.lines)
            assert "GiB" in words or "forecast" in words, words
            assert UNICODE.cursor + " " in words, "the field under the cursor is in sight"
    plain = drawn(known, size, ASCII, unfolded=True)
    assert all(line.plain.replace("·", "").replace("…", "").isascii() for line in plain.lines[2:3])


def test_who_decided_stands_at_the_right_edge() -> None:
    lines = text(facts(), chosen={"kv_cache_type": "q8_0"}).splitlines()
    by_label = {line[2:15].strip(): line for line in lines if line[2:15].strip()}
    for label, origin in (("context", "auto"), ("at once", "config"), ("KV cache", "yours")):
        assert by_label[label].endswith(f" {origin}")
        assert len(by_label[label]) == 79
        assert by_label[label][15] == UNICODE.less
    assert "share 8k; 8k each takes 3.0 GiB more" in by_label["at once"]


@pytest.mark.parametrize(
    ("origin", "word"),
    [
        ("default", "auto"),
        ("catalog", "catalog"),
        ("config", "config"),
        ("model config", "config"),
        ("saved", "saved"),
        ("last use", "last time"),
        ("loaded", "as loaded"),
        ("fit", "auto"),
        ("model", "auto"),
    ],
)
def test_the_words_for_who_decided(origin: Any, word: str) -> None:
    plan = replace(PLAN, origins={"context_length": origin})
    line = next(x for x in text(facts(plan)).splitlines() if "context" in x)
    assert line.endswith(f" {word}")


@pytest.mark.parametrize("width", range(50, 90))
def test_no_figure_is_cut_off_from_its_unit(width: int) -> None:
    line = next(x for x in text(facts(), (width, 20, 0)).splitlines() if "at once" in x)
    assert "…" not in line
    assert ("3.0 GiB" in line) == ("3.0" in line)


def test_the_slider_has_its_figures_under_it() -> None:
    lines = text(facts(largest=31744), SIZES[0]).splitlines()
    slider, scale = lines[3], lines[4]
    assert slider[25] == "├"
    assert slider[slider.index("┤")] == "┤"
    assert (slider.count("●"), slider.count("┊")) == (1, 1)
    assert scale.split() == ["512", "31k", "fits", "[f]", "40k"]
    assert scale.index("512") == 25
    assert scale.rstrip().endswith("40k")
    assert len(scale.rstrip()) == slider.index("┤") + 1


def test_a_reload_names_what_was_and_what_it_cuts() -> None:
    shown = text(reloading("laptop"), chosen={"context_length": 16384, "kv_cache_type": "q8_0"})
    assert shown.startswith(" Reload Qwen3 8B Q4_K_M  loaded: 8k, f16, 7.0 GiB")
    assert "was 8k" in shown
    assert "was f16" in shown
    assert "first  unload it: frees 7.0 GiB, cuts 1 answer (laptop)" in shown
    same = text(reloading(), chosen={"context_length": 8192})
    assert "was" not in same
    assert "cuts" not in same


def test_what_is_unloaded_first_is_named_with_its_idle_time() -> None:
    assert "first  unload" in text(CASES["evicts"])
    assert "frees 7.0 GiB (idle 12m00s)" in text(CASES["evicts"])
    assert "nothing is unloaded for it" in text(facts())


def test_what_does_not_fit_has_ways_and_says_by_how_much() -> None:
    for size in SIZES:
        shown = text(facts(TOO_LARGE), size)
        assert "over by 38.0 GiB" in shown
        assert "3  load it anyway" in shown
        assert "1  4k context" in shown
    assert "What fits instead   ↑ ↓ and enter take one" in text(facts(TOO_LARGE))
    assert "23.0 GiB are free" in text(facts(TOO_LARGE))
    budget = replace(TOO_LARGE, budget_left_bytes=10 * GIB)
    assert "over by 51.0 GiB: your budget leaves 10.0 GiB" in text(facts(budget))


@pytest.mark.parametrize("size", SIZES, ids=["beside", "80x24", "60x15"])
def test_old_figures_stay_until_the_new_ones_come(size: tuple[int, int, int]) -> None:
    fresh = text(facts(), size)
    stale = text(facts(stale=True), size)
    assert "…" not in fresh
    assert "7.0 GiB" in stale
    assert " …" in stale


def test_an_error_stands_under_its_field() -> None:
    known = facts(failure="this type needs flash attention", faulty="kv_cache_type")
    lines = text(known).splitlines()
    at = next(i for i, line in enumerate(lines) if "KV cache" in line)
    assert lines[at + 1].strip() == "this type needs flash attention"
    lines = text(facts(), note="at least 16", typed="8", faulty=True).splitlines()
    assert "[ 8_ ]" in lines[2]
    assert lines[3].strip() == "at least 16"


def test_fields_scroll_and_say_where_they_are() -> None:
    shown = text(facts(), SIZES[2], unfolded=True)
    assert "▼" in shown
    assert "cache tokens" not in shown
    last = text(facts(), SIZES[2], unfolded=True, at="cache_tokens")
    assert "cache tokens" in last
    assert "▼" not in last
    assert "7.0 GiB" in last, "the forecast stays"


def test_the_forecast_tells_where_it_is_from() -> None:
    learned = replace(FORECAST, samples=3, correction_bytes=GIB // 10)
    shown = text(facts(replace(PLAN, forecast=learned)), SIZES[0])
    assert "exact: asked llama.cpp · +0.1 learned from 3 loads" in shown
    assert "weights 5.0 + KV 1.0 + compute 0.5 + overhead 0.5" in shown
    assert "= 7.0 GiB   fits: 23.0 GiB free" in shown
    seeing = replace(learned, projector_bytes=GIB)
    shown = text(facts(replace(PLAN, forecast=seeing)), SIZES[0])
    assert "projector 1.0 + overhead 0.5" in " ".join(shown.split()), "wrapped, not cut"
    assert "no forecast: the core does not answer" in text(CASES["failed"])


def test_an_adapter_shows_its_file() -> None:
    plan: LoadPlan = replace(PLAN)
    assert "none     enter picks a file" in text(facts(plan))
    shown = text(facts(plan), chosen={"loras": (Lora(path="/deep/french.gguf"),)})
    assert "french.gguf" in shown


def test_places_can_be_clicked() -> None:
    spots = drawn(facts(TOO_LARGE)).spots
    assert {spot.key for spot in spots if spot.key} == {"left", "right", "1", "2", "3"}
    lines = drawn(facts(TOO_LARGE)).lines
    for spot in spots:
        if spot.key == "2":
            assert "Q2_K" in lines[spot.line].plain
        if spot.field == "pinned":
            assert "pinned" in lines[spot.line].plain


def test_a_reason_without_a_forecast_is_whole_where_there_is_room() -> None:
    why = "unsloth/SmolLM3-3B-GGUF is not on the Hub, or it is private; its files tell the rest."
    for size in SIZES[:2]:
        words = " ".join(text(facts(None, failure=why), size).split())
        assert f"no forecast: {why}" in words
    assert "…" in text(facts(None, failure=why), SIZES[2]), "one line where there are few"


@pytest.mark.parametrize("width", range(44, 80))
def test_no_figure_of_a_note_is_cut(width: int) -> None:
    """Of a figure that is cut one reads another one."""
    known = facts(replace(PLAN, origins={"parallel": "loaded"}, own_cells_bytes=20_800_000))
    line = next(x for x in text(known, (width, 36, 0)).splitlines() if "at once" in x)
    assert "…" not in line
    assert "share 8k" in line


@pytest.mark.parametrize("width", range(50, 110))
def test_the_heading_leaves_out_whole_facts(width: int) -> None:
    heading = text(reloading(), (width, 21, 0)).splitlines()[0]
    assert "…" not in heading
