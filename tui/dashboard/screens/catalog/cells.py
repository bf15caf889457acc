"""Cells of the rows of the catalog. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rich.style import Style
from rich.text import Text

from modeldeck.core.schema import (
    BenchProgress,
    Download,
    Fit,
    Instance,
    InstanceState,
    Model,
    SearchHit,
)
from modeldeck.tui.dashboard.screens.catalog.columns import source, speed_words, used_words
from modeldeck.tui.dashboard.screens.catalog.rows import (
    BuiltInHeading,
    Heading,
    Row,
    RowContext,
    elsewhere,
    key,
)
from modeldeck.tui.dashboard.theme import ink
from modeldeck.tui.dashboard.widgets.cells import Cell, MatchedText
from modeldeck.tui.dashboard.widgets.table import TableLine
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text import records
from modeldeck.tui.text.capabilities import UNTOLD, Abilities, letters, of_model
from modeldeck.tui.text.format import Glyphs
from modeldeck.tui.text.model_names import plain_name

BAR = 5
"""Width in cells of a progress bar: with a percentage it fills the state column."""
FIT = 10
"""Width in cells of a fit: a word at the left, a number at the right."""
LIKES = 4
"""Width in cells of the likes of a repository."""

VERDICTS = {
    "fits": ("fits", "success"),
    "tight": ("tight", "warning"),
    "too large": ("over", "error"),
    "refused": ("refused", "error"),
}
"""Word and colour of each verdict but `unknown`."""


def verdict(fit: Fit) -> tuple[str, str]:
    """Word and colour of a verdict; `budget` where only the person's own budget is too small."""
    return ("budget", "error") if fit.over_budget else VERDICTS.get(fit.verdict, ("", "muted"))


def needs(fit: Fit) -> str:
    """The number of a fit in GiB: what it needs, or what is missing; `~` before an estimate."""
    forecast = fit.forecast
    if forecast is None:
        return ""
    count, free = forecast.total_bytes, fit.available_bytes
    # What is free is the machine's memory, which says nothing of the part for a GPU.
    if fit.verdict == "too large" and free is not None and forecast.gpu_bytes == 0:
        count -= free
    return f"{'' if fit.exact else '~'}{fmt.gib(count)}"


def fit_words(fit: Fit | None) -> tuple[str, str]:
    """Word and number of a fit, which together fill the column.

    >>> fit_words(None)
    ('—', '')
    """
    if fit is None or not (word := verdict(fit)[0]):
        return fmt.UNKNOWN, ""
    number = needs(fit) if fit.verdict != "refused" else ""  # more memory would not help
    if len(word) + len(number) > FIT:
        number = number.partition(".")[0]
    return word, number.rjust(FIT - len(word)) if number else ""


