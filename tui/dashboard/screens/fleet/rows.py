"""Rows of the Fleet screen. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rich.style import Style
from rich.text import Text

from modeldeck.core.errors import CoreUnreachable, DeckError, Forbidden
from modeldeck.core.schema import Download, Memory
from modeldeck.core.schema.state import State
from modeldeck.core.schema.summary import FLOWING, LOADED
from modeldeck.tui.dashboard.fleet import trip
from modeldeck.tui.dashboard.screens.fleet.ranking import ServingAnswer, ServingWay, ordinal
from modeldeck.tui.dashboard.theme import ThemeStyles
from modeldeck.tui.dashboard.widgets.status_bar import ANSWERING, WAITING
from modeldeck.tui.dashboard.widgets.table import Cell, Column, TableLine
from modeldeck.tui.remote.core_link import LinkState, LinkStatus
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text import records
from modeldeck.tui.text.format import Glyphs
from modeldeck.tui.text.model_names import row_name

NARROW = 78
"""Cells below which `serves` comes before `via`, and loaded models are counted."""
LONGEST_NAME = 20
SHORTEST_NAME = 8


@dataclass(frozen=True, slots=True)
class MachineRow:
    """One machine and its current state."""

    at: int
    """Its index among the machines."""
    name: str
    way: str
    """As in `FleetMachine`."""
    status: LinkStatus
    state: State | None
    """The newest State; None where there was none yet."""
    seen_at: float | None = None
    """When the State came, in seconds since the epoch."""
    current: bool = False
    """Whether it is the machine that the other screens show."""
    asked: bool = False
    """Whether machines were asked how they would serve a model."""
    answer: ServingAnswer | None = None
    place: int | None = None
    """Its place among those that would serve it, from 1; None where it would not."""
    copy: ModelCopy | None = None

    @property
    def is_live(self) -> bool:
        """Whether its core answers now."""
        return self.status.state is LinkState.LIVE

    @property
    def needs_password(self) -> bool:
        """Whether `ssh` has to ask before the machine can be reached."""
        return self.way == "ssh" and isinstance(self.status.error, Forbidden)


@dataclass(frozen=True, slots=True)
class ModelCopy:
    """A model that is being copied to a machine."""

    source: str
    """Name of the machine it comes from."""
    job: Download
    """The download in the receiving core."""


def columns(rows: Sequence[MachineRow], width: int) -> tuple[Column, ...]:
    """The columns for these machines in a view of this width."""
    longest = max((fmt.columns(fmt.clean(row.name)) for row in rows), default=0)
    name = max(SHORTEST_NAME, min(LONGEST_NAME, longest))
    via = Column("via", "via", 11)
    serves = Column("serves", "serves", 13)
    narrow = width < NARROW
    return (
        Column("sign", "", 1),
        Column("machine", "machine", name),
        *((serves, via) if narrow else (via, serves)),
        Column("memory", "memory GiB", 14, rank=1),
        Column("gpu", "GPU GiB", 14, rank=4),
        Column("answering", "answering", 9, rank=3),
        Column("downloads", "downloads", 9, rank=2),
        Column("engines", "runtimes", 15, rank=6),
        Column("disk", "disk free", 9, right=True, rank=5),
        Column("loaded", "loaded", 6 if narrow else 16, grow=True),
    )


def line(
    row: MachineRow, glyphs: Glyphs, inks: ThemeStyles, again: str, *, narrow: bool = False
) -> TableLine:
    """The line of a machine; `again` is the key that connects to it again."""
    cells: dict[str, Cell] = {
        "sign": _sign(row, glyphs, inks),
        "machine": Text(
            fmt.squeeze(fmt.clean(row.name), LONGEST_NAME), "bold" if row.current else ""
        ),
        "via": _via(row, inks),
        "serves": _serves(row, glyphs, inks),
    }
    if row.state is not None:
        cells |= _known(row.state, glyphs, inks, narrow=narrow)
    elif not narrow:
        nothing = Text(glyphs.unknown, inks.muted)
        cells |= dict.fromkeys(("memory", "gpu", "answering", "downloads"), nothing)
    if row.needs_password:
        cells["loaded"] = (
            Text(f"needs a password, {again} asks", inks.warning),
            Text(f"{again} asks", inks.warning),
        )
    elif row.state is None:
        cells["loaded"] = Text(glyphs.unknown, inks.muted)
    return TableLine(str(row.at), cells, dim=not row.is_live and row.state is not None)


def _sign(row: MachineRow, glyphs: Glyphs, inks: ThemeStyles) -> Text:
    match row.status.state:
        case LinkState.LIVE:
            return Text(glyphs.loaded, inks.success)
        case LinkState.CONNECTING:
            return Text(glyphs.busy, inks.warning)
    return Text("?", inks.warning) if row.needs_password else Text(glyphs.failed, inks.error)


def _via(row: MachineRow, inks: ThemeStyles) -> Cell:
    match row.status.state:
        case LinkState.LIVE:
            if not row.way:
                return Text("this one")
            passed = trip(row.status)
            forms = (f"{row.way} {passed:>6}", f"{row.way} {passed}") if passed else ()
            return (*map(Text, forms), Text(row.way))
        case LinkState.CONNECTING:
            return Text("connecting", inks.muted)
    if row.needs_password:
        return Text("password", inks.warning)
    away = row.status.error is None or isinstance(row.status.error, CoreUnreachable)
    return Text("unreachable" if away else "failed", inks.error)


def _known(state: State, glyphs: Glyphs, inks: ThemeStyles, *, narrow: bool) -> Mapping[str, Cell]:
    engines = [runtime.name for runtime in state.runtimes if runtime.available]
    return {
        "memory": _used_memory(state.memory, glyphs),
        "gpu": _gpus(state, glyphs, inks),
        "answering": _answering(state),
        "downloads": _downloads(state, glyphs, inks),
        "engines": Text(f" {glyphs.dot} ".join(engines) or glyphs.unknown, inks.muted),
        "disk": fmt.size(state.disk.free_bytes),
        "loaded": _loaded(state, glyphs, inks, narrow=narrow),
    }


def _used_memory(memory: Memory, glyphs: Glyphs) -> str:
    total, free = memory.total_bytes, memory.available_bytes
    return _of(None if total is None or free is None else total - free, total, glyphs)


def _of(used: int | None, total: int | None, glyphs: Glyphs) -> str:
    """Memory that is taken, in GiB: `22.8 of  64.0`."""
    figures = (glyphs.unknown if count is None else fmt.gib(count) for count in (used, total))
    return " of ".join(f"{figure:>5}" for figure in figures)


def _gpus(state: State, glyphs: Glyphs, inks: ThemeStyles) -> Cell:
    gpus = state.memory.gpus
    if not gpus:
        shares = state.host.platform.casefold().startswith(("darwin", "macos"))
        return Text("shared" if shares else glyphs.unknown, inks.muted)
    used, total = [g.used_bytes for g in gpus], [g.total_bytes for g in gpus]
    return _of(
        None if None in used else sum(count or 0 for count in used),
        None if None in total else sum(count or 0 for count in total),
        glyphs,
    )


def _answering(state: State) -> str:
    """Requests that are answered, and those that wait: `2+1`."""
    states = [request.state for request in state.requests.values()]
    waiting = sum(each in WAITING for each in states)
    return f"{sum(each in ANSWERING for each in states)}" + (f"+{waiting}" if waiting else "")


def _downloads(state: State, glyphs: Glyphs, inks: ThemeStyles) -> Cell:
    jobs = state.downloads.values()
    flowing = [job for job in jobs if job.state in FLOWING]
    queued = sum(job.state == "queued" for job in jobs)
    if flowing:
        return fmt.rate(sum(job.rate_bytes_per_s or 0 for job in flowing))
    return f"{queued} queued" if queued else Text(glyphs.unknown, inks.muted)


def _loaded(state: State, glyphs: Glyphs, inks: ThemeStyles, *, narrow: bool) -> Cell:
    names = [
        fmt.clean(row_name(each.model_id, each.unique, state.models))
        for each in state.instances.values()
        if each.state in LOADED
    ]
    if narrow or not names:
        return f"{len(names)}" if narrow else Text(glyphs.unknown, inks.muted)
    shorter = (
        Text(f"{', '.join(names[:count])} +{len(names) - count}")
        for count in range(len(names) - 1, 0, -1)
    )
    return (Text(", ".join(names)), *shorter, Text(f"{len(names)} loaded"))


def _serves(row: MachineRow, glyphs: Glyphs, inks: ThemeStyles) -> Text:
    if row.copy is not None:
        return Text(f"copying {fmt.percent(records.portion(row.copy.job))}")
    answer = row.answer
    if not row.asked or not row.is_live:
        return Text(glyphs.unknown, inks.muted)
    if answer is None:
        return Text("…", inks.muted)
    if answer.way is None or row.place is None:
        style = inks.error if answer.word == "too large" else inks.muted
        return Text(answer.word, style)
    words = f"{ordinal(row.place)} {answer.word}"
    if answer.way is ServingWay.FITS and answer.needs_bytes is not None:
        words += f" {fmt.gib(answer.needs_bytes)}"
    return Text(words, _STYLES[answer.way](inks))


_STYLES: Mapping[ServingWay, Callable[[ThemeStyles], Style]] = {
    ServingWay.LOADED: lambda inks: inks.success,
    ServingWay.FITS: lambda inks: inks.success,
    ServingWay.UNLOADS: lambda inks: inks.warning,
    ServingWay.DOWNLOADS: lambda inks: inks.accent,
}
"""Colours of the ways to serve a model; the words beside say the same."""


def known_error(row: MachineRow) -> DeckError | None:
    """Why a machine is not reached; None where it is, or is being connected to."""
    return None if row.is_live else row.status.error
