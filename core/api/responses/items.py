"""Items of a conversation become messages for a model. Pure.

An item is a message, a thought, a call, or the output of a call. The items of one turn of the
assistant (thoughts, text, calls) become one message.

Source: https://platform.openai.com/docs/api-reference/responses/create#responses-create-input
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from modeldeck.core.api.http.messages import convert
from modeldeck.core.api.message_content import MessageContent, joined
from modeldeck.core.api.responses.parts import ContentPiece, content_of, text_of
from modeldeck.core.api.responses.tools import ToolTarget, model_name, text_arguments
from modeldeck.core.errors import InvalidRequest
from modeldeck.core.schema import Message, ToolCall

Item = Mapping[str, Any]

SKIPPED = frozenset(
    {
        *("web_search_call", "file_search_call", "computer_call", "computer_call_output"),
        *("code_interpreter_call", "image_generation_call", "tool_search_call"),
        *("tool_search_output", "mcp_list_tools", "mcp_approval_request", "program"),
        *("mcp_approval_response", "compaction", "compaction_trigger", "configuration_update"),
        *("program_output", "additional_tools"),
    }
)
"""Items of hosted tools and of OpenAI's own service, which say nothing to another model."""

HOSTED_CALLS: Mapping[str, tuple[str, str]] = {
    "local_shell_call": ("local_shell", "action"),
    "shell_call": ("shell", "action"),
    "apply_patch_call": ("apply_patch", "operation"),
}
"""Calls of hosted tools that a client ran: the tool's name, and the field with the arguments."""

OUTPUTS = frozenset(
    {
        *("function_call_output", "custom_tool_call_output", "local_shell_call_output"),
        *("shell_call_output", "apply_patch_call_output"),
    }
)

_THOUGHT_MARK = "md1."
"""Begins `encrypted_content` that was made here."""

