"""Has the model read images and recordings, a piece at a time, between the turns of a batch."""

from __future__ import annotations

from typing import Any

from modeldeck.core.errors import Cancelled
from modeldeck.core.runtime.engines.base import Flag
from modeldeck.core.runtime.engines.llama.answer import SlotAnswer
from modeldeck.core.runtime.engines.llama.batch import DONE
from modeldeck.core.runtime.engines.llama.log import EngineLog
from modeldeck.core.runtime.engines.llama.media_tokens import MediaRun
from modeldeck.core.runtime.engines.llama.projector import Projector
from modeldeck.core.runtime.engines.llama.slots import Slot, SlotMemory


class MediaTurns:
    """Encodes pieces with a projector, and adds them to slots."""

    def __init__(
        self,
        c: Any,
        context: Any,
        projector: Projector,
        memory: SlotMemory,
        flag: Flag,
        log: EngineLog,
    ) -> None:
        """Use a projector.

        Args:
            c: llama.h, as llama-cpp-python binds it.
            context: `llama_context *`.
            projector: The projector.
            memory: The slots of the context.
            flag: Set where all that is in work is cancelled.
            log: The log of llama.cpp and libmtmd.
        """
        self._context = context
        self._projector = projector
        self._memory = memory
        self._flag = flag
        self._log = log
        self._batch: int = c.llama_n_batch(context)

    def evaluate(self, slot: Slot, answer: SlotAnswer, run: MediaRun) -> int:
        """Read the piece that follows what a slot holds; returns what `llama_decode` does.

        Unless that is `DONE`, the slot holds what it held before. Encoding cannot be interrupted: a
        request that is cancelled meanwhile ends after it. Raises Cancelled, InvalidRequest for an
        image that cannot be decoded, and EngineFailed.
        """
        assert answer.media is not None
        if self._flag:
            raise Cancelled("The request was cancelled.")
        piece = answer.media.piece(run)
        self._projector.encode(piece, int(answer.text[run.start]))
        if self._flag:
            self._log.say(
                "info", f"{answer.media.told(run)} was read to its end before the request could end"
            )
            raise Cancelled("The request was cancelled.")
        result = self._projector.evaluate(
            piece,
            self._context,
            position=self._memory.position(slot, slot.held),
            sequence=slot.number,
            batch=self._batch,
        )
        if result != DONE:
            self._memory.undo(slot)
        if answer.private:
            self._projector.forget()
        return result
