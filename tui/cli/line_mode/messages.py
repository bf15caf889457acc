"""Texts of the line mode. Pure."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Sequence

from modeldeck.core.schema import Instance, Model
from modeldeck.core.schema.state import State
from modeldeck.tui.chats.chat import Chat, ChatFigures, ChatTurn
from modeldeck.tui.chats.context import ContextUse
from modeldeck.tui.chats.models import partners
from modeldeck.tui.chats.session import ChatSession
from modeldeck.tui.chats.store import ChatSummary
from modeldeck.tui.cli.line_mode.commands import COMMANDS
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text.model_names import title

LEAST_SENTENCE = 20
"""Cells of a command's sentence, at least."""
MOST_LISTED = 40
"""Chats that are listed at once."""


def banner(model: str, context: int | None, session: ChatSession, most: int) -> str:
    """What a conversation begins with: one line, or two where it has more than `most` cells."""
    size = f", {fmt.tokens(context)} context" if context else ""
    keys = f"{fmt.clean(model)}{size}. /help, ctrl-C stops an answer, ctrl-D leaves."
    line = f"{keys} {keeping(session)}"
    return line if fmt.columns(line) <= most else f"{keys}\n{keeping(session)}"


def keeping(session: ChatSession) -> str:
    """Whether a chat is kept, in a sentence."""
    chat = session.chat
    if chat.private:
        return "Private: nothing of this chat is written."
    if not session.kept:
        return "Chats are not saved: [chat] keep is off."
    if chat.number is None:
        return "Saved on this machine; /private begins a chat that is not."
    return f"Saved as chat {chat.number}."


def help_lines(most: int) -> list[str]:
    """The commands, and how lines are written, in at most `most` cells."""
    width = max(len(command.usage) for command in COMMANDS)
    lines = [
        *(f"{command.usage:<{width}}  {command.sentence}" for command in COMMANDS),
        'Text between """ and """ may have several lines; // sends a line that begins with /.',
        "tab completes commands, models and paths; ctrl-R searches earlier questions.",
    ]
    hang = [" " * (width + 2)] * len(COMMANDS) + [""] * (len(lines) - len(COMMANDS))
    room = max(most, width + LEAST_SENTENCE)
    return [
        part
        for line, indent in zip(lines, hang, strict=True)
        for part in textwrap.wrap(line, room, subsequent_indent=indent)
    ]


# Answers


def thinking(seconds: float, tokens: int) -> str:
    """The line that stands while a model thinks."""
    return f"… thinking {fmt.span(seconds)}, {fmt.number(tokens, 'token')}"


def thought(figures: ChatFigures) -> str:
    """The line that stands for a thought."""
    took = f"{fmt.duration(figures.thought_s)}, " if figures.thought_s is not None else ""
    return f"… thought for {took}{fmt.number(figures.thought_tokens or 0, 'token')} (/think show)"


def figures(turn: ChatTurn, use: ContextUse) -> str:
    """The line below an answer: how it ended, where not by itself, and what was measured."""
    found, parts = turn.figures, list[str]()
    if how := _ending(turn):
        parts.append(how)
    if found.tokens_per_s is not None:
        parts.append(f"{found.tokens_per_s:.1f} tok/s")
    if found.first_token_s is not None and found.tokens_per_s is not None:
        parts.append(f"first token {fmt.duration(found.first_token_s)}")
    if found.completion_tokens is not None:
        parts.append(fmt.number(found.completion_tokens, "token"))
    if use.fraction is not None and found.tokens_per_s is not None:
        parts.append(f"context {fmt.percent(use.fraction)}")
    return f"[{', '.join(parts)}]" if parts else ""


def _ending(turn: ChatTurn) -> str:
    match turn.ended:
        case "length":
            return f"stopped: {turn.error or 'the context is full'}"
        case "stopped":
            return "stopped"
        case "cut":
            return f"cut: {turn.error}"
        case "failed":
            return turn.error
    return ""


def context_line(use: ContextUse) -> str:
    """How much of the context the next question would send."""
    sign = "" if use.exact else "about "
    if use.total is None:
        return f"{sign}{use.tokens:,} tokens; the model is not loaded, so its context is not known."
    return f"{sign}{use.tokens:,} of {use.total:,} tokens, {fmt.percent(use.fraction)}"


# Models and chats


def model_lines(state: State, model: Model, instance: Instance | None) -> list[str]:
    """The model that is asked, and those that could be."""
    context = instance.context_length if instance else None
    how = f"{fmt.tokens(context)} context, {instance.engine}" if instance else "not loaded"
    lines = [f"{fmt.clean(name(model, state))}  {fmt.clean(model.unique)}  ({how})"]
    others = [other for other in partners(state) if other.id != model.id]
    return lines + [f"  /load {fmt.clean(other.unique)}" for other in others]


def name(model: Model, state: State) -> str:
    """Name of a model with its quantization."""
    return title(model.id, model.unique, state.models)


def chat_lines(chats: Sequence[ChatSummary], open_now: int | None, width: int) -> list[str]:
    """A list of kept chats, the newest first."""
    lines = []
    for chat in chats[:MOST_LISTED]:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(chat.changed))
        sign = "*" if chat.number == open_now else " "
        text = f"{sign} {chat.number:>4}  {when}  {fmt.clean(chat.title)}"
        lines.append(fmt.cut(text, width))
    if left := len(chats) - MOST_LISTED:
        lines += [f"  and {left} more; /chats WORDS narrows the list"] if left > 0 else []
    return lines


def opened(chat: Chat) -> list[str]:
    """The title of an opened chat, and its last question and answer."""
    path = chat.path()
    lines = [f"Chat {chat.number}, {fmt.number(len(path), 'turn')}: {fmt.clean(chat.title)}"]
    for turn in path[-2:]:
        text = fmt.clean(turn.text, lines=True)
        lines.append(f">>> {text}" if turn.role == "user" else text)
        lines += [f"    [{fmt.clean(file.name)}]" for file in turn.attachments]
    return lines
