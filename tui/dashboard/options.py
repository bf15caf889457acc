"""`DashboardOptions`: what a dashboard is started with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from modeldeck.core.config.config import ChatSettings, Tui
from modeldeck.core.config.paths import locate
from modeldeck.tui.dashboard.column_store import ColumnStore
from modeldeck.tui.dashboard.commands import KeyOf
from modeldeck.tui.dashboard.theme import Themes
from modeldeck.tui.text.format import Glyphs

if TYPE_CHECKING:
    from modeldeck.tui.chats.store import ChatStore


def open_chats(path: Path | None = None, settings: ChatSettings | None = None) -> ChatStore:
    """Open the place where conversations are kept; by default the person's own.

    The store is imported here, as the first picture does not need it.
    """
    from modeldeck.tui.chats.store import ChatStore

    path = path or locate().chats
    return ChatStore(path) if settings is None else ChatStore(path, settings)


@dataclass(frozen=True, slots=True, kw_only=True)
class DashboardOptions:
    """What a dashboard is started with, besides its machines."""

    glyphs: Glyphs
    """Characters that the terminal can show."""
    settings: Tui
    """The `[tui]` table of the configuration."""
    keymap: Mapping[str, str]
    """Keys by full command name, from the configuration."""
    themes: Themes
    """Themes to choose from."""
    keep_theme: Callable[[str], None] | None = None
    """Saves the name of a chosen theme; may raise DeckError."""
    problems: Sequence[str] = ()
    """Errors to show once the frame is drawn."""
    welcome: Callable[[KeyOf], str] | None = None
    """Makes the first notice."""
    only: str | None = None
    """Name of the only screen to show; None for all."""
    columns: ColumnStore | None = None
    """The columns chosen for each view; None keeps none."""
    open_chats: Callable[[], ChatStore] = open_chats
    """Opens the place where conversations are kept; by default the person's own."""
    is_demo: bool = False
    """Whether the core is that of the demo, whose hub has few models."""
    log_file: Path | None = None
    """Where unexpected errors are logged, to name it; None where they are not."""
