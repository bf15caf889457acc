"""Notice in place of the screens when no core can be reached: error, remedy, log lines."""

from __future__ import annotations

from rich.text import Text
from textual.widgets import Static

from modeldeck.core.errors import DeckError
from modeldeck.tui.dashboard.theme import ink
from modeldeck.tui.text import format as fmt


class NoCoreNotice(Static):
    """Shows why no core can be reached; hidden otherwise."""

    DEFAULT_CSS = """
    NoCoreNotice { display: none; height: auto; max-height: 60%; padding: 1 2; background: $surface;
    } NoCoreNotice.-there { display: block; }
    """

    def __init__(self) -> None:
        super().__init__(markup=False)

    def show(self, error: DeckError | None, again: str) -> None:
        """Show an error with its details; None hides it. `again` is the key that tries again."""
        self.set_class(error is not None, "-there")
        if error is None:
            return
        inks = ink(self.app.theme_variables)
        text = Text().append(fmt.clean(error.message), inks.error)
        for line in error.details:
            text.append(f"\n  {fmt.clean(line)}", inks.muted)
        if error.remedy:
            text.append(f"\n{fmt.clean(error.remedy)}")
        text.append(f"\n{again} tries again.")
        self.update(text)
