"""Answers of mlx-lm held to a grammar, by llguidance: it says which tokens may come next.

llguidance is imported when the first grammar is asked for. It counts what a grammar costs and gives
one up that costs too much; what it would not survive is told from the grammar before it gets there,
or kept from mattering.
"""

from __future__ import annotations

import importlib
import platform
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from modeldeck.core.errors import EngineFailed, EngineMissing, InvalidRequest
from modeldeck.core.runtime.engines.heap import trim_heap
from modeldeck.core.runtime.grammar.lark import lark_of
from modeldeck.core.runtime.platforms import mlx_remedy
from modeldeck.core.storage.installation import this_installation

GRAMMAR_S = 1.0
"""Processor time that a grammar may take over one token. A cancellation is not heard meanwhile."""
ITEMS_IN_ROW = 20_000
"""Ways to go on that llguidance keeps for one character. Its own limit of 2,000 is met by sound
schemas with many optional properties."""
ITEMS = 1_000_000
"""The same for all tokens that it looks at, one after the other: some 50 ms."""
STACK_BYTES = 512 << 20
"""For reading a grammar: llguidance goes from rule to rule and into groups by recursion, 2.7 kB for
each, and `check_grammar` lets 65,000 through. Only what is used of it takes memory."""
AMBIGUOUS = "Make it say in one way only what may come next."

Sample = Callable[[Any], Any]
"""A sampler as mlx-lm has them: from logarithms of probabilities to a token."""


class GrammarVocabulary:
    """A model's vocabulary, as llguidance knows it."""

    def __init__(self, mx: Any, tokenizer: Any) -> None:
        """Take `mlx.core` and mlx-lm's tokenizer; nothing is done before a grammar is asked for."""
        self._mx = mx
        self._tokenizer = tokenizer
        self._vocabulary: Any = None

    def follow(self, grammar: str, sample: Sample) -> GrammarSampler:
        """A sampler that chooses as `sample` does, among the tokens that a checked grammar admits.

        Raises InvalidRequest for a grammar that is too much, or where the model's
        tokenizer does not let its answers be held to one, and EngineMissing without llguidance.
        """
        guide = _llguidance()
        if self._vocabulary is None:
            self._vocabulary = _vocabulary(guide, self._tokenizer)
        text = guide.LLMatcher.grammar_from_lark(lark_of(grammar))
        limits = guide.LLParserLimits(
            max_items_in_row=ITEMS_IN_ROW, step_max_items=ITEMS, verbose_errors=False
        )

        def read() -> Any:
            return guide.LLMatcher(self._vocabulary, text, log_level=0, limits=limits)

        matcher = _with_large_stack(read)
        if matcher.is_error():
            raise _refusal(matcher)
        return GrammarSampler(self._mx, matcher, sample, _ends(self._tokenizer))


