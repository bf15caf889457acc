"""Holds answers of both engines to a grammar, by llguidance. It is imported with the first grammar.

llguidance says which tokens may come next: for one token in microseconds, for all of a vocabulary
in less than a millisecond mostly. It has limits on the cost of a grammar. GBNF that would crash it
is refused before, by `modeldeck.core.runtime.grammar.gbnf`, or read with a large stack.
"""

from __future__ import annotations

import importlib
import re
import threading
import time
from collections.abc import Callable, Container
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from modeldeck.core.errors import EngineFailed, EngineMissing, InvalidRequest
from modeldeck.core.runtime.engines.heap import trim_heap
from modeldeck.core.runtime.grammar.answer_grammar import AnswerGrammar
from modeldeck.core.runtime.platforms import grammar_remedy
from modeldeck.core.storage.installation import this_installation

GRAMMAR_S, TOKEN_S = 1.0, 0.02
"""Processor seconds that a grammar may take for one token, and for each of many: other answers wait
meanwhile, and nothing cancels it."""
ITEMS_IN_ROW = 20_000
"""Parser items that llguidance keeps for one character. Valid schemas with many optional properties
exceed its own limit of 2,000."""
ITEMS = 1_000_000
"""Parser items for all tokens of one step: about 50 ms."""
STATES = 100_000
"""States of the lexer for a whole answer, of 1 to 2 kB each."""
STACK_BYTES = 512 << 20
"""Stack for reading a grammar: llguidance recurses into rules and groups, 2.7 kB for each, and
`check_grammar` admits 65,000. Only the used part takes memory."""
SLICES = [r"[a-z]{1,30}", r'[^"\\\x00-\x1F\x7F]{1,30}']
"""Words, and text of JSON strings, whose tokens a vocabulary holds once more: where all of a slice
may come, none of its tokens is looked at, which takes an eighth of the time on average. 25 MiB for
150,000 tokens; llguidance's own four slices take 57, and are no faster."""
AMBIGUOUS = "Let it describe each continuation in one way only."

_PLACE = re.compile(r"^at \d+\(\d+\): |failed to compile JSON schema: ")
_END = "NoExtension"
"""Beginning of llguidance's error for a text that nothing can follow, which is only its end."""


class GrammarVocabulary:
    """Makes matchers for grammars; holds a model's vocabulary in llguidance's form."""

    def __init__(self, make: Callable[[Any], Any]) -> None:
        """`make` is called with llguidance by the first grammar, and returns its `LLTokenizer`."""
        self._make = make
        self._made: Any = None

    def matcher(self, grammar: AnswerGrammar) -> Matcher:
        """Read a grammar: the first of its forms that llguidance takes.

        Raises:
            InvalidRequest: It takes none, or no answer is admitted.
            EngineMissing: llguidance is not installed.
        """
        guide = _llguidance()
        if self._made is None:
            self._made = self._make(guide)
            trim_heap()  # making it took twice the memory
        return _with_large_stack(lambda: self._first(guide, grammar))

    def _first(self, guide: Any, grammar: AnswerGrammar) -> Matcher:
        limits = guide.LLParserLimits(
            max_items_in_row=ITEMS_IN_ROW,
            step_max_items=ITEMS,
            max_lexer_states=STATES,
            verbose_errors=False,
        )
        refusals: list[InvalidRequest] = []
        for form in grammar.forms:
            text = guide.LLMatcher.grammar_from_lark(form)
            found = guide.LLMatcher(self._made, text, log_level=0, limits=limits)
            matcher = Matcher(found, self._made, grammar.what)
            try:
                matcher.check_start()
            except InvalidRequest as error:
                refusals.append(error)
            else:
                return matcher
        raise refusals[0]


