"""A conversation as a file: Markdown of what is shown, or JSON of the whole tree. Pure."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import Literal

import msgspec

from modeldeck.core.remote.printable import clean
from modeldeck.tui.chats.chat import Chat, ChatTurn
from modeldeck.tui.chats.requests import quoted

ExportFormat = Literal["markdown", "json"]

SUFFIXES: dict[ExportFormat, str] = {"markdown": ".md", "json": ".json"}


def exported(chat: Chat, form: ExportFormat) -> str:
    """The whole file."""
    return as_json(chat) if form == "json" else as_markdown(chat)


def file_name(chat: Chat, form: ExportFormat) -> str:
    """A name for the file, made of the title."""
    words = re.findall(r"[\w]+", clean(chat.title).lower())
    name = ""
    for word in words:
        if len(name) + len(word) > 48:
            break
        name += f"-{word}" if name else word
    return (name or "chat") + SUFFIXES[form]


def as_markdown(chat: Chat) -> str:
    """The turns that are shown, each below a heading with who said it and when."""
    title = " ".join(clean(chat.title).split()) or "Chat"
    parts = [f"# {title}"]
    if chat.options.system.strip():
        parts.append(f"## system\n\n{clean(chat.options.system, lines=True).strip()}")
    return "\n\n".join([*parts, *map(_markdown_turn, chat.path())]) + "\n"


def _markdown_turn(turn: ChatTurn) -> str:
    who = "you" if turn.role == "user" else clean(turn.model) or "model"
    parts = [f"## {who}, {_moment(turn.at)}"]
    for file in turn.attachments:
        if file.kind == "text":
            parts.append(clean(quoted(file), lines=True))
        else:
            parts.append(f"({file.kind}: {clean(file.name)})")
    if text := clean(turn.text, lines=True).strip():
        parts.append(text)
    if turn.ended:
        parts.append(f"({turn.ended})")
    return "\n\n".join(parts)


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M")


def as_json(chat: Chat) -> str:
    """The whole tree; files as base64, moments in ISO 8601 beside the seconds."""
    whole = msgspec.to_builtins(replace(chat, private=False))
    del whole["private"]
    for turn in whole["turns"]:
        turn["time"] = datetime.fromtimestamp(turn["at"], UTC).isoformat(timespec="seconds")
    return msgspec.json.format(msgspec.json.encode(whole), indent=2).decode() + "\n"


def as_text(turns: tuple[ChatTurn, ...]) -> str:
    """Turns for the clipboard: who, then what was said."""
    return "\n\n".join(
        f"{'you' if turn.role == 'user' else turn.model or 'model'}: {turn.text}" for turn in turns
    )
