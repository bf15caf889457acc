"""What the screen Memory says of actions that were done. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from modeldeck.core.schema import Model, Settings, UnloadReceipt
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text import records
from modeldeck.tui.text.model_names import title_of_unique


def taken_off(receipts: Sequence[UnloadReceipt], models: Mapping[str, Model]) -> str:
    """That failed instances were removed from the list."""
    names = ", ".join(_named(receipt, models) for receipt in receipts)
    return f"Removed {names} (failed) from the list"


def unloaded(receipts: Sequence[UnloadReceipt], models: Mapping[str, Model]) -> str:
    """That instances were unloaded, and the memory that it freed."""
    if len(receipts) == 1:
        return records.unloaded(receipts[0], _named(receipts[0], models))
    freed = sum(receipt.freed_bytes or 0 for receipt in receipts)
    seconds = max((receipt.seconds for receipt in receipts), default=0.0)
    count = fmt.number(len(receipts), "model")
    return f"Unloaded {count}: {fmt.memory(freed)} freed in {fmt.duration(seconds)}"


def _named(receipt: UnloadReceipt, models: Mapping[str, Model]) -> str:
    """A model as its row names it."""
    return title_of_unique(receipt.unique, models)


def budgeting(count: int | None) -> str:
    """What setting a budget of this many bytes does; None takes it away."""
    return "no budget" if count is None else f"budget: {fmt.memory(count)} for models"


def budgeted(settings: Settings) -> str:
    """That the budget was set or taken away."""
    if settings.memory_budget_bytes is None:
        return "No budget"
    return f"Budget: {fmt.memory(settings.memory_budget_bytes)} for models"
