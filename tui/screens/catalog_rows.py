"""The rows of the catalog: which are shown, in which order, and how each is drawn. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from rich.style import Style
from rich.text import Text

from core.schema import Download, Fit, Instance, InstanceState, Model, SearchHit, SearchResult
from core.state import State
from tui import format as fmt
from tui import pages
from tui.format import Glyphs
from tui.theme import ink
from tui.widgets.cells import Cell
from tui.widgets.columns import Column
from tui.widgets.table import Line

BAR = 5
"""Cells of a bar in the column of states: with a percentage it fills the narrowest one."""

COLUMNS = (
    Column("sign", "", 1),
    Column("name", "model", 22, grow=True, most=32),
    Column("parameters", "params", 6, right=True, rank=4),
    Column("quantization", "quant", 7, rank=2),
    Column("size", "size", 7, right=True, rank=3),
    Column("fit", "fit", 9),
    Column("needs", "GiB", 13, right=True, rank=5),
    Column("context", "ctx", 5, right=True, rank=6),
    Column("runtime", "runtime", 9, rank=7),
    Column("state", "state", 11, grow=True, most=28),
)


class Show(StrEnum):
    """Which models are shown."""

    ALL = "all"
    DOWNLOADED = "downloaded"
    LOADED = "loaded"
    FITS = "fits"
    CUSTOM = "custom"


class Sort(StrEnum):
    """In which order."""

    HERE = "here first"
    NAME = "name"
    SIZE = "size"
    PARAMETERS = "parameters"
    NEEDS = "memory"


@dataclass(frozen=True, slots=True)
class Heading:
    """The rule above what the Hub has."""

    words: str


Row = Model | SearchHit | Heading


def key(row: Row) -> str:
    """What tells rows apart."""
    match row:
        case Model():
            return row.id
        case SearchHit():
            return f"hub:{row.repo}"
        case Heading():
            return "heading"


@dataclass(frozen=True, slots=True)
class Standing:
    """What the rows say besides what the catalog has."""

    instances: Mapping[str, Instance] = field(default_factory=dict)
    """The live instance of a model, else the one that failed, by the model's id."""
    jobs: Mapping[str, Download] = field(default_factory=dict)
    """The download of a model that is under way, held or failed, by the model's id."""
    here: frozenset[str] = frozenset()
    """Repositories of which a model is downloaded."""
    fits: Mapping[str, Fit] = field(default_factory=dict)
    """By the model's id, at the context length on the screen."""


def standing(state: State, fits: Mapping[str, Fit]) -> Standing:
    """What a State says of the models in it."""
    instances: dict[str, Instance] = {}
    for instance in state.instances.values():
        if instance.state.live or instance.model_id not in instances:
            instances[instance.model_id] = instance
    jobs = {
        job.model_id: job
        for job in state.downloads.values()
        if job.state not in ("completed", "canceled")
    }
    here = frozenset(m.repo for m in state.models.values() if m.downloaded and m.repo)
    return Standing(instances, jobs, here, fits)


def select(
    models: Iterable[Model], text: str, show: Show, sort: Sort, now: Standing
) -> list[Model]:
    """The models that have all the words and belong to what is shown, in order."""
    words = text.casefold().split()
    found = [
        model
        for model in models
        if _belongs(model, show, now)
        and (not words or all(word in _haystack(model) for word in words))
    ]
    found.sort(key=lambda model: (_order(model, sort, now), model.name.casefold(), model.unique))
    return found


def _haystack(model: Model) -> str:
    return f"{model.unique} {model.name} {model.format} {' '.join(model.usage)}".casefold()


def _belongs(model: Model, show: Show, now: Standing) -> bool:
    match show:
        case Show.ALL:
            return True
        case Show.DOWNLOADED:
            return model.downloaded
        case Show.LOADED:
            instance = now.instances.get(model.id)
            return instance is not None and instance.state.live
        case Show.FITS:
            fit = now.fits.get(model.id)
            return fit is not None and fit.verdict in ("fits", "tight")
        case Show.CUSTOM:
            return model.custom


