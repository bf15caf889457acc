"""Samplers and penalties of answers by mlx-lm, with the defaults that llama.cpp has."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from modeldeck.core.errors import DeckError, InvalidRequest
from modeldeck.core.runtime.engines.base import PENALTY_WINDOW
from modeldeck.core.schema import GenerateRequest

COLDEST = 1e-3
"""Below this temperature sampling is greedy: its inverse would overflow 16-bit floats."""
DEFAULT_TEMPERATURE = 0.8
WHOLE_TEXT = 1 << 24
"""Tokens to look back at for a whole text."""
SAMPLERS = 64
"""Samplers that are kept: answers that share one are sampled in one call."""

Sample = Callable[[Any], Any]
"""A sampler of mlx-lm: from log probabilities, one row for each answer, to tokens."""
Penalty = Callable[[Any, Any], Any]
"""A logits processor of mlx-lm: from all tokens so far and logits to logits."""


def is_greedy(request: GenerateRequest) -> bool:
    """Whether the likeliest token is always taken."""
    return request.temperature is not None and request.temperature < COLDEST


class Samplers:
    """Makes the samplers and penalties that requests ask for."""

    def __init__(self, mx: Any, vocabulary: int, ends: Sequence[int]) -> None:
        """Make samplers for a model.

        Args:
            mx: `mlx.core`.
            vocabulary: The number of tokens, 0 when not known.
            ends: Tokens that end an answer, which XTC never leaves out.
        """
        self._mx = mx
        self._ends = list(ends)
        self._vocabulary = vocabulary
        self._utils: Any = importlib.import_module("mlx_lm.sample_utils")
        self._shared = lru_cache(SAMPLERS)(self._make)

    def sampler(self, request: GenerateRequest) -> Sample:
        """A sampler with the same defaults as for llama.cpp, so that engines answer alike.

        Requests without a seed share it with those that ask for the same.
        """
        if is_greedy(request):
            return self._greedy
        temperature = DEFAULT_TEMPERATURE if request.temperature is None else request.temperature
        # 0 means "no limit" to mlx-lm; here it leaves the likeliest token only.
        top_p = max(0.95 if request.top_p is None else request.top_p, 1e-6)
        min_p = 0.05 if request.min_p is None else request.min_p
        top_k = 40 if request.top_k is None else request.top_k
        # mlx-lm takes a threshold up to a half.
        threshold = min(0.5, 0.1 if request.xtc_threshold is None else request.xtc_threshold)
        xtc = (request.xtc_probability or 0.0, threshold)
        make = self._shared if request.seed is None else self._make
        return make(temperature, top_p, min_p, top_k, xtc, request.seed)

    def _greedy(self, likely: Any) -> Any:
        return self._mx.argmax(likely, axis=-1)

    def _make(
        self,
        temperature: float,
        top_p: float,
        min_p: float,
        top_k: int,
        xtc: tuple[float, float],
        seed: int | None,
    ) -> Sample:
        """A sampler, in the order of `mlx_lm.sample_utils.make_sampler`.

        With a seed it has random numbers of its own, which no other answer takes from.
        """
        utils, mx = self._utils, self._mx
        key = None if seed is None else mx.random.key(seed % (1 << 64))

        def sample(likely: Any) -> Any:
            nonlocal key
            if 0 < top_p < 1:
                likely = utils.apply_top_p(likely, top_p)
            if min_p:
                likely = utils.apply_min_p(likely, min_p)
            if xtc[0]:
                likely = utils.apply_xtc(likely, *xtc, self._ends)
            if 0 < top_k < self._vocabulary:
                likely = utils.apply_top_k(likely, top_k)
            now = None
            if key is not None:
                key, now = mx.random.split(key)
            return mx.random.categorical(likely * (1 / temperature), key=now)

        return sample

    def penalties(self, request: GenerateRequest) -> list[Penalty]:
        """The penalties of a request; most have none."""
        repeat = None if request.repeat_penalty in (None, 1.0) else request.repeat_penalty
        window = look_back(request)
        if not window:  # mlx-lm would look back at all
            return list(self._utils.make_logits_processors(logit_bias=request.logit_bias or None))
        return list(
            self._utils.make_logits_processors(
                logit_bias=request.logit_bias or None,
                repetition_penalty=repeat,
                repetition_context_size=window,
                presence_penalty=request.presence_penalty,
                presence_context_size=window,
                frequency_penalty=request.frequency_penalty,
                frequency_context_size=window,
            )
        )

    def check(self, request: GenerateRequest) -> None:
        """Raise InvalidRequest for what mlx-lm does not have, and for strange tokens."""
        used = {
            "typical_p": request.typical_p not in (None, 1.0),
            "top_n_sigma": (request.top_n_sigma or 0) > 0,
            "mirostat": bool(request.mirostat),
            "dry_multiplier": bool(request.dry_multiplier),
            "way to fill a gap before a suffix": bool(request.suffix),
        }
        if found := next((name for name, is_used in used.items() if is_used), None):
            raise InvalidRequest(
                f"mlx-lm has no {found}.", "Leave it out, or take the GGUF version of the model."
            )
        if any(not 0 <= token < self._vocabulary for token in request.logit_bias):
            raise InvalidRequest(
                f"logit_bias names a token that this model has not: it has {self._vocabulary}."
            )


def look_back(request: GenerateRequest) -> int:
    """Tokens that the penalties look back at."""
    tokens = PENALTY_WINDOW if request.repeat_last_n is None else request.repeat_last_n
    return WHOLE_TEXT if tokens < 0 else tokens


def after(
    mx: Any, tokens: Sequence[int], penalties: Sequence[Penalty], window: int
) -> list[Penalty]:
    """Penalties for an answer that mlx-lm does not know to come after `tokens`.

    They look back at `window` tokens.
    """
    before = mx.array(tokens[-window:] if window else [])

    def late(penalty: Penalty) -> Penalty:
        return lambda known, logits: penalty(mx.concatenate([before, known]), logits)

    return [late(penalty) for penalty in penalties] if len(tokens) else list(penalties)


class WatchedSampler:
    """A sampler that goes on from token to token, such as one that follows a grammar.

    mlx-lm samples one token ahead. This remembers it, since the grammar has moved on past it, and
    a failure of the grammar, which must not fail the other answers of a batch.
    """

    def __init__(self, mx: Any, follow: Sample, end: int) -> None:
        """`follow` samples what the grammar admits; `end` is a token that ends an answer."""
        self._mx = mx
        self._follow = follow
        self._end = end
        self._ahead: tuple[int, Any] | None = None
        self.count = 0
        """Tokens that the grammar has admitted so far."""
        self.failure: DeckError | None = None
        """Why the answer cannot go on after the tokens that were told."""

    def __call__(self, likely: Any) -> Any:
        """Sample the next token; one that ends the answer after a failure."""
        try:
            if self.failure is not None:
                raise self.failure
            token = self._follow(likely)
        except DeckError as error:
            self.failure = error
            return self._mx.array([self._end], dtype=self._mx.uint32)
        self._ahead = int(token.item()), likely
        self.count += 1
        return token

    def take_ahead(self) -> tuple[int, Any] | None:
        """The token that was sampled last, with the log probabilities; None if there is none."""
        ahead, self._ahead = self._ahead, None
        return ahead
