"""Fields shared by the OpenAI API's text requests, and their conversion to ours. Pure.

Field names and meanings are OpenAI's: https://platform.openai.com/docs/api-reference, and those of
llama-server and vLLM for what OpenAI has not. `modeldeck.core.api.openai.field_table` tells what
becomes of every field.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from modeldeck.core.api.inference import seconds
from modeldeck.core.api.openai.structure_schema import (
    StructuredOutputs,
    one_structure,
    schema_in,
    structure,
)
from modeldeck.core.errors import InvalidRequest
from modeldeck.core.schema import Chunk, GenerateRequest, Priority, Tool

Probability = Annotated[float, msgspec.Meta(ge=0, le=1)]
Penalty = Annotated[float, msgspec.Meta(ge=-2, le=2)]
Tokens = Annotated[int, msgspec.Meta(ge=-1, le=1 << 24)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Positive = Annotated[float, msgspec.Meta(ge=0, le=100)]
LookBack = Annotated[int, msgspec.Meta(ge=-1, le=1 << 20)]
Alternatives = Annotated[int, msgspec.Meta(ge=0, le=20)]
FunctionName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_.-]{1,128}$")]
Ended = Literal["stop", "length", "tool_calls", "function_call"]

DONE = b"data: [DONE]\n\n"
"""The last event of a stream."""

MOST_STOPS = 16
"""Stop strings in one request; OpenAI takes 4."""
MOST_ANSWERS = 16
"""Answers to one request (`n`); as many are made at once as the model has slots."""
NEVER = -1e9
"""The bias of a token that must not come."""

MODES = ("auto", "none", "required")
"""Values of `tool_choice` besides tool names; no tool may have such a name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOptions:
    """Options of a streamed answer."""

    include_usage: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """Fields of every text request."""

    model: str
    """An id, a unique name, or an unambiguous short name."""
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Tokens | None = None
    """-1 for no limit but the context."""
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    top_p: Probability | None = None
    top_k: Annotated[int, msgspec.Meta(ge=-1, le=1 << 20)] | None = None
    """0 or -1 for all tokens. An extension, as all that follows but presence_penalty,
    frequency_penalty, `seed`, `stop`, `n` and `logit_bias`."""
    min_p: Probability | None = None
    typical_p: Share | None = None
    top_n_sigma: Annotated[float, msgspec.Meta(ge=-1, le=100)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    repeat_penalty: Annotated[float, msgspec.Meta(ge=0.01, le=10)] | None = None
    repetition_penalty: Annotated[float, msgspec.Meta(ge=0.01, le=10)] | None = None
    """vLLM's name of `repeat_penalty`."""
    repeat_last_n: LookBack | None = None
    mirostat: Annotated[int, msgspec.Meta(ge=0, le=2)] | None = None
    mirostat_tau: Positive | None = None
    mirostat_eta: Share | None = None
    dry_multiplier: Positive | None = None
    dry_base: Annotated[float, msgspec.Meta(ge=1, le=100)] | None = None
    dry_allowed_length: Annotated[int, msgspec.Meta(ge=0, le=1 << 20)] | None = None
    dry_penalty_last_n: LookBack | None = None
    dry_sequence_breakers: list[str] | None = None
    xtc_probability: Share | None = None
    xtc_threshold: Share | None = None
    seed: Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)] | None = None
    stop: str | list[str] | None = None
    n: Annotated[int, msgspec.Meta(ge=1, le=MOST_ANSWERS)] | None = None
    logit_bias: dict[str, float] | list[tuple[int, float | bool]] | None = None
    """Biases by token number; llama-server's pairs as well, in which false forbids a token."""
    grammar: Annotated[str, msgspec.Meta(max_length=1 << 16)] | None = None
    """Grammar of the answer, in llama.cpp's GBNF."""
    json_schema: dict[str, Any] | None = None
    """JSON Schema of the answer, as llama-server has it."""
    guided_json: str | dict[str, Any] | None = None
    """vLLM's older names of the parts of `structured_outputs`."""
    guided_regex: str | None = None
    guided_choice: list[str] | None = None
    guided_grammar: str | None = None
    structured_outputs: StructuredOutputs | None = None
    cache_prompt: bool | None = None
    """False to keep nothing of the request in caches."""
    keep_alive: float | str | None = None
    """How long the model stays loaded after the answer, as in Ollama: seconds, or "5m"; 0 unloads
    it, a negative number keeps it loaded."""
    priority: Priority | int | None = None
    """`batch` is answered after `interactive`, the default; a number is taken as vLLM has it: above
    0 is `batch`. The header `X-Modeldeck-Priority` says the same."""

    @property
    def with_usage(self) -> bool:
        """Whether a stream ends with the usage."""
        return self.stream_options is not None and self.stream_options.include_usage

    def keep_alive_s(self) -> float | None:
        """How long the model stays loaded, in seconds. Raises InvalidRequest."""
        return seconds(self.keep_alive)

    def sampling(self) -> dict[str, Any]:
        """Fields of a `GenerateRequest`. Raises InvalidRequest for impossible ones."""
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        if len(stop) > MOST_STOPS:
            raise InvalidRequest(f"stop has more than {MOST_STOPS} strings.")
        repeat = self.repeat_penalty
        return {
            **{name: getattr(self, name) for name in _PLAIN},
            "max_tokens": limit_of(self.max_tokens, "max_tokens"),
            "top_k": None if self.top_k is None else max(0, self.top_k),
            "repeat_penalty": self.repetition_penalty if repeat is None else repeat,
            "dry_sequence_breakers": tuple(self.dry_sequence_breakers or ()),
            "logit_bias": _biases(self.logit_bias),
            # llama.cpp's seeds have 32 bits; -1 becomes its own "any seed".
            "seed": None if self.seed is None else self.seed & 0xFFFF_FFFF,
            "stop": tuple(text for text in stop if text),
            "cache": self.cache_prompt is not False,
            **self._structure(),
        }

    def _structure(self) -> dict[str, Any]:
        """What the answer must follow. Raises InvalidRequest for more than one."""
        found = [
            structure(schema=self.json_schema, grammar=self.grammar),
            structure(
                schema=schema_in(self.guided_json),
                regex=self.guided_regex,
                choice=self.guided_choice,
                grammar=self.guided_grammar,
            ),
            self.structured_outputs.fields() if self.structured_outputs is not None else {},
        ]
        return one_structure(*found)