def _order(model: Model, sort: Sort, now: Standing) -> float:
    """Small is first; what is not known is last."""
    match sort:
        case Sort.HERE:
            # A job that starts or ends must not carry its row off from under the cursor's friends.
            return 0 if model.downloaded else 1
        case Sort.NAME:
            return 0
        case Sort.SIZE:
            return _known(model.size_bytes)
        case Sort.PARAMETERS:
            return _known(model.parameters)
        case Sort.NEEDS:
            fit = now.fits.get(model.id)
            return _known(fit.forecast.total_bytes if fit and fit.forecast else None)


def _known(value: float | None) -> float:
    return float("inf") if value is None else value


def hub_rows(result: SearchResult | None, text: str, *, asking: bool) -> list[Row]:
    """What the Hub has for the words, under a rule that says how it stands with asking."""
    if not text and result is None:
        return []
    words = f'Hugging Face: "{text}"'
    if asking:
        words += "  asking"
    elif result is None:
        words += "  h asks"
    elif result.error and not result.hits:
        words += f"  cannot be reached: {result.error}"
    elif result.error or result.from_cache:
        words += "  cannot be reached; this is what it said earlier"
    elif not result.hits:
        words += "  nothing by these words"
    return [Heading(words), *(result.hits if result is not None else ())]


# Drawing


def plain_name(model: Model) -> str:
    """A model's name without its quantization, which has a column of its own."""
    quantization = model.quantization or ""
    short = model.name.removesuffix(quantization).rstrip(" -_.")
    return short or model.name


VERDICT_INK = {"fits": "success", "tight": "warning", "too large": "error", "unknown": "muted"}


def needs(fit: Fit) -> str:
    """The one number of a verdict, in GiB: what is needed of what is free, or what is missing."""
    forecast, free = fit.forecast, fit.available_bytes
    if forecast is None:
        return ""
    about = "" if fit.exact else "~"
    if free is None:
        return f"{about}{fmt.gib(forecast.total_bytes)}"
    if fit.verdict == "too large":
        return f"by {about}{fmt.gib(forecast.total_bytes - free)}"
    return f"{about}{fmt.gib(forecast.total_bytes)} of {fmt.gib(free)}"


