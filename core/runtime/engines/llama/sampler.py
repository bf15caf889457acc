"""Samples tokens with llama.cpp's samplers, held to a grammar, and tells log probabilities."""

from __future__ import annotations

import ctypes
import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from modeldeck.core.errors import InvalidRequest
from modeldeck.core.runtime.engines.base import PENALTY_WINDOW
from modeldeck.core.runtime.engines.bounds import Bounds
from modeldeck.core.runtime.grammar.matcher import GRAMMAR_S, Matcher
from modeldeck.core.runtime.text.answer_writer import token_text
from modeldeck.core.runtime.text.thought_guide import ThoughtGuide
from modeldeck.core.schema import GenerateRequest, TokenLogprob

N = TypeVar("N", int, float)

MIROSTAT_M = 100
"""Tokens by which Mirostat 1 estimates the distribution: llama.cpp's default."""
DRY_BREAKERS = ("\n", ":", '"', "*")
"""llama.cpp's default (common.h)."""


def _or(value: N | None, default: N) -> N:
    return default if value is None else value


def takes_likeliest(request: GenerateRequest) -> bool:
    """Whether each token of an answer without a grammar is simply the likeliest one.

    >>> takes_likeliest(GenerateRequest(temperature=0))
    True
    >>> takes_likeliest(GenerateRequest(temperature=0, repeat_penalty=1.1))
    False
    """
    penalties = request.repeat_penalty not in (None, 1.0)
    penalties = penalties or bool(request.frequency_penalty or request.presence_penalty)
    others = bool(request.dry_multiplier or request.logit_bias)
    return request.temperature == 0 and not penalties and not others


