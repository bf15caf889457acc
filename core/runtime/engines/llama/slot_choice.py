"""Gives requests a slot, and the longest beginning of their text that is held anywhere."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

from modeldeck.core.runtime.engines.llama.answer import SlotAnswer
from modeldeck.core.runtime.engines.llama.batch import common_length
from modeldeck.core.runtime.engines.llama.prefix_cache import WORTH, checkpoint_places
from modeldeck.core.runtime.engines.llama.slots import Slot, SlotMemory
from modeldeck.core.runtime.process.messages import EngineReport, RequestWaits

TAIL = 8
"""Tokens before the end of a prompt where a checkpoint is made: a template ends a prompt with a few
tokens that the next turn of the conversation writes differently."""

FULL = "the other answers take all cells of the KV cache"
ALONE = "an answer with a seed is written alone"


class Admission:
    """The requests that wait for a slot, and the search for what is held of their texts."""

    def __init__(self, memory: SlotMemory, report: Callable[[EngineReport], None]) -> None:
        """`report` sends a report to the core."""
        self._memory = memory
        self._report = report
        self._order = count(1)
        self.waiting: list[SlotAnswer] = []
        """Requests without a slot, in their order."""
        self.full = False
        """Whether a request has lost its slot for want of cells: none gets one until another has
        ended, as it would only take the cells again, for ever."""

    def admit(self) -> None:
        """Give free slots to those that wait."""
        admitted = False
        for answer in [answer for answer in self.waiting if not answer.paused]:
            free = [slot for slot in self._memory.slots if slot.answer is None]
            why = self._why_not(answer)
            if why or not free:
                if why:
                    self._tell_waiting(why)
                break
            self.waiting.remove(answer)
            self._give(self._choose(free, answer), answer)
            admitted = True
        if admitted:
            self._tidy()

    def _tell_waiting(self, why: str) -> None:
        """Tell all that wait why, once: none overtakes the first."""
        for answer in self.waiting:
            if not answer.waits_told and not answer.paused:
                answer.waits_told = True
                self._report(RequestWaits(id=answer.number, why=why))

    def _why_not(self, answer: SlotAnswer) -> str:
        """Why a request cannot have a slot now; empty where it can."""
        active = [slot.answer for slot in self._memory.slots if slot.active and slot.answer]
        crowded = answer.preempted and self._memory.free_cells < answer.length + WORTH
        if active and (self.full or crowded):
            return FULL
        if active and (answer.alone or any(other.alone for other in active)):
            return ALONE
        return ""

    def _choose(self, free: list[Slot], answer: SlotAnswer) -> Slot:
        """The slot whose conversation goes on so, else an empty one or the one used longest ago."""
        memory, prompt = self._memory, answer.tokens
        slot = max(free, key=lambda slot: memory.usable(slot, prompt))
        if slot.held - memory.usable(slot, prompt) >= WORTH:
            # It holds another conversation: its beginning is copied rather than the rest spoiled.
            return min(free, key=lambda slot: (slot.held > 0, slot.used))
        return slot

    def _give(self, slot: Slot, answer: SlotAnswer) -> None:
        # What the slot holds is kept before it is the answer's, who may be private.
        self._memory.keep(slot, self._memory.usable(slot, answer.tokens))
        slot.answer, slot.bound = answer, False
        slot.used = next(self._order)
        answer.waits_told = False

    def _tidy(self) -> None:
        """Move idle conversations to the prefix cache, which drops older ones for them.

        Every answer's attention goes over all cells that are in use, those of idle conversations
        too: 8,000 of them make a small model a third slower. Where the cache is full, half of its
        limit is for them, so that none is dropped that was moved just now; others keep their cells.
        """
        memory = self._memory
        spare = memory.cache.limit_bytes // 2
        for slot in memory.idle:
            size = memory.state_bytes(slot) + 4 * slot.held
            if slot.held >= WORTH and (size <= spare or memory.cache.has_free(size)):
                spare -= size
                memory.save(slot)
                if memory.cache.holds(slot.tokens):
                    memory.clear(slot)

    def evict(self) -> bool:
        """Free the cells of the idle slot that was used longest ago; False where none is idle."""
        for slot in self._memory.idle:
            self._memory.save(slot)
            self._memory.clear(slot)
            return True
        return False

    def preempt(self) -> bool:
        """Free the cells of one request, which waits again; False where there is only one.

        The youngest loses its slot, but one that is paused before all others; so the oldest one
        always goes on.
        """
        busy = [(slot.answer, slot) for slot in self._memory.slots if slot.answer is not None]
        if len(busy) < 2:
            return False
        answer, slot = max(busy, key=lambda pair: (pair[0].paused, pair[0].number))
        self._memory.save(slot)
        slot.answer = None
        self._memory.clear(slot)
        self.waiting.append(answer)
        self.waiting.sort(key=lambda answer: answer.number)
        self.full = answer.preempted = answer.waits_told = True
        self._report(RequestWaits(id=answer.number, why=FULL))
        return True

    def bind(self, slot: Slot) -> bool:
        """Find the longest beginning of a slot's text; False to wait while it is being read."""
        answer, memory = slot.answer, self._memory
        assert answer is not None
        prompt = answer.tokens
        own = memory.usable(slot, prompt)
        others = [other for other in memory.slots if other is not slot and not other.private]
        if self._is_being_read(slot, own, others):
            return False
        lengths = {other: memory.usable(other, prompt) for other in others if other.held}
        near = max(lengths, key=lambda other: lengths[other], default=None)
        copied = lengths[near] if near is not None else 0
        entry, stored = memory.cache.find(prompt)
        if max(copied, stored) < own + WORTH:
            memory.keep(slot, own)
        else:
            memory.clear(slot)
            if near is not None and copied >= stored:
                done = memory.copy(near, slot, copied)
            else:
                done = entry is not None and memory.restore(slot, entry, stored)
                while not done and entry is not None and self.evict():
                    memory.clear(slot)
                    done = memory.restore(slot, entry, stored)
            if not done:
                memory.clear(slot)
        slot.text, slot.bound = answer.text, True
        if answer.cached is None:
            answer.cached = min(slot.held, answer.prompt_length)
        self._mark(slot, others)
        return True

    def _is_being_read(self, slot: Slot, own: int, others: list[Slot]) -> bool:
        """Whether another slot is about to hold a longer beginning of a slot's text.

        An answer that must be alone waits for none, and none for it: they share no turn.
        """
        assert slot.answer is not None
        prompt = slot.answer.tokens
        for other in others if not slot.answer.alone else ():
            reader = other.answer
            if reader is None or reader.paused or reader.alone or not other.bound:
                continue
            coming = common_length(reader.tokens, prompt)
            if coming > other.held and min(coming, len(prompt) - 1) >= own + WORTH:
                return True
        return False

    def _mark(self, slot: Slot, others: list[Slot]) -> None:
        """Choose where checkpoints of the text are made."""
        memory, answer = self._memory, slot.answer
        slot.marks = []
        if answer is None or memory.rewindable or slot.private or not memory.cache.limit_bytes:
            return
        if answer.length > answer.prompt_length:  # it goes on after it had lost its slot
            return
        texts = [other.answer.tokens if other.answer else other.tokens for other in others]
        texts += memory.cache.texts
        slot.marks = checkpoint_places(answer.tokens, slot.held, texts, TAIL)
