"""Bodies of `/v1/chat/completions`, and their conversion to our records. Pure.

Source: https://platform.openai.com/docs/api-reference/chat
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import msgspec

from modeldeck.core.api.openai.chat_messages import ChatMessage, conversation
from modeldeck.core.api.openai.shared_fields import (
    Alternatives,
    FunctionForm,
    Sampling,
    Tokens,
    ToolForm,
    choice_mode,
    limit_of,
    tools_of,
)
from modeldeck.core.api.openai.structure_schema import STRUCTURES, ResponseFormat, one_structure
from modeldeck.core.api.thinking_fields import switch_in, thinking_fields
from modeldeck.core.errors import InvalidRequest
from modeldeck.core.schema import Chunk, GenerateRequest, TokenLogprob, ToolCall

T = TypeVar("T")


# Requests


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedFunction:
    """The name of a function."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenTool:
    """A tool that the model must call."""

    type: str
    """Only `function` is supported."""
    function: NamedFunction | None = None
    name: str | None = None
    """The name as Responses has it, without `function` around it."""

    @property
    def chosen(self) -> str | None:
        """The name of the tool."""
        return self.name if self.function is None else self.function.name


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasoningForm:
    """How much it thinks, in the form of OpenRouter, which Ollama reads too."""

    effort: str | None = None
    max_tokens: int | None = None
    enabled: bool | None = None
    exclude: bool | None = None
    """True to leave the thought out of the answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ThinkingChoice:
    """Whether it thinks, in Anthropic's form."""

    type: str | None = None
    """`enabled`, `disabled`, or `adaptive` for the model's own default."""
    budget_tokens: int | None = None

    @property
    def switch(self) -> bool | None:
        """Whether it thinks; None where nothing is said."""
        return {"enabled": True, "disabled": False}.get(self.type or "")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatBody(Sampling):
    """A request for the next message of a conversation."""

    messages: Annotated[list[ChatMessage], msgspec.Meta(min_length=1)]
    max_completion_tokens: Tokens | None = None
    """Newer name of `max_tokens`; takes precedence over it."""
    logprobs: bool | None = None
    top_logprobs: Alternatives | None = None
    response_format: ResponseFormat | None = None
    tools: list[ToolForm] | None = None
    tool_choice: str | ChosenTool | None = None
    """`auto`, `none`, `required`, or the function to call."""
    parallel_tool_calls: bool | None = None
    """False for at most one call."""
    functions: list[FunctionForm] | None = None
    """The older form of `tools`, as is `function_call` of `tool_choice`."""
    function_call: str | NamedFunction | None = None
    reasoning_effort: str | None = None
    """How much it thinks: `none`, `minimal`, `low`, `medium`, `high`, `xhigh` or `max`. The other
    spellings are those of OpenRouter, Ollama, Anthropic, llama-server and vLLM."""
    reasoning: ReasoningForm | None = None
    think: bool | str | None = None
    thinking: bool | ThinkingChoice | None = None
    enable_thinking: bool | None = None
    include_reasoning: bool | None = None
    """False to leave the thought out of the answer."""
    reasoning_format: str | None = None
    """`none` to leave the thought in the text, between `<think>` and `</think>`."""
    thinking_budget: int | None = None
    """Most tokens of thought; the four names mean the same. Below 0 for no limit."""
    thinking_budget_tokens: int | None = None
    reasoning_budget_tokens: int | None = None
    thinking_token_budget: int | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    """Variables of the model's chat template."""

    def thinking_asked(self) -> dict[str, Any]:
        """Fields of a `GenerateRequest`. Raises InvalidRequest for an unknown level."""
        form = self.reasoning or ReasoningForm()
        other = self.thinking if isinstance(self.thinking, ThinkingChoice) else ThinkingChoice()
        level = self.think if isinstance(self.think, str) else None
        return thinking_fields(
            switch=_first(
                self.think if isinstance(self.think, bool) else None,
                self.thinking if isinstance(self.thinking, bool) else other.switch,
                self.enable_thinking,
                switch_in(self.chat_template_kwargs),
                form.enabled,
            ),
            effort=_first(self.reasoning_effort, form.effort, level),
            budget=_first(
                self.thinking_budget,
                self.thinking_budget_tokens,
                self.reasoning_budget_tokens,
                self.thinking_token_budget,
                form.max_tokens,
                other.budget_tokens,
            ),
        )

    @property
    def thoughts_inline(self) -> bool:
        """Whether the thought is left in the text."""
        return self.reasoning_format == "none"

    @property
    def shows_thoughts(self) -> bool:
        """Whether the answer has its thought."""
        excluded = self.reasoning is not None and self.reasoning.exclude
        return self.include_reasoning is not False and not excluded


