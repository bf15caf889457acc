"""Writes several answers at once, by mlx-lm's BatchGenerator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from modeldeck.core.runtime.engines.mlx.answer import MlxAnswer
from modeldeck.core.runtime.engines.mlx.model import MlxModel
from modeldeck.core.runtime.engines.mlx.prefix_cache import (
    NOTHING_FOUND,
    FoundPrefix,
    Kind,
    common_length,
    packed,
)

LEAST_COPIED = 16
"""Tokens that copying the cache of an answer in work must save."""

KeepText = Callable[[Sequence[int], list[Any], Kind], None]
"""Called with tokens, the caches that hold them, and what they end with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenToken:
    """The next token of an answer."""

    answer: MlxAnswer
    token: int
    likely: Any
    """Log probabilities of all tokens."""
    held: tuple[list[int], list[Any]] | None
    """The text and its caches, where mlx-lm has ended the answer and left it out of the batch."""


class AnswerBatch:
    """The answers that are written together, and at most one whose prompt is being read.

    Two prompts are never read at once: mlx-lm would pad the shorter one to the length of the other.
    """

    def __init__(self, model: MlxModel, keep: KeepText) -> None:
        """Begin without answers. `keep` gets the caches of beginnings that other texts may share.

        mlx wires memory until `close`, on macOS.
        """
        self._model = model
        self._keep = keep
        self._generator = model.generate.BatchGenerator(
            model.model,
            stop_tokens=[[token] for token in model.ends],
            completion_batch_size=model.parallel,
            prefill_batch_size=1,
            prefill_step_size=model.step,
        )
        self._answers: dict[int, MlxAnswer] = {}
        """By mlx-lm's number."""
        self._changed = False
        """Whether an answer has joined or left the batch since its caches were computed."""
        self.reading: MlxAnswer | None = None
        """The answer whose prompt is being read."""

    @property
    def answers(self) -> tuple[MlxAnswer, ...]:
        """The answers in the batch, in the order in which they came."""
        return tuple(self._answers.values())

    def close(self) -> None:
        """Let go of all memory."""
        self._answers.clear()
        self.reading = None
        self._generator.close()

    # Rows

    def insert(self, answer: MlxAnswer, found: FoundPrefix) -> None:
        """Take an answer in, whose text begins with what was found."""
        text, at = answer.text, found.tokens
        places = [place for place, _ in answer.places if at < place < len(text)]
        pieces = [text[a:b] for a, b in zip([at, *places], [*places, len(text)], strict=True)]
        (number,) = self._generator.insert_segments(
            [pieces],
            max_tokens=[answer.writer.room],
            caches=[found.caches],
            all_tokens=[text[:at]],
            samplers=[answer.sample],
            logits_processors=[answer.penalties],
        )
        self._answers[number] = answer
        answer.read = at
        self.reading = answer

    def remove(self, answer: MlxAnswer, *, keep: bool) -> tuple[list[int], list[Any]] | None:
        """Leave an answer out from now on; return its text and caches if they are to be kept."""
        self._compute_caches()
        number = self._number(answer)
        found = self._generator.remove([number], return_prompt_caches=keep).get(number)
        self._forget(number)
        if found is None:
            return None
        caches, tokens = found
        return list(tokens), caches

    def find(self, tokens: Sequence[int]) -> FoundPrefix:
        """A copy of the longest beginning of a text that an answer in work holds."""
        text = packed(tokens)
        best: tuple[int, int] | None = None
        for number, answer in self._answers.items():
            if answer.request.cache:
                alike = common_length(packed(answer.text[: answer.read]), text)
                best = max(best or (0, 0), (alike, number))
        if best is None or best[0] < LEAST_COPIED or not self._model.always_cut:
            return NOTHING_FOUND
        alike, number = best
        self._compute_caches()
        caches, held = self._generator.extract_cache([number])[number]
        self._model.hold(caches)  # else the batch could not write into its own ones any more
        self._model.cut(caches, len(held) - alike)
        return FoundPrefix(tokens=alike, caches=caches)

    def _number(self, answer: MlxAnswer) -> int:
        return next(number for number, known in self._answers.items() if known is answer)

    def _forget(self, number: int) -> None:
        self._changed = True
        if self._answers.pop(number) is self.reading:
            self.reading = None

    # Turns

    def step(self, tokens: int) -> list[WrittenToken]:
        """Write a token of every answer, and read at most `tokens` of the prompt that is read."""
        self._compute_caches()
        self._generator.prefill_step_size = tokens
        read, written = self._generator.next()
        for progress in read:
            self._note_read(progress)
        return [self._take(response) for response in written]

    def _compute_caches(self) -> None:
        """Copy the caches of a batch that has changed, one layer after the other.

        mlx computes the copies with the next token, all layers at once: that would take the memory
        of all caches twice.
        """
        if self._changed:
            self._model.hold(self._generator._generation_batch.prompt_cache)
            self._changed = False

    def _note_read(self, progress: Any) -> None:
        answer = self._answers[progress.uid]
        if progress.end_of_prompt:
            self._changed = True
            answer.read = len(answer.text)
            self.reading = None
            return
        done, total = progress.progress
        answer.read = len(answer.text) - total + done
        kind = dict(answer.places).get(answer.read)
        if progress.end_of_segment and kind is not None and answer.request.cache:
            caches, tokens = self._generator.extract_cache([progress.uid])[progress.uid]
            self._keep(list(tokens), caches, kind)

    def _take(self, response: Any) -> WrittenToken:
        answer = self._answers[response.uid]
        held = None
        if response.finish_reason is not None:
            self._forget(response.uid)
            held = list(response.all_tokens), response.prompt_cache
        return WrittenToken(
            answer=answer, token=response.token, likely=response.logprobs, held=held
        )
