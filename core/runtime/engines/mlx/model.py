"""Answers with a model that mlx-lm has loaded."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from functools import partial
from typing import Any

import msgspec

from modeldeck.core.errors import (
    Cancelled,
    ContextExceeded,
    DeckError,
    EngineFailed,
    InvalidRequest,
)
from modeldeck.core.runtime.engines import tool_formats
from modeldeck.core.runtime.engines.answer_writer import AnswerWriter, token_text
from modeldeck.core.runtime.engines.base import (
    GRAMMAR_S,
    PENALTY_WINDOW,
    READ_GRAMMAR_S,
    TOKENS_S,
    Emit,
    Flag,
)
from modeldeck.core.runtime.engines.chat import CHATML_STOP, check_tools, wants_tools
from modeldeck.core.runtime.engines.harmony import SIGNS as HARMONY_SIGNS
from modeldeck.core.runtime.engines.harmony import HarmonyStream, is_harmony
from modeldeck.core.runtime.engines.mlx.chat import MlxChat
from modeldeck.core.runtime.engines.mlx.grammar import GrammarSampler, GrammarVocabulary, Sample
from modeldeck.core.runtime.engines.mlx.text import Detokenizer, token_bytes
from modeldeck.core.runtime.engines.tool_calls import grammar_for
from modeldeck.core.runtime.process.messages import AnswerDone
from modeldeck.core.schema import GenerateRequest, KvCacheType, TokenLogprob

DRAFT_TOKENS = 4
"""Tokens that a draft model guesses at a time by default."""
STEP = 512
"""Tokens of a prompt that are read at once by default; cancelling takes effect in between."""
COLDEST = 1e-3
"""Below this temperature sampling is greedy: its inverse would overflow 16-bit floats."""


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


class MlxModel:
    """A model, its tokenizer, and the prompt cache of the last conversation."""

    def __init__(
        self,
        mx: Any,
        model: Any,
        tokenizer: Any,
        *,
        draft: Any,
        draft_tokens: int,
        context_length: int,
        vocabulary: int,
        step: int | None,
        kv_bits: tuple[int, int] | None,
        flag: Flag,
    ) -> None:
        """Use a loaded model.

        Args:
            mx: `mlx.core`.
            model: Made by `mlx_lm.utils.load_model`.
            tokenizer: `mlx_lm.tokenizer_utils.TokenizerWrapper`.
            draft: A draft model of the same vocabulary; None for none.
            draft_tokens: Tokens that it guesses at a time.
            context_length: Tokens of prompt and answer together; mlx-lm itself has no limit.
            vocabulary: Tokens of the vocabulary; 0 when not known.
            step: Tokens of a prompt read at once.
            kv_bits: Bits and group size of a quantized KV cache.
            flag: Cancels running work.
        """
        self._mx = mx
        self._model = model
        self._tokenizer = tokenizer
        self._draft = draft
        self._draft_tokens = draft_tokens
        self._context_length = context_length
        self._vocabulary = vocabulary
        self._step = step or STEP
        self._kv_bits = kv_bits
        self._flag = flag
        self._generate: Any = importlib.import_module("mlx_lm.generate")
        self._caches: Any = importlib.import_module("mlx_lm.models.cache")
        self._samples: Any = importlib.import_module("mlx_lm.sample_utils")
        self._layers = len(self._caches.make_prompt_cache(model))
        """Layers of the model: their caches come first, those of the draft follow."""
        if draft is not None and not all(
            self._caches.can_trim_prompt_cache(self._caches.make_prompt_cache(m))
            for m in (model, draft)
        ):
            raise EngineFailed(
                "This model does not work with this draft: one of their caches cannot be cut.",
                "Load it without draft_model.",
            )
        self._cache: list[Any] | None = None
        self._cached: list[int] = []
        """Tokens whose keys and values are in the cache, in order."""
        self._grammars = GrammarVocabulary(mx, tokenizer)
        self._chat = MlxChat(tokenizer, flag.bounds)
        self._special = frozenset(tokenizer.all_special_ids)
        self._template = str(tokenizer.chat_template or "")
        """All its templates, where it has several."""
        self._known: dict[str, int] = tokenizer.get_vocab()

    def generate(self, request: GenerateRequest, emit: Emit) -> AnswerDone:
        """Answer a request. Raises ContextExceeded when it does not fit the context."""
        prompt, stops, grammar = self._prompt(request)
        room = self._context_length - len(prompt)
        if room <= 0:
            raise ContextExceeded(
                f"The request has {len(prompt)} tokens, the context {self._context_length}.",
                "Send less, or load the model with a larger context length.",
            )
        harmony = bool(request.messages) and is_harmony(self._template)
        writer = AnswerWriter(
            request,
            stops,
            emit,
            limit=min(room, request.max_tokens or room),
            harmony=HarmonyStream() if harmony else None,
        )
        visible = self._ids(tool_formats.SIGNS) if wants_tools(request) else frozenset()
        if harmony:
            visible |= self._ids(HARMONY_SIGNS)
        sample = self._sampler(request)
        if grammar is not None:
            sample = self._flag.bounds.run(
                "Reading the grammar of the answer",
                partial(self._grammars.follow, grammar, sample),
                cpu_s=READ_GRAMMAR_S,
            )
        pieces = Detokenizer(
            self._tokenizer.detokenizer,
            self._special - visible,
            prompt if grammar is not None or not request.messages else [],
        )
        self._mx.reset_peak_memory()
        try:
            with closing(self._tokens(request, prompt, sample, writer.room)) as tokens:
                for token, likely in tokens:
                    if token in self._tokenizer.eos_token_ids:
                        writer.end()
                        break
                    if not writer.take(pieces.add(token), self._logprob(request, token, likely)):
                        break
        finally:
            held, peak = self._free_buffers()
        writer.rest(pieces.finish())
        return msgspec.structs.replace(
            writer.done(len(prompt)), engine_bytes=held, engine_peak_bytes=peak
        )

    def _ids(self, signs: Iterable[str]) -> frozenset[int]:
        """The tokens that are signs."""
        return frozenset(self._known[sign] for sign in signs if sign in self._known)

    def _logprob(self, request: GenerateRequest, token: int, likely: Any) -> TokenLogprob | None:
        """Log probabilities of a token and of the likeliest ones; None where not requested."""
        if request.logprobs is None:
            return None
        # In 16 bits, as of most models, probabilities do not add up to one.
        likely = likely.reshape(-1).astype(self._mx.float32)
        likely = likely - self._mx.logsumexp(likely)
        count = min(request.logprobs, likely.shape[-1])
        best: list[int] = []
        if count:
            found = self._mx.argpartition(-likely, count - 1)[:count].tolist()
            best = sorted(found, key=lambda i: (-likely[i].item(), i))
        return TokenLogprob(
            token=token_text(token_bytes(self._tokenizer, token)),
            logprob=likely[token].item(),
            top=tuple(
                (token_text(token_bytes(self._tokenizer, i)), likely[i].item()) for i in best
            ),
        )

    def _free_buffers(self) -> tuple[int, int]:
        """Free mlx's buffer cache; return its bytes in use and their peak."""
        peak = self._mx.get_peak_memory()
        self._mx.clear_cache()
        return self._mx.get_active_memory(), peak

    # Text to tokens, and back

    def _prompt(self, request: GenerateRequest) -> tuple[list[int], tuple[str, ...], str | None]:
        """The prompt's tokens, the stop strings, and the grammar of the answer."""
        check_tools(request, self._template)
        bounds = self._flag.bounds
        grammar = bounds.run(
            "The grammar of the answer",
            partial(grammar_for, request, self._template),
            cpu_s=GRAMMAR_S,
        )
        if request.messages:
            stops = (*request.stop, CHATML_STOP) if self._chat.has_no_template else request.stop
            return self._chat.tokens(request), stops, grammar
        tokens = bounds.run(
            "Turning the text into tokens",
            lambda: list(self._tokenizer.encode(request.prompt or "")),
            cpu_s=TOKENS_S,
        )
        if not tokens and self._tokenizer.bos_token_id is not None:
            tokens = [self._tokenizer.bos_token_id]
        if not tokens:
            raise InvalidRequest("There is nothing to continue.", "Send a prompt.")
        return tokens, request.stop, grammar

    # Generation

    def _tokens(
        self, request: GenerateRequest, prompt: list[int], sample: Sample, limit: int
    ) -> Generator[tuple[int, Any]]:
        """Generate the answer's tokens, each with the log probabilities of all tokens.

        Raises Cancelled when the flag is set, during the prompt or after it.
        """
        seed = request.seed
        self._mx.random.seed(int.from_bytes(os.urandom(8)) if seed is None else seed % (1 << 64))
        cache = self._reuse(prompt)
        text = list(prompt)
        steps = self._steps(request, prompt[len(self._cached) :], cache, sample, limit)
        try:
            with self._generate.wired_limit(self._model, [self._generate.generation_stream]):
                for token, likely, *_ in steps:
                    self._check_cancelled()
                    text.append(token)
                    yield token, likely
        except (DeckError, GeneratorExit):
            raise
        except Exception as error:
            raise EngineFailed(
                f"mlx could not go on: {' '.join(str(error).split())}.",
                "Send less, or unload another model." if "alloc" in str(error) else "",
            ) from error
        finally:
            steps.close()
            self._keep(cache, text)

    def _steps(
        self,
        request: GenerateRequest,
        rest: list[int],
        cache: list[Any],
        sample: Sample,
        limit: int,
    ) -> Generator[Any]:
        """Tokens of mlx-lm, with or without a draft, after reading `rest` of the prompt."""
        own, drafted = cache[: self._layers], cache[self._layers :]
        penalties = self._penalties(request)
        options = {
            "max_tokens": limit,
            "sampler": sample,
            "prefill_step_size": self._step,
        }
        # With a draft, mlx-lm counts tokens for penalties differently, and does not tell samplers
        # which tokens it drops, so the draft is not used then.
        if self._draft is None or penalties or isinstance(sample, GrammarSampler):
            yield from self._generate.generate_step(
                self._mx.array(rest),
                self._model,
                logits_processors=penalties,
                prompt_cache=own,
                prompt_progress_callback=lambda _done, _total: self._check_cancelled(),
                **options,
            )
            return
        # mlx-lm would read the prompt at once, without checking the flag.
        self._read(self._model, own, rest[:-1])
        self._read(self._draft, drafted, rest[:-1])
        yield from self._generate.speculative_generate_step(
            self._mx.array(rest[-1:]),
            self._model,
            self._draft,
            num_draft_tokens=self._draft_tokens,
            prompt_cache=cache,
            **options,
        )

    def _read(self, model: Any, cache: list[Any], tokens: list[int]) -> None:
        """Evaluate tokens into a cache. Raises Cancelled."""
        for start in range(0, len(tokens), self._step):
            self._check_cancelled()
            model(self._mx.array(tokens[start : start + self._step])[None], cache=cache)
            self._mx.eval([layer.state for layer in cache])

    def _check_cancelled(self) -> None:
        if self._flag:
            raise Cancelled("The request was cancelled.")

    def _reuse(self, prompt: list[int]) -> list[Any]:
        """Return a cache with the longest beginning of the prompt that the last request left.

        Afterwards `_cached` are its tokens. `_cache` is None until `_keep`, since the request may
        fail.
        """
        cache, self._cache = self._cache, None
        common = 0
        # The last token is always evaluated: sampling needs its logits.
        for old, new in zip(self._cached, prompt[:-1], strict=False):
            if old != new:
                break
            common += 1
        if cache is None or common == 0:
            self._cached = []
            return self._new_caches(self._model) + self._new_caches(self._draft)
        self._caches.trim_prompt_cache(cache, len(self._cached) - common)
        del self._cached[common:]
        return cache

    def _new_caches(self, model: Any) -> list[Any]:
        """Empty caches for a model's layers; none for no model."""
        if model is None:
            return []
        caches = list(self._caches.make_prompt_cache(model))
        if self._kv_bits is not None:
            # From the beginning: mlx-lm would replace them only later.
            bits, group = self._kv_bits
            for place, layer in enumerate(caches):
                if hasattr(layer, "to_quantized"):
                    caches[place] = layer.to_quantized(group_size=group, bits=bits)
        return caches

    def _keep(self, cache: list[Any], text: list[int]) -> None:
        """Keep the cache for the next request, if it can be shortened and its length is known."""
        self._cache, self._cached = None, []
        held = [getattr(layer, "offset", None) for layer in cache]
        sizes = [size for size in held if isinstance(size, int)]
        # A draft's cache may be shorter than the model's: both are cut to the common length.
        size = min(sizes, default=0)
        whole = len(sizes) == len(cache) and len(set(sizes[: self._layers])) == 1
        if self._flag or not whole or not 0 < size <= len(text):
            return
        if self._caches.can_trim_prompt_cache(cache):
            for layer, offset in zip(cache, sizes, strict=True):
                layer.trim(offset - size)
            self._cache, self._cached = cache, text[:size]

    def _sampler(self, request: GenerateRequest) -> Sample:
        """A sampler with the same defaults as for llama.cpp, so that engines answer alike."""
        make: Callable[..., Sample] = self._samples.make_sampler
        temperature = 0.8 if request.temperature is None else request.temperature
        if temperature < COLDEST:
            return make(temp=0.0)
        top_k = 40 if request.top_k is None else request.top_k
        return make(
            temp=temperature,
            # 0 means "no limit" to mlx-lm; here it leaves the likeliest token only.
            top_p=max(0.95 if request.top_p is None else request.top_p, 1e-6),
            min_p=0.05 if request.min_p is None else request.min_p,
            top_k=top_k if top_k < self._vocabulary else 0,
        )

    def _penalties(self, request: GenerateRequest) -> Any:
        repeat = None if request.repeat_penalty in (None, 1.0) else request.repeat_penalty
        return self._samples.make_logits_processors(
            repetition_penalty=repeat,
            repetition_context_size=PENALTY_WINDOW,
            presence_penalty=request.presence_penalty,
            presence_context_size=PENALTY_WINDOW,
            frequency_penalty=request.frequency_penalty,
            frequency_context_size=PENALTY_WINDOW,
        )
