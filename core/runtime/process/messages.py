"""Messages between the core and an engine process: one JSON object per frame, but for files.

The core sends commands, the child sends reports. Every command has an id that its reports repeat.
The child sends `EngineHello` first. It answers up to `ModelLoaded.parallel` requests for text,
vectors or scores at once, and `TokenizeText` between two turns; any other command waits until
nothing else runs. It
sends `Alive` every second while it works. `CancelCommand`, `PauseRequest`, `ResumeRequest` and
`ShrinkCache` take effect at once. The end of the child's input means that the core is gone, and
ends the child.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from modeldeck.core.runtime.process.frames import encode
from modeldeck.core.schema import (
    DeviceBytes,
    ErrorInfo,
    FinishReason,
    GenerateRequest,
    LoadOptions,
    TextScore,
    TextVector,
    TokenizedText,
    TokenLogprob,
    TokenQuery,
    ToolCall,
)

PROTOCOL = 6
"""Version of these messages: raised with every change that an older child would misread."""


class EngineCommand(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="do"):
    """A command from the core to an engine process."""

    id: int


class LoadModel(EngineCommand, tag="load", frozen=True, kw_only=True):
    """Load a model: answered by `LoadProgress` and then `ModelLoaded` or `CommandFailed`."""

    path: str
    """The (first) GGUF file, or the MLX folder."""
    options: LoadOptions
    default_context: int
    """Context length in tokens where the options have none; at most what the model supports."""
    prefix_cache_bytes: int = 0
    """Most bytes of memory for the state of conversations that no request holds; 0 for none."""
    prefix_cache_folder: str | None = None
    """Where such states are kept when memory has no room for them, and when the model is unloaded;
    None for nowhere."""
    prefix_cache_disk_bytes: int = 0
    """Most bytes of that folder."""
    turn_s: float = 0.5
    """Seconds that prompts are read for at most before running answers get their next token."""
    stop_loops: bool = False
    """Whether an answer that repeats itself without end is cut; not one that a grammar rules."""
    draft: str | None = None
    """Path of the model that `options.draft_model` names."""
    projector: str | None = None
    """Path of the model's projector, unless `options.vision` is false."""


class PlanLoad(EngineCommand, tag="plan", frozen=True, kw_only=True):
    """Plan a load without allocating it: answered by `LoadPlanned` or `CommandFailed`."""

    path: str
    options: LoadOptions
    default_context: int
    draft: str | None = None
    projector: str | None = None
    """Path of the projector, or of a sparse file with its header."""


class GenerateText(EngineCommand, tag="generate", frozen=True, kw_only=True):
    """Answer a request: `TextPiece` any number of times, then `AnswerDone` or `CommandFailed`."""

    request: GenerateRequest


class EmbedTexts(EngineCommand, tag="embed", frozen=True, kw_only=True):
    """Embed texts: answered by `TextsEmbedded` or `CommandFailed`."""

    texts: tuple[str, ...]
    truncate: bool = False
    """Whether tokens that the model cannot read are cut off; else they are an error."""


class RankTexts(EngineCommand, tag="rank", frozen=True, kw_only=True):
    """Tell how well texts answer a query: answered by `TextsRanked` or `CommandFailed`."""

    query: str
    texts: tuple[str, ...]


class TokenizeText(EngineCommand, tag="tokenize", frozen=True, kw_only=True):
    """Tokenize without answering: answered by `TokensRead` or `CommandFailed`."""

    query: TokenQuery


class CancelCommand(EngineCommand, tag="cancel", frozen=True, kw_only=True):
    """Cancel the command with this id, whether it runs or waits."""


class PauseRequest(EngineCommand, tag="pause", frozen=True, kw_only=True):
    """Give the request with this id no further tokens, since its reader is slow."""


class ResumeRequest(EngineCommand, tag="resume", frozen=True, kw_only=True):
    """Go on with the request with this id."""


class ShrinkCache(EngineCommand, tag="shrink", frozen=True, kw_only=True):
    """Drop conversations from the prefix cache, the oldest first, and give their memory back.

    Taken between two turns; no report answers it.
    """

    keep_bytes: int
    """Bytes that may stay."""
    stays: bool = False
    """Whether it holds no more than that from now on."""


class EngineReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="is"):
    """A report from an engine process to the core."""

    id: int = 0


class EngineHello(EngineReport, tag="hello", frozen=True, kw_only=True):
    """The first report: the engine's version and devices, or why it cannot be used."""

    protocol: int
    version: str | None = None
    devices: tuple[str, ...] = ()
    error: ErrorInfo | None = None


class LoadProgress(EngineReport, tag="progress", frozen=True, kw_only=True):
    """Progress of a load."""

    stage: str
    fraction: float | None = None


class ModelLoaded(EngineReport, tag="loaded", frozen=True, kw_only=True):
    """The model is ready."""

    context_length: int
    embedding: bool = False
    parallel: int = 1
    """Requests that it answers at the same time."""
    cache_tokens: int | None = None
    """Tokens that all of them together may hold in the KV cache; None where they share none."""
    media: tuple[Literal["image", "audio"], ...] = ()
    """What it takes besides text."""
    warnings: tuple[str, ...] = ()
    """What a person should know of it, such as why a model that could see does not."""
    engine_bytes: int | None = None
    """Bytes in use as the engine itself counts them; None where it does not count."""


