"""Requests to models: who asks, in which state each is, and its figures. Never what was said."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Priority = Literal["interactive", "batch"]
"""`interactive` is answered before `batch`."""

RequestState = Literal[
    "waiting",
    "loading",
    "prompt",
    "thinking",
    "writing",
    "done",
    "cut",
    "cancelled",
    "left",
    "failed",
]
"""`cut` is an answer that reached its limit of tokens or lost its model, `left` one whose client
went away."""

LIVE_STATES = ("waiting", "loading", "prompt", "thinking", "writing")
"""States of a request that has not ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Requester:
    """Who asks a model, and through which dialect."""

    origin: str = ""
    """The client, for the audit trail."""
    who: str = "local"
    """Name of the token, or of the program behind the Unix socket with its process id."""
    dialect: str = "native"
    """The API that was used, such as `openai` or `ollama`."""
    priority: Priority = "interactive"
    client: str = ""
    """Id that a front end of ours sends with its requests, to know its own; else empty."""
    program: str = ""
    """Name and version of the client's program, such as `curl/8.5.0`; empty where not told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestTotals:
    """What models were asked on one day."""

    day: str = ""
    """The day on the machine's own clock: `2026-01-31`; empty before the first request."""
    requests: int = 0
    """Those that ended."""
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def with_ended(self, info: RequestInfo, day: str) -> RequestTotals:
        """The totals after a request ended on `day`; another day begins at 0. Pure."""
        before = self if self.day == day else RequestTotals(day=day)
        return RequestTotals(
            day=day,
            requests=before.requests + 1,
            prompt_tokens=before.prompt_tokens + (info.prompt_tokens or 0),
            completion_tokens=before.completion_tokens + (info.completion_tokens or 0),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """What requests say, and what is answered, is kept in the core's memory for some minutes."""

    until: str
    """When it ends and all of it is dropped: ISO 8601, UTC."""
    models: tuple[str, ...] = ()
    """Ids of the models whose requests are recorded; empty for all."""
    by: str = ""
    """Who began it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestInfo:
    """One request to a model."""

    id: str
    model_id: str
    unique: str
    who: str
    dialect: str
    since: str
    """When it came: ISO 8601, UTC."""
    state: RequestState
    kind: Literal["text", "embedding", "ranking"] = "text"
    priority: Priority = "interactive"
    client: str = ""
    """As in `Requester`."""
    origin: str = ""
    """As in `Requester`."""
    program: str = ""
    """As in `Requester`."""
    instance_id: str | None = None
    """None before there is an instance."""
    slot: int | None = None
    """Number of the engine's slot that answers it, from 0; None before it has one."""
    context_length: int | None = None
    """Tokens that prompt and answer may have together; None before there is an instance."""
    max_tokens: int | None = None
    """Its own limit of the answer; None for none."""
    temperature: float | None = None
    """None for the model's own."""
    tools: int = 0
    """How many tools the model may call."""
    place: int | None = None
    """Its place in the queue while it waits: 1 is next."""
    why: str = ""
    """Why it waits, where that is not for its turn; of a prompt, which image is read now: that
    cannot be interrupted."""
    cancelled_by: str = ""
    """Who cancelled it."""
    canceller: str = ""
    """`Requester.client` of who cancelled it."""
    error_code: str = ""
    """Code of the error that it failed or was cut with. The message is left out: it may quote the
    request."""
    prompt_tokens: int | None = None
    prompt_read: int | None = None
    """Tokens of the prompt that were read or found in a cache so far."""
    cached_tokens: int | None = None
    """Tokens of the prompt that were found in a cache."""
    completion_tokens: int | None = None
    """Tokens of thought and answer; while it runs, counted in pieces, each about a token."""
    thought_tokens: int | None = None
    tokens_per_s: float | None = None
    time_to_first_token_s: float | None = None
    """From the start of its work; the time in the queue is not in it."""
    ended_at: str | None = None

    @property
    def live(self) -> bool:
        """Whether it has not ended."""
        return self.state in LIVE_STATES
