"""What a chat template takes: found out by having it write short conversations. Pure.

Templates differ in ways that their text does not tell for certain. Some want a message's content as
text, others as a list of parts (`[{"type": "text", "text": ...}]`), and one that walks a list of
parts writes nothing of a text, without an error. Many know no role `developer`, OpenAI's newer word
for `system`; some refuse `system` too, or leave it out. So each is asked: does a word of a message
come back?
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

from modeldeck.core.schema import Message

WORD = "qzxjvword"
"""What is looked for in the output: no word of a template, and all letters, since a template may
change their case."""

Fate = Literal["written", "left out", "refused"]
"""What becomes of a message."""
Turn = dict[str, Any]
Render = Callable[[list[Turn]], str]
"""Writes a conversation; raises whatever the template does."""

_NAMES_DEVELOPER = re.compile(r"""["']developer["']""")
_CALL = {
    "id": "abcdefghi",
    "type": "function",
    "function": {"name": "probe", "arguments": {"x": "y"}},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Takes:
    """What a template takes."""

    parts: frozenset[str] = frozenset()
    """Roles whose content it takes as a list of parts only."""
    system: Fate = "written"
    """What becomes of a message of role `system` at the beginning."""
    later: Fate = "written"
    """What becomes of one that comes later."""
    developer: bool = False
    """Whether it names the role `developer`."""
    shows_user: bool = True
    """Whether what a user says is written at all."""


def find_out(source: str, render: Render) -> Takes:
    """Ask a template what it takes. Lets pass what is no `Exception`, such as the end of its time.

    Args:
        source: Its text.
        render: Writes a conversation by it.
    """
    parts: set[str] = set()
    fates: dict[str, Fate] = {}
    for name, conversation in _conversations().items():
        fates[name] = _fate(render, _in_parts(conversation, parts))
        if fates[name] != "written":
            role = next(turn["role"] for turn in conversation if turn["content"] == WORD)
            # A list that is written as it stands is not what the template was made for.
            unless = ("'type'", '"type"')
            if _fate(render, _in_parts(conversation, {*parts, role}), unless) == "written":
                parts.add(role)
                fates[name] = "written"
    return Takes(
        parts=frozenset(parts),
        system=fates["system"],
        later=fates["later"],
        developer=bool(_NAMES_DEVELOPER.search(source)),
        shows_user=fates["user"] != "left out",
    )


def _conversations() -> dict[str, list[Turn]]:
    """By what is asked: a short conversation in which one message is the word."""
    user, assistant = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}
    system = {"role": "system", "content": WORD}
    called = {"role": "assistant", "content": "", "tool_calls": [_CALL]}
    answer = {"role": "tool", "content": WORD, "tool_call_id": _CALL["id"], "name": "probe"}
    return {
        "user": [{"role": "user", "content": WORD}],
        "assistant": [user, {"role": "assistant", "content": WORD}, user],
        "system": [system, user],
        "later": [user, assistant, system, user],
        "tool": [user, called, answer],
    }


def _fate(render: Render, turns: list[Turn], unless: Sequence[str] = ()) -> Fate:
    """What becomes of the word; to be written beside one of `unless` does not count."""
    try:
        text = render(turns)
    except MemoryError:
        raise
    except Exception:
        return "refused"
    if WORD in text.casefold() and not any(sign in text for sign in unless):
        return "written"
    return "left out"


def as_taken(turns: Sequence[Turn], takes: Takes) -> list[Turn]:
    """Messages with their contents as the template takes them."""
    return _in_parts(turns, takes.parts)


def _in_parts(turns: Sequence[Turn], roles: Collection[str]) -> list[Turn]:
    return [
        {**turn, "content": [{"type": "text", "text": turn["content"]}]}
        if turn["role"] in roles
        else turn
        for turn in turns
    ]


def placings(messages: Sequence[Message], takes: Takes) -> Sequence[Sequence[Message]]:
    """Ways to write a conversation, the best first: all say the same.

    They differ where a message is of role `developer` and the template does not name it, and where
    the template leaves messages of role `system` out. Such a message becomes one of role `system`;
    where that does not do, a part of the first one; where the template takes no such role, a part
    of what the user says next. A `system` message that the template refuses stays refused.
    """
    roles = set() if takes.developer else {"developer"}
    if takes.system == "left out":
        roles.add("system")
    late = any(
        message.role == "system" and before.role not in ("system", "developer")
        for before, message in pairwise(messages)
    )
    if not (any(m.role in roles for m in messages) or (late and takes.later == "left out")):
        return [messages]
    if takes.system != "written":
        return [_with_user(messages, roles)]
    if takes.later != "written":
        return [_at_front(messages)]
    return [_as_system(messages), _at_front(messages)]


def _as_system(messages: Sequence[Message]) -> list[Message]:
    """Instructions where they stand; those that follow each other are one message."""
    found: list[Message] = []
    for message in messages:
        if message.role not in ("system", "developer"):
            found.append(message)
        elif found and found[-1].role == "system":
            found[-1] = replace(found[-1], content=_joined(found[-1].content, message.content))
        else:
            found.append(replace(message, role="system"))
    return found


def _at_front(messages: Sequence[Message]) -> list[Message]:
    """All instructions in one message at the beginning."""
    roles = ("system", "developer")
    told = _joined(*(message.content for message in messages if message.role in roles))
    others = [message for message in messages if message.role not in roles]
    return [Message(role="system", content=told), *others]


def _with_user(messages: Sequence[Message], roles: set[str]) -> list[Message]:
    """Instructions of these roles before what the user says next, or after what was said last."""
    found: list[Message] = []
    waiting: list[str] = []
    for message in messages:
        if message.role in roles:
            waiting.append(message.content)
        elif message.role == "user" and waiting:
            found.append(replace(message, content=_joined(*waiting, message.content)))
            waiting = []
        else:
            found.append(message)
    if waiting and found and found[-1].role == "user":
        found[-1] = replace(found[-1], content=_joined(found[-1].content, *waiting))
    elif waiting:
        found.append(Message(role="user", content=_joined(*waiting)))
    return found


def _joined(*texts: str) -> str:
    return "\n\n".join(text for text in texts if text)
