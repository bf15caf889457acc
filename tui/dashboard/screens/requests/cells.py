"""Sign and state of a request, as Memory and Requests draw them. Pure."""

from __future__ import annotations

from rich.style import Style
from rich.text import Text

from modeldeck.core.schema import InstanceState, RequestInfo
from modeldeck.core.schema.state import State
from modeldeck.tui.dashboard.theme import ThemeStyles
from modeldeck.tui.dashboard.widgets.bars import bar
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text import requests as request_text
from modeldeck.tui.text.format import Glyphs

BAR = 5
"""Cells of the bar of a prompt that is being read."""


def is_failed(info: RequestInfo) -> bool:
    """Whether it ended by an error."""
    return info.state == "failed" or (info.state == "cut" and bool(info.error_code))


def sign(info: RequestInfo, glyphs: Glyphs, inks: ThemeStyles) -> tuple[str, Style]:
    """The sign of a request's state."""
    if info.live:
        waits = info.state == "waiting"
        return (glyphs.dot, inks.muted) if waits else (glyphs.busy, inks.primary)
    if is_failed(info):
        return glyphs.failed, inks.error
    if info.state in ("done", "cut"):
        return glyphs.done, inks.success
    return glyphs.dot, inks.muted


def loaded_share(info: RequestInfo, state: State) -> float | None:
    """How much of its model is loaded, for a request that waits for that."""
    if info.state != "loading":
        return None
    for instance in state.instances.values():
        if instance.model_id == info.model_id and instance.state is InstanceState.STARTING:
            return instance.progress
    return None


def state_text(
    info: RequestInfo, state: State, own: str, glyphs: Glyphs, inks: ThemeStyles, cells: int
) -> Text:
    """How far a request is in at most `cells` cells, with a bar where it has a percentage."""
    loaded = loaded_share(info, state)
    said = fmt.clean(request_text.state_words(info, own, loaded))
    if fmt.columns(said) > cells:
        said = said.partition(" (")[0]  # details have the whole code of an error
    words = Text(said)
    share = request_text.read_share(info) if loaded is None else loaded
    if share is not None and (room := cells - words.cell_len - 1) >= 3:
        return words.append(" ").append_text(bar(share, min(BAR, room), glyphs, inks))
    if is_failed(info):
        words.stylize(inks.error)
    elif info.state in ("waiting", "cancelled", "left"):
        words.stylize(inks.muted)
    words.truncate(cells, overflow="ellipsis")
    return words
