"""Models that a conversation can be held with. Pure."""

from __future__ import annotations

from modeldeck.core.schema import Model
from modeldeck.core.schema.state import State
from modeldeck.tui.chats.chat import Thinking

THINKING: tuple[Thinking, ...] = ("auto", "off", "low", "high")


def partners(state: State) -> list[Model]:
    """Models for a conversation: loaded ones, the newest first, then downloaded ones."""
    live = [i.model_id for i in state.instances.values() if i.state.live]
    loaded = [state.models[id] for id in reversed(live) if id in state.models]
    others = [m for m in state.models.values() if m.downloaded and m.id not in live]
    return [model for model in [*loaded, *others] if model.generates_text]


def can_think(model: Model | None) -> bool:
    """Whether a model has a place for thoughts, so that the setting of thinking has an effect."""
    return model is not None and bool({"thinking", "always_thinking"} & set(model.capabilities))
