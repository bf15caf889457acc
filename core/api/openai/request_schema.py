"""Fields shared by the OpenAI API's text requests, and their conversion to ours. Pure.

Field names and meanings are OpenAI's: https://platform.openai.com/docs/api-reference. A field that
would change the answer and is not supported is refused; one that only concerns OpenAI's own service
(`user`, `store`, `service_tier` ...) or is unknown is ignored: programs send many of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from modeldeck.core.api.inference import seconds
from modeldeck.core.errors import InvalidRequest
from modeldeck.core.schema import Chunk, Priority, Tool

Probability = Annotated[float, msgspec.Meta(ge=0, le=1)]
Penalty = Annotated[float, msgspec.Meta(ge=-2, le=2)]
Tokens = Annotated[int, msgspec.Meta(ge=1, le=1 << 24)]
Alternatives = Annotated[int, msgspec.Meta(ge=0, le=20)]
FunctionName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_.-]{1,128}$")]
Ended = Literal["stop", "length", "tool_calls"]

DONE = b"data: [DONE]\n\n"
"""The last event of a stream."""

MOST_STOPS = 16
"""Stop strings in one request; OpenAI takes 4."""

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
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    top_p: Probability | None = None
    top_k: Annotated[int, msgspec.Meta(ge=0, le=1 << 20)] | None = None
    """An extension, like `min_p`, `repeat_penalty`, `grammar` and `keep_alive`."""
    min_p: Probability | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    repeat_penalty: Annotated[float, msgspec.Meta(ge=0.01, le=10)] | None = None
    seed: Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)] | None = None
    stop: str | list[str] | None = None
    n: int | None = None
    logit_bias: dict[str, float] | None = None
    """Refused unless it is empty."""
    grammar: Annotated[str, msgspec.Meta(max_length=1 << 16)] | None = None
    """Grammar of the answer, in llama.cpp's GBNF."""
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
        """Fields of a `GenerateRequest`. Raises InvalidRequest for unsupported ones."""
        refuse({"n other than 1": self.n not in (None, 1), "logit_bias": bool(self.logit_bias)})
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        if len(stop) > MOST_STOPS:
            raise InvalidRequest(f"stop has more than {MOST_STOPS} strings.")
        return {
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "top_k": self.top_k,
            "min_p": self.min_p,
            "presence_penalty": self.presence_penalty,
            "frequency_penalty": self.frequency_penalty,
            "repeat_penalty": self.repeat_penalty,
            # llama.cpp's seeds have 32 bits; -1 becomes its own "any seed".
            "seed": None if self.seed is None else self.seed & 0xFFFF_FFFF,
            "stop": tuple(text for text in stop if text),
            "grammar": self.grammar,
        }


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
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptTokensDetails:
    """Parts of the prompt's tokens."""

    cached_tokens: int
    """Those that were found in a cache."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens of a request."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails | UnsetType = UNSET
    """Left out where the engine does not tell."""

    @classmethod
    def of(cls, *last: Chunk) -> Usage:
        """Sum of the counts in the last pieces of answers."""
        prompt = sum(chunk.prompt_tokens or 0 for chunk in last)
        completion = sum(chunk.completion_tokens or 0 for chunk in last)
        cached = [chunk.cached_tokens for chunk in last if chunk.cached_tokens is not None]
        return cls(
            prompt_tokens=prompt,
            completion_tokens=completion,
            total_tokens=prompt + completion,
            prompt_tokens_details=PromptTokensDetails(cached_tokens=sum(cached))
            if cached
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


def ended(last: Chunk) -> Ended:
    """OpenAI's finish reason of an answer."""
    if last.tool_calls:
        return "tool_calls"
    return "length" if last.finish_reason == "length" else "stop"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedMeta:
    """How a loaded model answers; not part of OpenAI's format."""

    context_length: int | None
    """Tokens that one request may reach."""
    parallel: int
    """Requests that are answered at the same time."""
    cache_tokens: int | None
    """Tokens that all of them share; null where they share none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenModel:
    """A model, in OpenAI's format."""

    id: str
    created: int
    """Seconds since the epoch."""
    owned_by: str
    object: Literal["model"] = "model"
    meta: LoadedMeta | UnsetType = UNSET
    """Left out while it is not loaded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelList:
    """Models, in OpenAI's format."""

    data: list[OpenModel] = field(default_factory=list)
    object: Literal["list"] = "list"
