"""Answers several requests at once: each turn is one evaluation, with tokens of all of them.

A turn has the last token of every answer that is being written, and then tokens of prompts: as many
as fit, or fewer where a prompt ends half way (`turn_rows`). Between two turns requests come, go,
and are cancelled.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import msgspec

from modeldeck.core.errors import Cancelled, DeckError, EngineFailed
from modeldeck.core.runtime.engines.base import Flag
from modeldeck.core.runtime.engines.llama.answer import SlotAnswer
from modeldeck.core.runtime.engines.llama.batch import (
    DONE,
    NO_ROOM,
    Logits,
    TokenBatch,
)
from modeldeck.core.runtime.engines.llama.draft import DraftModel, DraftRequest
from modeldeck.core.runtime.engines.llama.log import EngineLog, failure
from modeldeck.core.runtime.engines.llama.media_turns import MediaTurns
from modeldeck.core.runtime.engines.llama.prefix_disk_cache import PrefixFiles
from modeldeck.core.runtime.engines.llama.prefix_writer import PrefixWriter
from modeldeck.core.runtime.engines.llama.projector import Projector
from modeldeck.core.runtime.engines.llama.slot_choice import Admission
from modeldeck.core.runtime.engines.llama.slots import Slot, SlotMemory
from modeldeck.core.runtime.engines.llama.turn_rows import (
    LEAST_ROWS,
    TurnRows,
    chunk_length,
    is_half_full,
    prompt_rows,
    rows_to_step,
)
from modeldeck.core.runtime.process.messages import (
    CommandFailed,
    EngineReport,
    LoadModel,
    PromptProgress,
)
from modeldeck.core.schema.errors import to_info

NEW_SPEED = 0.3
"""Weight of the last measurement in the mean of the speed."""


class Turns:
    """The requests in work, and their turns."""

    def __init__(
        self,
        c: Any,
        model: Any,
        context: Any,
        command: LoadModel,
        flag: Flag,
        log: EngineLog,
        *,
        files: PrefixFiles | None,
        draft: DraftModel | None,
        projector: Projector | None = None,
    ) -> None:
        """Use a context, with as many slots as it has sequences.

        Args:
            c: llama.h, as llama-cpp-python binds it.
            model: `llama_model *`.
            context: `llama_context *`, made with `kv_unified`.
            command: The load, with the limits of turns and of the prefix cache.
            flag: Cancels an evaluation.
            log: The log of llama.cpp.
            files: Where conversations are kept that memory has no room for, if anywhere.
            draft: The draft model, if any.
            projector: Reads images and recordings, if anything does.
        """
        slots = c.llama_n_seq_max(context)
        vocabulary = c.llama_vocab_n_tokens(c.llama_model_get_vocab(model))
        limit = command.prefix_cache_bytes
        media = projector is not None
        self.memory = SlotMemory(c, model, context, slots=slots, cache_bytes=limit, media=media)
        self.memory.cache.files = None if files is None else PrefixWriter(files)
        self._batch = TokenBatch(c, context, slots, vocabulary)
        self._draft = draft
        self._flag = flag
        self._log = log
        self._turn_s = command.turn_s
        self._row_s: float | None = None
        self._reports: list[EngineReport] = []
        self._places: list[int] = []
        """Where the logits of each chunk are in the batch."""
        self._media: MediaTurns | None = None
        if projector is not None:
            self._media = MediaTurns(c, context, projector, self.memory, flag, log)
        self._due: tuple[Slot, SlotAnswer] | None = None
        """The slot whose text goes on with an image, which is read before the next turn."""
        self._admission = Admission(self.memory, self.report)
        self._unclean = False
        """Whether cells that are free may hold what a private request left."""

    def report(self, report: EngineReport) -> None:
        """Add a report to those of this turn."""
        self._reports.append(report)

    @property
    def guesses(self) -> int:
        """Tokens that the draft model guesses at a time; 0 without one."""
        return 0 if self._draft is None else self._draft.tokens

    # Requests

    @property
    def answers(self) -> list[SlotAnswer]:
        """The requests in work."""
        held = [slot.answer for slot in self.memory.slots if slot.answer is not None]
        return held + self._admission.waiting

    def begin(self, answer: SlotAnswer) -> None:
        """Take a request in; it waits until a slot is free."""
        self._admission.waiting.append(answer)

    def find(self, number: int) -> SlotAnswer | None:
        """The request with this number, if it is in work."""
        return next((answer for answer in self.answers if answer.number == number), None)

    def cancel(self, answer: SlotAnswer) -> None:
        """Forget a request; what was read for it stays, unless it is private."""
        if answer in self._admission.waiting:
            self._admission.waiting.remove(answer)
        self._unclean |= answer.private
        for slot in self.memory.slots:
            if slot.answer is answer:
                slot.answer = None
                if answer.private:
                    self.memory.clear(slot)
                    if self._draft is not None:
                        self._draft.forget(slot.number)
        self._admission.full = False
        answer.close()
        self._wipe_when_idle()

    def _wipe_when_idle(self) -> None:
        """Overwrite what private requests left, once none is in work.

        Conversations that the prefix cache has no room for are lost by that.
        """
        if self._unclean and not self.answers:
            while self._admission.evict():
                pass
            self._wipe()

    def _wipe(self) -> None:
        self.memory.wipe()
        if self._draft is not None:
            self._draft.wipe()
        self._unclean = False

    @property
    def working(self) -> bool:
        """Whether a request is in work that is not paused."""
        for slot in self.memory.slots:
            if slot.answer is not None and not slot.answer.paused:
                return True
        return any(not answer.paused for answer in self._admission.waiting)

    def reset(self) -> None:
        """Forget all requests, and everything that was read."""
        for answer in self.answers:
            self.cancel(answer)
        self._wipe()
        self.memory.cache.clear()

    # Turns

    def step(self) -> list[EngineReport]:
        """Do a turn; return its reports. Raises Cancelled when the flag is set."""
        self._reports = []
        if self._admission.waiting:
            self._admission.admit()
        self._read_media()
        chunks = self._plan()
        if chunks and self._evaluate(chunks):
            self._sample(chunks)
        return self._reports

    def _plan(self) -> list[TurnRows]:
        """Choose the tokens of this turn."""
        writing: list[TurnRows] = []
        reading: list[tuple[SlotAnswer, Slot]] = []
        for answer, slot in self._together():
            if slot.bound and answer.length - slot.held == 1 and answer.writing:
                writing.append(TurnRows(slot, answer))
            else:
                reading.append((answer, slot))
        if self._draft is not None and writing:
            writing = self._guess(writing, self._draft)
        if reading:
            writing += self._read(reading, writing)
        return writing

    def _together(self) -> list[tuple[SlotAnswer, Slot]]:
        """The requests that share this turn.

        One that must be alone was admitted alone, but others may have come while it was paused:
        then the oldest goes first, with those that may be beside it.
        """
        active = [
            (slot.answer, slot)
            for slot in self.memory.slots
            if slot.answer is not None and not slot.answer.paused
        ]
        if len(active) > 1 and any(answer.alone for answer, _ in active):
            oldest = min(active, key=lambda pair: pair[0].number)
            if oldest[0].alone:
                return [oldest]
            active = [pair for pair in active if not pair[0].alone]
        return active

    def _read(
        self, reading: list[tuple[SlotAnswer, Slot]], writing: Sequence[TurnRows]
    ) -> list[TurnRows]:
        """The prompt tokens of a turn that has tokens of these answers already."""
        chunks: list[TurnRows] = []
        taken = sum(1 + len(chunk.guesses) for chunk in writing)
        room = prompt_rows(
            self._batch.size,
            taken,
            shared=len(writing) + len(reading) > 1,
            turn_s=self._turn_s,
            row_s=self._row_s,
        )
        reading.sort(key=lambda pair: pair[0].number)
        left, ends = room, False
        for answer, slot in reading:
            if left > 0 and (slot.bound or self._admission.bind(slot)):
                if answer.media_at(slot.held):
                    self._due = self._due or self._told(slot, answer)
                    continue
                end = answer.text_end(slot.held)
                wanted = chunk_length(slot.held, end, slot.marks, end)
                size = min(wanted, left)
                if size < wanted and ends and is_half_full(left, room, row_s=self._row_s):
                    size = rows_to_step(taken + room - left, left, step=self.memory.row_step)
                if size:
                    left -= size
                    ends = ends or slot.held + size == answer.length
                    chunks.append(TurnRows(slot, answer, size, reading=True))
        return chunks

    def _told(self, slot: Slot, answer: SlotAnswer) -> tuple[Slot, SlotAnswer]:
        """A slot and its answer, after it was told that an image is read next."""
        run = answer.media_at(slot.held)
        self._report_progress(slot, answer, answer.media.told(run) if answer.media and run else "")
        return slot, answer

    def _read_media(self) -> None:
        """Read the image that was due after the last turn: one, so that others wait no longer."""
        due, self._due = self._due, None
        if due is None or self._media is None:
            return
        slot, answer = due
        run = answer.media_at(slot.held)
        if slot.answer is not answer or answer.paused or not slot.bound or run is None:
            return
        rows = TurnRows(slot, answer, run.tokens, reading=True)
        try:
            result = self._media.evaluate(slot, answer, run)
        except Cancelled:
            raise
        except DeckError as error:
            self._fail([rows], error)
            return
        if result == DONE:
            self._advance(rows)
        else:
            self._recover(result, [rows])

    def _guess(self, writing: Sequence[TurnRows], draft: DraftModel) -> list[TurnRows]:
        """Add the draft model's guesses to the tokens of answers that are being written."""
        spare = self._batch.size // len(self.memory.slots) - 1
        guesses = draft.guess(
            [
                DraftRequest(
                    sequence=chunk.slot.number,
                    text=chunk.answer.tokens,
                    most=min(draft.tokens, spare, chunk.answer.room - 1),
                )
                for chunk in writing
                if chunk.answer.media is None  # the draft model does not see
            ]
        )
        return [chunk._replace(guesses=guesses.get(chunk.slot.number, ())) for chunk in writing]

    def _evaluate(self, chunks: Sequence[TurnRows]) -> bool:
        """Evaluate the tokens of a turn; False where there was no room, and some was made."""
        if self._flag:
            raise Cancelled("The request was cancelled.")
        batch, rows = self._batch, 0
        batch.clear()
        self._places.clear()
        for chunk in chunks:
            slot, answer, guesses = chunk.slot, chunk.answer, chunk.guesses
            end = slot.held + chunk.size
            outputs = 1 + len(guesses) if end == answer.length else 0
            if guesses:
                answer.text[end : end + len(guesses)] = guesses
            tokens = answer.text[slot.held : end + len(guesses)]
            place = self.memory.position(slot, slot.held)
            self._places.append(batch.add(slot.number, tokens, place, outputs))
            rows += len(tokens)
        started = time.perf_counter()
        result = batch.evaluate()
        if result != DONE:
            return self._recover(result, chunks)
        if rows >= LEAST_ROWS // 2:
            batch.wait()
            self._note_speed((time.perf_counter() - started) / rows)
        for chunk in chunks:
            self._advance(chunk)
        return True

    def _note_speed(self, row_s: float) -> None:
        before = row_s if self._row_s is None else self._row_s
        self._row_s = (1 - NEW_SPEED) * before + NEW_SPEED * row_s

    def _advance(self, chunk: TurnRows) -> None:
        """Note that a slot holds the tokens of its chunk."""
        slot, answer = chunk.slot, chunk.answer
        slot.held += chunk.size + len(chunk.guesses)
        if not chunk.reading:
            return
        if slot.held in slot.marks:
            self.memory.take_checkpoint(slot)
        self._report_progress(slot, answer)

    def _report_progress(self, slot: Slot, answer: SlotAnswer, media: str = "") -> None:
        self.report(
            PromptProgress(
                id=answer.number,
                tokens=min(slot.held, answer.prompt_length),
                cached_tokens=answer.cached or 0,
                total_tokens=answer.prompt_length,
                slot=slot.number,
                media=media,
            )
        )

    def _recover(self, result: int, chunks: Sequence[TurnRows]) -> bool:
        """Go on after an evaluation that failed. Raises Cancelled."""
        if result == NO_ROOM:  # nothing was changed
            if not self._admission.evict() and not self._admission.preempt():
                self._fail(chunks, EngineFailed("The KV cache has no room for one more token."))
            return False
        for chunk in chunks:
            self.memory.undo(chunk.slot)
        if self._flag:
            raise Cancelled("The request was cancelled.")
        self._fail(chunks, failure(f"llama.cpp could not evaluate the text ({result})", self._log))
        return False

    def _fail(self, chunks: Sequence[TurnRows], error: DeckError) -> None:
        for chunk in chunks:
            self.cancel(chunk.answer)
            self.report(CommandFailed(id=chunk.answer.number, error=to_info(error)))

    # Tokens

    def _sample(self, chunks: Sequence[TurnRows]) -> None:
        """Choose the next tokens of the texts that are evaluated to their end."""
        if not self._batch.outputs:
            return
        logits = self._batch.logits()
        row = 0
        for chunk, place in zip(chunks, self._places, strict=True):
            if chunk.slot.held < chunk.answer.length:  # its prompt goes on
                continue
            outputs = 1 + len(chunk.guesses)
            try:
                goes_on = self._write(chunk, logits[row : row + outputs], place)
            except DeckError as error:
                self._fail([chunk], error)
            else:
                if not goes_on:
                    self._end(chunk)
            row += outputs

    def _write(self, chunk: TurnRows, logits: Logits, place: int) -> bool:
        """Add tokens to an answer; return whether it goes on.

        Each is sampled from the same logits as without a draft model; its guesses are kept as long
        as they agree with what is sampled.
        """
        answer, goes_on = chunk.answer, True
        for i in range(len(logits)):
            token = answer.sample(logits[i], place + i)
            goes_on = answer.take(token, place + i)
            if not goes_on or i == len(chunk.guesses) or token != chunk.guesses[i]:
                break
        if chunk.guesses:
            self.memory.cut_or_clear(chunk.slot, min(chunk.slot.held, answer.length - 1))
        return goes_on

    def _end(self, chunk: TurnRows) -> None:
        answer = chunk.answer
        done = answer.done(self.memory.cache.bytes)
        self.cancel(answer)
        held = tuple(slot.held for slot in self.memory.slots)
        self.report(msgspec.structs.replace(done, slots_held=held))
