"""The keys of Memory."""

from __future__ import annotations

from modeldeck.tui.dashboard.commands import Command
from modeldeck.tui.dashboard.widgets.scrolled_lines import COMMANDS as SCROLL_COMMANDS

COMMANDS = (
    Command(
        name="unload",
        keys="u",
        label="unload",
        help="Unload the model, or cancel its load; remove a failed one from the list.",
        marks=True,
    ),
    Command(
        name="load_with",
        keys="L",
        label="reload with",
        help="Load the model anew with other options, and see the memory that takes.",
    ),
    Command(
        name="requests",
        keys="r",
        label="requests",
        help="List the requests to models: who asks, how far each is; cancel one there.",
        action="app.show('requests')",
        changes=False,
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
        label="unload after",
        help="Unload the model once it has been idle for so long.",
        marks=True,
    ),
    Command(
        name="details",
        keys="enter",
        label="details",
        help="Show the options, slots, history and log of the instance, or hide them.",
        action="open_row",
        changes=False,
    ),
    Command(
        name="unload_all",
        keys="U",
        label="unload all",
        help="Unload every model that is not pinned.",
        anywhere=True,
    ),
    Command(
        name="budget",
        keys="m",
        label="budget",
        help="Set the memory budget of all models.",
        anywhere=True,
    ),
    Command(
        name="disk",
        keys="d",
        label="disk",
        help="List what the cache holds; delete, check and prune it there.",
        action="app.show('disk')",
        changes=False,
    ),
    Command(
        name="prune",
        keys="P",
        label="prune",
        help="Delete leftover partial files; asks first.",
        anywhere=True,
    ),
    Command(
        name="filter",
        keys="slash",
        label="filter",
        help="Filter by words and tests, such as idle, pinned, tok/s<5.",
        changes=False,
    ),
    Command(
        name="copy",
        keys="y",
        label="copy name",
        help="Copy the model's name.",
        footer=False,
        changes=False,
    ),
    *SCROLL_COMMANDS,
)
"""The first ones stand in the footer where there is little room."""