class GrammarSampler:
    """The sampler of one answer, and how far the answer has come in its grammar."""

    def __init__(self, mx: Any, matcher: Any, sample: Sample, ends: list[int]) -> None:
        """Take llguidance's matcher, and the tokens that end an answer: it may end with any."""
        self._mx = mx
        self._matcher = matcher
        self._sample = sample
        self._ends = ends
        self._over = False

    def __call__(self, likely: Any) -> Any:
        """The next token; one that ends the answer where the vocabulary cannot go on.

        Raises InvalidRequest where the grammar takes too much time or room.
        """
        # mlx-lm asks one token ahead, also after the last one.
        if self._over or self._matcher.is_stopped():
            return self._end()
        started = time.thread_time()
        token = self._choose(likely)
        if token not in self._ends:
            self._matcher.consume_token(token)
            self._check()
        if time.thread_time() - started > GRAMMAR_S:
            raise InvalidRequest(
                f"The grammar is too ambiguous: one token took it over {GRAMMAR_S:g} s.", AMBIGUOUS
            )
        if token in self._ends:
            return self._end(token)
        return self._mx.array([token], dtype=self._mx.uint32)

    def _end(self, token: int | None = None) -> Any:
        self._over = True
        return self._mx.array([self._ends[0] if token is None else token], dtype=self._mx.uint32)

    def _choose(self, likely: Any) -> int:
        """Sample freely, and among what the grammar admits where that does not fit.

        To ask for one token takes microseconds, to look at a vocabulary milliseconds; mostly the
        grammar agrees with the model.
        """
        token = int(self._sample(likely).item())
        if self._admits(token):
            return token
        admitted = self._admitted(likely.shape[-1])
        likely = self._mx.where(admitted, likely.astype(self._mx.float32), -self._mx.inf)
        total = self._mx.logsumexp(likely)
        if total.item() == -self._mx.inf:
            return self._ends[0]
        # Samplers that add probabilities up (top_p) want them to come to one.
        return int(self._sample(likely - total).item())

    def _admits(self, token: int) -> bool:
        if token in self._ends:
            return bool(self._matcher.is_accepting())
        return bool(self._matcher.validate_tokens([token]))

    def _admitted(self, width: int) -> Any:
        """Which of the model's tokens the grammar admits; it may have more than the vocabulary."""
        mask = bytearray(self._matcher.compute_logit_bias()[:width].ljust(width, b"\0"))
        self._check()
        for end in self._ends:
            if end < width:
                mask[end] = self._matcher.is_accepting()
        return self._mx.array(memoryview(mask)) != 0

    def _check(self) -> None:
        """Raise InvalidRequest where llguidance gave up; that nothing can follow is an end."""
        if self._matcher.is_error() and not self._matcher.get_error().startswith("NoExtension"):
            raise _refusal(self._matcher)


def _llguidance() -> Any:
    """The library. Raises EngineMissing with the command that installs it."""
    remedy = mlx_remedy(sys.platform, platform.machine(), this_installation())
    try:
        return importlib.import_module("llguidance")
    except ImportError as error:
        raise EngineMissing(
            "llguidance, which holds answers of MLX to a grammar or JSON schema, is not installed.",
            remedy,
            details=(str(error),),
        ) from error


def _vocabulary(guide: Any, tokenizer: Any) -> Any:
    """The bytes of every token: 150,000 take a second, once, and 80 MiB as long as it is loaded."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or not _ends(tokenizer):
        raise InvalidRequest(
            "This model's tokenizer cannot hold an answer to a grammar or JSON schema: it has no "
            + ("tokenizer.json." if backend is None else "token that ends an answer."),
            "Take the GGUF version of the model, or ask for JSON in the prompt.",
        )
    try:
        # Slices speed up lexemes that are longer than the one character ours have.
        found = guide.LLTokenizer(backend.to_str(), eos_token=_ends(tokenizer), slices=[])
    except (ValueError, RuntimeError) as error:
        raise EngineFailed(
            f"llguidance does not take this model's tokenizer: {error}.",
            "Take the GGUF version of the model, or ask for JSON in the prompt.",
        ) from error
    trim_heap()  # it took twice as much to make
    return found


def _ends(tokenizer: Any) -> list[int]:
    return sorted(token for token in tokenizer.eos_token_ids if token is not None)


def _with_large_stack(work: Callable[[], Any]) -> Any:
    """The result of work that goes deep."""
    before = threading.stack_size(STACK_BYTES)
    try:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(work).result()
    except RuntimeError as error:  # no thread
        raise EngineFailed(
            f"The grammar could not be read: {error}.", "Memory is short: unload another model."
        ) from error
    finally:
        threading.stack_size(before)


def _refusal(matcher: Any) -> InvalidRequest:
    """The error for a grammar that llguidance gave up: it tells what went on after the first line.

    Most often that is one with too many ways to go on.
    """
    words = (matcher.get_error().splitlines() or [""])[0][:200].strip(". ")
    return InvalidRequest(f"llguidance could not follow this grammar: {words}.", AMBIGUOUS)
