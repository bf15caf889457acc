"""Finds out what a chat template supports, by rendering short conversations with it. Pure.

Templates differ in ways that their source does not show for certain. Some expect a message's
content as text, others as a list of parts (`[{"type": "text", "text": ...}]`), and a template that
loops over parts writes nothing of a text, without an error. Many do not know the role `developer`,
OpenAI's newer name for `system`; some refuse `system` too, or leave it out. So each template
renders messages with a known word: is the word in the output?
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, takewhile
from typing import Any, Literal

from modeldeck.core.schema import Message

WORD = "qzxjvword"
"""The word to look for in the output: in no template, and only letters, whose case may change."""

Outcome = Literal["written", "left out", "refused"]
"""What a template does with a message."""
ThoughtKey = Literal["reasoning_content", "thinking", "reasoning", "parts"]
"""The field of a message that holds its thought; `parts` for a part of type `thinking`."""
Turn = dict[str, Any]
Render = Callable[[list[Turn]], str]
"""Renders a conversation; raises the errors of the template."""

_INSTRUCTING = frozenset({"system", "developer"})
_NAMES_DEVELOPER = re.compile(r"""["']developer["']""")
_CALL = {
    "id": "abcdefghi",
    "type": "function",
    "function": {"name": "probe", "arguments": {"x": "y"}},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateSupport:
    """What a template supports."""

    parts: frozenset[str] = frozenset()
    """Roles whose content must be a list of parts."""
    system: Outcome = "written"
    """What it does with a `system` message at the beginning."""
    later: Outcome = "written"
    """What it does with a later `system` message."""
    developer: bool = False
    """Whether it names the role `developer`."""
    shows_user: bool = True
    """Whether it writes `user` messages at all."""
    thought: ThoughtKey | None = None
    """Where it takes the thought of an earlier message; None where it takes none."""


def probe(source: str, render: Render) -> TemplateSupport:
    """Find out what a template supports. Does not catch BaseException, such as its time limit.

    Args:
        source: Its text.
        render: Renders a conversation with it.
    """
    parts: set[str] = set()
    outcomes: dict[str, Outcome] = {}
    for name, conversation in _conversations().items():
        outcomes[name] = _outcome(render, _in_parts(conversation, parts))
        if outcomes[name] != "written":
            role = next(turn["role"] for turn in conversation if turn["content"] == WORD)
            # A list that is written literally is not what the template is made for.
            unless = ("'type'", '"type"')
            if _outcome(render, _in_parts(conversation, {*parts, role}), unless) == "written":
                parts.add(role)
                outcomes[name] = "written"
    return TemplateSupport(
        parts=frozenset(parts),
        system=outcomes["system"],
        later=outcomes["later"],
        developer=bool(_NAMES_DEVELOPER.search(source)),
        shows_user=outcomes["user"] != "left out",
        thought=_thought_key(source, render, parts),
    )


def _thought_key(source: str, render: Render, parts: Collection[str]) -> ThoughtKey | None:
    """Where a template takes the thought of an earlier message.

    Some write it everywhere, most only between a call of a tool and its answer.
    """
    user, answer = {"role": "user", "content": "a"}, {"role": "tool", "content": "b", "name": "f"}
    plain = {"role": "assistant", "content": "b"}
    called = {"role": "assistant", "content": "", "tool_calls": [_CALL]}
    keys: tuple[ThoughtKey, ...] = ("reasoning_content", "thinking", "reasoning", "parts")
    for key in keys:
        if ("thinking" if key == "parts" else key) not in source:
            continue
        talks = (
            [user, with_thought(called, WORD, key), {**answer, "tool_call_id": _CALL["id"]}],
            [user, with_thought(plain, WORD, key), user],
        )
        # A part that is written literally is not what the template is made for.
        unless = ("'type'", '"type"')
        if any(_outcome(render, _in_parts(talk, parts), unless) == "written" for talk in talks):
            return key
    return None


def with_thought(turn: Turn, thought: str, key: ThoughtKey) -> Turn:
    """A message of the assistant with its thought where the template takes it."""
    if key != "parts":
        return {**turn, key: thought}
    said = [{"type": "text", "text": turn["content"]}] if turn["content"] else []
    return {**turn, "content": [{"type": "thinking", "thinking": thought}, *said]}


def _conversations() -> dict[str, list[Turn]]:
    """Short conversations in which one message is the word, by what they test."""
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


def _outcome(render: Render, turns: list[Turn], unless: Sequence[str] = ()) -> Outcome:
    """What a template does with the word; an output with one of `unless` counts as left out."""
    try:
        text = render(turns)
    except MemoryError:
        raise
    except Exception:
        return "refused"
    if WORD in text.casefold() and not any(sign in text for sign in unless):
        return "written"
    return "left out"


def with_parts(turns: Sequence[Turn], support: TemplateSupport) -> list[Turn]:
    """Return messages with contents as lists of parts for the roles that need them."""
    return _in_parts(turns, support.parts)


def _in_parts(turns: Sequence[Turn], roles: Collection[str]) -> list[Turn]:
    return [
        {**turn, "content": [{"type": "text", "text": turn["content"]}]}
        if turn["role"] in roles and isinstance(turn["content"], str)
        else turn
        for turn in turns
    ]


def variants(messages: Sequence[Message], support: TemplateSupport) -> Sequence[Sequence[Message]]:
    """Return equivalent forms of a conversation to try, the best first.

    They differ where a message has the role `developer` and the template does not name it, and
    where the template leaves `system` messages out. Such a message becomes a `system` message;
    where the template does not write that role, or not later in a conversation, a part of the next
    `user` message: at its place, so that what stands before it stays the same. A `system` message
    that the template refuses at the beginning stays refused.
    """
    roles = set() if support.developer else {"developer"}
    if support.system == "left out":
        roles.add("system")
    late = any(
        message.role in _INSTRUCTING and before.role not in _INSTRUCTING
        for before, message in pairwise(messages)
    )
    if not (any(m.role in roles for m in messages) or (late and support.later != "written")):
        return [messages]
    if support.system != "written":
        return [_with_user(messages, roles)]
    if support.later != "written":
        return [_later_with_user(messages)]
    return [_as_system(messages), _later_with_user(messages)]


def _as_system(messages: Sequence[Message]) -> list[Message]:
    """Instructions as `system` messages in place; adjacent ones become one message."""
    found: list[Message] = []
    for message in messages:
        if message.role not in _INSTRUCTING:
            found.append(message)
        elif found and found[-1].role == "system":
            found[-1] = replace(found[-1], content=_joined(found[-1].content, message.content))
        else:
            found.append(replace(message, role="system"))
    return found


def _later_with_user(messages: Sequence[Message]) -> list[Message]:
    """The first instructions in one message, later ones inside the next `user` message."""
    first = list(takewhile(lambda message: message.role in _INSTRUCTING, messages))
    rest = _with_user(messages[len(first) :], _INSTRUCTING)
    return [*_as_system(first), *rest]


def _with_user(messages: Sequence[Message], roles: Collection[str]) -> list[Message]:
    """Instructions of these roles inside the next `user` message, or the last one."""
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
