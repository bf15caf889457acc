"""The keys of the catalog."""

from __future__ import annotations

from modeldeck.tui.dashboard.commands import Command

COMMANDS = (
    Command(name="download", keys="d", label="download", help="Download the model.", marks=True),
    Command(
        name="load",
        keys="l",
        label="load",
        help="Load the model, with the options of the last time.",
        marks=True,
    ),
    Command(name="filter", keys="slash", label="filter", help="Filter, and search the Hub."),
    Command(
        name="delete",
        keys="x",
        label="delete files",
        help="Delete the model's files; a plan is shown first.",
        marks=True,
    ),
    Command(name="unload", keys="u", label="unload", help="Unload the model.", marks=True),
    Command(
        name="cancel",
        keys="c",
        label="cancel",
        help="Cancel the download, the load or the check; a partial file is kept.",
        marks=True,
    ),
    Command(
        name="load_with", keys="L", label="load with", help="Load, and ask for the options first."
    ),
    Command(name="try", keys="t", label="chat", help="Try the model in Chat.", action="chat"),
    Command(
        name="shown",
        keys="s",
        label="show",
        help="Show all, downloaded, loaded, moving or failed, fitting, custom.",
    ),
    Command(
        name="verify",
        keys="v",
        label="verify",
        help="Check the model's files on disk against their hashes.",
        marks=True,
    ),
    Command(
        name="card",
        keys="m",
        label="model card",
        help="Read what its makers wrote about the model.",
    ),
    Command(name="sort", keys="o", label="sort", help="Sort by another column."),
    Command(name="hub", keys="h", label="search Hub", help="Search the Hub now."),
    Command(name="new", keys="n", label="new", help="Add a custom model."),
    Command(name="edit", keys="e", label="edit", help="Edit a custom model."),
    Command(
        name="remove",
        keys="D",
        label="remove from list",
        help="Remove a custom model from the list; its files stay.",
    ),
    Command(
        name="longer",
        keys="right",
        label="double context",
        help="Double the context length that fits are told for.",
        action="context(2.0)",
        footer=False,
    ),
    Command(
        name="shorter",
        keys="left",
        label="halve context",
        help="Halve the context length that fits are told for.",
        action="context(0.5)",
        footer=False,
    ),
    Command(name="copy", keys="y", label="copy", help="Copy the model's name, or its path."),
)
"""The first ones stand in the footer where there is little room."""
