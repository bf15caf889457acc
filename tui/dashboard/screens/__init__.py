"""The screens, in the order of their keys; each is imported when it is created.

The first frame is drawn without them, as importing them takes longer than all the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modeldeck.tui.dashboard.screens.view import View


@dataclass(frozen=True, slots=True)
class LazyScreen:
    """A screen that is not imported yet."""

    name: str
    """Folder of its module `screen`, and scope of its commands."""
    title: str
    """Name in the footer; its class is called `<title>View`."""
    under: str = ""
    """Name of the screen it is opened from, where it has no number of its own."""

    def load(self) -> type[View]:
        """Import the class of the screen."""
        module = import_module(f"{__name__}.{self.name}.screen")
        kind: type[View] = getattr(module, f"{self.title}View")
        return kind


VIEWS = (
    LazyScreen("catalog", "Catalog"),
    LazyScreen("downloads", "Downloads"),
    LazyScreen("memory", "Memory"),
    LazyScreen("chat", "Chat"),
    LazyScreen("log", "Log"),
)
"""Screens of one machine."""

FLEET = LazyScreen("fleet", "Fleet")
"""Screen for several machines."""

DISK = LazyScreen("disk", "Disk", under="memory")
"""The cache, row by row; Memory shows it as one line."""

REQUESTS = LazyScreen("requests", "Requests", under="memory")
"""Requests to models, one by one; Memory shows the live ones."""

ALL = (*VIEWS, FLEET, DISK, REQUESTS)
