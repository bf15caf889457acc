"""The keys of Memory."""

from __future__ import annotations

from modeldeck.tui.dashboard.commands import Command

COMMANDS = (
    Command(
        name="unload",
        keys="u",
        label="unload",
        help="Unload the model, or call its load off; take a failed one off the list.",
        marks=True,
    ),
    Command(
        name="unload_all",
        keys="U",
        label="unload all",
        help="Unload every model that is not pinned.",
    ),
    Command(
        name="details",
        keys="enter",
        label="details",
        help="Show the options, history and log of the instance, or hide them.",
        action="open_row",
    ),
    Command(
        name="pin",
        keys="i",
        label="pin",
        help="Pin the model, so that it is not unloaded with all or to make room; or unpin it.",
        marks=True,
    ),
    Command(
        name="idle_time",
        keys="T",
        label="idle time",
        help="Unload the model once it has been idle for so long.",
        marks=True,
    ),
    Command(
        name="budget",
        keys="m",
        label="budget",
        help="Set the memory budget of all models.",
    ),
    Command(
        name="prune",
        keys="P",
        label="prune",
        help="Delete leftover partial files; asks first.",
    ),
    Command(
        name="disk",
        keys="d",
        label="disk",
        help="List what the cache holds; delete, check and prune it there.",
        action="app.show('disk')",
    ),
    Command(name="copy", keys="y", label="copy name", help="Copy the model's name.", footer=False),
)
"""The first ones stand in the footer where there is little room."""
