"""Samples tokens with llama.cpp: its sampler chain, a grammar, and log probabilities."""

from __future__ import annotations

import ctypes
import importlib
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from modeldeck.core.errors import InvalidRequest
from modeldeck.core.runtime.engines.answer_writer import token_text
from modeldeck.core.runtime.engines.base import PENALTY_WINDOW
from modeldeck.core.runtime.engines.bounds import Bounds
from modeldeck.core.schema import GenerateRequest, TokenLogprob

GRAMMAR_S = 1.0
"""Processor seconds that a grammar may take for one token: an ambiguous one takes more with each
token. It cannot be cancelled meanwhile; far beyond this, the process is replaced."""


def takes_likeliest(request: GenerateRequest) -> bool:
    """Whether each token of an answer without a grammar is simply the likeliest one.

    >>> takes_likeliest(GenerateRequest(temperature=0))
    True
    >>> takes_likeliest(GenerateRequest(temperature=0, repeat_penalty=1.1))
    False
    """
    penalties = request.repeat_penalty not in (None, 1.0)
    penalties = penalties or bool(request.frequency_penalty or request.presence_penalty)
    return request.temperature == 0 and not penalties


class SamplerChain:
    """The samplers of one request. Use as a context manager, which frees them."""

    def __init__(
        self,
        c: Any,
        context: Any,
        vocab: Any,
        request: GenerateRequest,
        grammar: str | None,
        *,
        bounds: Bounds,
    ) -> None:
        """Make the samplers, in llama.cpp's own order and with its defaults.

        Args:
            c: llama.h, as llama-cpp-python binds it.
            context: `llama_context *`, whose logits are sampled.
            vocab: `llama_vocab *`.
            request: The request.
            grammar: The grammar of the answer; it was checked.
            bounds: Watches the time that the grammar takes.

        Raises:
            InvalidRequest: llama.cpp does not take the grammar.
        """
        self._c = c
        self._context = context
        self._vocab = vocab
        self._size = c.llama_vocab_n_tokens(vocab)
        self._top = request.logprobs
        self._bounds = bounds
        self.likeliest = grammar is None and takes_likeliest(request)
        """Whether the next token is simply the likeliest one: then `sample` need not be asked."""
        self._grammar: Any = None
        self._numpy: Any = None
        if grammar is not None or self._top is not None:
            self._numpy = importlib.import_module("numpy")
        if grammar is not None:
            self._grammar = c.llama_sampler_init_grammar(vocab, grammar.encode(), b"root")
            if not self._grammar:
                raise InvalidRequest("llama.cpp does not take this grammar.", "See its log.")
        self._chain = c.llama_sampler_chain_init(c.llama_sampler_chain_default_params())
        for sampler in self._samplers(request):
            c.llama_sampler_chain_add(self._chain, sampler)

    def __enter__(self) -> SamplerChain:
        return self

    def __exit__(self, *_: object) -> None:
        self._c.llama_sampler_free(self._chain)
        if self._grammar:
            self._c.llama_sampler_free(self._grammar)

    def _samplers(self, request: GenerateRequest) -> Iterator[Any]:
        c = self._c
        repeat = 1.0 if request.repeat_penalty is None else request.repeat_penalty
        frequency, presence = request.frequency_penalty or 0.0, request.presence_penalty or 0.0
        if (repeat, frequency, presence) != (1.0, 0.0, 0.0):
            yield c.llama_sampler_init_penalties(
                self._size, PENALTY_WINDOW, repeat, frequency, presence
            )
        temperature = 0.8 if request.temperature is None else request.temperature
        if temperature == 0:
            yield c.llama_sampler_init_greedy()
            return
        yield c.llama_sampler_init_top_k(40 if request.top_k is None else request.top_k)
        yield c.llama_sampler_init_top_p(0.95 if request.top_p is None else request.top_p, 1)
        yield c.llama_sampler_init_min_p(0.05 if request.min_p is None else request.min_p, 1)
        yield c.llama_sampler_init_temp(temperature)
        seed = c.LLAMA_DEFAULT_SEED if request.seed is None else request.seed & 0xFFFFFFFF
        yield c.llama_sampler_init_dist(seed)  # the default seed means: a random one

    def accept_prompt(self, prompt: Sequence[int]) -> None:
        """Give the end of the prompt to the penalties."""
        for token in prompt[-PENALTY_WINDOW:]:
            self._c.llama_sampler_accept(self._chain, token)

    def sample(self, place: int = -1) -> int | None:
        """The next token, from the logits at `place` of the last batch.

        None when the grammar leaves no token: the vocabulary cannot go on with it.
        """
        if self._grammar is None:
            return int(self._c.llama_sampler_sample(self._chain, self._context, place))
        started = time.thread_time()
        token = self._bounds.watch(
            "The grammar", partial(self._sample_by_grammar, place), cpu_s=GRAMMAR_S
        )
        if time.thread_time() - started > GRAMMAR_S:
            raise InvalidRequest(
                f"The grammar is too ambiguous: one token took it over {GRAMMAR_S:g} s.",
                "Let it describe each continuation in one way only.",
            )
        return token

    def _sample_by_grammar(self, place: int) -> int | None:
        """Sample freely; if the grammar does not admit the token, sample among those it admits.

        Checking every token of the vocabulary is slow, and mostly the first choice is admitted.
        llama.cpp's own programs do the same (common/sampling.cpp).
        """
        c = self._c
        token = self._choose(self._candidates(place))
        if not self._admits(token):
            candidates = self._candidates(place)
            c.llama_sampler_apply(self._grammar, ctypes.byref(candidates.array))
            if candidates.records["logit"].max() == -self._numpy.inf:
                return None
            token = self._choose(candidates)
        c.llama_sampler_accept(self._chain, token)
        if not c.llama_vocab_is_eog(self._vocab, token):
            c.llama_sampler_accept(self._grammar, token)
        return token

    def _choose(self, candidates: _Candidates) -> int:
        self._c.llama_sampler_apply(self._chain, ctypes.byref(candidates.array))
        return int(candidates.array.data[candidates.array.selected].id)

    def _admits(self, token: int) -> bool:
        single = _Candidates(self._c, self._numpy, [token], [1.0])
        self._c.llama_sampler_apply(self._grammar, ctypes.byref(single.array))
        return bool(single.records["logit"][0] != -self._numpy.inf)

    def _logits(self, place: int) -> Any:
        pointer = self._c.llama_get_logits_ith(self._context, place)
        return self._numpy.ctypeslib.as_array(pointer, (self._size,))

    def _candidates(self, place: int) -> _Candidates:
        ids = self._numpy.arange(self._size)
        return _Candidates(self._c, self._numpy, ids, self._logits(place))

    def logprob(
        self, token: int, piece: Callable[[int], bytes], place: int = -1
    ) -> TokenLogprob | None:
        """Log probabilities of a token and of the likeliest ones; None where not requested.

        They are those of the model, before temperature and other samplers.
        """
        if self._top is None:
            return None
        numpy = self._numpy
        logits = self._logits(place).astype(numpy.float64)
        highest = logits.max()
        total = highest + numpy.log(numpy.exp(logits - highest).sum())
        count = min(self._top, self._size)
        best = numpy.argpartition(-logits, count - 1)[:count] if count else []
        best = sorted((int(i) for i in best), key=lambda i: (-logits[i], i))
        return TokenLogprob(
            token=token_text(piece(token)),
            logprob=float(logits[token] - total),
            top=tuple((token_text(piece(i)), float(logits[i] - total)) for i in best),
        )


class _Candidates:
    """Tokens and their logits, as llama.cpp's samplers take them."""

    def __init__(self, c: Any, numpy: Any, ids: Any, logits: Any) -> None:
        kinds = [("id", numpy.int32), ("logit", numpy.float32), ("p", numpy.float32)]
        self.records = numpy.empty(len(ids), kinds)
        self.records["id"] = ids
        self.records["logit"] = logits
        self.records["p"] = 0.0
        self.array = c.llama_token_data_array(
            data=self.records.ctypes.data_as(c.llama_token_data_p),
            size=len(ids),
            selected=-1,
            sorted=False,
        )
