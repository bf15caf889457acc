"""Cells of the rows of the catalog. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rich.style import Style
from rich.text import Text

from modeldeck.core.schema import Download, Fit, Instance, InstanceState, Model, SearchHit
from modeldeck.tui.dashboard.screens.catalog.rows import Heading, Row, RowContext, key
from modeldeck.tui.dashboard.theme import ink
from modeldeck.tui.dashboard.widgets.cells import Cell
from modeldeck.tui.dashboard.widgets.table import TableLine
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text.format import Glyphs

BAR = 5
"""Width in cells of a progress bar: with a percentage it fills the narrowest state column."""


def plain_name(model: Model) -> str:
    """A model's name without its quantization, which has a column of its own."""
    quantization = model.quantization or ""
    short = model.name.removesuffix(quantization).rstrip(" -_.")
    return short or model.name


VERDICT_INK = {
    "fits": "success",
    "tight": "warning",
    "too large": "error",
    "refused": "error",
    "unknown": "muted",
}


def needs(fit: Fit) -> str:
    """The number of a fit in GiB: needed of free memory, or missing memory."""
    forecast, free = fit.forecast, fit.available_bytes
    if forecast is None:
        return ""
    about = "" if fit.exact else "~"
    if free is None or forecast.gpu_bytes != 0:  # what is free is the machine's memory
        return f"{about}{fmt.gib(forecast.total_bytes)}"
    if fit.verdict == "too large":
        return f"by {about}{fmt.gib(forecast.total_bytes - free)}"
    return f"{about}{fmt.gib(forecast.total_bytes)} of {fmt.gib(free)}"


@dataclass(frozen=True, slots=True)
class CellPainter:
    """Draws rows with the colours of a theme and the glyphs of a terminal."""

    glyphs: Glyphs
    variables: Mapping[str, str]
    """Styles of the theme."""

    def ink(self, name: str) -> Style:
        """A variable of the theme."""
        style: Style = getattr(ink(self.variables), name)
        return style

    def line(self, row: Row, now: RowContext) -> TableLine:
        """The line of a row."""
        match row:
            case Heading():
                return TableLine("heading", {"name": row.words}, rule=True)
            case SearchHit():
                return self._hit(row, now)
            case Model():
                return self._model(row, now)

    def _model(self, model: Model, now: RowContext) -> TableLine:
        sign, state = self.state(model, now)
        return TableLine(
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

    def _hit(self, hit: SearchHit, now: RowContext) -> TableLine:
        here = hit.repo in now.here
        words = "gated" if hit.gated else (hit.last_modified or "")[:10]
        return TableLine(
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
        """The fit, and its number."""
        if fit is None:
            return {"fit": fmt.UNKNOWN, "needs": ""}
        verdict = fmt.UNKNOWN if fit.verdict == "unknown" else fit.verdict
        style = self.ink(VERDICT_INK[fit.verdict])
        return {"fit": Text(verdict, style), "needs": Text(needs(fit), self.ink("muted"))}

    def state(self, model: Model, now: RowContext) -> tuple[Cell, Cell]:
        """State of a model on this machine: a sign, and words."""
        instance, job = now.instances.get(model.id), now.jobs.get(model.id)
        if instance is not None and instance.state.live:
            return self._loaded(instance)
        if job is not None and job.state != "failed":
            return self._job(job)
        if model.id in now.checking:
            return self._said(self.glyphs.busy, "accent", "checking")
        if now.failed(model):
            return self._said(self.glyphs.failed, "error", _what_failed(model, now), "failed")
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


def _what_failed(model: Model, now: RowContext) -> str:
    if model.id in now.jobs and not model.downloaded:
        return "download failed"
    return "load failed" if model.id in now.instances else "corrupt"
