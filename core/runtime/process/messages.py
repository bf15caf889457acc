"""What the core and an engine process say to each other: one JSON object per frame.

The core sends commands, the child sends reports. Every command has an id that its reports repeat.
The child says `EngineHello` first; after that it works on one command at a time, says every second
that it is `Alive` meanwhile, and only `CancelCommand` is heard in between. The end of the child's
input means that the core is gone, and ends the child.
"""

from __future__ import annotations

import msgspec

from modeldeck.core.runtime.process.frames import encode
from modeldeck.core.schema import (
    DeviceBytes,
    ErrorInfo,
    FinishReason,
    GenerateRequest,
    LoadOptions,
    TokenLogprob,
    ToolCall,
)

PROTOCOL = 3
"""Goes up with every change that an older child would misread."""


class EngineCommand(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="do"):
    """What the core asks of an engine process."""

    id: int


class LoadModel(EngineCommand, tag="load", frozen=True, kw_only=True):
    """Load a model: answered by `LoadProgress` and then `ModelLoaded` or `CommandFailed`."""

    path: str
    """The (first) GGUF file, or the MLX folder."""
    options: LoadOptions
    default_context: int
    """Context length, in tokens, where the options name none; lowered to what the model knows."""
    draft: str | None = None
    """Where the model lies that `options.draft_model` names."""


class PlanLoad(EngineCommand, tag="plan", frozen=True, kw_only=True):
    """Plan a load without allocating it: answered by `LoadPlanned` or `CommandFailed`."""

    path: str
    options: LoadOptions
    default_context: int
    draft: str | None = None


class GenerateText(EngineCommand, tag="generate", frozen=True, kw_only=True):
    """Answer a request: `TextPiece` any number of times, then `AnswerDone` or `CommandFailed`."""

    request: GenerateRequest


class EmbedText(EngineCommand, tag="embed", frozen=True, kw_only=True):
    """Embed one text: answered by `EmbeddingVector` or `CommandFailed`."""

    text: str


class CancelCommand(EngineCommand, tag="cancel", frozen=True, kw_only=True):
    """Give up the command with this id, whether it runs or waits."""


class EngineReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="is"):
    """What an engine process tells the core."""

    id: int = 0


class EngineHello(EngineReport, tag="hello", frozen=True, kw_only=True):
    """The first report: who is there, or why the engine cannot be had."""

    protocol: int
    version: str | None = None
    devices: tuple[str, ...] = ()
    error: ErrorInfo | None = None


class LoadProgress(EngineReport, tag="progress", frozen=True, kw_only=True):
    """How far a load is."""

    stage: str
    fraction: float | None = None


class ModelLoaded(EngineReport, tag="loaded", frozen=True, kw_only=True):
    """The model is ready."""

    context_length: int
    embedding: bool = False
    engine_bytes: int | None = None
    """What the engine itself counts as taken; None where it does not tell."""


class LoadPlanned(EngineReport, tag="planned", frozen=True, kw_only=True):
    """What a load would take, in bytes; `vocabulary` in tokens."""

    weights_bytes: int
    kv_bytes: int
    compute_bytes: int
    context_length: int
    vocabulary: int
    devices: tuple[DeviceBytes, ...] = ()
    """Of all of it, what goes into each GPU with memory of its own."""
    gpu_unknown: str = ""
    """Why that is not known, as the end of a sentence; empty where it is."""
    exact: bool = True
    """Whether all of it is planned to the byte."""
    records_bytes: int | None = None
    """What the model's own records take, the vocabulary above all; None where it is not known."""


class TextPiece(EngineReport, tag="text", frozen=True, kw_only=True):
    """A piece of the answer, never empty."""

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()
    """Of the tokens it is made of, where they were asked for."""


class AnswerDone(EngineReport, tag="done", frozen=True, kw_only=True):
    """The answer is over."""

    reason: FinishReason
    tool_calls: tuple[ToolCall, ...] = ()
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    tokens_per_s: float | None = None
    time_to_first_token_s: float | None = None
    engine_bytes: int | None = None
    """What the engine itself counts as taken; None where it does not tell."""
    engine_peak_bytes: int | None = None
    """The most that it counted meanwhile."""


class EmbeddingVector(EngineReport, tag="vector", frozen=True, kw_only=True):
    """The embedding of a text, of length 1."""

    values: tuple[float, ...]
    tokens: int
    """How many the text has."""


class CommandFailed(EngineReport, tag="failed", frozen=True, kw_only=True):
    """The command came to nothing; the process goes on, unless it is stuck."""

    error: ErrorInfo
    stuck: bool = False
    """Whether the command still runs and does not end: the process is of no use any more."""


class Alive(EngineReport, tag="alive", frozen=True, kw_only=True):
    """Nothing new: the process works, and says so every second meanwhile."""


AnyCommand = LoadModel | PlanLoad | GenerateText | EmbedText | CancelCommand
AnyReport = (
    EngineHello
    | LoadProgress
    | ModelLoaded
    | LoadPlanned
    | TextPiece
    | AnswerDone
    | EmbeddingVector
    | CommandFailed
    | Alive
)

_commands: msgspec.json.Decoder[AnyCommand] = msgspec.json.Decoder(AnyCommand)
_reports: msgspec.json.Decoder[AnyReport] = msgspec.json.Decoder(AnyReport)


def frame(message: EngineCommand | EngineReport) -> bytes:
    """The frame that carries a message. Raises `frames.FrameError` when it is too long."""
    return encode(msgspec.json.encode(message))


def command(payload: bytes) -> AnyCommand:
    """The command in a frame. Raises msgspec.DecodeError when it is none of ours."""
    return _commands.decode(payload)


def report(payload: bytes) -> AnyReport:
    """The report in a frame. Raises msgspec.DecodeError when it is none of ours."""
    return _reports.decode(payload)
