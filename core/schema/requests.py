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
    instance_id: str | None = None
    """None before there is an instance."""
    place: int | None = None
    """Its place in the queue while it waits: 1 is next."""
    why: str = ""
    """Why it waits, where that is not for its turn."""
    cancelled_by: str = ""
    """Who cancelled it."""
    error_code: str = ""
    """Code of the error that it failed with. The message is left out: it may quote the request."""
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
