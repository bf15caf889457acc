"""Rows and texts of the Disk screen. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from rich.style import Style
from rich.text import Text

from modeldeck.core.schema import CacheListing, CacheRepository, CacheRevision, CacheSelection
from modeldeck.core.schema.state import State
from modeldeck.tui.dashboard.screens.catalog.rows import RowContext
from modeldeck.tui.dashboard.theme import ThemeStyles
from modeldeck.tui.dashboard.widgets.bars import STRONG, Part, fitted
from modeldeck.tui.dashboard.widgets.column_choice import ColumnChoice
from modeldeck.tui.dashboard.widgets.row_order import Values, ordered
from modeldeck.tui.dashboard.widgets.table import Cell, Column, TableLine
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text.ages import age
from modeldeck.tui.text.filter_language import DECIMAL, Language, Measure, sized
from modeldeck.tui.text.format import Glyphs

LABEL = 8
"""Width in cells of the labels of details."""

COLUMNS = (
    Column("sign", "", 1),
    Column("name", "repository", 20, grow=True),
    Column("size", "size", 8, right=True),
    Column("shared", "shared", 8, right=True, rank=4),
    Column("partial", "partial", 8, right=True, rank=3),
    Column("used", "used", 10, right=True, rank=1),
    Column("at", "at", 10, rank=5),
    Column("models", "models", 16, rank=2),
)

AGES: Mapping[str, float] = {"": 86_400, "h": 3600, "d": 86_400, "w": 604_800, "y": 365 * 86_400}
"""Units of the time since the last use: a number alone is in days."""


@dataclass(frozen=True, slots=True)
class DiskRow:
    """A repository, or one of its revisions where it has several."""

    repo: CacheRepository
    revision: CacheRevision | None = None
    state: str = "in the cache"
    """State for the notice where an action does not apply."""

    @property
    def id(self) -> str:
        """Name for the core: `owner/repo`, or `owner/repo@commit`."""
        return f"{self.repo.repo}@{self.revision.revision}" if self.revision else self.repo.repo

    @property
    def unique(self) -> str:
        """Like `id`, with a shortened commit."""
        name = self.repo.url or self.repo.repo
        return f"{name}@{self.revision.revision[:8]}" if self.revision else name

    @property
    def revisions(self) -> tuple[CacheRevision, ...]:
        """Revisions that the row includes."""
        return self.repo.revisions if self.revision is None else (self.revision,)

    @property
    def models(self) -> list[str]:
        """Unique names of its complete models."""
        return list(dict.fromkeys(name for each in self.revisions for name in each.models))


def rows(
    listing: CacheListing, choice: ColumnChoice, passes: Callable[[DiskRow], bool] = lambda _: True
) -> list[DiskRow]:
    """One row per repository that passes, and below it one per revision if it has several."""
    found: list[DiskRow] = []
    for repo in _ordered(listing.repositories, choice):
        if not passes(DiskRow(repo)):
            continue
        found.append(DiskRow(repo))
        if len(repo.revisions) > 1:
            found += [DiskRow(repo, revision) for revision in repo.revisions]
    return found


_VALUES: Values[CacheRepository] = {
    "name": lambda repo: repo.repo,
    "size": lambda repo: repo.size_bytes + repo.partial_bytes + repo.orphan_bytes,
    "shared": lambda repo: repo.shared_bytes,
    "partial": lambda repo: repo.partial_bytes,
    "used": lambda repo: repo.used_at,
    "at": lambda repo: " ".join(ref for each in repo.revisions for ref in each.refs) or None,
    "models": lambda repo: " ".join(n for each in repo.revisions for n in each.models) or None,
}
SORTABLE = tuple(_VALUES)
LARGEST = ColumnChoice(sort="size", reverse=True)
"""The order without a choice."""


def _ordered(repos: Iterable[CacheRepository], choice: ColumnChoice) -> list[CacheRepository]:
    """Repositories by the chosen column, the largest first without one; equal ones by name."""
    found = sorted(repos, key=lambda repo: repo.repo.casefold())
    return ordered(found, choice if choice.sort in _VALUES else LARGEST, _VALUES)


def language(at: float) -> Language[DiskRow]:
    """The filter: `size>1G used>30 detached`, and words; `at` is the time of the listing."""
    return Language(
        text=lambda row: " ".join((row.unique, *row.models)).casefold(),
        measures={
            "size": Measure(lambda row: row.repo.size_bytes, sized(DECIMAL, "g")),
            "shared": Measure(lambda row: row.repo.shared_bytes, sized(DECIMAL, "g")),
            "partial": Measure(lambda row: row.repo.partial_bytes, sized(DECIMAL, "g")),
            "used": Measure(lambda row: at - row.repo.used_at if row.repo.used_at else None, AGES),
        },
        flags={
            "detached": lambda row: any(not each.refs for each in row.revisions),
            "partials": lambda row: bool(row.repo.partial_bytes),
        },
        fields={
            "at": lambda row: " ".join(ref for each in row.revisions for ref in each.refs),
            "model": lambda row: " ".join(row.models),
        },
        offers=("size>", "used>", "detached", "partials", "model:", "at:", "shared>", "partial>"),
    )


def selection(chosen: Iterable[DiskRow]) -> CacheSelection:
    """The part of the cache that actions apply to; a repository includes its revisions."""
    chosen = list(chosen)
    whole = [row.id for row in chosen if row.revision is None]
    single = [row.id for row in chosen if row.revision is not None and row.repo.repo not in whole]
    return CacheSelection(repositories=tuple(whole), revisions=tuple(single))


def line(
    row: DiskRow, state: State, now: RowContext, at: float, glyphs: Glyphs, inks: ThemeStyles
) -> TableLine:
    """One line of the table; `at` is the time of the listing."""
    sign, style = _sign(row, state, now, glyphs, inks)
    sizes = row.revision or row.repo
    partial = 0 if row.revision else row.repo.partial_bytes
    name = (
        f"  {glyphs.branch} {row.revision.revision[:8]}" if row.revision else fmt.clean(row.unique)
    )
    cells: dict[str, Cell] = {
        "sign": Text(sign, style),
        "name": name,
        "size": fmt.size(sizes.size_bytes),
        "shared": fmt.size(sizes.shared_bytes) if sizes.shared_bytes else "",
        "partial": fmt.size(partial) if partial else "",
        "used": age(sizes.used_at, at),
        "at": _refs(row.revisions, inks),
        "models": ", ".join(name.rpartition(":")[2] for name in row.models),
    }
    return TableLine(row.id, cells, dim=row.revision is not None)


def _sign(
    row: DiskRow, state: State, now: RowContext, glyphs: Glyphs, inks: ThemeStyles
) -> tuple[str, Style]:
    names = set(row.models)
    ids = {model.id for model in state.models.values() if model.unique in names}
    jobs = {j.repo for j in state.downloads.values() if j.state in ("queued", "downloading")}
    if ids & now.corrupt:
        return glyphs.failed, inks.error
    if any(i.model_id in ids for i in now.instances.values() if i.state.live):
        return glyphs.loaded, inks.success
    if ids & now.checking:
        return glyphs.busy, inks.accent
    if row.repo.repo in jobs and row.revision is None:
        return glyphs.down, inks.accent
    return (glyphs.done, inks.success) if ids and ids <= now.sound.keys() else ("", inks.muted)


def _refs(revisions: Sequence[CacheRevision], inks: ThemeStyles) -> Text:
    """Branches that point to the revision; without any it is detached."""
    names = list(dict.fromkeys(ref for each in revisions for ref in each.refs))
    if names or not revisions:
        return Text(fmt.clean(" ".join(names)))
    return Text("detached", inks.warning)


def about(row: DiskRow, inks: ThemeStyles) -> list[Text]:
    """Details of a row that do not fit on its line."""
    files = sum(each.files for each in row.revisions)
    facts = {
        "models": ", ".join(map(fmt.clean, row.models)) or "none that is complete",
        "commit": ", ".join(fmt.clean(each.revision) for each in row.revisions) or fmt.UNKNOWN,
        "files": str(files),
    }
    return [Text.assemble((f"{name:<{LABEL}}", inks.muted), text) for name, text in facts.items()]


def head(
    listing: CacheListing,
    state: State,
    order: str,
    keys: tuple[str, str],
    width: int,
    inks: ThemeStyles,
) -> Text:
    """Size of the whole cache; `keys` are those for pruning and for columns."""
    prune, choose = keys
    repos = listing.repositories
    held = sum(repo.size_bytes for repo in repos)
    partials = sum(repo.partial_bytes for repo in repos)
    loose = sum(not revision.refs for repo in repos for revision in repo.revisions)
    orphans = sum(repo.orphan_bytes for repo in repos)
    useless = [f"partials {fmt.size(partials)}"] if partials else []
    useless += [f"orphans {fmt.size(orphans)}"] if orphans else []
    useless += [f"{fmt.number(loose, 'revision')} detached"] if loose else []
    parts: list[Part] = [
        (0, Text(f"{fmt.size(held)} in {fmt.number(len(repos), 'repository', 'repositories')}",
                 STRONG)),
        (1, Text(f"{fmt.size(state.disk.free_bytes)} free")),
    ]  # fmt: skip
    if useless:
        words = Text.assemble(", ".join(useless), (f" [{prune} prune]", inks.muted))
        parts.append((2, words))
    if saved := listing.prefix_cache_bytes:
        parts.append((2, Text(f"saved conversations {fmt.size(saved)}")))
    parts.append((3, Text.assemble(("sort: ", inks.muted), order, (f" [{choose}]", inks.muted))))
    parts.append((4, Text(fmt.clean(listing.path), inks.muted)))
    return fitted(parts, width)