_PLAIN = (
    *("temperature", "top_p", "min_p", "typical_p", "top_n_sigma", "presence_penalty"),
    *("frequency_penalty", "repeat_last_n", "mirostat", "mirostat_tau", "mirostat_eta"),
    *("dry_multiplier", "dry_base", "dry_allowed_length", "dry_penalty_last_n"),
    *("xtc_probability", "xtc_threshold"),
)
"""Fields that have the same name and form in a `GenerateRequest`."""


def answers(asked: GenerateRequest, count: int | None) -> list[GenerateRequest]:
    """A request as often as answers are wanted, each with a seed of its own."""
    seed = asked.seed
    return [
        asked if seed is None or number == 0 else replace(asked, seed=(seed + number) & 0xFFFF_FFFF)
        for number in range(count or 1)
    ]


def limit_of(tokens: int | None, name: str) -> int | None:
    """The limit of an answer; None for -1. Raises InvalidRequest for 0."""
    if tokens == 0:
        raise InvalidRequest(
            f"{name} is 0: an answer has a token at least.", "Leave it out, or -1."
        )
    return None if tokens is None or tokens < 0 else tokens


def _biases(given: dict[str, float] | list[tuple[int, float | bool]] | None) -> dict[int, float]:
    """Biases by token. Raises InvalidRequest for words in place of token numbers."""
    pairs = list(given.items()) if isinstance(given, dict) else given or []
    found: dict[int, float] = {}
    for token, bias in pairs:
        if isinstance(token, str) and not (token.isascii() and token.isdigit() and len(token) < 10):
            raise InvalidRequest(
                f"logit_bias names {token[:40]!r}, which is no token number.",
                "/tokenize tells the numbers of a text.",
            )
        if bias is True:
            raise InvalidRequest("A bias is a number, or false for a token that must not come.")
        found[int(token)] = NEVER if bias is False else max(NEVER, min(-NEVER, float(bias)))
    return found


