"""Slots: the sequences of a llama.cpp context, each with the tokens that it holds.

A slot answers one request at a time, and holds its conversation afterwards, until another request
needs it. All share the cells of one KV cache; two with a common beginning hold its cells once.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from modeldeck.core.runtime.engines.llama.answer import SlotAnswer
from modeldeck.core.runtime.engines.llama.batch import ROW_STEP, Tokens
from modeldeck.core.runtime.engines.llama.media_tokens import position
from modeldeck.core.runtime.engines.llama.prefix_cache import (
    WORTH,
    Checkpoint,
    PrefixCache,
    State,
    StoredPrefix,
    usable_length,
)

CHECKPOINTS = 8
"""Checkpoints of a slot at most."""

_NOTHING = np.zeros(0, np.int32)


class Slot:
    """One sequence of the context: `text[:held]` is in its memory."""

    def __init__(self, number: int) -> None:
        self.number = number
        """Its sequence id."""
        self.text: Tokens = _NOTHING
        """The text that it holds a beginning of: that of its answer, if it has one."""
        self.held = 0
        self.answer: SlotAnswer | None = None
        """The request that it answers."""
        self.bound = False
        """Whether a beginning of its answer's text was looked for."""
        self.marks: list[int] = []
        """Lengths of the text at which reading stops for a checkpoint."""
        self.checkpoints: list[Checkpoint] = []
        self.used = 0
        """Counts up: when it was given its last request."""

    @property
    def tokens(self) -> Tokens:
        """The tokens that it holds."""
        return self.text[: self.held]

    @property
    def active(self) -> bool:
        """Whether it answers a request that is not paused."""
        return self.answer is not None and not self.answer.paused

    @property
    def private(self) -> bool:
        """Whether it answers a request of which nothing may be kept."""
        return self.answer is not None and self.answer.private