class Matcher:
    """The position of one answer in its grammar."""

    def __init__(self, matcher: Any, vocabulary: Any, what: str) -> None:
        """Use llguidance's `LLMatcher` and `LLTokenizer`; `what` names the grammar in errors."""
        self._matcher = matcher
        self._size = int(vocabulary.vocab_size)
        self._ends = frozenset(vocabulary.eos_tokens)
        self._what = what
        self._ended = False
        self._left_s = GRAMMAR_S
        """Processor seconds that it may take now: `TOKEN_S` more with each token."""
        self.took = False
        """Whether the last token chosen is part of what the grammar describes."""

    def check_start(self) -> None:
        """Raise InvalidRequest for a grammar that llguidance does not take, or without answers."""
        matcher = self._matcher
        if not matcher.is_error() and not matcher.is_accepting():
            matcher.compute_bitmask()
        if not matcher.is_error():
            return
        if matcher.get_error().startswith(_END):
            raise InvalidRequest(f"The {self._what} admits no answer.")
        raise self._refusal()

    def choose(
        self,
        free: Callable[[], int],
        held: Callable[[bytes], int],
        *,
        besides: Container[int] = (),
    ) -> int | None:
        """Return the next token, and go on by it; None where the answer ends.

        The choice is made freely first: checking one token takes microseconds, the vocabulary
        longer, and mostly the first choice is admitted.

        Args:
            free: Samples among all tokens.
            held: Samples among those whose bits are set, from the lowest bit of the first byte on.
            besides: Tokens that may come although the grammar has no place for them, such as one
                that begins a thought. It does not go on by them.

        Raises:
            InvalidRequest: The grammar takes too much time or memory.
        """
        self.took = False
        if self._ended or self._matcher.is_stopped():
            return None
        self._left_s = min(GRAMMAR_S, self._left_s + TOKEN_S)
        token = free()
        if not self._timed(lambda: token < self._size and self._matcher.validate_tokens([token])):
            if token in besides:
                return token
            mask = self._timed(self._matcher.compute_bitmask)
            if self._matcher.is_stopped():
                return None  # nothing of the vocabulary can follow
            token = held(mask)
        self._timed(lambda: self._matcher.consume_token(token))
        self._ended = token in self._ends
        self.took = not self._ended
        return token

    def _timed(self, work: Callable[[], Any]) -> Any:
        """Let llguidance work. Raises InvalidRequest where it failed, or took too much time."""
        started = time.thread_time()
        found = work()
        self._left_s -= time.thread_time() - started
        self._check()
        if self._left_s < 0:
            raise InvalidRequest(
                f"The {self._what} is too ambiguous: it takes over {GRAMMAR_S:g} s for one token, "
                f"or {TOKEN_S:g} s for each.",
                AMBIGUOUS,
            )
        return found

    def _check(self) -> None:
        """Raise InvalidRequest where llguidance failed."""
        if self._matcher.is_error() and not self._matcher.get_error().startswith(_END):
            raise self._refusal()

    def _refusal(self) -> InvalidRequest:
        """The error for a grammar that llguidance does not take or cannot follow, in its words."""
        text = self._matcher.get_error()
        lines = [line for line in text.splitlines() if line] or [""]
        if "regex parse error" in text:
            reason = next((line for line in lines if line.startswith("error: ")), lines[0])
            lines[0] = f"a pattern is wrong: {reason.removeprefix('error: ')}"
        words = _PLACE.sub("", lines[0])[:200].strip(". ")
        if "limit" in words or "too" in words:
            return InvalidRequest(f"The {self._what} cannot be followed: {words}.", AMBIGUOUS)
        return InvalidRequest(f"No answer can be held to the {self._what}: {words}.", "Change it.")


def _llguidance() -> Any:
    """Import llguidance. Raises EngineMissing with the command that installs it."""
    try:
        return importlib.import_module("llguidance")
    except ImportError as error:
        raise EngineMissing(
            "llguidance, which holds answers to a grammar or JSON schema, is not installed.",
            grammar_remedy(this_installation()),
            details=(str(error),),
        ) from error


def _with_large_stack(work: Callable[[], Matcher]) -> Matcher:
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