def choice_mode(choice: str, *, has_tools: bool) -> str | None:
    """A `tool_choice` that names no tool; None without tools. Raises InvalidRequest.

    >>> choice_mode("required", has_tools=True), choice_mode("auto", has_tools=False)
    ('required', None)
    """
    if choice not in MODES:
        raise InvalidRequest(
            f"tool_choice cannot be {choice[:40]!r}.", f"It is {', '.join(MODES)} or a tool."
        )
    if choice == "required" and not has_tools:
        raise InvalidRequest(
            "tool_choice is required, but there are no tools to call.",
            "Send tools, or auto.",
        )
    return choice if has_tools else None


def refuse(used: dict[str, bool]) -> None:
    """Raise InvalidRequest for the first unsupported field that is used."""
    for name, is_used in used.items():
        if is_used:
            raise InvalidRequest(f"{name} is not supported.", "Leave it out.")


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionForm:
    """A function that the model can call."""

    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    """JSON Schema of its arguments."""
    strict: bool | None = None
    """True to hold the arguments to the schema also where the model calls it by itself; what cannot
    be enforced is refused then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolForm:
    """A tool, in the format of OpenAI and Ollama."""

    type: str = "function"
    """Only `function` is supported."""
    function: FunctionForm | None = None


def tools_of(forms: list[ToolForm] | None) -> tuple[Tool, ...]:
    """The tools of a request. Raises InvalidRequest for other types than functions."""
    return tuple(_tool(form) for form in forms or ())


def _tool(form: ToolForm) -> Tool:
    if form.type != "function" or form.function is None:
        raise InvalidRequest(
            f"Tools of type {form.type[:40]!r} are not supported.", "Send functions only."
        )
    if form.function.name in MODES:
        raise InvalidRequest(f"A tool cannot be called {form.function.name!r}.")
    return Tool(
        name=form.function.name,
        description=form.function.description or "",
        parameters=form.function.parameters or {},
        strict=bool(form.function.strict),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptTokensDetails:
    """Parts of the prompt's tokens."""

    cached_tokens: int
    """Those that were found in a cache."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionTokensDetails:
    """Parts of the answer's tokens."""

    reasoning_tokens: int
    """Those of the thought."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens of a request."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails | UnsetType = UNSET
    """Left out where the engine does not tell."""
    completion_tokens_details: CompletionTokensDetails | UnsetType = UNSET

    @classmethod
    def of(cls, *last: Chunk, each: int = 1) -> Usage:
        """Sum of the counts in the last pieces of answers.

        `each` is how many answers in a row have the same prompt, which they count once.
        """
        asked = last[::each]
        prompt = sum(chunk.prompt_tokens or 0 for chunk in asked)
        completion = sum(chunk.completion_tokens or 0 for chunk in last)
        cached = [chunk.cached_tokens for chunk in asked if chunk.cached_tokens is not None]
        thoughts = [chunk.thought_tokens for chunk in last if chunk.thought_tokens is not None]
        return cls(
            prompt_tokens=prompt,
            completion_tokens=completion,
            total_tokens=prompt + completion,
            prompt_tokens_details=PromptTokensDetails(cached_tokens=sum(cached))
            if cached
            else UNSET,
            completion_tokens_details=CompletionTokensDetails(reasoning_tokens=sum(thoughts))
            if thoughts
            else UNSET,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """Speed of an answer; an extension."""

    tokens_per_s: float | None = None
    time_to_first_token_s: float | None = None

    @classmethod
    def of(cls, last: Chunk) -> Timings:
        """The timings in the last piece of an answer."""
        return cls(tokens_per_s=last.tokens_per_s, time_to_first_token_s=last.time_to_first_token_s)


def ended(last: Chunk, *, old: bool = False) -> Ended:
    """OpenAI's finish reason of an answer; `old` is the older form of calls."""
    if last.finish_reason == "length":
        return "length"
    if last.tool_calls:
        return "function_call" if old else "tool_calls"
    return "stop"


REPETITION = "repetition"


def stop_reason(last: Chunk) -> str | UnsetType:
    """Why an answer was cut, where its finish reason does not tell; the field is vLLM's."""
    return REPETITION if last.looped else UNSET
