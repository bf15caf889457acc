"""Shows the model card of a repository."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.widgets import Static

from modeldeck.core.errors import DeckError
from modeldeck.core.schema import Card
from modeldeck.tui.dashboard.dialogs.overlay import Overlay
from modeldeck.tui.dashboard.theme import ink
from modeldeck.tui.dashboard.widgets.markdown import MarkdownText
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text.markdown import readable

if TYPE_CHECKING:
    from modeldeck.tui.dashboard.interface import DashboardInterface

SHOWN = 64 << 10
"""Most characters of a card that are shown."""
PIECE = 2000
"""Characters laid out at a time; keys are handled in between."""


class ModelCardScreen(Overlay):
    """Shows the card after loading it; closing cancels the request."""

    DEFAULT_CSS = """
    ModelCardScreen > VerticalScroll { width: 100; min-height: 50%; }
    ModelCardScreen Static { height: auto; }
    ModelCardScreen #card-about { margin: 0 0 1 0; }
    """

    BINDINGS = [Binding("m", "dismiss", "close")]  # noqa: RUF012 (as in `Overlay`)

    def __init__(self, dashboard: DashboardInterface, repo: str, revision: str | None) -> None:
        """Show the card of a revision; None: of the default branch."""
        super().__init__()
        self._dashboard = dashboard
        self._repo = repo
        self._revision = revision

    def compose(self) -> ComposeResult:
        """Status of the request, and the card."""
        with self.paper(fmt.clean(self._repo)):
            yield Static(
                f"Asking the Hub for the model card of {self._repo}", id="card-about", markup=False
            )
            yield MarkdownText()

    def on_mount(self) -> None:
        """Request the card."""
        super().on_mount()
        self._fetch()

    @work(exclusive=True)
    async def _fetch(self) -> None:
        about = self.query_one("#card-about", Static)
        try:
            card = await self._dashboard.link.client.card(self._repo, self._revision)
        except DeckError as error:
            glyph, style = self._dashboard.glyphs.failed, ink(self.app.theme_variables).error
            about.update(Text.assemble((f"{glyph} ", style), fmt.clean(str(error))))
            return
        text = await asyncio.to_thread(readable, card.text)
        about.update(Text(_about(card, text), ink(self.app.theme_variables).muted))
        for piece in pieces(text[:SHOWN]):
            await self.query_one(MarkdownText).append(piece)
            await asyncio.sleep(0)


def pieces(text: str) -> list[str]:
    """Split a text into pieces at line ends."""
    found = [""]
    for line in text.splitlines(keepends=True):
        if len(found[-1]) > PIECE:
            found.append("")
        found[-1] += line
    return found


def _about(card: Card, text: str) -> str:
    facts = [f"revision {card.revision[:8]}", "kept here" if card.from_cache else "from the Hub"]
    if card.truncated or len(text) > SHOWN:
        facts.append("longer than what is shown")
    elif not text:
        facts.append("nothing is written in it")
    return "  ".join(facts)
