"""Rows and texts of the Fleet screen. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rich.style import Style
from rich.text import Text

from modeldeck.core.errors import DeckError
from modeldeck.core.schema import Download, Fit, Manifest
from modeldeck.core.schema.state import State
from modeldeck.core.schema.summary import FLOWING, LOADED
from modeldeck.tui.dashboard.fleet import trip
from modeldeck.tui.dashboard.theme import ThemeStyles
from modeldeck.tui.dashboard.widgets.table import Cell, Column, TableLine
from modeldeck.tui.remote.core_link import LinkState, LinkStatus
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text import records
from modeldeck.tui.text.format import Glyphs

COLUMNS = (
    Column("sign", "", 1),
    Column("machine", "machine", 10, grow=True, most=20),
    Column("reached", "via", 10, rank=6),
    Column("fit", "fits", 14, rank=1),
    Column("engines", "runtimes", 15, rank=5),
    Column("memory", "memory", 16, rank=3),
    Column("disk", "disk free", 9, right=True, rank=4),
    Column("downloads", "downloads", 15, rank=2),
    Column("loaded", "loaded", 8, grow=True),
)

Answer = Fit | DeckError | None
"""Fit of a model on a machine: an answer, an error, or None before the answer."""


@dataclass(frozen=True, slots=True)
class MachineRow:
    """One machine and its current state."""

    at: int
    """Its index among the machines."""
    name: str
    way: str
    status: LinkStatus
    state: State | None
    fit: Answer = None
    asked: bool = False
    """Whether the fit of a model was requested."""
    current: bool = False
    copy: ModelCopy | None = None


@dataclass(frozen=True, slots=True)
class ModelCopy:
    """A model that is being copied to a machine."""

    source: str
    """Name of the machine it comes from."""
    job: Download
    """The download in the receiving core."""


def line(row: MachineRow, glyphs: Glyphs, inks: ThemeStyles) -> TableLine:
    """The line of a machine."""
    live = row.status.state is LinkState.LIVE
    cells: dict[str, Cell] = {
        "sign": _sign(row, glyphs, inks),
        "machine": fmt.clean(row.name or (row.state.host.name if row.state else "")),
        "reached": _reached(row, inks),
        "fit": _fit(row, glyphs, inks),
    }
    if row.state is not None:
        cells |= _known(row.state, glyphs, inks)
    return TableLine(str(row.at), cells, dim=not live and row.state is not None)


def _sign(row: MachineRow, glyphs: Glyphs, inks: ThemeStyles) -> Text:
    match row.status.state:
        case LinkState.LIVE:
            return Text(glyphs.loaded if row.current else glyphs.done, inks.success)
        case LinkState.CONNECTING:
            return Text(glyphs.busy, inks.warning)
    return Text(glyphs.failed, inks.error)


def _reached(row: MachineRow, inks: ThemeStyles) -> Text:
    way = row.way or "here"
    if row.status.state is LinkState.LIVE:
        return Text(f"{way} {trip(row.status)}".rstrip())
    words = {LinkState.CONNECTING: "connecting", LinkState.LOST: "lost"}
    return Text(words.get(row.status.state, "unreachable"), inks.error)


def _known(state: State, glyphs: Glyphs, inks: ThemeStyles) -> Mapping[str, Cell]:
    engines = [runtime.name for runtime in state.runtimes if runtime.available]
    jobs = [job for job in state.downloads.values() if job.state in FLOWING]
    waiting = sum(job.state == "queued" for job in state.downloads.values())
    loaded = [i.unique.rpartition("/")[2] for i in state.instances.values() if i.state in LOADED]
    flow = sum(job.rate_bytes_per_s or 0 for job in jobs)
    queue = f" +{waiting}" if waiting else ""
    memory = state.memory
    taken, total = None, memory.total_bytes
    if total is not None and memory.available_bytes is not None:
        taken = total - memory.available_bytes
    return {
        "engines": Text(f" {glyphs.dot} ".join(engines) or glyphs.unknown, inks.muted),
        "memory": fmt.memory_of(taken, total),
        "disk": fmt.size(state.disk.free_bytes),
        "downloads": f"{glyphs.down} {fmt.rate(flow)} ({len(jobs)}{queue})" if jobs else queue,
        "loaded": fmt.clean(", ".join(loaded)) or Text(glyphs.unknown, inks.muted),
    }


def _fit(row: MachineRow, glyphs: Glyphs, inks: ThemeStyles) -> Text:
    if row.copy is not None:
        return Text(f"{glyphs.down} copying {fmt.percent(records.portion(row.copy.job))}")
    if not row.asked:
        return Text()
    answer = row.fit
    if answer is None:
        return Text(glyphs.busy if row.status.state is LinkState.LIVE else "", inks.warning)
    if isinstance(answer, DeckError):
        return Text(fmt.clean(answer.message), inks.muted)
    style: Mapping[str, Style] = {"fits": inks.success, "tight": inks.warning}
    need = answer.forecast.total_bytes if answer.forecast else None
    fits = answer.verdict in style
    figures = f" {fmt.memory(need)}" if need is not None and fits else ""
    return Text(f"{answer.verdict}{figures}", style.get(answer.verdict, inks.error))


def about(row: MachineRow, inks: ThemeStyles) -> list[Text]:
    """Details of the machine under the cursor."""
    error = row.status.error
    if error is not None:
        said = [Text(fmt.clean(error.message), inks.error)]
        said += [Text(f"  {fmt.clean(detail)}", inks.muted) for detail in error.details]
        return [*said, Text(fmt.clean(error.remedy))]
    if row.copy is not None:
        words, _ = records.download_words(row.copy.job)
        return [Text(fmt.clean(f"copying from {row.copy.source}: {words}"))]
    if isinstance(row.fit, DeckError):
        return [Text(fmt.clean(str(row.fit)), inks.muted)]
    if row.state is None:
        return []
    host = row.state.host
    return [Text(f"{fmt.clean(host.name)}  {host.platform}  modeldeck {host.version}", inks.muted)]


def plan(manifest: Manifest, source: str, row: MachineRow) -> list[str]:
    """Plan of copying a model to a machine."""
    total = sum(file.size_bytes or 0 for file in manifest.files)
    said = [
        f"Copy {manifest.model.unique} from {source} to {row.name}: {fmt.size(total)} over ssh."
    ]
    free = row.state.disk.free_bytes if row.state is not None else None
    if free is not None:
        said.append(f"{row.name} has {fmt.size(free)} of disk free.")
    if isinstance(row.fit, Fit) and row.fit.verdict == "too large":
        said.append("It is too large for the memory that is free there now.")
    return said