class LoadPlanned(EngineReport, tag="planned", frozen=True, kw_only=True):
    """Forecast of a load, in bytes; `vocabulary` in tokens."""

    weights_bytes: int
    kv_bytes: int
    compute_bytes: int
    context_length: int
    vocabulary: int
    projector_bytes: int = 0
    """Of the projector, with the largest image that it is given."""
    devices: tuple[DeviceBytes, ...] = ()
    """The part that goes into each GPU with its own memory."""
    gpu_unknown: str = ""
    """Why `devices` is not known, as the end of a sentence; empty where it is known."""
    exact: bool = True
    """Whether all of it is exact to the byte."""
    records_bytes: int | None = None
    """Bytes of the model's metadata in memory, mostly the vocabulary; None where not known."""


class PromptProgress(EngineReport, tag="prompt", frozen=True, kw_only=True):
    """How much of a request's prompt is in the context, sent after each turn that read some."""

    tokens: int
    """Tokens read or found so far."""
    cached_tokens: int
    """Of these, tokens that were found in a cache."""
    total_tokens: int
    slot: int | None = None
    """Number of the slot that answers the request; None for an engine without slots."""
    media: str = ""
    """The image or recording that is read next, which cannot be interrupted; empty for text."""


class RequestWaits(EngineReport, tag="waits", frozen=True, kw_only=True):
    """A request has no place for now, or lost it, and goes on later from where it was."""

    why: str
    """The reason, as the end of a sentence."""


class TextPiece(EngineReport, tag="text", frozen=True, kw_only=True):
    """A piece of the answer, never empty."""

    text: str
    thought: bool = False
    """Whether it is part of what the model thinks before it answers."""
    logprobs: tuple[TokenLogprob, ...] = ()
    """Log probabilities of its tokens, where the request asks for them."""


class AnswerDone(EngineReport, tag="done", frozen=True, kw_only=True):
    """The answer is complete."""

    reason: FinishReason
    looped: bool = False
    """Whether it was cut since it repeated itself without end; the reason is `length` then."""
    stop_text: str | None = None
    """The stop string that ended it."""
    tool_calls: tuple[ToolCall, ...] = ()
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    """Tokens of the prompt that were found in a cache."""
    prefix_cache_bytes: int | None = None
    """Bytes that the engine's cache of conversations holds; None where it has none."""
    thought_tokens: int | None = None
    """Of `completion_tokens`, those of the thought."""
    tokens_per_s: float | None = None
    time_to_first_token_s: float | None = None
    engine_bytes: int | None = None
    """Bytes in use as the engine itself counts them; None where it does not count."""
    engine_peak_bytes: int | None = None
    """The peak of that count during the answer."""
    slots_held: tuple[int, ...] = ()
    """Tokens that each slot holds after the answer; empty for an engine without slots."""


class TextsEmbedded(EngineReport, tag="vectors", frozen=True, kw_only=True):
    """The embeddings of texts, each of length 1, in their order."""

    vectors: tuple[TextVector, ...]


class TextsRanked(EngineReport, tag="ranked", frozen=True, kw_only=True):
    """How well texts answer a query, in their order."""

    scores: tuple[TextScore, ...]


class TokensRead(EngineReport, tag="tokens", frozen=True, kw_only=True):
    """A text and its tokens."""

    found: TokenizedText


class CommandFailed(EngineReport, tag="failed", frozen=True, kw_only=True):
    """The command failed; the process goes on, unless it is stuck."""

    error: ErrorInfo
    stuck: bool = False
    """Whether the command still runs and does not end: the process must be replaced."""


class Alive(EngineReport, tag="alive", frozen=True, kw_only=True):
    """Sign of life, sent every second while a command runs."""


AnyCommand = (
    LoadModel
    | PlanLoad
    | GenerateText
    | EmbedTexts
    | RankTexts
    | TokenizeText
    | CancelCommand
    | PauseRequest
    | ResumeRequest
    | ShrinkCache
)
AnyReport = (
    EngineHello
    | LoadProgress
    | ModelLoaded
    | LoadPlanned
    | PromptProgress
    | RequestWaits
    | TextPiece
    | AnswerDone
    | TextsEmbedded
    | TextsRanked
    | TokensRead
    | CommandFailed
    | Alive
)

_commands: msgspec.json.Decoder[AnyCommand] = msgspec.json.Decoder(AnyCommand)
_reports: msgspec.json.Decoder[AnyReport] = msgspec.json.Decoder(AnyReport)


def frame(message: EngineCommand | EngineReport) -> bytes:
    """The frame that carries a message. Raises `frames.FrameError` when it is too long."""
    return encode(msgspec.json.encode(message))


def command(payload: bytes) -> AnyCommand:
    """The command in a frame. Raises msgspec.DecodeError for any other payload."""
    return _commands.decode(payload)


def report(payload: bytes) -> AnyReport:
    """The report in a frame. Raises msgspec.DecodeError for any other payload."""
    return _reports.decode(payload)
