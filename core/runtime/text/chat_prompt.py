"""Renders conversations by a model's own chat template: Jinja, in a sandbox.

A conversation that ends with a message of the assistant is one to go on from: the prompt ends in
the middle of that message.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import msgspec

from modeldeck.core.errors import InvalidRequest
from modeldeck.core.runtime.engines.base import say
from modeldeck.core.runtime.text.harmony import SIGNS as HARMONY_SIGNS
from modeldeck.core.runtime.text.harmony import HarmonyStream, is_harmony
from modeldeck.core.runtime.text.template_probe import (
    TemplateSupport,
    ThoughtKey,
    Turn,
    probe,
    variants,
    with_parts,
    with_thought,
)
from modeldeck.core.runtime.text.thinking_switches import can_switch_off, variables, wanted
from modeldeck.core.runtime.text.thoughts import (
    THINK,
    Splitter,
    ThoughtFormat,
    ThoughtStream,
    formats_of,
    opened_by,
    signs_of,
    split_past,
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


def thinks(template: str) -> bool:
    """Whether the model of a template thinks before it answers, or can.

    >>> thinks("{{ '<think>' }}"), thinks(CHATML)
    (True, False)
    """
    return is_harmony(template) or bool(formats_of(template))


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatPrompt:
    """A rendered conversation, and how the answer to it is to be read."""

    text: str
    harmony: bool = False
    """Whether the model writes harmony."""
    formats: tuple[ThoughtFormat, ...] = (THINK,)
    """The formats in which the model may write a thought."""
    inside: ThoughtFormat | None = None
    """The format of the thought that the prompt has opened."""
    begun: bool = False
    """Whether the prompt holds the beginning of the answer itself."""
    may_think: bool = False
    """Whether a thought is to be expected, so that a grammar waits for its end."""

    def splitter(self) -> Splitter:
        """A filter that splits the answer into thought and text."""
        if self.harmony:
            return HarmonyStream(begun=self.begun)
        return ThoughtStream(self.formats, self.inside, begun=self.begun)

    @property
    def signs(self) -> frozenset[str]:
        """Special tokens that mark parts of the answer: they have no text otherwise."""
        return frozenset(HARMONY_SIGNS) if self.harmony else signs_of(self.formats)


def turns(
    messages: Sequence[Message],
    *,
    as_text: bool = False,
    key: ThoughtKey | None = None,
    template: str = "",
) -> list[Turn]:
    """Messages in the form that templates expect.

    Args:
        messages: The conversation. A thought that stands in the text of an earlier answer is taken
            out of it.
        as_text: Leave the arguments of calls as JSON text.
        key: Where the template takes thoughts; None leaves them out.
        template: The template.
    """
    names = {call.id: call.name for message in messages for call in message.tool_calls}
    # Programs write `<think>` into the text whatever the model's own markers are.
    formats = (*formats_of(template), THINK)
    found: list[Turn] = []
    for message in messages:
        turn: Turn = {"role": message.role, "content": message.content}
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
        if message.role == "assistant":
            turn = _thought_apart(turn, message.thought, key, formats)
        found.append(turn)
    return found


def _thought_apart(
    turn: Turn, thought: str, key: ThoughtKey | None, formats: Sequence[ThoughtFormat]
) -> Turn:
    """A message of the assistant with its thought under the template's own key."""
    inline, text = split_past(turn["content"], formats)
    turn, thought = {**turn, "content": text}, thought or inline
    # Templates of gpt-oss refuse a message with a call that has both text and thought.
    if not thought or key is None or (key == "thinking" and text and "tool_calls" in turn):
        return turn
    return with_thought(turn, thought, key)


def _arguments(text: str) -> Any:
    """Arguments as most templates expect them: an object, not JSON text.

    >>> _arguments('{"a": 1}'), _arguments("["), _arguments("[" * 100_000) == "[" * 100_000
    ({'a': 1}, '[', True)
    """
    try:
        found = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return text
    return found if isinstance(found, dict) else text


