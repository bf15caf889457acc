"""Rows and texts of the Downloads screen. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile

from rich.style import Style
from rich.text import Text

from modeldeck.core.schema import Download, DownloadFile, DownloadState, Settings
from modeldeck.core.schema.state import State
from modeldeck.tui.dashboard.theme import ThemeStyles
from modeldeck.tui.dashboard.widgets.bars import STRONG, bar
from modeldeck.tui.dashboard.widgets.row_order import Values
from modeldeck.tui.dashboard.widgets.table import Cell, Column, TableLine
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text import records
from modeldeck.tui.text.filter_language import DECIMAL, Language, Measure, sized
from modeldeck.tui.text.format import Glyphs
from modeldeck.tui.text.model_names import title

ACTIVE: tuple[DownloadState, ...] = ("queued", "downloading", "verifying")
ENDED: tuple[DownloadState, ...] = ("completed", "failed", "canceled")
SETTLED: tuple[DownloadState, ...] = ("completed", "canceled")
"""States of downloads that have ended."""

BAR = 12

COLUMNS = (
    Column("sign", "", 1),
    Column("model", "model", 18, grow=True),
    Column("state", "state", 11, rank=1),
    Column("bar", "progress", BAR, rank=4),
    Column("percent", "", 5, right=True),
    Column("what", "", 26, rank=5),
    Column("rate", "rate", 10, right=True, rank=3),
    Column("left", "left", 6, right=True, rank=2),
)


@dataclass(frozen=True, slots=True)
class DownloadRow:
    """A download, or one of its files below it."""

    job: Download
    title: str
    """Display name of the model."""
    file: DownloadFile | None = None

    @property
    def key(self) -> str:
        """Key that stays the same for the life of the download."""
        return f"{self.job.id}/{self.file.path}" if self.file else self.job.id


def listed(state: State) -> list[DownloadRow]:
    """Downloads: the queue in order, then failed ones, then ended ones, the newest first."""
    jobs = sorted(state.downloads.values(), key=lambda job: (job.state in ENDED, job.position))
    settled = sorted(
        (job for job in jobs if job.state in SETTLED),
        key=lambda job: job.finished_at or "",
        reverse=True,
    )
    return [
        DownloadRow(job, title(job.model_id, job.unique, state.models))
        for job in [*(job for job in jobs if job.state not in SETTLED), *settled]
    ]


def with_files(found: Iterable[DownloadRow], opened: Collection[str]) -> list[DownloadRow]:
    """Downloads, each with its files below it where it is opened."""
    rows: list[DownloadRow] = []
    for row in found:
        rows.append(row)
        if row.job.id in opened:
            rows += (DownloadRow(row.job, row.title, file) for file in row.job.files)
    return rows


def _in_state(state: DownloadState) -> Callable[[DownloadRow], bool]:
    return lambda row: row.job.state == state


def _rate(row: DownloadRow) -> float | None:
    """What the column shows: the rate now, or the average of one that is done."""
    job = row.job
    if job.state == "downloading":
        return job.rate_bytes_per_s
    done = job.state == "completed" and job.seconds > 0
    return job.total_bytes / job.seconds if done else None


STATES: tuple[DownloadState, ...] = ("verifying", "downloading", "paused", "queued", "failed")
"""The order of states: what is nearest to its end first, then what failed, and the rest."""

VALUES: Values[DownloadRow] = {
    "model": lambda row: row.title,
    "state": lambda row: (*STATES, *SETTLED).index(row.job.state),
    "bar": lambda row: _fraction(row.job),
    "rate": _rate,
    "left": lambda row: row.job.eta_s,
}
"""What a column sorts by."""
SORTABLE = tuple(VALUES)

LANGUAGE: Language[DownloadRow] = Language(
    text=lambda row: f"{row.title} {row.job.unique} {row.job.state}".casefold(),
    measures={
        "size": Measure(lambda row: row.job.total_bytes, sized(DECIMAL, "g")),
        "done": Measure(lambda row: _percent(row.job), {"": 1, "%": 1}),
        "rate": Measure(_rate, sized(DECIMAL, "m")),
        "left": Measure(lambda row: row.job.eta_s, {"": 60, "s": 1, "m": 60, "h": 3600}),
    },
    flags={
        "active": lambda row: row.job.state in ACTIVE,
        "ended": lambda row: row.job.state in ENDED,
        "cancelled": lambda row: row.job.state == "canceled",
        "limited": lambda row: row.job.rate_limit_bytes_per_s is not None,
        **{state: _in_state(state) for state in ("downloading", "verifying", "queued")},
        **{state: _in_state(state) for state in ("paused", "failed", "completed")},
    },
    fields={"from": lambda row: row.job.repo or row.job.url or ""},
    offers=(
        *("active", "failed", "paused", "queued", "completed", "cancelled", "size>", "left>"),
        *("done<", "rate<", "limited", "ended", "from:"),
    ),
)
"""The filter: `failed size>5G`, and words."""


def _percent(job: Download) -> float | None:
    fraction = _fraction(job)
    return None if fraction is None else fraction * 100


# Rows


def line(row: DownloadRow, glyphs: Glyphs, inks: ThemeStyles) -> TableLine:
    """One line of the table."""
    if row.file is not None:
        return TableLine(row.key, _file_cells(row.file, row.job.files, glyphs, inks), dim=True)
    job = row.job
    sign, style = _sign(job.state, glyphs, inks)
    flows = job.state == "downloading"
    cells: dict[str, Cell] = {
        "sign": Text(sign, style),
        "model": row.title,
        "state": Text(records.job_state(job.state), style),
        "what": what(job),
        "rate": fmt.rate(job.rate_bytes_per_s) if flows else _average(job),
        "left": fmt.span(job.eta_s) if flows else "",
    }
    if job.state not in SETTLED:
        fraction = _fraction(job)
        cells["bar"] = bar(fraction, BAR, glyphs, inks, None if flows else style)
        cells["percent"] = fmt.percent(fraction)
    return TableLine(row.key, cells, dim=job.state == "canceled")


def _sign(state: DownloadState, glyphs: Glyphs, inks: ThemeStyles) -> tuple[str, Style]:
    return {
        "queued": (glyphs.dot, inks.muted),
        "downloading": (glyphs.down, inks.primary),
        "verifying": (glyphs.busy, inks.primary),
        "paused": (glyphs.paused, inks.warning),
        "completed": (glyphs.done, inks.success),
        "failed": (glyphs.failed, inks.error),
        "canceled": (glyphs.dot, inks.muted),
    }[state]


def what(job: Download) -> str:
    """Progress, or the result, in a few words."""
    match job.state:
        case "completed":
            verified = "verified" if job.verifiable else "not verified"
            return f"{fmt.size(job.total_bytes)} in {fmt.duration(job.seconds)}, {verified}"
        case "canceled":
            kept = job.received_bytes
            return f"{fmt.size(kept)} kept" if kept else "nothing kept"
        case "failed" | "paused" if job.error is not None:
            return job.error.code.replace("_", " ")
        case "verifying":
            return f"verified {fmt.size_of(job.verified_bytes, job.total_bytes)}"
        case _:
            return fmt.size_of(job.received_bytes, job.total_bytes)


def _fraction(job: Download) -> float | None:
    return job.received_bytes / job.total_bytes if job.total_bytes else None


def _average(job: Download) -> str:
    """Average rate of a completed download over all its runs."""
    if job.state != "completed" or job.seconds <= 0:
        return ""
    return fmt.rate(job.total_bytes / job.seconds)


def file_name(file: DownloadFile, files: Sequence[DownloadFile]) -> str:
    """Path of a file without the prefix that all files of the download share."""
    if len(files) < 2:
        return file.path
    letters = takewhile(
        lambda same: len(set(same)) == 1, zip(*(f.path for f in files), strict=False)
    )
    common = "".join(same[0] for same in letters)
    start = max(common.rfind("-"), common.rfind("/")) + 1
    return f"…{file.path[start:]}" if start else file.path


def _file_cells(
    file: DownloadFile, files: Sequence[DownloadFile], glyphs: Glyphs, inks: ThemeStyles
) -> dict[str, Cell]:
    fraction = file.received_bytes / file.size_bytes if file.size_bytes else None
    cells: dict[str, Cell] = {
        "sign": "",
        "model": f"{glyphs.branch} {file_name(file, files)}",
        "state": records.job_state(file.state),
        "what": fmt.size_of(file.received_bytes, file.size_bytes),
    }
    if file.state not in SETTLED:
        cells["bar"] = bar(fraction, BAR, glyphs, inks)
        cells["percent"] = fmt.percent(fraction)
    else:
        cells["what"] = fmt.size(file.size_bytes)
    return cells


# The head


def counts(jobs: Iterable[Download], glyphs: Glyphs) -> str:
    """Number of downloads in each state, without states that have none."""
    words: dict[DownloadState, str] = {
        "downloading": "active",
        "verifying": "active",
    }
    found = Counter(words.get(job.state, records.job_state(job.state)) for job in jobs)
    order = ("active", "queued", "paused", "failed", "cancelled", "downloaded")
    parts = [f"{found[word]} {word}" for word in order if found[word]]
    return f" {glyphs.dot} ".join(parts) or "no downloads"


def rate_bytes_per_s(jobs: Iterable[Download]) -> float:
    """Current rate of all downloads together, in bytes per second."""
    return sum(job.rate_bytes_per_s or 0 for job in jobs if job.state == "downloading")


def limit(settings: Settings, key: str, inks: ThemeStyles) -> tuple[Text, Text]:
    """The rate limit in force, the reason if it differs from the setting, and its key.

    The second text is short: only the limit.
    """
    rate = settings.rate_in_force_bytes_per_s
    why = f" ({settings.rate_reason})" if settings.rate_reason else ""
    words = f"limit {'none' if rate is None else fmt.rate(rate)}"
    return Text.assemble(words, why, (f" [{key}]", inks.muted)), Text(words)


def queue(jobs: Iterable[Download]) -> list[Download]:
    """Downloads that run or wait, in order."""
    waiting = [job for job in jobs if job.state in ACTIVE or job.state == "paused"]
    return sorted(waiting, key=lambda job: job.position)


def disk(state: State, inks: ThemeStyles) -> Text | tuple[Text, Text]:
    """Free disk space after all unfinished downloads; a long and a short text."""
    free = state.disk.free_bytes
    if free is None:
        return Text(f"disk {fmt.UNKNOWN}", inks.muted)
    unfinished = [job for job in state.downloads.values() if job.state not in ENDED]
    rest = free - sum(job.total_bytes - job.received_bytes for job in unfinished)
    if rest < 0:
        return Text(f"disk full: {fmt.size(-rest)} missing", inks.error)
    if not unfinished:
        return Text(f"disk {fmt.size(rest)} free")
    return Text(f"disk {fmt.size(rest)} left afterwards"), Text(f"disk {fmt.size(rest)} left")


# What is said below the table


def about(job: Download, glyphs: Glyphs, inks: ThemeStyles) -> list[Text]:
    """Details of a download for which its row has no room."""
    done = sum(file.state == "completed" for file in job.files)
    files = fmt.number(len(job.files), "file")
    if len(job.files) > 1:
        files = f"{done} of {files}"
    facts = [f"at {job.revision[:8]}", files] if job.url is None else [files]
    if not job.verifiable:
        facts.append("not verified: the server gives no hash")
    elif job.state not in SETTLED and job.verified_bytes:
        facts.append(f"{fmt.size_of(job.verified_bytes, job.total_bytes).strip()} verified")
    if job.rate_limit_bytes_per_s is not None and job.state not in SETTLED:
        facts.append(f"limit {fmt.rate(job.rate_limit_bytes_per_s)}")
    words = fmt.clean(f"   {f' {glyphs.dot} '.join(facts)}")
    said = [Text.assemble((fmt.clean(job.unique), STRONG), (words, inks.muted))]
    if job.error is not None:
        style = inks.error if job.state == "failed" else inks.warning
        why = f"{records.job_state(job.state)}: {job.error.message} {job.error.remedy}".strip()
        said.append(Text(fmt.clean(why), style))
        said += [Text(fmt.clean(detail), inks.muted) for detail in job.error.details]
    return said


def discarding(jobs: Sequence[Download]) -> list[str]:
    """Plan of cancelling downloads and deleting their partial files."""
    total = sum(job.received_bytes for job in jobs)
    lines = [
        f"Cancel {fmt.number(len(jobs), 'download')} and delete what arrived: {fmt.size(total)}."
    ]
    return lines + [f"  {fmt.size(job.received_bytes):>8}  {job.unique}" for job in jobs]


def clearing(jobs: Sequence[Download]) -> list[str]:
    """Plan of clearing ended downloads; empty where no partial files are deleted."""
    partial = [job for job in jobs if job.state != "completed" and job.received_bytes]
    if not partial:
        return []
    total = sum(job.received_bytes for job in partial)
    return [
        f"Clear {fmt.number(len(jobs), 'download')} that ended. "
        f"What arrived of these is deleted with them: {fmt.size(total)}.",
        *(
            f"  {fmt.size(j.received_bytes):>8}  {j.unique}  {records.job_state(j.state)}"
            for j in partial
        ),
    ]
