"""Limits of requests: every number is checked before it reaches an engine. Pure.

llama.cpp trusts its caller: an unknown KV cache type aborts it, 100,000 threads crash it, and NaN
in a sampler gives nonsense. Limits of load options are in `modeldeck.core.config.load_options`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from modeldeck.core.errors import ContextExceeded, InvalidRequest
from modeldeck.core.runtime.process.frames import MAX_BYTES
from modeldeck.core.schema import GenerateRequest, Media

TEXTS_TOGETHER = 32
"""Texts to embed or rank in one message to the engine: a few evaluations, and vectors that fit a
frame."""
CHARACTERS_TOGETHER = 1 << 20
"""Characters of several texts in one message."""
GENERATE: Mapping[str, tuple[float, float]] = {
    "max_tokens": (1, 1 << 24),
    "temperature": (0, 100),
    "top_p": (0, 1),
    "top_k": (0, 1 << 20),
    "min_p": (0, 1),
    "presence_penalty": (-10, 10),
    "frequency_penalty": (-10, 10),
    "repeat_penalty": (0.01, 10),
    "repeat_last_n": (-1, 1 << 20),
    "typical_p": (0, 1),
    "top_n_sigma": (-1, 100),
    "mirostat": (0, 2),
    "mirostat_tau": (0, 100),
    "mirostat_eta": (0, 1),
    "dry_multiplier": (0, 100),
    "dry_base": (1, 100),
    "dry_allowed_length": (0, 1 << 20),
    "dry_penalty_last_n": (-1, 1 << 20),
    "xtc_probability": (0, 1),
    "xtc_threshold": (0, 1),
    "thinking_budget": (0, 1 << 24),
    "seed": (-(1 << 63), (1 << 64) - 1),
    "logprobs": (0, 20),
}
"""Smallest and largest value of each number in `GenerateRequest`."""

STOPS = 16
"""Stop strings in one request; OpenAI's API takes 4."""
STOP_LENGTH = 1024
"""Characters in one stop string, which is also how much text may be held back for it."""

BREAKERS = 64
"""Strings that end a repetition for DRY."""
BREAKER_LENGTH = 40
"""Characters in one, of which llama.cpp reads no more."""
BIASES = 4096
"""Tokens with a bias in one request."""
BIAS = 1e9
"""Largest bias; as a negative number it forbids a token."""


MEDIA = 100
"""Images and recordings in one request; agents send many pictures of a screen."""
MEDIA_BYTES = 64 << 20
"""Bytes of all of them: more than a body of the default `api.body_limit_bytes` brings."""


def check_request(request: GenerateRequest) -> None:
    """Raise InvalidRequest when an engine must not be given this request."""
    _within(request, GENERATE)
    if not (request.messages or request.prompt or request.suffix):
        raise InvalidRequest("There is nothing to answer.", "Send messages or a prompt.")
    _check_length(request)
    _check_media(request)
    if request.suffix and request.messages:
        raise InvalidRequest("A suffix goes with a prompt, not with messages.")
    held = (request.grammar, request.json_schema, request.regex)
    if sum(form is not None for form in held) > 1:
        raise InvalidRequest("An answer follows a grammar, a JSON schema or a regex, only one.")
    breakers, biases = request.dry_sequence_breakers, request.logit_bias
    if len(breakers) > BREAKERS or any(not 0 < len(s) <= BREAKER_LENGTH for s in breakers):
        raise InvalidRequest(
            f"There may be {BREAKERS} dry_sequence_breakers of 1 to {BREAKER_LENGTH} characters."
        )
    if len(biases) > BIASES or not all(abs(bias) <= BIAS for bias in biases.values()):
        raise InvalidRequest(f"logit_bias may have {BIASES} tokens, and biases up to {BIAS:g}.")
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


def _check_media(request: GenerateRequest) -> None:
    """Raise InvalidRequest for images that are too many or too large, or stand nowhere."""
    found = [media for message in request.messages for media in message.media]
    if len(found) > MEDIA:
        raise InvalidRequest(
            f"There are {len(found)} images and recordings; {MEDIA} are the most.", "Send fewer."
        )
    if (size := sum(len(media.data) for media in found)) > MEDIA_BYTES:
        raise InvalidRequest(
            f"The images and recordings have {size >> 20} MiB; {MEDIA_BYTES >> 20} are the most.",
            "Send smaller ones.",
        )
    for message in request.messages:
        for media in message.media:
            if not media.data:
                raise InvalidRequest(f"There is nothing in the {media.kind} {_at(media)}.")
            if not 0 <= media.at <= len(message.content):
                raise InvalidRequest(f"The {media.kind} {_at(media)} stands beyond its message.")


def _at(media: Media) -> str:
    return f"at {media.place}" if media.place else "of the request"


def check_text(text: str) -> None:
    """Raise InvalidRequest when a text cannot be embedded."""
    if not text:
        raise InvalidRequest("There is nothing to embed: a text is empty.")


def together(texts: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Cut a list of texts into parts that are sent to the engine in one message each.

    Between two parts other requests have their turn.

    >>> [len(part) for part in together(["text"] * 70)], list(together([]))
    ([32, 32, 6], [])
    """
    part: list[str] = []
    size = 0
    for text in texts:
        if part and (len(part) == TEXTS_TOGETHER or size + len(text) > CHARACTERS_TOGETHER):
            yield tuple(part)
            part, size = [], 0
        part.append(text)
        size += len(text)
    if part:
        yield tuple(part)


def _within(record: GenerateRequest, ranges: Mapping[str, tuple[float, float]]) -> None:
    for name, (low, high) in ranges.items():
        value = getattr(record, name)
        if value is not None and not (math.isfinite(value) and low <= value <= high):
            raise InvalidRequest(f"{name} must be from {low:g} to {high:g}, not {value!r}.")
