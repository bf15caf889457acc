"""The state of the load form, and what each key does to it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from modeldeck.core.schema import LoadOptions
from modeldeck.tui.dashboard.screens.load_form import fields
from modeldeck.tui.dashboard.screens.load_form.facts import FormFacts, effective
from modeldeck.tui.dashboard.screens.load_form.fields import FormField, TypedLimits
from modeldeck.tui.dashboard.screens.load_form.ways import Way, ways
from modeldeck.tui.text import format as fmt

Act = Literal["load", "force", "save", "leave", "lora", "help", "model"]
"""What a key asks of the form's owner: load it, load it anyway, save the options, close the form,
ask for adapters, show the keys, or go to the model of a way."""

NEXT = ("tab", "down", "j")
BEFORE = ("shift+tab", "up", "k")
UNITS = ("k", "m", "K", "M")
"""Units that can be typed after a figure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FormState:
    """What the user did so far."""

    at: str = "context_length"
    """Name of the field under the cursor."""
    chosen: Mapping[str, Any] = field(default_factory=dict)
    """Options that the user chose, by name."""
    make_room: bool = False
    """Whether idle models are unloaded for it."""
    unfolded: bool = False
    """Whether the fields under `more` are shown."""
    typed: str = ""
    """What is being typed into the field."""
    note: str = ""
    """What is said under the field; empty for nothing."""
    faulty: bool = False
    """Whether the note is an error, with which nothing is loaded or saved."""
    way: int = 0
    """Which of the ways the cursor is on, where there are any."""

    def options(self) -> LoadOptions:
        """The chosen options, for a request."""
        return LoadOptions(**self.chosen)


def current_field(state: FormState, facts: FormFacts) -> FormField:
    """The field under the cursor; the first where it is not shown any more."""
    shown = _shown(state, facts)
    return next((f for f in shown if f.name == state.at), shown[0])


def _shown(state: FormState, facts: FormFacts) -> list[FormField]:
    values = effective(facts, state.chosen)
    return fields.shown_fields(facts, values, unfolded=state.unfolded)


def press(state: FormState, key: str, facts: FormFacts) -> tuple[FormState, Act | None]:
    """The state after a key, by Textual's name, and what is asked of the form's owner."""
    choices = ways(facts)
    if (direct := _DIRECT.get(key)) is not None:
        return state, direct
    if key == "ctrl+s":
        return (state, None) if state.faulty else (state, "save")
    if choices and key in ("up", "down"):
        by = 1 if key == "down" else -1
        return replace(state, way=max(0, min(len(choices) - 1, state.way + by))), None
    if choices and key.isdecimal() and 1 <= int(key) <= len(choices):
        return taken(state, choices[int(key) - 1])
    if key in UNITS and _is_unit(state, facts):
        return _written(state, key, facts), None
    if key in NEXT or key in BEFORE or key in ("home", "end"):
        return _moved(state, key, facts), None
    if key == "enter":
        return _entered(state, facts, choices)
    if key in ("left", "right", "space"):
        return _stepped(state, key, facts), None
    if key == "backspace":
        return _backspaced(state, facts), None
    return _written(state, key, facts), None


_DIRECT: Mapping[str, Act] = {"escape": "leave", "question_mark": "help"}


def moved_to(state: FormState, name: str) -> FormState:
    """The state with the cursor on a field; what was typed and is no value is dropped."""
    return replace(state, at=name, typed="", note="", faulty=False)


def _moved(state: FormState, key: str, facts: FormFacts) -> FormState:
    names = [f.name for f in _shown(state, facts)]
    here = current_field(state, facts).name
    at = names.index(here) + (1 if key in NEXT else -1)
    if key in ("home", "end"):
        at = 0 if key == "home" else -1
    return moved_to(state, names[at % len(names)])


def _entered(
    state: FormState, facts: FormFacts, choices: tuple[Way, ...]
) -> tuple[FormState, Act | None]:
    if state.faulty:
        return state, None
    if choices:
        return taken(state, choices[min(state.way, len(choices) - 1)])
    if state.at == "more":
        return replace(state, unfolded=not state.unfolded), None
    if state.at == "loras":
        return state, "lora"
    return replace(state, typed=""), "load"