def _first(*values: T | None) -> T | None:
    return next((value for value in values if value is not None), None)


def generate_request(body: ChatBody) -> GenerateRequest:
    """The request to an engine. Raises InvalidRequest for impossible fields."""
    sampling = body.sampling()
    limit = body.max_completion_tokens
    if limit is not None:
        sampling["max_tokens"] = limit_of(limit, "max_completion_tokens")
    followed = one_structure(
        {name: sampling.pop(name) for name in STRUCTURES if name in sampling},
        body.response_format.fields() if body.response_format is not None else {},
    )
    functions = [ToolForm(function=function) for function in body.functions or ()]
    tools = tools_of([*(body.tools or ()), *functions])
    choice = body.tool_choice
    if choice is None and body.function_call is not None:
        named = body.function_call
        choice = (
            ChosenTool(type="function", function=named)
            if isinstance(named, NamedFunction)
            else named
        )
    return GenerateRequest(
        messages=conversation(body.messages),
        strict_schema=body.response_format is None or body.response_format.is_strict,
        tools=tools,
        tool_choice=choice_of(choice, {tool.name for tool in tools}),
        logprobs=_logprobs(body),
        template_options=body.chat_template_kwargs or {},
        **body.thinking_asked(),
        **followed,
        **sampling,
    )


def _logprobs(body: ChatBody) -> int | None:
    if body.top_logprobs and not body.logprobs:
        raise InvalidRequest("top_logprobs needs logprobs.", "Set logprobs to true.")
    return (body.top_logprobs or 0) if body.logprobs else None


def choice_of(choice: str | ChosenTool | None, names: set[str]) -> str | None:
    """The tool choice of the request to an engine. Raises InvalidRequest."""
    if choice is None:
        return None
    if isinstance(choice, str):
        return choice_mode(choice, has_tools=bool(names))
    name = choice.chosen
    if choice.type != "function" or name is None:
        raise InvalidRequest(f"tool_choice of type {choice.type[:40]!r} is not supported.")
    if name not in names:
        raise InvalidRequest(f"tool_choice names no tool: {name[:64]!r}.")
    return name


def calls_of(body: ChatBody, last: Chunk) -> tuple[ToolCall, ...]:
    """The tool calls of an answer; at most one without `parallel_tool_calls`."""
    return last.tool_calls[:1] if body.parallel_tool_calls is False else last.tool_calls


# Responses


_PART = re.compile(r"bytes:((?:\\x[0-9a-f]{2})+)")
"""A token that is part of a character, as `TokenLogprob` has it."""


def bytes_in(token: str) -> list[int]:
    r"""The bytes of a token.

    >>> bytes_in("\u00e9"), bytes_in("bytes:\\xf0\\x9f")
    ([195, 169], [240, 159])
    """
    part = _PART.fullmatch(token)
    return list(bytes.fromhex(part[1].replace("\\x", "")) if part else token.encode())


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """A likely token at a position."""

    token: str
    logprob: float
    bytes: list[int]
    """The token in UTF-8; of part of a character, those bytes of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenForm(Alternative):
    """A token of the answer, with its alternatives."""

    top_logprobs: list[Alternative]

    @classmethod
    def of(cls, token: TokenLogprob) -> TokenForm:
        """Convert our record."""
        return cls(
            token=token.token,
            logprob=token.logprob,
            bytes=bytes_in(token.token),
            top_logprobs=[
                Alternative(token=text, logprob=logprob, bytes=bytes_in(text))
                for text, logprob in token.top
            ],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatLogprobs:
    """Log probabilities of the tokens of an answer."""

    content: list[TokenForm]
    refusal: None = None

    @classmethod
    def of(cls, tokens: tuple[TokenLogprob, ...]) -> ChatLogprobs | None:
        """Convert our records; None for none."""
        return cls(content=[TokenForm.of(token) for token in tokens]) if tokens else None
