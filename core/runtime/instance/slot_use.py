"""Which slot of an engine holds whose conversation, told from its reports. Pure."""

from __future__ import annotations

from modeldeck.core.runtime.process.messages import (
    AnswerDone,
    AnyReport,
    CommandFailed,
    PromptProgress,
)
from modeldeck.core.schema import SlotUse

Slots = tuple[SlotUse, ...]


def after(slots: Slots, report: AnyReport, slot: int | None, who: str) -> Slots:
    """The slots after a report about a request of `who`, which is answered in `slot` if in any.

    >>> begun = after((), PromptProgress(id=7, tokens=1, cached_tokens=0, total_tokens=9, slot=1),
    ...               None, "cron")
    >>> [(use.who, use.busy) for use in begun]
    [('', False), ('cron', True)]
    >>> after(begun, AnswerDone(id=7, reason="stop", slots_held=(0, 8100)), 1, "cron")[1]
    SlotUse(who='cron', busy=False, tokens=8100)
    """
    match report:
        case PromptProgress(slot=int(number)):
            return _with(slots, number, SlotUse(who=who, busy=True))
        case AnswerDone(slots_held=held) if held and slot is not None:
            ended = _with(_filled(slots, len(held)), slot, SlotUse(who=who))
            return tuple(_holding(use, count) for use, count in zip(ended, held, strict=False))
        case CommandFailed() if slot is not None:
            return _with(slots, slot, SlotUse())
    return slots


def _with(slots: Slots, number: int, use: SlotUse) -> Slots:
    """The slots with another use of one of them."""
    whole = _filled(slots, number + 1)
    return tuple(use if at == number else old for at, old in enumerate(whole))


def _filled(slots: Slots, count: int) -> Slots:
    """At least `count` slots."""
    return (*slots, *(SlotUse(),) * (count - len(slots)))


def _holding(use: SlotUse, tokens: int) -> SlotUse:
    """What an idle slot holds; a busy one is told when it ends."""
    if use.busy:
        return use
    return SlotUse(who=use.who, tokens=tokens) if tokens else SlotUse()