Role = Literal["system", "user", "assistant", "developer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageForm:
    """A message."""

    role: Role
    content: str | list[ContentPiece] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CalledTool:
    """A call that the model asked for; `arguments` of a function, `input` of a custom tool."""

    name: str
    call_id: str
    namespace: str | None = None
    arguments: str = ""
    input: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallOutput:
    """What a call gave."""

    call_id: str | None = None
    id: str | None = None
    output: str | list[ContentPiece] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ThoughtForm:
    """A thought: its text may stand in any of the three fields."""

    summary: list[ContentPiece] | None = None
    content: list[ContentPiece] | None = None
    encrypted_content: str | None = None


def thought_token(thought: str) -> str:
    """A thought as `encrypted_content`: encoded, and not secret to the client that it is sent to.

    >>> thought_of_token(thought_token("hm"))
    'hm'
    """
    return _THOUGHT_MARK + base64.b64encode(thought.encode()).decode()


def thought_of_token(token: str) -> str:
    """The thought in `encrypted_content`; empty where it was not made here."""
    if not token.startswith(_THOUGHT_MARK):
        return ""
    try:
        return base64.b64decode(token.removeprefix(_THOUGHT_MARK), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""


def resolved(
    items: Sequence[Item], find: Callable[[str], Item | None], place: str = "input"
) -> list[Item]:
    """Items with references replaced by what they refer to.

    A reference to a thought that is not kept is left out: the conversation is whole without it.
    Raises InvalidRequest for any other. `place` is where the items stand in the request.
    """
    found: list[Item] = []
    for number, item in enumerate(items):
        if item.get("type") != "item_reference" and not _is_bare_reference(item):
            found.append(item)
            continue
        id = str(item.get("id"))
        if (kept := find(id)) is not None:
            found.append(kept)
        elif not id.startswith("rs_"):
            raise InvalidRequest(
                f"{place}[{number}] refers to an item that is not kept: {id[:80]!r}.",
                "Send the item itself.",
            )
    return found


def _is_bare_reference(item: Item) -> bool:
    """Whether an item consists of nothing but an id: a reference whose type was left out."""
    return item.get("type") is None and set(item) <= {"id", "type"} and "id" in item


def tools_in(items: Sequence[Item]) -> list[dict[str, Any]]:
    """Tools that were added in the middle of a conversation."""
    return [
        tool
        for item in items
        if item.get("type") in ("additional_tools", "tool_search_output")
        and isinstance(item.get("tools"), list)
        for tool in item["tools"]
        if isinstance(tool, dict)
    ]


def messages_of(
    items: Sequence[Item], instructions: str | None = None, place: str = "input"
) -> tuple[Message, ...]:
    """The messages of a conversation. Raises InvalidRequest naming the item.

    All instructions at the beginning become one `system` message, later ones have the role
    `developer`, which engines fit to the model's template.
    """
    reader = _ItemReader()
    if instructions:
        reader.say("system", MessageContent(text=instructions))
    for number, item in enumerate(items):
        reader.add(item, f"{place}[{number}]")
    reader.close_turn()
    return tuple(reader.messages)


@dataclass(slots=True)
class _ItemReader:
    """Reads items in order; collects the parts of a turn of the assistant."""

    messages: list[Message] = field(default_factory=list)
    _thoughts: list[str] = field(default_factory=list)
    _said: MessageContent | None = None
    _calls: list[ToolCall] = field(default_factory=list)

    def add(self, item: Item, what: str) -> None:
        kind = item.get("type")
        if kind is None and "role" in item:
            kind = "message"
        if kind == "message":
            form = convert(item, MessageForm, what)
            self.say(form.role, content_of(form.content, f"{what}.content"))
        elif kind == "reasoning":
            self._think(convert(item, ThoughtForm, what), what)
        elif kind in ("function_call", "custom_tool_call"):
            self._call(_tool_call(convert(item, CalledTool, what), custom=kind != "function_call"))
        elif kind in OUTPUTS:
            self._output(item, what)
        elif kind in HOSTED_CALLS:
            self._hosted_call(item, str(kind))
        elif kind == "mcp_call":
            self._mcp_call(item, what)
        elif kind not in SKIPPED:
            raise InvalidRequest(
                f"{what} is of a type that is not known: {str(kind)[:60]!r}.",
                "Send it as a message.",
            )

    def say(self, role: Role, content: MessageContent) -> None:
        """A message of any role."""
        if role == "assistant":
            if self._said is not None or self._calls:
                self.close_turn()
            self._said = content
            return
        self.close_turn()
        if role in ("system", "developer"):
            if len(self.messages) == 1 and self.messages[0].role == "system":
                before = self.messages.pop()
                content = joined(
                    [MessageContent(text=before.content, media=before.media), content], "\n\n"
                )
            role = "developer" if self.messages else "system"
        self.messages.append(Message(role=role, content=content.text, media=content.media))

    def _think(self, form: ThoughtForm, what: str) -> None:
        if self._said is not None or self._calls:
            self.close_turn()
        thought = (
            text_of(form.content, what)
            or thought_of_token(form.encrypted_content or "")
            or text_of(form.summary, what)
        )
        if thought:
            self._thoughts.append(thought)

    def _call(self, call: ToolCall) -> None:
        self._calls.append(call)

    def _output(self, item: Item, what: str) -> None:
        if isinstance(item.get("output"), dict | list):
            item = {**item, "output": _parts_of(item["output"])}
        form = convert(item, CallOutput, what)
        self.close_turn()
        content = content_of(form.output, f"{what}.output", is_output=True)
        call_id = form.call_id or form.id
        self.messages.append(
            Message(role="tool", content=content.text, media=content.media, tool_call_id=call_id)
        )

    def _hosted_call(self, item: Item, kind: str) -> None:
        name, given = HOSTED_CALLS[kind]
        key = item.get("call_id") or item.get("id")
        arguments = json.dumps(item.get(given), ensure_ascii=False)
        self._call(ToolCall(id=str(key), name=name, arguments=arguments))

    def _mcp_call(self, item: Item, what: str) -> None:
        """A call with its output in one."""
        form = convert({**item, "call_id": item.get("id")}, CalledTool, what)
        self._call(_tool_call(form, custom=False))
        self._output({"call_id": form.call_id, "output": item.get("output")}, what)

    def close_turn(self) -> None:
        """End the turn of the assistant, if one is open."""
        if self._said is None and not self._calls and not self._thoughts:
            return
        said = self._said or MessageContent()
        turn = Message(
            role="assistant",
            content=said.text,
            media=said.media,
            thought="\n\n".join(self._thoughts),
            tool_calls=tuple(self._calls),
        )
        self.messages.append(turn)
        self._thoughts, self._said, self._calls = [], None, []


def _tool_call(form: CalledTool, *, custom: bool) -> ToolCall:
    target = ToolTarget(name=form.name, namespace=form.namespace)
    arguments = text_arguments(form.input) if custom else form.arguments
    return ToolCall(id=form.call_id, name=model_name(target), arguments=arguments)


def _parts_of(output: Any) -> list[Any]:
    """An output of any tool as parts; what has no text, such as exit codes, as JSON."""
    parts = output if isinstance(output, list) else [output]
    return [
        part
        if isinstance(part, dict) and isinstance(part.get("type"), str)
        else {"type": "input_text", "text": json.dumps(part, ensure_ascii=False)}
        for part in parts
    ]
