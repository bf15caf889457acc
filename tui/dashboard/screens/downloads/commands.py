"""The keys of Downloads."""

from __future__ import annotations

from modeldeck.tui.dashboard.commands import Command

COMMANDS = (
    Command(
        name="cancel",
        keys="c",
        label="cancel",
        help="Cancel the download; what arrived is kept for another time.",
        marks=True,
    ),
    Command(
        name="pause",
        keys="p",
        label="pause",
        help="Pause or resume the download.",
        marks=True,
    ),
    Command(
        name="retry",
        keys="r",
        label="retry",
        help="Try a failed or cancelled download again.",
        marks=True,
    ),
    Command(
        name="files",
        keys="enter",
        label="files",
        help="Show its files, or hide them.",
        action="open_row",
        changes=False,
    ),
    Command(
        name="earlier",
        keys="K",
        label="up",
        help="Move the download up in the queue; the first ones run.",
    ),
    Command(
        name="later",
        keys="J",
        label="down",
        help="Move the download down in the queue.",
    ),
    Command(
        name="limit",
        keys="b",
        label="limit",
        help="Limit the rate of all downloads together.",
        anywhere=True,
    ),
    Command(
        name="limit_one",
        keys="B",
        label="limit this",
        help="Limit the rate of this download alone.",
        marks=True,
    ),
    Command(
        name="discard",
        keys="C",
        label="cancel, delete",
        help="Cancel the download and delete what arrived; asks first.",
        marks=True,
    ),
    Command(
        name="clear",
        keys="X",
        label="clear finished",
        help="Remove everything that ended from the list.",
        anywhere=True,
    ),
    Command(
        name="filter",
        keys="slash",
        label="filter",
        help="Filter by words and tests, such as failed, paused, size>5G.",
        changes=False,
    ),
    Command(
        name="disk",
        keys="d",
        label="disk",
        help="List what the cache holds; delete, check and prune it there.",
        action="app.show('disk')",
        footer=False,
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
)
"""The first ones stand in the footer where there is little room."""
