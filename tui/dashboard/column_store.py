"""Keeps the choice of columns of each view in `columns.json` of the front end's state folder."""

from __future__ import annotations

import threading
from pathlib import Path

import msgspec

from modeldeck.core.errors import StorageFailed
from modeldeck.core.storage.files import OWNER_ONLY, make_private, replace_file
from modeldeck.tui.dashboard.widgets.column_choice import STANDARD, ColumnChoice

FILE = "columns.json"
MOST_BYTES = 1 << 16
"""A larger file is not ours, and is not read."""


class ColumnStore:
    """Choices by the name of the view; without a folder they last as long as the dashboard."""

    def __init__(self, folder: Path | None = None) -> None:
        self._path = folder / FILE if folder is not None else None
        self._choices = self._read()
        self._chosen: dict[str, ColumnChoice] = {}
        """What was chosen here: another dashboard may have changed the other views."""
        self._writing = threading.Lock()

    def _read(self) -> dict[str, ColumnChoice]:
        """What the file holds; nothing where it cannot be read, as columns matter little."""
        if self._path is None:
            return {}
        try:
            if self._path.stat().st_size > MOST_BYTES:
                return {}
            return msgspec.json.decode(self._path.read_bytes(), type=dict[str, ColumnChoice])
        except (OSError, msgspec.MsgspecError, UnicodeError):
            return {}

    def choice(self, view: str) -> ColumnChoice:
        """The choice for a view."""
        return self._choices.get(view, STANDARD)

    def choose(self, view: str, choice: ColumnChoice) -> None:
        """Set the choice for a view; `save` writes it."""
        self._choices = {**self._choices, view: choice}
        self._chosen = {**self._chosen, view: choice}

    def save(self) -> None:
        """Write the choices. Blocks. Raises StorageFailed."""
        if self._path is None:
            return
        with self._writing:  # the last one to write writes the newest choices
            found = {**self._read(), **self._chosen}
            kept = {view: choice for view, choice in found.items() if choice != STANDARD}
            text = msgspec.json.format(msgspec.json.encode(kept, order="sorted"))
            try:
                make_private(self._path.parent)
                replace_file(self._path, text + b"\n", mode=OWNER_ONLY)
            except OSError as error:
                raise StorageFailed(
                    f"The choice of columns cannot be kept: {error}", "It holds until you quit."
                ) from error
