"""Bodies of `/v1/messages` and `/v1/messages/count_tokens`, and their conversion to ours. Pure.

A field that would change the answer and is not supported is refused; one that only concerns
Anthropic's own service, or is unknown, is ignored: programs send many of them.

Source: https://docs.claude.com/en/api/messages
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec

from modeldeck.core.api.anthropic.conversation import Block, TurnForm, conversation
from modeldeck.core.api.inference import seconds
from modeldeck.core.api.openai.shared_fields import MODES
from modeldeck.core.errors import InvalidRequest
from modeldeck.core.schema import GenerateRequest, Priority, ThinkingEffort, Tool

DEFAULT_TOKENS = 4096
"""Default of `max_tokens`, which Anthropic requires: that of llama-server."""

ToolName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_.-]{1,128}$")]
Effort = Literal["low", "medium", "high", "xhigh", "max"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolEntry:
    """A tool that the client runs; or one of Anthropic's own, which is left out."""

    name: ToolName = "tool"
    type: str | None = None
    """`custom` or none for a tool of the client."""
    description: str | None = None
    input_schema: dict[str, Any] | None = None
    """JSON Schema of its input."""
    strict: bool | None = None
    """True to hold its input to the schema; what cannot be enforced is refused then."""
    input_examples: list[dict[str, Any]] | None = None
    """Examples of its input; they go into the description."""

    @property
    def is_own(self) -> bool:
        """Whether the client runs it."""
        return self.type in (None, "custom")


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolChoiceForm:
    """Which tool the model must call."""

    type: str = "auto"
    """`auto`, `any`, `tool` or `none`."""
    name: str | None = None
    disable_parallel_tool_use: bool | None = None
    """True for at most one call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ThinkingForm:
    """Whether the model thinks before it answers."""

    type: str = "adaptive"
    """`enabled`, `disabled`; any other leaves it to the model."""
    budget_tokens: Annotated[int, msgspec.Meta(ge=0, le=1 << 24)] | None = None
    """Most tokens of thought; it may be more than `max_tokens`."""
    display: str | None = None
    """`omitted` leaves the text of the thought out of the answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputFormat:
    """The format of the answer."""

    type: str = "json_schema"
    schema: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputConfig:
    """Format of the answer, and how much the model thinks about it."""

    effort: Effort | None = None
    format: OutputFormat | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CountTokensBody:
    """A conversation whose tokens are to be counted."""

    model: str
    """An id, a unique name, or an unambiguous short name."""
    messages: Annotated[list[TurnForm], msgspec.Meta(min_length=1)]
    system: str | list[Block] | None = None
    tools: list[ToolEntry] | None = None
    tool_choice: ToolChoiceForm | None = None
    thinking: ThinkingForm | None = None
    output_config: OutputConfig | None = None
    output_format: OutputFormat | None = None
    """Older place of `output_config.format`."""
    keep_alive: float | str | None = None
    """An extension: how long the model stays loaded after the answer, as in Ollama."""
    priority: Priority | int | None = None
    """An extension: `batch` comes after `interactive`; a number above 0 is `batch`."""

    def keep_alive_s(self) -> float | None:
        """How long the model stays loaded, in seconds. Raises InvalidRequest."""
        return seconds(self.keep_alive)


@dataclass(frozen=True, slots=True, kw_only=True)
class MessagesBody(CountTokensBody):
    """A request for the next message of a conversation."""

    max_tokens: Annotated[int, msgspec.Meta(ge=0, le=1 << 24)] = DEFAULT_TOKENS
    """0 only reads the prompt, so that a later request finds it in the cache."""
    stream: bool | None = None
    stop_sequences: list[str] | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, msgspec.Meta(ge=-1, le=1 << 20)] | None = None

    @property
    def one_call(self) -> bool:
        """Whether the answer may have at most one call."""
        return bool(self.tool_choice and self.tool_choice.disable_parallel_tool_use)

    @property
    def hides_thought(self) -> bool:
        """Whether the text of the thought is left out of the answer."""
        return bool(self.thinking and self.thinking.display == "omitted")


def generate_request(body: CountTokensBody) -> GenerateRequest:
    """The request to an engine. Raises InvalidRequest for what is not supported."""
    tools = tuple(_tool(entry) for entry in body.tools or () if entry.is_own)
    thinking, budget = _thinking(body.thinking)
    config = body.output_config or OutputConfig()
    return GenerateRequest(
        messages=conversation(body.system, body.messages),
        tools=tools,
        tool_choice=_choice(body, {tool.name for tool in tools}),
        json_schema=_schema(config.format or body.output_format),
        thinking=thinking,
        thinking_effort=_effort(config),
        thinking_budget=budget,
        **_sampling(body),
    )


def _sampling(body: CountTokensBody) -> dict[str, Any]:
    if not isinstance(body, MessagesBody):
        return {}
    return {
        "max_tokens": body.max_tokens or 1,
        "temperature": body.temperature,
        "top_p": body.top_p,
        "top_k": None if body.top_k is None else max(0, body.top_k),
        "stop": tuple(text for text in body.stop_sequences or () if text),
    }


def _tool(entry: ToolEntry) -> Tool:
    examples = [json.dumps(each, ensure_ascii=False) for each in entry.input_examples or ()]
    lines = [entry.description or "", *(["For example:", *examples] if examples else ())]
    return Tool(
        name=entry.name,
        description="\n".join(line for line in lines if line),
        parameters=entry.input_schema or {},
        strict=bool(entry.strict),
    )


def _choice(body: CountTokensBody, names: set[str]) -> str | None:
    """The tool choice of the request to an engine. Raises InvalidRequest."""
    choice = body.tool_choice
    if choice is None or choice.type in ("auto", "none"):
        return "none" if choice is not None and choice.type == "none" and names else None
    if choice.type == "any":
        if not names:
            raise InvalidRequest(
                "tool_choice asks for a call, but there is no tool that can be called here.",
                "Send tools with an input_schema, or leave tool_choice out.",
            )
        return "required"
    if choice.type != "tool" or choice.name is None:
        raise InvalidRequest(
            f"tool_choice cannot be {choice.type[:40]!r}.",
            "It is auto, any, none, or tool with its name.",
        )
    hosted = {entry.name for entry in body.tools or () if not entry.is_own}
    if choice.name in hosted:
        raise InvalidRequest(
            f"The tool {choice.name[:128]!r} runs on Anthropic's own servers, and not here.",
            "Offer a tool of your own instead.",
        )
    if choice.name not in names or choice.name in MODES:
        raise InvalidRequest(f"tool_choice names no tool: {choice.name[:128]!r}.")
    return choice.name


def _thinking(form: ThinkingForm | None) -> tuple[bool | None, int | None]:
    """Whether the model is to think, and the most tokens of it."""
    if form is None:
        return None, None
    switch = {"enabled": True, "disabled": False}.get(form.type)
    return switch, form.budget_tokens if switch else None


def _effort(config: OutputConfig) -> ThinkingEffort | None:
    return config.effort


def _schema(form: OutputFormat | None) -> dict[str, Any] | None:
    if form is None or form.type == "text":
        return None
    if form.type != "json_schema" or form.schema is None:
        raise InvalidRequest(
            f"An output format of type {form.type[:40]!r} is not supported.",
            "Send json_schema with its schema.",
        )
    return form.schema