class SamplerChain:
    """The samplers of one request. Use as a context manager, which frees them."""

    def __init__(
        self,
        c: Any,
        context: Any,
        vocab: Any,
        request: GenerateRequest,
        matcher: Matcher | None,
        *,
        bounds: Bounds,
        guide: ThoughtGuide | None = None,
    ) -> None:
        """Make the samplers, in llama.cpp's own order and with its defaults.

        Args:
            c: llama.h, as llama-cpp-python binds it.
            context: `llama_context *`, whose logits are sampled.
            vocab: `llama_vocab *`.
            request: The request.
            matcher: Holds the answer to a grammar; of this request alone.
            bounds: Watches the time that the grammar takes.
            guide: Says where the grammar does not hold, and what is forced.

        Raises:
            InvalidRequest: A bias is of a token that the model has not.
        """
        self._c = c
        self._context = context
        self._vocab = vocab
        self._size = c.llama_vocab_n_tokens(vocab)
        self._top = request.logprobs
        self._bounds = bounds
        self._guide = guide
        self.likeliest = matcher is None and guide is None and takes_likeliest(request)
        """Whether the next token is simply the likeliest one: then `sample` need not be asked."""
        self._matcher = matcher
        self._greedy = takes_likeliest(request)
        self._numpy: Any = None
        self._records: Any = None
        """Room for `llama_token_data` of the whole vocabulary."""
        if matcher is not None or self._top is not None:
            self._numpy = importlib.import_module("numpy")
        if matcher is not None:
            self._tokens = self._numpy.arange(self._size, dtype=self._numpy.int32)
        self._window = 0
        """Tokens that samplers look back at."""
        samplers = list(self._samplers(request))  # it may raise, before anything is to be freed
        self._chain = c.llama_sampler_chain_init(c.llama_sampler_chain_default_params())
        for sampler in samplers:
            c.llama_sampler_chain_add(self._chain, sampler)

    def __enter__(self) -> SamplerChain:
        return self

    def __exit__(self, *_: object) -> None:
        self._c.llama_sampler_free(self._chain)

    def _samplers(self, request: GenerateRequest) -> Iterator[Any]:
        c = self._c
        if request.logit_bias:
            yield self._logit_bias(request.logit_bias)
        repeat = _or(request.repeat_penalty, 1.0)
        frequency, presence = request.frequency_penalty or 0.0, request.presence_penalty or 0.0
        if (repeat, frequency, presence) != (1.0, 0.0, 0.0):
            back = self._look_back(_or(request.repeat_last_n, PENALTY_WINDOW))
            yield c.llama_sampler_init_penalties(self._size, back, repeat, frequency, presence)
        if request.dry_multiplier:
            yield self._dry(request)
        temperature = _or(request.temperature, 0.8)
        # The default seed means: a random one.
        seed = c.LLAMA_DEFAULT_SEED if request.seed is None else request.seed & 0xFFFFFFFF
        if temperature == 0:
            yield c.llama_sampler_init_greedy()
        elif request.mirostat:
            yield c.llama_sampler_init_temp(temperature)
            tau, eta = _or(request.mirostat_tau, 5.0), _or(request.mirostat_eta, 0.1)
            if request.mirostat == 1:
                yield c.llama_sampler_init_mirostat(self._size, seed, tau, eta, MIROSTAT_M)
            else:
                yield c.llama_sampler_init_mirostat_v2(seed, tau, eta)
        else:
            yield from self._cutting(request, seed)
            yield c.llama_sampler_init_temp(temperature)
            yield c.llama_sampler_init_dist(seed)

    def _cutting(self, request: GenerateRequest, seed: int) -> Iterator[Any]:
        """The samplers that leave tokens out."""
        c = self._c
        if (request.top_n_sigma or 0) > 0:
            yield c.llama_sampler_init_top_n_sigma(request.top_n_sigma)
        yield c.llama_sampler_init_top_k(_or(request.top_k, 40))
        if _or(request.typical_p, 1.0) < 1:
            yield c.llama_sampler_init_typical(request.typical_p, 1)
        yield c.llama_sampler_init_top_p(_or(request.top_p, 0.95), 1)
        yield c.llama_sampler_init_min_p(_or(request.min_p, 0.05), 1)
        if request.xtc_probability:
            threshold = _or(request.xtc_threshold, 0.1)
            yield c.llama_sampler_init_xtc(request.xtc_probability, threshold, 1, seed)

    def _look_back(self, tokens: int) -> int:
        """Tokens to look back at; -1 is the whole context."""
        tokens = self._c.llama_n_ctx(self._context) if tokens < 0 else tokens
        self._window = max(self._window, tokens)
        return int(tokens)

    def _logit_bias(self, biases: Mapping[int, float]) -> Any:
        """Raises InvalidRequest for a token that the model has not."""
        if strange := [token for token in biases if not 0 <= token < self._size]:
            raise InvalidRequest(
                f"logit_bias names token {strange[0]}; this model has 0 to {self._size - 1}."
            )
        pairs = [self._c.llama_logit_bias(token, bias) for token, bias in biases.items()]
        array = (self._c.llama_logit_bias * len(pairs))(*pairs)
        return self._c.llama_sampler_init_logit_bias(self._size, len(pairs), array)

    def _dry(self, request: GenerateRequest) -> Any:
        breakers = [text.encode() for text in request.dry_sequence_breakers or DRY_BREAKERS]
        return self._c.llama_sampler_init_dry(
            self._vocab,
            request.dry_multiplier,
            _or(request.dry_base, 1.75),
            _or(request.dry_allowed_length, 2),
            self._look_back(_or(request.dry_penalty_last_n, -1)),
            (ctypes.c_char_p * len(breakers))(*breakers),
            len(breakers),
        )

    def accept_prompt(self, prompt: Sequence[int]) -> None:
        """Give the end of the prompt to the samplers that look back."""
        for token in prompt[-self._window :] if self._window else ():
            self._c.llama_sampler_accept(self._chain, token)

    def sample(self, place: int = -1) -> int | None:
        """The next token, from the logits at `place` of the last batch.

        None where the grammar has come to its end, or the vocabulary cannot go on with it. The
        logits stay as they are.
        """
        guide, matcher = self._guide, self._matcher
        if guide is None:
            return self._sample(place, matcher)
        token = guide.forced()
        by_grammar = False
        if token is not None:
            self._c.llama_sampler_accept(self._chain, token)
        else:
            holding = None if guide.free else matcher
            if (token := self._sample(place, holding)) is None:
                return None
            token = guide.instead(token)
            by_grammar = holding is not None and holding.took
        guide.took(token, by_grammar=by_grammar)
        return token

    def _sample(self, place: int, matcher: Matcher | None) -> int | None:
        """Sample a token, held to a grammar or freely."""
        if matcher is None:
            return int(self._c.llama_sampler_sample(self._chain, self._context, place))
        return self._bounds.watch(
            "The grammar", partial(self._held, matcher, place), cpu_s=GRAMMAR_S
        )

    def _held(self, matcher: Matcher, place: int) -> int | None:
        """Sample a token that the grammar admits; the penalties learn of no other."""
        token = matcher.choose(
            lambda: self._choose(place),
            lambda mask: self._choose(place, admitted=mask),
            besides=self._guide.openings if self._guide is not None else (),
        )
        if token is not None:
            self._c.llama_sampler_accept(self._chain, token)
        return token

    def _choose(self, place: int, admitted: bytes | None = None) -> int:
        """Sample from a copy of the logits at `place`, among the tokens whose bits are set."""
        numpy, tokens, logits = self._numpy, self._tokens, self._logits(place)
        if admitted is not None:
            bits = numpy.unpackbits(numpy.frombuffer(admitted, numpy.uint8), bitorder="little")
            tokens = numpy.flatnonzero(bits[: self._size].view(bool))
            logits = logits[tokens]
        if self._greedy:
            return int(tokens[logits.argmax()])
        if self._records is None:
            kinds = [("id", numpy.int32), ("logit", numpy.float32), ("p", numpy.float32)]
            self._records = numpy.zeros(self._size, kinds)
        records = self._records[: len(tokens)]
        records["id"] = tokens
        records["logit"] = logits
        array = self._c.llama_token_data_array(
            data=records.ctypes.data_as(self._c.llama_token_data_p),
            size=len(tokens),
            selected=-1,
            sorted=False,
        )
        self._c.llama_sampler_apply(self._chain, ctypes.byref(array))
        return int(array.data[array.selected].id)

    def _logits(self, place: int) -> Any:
        pointer = self._c.llama_get_logits_ith(self._context, place)
        return self._numpy.ctypeslib.as_array(pointer, (self._size,))

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