def refused(error: Exception) -> InvalidRequest:
    """The error for a template that raised an exception.

    >>> refused(ValueError("Roles must alternate")).message
    "The model's chat template refuses this conversation: Roles must alternate."
    """
    reason = str(error).strip()
    return InvalidRequest(
        f"The model's chat template refuses this conversation: {reason}"
        f"{'' if reason.endswith(('.', '!', '?')) else '.'}",
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
        self._told = False

    def render(self, request: GenerateRequest) -> str:
        """The text of `prompt`."""
        return self.prompt(request).text

    def prompt(self, request: GenerateRequest) -> ChatPrompt:
        """Render a conversation. Raises InvalidRequest when the template refuses it.

        A template may run for ever: call this within bounds.
        """
        try:
            return self._prompt(request)
        except MemoryError:
            raise  # the bounds report it
        except Exception as error:
            raise refused(error) from error

    def _prompt(self, request: GenerateRequest) -> ChatPrompt:
        harmony, named = is_harmony(self.source), formats_of(self.source)
        formats = named or (THINK,)
        messages, last = request.messages, request.messages[-1]
        goes_on = last.role == "assistant" and not last.tool_calls and len(messages) > 1
        if goes_on and not last.content and (harmony or not last.thought):
            messages, goes_on = messages[:-1], False
        begun, inside = goes_on and bool(last.content), None
        if begun:
            text = self._up_to(request, last)
        elif goes_on:
            text = self._first_of(request, messages[:-1])
            inside = opened_by(text, formats)
            if inside is None:
                inside = formats[0]
                text += inside.opens + "\n"
            text += last.thought
        else:
            text = self._first_of(request, messages)
            inside = None if harmony else opened_by(text, formats)
        thoughtful = bool(named or harmony)
        if wanted(request) is False and (inside or thoughtful) and not begun:
            self._tell_if_deaf()
        return ChatPrompt(
            text=text,
            harmony=harmony,
            formats=formats,
            inside=inside,
            begun=begun,
            may_think=inside is not None
            or (thoughtful and wanted(request) is not False and not begun),
        )

    def _tell_if_deaf(self) -> None:
        """Say once in the log that a model cannot be told not to think."""
        if not self._told and not can_switch_off(self.source):
            self._told = True
            say("warning", "this model cannot be told not to think: it thinks all the same")

    def _up_to(self, request: GenerateRequest, last: Message) -> str:
        """The prompt up to the end of the last message, which the assistant has begun."""
        marked = [*request.messages[:-1], replace(last, content=last.content + _HERE)]
        try:
            text, mark, _ = self._first_of(request, marked, asks=False).rpartition(_HERE)
        except MemoryError:
            raise
        except Exception:  # the other way may work
            mark = ""
        if mark:
            return text
        return self._first_of(request, request.messages[:-1]) + last.content

    def _first_of(
        self, request: GenerateRequest, messages: Sequence[Message], *, asks: bool = True
    ) -> str:
        """Render the first form of a conversation that the template takes.

        `asks` is whether the prompt asks for a new message of the assistant.
        """
        tools = tool_records(request.tools) if wants_tools(request) else None
        support = self._probe()
        first: Exception | None = None
        for form in variants(messages, support):
            for values in variables(request, self.source):
                more = {**values, "tools": tools, "add_generation_prompt": asks}
                try:
                    return self._write(form, support, more)
                except MemoryError:
                    raise
                except Exception as error:  # another form may work
                    first = first or error
        assert first is not None
        raise first

    def _probe(self) -> TemplateSupport:
        """What the template supports; probed once and cached."""
        if self._support is None:
            self._support = probe(self.source, lambda turns: self._render(turns, _ASKING))
            if not self._support.shows_user:
                say("warning", "the chat template does not write what the user says")
        return self._support

    def _write(
        self, messages: Sequence[Message], support: TemplateSupport, values: dict[str, Any]
    ) -> str:
        def converted(*, as_text: bool) -> list[Turn]:
            found = turns(messages, as_text=as_text, key=support.thought, template=self.source)
            return with_parts(found, support)

        try:
            return self._render(converted(as_text=False), values)
        except TypeError:  # some concatenate the call arguments as text
            return self._render(converted(as_text=True), values)

    def _render(self, messages: list[Turn], values: Mapping[str, Any]) -> str:
        # Needs jinja2, which comes with an engine.
        from modeldeck.core.runtime.engines import sandbox

        if self._compiled is None:
            self._compiled = sandbox.compile_template(self.source)
        return sandbox.render(self._compiled, {**self._values, **values, "messages": messages})


_ASKING: Mapping[str, Any] = {"tools": None, "add_generation_prompt": True}
_HERE = "qzxjvhere"
"""Marks the end of a message that is to go on: in no template and no conversation."""
