"""Renders conversations by a model's own chat template: Jinja, in a sandbox."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from modeldeck.core.errors import InvalidRequest
from modeldeck.core.runtime.engines.base import say
from modeldeck.core.runtime.engines.harmony import is_harmony, split_thoughts
from modeldeck.core.runtime.engines.template_probe import (
    TemplateSupport,
    probe,
    variants,
    with_parts,
)
from modeldeck.core.schema import GenerateRequest, Message, Tool

if TYPE_CHECKING:
    import jinja2

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Used for a model without a chat template, as llama.cpp's own server does."""
CHATML_STOP = "<|im_end|>"


_OPENS, _CLOSES, _TOOLS = re.compile(r"\{[%{]"), re.compile(r"[%}]\}"), re.compile(r"\btools\b")


def knows_tools(template: str) -> bool:
    """Whether a template uses `tools`.

    >>> knows_tools("{% for tool in tools %}{{ tool | tojson }}{% endfor %}")
    True
    >>> knows_tools("{% for m in messages %}{{ m.content }}{% endfor %}")
    False
    """
    at = 0  # one pass: a template comes with a model and may be hostile
    while opens := _OPENS.search(template, at):
        closes = _CLOSES.search(template, opens.end())
        if closes is None:
            return False
        if _TOOLS.search(template, opens.end(), closes.start()):
            return True
        at = closes.end()
    return False


def wants_tools(request: GenerateRequest) -> bool:
    """Whether the model gets the tools of a request."""
    return bool(request.tools) and request.tool_choice != "none"


def check_tools(request: GenerateRequest, template: str) -> None:
    """Raise InvalidRequest for tools without messages, or with a template that has no tools."""
    if not wants_tools(request):
        return
    if not request.messages:
        raise InvalidRequest("Tools need messages; a plain prompt has no place for them.")
    if not knows_tools(template):
        raise InvalidRequest(
            "This model's chat template has no place for tools.",
            "Take a model that was trained to call tools, or leave them out.",
        )


def tool_records(tools: Sequence[Tool]) -> list[dict[str, Any]]:
    """Tools in the form that templates expect, which is OpenAI's."""
    return [{"type": "function", "function": msgspec.to_builtins(tool)} for tool in tools]


def turns(
    messages: Sequence[Message], *, as_text: bool = False, template: str = ""
) -> list[dict[str, Any]]:
    """Messages in the form that templates expect; `as_text` leaves call arguments as JSON text."""
    names = {call.id: call.name for message in messages for call in message.tool_calls}
    found: list[dict[str, Any]] = []
    for message in messages:
        turn: dict[str, Any] = {"role": message.role, "content": message.content}
        if message.tool_calls:
            turn["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {
                        "name": call.name,
                        "arguments": call.arguments if as_text else _arguments(call.arguments),
                    },
                }
                for call in message.tool_calls
            ]
        if message.tool_call_id is not None:
            turn["tool_call_id"] = message.tool_call_id
            if message.tool_call_id in names:
                turn["name"] = names[message.tool_call_id]
        found.append(split_thoughts(turn) if is_harmony(template) else turn)
    return found


def _arguments(text: str) -> Any:
    """Arguments as most templates expect them: an object, not JSON text."""
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return text
    return found if isinstance(found, dict) else text


def refused(error: Exception) -> InvalidRequest:
    """The error for a template that raised an exception."""
    return InvalidRequest(
        f"The model's chat template refuses this conversation: {error}",
        "Change the roles or their order, or send a plain prompt.",
    )


def nothing_written() -> InvalidRequest:
    """The error for a conversation that renders to no text, which no engine can continue."""
    return InvalidRequest(
        "The model's chat template writes nothing of this conversation.",
        "Change the roles of its messages, or send a plain prompt.",
    )


class ChatTemplate:
    """A chat template, compiled once."""

    def __init__(self, source: str, values: Mapping[str, Any]) -> None:
        """`values` are variables besides the conversation, such as `bos_token`."""
        self.source = source
        self._values = values
        self._compiled: jinja2.Template | None = None
        self._support: TemplateSupport | None = None

    def render(self, request: GenerateRequest) -> str:
        """Render a conversation. Raises InvalidRequest when the template refuses it.

        A template may run for ever: call this within bounds.
        """
        tools = tool_records(request.tools) if wants_tools(request) else None
        try:
            support = self._probe()
            first: Exception | None = None
            for messages in variants(request.messages, support):
                try:
                    return self._write(messages, support, tools)
                except MemoryError:
                    raise
                except Exception as error:  # another variant may work
                    first = first or error
            assert first is not None
            raise first
        except MemoryError:
            raise  # the bounds report it
        except Exception as error:
            raise refused(error) from error

    def _probe(self) -> TemplateSupport:
        """What the template supports; probed once and cached."""
        if self._support is None:
            self._support = probe(self.source, lambda turns: self._render(turns, None))
            if not self._support.shows_user:
                say("warning", "the chat template does not write what the user says")
        return self._support

    def _write(
        self,
        messages: Sequence[Message],
        support: TemplateSupport,
        tools: list[dict[str, Any]] | None,
    ) -> str:
        try:
            converted = turns(messages, template=self.source)
            return self._render(with_parts(converted, support), tools)
        except TypeError:  # some concatenate the call arguments as text
            converted = turns(messages, as_text=True, template=self.source)
            return self._render(with_parts(converted, support), tools)

    def _render(self, messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None) -> str:
        from modeldeck.core.runtime.engines import (
            sandbox,  # needs jinja2, which comes with an engine
        )

        if self._compiled is None:
            self._compiled = sandbox.compile_template(self.source)
        values = {"messages": messages, "tools": tools, "add_generation_prompt": True}
        return sandbox.render(self._compiled, {**self._values, **values})
