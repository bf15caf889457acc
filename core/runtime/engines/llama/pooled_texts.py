"""Embeds and ranks texts, those of several requests in one evaluation.

Each text is a sequence of the context, and what the model makes of it is pooled by sequence. Texts
of all requests in work take turns, so that a long list holds up no other request.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from modeldeck.core.errors import Cancelled, DeckError, InvalidRequest
from modeldeck.core.runtime.engines.base import Flag
from modeldeck.core.runtime.engines.llama import ranking
from modeldeck.core.runtime.engines.llama.batch import TokenBatch
from modeldeck.core.runtime.engines.llama.loader import POOLING_LAST, POOLING_RANK
from modeldeck.core.runtime.engines.llama.log import EngineLog, failure
from modeldeck.core.runtime.engines.llama.prompt import PromptReader
from modeldeck.core.runtime.process.messages import (
    CommandFailed,
    EmbedTexts,
    EngineReport,
    RankTexts,
    TextsEmbedded,
    TextsRanked,
)
from modeldeck.core.schema import TextScore, TextVector
from modeldeck.core.schema.errors import to_info

ROWS = 512
"""Tokens of several texts in one evaluation: attention looks at all pairs of them, so that more of
them at once are no faster."""
RANKERS = "Rerankers rank (/v1/rerank), embedding models make vectors (/v1/embeddings)."

Tokens = list[int]


@dataclass(slots=True, eq=False)
class TextsInWork:
    """A request for vectors or scores."""

    number: int
    ranks: bool
    texts: deque[Tokens]
    """The texts that are not read yet."""
    vectors: list[TextVector] = field(default_factory=list)
    scores: list[TextScore] = field(default_factory=list)
    paused: bool = False

    @property
    def report(self) -> EngineReport:
        """The answer."""
        if self.ranks:
            return TextsRanked(id=self.number, scores=tuple(self.scores))
        return TextsEmbedded(id=self.number, vectors=tuple(self.vectors))


def choose(lengths: Sequence[Sequence[int]], *, sequences: int, rows: int) -> list[int]:
    """The requests whose next text is read now, by index, one for each text. Pure.

    They take turns, as long as their texts fit `rows` tokens; the first text is always read.

    >>> choose([[5, 5, 5], [3], [90]], sequences=4, rows=20)
    [0, 1, 0, 0]
    """
    found: list[int] = []
    taken = [0] * len(lengths)
    open_ = deque(index for index, texts in enumerate(lengths) if texts)
    while open_ and len(found) < sequences:
        index = open_.popleft()
        length = lengths[index][taken[index]]
        if found and length > rows:
            continue
        rows -= length
        found.append(index)
        taken[index] += 1
        if taken[index] < len(lengths[index]):
            open_.append(index)
    return found


class PooledTexts:
    """The requests for vectors or scores in work."""

    def __init__(
        self, c: Any, model: Any, context: Any, prompts: PromptReader, flag: Flag, log: EngineLog
    ) -> None:
        """Use a context that was made for embeddings; other arguments are those of LlamaContext."""
        self._c = c
        self._model = model
        self._context = context
        self._prompts = prompts
        self._flag = flag
        self._log = log
        self._sequences = c.llama_n_seq_max(context)
        self._size = c.llama_n_batch(context)
        pooling = c.llama_pooling_type(context)
        self._ranks = pooling == POOLING_RANK
        self._memory = c.llama_get_memory(context)
        self._room = self._size
        if self._memory and pooling == POOLING_LAST:
            self._room = c.llama_n_ctx(context)
        vocabulary = c.llama_vocab_n_tokens(c.llama_model_get_vocab(model))
        self._batch = TokenBatch(c, context, self._sequences, vocabulary)
        self._in_work: dict[int, TextsInWork] = {}

    # Requests

    def begin(self, number: int, command: EmbedTexts | RankTexts) -> None:
        """Take a request in.

        Raises InvalidRequest for what the model does not do, and for a text that is longer than it
        can read.
        """
        ranks = isinstance(command, RankTexts)
        if ranks and not self._ranks:
            raise InvalidRequest("This model does not rank texts.", RANKERS)
        if self._ranks and not ranks:
            raise InvalidRequest("This model ranks texts, and makes no vectors.", RANKERS)
        texts = deque(self._tokens(command, text) for text in command.texts)
        self._in_work[number] = TextsInWork(number, ranks, texts)

    def _tokens(self, command: EmbedTexts | RankTexts, text: str) -> Tokens:
        if isinstance(command, RankTexts):
            read = partial(self._prompts.tokens_of, special=False)
            tokens = ranking.pair_tokens(self._c, self._model, read, command.query, text)
        else:
            tokens = self._prompts.tokens_of(text, special=True)
            if command.truncate:
                tokens = tokens[: self._room]
        if not 0 < len(tokens) <= self._room:
            raise InvalidRequest(
                f"A text to embed has 1 to {self._room} tokens, not {len(tokens)}."
            )
        return tokens

    def cancel(self, number: int) -> None:
        """Forget a request."""
        self._in_work.pop(number, None)

    def set_paused(self, number: int, paused: bool) -> None:
        """Read nothing more of a request for now, or go on with it."""
        if number in self._in_work:
            self._in_work[number].paused = paused

    def reset(self) -> None:
        """Forget all requests."""
        self._in_work.clear()

    @property
    def idle(self) -> bool:
        """Whether no request is in work."""
        return not self._in_work

    @property
    def working(self) -> bool:
        """Whether a request is in work that is not paused."""
        return any(not work.paused for work in self._in_work.values())

    # Turns

    def step(self) -> list[EngineReport]:
        """Evaluate as many texts as fit, and report the requests that are complete.

        Raises Cancelled where all of them are cancelled.
        """
        active = [work for work in self._in_work.values() if not work.paused]
        lengths = [[len(text) for text in work.texts] for work in active]
        rows = min(ROWS, self._size)
        works = [active[at] for at in choose(lengths, sequences=self._sequences, rows=rows)]
        texts = [work.texts.popleft() for work in works]
        involved = list(dict.fromkeys(works))
        try:
            self._read(texts)
            for sequence, (work, text) in enumerate(zip(works, texts, strict=True)):
                self._take(work, sequence, len(text))
        except Cancelled:
            raise
        except DeckError as error:
            for work in involved:
                self.cancel(work.number)
            return [CommandFailed(id=work.number, error=to_info(error)) for work in involved]
        done = [work for work in involved if not work.texts]
        for work in done:
            self.cancel(work.number)
        return [work.report for work in done]

    def _read(self, texts: Sequence[Tokens]) -> None:
        """Evaluate texts, the first as sequence 0; one that is longer than a batch is alone."""
        if self._memory:
            self._c.llama_memory_clear(self._memory, True)
        for start in range(0, max(len(text) for text in texts), self._size):
            self._batch.clear()
            for sequence, text in enumerate(texts):
                tokens = np.array(text[start : start + self._size], np.int32)
                self._batch.add(sequence, tokens, start, len(tokens))  # pooling needs every token
            causal = self._c.llama_model_has_decoder(self._model)
            if self._batch.evaluate(encode=not causal) != 0:
                if self._flag:
                    raise Cancelled("The request was cancelled.")
                raise failure("llama.cpp could not evaluate the text", self._log)

    def _take(self, work: TextsInWork, sequence: int, tokens: int) -> None:
        """Add what the model made of a text to its request."""
        values = self._c.llama_get_embeddings_seq(self._context, sequence)
        if not values:
            raise failure("llama.cpp gave no embedding", self._log)
        if work.ranks:
            classes = self._c.llama_model_n_cls_out(self._model)
            score = float(values[0])
            share = ranking.probability(score, classes)
            work.scores.append(TextScore(score=score, probability=share, tokens=tokens))
            return
        width = self._c.llama_model_n_embd_out(self._model)
        vector = np.ctypeslib.as_array(values, (width,))
        numbers = vector.astype(np.float64)
        length = math.sqrt(float(numbers @ numbers)) or 1.0
        work.vectors.append(TextVector(values=tuple((numbers / length).tolist()), tokens=tokens))
