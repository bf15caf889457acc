"""The detail of the row under the cursor: variants, memory needs, and facts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll

from modeldeck.core.schema import (
    Fit,
    Forecast,
    Model,
    Repository,
    SearchHit,
    Variant,
    Verdict,
    model_id,
)
from modeldeck.core.schema.state import State
from modeldeck.tui.dashboard.commands import KeyOf
from modeldeck.tui.dashboard.screens.catalog.cells import VERDICT_INK, CellPainter, needs
from modeldeck.tui.dashboard.screens.catalog.rows import RowContext
from modeldeck.tui.dashboard.widgets.columns import Column
from modeldeck.tui.dashboard.widgets.table import Table, TableLine
from modeldeck.tui.dashboard.widgets.wrapped_text import WrappedText
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text import records, sharing
from modeldeck.tui.text.format import Glyphs

COLUMNS = (
    Column("sign", "", 1),
    Column("quantization", "variant", 7, grow=True),
    Column("size", "size", 7, right=True, rank=1),
    Column("fit", "fit", 9),
    Column("needs", "GiB", 13, right=True, rank=2),
    Column("files", "files", 5, right=True, rank=3),
)

ONE_LINE = 74
"""Width in cells that a forecast on one line needs."""
TALL = 30
"""Height in lines from which on a forecast may take several lines."""
BAR = 16


@dataclass(frozen=True, slots=True)
class DetailTarget:
    """A target of actions: a variant on the Hub, or a listed model without one."""

    unique: str
    quantization: str
    size_bytes: int | None
    files: int | None
    model: Model | None
    """Its catalog entry, if it is listed."""

    @property
    def ref(self) -> str:
        """Its reference in requests to the core."""
        return self.model.id if self.model else self.unique

    @property
    def key(self) -> str:
        """The id of its model, listed or not."""
        return self.model.id if self.model else model_id(self.unique)


def choices(
    subject: Model | SearchHit | None,
    repository: Repository | None,
    models: Mapping[str, Model],
) -> list[DetailTarget]:
    """Variants to choose from, of a row; includes the listed model."""
    if repository is not None and repository.variants:
        found = [_choice(variant, models) for variant in repository.variants]
        own = subject if isinstance(subject, Model) else None
        if own is None or any(choice.key == own.id for choice in found):
            return found
        return [only(own), *found]
    return [only(subject)] if isinstance(subject, Model) else []


def _choice(variant: Variant, models: Mapping[str, Model]) -> DetailTarget:
    return DetailTarget(
        variant.unique,
        variant.label or variant.quantization or variant.format,
        variant.size_bytes,
        len(variant.files),
        models.get(model_id(variant.unique)),
    )


def only(model: Model) -> DetailTarget:
    """The target for a listed model."""
    quantization = model.quantization or model.format
    return DetailTarget(model.unique, quantization, model.size_bytes, None, model)


@dataclass(frozen=True, slots=True)
class DetailFacts:
    """All data that the pane shows."""

    subject: Model | SearchHit | None = None
    repository: Repository | None = None
    note: str = ""
    """Status of the request for the repository, or its error."""
    notes: Mapping[str, str] = field(default_factory=dict)
    """Errors of plans, by the key of the target."""
    choices: Sequence[DetailTarget] = ()
    fits: Mapping[str, Fit] = field(default_factory=dict)
    context: int = 0
    room_bytes: int | None = None
    """Free bytes of the budget for models; None where unknown."""
    hub: str = ""
    """Base URL of the Hub, for the page where a licence is accepted."""
    now: RowContext = field(default_factory=RowContext)


class DetailPane(Vertical):
    """Pane with the detail; its table of variants takes the focus."""

    DEFAULT_CSS = """
    DetailPane {
        padding: 0 1;
        & > #detail-head { height: auto; max-height: 9; padding: 0 1; }
        & > Table { height: auto; max-height: 50%; min-height: 2; margin: 1 0 0 0; }
        & > #detail-needs { height: auto; padding: 1 1 0 1; }
        & > VerticalScroll { height: 1fr; padding: 1 1 0 1; scrollbar-size-vertical: 1; }
    }
    CatalogView.low DetailPane {
        & > #detail-head { max-height: 2; }
        & > Table { margin: 0; }
        & > #detail-needs { padding: 0 1; }
    }
    """

    def __init__(self, glyphs: Glyphs, key_of: KeyOf) -> None:
        super().__init__(id="detail")
        self._key_of = key_of
        self._glyphs = glyphs
        self._facts = DetailFacts()
        self._drawn: dict[str, Text] = {}
        self.painter: CellPainter | None = None
        self.table: Table[DetailTarget] = Table(COLUMNS, self._line, glyphs, id="variants")

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
        self._put("#detail-head", self._head())
        self._put("#detail-needs", self._needs())
        self._put("#detail-words", self._words())

    def _put(self, where: str, text: Text) -> None:
        if self._drawn.get(where) != text or self._drawn[where].spans != text.spans:
            self._drawn[where] = text
            self.query_one(where, WrappedText).put(text)

    def _line(self, choice: DetailTarget) -> TableLine:
        assert self.painter is not None
        sign, _ = self.painter.state(choice.model, self._facts.now) if choice.model else ("", "")
        return TableLine(
            choice.key,
            {
                "sign": sign,
                "quantization": choice.quantization,
                "size": fmt.size(choice.size_bytes),
                **self.painter.fit_cells(self._fit(choice)),
                "files": fmt.UNKNOWN if choice.files is None else str(choice.files),
            },
        )

    def _fit(self, choice: DetailTarget) -> Fit | None:
        """The fit of a variant: requested, else estimated (see `beside`)."""
        if (fit := self._facts.fits.get(choice.key)) is not None:
            return fit
        known = ((self._facts.fits.get(c.key), c) for c in self._facts.choices)
        exact = next(((fit, c) for fit, c in known if fit is not None and fit.exact), None)
        return beside(*exact, choice, self._facts.room_bytes) if exact else None

    # Words

    def _head(self) -> Text:
        facts, painter = self._facts, self.painter
        assert painter is not None
        muted = painter.ink("muted")
        match facts.subject:
            case None:
                return Text("No model selected.", muted)
            case Model() as model:
                name = fmt.clean(model.unique)
                known = [model.license and f"licence {fmt.clean(model.license)}"]
            case SearchHit() as hit:
                name = fmt.clean(hit.repo)
                known = [hit.license and f"licence {fmt.clean(hit.license)}"]
        repository = facts.repository
        if repository is not None:
            if known == [None] and repository.license:
                known = [f"licence {fmt.clean(repository.license)}"]
            known += [f"revision {repository.revision[:8]}"]
            known += ["offline copy" if repository.from_cache else None]
        text = Text(overflow="fold").append(name, "bold")
        if words := f" {self._glyphs.dot} ".join(part for part in known if part):
            text.append("\n").append(words, muted)
        if facts.note:
            text.append("\n").append(fmt.clean(facts.note), muted)
        return text

    def _needs(self) -> Text:
        painter, facts, choice = self.painter, self._facts, self.choice
        assert painter is not None
        if choice is None:
            return Text()
        muted = painter.ink("muted")
        text = Text().append("context   ", muted).append(f"[ {facts.context} ]", "bold")
        arrows = {"left": self._glyphs.left, "right": self._glyphs.right}
        less, more = (self._key_of(name) for name in ("shorter", "longer"))
        keys = f"{arrows.get(less, less)} half  {arrows.get(more, more)} double"
        text.append(f"  {keys}\n", muted)
        fit, why = facts.fits.get(choice.key), facts.notes.get(choice.key)
        tall = self.size.width < ONE_LINE and self.app.size.height >= TALL
        share = fit and sharing.shared_briefly(fit.parallel, fit.context_length, fit.cache_tokens)
        if share and tall:
            text.append("at once   ", muted).append(f"{share}\n")
        if fit is None or fit.forecast is None:
            words = why or (fit and fit.reason) or ("not known" if facts.note else "asking")
            return text.append("needs     ", muted).append(fmt.clean(words))
        if fit.forecast.kv_bytes or fit.exact:
            self._items(text, fit.forecast, tall=tall)
        else:
            text.append("needs     ", muted).append(f"about {fmt.memory(fit.forecast.total_bytes)}")
        text.append("\nverdict   ", muted)
        text.append(fit.verdict, painter.ink(VERDICT_INK[fit.verdict]))
        text.append(f"  {needs(fit)} GiB" if needs(fit) else "")
        text.append("\n          ")
        source = "exact: asked llama.cpp" if fit.exact else "estimate from file size"
        return text.append(records.on_gpu(fit.forecast) or source, muted)

    def _items(self, text: Text, forecast: Forecast, *, tall: bool) -> None:
        """Memory needs: one line per item with a bar, or as a sum on one line."""
        assert self.painter is not None
        muted, total = self.painter.ink("muted"), forecast.total_bytes
        if not tall:
            text.append("needs     ", muted).append(records.items(forecast))
            return
        parts = (
            ("weights", forecast.weights_bytes),
            ("KV cache", forecast.kv_bytes),
            ("compute", forecast.compute_bytes),
            ("overhead", forecast.overhead_bytes),
        )
        for name, part in parts:
            text.append(f"{name:<10}", muted).append(f"{fmt.memory(part):>9}  ")
            shape = fmt.bar(part / total if total else 0, BAR, self._glyphs)
            text.append(shape.rstrip(self._glyphs.empty), self.painter.ink("primary")).append("\n")
        text.append(f"{'together':<10}", muted).append(f"{fmt.memory(total):>9}", "bold")

    def _words(self) -> Text:
        painter, facts = self.painter, self._facts
        assert painter is not None
        text = Text()
        subject = facts.subject
        gated = (subject is not None and subject.gated) or bool(
            facts.repository and facts.repository.gated
        )
        repo = subject.repo if subject else None
        if gated and repo:
            text.append("gated", painter.ink("warning")).append(
                f"  Accept the licence at {fmt.clean(facts.hub)}/{fmt.clean(repo)}, and store a"
                " token with `hf auth login`.\n"
            )
        if isinstance(subject, Model):
            self._model_words(text, subject)
        popular = facts.repository or (subject if isinstance(subject, SearchHit) else None)
        if popular is not None:
            text.append(f"{self._glyphs.down} {fmt.count(popular.downloads)}", painter.ink("muted"))
            text.append(f"  {self._glyphs.liked} {fmt.count(popular.likes)}", painter.ink("muted"))
            text.append(f"  {(popular.last_modified or '')[:10]}", painter.ink("muted"))
        return text

    def _model_words(self, text: Text, model: Model) -> None:
        assert self.painter is not None
        job = self._facts.now.jobs.get(model.id)
        instance = self._facts.now.instances.get(model.id)
        if job is not None and job.state in records.RUNNING_JOBS:
            text.append(f"{self._glyphs.down} ", self.painter.ink("accent"))
            text.append(
                f"{job.state} {fmt.size(job.received_bytes)} of {fmt.size(job.total_bytes)}"
            )
            text.append(f"\n  {fmt.rate(job.rate_bytes_per_s)}  {fmt.duration(job.eta_s)} left\n\n")
        self._check_words(text, model)
        for failed in (job, instance):
            if failed is not None and failed.error is not None and not (job and model.downloaded):
                text.append(f"{self._glyphs.failed} ", self.painter.ink("error"))
                text.append(f"{fmt.clean(failed.error.message)} {fmt.clean(failed.error.remedy)}\n")
        for name, value in (
            ("trained", model.context_length and f"{model.context_length} tokens of context"),
            ("family", model.architecture),
            ("for", ", ".join((*model.usage, *(c for c in model.capabilities if c == "thinking")))),
            ("path", model.path and fmt.squeeze(model.path, max(20, self.size.width - 16))),
        ):
            if value:
                text.append(f"{name:<9}", self.painter.ink("muted"))
                text.append(f"{fmt.clean(value)}\n")
        if model.description:
            text.append(f"\n{fmt.clean(model.description, lines=True)}\n")

    def _check_words(self, text: Text, model: Model) -> None:
        """Result of the last verification."""
        assert self.painter is not None
        now, glyphs = self._facts.now, self._glyphs
        if model.id in now.corrupt:
            text.append(f"{glyphs.failed} ", self.painter.ink("error"))
            drop, fetch = self._key_of("delete"), self._key_of("download")
            text.append(f"Corrupt file: {drop} deletes it, {fetch} downloads it again.\n")
        elif model.id in now.sound and model.downloaded:
            text.append(f"{glyphs.done} ", self.painter.ink("success"))
            text.append(f"verified at {fmt.clock(now.sound[model.id])}\n")


def _subject(subject: Model | SearchHit | None) -> str | None:
    return None if subject is None else subject.id if isinstance(subject, Model) else subject.repo


def beside(
    fit: Fit, asked: DetailTarget, choice: DetailTarget, room_bytes: int | None
) -> Fit | None:
    """Estimate the fit of a variant from a planned one: only the weights differ.

    Its header, which may have ten megabytes, is only fetched when the cursor is on it.
    """
    forecast, free = fit.forecast, fit.available_bytes
    if forecast is None or not asked.size_bytes or choice.size_bytes is None:
        return None
    other = forecast.with_weights(forecast.weights_bytes * choice.size_bytes // asked.size_bytes)
    total = other.total_bytes
    verdict: Verdict = "unknown"
    if forecast.gpu_bytes != 0:
        pass  # free GPU memory is unknown here
    elif free is not None and total > free:
        verdict = "too large"
    elif room_bytes is not None:
        verdict = "tight" if total > room_bytes else "fits"
    return Fit(
        verdict=verdict,
        forecast=other,
        available_bytes=free,
        exact=False,
    )


def room(state: State) -> int | None:
    """Free bytes of the budget for models; None where unknown."""
    budget = state.memory.budget_bytes
    held = sum(i.measured_bytes or 0 for i in records.live(state))
    return None if budget is None else budget - held