def taken(state: FormState, way: Way) -> tuple[FormState, Act | None]:
    """The state with a way taken: its options are chosen, to be loaded with the next `enter`."""
    if way.force:
        return state, "force"
    if way.unique:
        return state, "model"
    if way.make_room:
        return replace(state, make_room=True, way=0), None
    chosen = {**state.chosen, **way.options}
    chosen = {name: value for name, value in chosen.items() if value is not None}
    return replace(state, chosen=chosen, way=0, typed="", note="", faulty=False), None


def chosen_value(state: FormState, name: str, value: Any, facts: FormFacts) -> FormState:
    """The state with a value chosen; one that it rules out is given up."""
    chosen = {**state.chosen, name: value}
    values = effective(facts, chosen)
    length, cells = values.context_length or 0, chosen.get("cache_tokens")
    if cells is not None and cells < length:
        del chosen["cache_tokens"]
    return replace(state, chosen=chosen, note="", faulty=False)


def _stepped(state: FormState, key: str, facts: FormFacts) -> FormState:
    here = current_field(state, facts)
    if here.name == "more":
        return replace(state, unfolded=key != "left" and (key == "right" or not state.unfolded))
    values = effective(facts, state.chosen)
    now, steps = here.value(values), here.steps(facts, values)
    value = here.stepped(-1 if key == "left" else 1, facts, values)
    if key == "space" and value == now and steps:
        value = steps[0]
    state = replace(state, at=here.name, typed="", note="", faulty=False)
    if value == now:
        return replace(state, note=_end(here, key, facts))
    if value is None and here.name not in state.chosen and not steps:
        return state
    return chosen_value(state, here.name, value, facts)


def _end(here: FormField, key: str, facts: FormFacts) -> str:
    """Why a step leads no further."""
    if here.name == "context_length" and key == "right" and facts.is_trained_known:
        return f"{fmt.tokens(facts.trained)} is what it was trained for"
    return ""


def _backspaced(state: FormState, facts: FormFacts) -> FormState:
    """Take a typed character back, else give the field back to what it would be."""
    here = current_field(state, facts)
    if len(state.typed) > 1:
        return _with_typed(state, here, state.typed[:-1], facts)
    chosen = {name: value for name, value in state.chosen.items() if name != here.name}
    return replace(state, chosen=chosen, typed="", note="", faulty=False)


def _written(state: FormState, key: str, facts: FormFacts) -> FormState:
    """Type a figure or a unit into the field, or take the largest context that fits."""
    here = current_field(state, facts)
    if key == "f":
        return _largest(state, facts)
    limits = here.limits(facts, effective(facts, state.chosen))
    is_unit = key in UNITS and _is_unit(state, facts)
    is_figure = len(key) == 1 and key.isdecimal() and not state.typed.endswith(UNITS)
    if limits is None or not (is_figure or is_unit):
        return state
    return _with_typed(state, here, state.typed + key, facts)


def _is_unit(state: FormState, facts: FormFacts) -> bool:
    """Whether a unit may be typed now: after a figure, in a field that has units."""
    limits = current_field(state, facts).limits(facts, effective(facts, state.chosen))
    is_open = bool(state.typed) and not state.typed.endswith(UNITS)
    return is_open and limits is not None and limits.units


def _with_typed(state: FormState, here: FormField, text: str, facts: FormFacts) -> FormState:
    limits = here.limits(facts, effective(facts, state.chosen))
    if limits is None:
        return state
    value, problem = fields.typed(text, limits)
    if value is None and problem.startswith("at most"):
        text = str(limits.most)  # not the shorter number that was typed on the way
        state = replace(state, at=here.name, typed=text)
        state = chosen_value(state, here.name, limits.most * limits.scale, facts)
        return replace(state, note=_too_much(here, limits, facts))
    state = replace(state, at=here.name, typed=text)
    if value is None:
        return replace(state, note=problem, faulty=True)
    return chosen_value(state, here.name, value, facts)


def _too_much(here: FormField, limits: TypedLimits, facts: FormFacts) -> str:
    why = ": what it was trained for" if here.name == "context_length" else ""
    known = why if facts.is_trained_known else ""
    return f"at most {fields.most_words(limits)}{known}"


def _largest(state: FormState, facts: FormFacts) -> FormState:
    largest = facts.forecasts.largest
    state = moved_to(state, "context_length")
    if largest is None:
        return replace(state, note="what fits is not known")
    return chosen_value(state, "context_length", min(largest, facts.trained), facts)
