"""Rows of the catalog: selection, order, and state of each. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from modeldeck.core.schema import (
    Download,
    Fit,
    Instance,
    InstanceState,
    Model,
    SearchHit,
    SearchResult,
)
from modeldeck.core.schema.state import State
from modeldeck.tui.dashboard.widgets.columns import Column
from modeldeck.tui.text import records

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
    """Which kind of models is shown."""

    ALL = "all"
    DOWNLOADED = "downloaded"
    LOADED = "loaded"
    MOVING = "moving"
    """Being downloaded, loaded or verified, or failed."""
    FITS = "fits"
    CUSTOM = "custom"


class CatalogSort(StrEnum):
    """Order of the models."""

    HERE = "yours first"
    NAME = "name"
    SIZE = "size"
    PARAMETERS = "parameters"
    NEEDS = "memory"


@dataclass(frozen=True, slots=True)
class Heading:
    """The rule above the Hub results."""

    words: str


Row = Model | SearchHit | Heading

MOVING_INSTANCES = (InstanceState.STARTING, InstanceState.STOPPING)


def key(row: Row) -> str:
    """Unique key of a row."""
    match row:
        case Model():
            return row.id
        case SearchHit():
            return f"hub:{row.repo}"
        case Heading():
            return "heading"


@dataclass(frozen=True, slots=True)
class RowContext:
    """State of models that the catalog entries do not contain."""

    instances: Mapping[str, Instance] = field(default_factory=dict)
    """The live instance of a model, else the one that failed, by the model's id."""
    jobs: Mapping[str, Download] = field(default_factory=dict)
    """The download of a model that is under way, held or failed, by the model's id."""
    here: frozenset[str] = frozenset()
    """Repositories of which a model is downloaded."""
    fits: Mapping[str, Fit] = field(default_factory=dict)
    """Fits by the model's id, at the context length on the screen."""
    checking: frozenset[str] = frozenset()
    """Models whose files are being checked, by id."""
    corrupt: frozenset[str] = frozenset()
    """Models of which the last check found a file corrupt, by id."""
    sound: Mapping[str, str] = field(default_factory=dict)
    """When the last check of a model found nothing wrong, by its id."""

    def failed(self, model: Model) -> bool:
        """Whether its download, load or verification failed."""
        job, instance = self.jobs.get(model.id), self.instances.get(model.id)
        return (
            (job is not None and job.state == "failed" and not model.downloaded)
            or (instance is not None and instance.state is InstanceState.FAILED)
            or model.id in self.corrupt
        )

    def moving(self, model: Model) -> bool:
        """Whether it is being downloaded, loaded, unloaded or verified, or waits for that."""
        job, instance = self.jobs.get(model.id), self.instances.get(model.id)
        return (
            (job is not None and job.state != "failed")
            or (instance is not None and instance.state in MOVING_INSTANCES)
            or model.id in self.checking
        )

    def yours(self, model: Model) -> bool:
        """Whether it is used on this machine: downloaded, loaded, or not built in."""
        return (
            model.downloaded
            or model.source != "builtin"
            or model.id in self.jobs
            or model.id in self.instances
        )


def standing(state: State, fits: Mapping[str, Fit]) -> RowContext:
    """Collect the state of all models from State."""
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
    checking: set[str] = set()
    corrupt: set[str] = set()
    sound: dict[str, str] = {}
    for check in state.verifications.values():  # the newest last
        if check.state in ("queued", "verifying"):
            checking.update(check.model_ids)
        elif check.state == "completed":
            corrupt.difference_update(check.model_ids)
            corrupt.update(check.corrupt)
            sound.update(dict.fromkeys(check.model_ids, check.finished_at or ""))
    return RowContext(
        instances=instances,
        jobs=jobs,
        here=here,
        fits=fits,
        checking=frozenset(checking),
        corrupt=frozenset(corrupt),
        sound={key: at for key, at in sound.items() if key not in corrupt},
    )


def select(
    models: Iterable[Model],
    text: str,
    show: Show,
    sort: CatalogSort,
    now: RowContext,
    first: frozenset[str] = frozenset(),
) -> list[Model]:
    """Models that contain all words and are of the kind shown, in order.

    `first` are the ids of those at the top in the order HERE.
    """
    words = text.casefold().split()
    found = [
        model
        for model in models
        if _belongs(model, show, now)
        and (not words or all(word in _haystack(model) for word in words))
    ]
    found.sort(
        key=lambda model: (
            _order(model, sort, now) if sort is not CatalogSort.HERE else model.id not in first,
            model.name.casefold(),
            model.unique,
        )
    )
    return found


@dataclass(frozen=True, slots=True)
class ModelCounts:
    """Numbers of models by state."""

    here: int
    moving: int
    failed: int


def glance_at(models: Iterable[Model], now: RowContext) -> ModelCounts:
    """Count local, moving and failed models, over all models."""
    here = moving = failed = 0
    for model in models:
        here += model.downloaded
        failed += (wrong := now.failed(model))
        moving += not wrong and now.moving(model)
    return ModelCounts(here, moving, failed)


def firsts(models: Iterable[Model], now: RowContext) -> frozenset[str]:
    """Ids of the models at the top in the order HERE.

    Called when the user comes to the list, and not while they look at it: a download that starts or
    ends must not move its row.
    """
    return frozenset(model.id for model in models if now.yours(model))


def _haystack(model: Model) -> str:
    return f"{model.unique} {model.name} {model.format} {' '.join(model.usage)}".casefold()


def _belongs(model: Model, show: Show, now: RowContext) -> bool:
    match show:
        case Show.ALL:
            return True
        case Show.DOWNLOADED:
            return model.downloaded
        case Show.LOADED:
            instance = now.instances.get(model.id)
            return instance is not None and instance.state.live
        case Show.MOVING:
            return now.moving(model) or now.failed(model)
        case Show.FITS:
            fit = now.fits.get(model.id)
            return fit is not None and fit.verdict in ("fits", "tight")
        case Show.CUSTOM:
            return model.custom


def _order(model: Model, sort: CatalogSort, now: RowContext) -> float:
    """Sort key: small values first, unknown ones last."""
    match sort:
        case CatalogSort.HERE | CatalogSort.NAME:
            return 0
        case CatalogSort.SIZE:
            return _known(model.size_bytes)
        case CatalogSort.PARAMETERS:
            return _known(model.parameters)
        case CatalogSort.NEEDS:
            fit = now.fits.get(model.id)
            return _known(fit.forecast.total_bytes if fit and fit.forecast else None)


def _known(value: float | None) -> float:
    return float("inf") if value is None else value


def hub_rows(result: SearchResult | None, text: str, *, asking: bool, key: str) -> list[Row]:
    """Hub results, under a rule with the status of the search; `key` is the search key."""
    if not text and result is None:
        return []
    words = f'Hugging Face: "{text}"'
    if asking:
        words += "  asking"
    elif result is None:
        words += f"  {key} asks"
    elif result.error and not result.hits:
        words += f"  {result.error}"
    elif result.error or result.from_cache:
        words += f"  offline copy: {result.error or 'the Hub is not asked now'}"
    elif not result.hits:
        words += "  no results"
    return [Heading(words), *(result.hits if result is not None else ())]


def busy(state: State, model_id: str) -> Instance | None:
    """The live instance of a model, if any."""
    return next((i for i in records.live(state) if i.model_id == model_id), None)


def running_job(state: State, model_id: str) -> Download | None:
    """The download of a model that can be cancelled, if any."""
    jobs = (j for j in state.downloads.values() if j.model_id == model_id)
    return next((j for j in jobs if j.state not in records.ENDED_JOBS), None)