@dataclass(frozen=True, slots=True)
class CellPainter:
    """Draws rows with the colours of a theme and the glyphs of a terminal."""

    glyphs: Glyphs
    variables: Mapping[str, str]
    """Styles of the theme."""
    words: tuple[str, ...] = ()
    """Words of the filter, which are marked in the names."""
    is_demo: bool = False
    """Whether built-in models are dim, as the demo's hub does not have them."""

    def ink(self, name: str) -> Style:
        """A variable of the theme."""
        style: Style = getattr(ink(self.variables), name)
        return style

    def line(self, row: Row, now: RowContext) -> TableLine:
        """The line of a row."""
        match row:
            case Heading():
                heads = HUB_HEADS if row.heads else {}
                heads = {key: title.format(**self._signs) for key, title in heads.items()}
                return TableLine("heading", {"name": row.words, **heads}, rule=True)
            case BuiltInHeading():
                return TableLine(key(row), {"name": row.words}, rule=True)
            case SearchHit():
                return self._hit(row, now)
            case Model():
                return self._model(row, now)

    @property
    def _signs(self) -> Mapping[str, str]:
        return {"down": self.glyphs.down, "liked": self.glyphs.liked}

    def _model(self, model: Model, now: RowContext) -> TableLine:
        sign, state = self.state(model, now)
        return TableLine(
            model.id,
            {
                "sign": sign,
                "name": self._name(plain_name(model)),
                "parameters": fmt.parameters(model.parameters),
                "quantization": self._name(
                    (model.quantization or model.format).removeprefix("UD-")
                ),
                "size": fmt.size(model.size_bytes),
                "fit": self.fit(now.fits.get(model.id)),
                "can": self.can(of_model(model)),
                "context": fmt.tokens(model.context_length),
                "runtime": model.engine or fmt.UNKNOWN,
                "speed": speed_words(model, now),
                "used": used_words(model, now),
                "from": source(model),
                "state": state,
            },
            dim=self.is_demo and elsewhere(model),
        )

    def _name(self, text: str) -> Cell:
        """A text in which the words of the filter are marked."""
        style = self.ink("accent") + UNDERLINED
        return MatchedText(text, self.words, style) if self.words else text

    def _hit(self, hit: SearchHit, now: RowContext) -> TableLine:
        here = hit.repo in now.here
        words = "gated" if hit.gated else (hit.last_modified or "")[:10]
        return TableLine(
            key(hit),
            {
                "sign": Text(self.glyphs.done if here else " ", self.ink("success")),
                "name": self._name(hit.repo),
                "parameters": fmt.parameters(hit.parameters),
                "quantization": (Text(" ".join(hit.formats)), Text("both")),
                "fit": fmt.count(hit.downloads),
                "can": likes(hit.likes),
                "state": Text(words, self.ink("warning") if hit.gated else Style()),
            },
        )

    def fit(self, fit: Fit | None) -> Cell:
        """Whether a model fits, and how much it needs."""
        word, number = fit_words(fit)
        style = self.ink(verdict(fit)[1] if fit is not None else "muted")
        return Text.assemble((word, style), (number, Style()))

    def can(self, able: Abilities) -> Cell:
        """What a model can do; what it cannot is only a muted dot."""
        text = Text(letters(able, self.glyphs.dot))
        for at, sign in enumerate(text.plain):
            if sign in (self.glyphs.dot, UNTOLD):
                text.stylize(self.ink("muted"), at, at + 1)
        return text

    def state(self, model: Model, now: RowContext) -> tuple[Cell, Cell]:
        """State of a model on this machine: a sign, and words."""
        instance, job = now.instances.get(model.id), now.jobs.get(model.id)
        if now.bench is not None and now.bench.model_id == model.id:
            return self._said(self.glyphs.busy, "accent", *self._bench(now.bench))
        if instance is not None and instance.state.live:
            return self._loaded(instance)
        if job is not None and job.state != "failed":
            return self._job(job)
        if model.id in now.checking:
            return self._said(self.glyphs.busy, "accent", "verifying")
        if now.failed(model):
            return self._said(self.glyphs.failed, "error", "failed")
        if instance is not None and instance.state is InstanceState.STOPPING:
            return self._said(self.glyphs.busy, "warning", "unloading")
        if model.downloaded:
            return self._said(self.glyphs.done, "success", *self._here(model))
        if model.gated:
            return self._said(" ", "warning", "gated")
        return " ", ""

    def _bench(self, bench: BenchProgress) -> tuple[str, ...]:
        """How far a benchmark is."""
        if bench.state != "measuring" or not bench.step:
            return (f"bench {bench.state}", "bench")
        return (f"bench {bench.step} of {bench.steps}", f"bench {bench.step}/{bench.steps}")

    def _here(self, model: Model) -> tuple[str, ...]:
        """What a model on this machine is called; after it a shorter word, if there is one."""
        words = records.here(model)
        if model.update_available is not None:
            return (f"{words}{self.glyphs.newer}",)
        return (words, model.source) if words.endswith(model.source) else (words,)

    def _said(self, sign: str, colour: str, *words: str) -> tuple[Cell, Cell]:
        style = self.ink(colour)
        return Text(sign, style), tuple(Text(word, style) for word in words)

    def _loaded(self, instance: Instance) -> tuple[Cell, Cell]:
        if instance.state is InstanceState.BUSY:
            count = max(1, instance.running)
            return self._said(self.glyphs.loaded, "success", f"answering {count}", "answering")
        if instance.state is not InstanceState.STARTING:
            return self._said(self.glyphs.loaded, "success", "loaded")
        part = instance.progress
        words = () if part is None else (f"loading {int(part * 100):2}%",)
        return self._said(self.glyphs.busy, "accent", *words, "loading")

    def _job(self, job: Download) -> tuple[Cell, Cell]:
        done = job.verified_bytes if job.state == "verifying" else job.received_bytes
        part = done / job.total_bytes if job.total_bytes else None
        percent = f"{fmt.percent(part):>4}"
        if job.state in ("paused", "queued"):
            sign = self.glyphs.paused if job.state == "paused" else self.glyphs.dot
            words = (f"{job.state} {percent}",) if job.state == "paused" else ()
            return self._said(sign, "warning", *words, job.state)
        if job.state == "verifying":
            return self._said(self.glyphs.down, "accent", "verifying")
        shape = fmt.bar(part, BAR, self.glyphs)
        return self._said(self.glyphs.down, "accent", f"{percent} {shape}", percent)


HUB_HEADS: Mapping[str, str] = {
    "parameters": "params",
    "quantization": "formats",
    "fit": "{down} month",
    "can": "{liked}",
    "state": "changed",
}
"""Heads of the Hub's results, which stand in the columns of the models."""

UNDERLINED = Style(underline=True)


def likes(count: int | None) -> str:
    """The likes of a repository, in the width of their column: `312`, `1.2k`, `12k`."""
    words = fmt.count(count)
    return words if len(words) <= LIKES else f"{words.partition('.')[0]}{words[-1]}"
