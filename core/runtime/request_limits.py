"""Limits of requests: every number is checked before it reaches an engine. Pure.

llama.cpp trusts its caller: an unknown KV cache type aborts it, 100,000 threads crash it, and NaN
in a sampler gives nonsense. Limits of load options are in `modeldeck.core.config.load_options`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from modeldeck.core.errors import ContextExceeded, InvalidRequest
from modeldeck.core.runtime.process.frames import MAX_BYTES
from modeldeck.core.schema import GenerateRequest

GENERATE: Mapping[str, tuple[float, float]] = {
    "max_tokens": (1, 1 << 24),
    "temperature": (0, 100),
    "top_p": (0, 1),
    "top_k": (0, 1 << 20),
    "min_p": (0, 1),
    "presence_penalty": (-10, 10),
    "frequency_penalty": (-10, 10),
    "repeat_penalty": (0.01, 10),
    "seed": (-(1 << 63), (1 << 64) - 1),
    "logprobs": (0, 20),
}
"""Smallest and largest value of each number in `GenerateRequest`."""

STOPS = 16
"""Stop strings in one request; OpenAI's API takes 4."""
STOP_LENGTH = 1024
"""Characters in one stop string, which is also how much text may be held back for it."""


def check_request(request: GenerateRequest) -> None:
    """Raise InvalidRequest when an engine must not be given this request."""
    _within(request, GENERATE)
    if not request.messages and not request.prompt:
        raise InvalidRequest("There is nothing to answer.", "Send messages or a prompt.")
    _check_length(request)
    if request.grammar is not None and request.json_schema is not None:
        raise InvalidRequest("An answer follows a grammar or a JSON schema, not both.")
    if len(request.stop) > STOPS or any(not 0 < len(s) <= STOP_LENGTH for s in request.stop):
        raise InvalidRequest(
            f"There may be {STOPS} stop strings of 1 to {STOP_LENGTH} characters each."
        )


def _check_length(request: GenerateRequest) -> None:
    """Raise ContextExceeded for more text than the way to an engine carries."""
    texts = [request.prompt or "", *(message.content for message in request.messages)]
    if (length := sum(map(len, texts))) > MAX_BYTES:
        raise ContextExceeded(
            f"The prompt is too long: {length} characters ({ContextExceeded.code}).", "Send less."
        )


def check_text(text: str) -> None:
    """Raise InvalidRequest when a text cannot be embedded."""
    if not text:
        raise InvalidRequest("There is nothing to embed: a text is empty.")


def _within(record: GenerateRequest, ranges: Mapping[str, tuple[float, float]]) -> None:
    for name, (low, high) in ranges.items():
        value = getattr(record, name)
        if value is not None and not (math.isfinite(value) and low <= value <= high):
            raise InvalidRequest(f"{name} must be from {low:g} to {high:g}, not {value!r}.")
