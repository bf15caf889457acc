"""Commands and texts of the Chat screen. Pure."""

from __future__ import annotations

from modeldeck.core.schema import Chunk, Instance, InstanceState, Model
from modeldeck.core.schema.state import State
from modeldeck.tui.dashboard.commands import Command
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text.format import Glyphs

COMMANDS: tuple[Command, ...] = (
    Command(name="write", keys="i,enter", label="write", help="Write to the model."),
    Command(
        name="model", keys="m", label="model", help="Talk to the next model that can be talked to."
    ),
    Command(name="copy", keys="y", label="copy", help="Copy the last answer."),
    Command(
        name="copy_all",
        keys="Y",
        label="copy all",
        help="Copy the whole conversation.",
        footer=False,
    ),
    Command(
        name="system",
        keys="s",
        label="system",
        help="Write the system prompt: how it shall answer.",
    ),
    Command(
        name="temperature",
        keys="t",
        label="temperature",
        help="Set the temperature: 0 is the same answer every time, 2 is wild.",
    ),
    Command(name="new", keys="n", label="new", help="Begin a new conversation."),
    Command(
        name="again",
        keys="r",
        label="again",
        help="Ask the last question again.",
        footer=False,
    ),
    Command(
        name="scroll_down",
        keys="j,down",
        label="down",
        help="Scroll down.",
        action="scroll(1)",
        footer=False,
    ),
    Command(
        name="scroll_up",
        keys="k,up",
        label="up",
        help="Scroll up.",
        action="scroll(-1)",
        footer=False,
    ),
    Command(
        name="page_down",
        keys="ctrl+d,pagedown",
        label="page down",
        help="Scroll half a page down.",
        action="turn(0.5)",
        footer=False,
    ),
    Command(
        name="page_up",
        keys="ctrl+u,pageup",
        label="page up",
        help="Scroll half a page up.",
        action="turn(-0.5)",
        footer=False,
    ),
    Command(
        name="first", keys="g,home", label="first", help="Go to the first question.", footer=False
    ),
    Command(name="last", keys="G,end", label="last", help="Go to the last answer.", footer=False),
)


def partners(state: State) -> list[Model]:
    """Models for a conversation: loaded ones, the newest first, then downloaded ones."""
    live = [i.model_id for i in state.instances.values() if i.state.live]
    loaded = [state.models[id] for id in reversed(live) if id in state.models]
    others = [m for m in state.models.values() if m.downloaded and m.id not in live]
    return [model for model in [*loaded, *others] if "embedding" not in model.usage]


def temperature(text: str) -> float | None:
    """Parse a temperature; None for an empty text. Raises ValueError."""
    if not text.strip():
        return None
    value = float(text.replace(",", "."))
    if not 0 <= value <= 2:
        raise ValueError(text)
    return value


def standing(instance: Instance | None, glyphs: Glyphs) -> tuple[str, str]:
    """Sign and words for the state of a model."""
    if instance is None:
        return glyphs.dot, "loads when you send"
    if instance.state is InstanceState.STARTING:
        return glyphs.busy, f"loading {fmt.percent(instance.progress)}"
    context = f", context {fmt.tokens(instance.context_length)}" if instance.context_length else ""
    sign = glyphs.busy if instance.state is InstanceState.BUSY else glyphs.loaded
    return sign, f"{instance.state}{context}"


def waiting(instance: Instance | None) -> str:
    """Text shown before the first chunk of an answer."""
    if instance is None:
        return "loading the model"
    if instance.state is InstanceState.STARTING:
        return f"loading the model {fmt.percent(instance.progress)}"
    return "reading your question"


def why(last: Chunk | None) -> str:
    """Why an answer ended, if not normally."""
    reason = last.finish_reason if last else None
    return {"length": "stopped: the context is full", "cancelled": "stopped"}.get(reason or "", "")
