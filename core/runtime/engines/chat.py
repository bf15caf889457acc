"""Conversations as a model's own chat template writes them: Jinja, in a sandbox."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from core.errors import InvalidRequest
from core.runtime.engines.harmony import apart, is_harmony
from core.schema import GenerateRequest, Message, Tool

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Used for a model that brings no chat template, as llama.cpp's own server does."""
CHATML_STOP = "<|im_end|>"


def knows_tools(template: str) -> bool:
    """Whether a template has a place for tools.

    >>> knows_tools("{% for tool in tools %}{{ tool | tojson }}{% endfor %}")
    True
    >>> knows_tools("{% for m in messages %}{{ m.content }}{% endfor %}")
    False
    """
    return any(
        re.search(r"\btools\b", block) for block in re.findall(r"\{[%{].*?[%}]\}", template, re.S)
    )


def wants_tools(request: GenerateRequest) -> bool:
    """Whether the model is to be told of tools."""
    return bool(request.tools) and request.tool_choice != "none"


def check_tools(request: GenerateRequest, template: str) -> None:
    """Raise InvalidRequest for tools that the model or the request has no place for."""
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
    """Messages in the form that templates expect; `as_text` leaves arguments of calls as text."""
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
        found.append(apart(turn) if is_harmony(template) else turn)
    return found


def _arguments(text: str) -> Any:
    """Arguments as most templates want them: an object that they print themselves."""
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return text
    return found if isinstance(found, dict) else text


def refused(error: Exception) -> InvalidRequest:
    """The error for a template that fails: it is a program, and may do so in any way."""
    return InvalidRequest(
        f"The model's chat template refuses this conversation: {error}",
        "Change the roles or their order, or send a plain prompt.",
    )


class ChatTemplate:
    """A template, compiled once."""

    def __init__(self, source: str, *, begin: str, end: str) -> None:
        """Take a template and the texts of the tokens that begin and end a text."""
        self.source = source
        self._begin = begin
        self._end = end
        self._compiled: Any = None

    def render(self, request: GenerateRequest) -> str:
        """The conversation as text. Raises InvalidRequest when the template does not take it."""
        tools = tool_records(request.tools) if wants_tools(request) else None
        try:
            if self._compiled is None:
                self._compiled = _compile(self.source)
            try:
                return self._render(turns(request.messages, template=self.source), tools)
            except TypeError:  # some put the arguments of calls together as text
                told = turns(request.messages, as_text=True, template=self.source)
                return self._render(told, tools)
        except Exception as error:
            raise refused(error) from error

    def _render(self, messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None) -> str:
        return str(
            self._compiled.render(
                messages=messages,
                tools=tools,
                add_generation_prompt=True,
                bos_token=self._begin,
                eos_token=self._end,
            )
        )


def _compile(source: str) -> Any:
    """A template with what transformers gives to one (utils/chat_template_utils.py)."""
    jinja2 = importlib.import_module("jinja2")
    sandbox = importlib.import_module("jinja2.sandbox")
    extensions = importlib.import_module("jinja2.ext")
    generation = type(
        "Generation", (extensions.Extension,), {"tags": {"generation"}, "parse": _pass_generation}
    )

    def raise_exception(message: str) -> None:
        raise jinja2.exceptions.TemplateError(message)

    environment = sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[generation, extensions.loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment.from_string(source)


def _pass_generation(_extension: Any, parser: Any) -> Any:
    """What `{% generation %}` holds, which marks what a model is trained on."""
    parser.stream.skip(1)
    return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as transformers writes it; Jinja's own escapes it for web pages."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )
