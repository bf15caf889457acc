"""Commands of all tables."""

from __future__ import annotations

from modeldeck.tui.dashboard.commands import Command

SCOPE = "table"
COLUMNS_KEY = "o"
"""Chooses columns, and the order of the rows."""

COMMANDS = (
    Command(
        name="down", keys="j,down", label="down", help="Move down.", action="move(1)", changes=False
    ),
    Command(name="up", keys="k,up", label="up", help="Move up.", action="move(-1)", changes=False),
    Command(name="first", keys="g,home", label="first", help="Go to the first row.", changes=False),
    Command(name="last", keys="G,end", label="last", help="Go to the last row.", changes=False),
    Command(
        name="half_down",
        keys="ctrl+d",
        label="half a page down",
        help="Move half a page down.",
        action="turn(0.5)",
        changes=False,
    ),
    Command(
        name="half_up",
        keys="ctrl+u",
        label="half a page up",
        help="Move half a page up.",
        action="turn(-0.5)",
        changes=False,
    ),
    Command(
        name="page_down",
        keys="pagedown,ctrl+f",
        label="page down",
        help="Move a page down.",
        action="turn(1)",
        changes=False,
    ),
    Command(
        name="page_up",
        keys="pageup,ctrl+b",
        label="page up",
        help="Move a page up.",
        action="turn(-1)",
        changes=False,
    ),
    Command(
        name="mark",
        keys="space",
        label="mark",
        help="Mark the row, or take its mark away.",
        changes=False,
    ),
    Command(name="choose", keys="enter", label="open", help="Open the row.", changes=False),
    Command(
        name="columns",
        keys=COLUMNS_KEY,
        label="columns",
        help="Choose the columns and the order of the rows; a click on a title sorts as well.",
        changes=False,
    ),
)
