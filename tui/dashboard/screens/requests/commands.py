"""The keys of Requests."""

from __future__ import annotations

from modeldeck.tui.dashboard.commands import Command
from modeldeck.tui.dashboard.widgets.scrolled_lines import COMMANDS as SCROLL_COMMANDS

COMMANDS = (
    Command(
        name="cancel",
        keys="c",
        label="cancel",
        help="Cancel the request; asks first for those of others.",
        marks=True,
    ),
    Command(
        name="details",
        keys="enter",
        label="details",
        help="Show the request in full, or hide it.",
        action="open_row",
        changes=False,
    ),
    Command(
        name="copy",
        keys="y",
        label="copy as curl",
        help="Copy the request as a line of curl; its text is left out.",
        changes=False,
    ),
    Command(
        name="record",
        keys="R",
        label="record",
        help="Record prompts and answers for some minutes, in the core's memory only; or stop.",
    ),
    Command(
        name="filter",
        keys="slash",
        label="filter",
        help="Filter by words and tests, such as who:laptop, failed, tok/s<5.",
        changes=False,
    ),
    Command(
        name="show",
        keys="s",
        label="live, all, failed",
        help="Show all requests, only live ones, or only failed ones.",
        changes=False,
    ),
    *SCROLL_COMMANDS,
)
"""The first ones stand in the footer where there is little room."""
