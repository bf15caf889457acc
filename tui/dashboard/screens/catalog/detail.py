"""The detail of the row under the cursor: variants, memory needs, and facts."""

from __future__ import annotations

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll

from modeldeck.core.schema import Fit, Model, SearchHit
from modeldeck.tui.dashboard.commands import KeyOf
from modeldeck.tui.dashboard.screens.catalog.cells import CellPainter
from modeldeck.tui.dashboard.screens.catalog.columns import speed_words
from modeldeck.tui.dashboard.screens.catalog.detail_words import DetailFacts, DetailWords
from modeldeck.tui.dashboard.screens.catalog.targets import DetailTarget, beside
from modeldeck.tui.dashboard.widgets.bars import alike
from modeldeck.tui.dashboard.widgets.columns import Column
from modeldeck.tui.dashboard.widgets.table import Table, TableLine
from modeldeck.tui.dashboard.widgets.wrapped_text import WrappedText
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text.format import Glyphs

VARIANTS = "variants"
"""Id of the table of variants, whose columns are not chosen."""
COLUMNS = (
    Column("sign", "", 1),
    Column("quantization", "variant", 7, grow=True),
    Column("size", "size", 7, right=True, rank=1),
    Column("fit", "fit GiB", 10),
    Column("speed", "tok/s", 6, right=True, rank=2),
)

ONE_LINE = 74
"""Width in cells that a forecast on one line needs."""
TALL = 30
"""Height in lines from which on a forecast may take several lines."""


class DetailPane(Vertical):
    """Pane with the detail; its table of variants takes the focus."""

    DEFAULT_CSS = """
    DetailPane {
        padding: 0 1;
        & > #detail-head { height: auto; max-height: 9; }
        & > Table { height: auto; max-height: 50%; min-height: 2; margin: 1 0 0 0; }
        & > #detail-needs { height: auto; }
        & > VerticalScroll { height: 1fr; padding: 1 0 0 0; scrollbar-size-vertical: 1; }
    }
    """

    def __init__(self, glyphs: Glyphs, key_of: KeyOf) -> None:
        super().__init__(id="detail")
        self._key_of = key_of
        self._facts = DetailFacts()
        self._drawn: dict[str, Text] = {}
        self.painter: CellPainter | None = None
        self.table: Table[DetailTarget] = Table(COLUMNS, self._line, glyphs, id=VARIANTS)

    def compose(self) -> ComposeResult:
        """The head, the variants, memory needs, and facts."""
        yield WrappedText(id="detail-head")
        yield self.table
        yield WrappedText(id="detail-needs")
        with VerticalScroll(can_focus=False):
            yield WrappedText(id="detail-words")

    @property
    def choice(self) -> DetailTarget | None:
        """The variant under the cursor."""
        return self.table.cursor_item

    def show(self, facts: DetailFacts, painter: CellPainter) -> None:
        """Show these facts; draws only what changed."""
        same = _subject(self._facts.subject) == _subject(facts.subject)
        self._facts, self.painter = facts, painter
        self.table.show(facts.choices, key=lambda choice: choice.key)
        if not same and isinstance(facts.subject, Model):
            self.table.move_to(facts.subject.id)
        self.table.display = bool(facts.choices)
        width = max(20, self.content_region.width or self.size.width)
        tall = width < ONE_LINE and self.app.size.height >= TALL
        words = DetailWords(facts, painter, self._key_of, width, tall)
        self._put("#detail-head", words.head())
        self._put("#detail-needs", words.needs(self.choice))
        self._put("#detail-words", words.facts_words())

    def _put(self, where: str, text: Text) -> None:
        if (before := self._drawn.get(where)) is None or not alike(before, text):
            self._drawn[where] = text
            self.query_one(where, WrappedText).put(text)

    def _line(self, choice: DetailTarget) -> TableLine:
        assert self.painter is not None
        now, model = self._facts.now, choice.model
        sign, _ = self.painter.state(model, now) if model else ("", "")
        return TableLine(
            choice.key,
            {
                "sign": sign,
                "quantization": choice.quantization,
                "size": fmt.size(choice.size_bytes),
                "fit": self.painter.fit(self._fit(choice)),
                "speed": (speed_words(model, now) if model else "") or fmt.UNKNOWN,
            },
        )

    def _fit(self, choice: DetailTarget) -> Fit | None:
        """The fit of a variant: requested, else estimated (see `beside`)."""
        if (fit := self._facts.fits.get(choice.key)) is not None:
            return fit
        known = ((self._facts.fits.get(c.key), c) for c in self._facts.choices)
        exact = next(((fit, c) for fit, c in known if fit is not None and fit.exact), None)
        return beside(*exact, choice, self._facts.room_bytes) if exact else None


def _subject(subject: Model | SearchHit | None) -> str | None:
    return None if subject is None else subject.id if isinstance(subject, Model) else subject.repo
