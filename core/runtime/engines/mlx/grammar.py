"""Constrains answers of mlx-lm to a grammar by llguidance, which computes the allowed next tokens.

llguidance is imported with the first grammar. It has limits on the cost of a grammar; grammars that
would crash it are refused before by `modeldeck.core.runtime.grammar.gbnf`, or parsed with a large
stack.
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
"""Processor seconds that a grammar may take for one token; it cannot be cancelled meanwhile."""
ITEMS_IN_ROW = 20_000
"""Parser items that llguidance keeps for one character. Valid schemas with many optional properties
exceed its own limit of 2,000."""
ITEMS = 1_000_000
"""Parser items for all tokens of one step: about 50 ms."""
STACK_BYTES = 512 << 20
"""Stack for parsing a grammar: llguidance recurses into rules and groups, 2.7 kB for each, and
`check_grammar` admits 65,000. Only the used part takes memory."""
AMBIGUOUS = "Let it describe each continuation in one way only."

Sample = Callable[[Any], Any]
"""A sampler of mlx-lm: from log probabilities to a token."""


class GrammarVocabulary:
    """Makes samplers for grammars; holds a model's vocabulary for llguidance."""

    def __init__(self, mx: Any, tokenizer: Any) -> None:
        """`mx` is `mlx.core`, `tokenizer` mlx-lm's; the vocabulary is made by the first grammar."""
        self._mx = mx
        self._tokenizer = tokenizer
        self._vocabulary: Any = None

    def follow(self, grammar: str, sample: Sample) -> GrammarSampler:
        """Return a sampler that samples with `sample` among the tokens that a grammar admits.

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
    """The sampler of one answer, with its position in the grammar."""

    def __init__(self, mx: Any, matcher: Any, sample: Sample, ends: list[int]) -> None:
        """`matcher` is llguidance's; `ends` are all tokens that end an answer."""
        self._mx = mx
        self._matcher = matcher
        self._sample = sample
        self._ends = ends
        self._ended = False
        self.took = False
        """Whether the last token was one that the grammar took."""

    def __call__(self, likely: Any, *, openings: frozenset[int] = frozenset()) -> Any:
        """Sample the next token; one that ends the answer where no token can follow.

        `openings` are tokens that may come although the grammar does not admit them. Raises
        InvalidRequest where the grammar takes too much time or memory.
        """
        # mlx-lm samples one token ahead, also after the last one.
        if self._ended or self._matcher.is_stopped():
            return self._end()
        started = time.thread_time()
        token = self._choose(likely, openings)
        if self.took:
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
        self._ended = True
        return self._mx.array([self._ends[0] if token is None else token], dtype=self._mx.uint32)

    def _choose(self, likely: Any, openings: frozenset[int]) -> int:
        """Sample freely; if the grammar does not admit the token, sample among those it admits.

        Checking one token takes microseconds, the vocabulary milliseconds, and mostly the first
        choice is admitted.
        """
        token = int(self._sample(likely).item())
        admitted = self._admits(token)
        self.took = token not in self._ends and (admitted or token not in openings)
        if admitted or token in openings:
            return token
        admitted = self._admitted(likely.shape[-1])
        likely = self._mx.where(admitted, likely.astype(self._mx.float32), -self._mx.inf)
        total = self._mx.logsumexp(likely)
        if total.item() == -self._mx.inf:
            self.took = False
            return self._ends[0]
        # Samplers that add up probabilities (top_p) need them normalized.
        token = int(self._sample(likely - total).item())
        self.took = token not in self._ends
        return token

    def _admits(self, token: int) -> bool:
        if token in self._ends:
            return bool(self._matcher.is_accepting())
        return bool(self._matcher.validate_tokens([token]))

    def _admitted(self, width: int) -> Any:
        """Mask of the tokens that the grammar admits; `width` may exceed the vocabulary."""
        mask = bytearray(self._matcher.compute_logit_bias()[:width].ljust(width, b"\0"))
        self._check()
        for end in self._ends:
            if end < width:
                mask[end] = self._matcher.is_accepting()
        return self._mx.array(memoryview(mask)) != 0

    def _check(self) -> None:
        """Raise InvalidRequest where llguidance failed; "NoExtension" is only the end."""
        if self._matcher.is_error() and not self._matcher.get_error().startswith("NoExtension"):
            raise _refusal(self._matcher)


def _llguidance() -> Any:
    """Import llguidance. Raises EngineMissing with the command that installs it."""
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
    """Llguidance's form of the vocabulary: 150,000 tokens take a second, once, and 80 MiB."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or not _ends(tokenizer):
        raise InvalidRequest(
            "This model's tokenizer does not support a grammar or JSON schema: it has no "
            + ("tokenizer.json." if backend is None else "token that ends an answer."),
            "Take the GGUF version of the model, or ask for JSON in the prompt.",
        )
    try:
        # Slices speed up lexemes of several characters; here each has one.
        found = guide.LLTokenizer(backend.to_str(), eos_token=_ends(tokenizer), slices=[])
    except (ValueError, RuntimeError) as error:
        raise EngineFailed(
            f"llguidance does not take this model's tokenizer: {error}.",
            "Take the GGUF version of the model, or ask for JSON in the prompt.",
        ) from error
    trim_heap()  # making it took twice the memory
    return found


def _ends(tokenizer: Any) -> list[int]:
    return sorted(token for token in tokenizer.eos_token_ids if token is not None)


def _with_large_stack(work: Callable[[], Any]) -> Any:
    """Run deeply recursive work on a thread with a large stack."""
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
    """The error for a grammar that llguidance failed on, with the first line of its text.

    Most often the grammar is too ambiguous.
    """
    words = (matcher.get_error().splitlines() or [""])[0][:200].strip(". ")
    return InvalidRequest(f"llguidance could not follow this grammar: {words}.", AMBIGUOUS)