@dataclass(frozen=True, slots=True)
class Painter:
    """Draws rows in the colours of a theme, with the signs of a terminal."""

    glyphs: Glyphs
    variables: Mapping[str, str]
    """Of the theme."""

    def ink(self, name: str) -> Style:
        """A colour of the theme."""
        style: Style = getattr(ink(self.variables), name)
        return style

    def line(self, row: Row, now: Standing) -> Line:
        """One row."""
        match row:
            case Heading():
                return Line("heading", {"name": row.words}, rule=True)
            case SearchHit():
                return self._hit(row, now)
            case Model():
                return self._model(row, now)

    def _model(self, model: Model, now: Standing) -> Line:
        sign, state = self.state(model, now)
        return Line(
            model.id,
            {
                "sign": sign,
                "name": plain_name(model),
                "parameters": fmt.parameters(model.parameters),
                "quantization": model.quantization or model.format,
                "size": fmt.size(model.size_bytes),
                **self.fit_cells(now.fits.get(model.id)),
                "context": fmt.tokens(model.context_length),
                "runtime": model.engine or fmt.UNKNOWN,
                "state": state,
            },
        )

    def _hit(self, hit: SearchHit, now: Standing) -> Line:
        here = hit.repo in now.here
        words = "gated" if hit.gated else (hit.last_modified or "")[:10]
        return Line(
            key(hit),
            {
                "sign": Text(self.glyphs.done if here else " ", self.ink("success")),
                "name": hit.repo,
                "parameters": fmt.parameters(hit.parameters),
                "quantization": " ".join(hit.formats),
                "fit": f"{self.glyphs.down} {fmt.count(hit.downloads)}",
                "needs": f"{self.glyphs.liked} {fmt.count(hit.likes)}",
                "state": words,
            },
        )

    def fit_cells(self, fit: Fit | None) -> dict[str, Cell]:
        """The verdict, and its number."""
        if fit is None:
            return {"fit": fmt.UNKNOWN, "needs": ""}
        verdict = fmt.UNKNOWN if fit.verdict == "unknown" else fit.verdict
        style = self.ink(VERDICT_INK[fit.verdict])
        return {"fit": Text(verdict, style), "needs": Text(needs(fit), self.ink("muted"))}

    def state(self, model: Model, now: Standing) -> tuple[Cell, Cell]:
        """Where a model stands on this machine: a sign, and words."""
        instance, job = now.instances.get(model.id), now.jobs.get(model.id)
        if instance is not None and instance.state.live:
            return self._loaded(instance)
        if job is not None and job.state != "failed":
            return self._job(job)
        if (job is not None and not model.downloaded) or _failed(instance):
            what = "download failed" if job is not None else "load failed"
            return self._said(self.glyphs.failed, "error", what, "failed")
        if instance is not None and instance.state is InstanceState.STOPPING:
            return self._said(self.glyphs.busy, "warning", "unloading")
        if model.downloaded:
            return self._said(self.glyphs.done, "success", "local" if model.local else "downloaded")
        if model.gated:
            return self._said(" ", "warning", "gated")
        return " ", ""

    def _said(self, sign: str, colour: str, *words: str) -> tuple[Cell, Cell]:
        style = self.ink(colour)
        return Text(sign, style), tuple(Text(word, style) for word in words)

    def _loaded(self, instance: Instance) -> tuple[Cell, Cell]:
        if instance.state is not InstanceState.STARTING:
            word = "busy" if instance.state is InstanceState.BUSY else "loaded"
            return self._said(self.glyphs.loaded, "success", word)
        part = "" if instance.progress is None else f"{fmt.percent(instance.progress):>5}"
        shape = fmt.bar(instance.progress, BAR, self.glyphs)
        long = f"loading {part} {shape}"
        return self._said(self.glyphs.busy, "accent", long, f"loading{part}", "loading")

    def _job(self, job: Download) -> tuple[Cell, Cell]:
        done = job.verified_bytes if job.state == "verifying" else job.received_bytes
        fraction = done / job.total_bytes if job.total_bytes else None
        part = f"{fmt.percent(fraction):>5}"
        if job.state in ("paused", "queued"):
            sign = self.glyphs.paused if job.state == "paused" else self.glyphs.dot
            return self._said(sign, "warning", f"{job.state}{part}", job.state)
        shape = fmt.bar(fraction, BAR, self.glyphs)
        if job.state == "verifying":
            return self._said(self.glyphs.down, "accent", f"{part} {shape} verifying", part)
        rate = fmt.pad(fmt.rate(job.rate_bytes_per_s), 9, right=True)
        left = "" if job.eta_s is None else " " + fmt.duration(job.eta_s)
        words = (f"{part} {shape}{rate}{left}", f"{part} {shape}{rate}", f"{part} {shape}", part)
        return self._said(self.glyphs.down, "accent", *words)


def _failed(instance: Instance | None) -> bool:
    return instance is not None and instance.state is InstanceState.FAILED


def busy(state: State, model_id: str) -> Instance | None:
    """The instance of a model that holds memory, or is about to; None where there is none."""
    return next((i for i in pages.live(state) if i.model_id == model_id), None)


def running_job(state: State, model_id: str) -> Download | None:
    """The download of a model that can be called off; None where there is none."""
    jobs = (j for j in state.downloads.values() if j.model_id == model_id)
    return next((j for j in jobs if j.state not in pages.ENDED_JOBS), None)
