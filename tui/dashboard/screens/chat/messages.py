"""Texts of the Chat screen. Pure."""

from __future__ import annotations

from modeldeck.core.schema import Instance, InstanceState, Model
from modeldeck.core.schema.state import State
from modeldeck.tui.chats.chat import ChatAttachment, ChatFigures, ChatTurn, Thinking
from modeldeck.tui.chats.models import THINKING, partners
from modeldeck.tui.dashboard.commands import KeyOf
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text.format import Glyphs


def next_thinking(now: Thinking, model: Model) -> Thinking:
    """The setting after this one; a model that always thinks has no `off`."""
    known = [
        each for each in THINKING if each != "off" or "always_thinking" not in model.capabilities
    ]
    return known[(known.index(now) + 1) % len(known)] if now in known else known[0]


def refuses(model: Model | None, file: ChatAttachment, state: State | None) -> str:
    """Why this model cannot be sent a file; empty where it can."""
    needed = {"image": "vision", "audio": "audio"}.get(file.kind)
    if needed is None or model is None or needed in model.capabilities:
        return ""
    others = [m for m in (partners(state) if state else []) if needed in m.capabilities]
    does, verb = ("sees no images", "do") if file.kind == "image" else ("hears no audio", "do")
    if not others:
        return f"{fmt.clean(model.name)} {does}, and no other model on this machine does."
    verb = "does" if len(others) == 1 else verb
    return f"{fmt.clean(model.name)} {does}; m chooses another ({len(others)} here {verb})."


def standing(instance: Instance | None) -> str:
    """What the state of a model means for sending; empty where it is ready."""
    if instance is None:
        return "loads when you send"
    if instance.state is InstanceState.STARTING:
        return f"loading {fmt.percent(instance.progress)}"
    return ""


def sign(instance: Instance | None, glyphs: Glyphs) -> str:
    """Sign of a model's state."""
    if instance is None:
        return glyphs.dot
    busy = instance.state in (InstanceState.STARTING, InstanceState.BUSY)
    return glyphs.busy if busy else glyphs.loaded


def ending(turn: ChatTurn, glyphs: Glyphs, key_of: KeyOf) -> str:
    """Words for an answer that did not end by itself; empty for one that did."""
    again = f"{key_of('chat.again')} asks again"
    match turn.ended:
        case "length":
            return f"stopped: {turn.error or 'the context is full'}"
        case "stopped":
            return "stopped"
        case "cut":
            return f"{glyphs.failed} cut: {turn.error}   {again}"
        case "failed":
            return f"{glyphs.failed} {turn.error}   {again}"
    return ""


def thought_line(figures: ChatFigures, key: str, *, opened: bool) -> str:
    """The one line that stands for a thought."""
    took = f"for {fmt.duration(figures.thought_s)}, " if figures.thought_s is not None else "for "
    count = fmt.number(figures.thought_tokens or 0, "token")
    sign = "v" if opened else ">"
    return f"{sign} thought {took}{count}   {key} {'folds' if opened else 'opens'}"


def figures_line(figures: ChatFigures, glyphs: Glyphs, width: int) -> list[str]:
    """Measurements of an answer, as many as fit."""
    first, count = figures.first_token_s, figures.completion_tokens
    parts = [
        (f"{figures.tokens_per_s:.1f} tok/s",) * 2 if figures.tokens_per_s is not None else (),
        (f"first token {fmt.duration(first)}", f"first {fmt.duration(first)}")
        if first is not None
        else (),
        (fmt.number(count, "token"),) * 2 if count is not None else (),
        _cached(figures),
    ]
    long = [part[0] for part in parts if part]
    short = [part[1] for part in parts if part]
    gap = fmt.columns(glyphs.dot) + 2
    for tried in (long, [*long[:-1], *short[-1:]], short, short[:3]):
        if sum(map(fmt.columns, tried)) + gap * (len(tried) - 1) <= width:
            return tried
    return short[:3]


def _cached(figures: ChatFigures) -> tuple[str, ...]:
    if not figures.cached_tokens or not figures.prompt_tokens:
        return ()
    share = f"{kilo(figures.cached_tokens)} of {kilo(figures.prompt_tokens)}"
    return f"{share} read from the cache", f"{share} cached"


def kilo(tokens: int) -> str:
    """A number of tokens beside a context length such as 16k: in units of 1,024."""
    if tokens < 1000:
        return str(tokens)
    return f"{tokens / 1024:.1f}k" if tokens < 100 * 1024 else f"{tokens / 1024:.0f}k"


def attachment_line(file: ChatAttachment, known: str, width: int) -> str:
    """Name of a file and what is known of it."""
    room = max(8, width - fmt.columns(known) - 3)
    return f"{fmt.squeeze(fmt.clean(file.name), room)}   {known}"


def no_model(*, has_models: bool, key_of: KeyOf) -> str:
    """That there is no model to ask, and which keys lead to one."""
    if not has_models:
        return (
            f"No model on this machine yet. Press {key_of('app.catalog')},"
            f" then {key_of('catalog.download')}."
        )
    choose = key_of("chat.model")
    return f"No model is loaded. esc, then {choose} chooses one that loads when you send."


def empty_hint(
    *, has_models: bool, has_model: bool, kept: bool, private: bool, key_of: KeyOf
) -> str:
    """What an empty chat says."""
    if not has_models or not has_model:
        return no_model(has_models=has_models, key_of=key_of)
    if private:
        return (
            "Ask something. This chat is private: it is never written, and gone once you leave it."
        )
    if not kept:
        return "Ask something. Chats are not saved: [chat] keep is off."
    new = key_of("chat.private")
    return f"Ask something. Chats are saved on this machine; {new} begins a private one."
