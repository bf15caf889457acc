"""The line at the top of the Chat screen: model, context, system prompt, sampling, saved. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from rich.text import Text

from modeldeck.tui.chats.context import WARNING, ContextUse
from modeldeck.tui.dashboard.screens.chat.messages import kilo
from modeldeck.tui.dashboard.theme import ThemeStyles
from modeldeck.tui.dashboard.widgets.bars import bar
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text.format import Glyphs

NARROW = 70
"""Width in cells below which only the model and the context are shown."""
METER = 8
"""Cells of the meter."""
GAP = 3
DEFAULT = "temp default"
"""What `sampling.described` says of settings that are the model's own."""
LEAST_NAME = 12
"""Cells that a name keeps."""

Saved = Literal["saved", "unsaved", "private", "off", ""]
"""Whether the chat is written; empty before there is a question."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatHead:
    """What the line shows."""

    sign: str
    live: bool
    """Whether the model is loaded."""
    name: str
    standing: str = ""
    """What the state of the model means for sending; empty where it is ready."""
    use: ContextUse
    system: str = ""
    """Name or first words of the system prompt; empty for none."""
    sampling: str = ""
    thinking: str = ""
    """Empty where the model does not think."""
    saved: Saved = ""
    saved_at: str = ""
    """Time of day of the last write."""
    keys: tuple[str, str, str, str] = ("m", "s", "t", "T")
    """Keys of model, system prompt, sampling and thinking."""


def head_line(head: ChatHead, width: int, glyphs: Glyphs, inks: ThemeStyles) -> Text:
    """The line, with as much as fits into `width` cells."""
    if width < NARROW:
        return _narrow(head, width, glyphs, inks)
    for left, right in _variants(head, glyphs, inks):
        if left.cell_len + right.cell_len + GAP <= width:
            return _joined(left, right, width)
    over = left.cell_len + right.cell_len + GAP - width
    name = fmt.squeeze(head.name, max(LEAST_NAME, fmt.columns(head.name) - over))
    if name == head.name:
        return _narrow(head, width, glyphs, inks)
    return head_line(replace(head, name=name), width, glyphs, inks)


def _variants(head: ChatHead, glyphs: Glyphs, inks: ThemeStyles) -> list[tuple[Text, Text]]:
    """Left and right parts, the fullest first."""
    model, system, sampling, thinking = head.keys
    first = [_model(head, inks).append(f" [{model}]", inks.muted)]
    first += [Text(head.standing, inks.muted)] if head.standing else [_meter(head, glyphs, inks)]
    said = f"system {head.system}" if head.system else "no system prompt"
    parts = [  # rank, text, key: what is as it always is falls away first
        (bool(head.system) * 3 + 3, said, system),
        ((head.sampling != DEFAULT) * 3 + 2, head.sampling, sampling),
        ((head.thinking != "auto") * 3 + 1, f"thinking {head.thinking}", thinking),
    ]
    parts = [part for part in parts if part[1] != "thinking "]
    whole, short = _saved(head, inks), _saved(replace(head, saved_at=""), inks)
    found = []
    while parts:
        texts = [f"{text} [{key}]" for _, text, key in parts]
        found.append(([*first, *(Text(text, inks.muted) for text in texts)], whole))
        if len(parts) == 1:
            found.append(([*first, Text(parts[0][1], inks.muted)], short))
        parts.remove(min(parts))
    found.append((first, short))
    return [(Text(" " * GAP).join(texts), right) for texts, right in found]


def _model(head: ChatHead, inks: ThemeStyles) -> Text:
    line = Text.assemble((head.sign, inks.success if head.live else inks.muted), " ")
    return line.append(fmt.clean(head.name), "bold")


def _meter(head: ChatHead, glyphs: Glyphs, inks: ThemeStyles, label: str = "context") -> Text:
    """The meter: how much of the context what would be sent takes."""
    use = head.use
    about = "" if use.exact or not use.tokens else "~"
    if use.fraction is None or use.total is None:
        return Text(f"{label} {about}{kilo(use.tokens)}", inks.muted)
    style = inks.error if use.fraction >= 1 else inks.warning if use.fraction >= WARNING else None
    words = f" {about}{kilo(use.tokens)} of {fmt.tokens(use.total)}"
    shape = bar(_visible(use.fraction), METER, glyphs, inks, style)
    return Text.assemble((f"{label} ", inks.muted), shape, (words, style or ""))


def _visible(fraction: float) -> float:
    """The fraction, so that a part above 0 has a cell, and only a full context all of them."""
    if 0 < fraction < 1:
        return min(max(fraction, 1 / METER), 1 - 1 / METER)
    return min(fraction, 1.0)


def _saved(head: ChatHead, inks: ThemeStyles) -> Text:
    match head.saved:
        case "saved":
            return Text(f"saved {head.saved_at}".rstrip(), inks.muted)
        case "unsaved":
            return Text("! not saved", inks.error)
        case "private":
            return Text("private, not kept", inks.accent)
        case "off":
            return Text("not kept", inks.muted)
    return Text()


def _narrow(head: ChatHead, width: int, glyphs: Glyphs, inks: ThemeStyles) -> Text:
    right = _meter(head, glyphs, inks, "ctx")
    if head.standing:
        right = Text(head.standing, inks.muted)
    mark = _saved(head, inks) if head.saved in ("unsaved", "private") else Text()
    room = width - right.cell_len - 2 - (mark.cell_len + 2 if mark else 0) - 2
    name = fmt.squeeze(fmt.clean(head.name), max(4, room))
    left = _model(replace(head, name=name), inks)
    if mark:
        left.append("  ").append_text(mark)
    return _joined(left, right, width)


def _joined(left: Text, right: Text, width: int) -> Text:
    line = left.append(" " * max(1, width - left.cell_len - right.cell_len)).append_text(right)
    line.truncate(width)
    line.no_wrap = True
    return line
