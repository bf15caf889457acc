"""Ends a thought at its budget, and lets a grammar hold only after the thought. Pure.

A sampler asks before each token: is it forced, and does the grammar hold? A grammar that describes
the thought itself, as a client may send one, holds from the first token.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from modeldeck.core.runtime.text.chat_prompt import ChatPrompt
from modeldeck.core.runtime.text.text_streams import Utf8Stream
from modeldeck.core.runtime.text.thoughts import Splitter
from modeldeck.core.schema import GenerateRequest

ENOUGH = "\n\nThat is enough; I answer now.\n"
"""Ends a thought whose budget is used up: models go on better after a whole sentence."""


def guide_for(
    prompt: ChatPrompt | None,
    request: GenerateRequest,
    *,
    held: bool,
    tokenize: Callable[[str], Sequence[int]],
    piece: Callable[[int], bytes],
) -> ThoughtGuide | None:
    """The guide of an answer; None for one that needs none. Arguments are those of ThoughtGuide."""
    if prompt is None or not (held or request.thinking_budget is not None):
        return None
    if held and not prompt.may_think:
        return None  # the grammar holds from the first token
    return ThoughtGuide(
        prompt.splitter(),
        budget=request.thinking_budget,
        held=held,
        tokenize=tokenize,
        piece=piece,
    )


class ThoughtGuide:
    """Follows one answer, token by token, for its sampler."""

    def __init__(
        self,
        splitter: Splitter,
        *,
        budget: int | None,
        held: bool,
        tokenize: Callable[[str], Sequence[int]],
        piece: Callable[[int], bytes],
    ) -> None:
        """Begin an answer.

        Args:
            splitter: Splits the answer; of this object alone.
            budget: Most tokens of thought; None for no limit.
            held: Whether the answer must follow a grammar.
            tokenize: Tokens of a text; the names of special tokens in it are these tokens.
            piece: The text of a token.
        """
        self._splitter = splitter
        self._budget = budget
        self._held = held
        self._tokenize = tokenize
        self._piece = piece
        self._decoder = Utf8Stream()
        self._queue: list[int] = []
        """Tokens to force."""
        self._thought = 0
        """Tokens of thought so far."""
        self._from_begin = False
        """Whether the grammar describes the thought too."""

    @property
    def free(self) -> bool:
        """Whether the grammar does not hold for the next token."""
        return not self._held or (self._splitter.free and not self._from_begin)

    @property
    def openings(self) -> frozenset[int]:
        """Tokens that begin a thought here, so that the grammar need not admit them."""
        if self._from_begin:
            return frozenset()
        return frozenset(
            tokens[0] for marker in self._splitter.openings if (tokens := self._tokenize(marker))
        )

    def forced(self) -> int | None:
        """The token that must come next; None where the model chooses."""
        if not self._queue:
            self._queue = list(self._tokenize(self._due()))
        return self._queue.pop(0) if self._queue else None

    def _due(self) -> str:
        """Text that must come next; empty where the model chooses."""
        splitter = self._splitter
        if splitter.thinking and self._budget is not None and self._thought >= self._budget:
            end = splitter.closing(settled=self._held)
            # No sentence where the model has begun to write the end itself.
            return ENOUGH + end if self._budget and end.startswith(("<", "[")) else end
        return splitter.wanted if self._held and not self._from_begin else ""

    def instead(self, token: int) -> int:
        """The token to take for the one that the model chose.

        One that ends the thought and begins the answer at once would escape the grammar: the rest
        of the end is forced first.
        """
        splitter = self._splitter
        if not (self._held and splitter.thinking and not self._from_begin):
            return token
        if splitter.spills(self._piece(token).decode("utf-8", "replace")):
            self._queue = list(self._tokenize(splitter.closing(settled=True)))
            return self._queue.pop(0) if self._queue else token
        return token

    def took(self, token: int, *, by_grammar: bool) -> None:
        """Note the next token; `by_grammar` where the grammar has taken it."""
        before = self._splitter.thinking
        if by_grammar and self._splitter.openings:
            self._from_begin = True
        self._splitter.feed(self._decoder.feed(self._piece(token)))
        self._thought += before
