"""Requests for text, and the answers piece by piece."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A function that the model may ask to be called."""

    name: str
    description: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)
    """JSON Schema of its arguments."""
    strict: bool = False
    """Whether the arguments are held to the schema also where the model calls the tool by itself,
    and a keyword that cannot be enforced is refused. Forced calls of other tools are held as far as
    that is possible."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A call that the model asks for."""

    id: str
    name: str
    arguments: str
    """A JSON object as text, as the model wrote it; part of one where the answer was cut off."""

    @property
    def complete(self) -> bool:
        """Whether the arguments are a whole JSON object."""
        try:
            return isinstance(json.loads(self.arguments or "{}"), dict)
        except (ValueError, RecursionError):
            return False


MediaKind = Literal["image", "audio"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Media:
    """An image or a recording in a message, as the client sent it."""

    kind: MediaKind
    data: bytes
    """The file: PNG, JPEG, WebP, GIF or BMP; WAV, MP3 or FLAC. Nothing in it is decoded yet."""
    at: int
    """Where in the text of the message it stands, in characters; 0 is before all of it."""
    place: str = ""
    """Where in the request it was, for errors: `messages[0].content[1]`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message of a conversation."""

    role: Literal["system", "user", "assistant", "tool", "developer"]
    content: str = ""
    media: tuple[Media, ...] = ()
    """Images and recordings in it, in the order of `at`."""
    thought: str = ""
    """What the assistant thought before it answered, in a message of the past. It goes to the model
    only where the chat template takes it."""
    tool_calls: tuple[ToolCall, ...] = ()
    """What the assistant asked for, in a message of the past."""
    tool_call_id: str | None = None
    """Which call a message of role `tool` answers."""


ThinkingEffort = Literal["minimal", "low", "medium", "high", "xhigh", "max"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateRequest:
    """A request for text. None means the engine's own default."""

    messages: tuple[Message, ...] = ()
    prompt: str | None = None
    """Plain text to continue; used when `messages` is empty."""
    suffix: str | None = None
    """Text that comes after the answer to `prompt`: the model fills the gap between the two."""
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repeat_penalty: float | None = None
    repeat_last_n: int | None = None
    """Tokens that the penalties look back at; -1 for the whole context, 0 for none."""
    typical_p: float | None = None
    top_n_sigma: float | None = None
    mirostat: int | None = None
    """1 or 2: control of the surprise in place of the other samplers, after temperature."""
    mirostat_tau: float | None = None
    mirostat_eta: float | None = None
    dry_multiplier: float | None = None
    """DRY penalizes repeated sequences of tokens; 0 is off. The five fields have llama.cpp's
    names."""
    dry_base: float | None = None
    dry_allowed_length: int | None = None
    dry_penalty_last_n: int | None = None
    dry_sequence_breakers: tuple[str, ...] = ()
    xtc_probability: float | None = None
    """XTC leaves out the likeliest tokens, now and then; 0 is off."""
    xtc_threshold: float | None = None
    logit_bias: dict[int, float] = field(default_factory=dict)
    """What is added to the logits of tokens, by token."""
    seed: int | None = None
    stop: tuple[str, ...] = ()
    json_schema: dict[str, Any] | None = None
    """The answer must be JSON of this schema; `{}` admits any JSON object."""
    strict_schema: bool = True
    """Whether a keyword of `json_schema` that cannot be enforced is refused, or else left out."""
    grammar: str | None = None
    """The answer must follow this grammar, in llama.cpp's GBNF; not together with `json_schema`."""
    regex: str | None = None
    """The whole answer must match this regular expression; instead of the two others."""
    tools: tuple[Tool, ...] = ()
    tool_choice: str | None = None
    """`auto`, `none`, `required`, or the name of the tool that must be called; None is `auto`."""
    thinking: bool | None = None
    """Whether a model that can think before it answers does; None is the model's own default."""
    thinking_effort: ThinkingEffort | None = None
    """How much it thinks, for models whose chat template takes a level."""
    thinking_budget: int | None = None
    """Most tokens of thought; then the thought is ended and the answer begins."""
    template_options: dict[str, Any] = field(default_factory=dict)
    """Further variables of the chat template (`chat_template_kwargs` of vLLM and llama-server)."""
    cache: bool = True
    """Whether what is computed for it may stay in caches after its end."""
    logprobs: int | None = None
    """Number of alternatives with each token's log-probability; None for no log-probabilities."""


FinishReason = Literal["stop", "length", "cancelled", "tool_calls"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLogprob:
    """A token of the answer, and how likely the model held it and others to be."""

    token: str
    """Its text; a part of a character as OpenAI's API has it, such as `bytes:\\xf0\\x9f`."""
    logprob: float
    """Natural logarithm of its probability."""
    top: tuple[tuple[str, float], ...] = ()
    """The likeliest tokens at this place with theirs, the likeliest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A piece of an answer. The last one has a finish reason and the counts."""

    text: str = ""
    thought: str = ""
    """A piece of what the model thinks before it answers; never together with `text`."""
    logprobs: tuple[TokenLogprob, ...] = ()
    """Of the tokens that `text` is made of, where they were asked for."""
    tool_calls: tuple[ToolCall, ...] = ()
    """With the last piece: the calls that the answer consists of."""
    finish_reason: FinishReason | None = None
    prompt_tokens: int | None = None
    stop_text: str | None = None
    """With the last piece: the stop string that ended the answer."""
    looped: bool = False
    """With the last piece: whether it was cut as it repeated itself without end (`length`)."""
    completion_tokens: int | None = None
    """Tokens of thought and answer."""
    cached_tokens: int | None = None
    """Tokens of the prompt that were found in a cache, and not read again."""
    thought_tokens: int | None = None
    """Of `completion_tokens`, those of the thought."""
    tokens_per_s: float | None = None
    time_to_first_token_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TextScore:
    """How well a text answers a query."""

    score: float
    """As the model has it, of any size."""
    probability: float
    """The same from 0 to 1, in the same order."""
    tokens: int
    """Of query and text together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenQuery:
    """A question for the tokens of a text, or the text of tokens; one of the first three is set."""

    request: GenerateRequest | None = None
    """A request for text: the tokens of its prompt, as the model would read it."""
    text: str | None = None
    tokens: tuple[int, ...] | None = None
    begin: bool = False
    """Whether the tokens are added that the model expects at the beginning of a text."""
    names: bool = True
    """Whether the names of special tokens in the text become those tokens."""
    count_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizedText:
    """A text and its tokens."""

    count: int
    """How many tokens it has."""
    text: str = ""
    """Of a request, the conversation as its chat template writes it."""
    tokens: tuple[int, ...] = ()
    pieces: tuple[bytes, ...] = ()
    """The bytes of each token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextVector:
    """The embedding of a text."""

    values: tuple[float, ...]
    """A vector of length 1."""
    tokens: int
    """How many the text has."""
