"""Bodies of requests for an answer, and what becomes of each field. Pure.

Source: https://platform.openai.com/docs/api-reference/responses/create
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec

from modeldeck.core.api.openai.shared_fields import Alternatives, Sampling, refuse
from modeldeck.core.api.thinking_fields import switch_in, thinking_fields
from modeldeck.core.errors import InvalidRequest

ENCRYPTED = "reasoning.encrypted_content"
"""Member of `include`: the thought once more, for a client that keeps its history itself."""
LOGPROBS = "message.output_text.logprobs"
"""Member of `include`: the log probabilities of the tokens."""

FieldUse = Literal["honoured", "refused", "harmless"]
"""What becomes of a field: it does what it says; it is a 400; or it changes no answer here."""

FIELDS: Mapping[str, FieldUse] = {
    "access_programs": "harmless",
    "background": "honoured",
    "background_options": "harmless",
    "context_management": "harmless",
    "conversation": "honoured",
    "image": "harmless",
    "include": "honoured",
    "input": "honoured",
    "instructions": "honoured",
    "max_output_tokens": "honoured",
    "max_tool_calls": "harmless",
    "metadata": "honoured",
    "model": "honoured",
    "moderation": "harmless",
    "parallel_tool_calls": "honoured",
    "previous_response_id": "honoured",
    "prompt": "refused",
    "prompt_cache_key": "harmless",
    "prompt_cache_options": "harmless",
    "prompt_cache_retention": "harmless",
    "reasoning": "honoured",
    "safety_identifier": "harmless",
    "service_tier": "harmless",
    "store": "honoured",
    "stream": "honoured",
    "stream_options": "harmless",
    "temperature": "honoured",
    "text": "honoured",
    "tool_choice": "honoured",
    "tools": "honoured",
    "top_logprobs": "honoured",
    "top_p": "honoured",
    "truncation": "honoured",
    "user": "harmless",
}
"""Every field that OpenAI's client sends. `max_tool_calls` counts calls of hosted tools only."""

MostTokens = Annotated[int, msgspec.Meta(ge=1, le=1 << 24)]
Metadata = Annotated[dict[str, str], msgspec.Meta(max_length=16)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasoningOptions:
    """Whether and how much the model thinks."""

    effort: str | None = None
    """`none` for not at all, else `minimal`, `low`, `medium`, `high`, `xhigh` or `max`."""
    summary: str | None = None
    """Echoed: the thought is always sent as it is, since nothing sums it up."""
    generate_summary: str | None = None
    """Older name of `summary`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextFormat:
    """The format of the answer."""

    type: str = "text"
    """`text`, `json_object` or `json_schema`."""
    name: str | None = None
    schema: dict[str, Any] | None = None
    strict: bool | None = None
    """False to follow the schema as far as it can be enforced; else the rest is refused."""
    description: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TextOptions:
    """Options of the answer's text."""

    format: TextFormat | None = None
    verbosity: str | None = None
    """Echoed; no model here knows it."""

    @property
    def is_strict(self) -> bool:
        """Whether a schema with a keyword that cannot be enforced is refused."""
        return self.format is None or self.format.strict is not False

    def structure(self) -> dict[str, Any]:
        """What the answer must follow, as fields of a `GenerateRequest`. Raises InvalidRequest."""
        form = self.format
        if form is None or form.type == "text":
            return {}
        if form.type == "json_object":
            return {"json_schema": {}}
        if form.type != "json_schema":
            raise InvalidRequest(
                f"text.format of type {form.type[:40]!r} is not supported.",
                "It is text, json_object or json_schema.",
            )
        if form.schema is None:
            raise InvalidRequest("text.format has no schema.", "Send the schema.")
        return {"json_schema": form.schema}


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversationName:
    """A conversation, named as an object."""

    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversationBody(Sampling):
    """What is asked, without how it is answered: what the tokens of the input depend on."""

    input: str | list[dict[str, Any]] | None = None
    """A text, or items: messages, calls and their outputs, thoughts. An empty text only loads the
    model."""
    instructions: str | None = None
    """A system message in front; not taken over through `previous_response_id`."""
    previous_response_id: str | None = None
    """The answer that this request goes on from."""
    tools: list[dict[str, Any]] | None = None
    """Functions, custom tools, and namespaces of them. Hosted tools are left out."""
    tool_choice: str | dict[str, Any] | None = None
    text: TextOptions | None = None
    reasoning: ReasoningOptions | None = None
    enable_thinking: bool | None = None
    """Whether the model thinks, in the spelling of llama-server and vLLM; as the next two."""
    thinking_budget: int | None = None
    """Most tokens of thought; below 0 for no limit."""
    chat_template_kwargs: dict[str, Any] | None = None
    """Variables of the model's chat template."""
    truncation: Literal["auto", "disabled"] | None = None
    """`auto` leaves out the oldest messages of a conversation that is too long."""
    conversation: str | ConversationName | None = None
    """The conversation that this request goes on from; it and its answer are added to it."""
    prompt: Any = None
    """Refused: there are no stored prompts."""

    def thinking_asked(self) -> dict[str, Any]:
        """Fields of a `GenerateRequest`. Raises InvalidRequest for an unknown level."""
        said = switch_in(self.chat_template_kwargs)
        switch = self.enable_thinking
        return thinking_fields(
            switch=said if switch is None else switch,
            effort=self.reasoning.effort if self.reasoning is not None else None,
            budget=self.thinking_budget,
        )

    def check(self) -> None:
        """Raise InvalidRequest for what is not supported."""
        refuse(
            {
                "n other than 1": self.n not in (None, 1),
                "prompt, a stored template,": self.prompt is not None,
            }
        )
        if self.conversation is not None and self.previous_response_id is not None:
            raise InvalidRequest(
                "conversation and previous_response_id exclude each other.", "Send one of them."
            )

    def conversation_id(self) -> str | None:
        """Id of the conversation that this request goes on from; None for none."""
        named = self.conversation
        return named.id if isinstance(named, ConversationName) else named


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerBody(ConversationBody):
    """A request for an answer."""

    max_output_tokens: MostTokens | None = None
    """Most tokens of thought and answer together."""
    top_logprobs: Alternatives | None = None
    include: list[str] | None = None
    """`reasoning.encrypted_content` and `message.output_text.logprobs`; others have no effect."""
    parallel_tool_calls: bool | None = None
    """False for at most one call."""
    store: bool | None = None
    """Whether the answer is kept, so that it can be named later; it is unless this is false."""
    metadata: Metadata | None = None
    """Handed back."""
    background: bool | None = None
    """True to be given an answer that is `queued` at once, and made while the client may leave."""
    prompt_cache_key: str | None = None
    safety_identifier: str | None = None
    user: str | None = None
    max_tool_calls: int | None = None

    @property
    def is_stored(self) -> bool:
        """Whether the answer is kept."""
        return self.store is not False

    @property
    def loads_only(self) -> bool:
        """Whether there is nothing to answer: such a request loads its model."""
        goes_on = self.previous_response_id is not None or self.conversation is not None
        return self.input == "" and not goes_on

    def logprobs(self) -> int | None:
        """Alternatives of each token that are wanted; None for no log probabilities."""
        wanted = LOGPROBS in (self.include or ()) or bool(self.top_logprobs)
        return (self.top_logprobs or 0) if wanted else None

    def check(self) -> None:
        """Raise InvalidRequest for what is not supported."""
        ConversationBody.check(self)
        if self.background and not self.is_stored:
            raise InvalidRequest(
                "An answer is made in the background only where it is kept.", "Leave store out."
            )
