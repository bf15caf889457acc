"""The screens, in the order of their keys; each is imported when it is made.

The frame is drawn without them: what they need of Textual and of the records takes longer to import
than all the rest together.
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
    """Of its class, and in the footer."""
    under: str = ""
    """The screen that it is reached from, where it has no number of its own."""

    def load(self) -> type[View]:
        """The screen itself."""
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
"""Of one machine."""

FLEET = LazyScreen("fleet", "Fleet")
"""Of several."""

DISK = LazyScreen("disk", "Disk", under="memory")
"""What Memory says in one line, row by row."""

ALL = (*VIEWS, FLEET, DISK)