class SlotMemory:
    """What llama.cpp computed for each slot: cut, copied, saved, restored."""

    def __init__(
        self,
        c: Any,
        model: Any,
        context: Any,
        *,
        slots: int,
        cache_bytes: int,
        media: bool = False,
    ) -> None:
        """Manage the sequences of a context.

        Args:
            c: llama.h, as llama-cpp-python binds it.
            model: `llama_model *`.
            context: `llama_context *`, made with `kv_unified` and `slots` sequences.
            slots: The number of slots.
            cache_bytes: Limit of the prefix cache.
            media: Whether texts may have images in them, whose tokens may be more than their
                positions.
        """
        self._media = media
        self._c = c
        self._context = context
        self._memory = c.llama_get_memory(context)
        self._window = c.llama_model_n_swa(model)
        self._recurrent = c.llama_model_is_recurrent(model) or c.llama_model_is_hybrid(model)
        self.cells = c.llama_n_ctx(context)
        """Cells of the KV cache, which all slots share."""
        self.slots = [Slot(number) for number in range(slots)]
        self.rewindable = not self._recurrent and not self._window
        """Whether a text can be cut to any length."""
        self.row_step = 1 if self._recurrent else ROW_STEP
        """What the rows of a batch are best a multiple of. Recurrent layers are evaluated in parts
        with equally many rows of each sequence: a few rows of one more would be a part more."""
        self.cache = PrefixCache(
            cache_bytes,
            rewinds=self.rewindable,
            in_use=lambda: [s.checkpoints for s in sorted(self.slots, key=lambda s: s.used)],
        )

    @property
    def idle(self) -> list[Slot]:
        """Slots that hold a conversation and answer nothing, the one used longest ago first."""
        found = [slot for slot in self.slots if slot.answer is None and slot.held]
        return sorted(found, key=lambda slot: slot.used)

    @property
    def free_cells(self) -> int:
        """Cells that no answer takes, at least: those that answers share are counted for each."""
        return int(self.cells - sum(slot.held for slot in self.slots if slot.answer is not None))

    def usable(self, slot: Slot, prompt: Tokens) -> int:
        """How many tokens of a prompt can be had of what a slot holds."""
        lengths = (checkpoint.length for checkpoint in slot.checkpoints)
        return usable_length(slot.tokens, prompt, lengths, lambda n: self._rewinds(slot, n))

    def position(self, slot: Slot, length: int) -> int:
        """The position of the token at this place of a slot's text."""
        return position(slot.text[:length]) if self._media else length

    def _rewinds(self, slot: Slot, length: int) -> bool:
        """Whether a slot can go back to a length without a checkpoint.

        Recurrent layers cannot, and a sliding window only as far as its cells reach.
        """
        if self._recurrent:
            return False
        if not self._window:
            return True
        first = self._c.llama_memory_seq_pos_min(self._memory, slot.number)
        return bool(first <= max(0, self.position(slot, length) - self._window))

    def _remove_from(self, slot: Slot, length: int) -> bool:
        start = self.position(slot, length)
        return bool(self._c.llama_memory_seq_rm(self._memory, slot.number, start, -1))

    def cut(self, slot: Slot, length: int) -> bool:
        """Shorten what a slot holds; False, with nothing to rely on, where it cannot."""
        if length >= slot.held:
            return True
        done = self._rewinds(slot, length) and self._remove_from(slot, length)
        slot.checkpoints[:] = [found for found in slot.checkpoints if found.length <= length]
        if not done and slot.checkpoints and slot.checkpoints[-1].length == length:
            done = self._put(slot, slot.checkpoints[-1].state, partial=True)
            done = done and self._remove_from(slot, length)
        if done:
            slot.held = length
        return done

    def cut_or_clear(self, slot: Slot, length: int) -> None:
        """Shorten what a slot holds, to nothing where it cannot be shortened."""
        if not length or not self.cut(slot, length):
            self.clear(slot)

    def undo(self, slot: Slot) -> None:
        """Remove what an evaluation that failed may have left beyond the tokens that are held."""
        if not self._rewinds(slot, slot.held) or not self._remove_from(slot, slot.held):
            self.clear(slot)

    def clear(self, slot: Slot) -> None:
        """Hold nothing."""
        self._c.llama_memory_seq_rm(self._memory, slot.number, -1, -1)
        slot.held = 0
        slot.text = _NOTHING if slot.answer is None else slot.text
        slot.checkpoints.clear()

    def keep(self, slot: Slot, length: int) -> None:
        """Hold only the first tokens; all goes to the prefix cache where that is worth it."""
        if slot.held - length >= WORTH:
            self.save(slot)
        self.cut_or_clear(slot, length)

    def copy(self, source: Slot, slot: Slot, length: int) -> bool:
        """Share the beginning of a slot's text with another, which must be empty."""
        end = self.position(source, length)
        self._c.llama_memory_seq_cp(self._memory, source.number, slot.number, 0, end)
        slot.text, slot.held = source.text, length
        slot.checkpoints[:] = [found for found in source.checkpoints if found.length <= length]
        if length == source.held or self._rewinds(source, length):
            return True
        if not slot.checkpoints or slot.checkpoints[-1].length != length:
            return False
        return self._put(slot, slot.checkpoints[-1].state, partial=True) and self._remove_from(
            slot, length
        )

    def state_bytes(self, slot: Slot) -> int:
        """Bytes of a slot's state."""
        return int(self._c.llama_state_seq_get_size_ext(self._context, slot.number, 0))

    def save(self, slot: Slot) -> None:
        """Store what a slot holds in the prefix cache, unless it is there already."""
        cache = self.cache
        if slot.held < WORTH or not cache.limit_bytes or slot.private or cache.holds(slot.tokens):
            return
        if cache.make_room(self.state_bytes(slot) + 4 * slot.held):
            state = self._get(slot, partial=False)
            cache.add(StoredPrefix(slot.tokens.copy(), state, tuple(slot.checkpoints)))

    def restore(self, slot: Slot, entry: StoredPrefix, length: int) -> bool:
        """Give an empty slot the beginning of a stored text; False where no cells are free."""
        if not self._put(slot, entry.state, partial=False):
            return False
        slot.text, slot.held = entry.tokens, len(entry.tokens)
        slot.checkpoints[:] = entry.checkpoints
        self.cache.use(entry)
        done = self.cut(slot, length)
        self.cache.make_room(0)  # where the entry was dropped, its checkpoints count anew
        return done

    def take_checkpoint(self, slot: Slot) -> None:
        """Copy the part of a slot's state that cannot be cut."""
        size = self._c.llama_state_seq_get_size_ext(self._context, slot.number, self._partial)
        if len(slot.checkpoints) >= CHECKPOINTS:
            slot.checkpoints.pop(0)
        if not slot.private and self.cache.make_room(size):
            slot.checkpoints.append(Checkpoint(slot.held, self._get(slot, partial=True)))

    def save_all(self) -> None:
        """Save to the files what slots and the prefix cache hold, the newest last, and wait."""
        self.cache.save_all()
        for slot in sorted(self.slots, key=lambda slot: slot.used):
            if self.cache.files is not None and slot.held >= WORTH and not slot.private:
                state = self._get(slot, partial=False)
                self.cache.write(StoredPrefix(slot.tokens.copy(), state, tuple(slot.checkpoints)))
        if self.cache.files is not None:
            self.cache.files.flush()

    def wipe(self) -> None:
        """Empty all slots, and overwrite what they held."""
        for slot in self.slots:
            self.clear(slot)
        self._c.llama_memory_clear(self._memory, True)

    @property
    def _partial(self) -> int:
        return int(self._c.LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY)

    def _get(self, slot: Slot, *, partial: bool) -> State:
        c, flags = self._c, self._partial if partial else 0
        state = np.empty(
            c.llama_state_seq_get_size_ext(self._context, slot.number, flags), np.uint8
        )
        pointer = state.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
        c.llama_state_seq_get_data_ext(self._context, pointer, state.size, slot.number, flags)
        return state

    def _put(self, slot: Slot, state: State, *, partial: bool) -> bool:
        """Give a slot a state; False where no cells are free. What it held before is gone."""
        flags = self._partial if partial else 0
        pointer = state.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
        read = self._c.llama_state_seq_set_data_ext(
            self._context, pointer, state.size, slot.number, flags
        )
        return bool(read > 0)
