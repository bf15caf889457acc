"""A model that mlx-lm has loaded: its parts, its KV caches, and how many answers it writes."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence
from typing import Any

from modeldeck.core.errors import EngineFailed, InvalidRequest
from modeldeck.core.schema import KvCacheType

DRAFT_TOKENS = 4
"""Tokens that a draft model guesses at a time by default."""
STEP = 512
"""Tokens of a prompt that are read at once by default; cancelling takes effect in between."""
PARALLEL = 4
"""Answers that are written at once by default."""


def kv_bits(kind: KvCacheType | None, head_length: int | None) -> tuple[int, int] | None:
    """Return bits and group size of a quantized KV cache; None for one that is not quantized.

    mlx-lm keeps keys and values as the model computes them, or quantizes them in groups that must
    fill a head (`mlx_lm.models.cache.QuantizedKVCache`). Raises InvalidRequest for other kinds.

    >>> kv_bits("q8_0", 128), kv_bits("f16", 128), kv_bits("q4_0", 96)
    ((8, 64), None, (4, 32))
    """
    if kind in (None, "f16", "bf16"):
        return None
    bits = {"q8_0": 8, "q4_0": 4}.get(str(kind))
    if bits is None:
        raise InvalidRequest(
            f"mlx-lm has no KV cache of type {kind}.", "Take f16, q8_0 or q4_0, or none."
        )
    group = next((size for size in (64, 32) if (head_length or 0) % size == 0), None)
    if not head_length or group is None:
        raise InvalidRequest("The heads of this model are too small for a quantized KV cache.")
    return bits, group


def can_merge(caches: Iterable[Any]) -> bool:
    """Whether mlx-lm can put the caches of several answers into one batch.

    Its own test (`mlx_lm.server.ModelProvider`) does not look into a `CacheList`.
    """
    return all(
        hasattr(cache, "merge") and can_merge(getattr(cache, "caches", ())) for cache in caches
    )


class MlxModel:
    """A model, its draft model, their tokenizer, and the options of the load."""

    def __init__(
        self,
        mx: Any,
        model: Any,
        tokenizer: Any,
        *,
        draft: Any = None,
        draft_tokens: int | None = None,
        context_length: int,
        cache_tokens: int | None = None,
        parallel: int | None = None,
        vocabulary: int = 0,
        step: int | None = None,
        kv_bits: tuple[int, int] | None = None,
    ) -> None:
        """Use a loaded model. Raises EngineFailed for a draft that does not work with it.

        Args:
            mx: `mlx.core`.
            model: Made by `mlx_lm.utils.load_model`.
            tokenizer: `mlx_lm.tokenizer_utils.TokenizerWrapper`.
            draft: A draft model of the same vocabulary; None for none.
            draft_tokens: Tokens that it guesses at a time.
            context_length: Tokens of prompt and answer together; mlx-lm itself has no limit.
            cache_tokens: Tokens that all answers together may hold; the context length by default.
            parallel: Answers at once, where they can be batched.
            vocabulary: Tokens of the vocabulary; 0 when not known.
            step: Tokens of a prompt read at once.
            kv_bits: Bits and group size of a quantized KV cache.
        """
        self.mx = mx
        self.model = model
        self.tokenizer = tokenizer
        self.draft = draft
        self.draft_tokens = draft_tokens or DRAFT_TOKENS
        self.context_length = context_length
        self.cache_tokens = max(context_length, cache_tokens or 0)
        self.vocabulary = vocabulary
        self.ends = sorted(token for token in tokenizer.eos_token_ids if token is not None)
        """Tokens that end an answer."""
        self.step = step or STEP
        self._kv_bits = kv_bits
        self.generate: Any = importlib.import_module("mlx_lm.generate")
        self._caches: Any = importlib.import_module("mlx_lm.models.cache")
        fresh = self._caches.make_prompt_cache(model)
        self.layers = len(fresh)
        """Layers of the model: their caches come first, those of the draft follow."""
        if draft is not None and not all(map(self.can_cut, (fresh, self._of_draft()))):
            raise EngineFailed(
                "This model does not work with this draft: one of their caches cannot be cut.",
                "Load it without draft_model.",
            )
        self.always_cut = all(type(cache) is self._caches.KVCache for cache in fresh)
        """Whether a cache of it can be cut to any length. Others, with a window of tokens or a
        state of their whole text, only go on from where they were saved."""
        self.alone = self._why_alone(fresh)
        """Why it writes one answer at a time, as the end of a sentence; None where it need not."""
        self.parallel = 1 if self.alone else parallel or PARALLEL
        """Answers that are written at once."""

    def _why_alone(self, fresh: Sequence[Any]) -> str | None:
        if self.draft is not None:
            return "a draft model guesses for one answer at a time"
        if self._kv_bits is not None:
            return "mlx-lm's quantized KV cache holds one answer at a time"
        if not can_merge(fresh):
            return "mlx-lm cannot batch the KV caches of this model"
        return None

    # Caches

    def new_caches(self) -> list[Any]:
        """Empty caches, of the model's layers and then of the draft's."""
        caches = list(self._caches.make_prompt_cache(self.model)) + self._of_draft()
        if self._kv_bits is not None:
            # From the beginning: mlx-lm would replace them only later.
            bits, group = self._kv_bits
            for place, layer in enumerate(caches):
                if hasattr(layer, "to_quantized"):
                    caches[place] = layer.to_quantized(group_size=group, bits=bits)
        return caches

    def _of_draft(self) -> list[Any]:
        return [] if self.draft is None else list(self._caches.make_prompt_cache(self.draft))

    def can_cut(self, caches: Sequence[Any]) -> bool:
        """Whether tokens can be dropped from the end of these caches."""
        return bool(self._caches.can_trim_prompt_cache(caches))

    def cut(self, caches: Sequence[Any], count: int) -> None:
        """Drop tokens from the end of caches."""
        self._caches.trim_prompt_cache(caches, count)

    def hold(self, caches: Sequence[Any]) -> None:
        """Compute what caches consist of: until then they keep the batch that they come from.

        One layer after the other, so that no more than one is in memory twice.
        """
        for cache in caches:
            self.mx.eval(cache.state)

    def read(self, tokens: Sequence[int], caches: Sequence[Any], *, with_draft: bool) -> None:
        """Evaluate tokens of a prompt into caches."""
        own, drafted = caches[: self.layers], caches[self.layers :]
        with self.mx.stream(self.generate.generation_stream):
            for model, used in ((self.model, own), (self.draft if with_draft else None, drafted)):
                if model is not None:
                    model(self.mx.array(tokens)[None], cache=used)
                    self.mx.eval([layer.state for layer in used])
            self.mx.clear_cache()
