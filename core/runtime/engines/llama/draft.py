"""Speculative decoding: a draft model guesses tokens, which the model verifies in one batch.

The model samples every token itself, from the same logits as without a draft, so guesses change
only the speed (Leviathan et al. 2023, arXiv:2211.17192, with the likeliest token as the guess).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from modeldeck.core.runtime.engines.base import Flag
from modeldeck.core.runtime.engines.llama.answer import TokenPieces
from modeldeck.core.runtime.engines.llama.batch import (
    DONE,
    TokenBatch,
    Tokens,
    common_length,
    set_abort_callback,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftRequest:
    """A text to guess the next tokens of."""

    sequence: int
    """The sequence of the draft's context: that of the slot."""
    text: Tokens
    most: int
    """The most tokens to guess."""


class DraftModel:
    """A draft model and its context, which the caller frees."""

    def __init__(self, c: Any, model: Any, context: Any, *, tokens: int, flag: Flag) -> None:
        """Use a draft model.

        Args:
            c: llama.h, as llama-cpp-python binds it.
            model: `llama_model *`.
            context: `llama_context *` with as many sequences as the model has slots.
            tokens: How many tokens are guessed at a time.
            flag: Cancels an evaluation.
        """
        self._c = c
        self._memory = c.llama_get_memory(context)
        self._window = c.llama_model_n_swa(model)
        self._pieces = TokenPieces(c, c.llama_model_get_vocab(model))
        sequences = c.llama_n_seq_max(context)
        vocabulary = c.llama_vocab_n_tokens(c.llama_model_get_vocab(model))
        self._batch = TokenBatch(c, context, sequences, vocabulary)
        self._cells = c.llama_n_ctx(context)
        self.tokens = tokens
        """How many tokens are guessed at a time."""
        self._held: list[Tokens] = [np.zeros(0, np.int32)] * sequences
        """The tokens that each sequence holds."""
        self._abort = set_abort_callback(c, context, flag)

    def guess(self, requests: Sequence[DraftRequest]) -> dict[int, list[int]]:
        """Guess the next tokens of some texts, all in the same batches; return them by sequence.

        A text that the draft has not read yet is read, at most one batch of all of them at a time;
        until then, and where its cells do not suffice, nothing is guessed for it.
        """
        requests = self._fitting(requests)
        guesses: dict[int, list[int]] = {}
        pending = self._read(requests)
        while pending:
            self._batch.clear()
            rows = {}
            for request, tokens in pending:
                held = self._held[request.sequence]
                self._batch.add(request.sequence, tokens, len(held), 1)
                self._held[request.sequence] = np.concatenate((held, tokens))
                rows[request.sequence] = request
            if not self._evaluate(rows):
                break
            likeliest = self._batch.logits().argmax(axis=1).tolist()
            pending = []
            for request, token in zip(rows.values(), likeliest, strict=True):
                found = guesses.setdefault(request.sequence, [])
                if self._pieces.ends(token):
                    continue
                found.append(token)
                if len(found) < min(request.most, self.tokens):
                    pending.append((request, np.array([token], np.int32)))
        return guesses

    def _fitting(self, requests: Sequence[DraftRequest]) -> list[DraftRequest]:
        """The first texts that fit the cells together; other sequences are emptied for them."""
        fitting: list[DraftRequest] = []
        room = self._cells
        for request in requests:
            room -= len(request.text) + self.tokens
            if request.most > 0 and room >= 0:
                fitting.append(request)
        kept = {request.sequence for request in fitting}
        taken = sum(len(request.text) + self.tokens for request in fitting)
        for sequence, held in enumerate(self._held):
            if sequence not in kept and taken + len(held) > self._cells:
                self._cut(sequence, 0)
        return fitting

    def _read(self, requests: Sequence[DraftRequest]) -> list[tuple[DraftRequest, Tokens]]:
        """Bring texts into the context up to their last tokens, which are returned.

        What does not fit one batch is left for the next time.
        """
        self._batch.clear()
        room, ready = self._batch.size, []
        reading: dict[int, DraftRequest] = {}
        for request in requests:
            sequence, text = request.sequence, request.text
            known = min(common_length(self._held[sequence], text), len(text) - 1)
            self._cut(sequence, known)
            rest = text[known:]
            if len(rest) <= self.tokens + 1 <= self._batch.size // len(self._held):
                ready.append((request, rest))
                continue
            chunk = rest[: min(room, len(rest) - 1)]
            if len(chunk):
                self._batch.add(sequence, chunk, known, 0)
                self._held[sequence] = text[: known + len(chunk)].copy()
                reading[sequence] = request
                room -= len(chunk)
            if len(rest) - len(chunk) == 1:
                ready.append((request, rest[len(chunk) :]))
        if reading and not self._evaluate(reading):
            return []
        return ready

    def _evaluate(self, sequences: Iterable[int]) -> bool:
        """Evaluate the batch; where that fails, its sequences are emptied."""
        if self._batch.evaluate() == DONE:
            return True
        for sequence in sequences:
            self._cut(sequence, 0)
        return False

    def _cut(self, sequence: int, length: int) -> None:
        held = self._held[sequence]
        if length >= len(held):
            return
        if self._window:  # it can go back as far as its cells reach
            first = self._c.llama_memory_seq_pos_min(self._memory, sequence)
            length = length if first <= max(0, length - self._window) else 0
        self._c.llama_memory_seq_rm(self._memory, sequence, length, -1)
        self._held[sequence] = held[:length]

    def forget(self, sequence: int) -> None:
        """Empty a sequence, and overwrite its tokens."""
        self._held[sequence].fill(0)
        self._cut(sequence, 0)

    def wipe(self) -> None:
        """Empty all sequences, and overwrite what they held."""
        for sequence in range(len(self._held)):
            self.forget(sequence)
        self._c.llama_memory_clear(self._memory, True)
