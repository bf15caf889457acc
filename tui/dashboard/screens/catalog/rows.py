"""Rows of the catalog: selection, order, and state of each. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from modeldeck.core.schema import (
    BenchProgress,
    Download,
    Fit,
    Instance,
    InstanceState,
    Model,
    SearchHit,
    SearchResult,
)
from modeldeck.core.schema.state import State
from modeldeck.tui.text import records


class Show(StrEnum):
    """Which kind of models is shown."""

    ALL = "all"
    DOWNLOADED = "downloaded"
    LOADED = "loaded"
    BUSY = "busy"
    """Being downloaded, loaded or verified, or failed."""
    FITS = "fits"
    CUSTOM = "custom"


@dataclass(frozen=True, slots=True)
class Heading:
    """The rule above the Hub results."""

    words: str
    heads: bool = False
    """Whether rows follow, which have heads of their own."""


@dataclass(frozen=True, slots=True)
class BuiltInHeading:
    """The rule above the built-in models in the demo, whose hub does not have them."""

    words: str = "built in: not on this demo's hub"


Row = Model | SearchHit | Heading | BuiltInHeading

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
        case BuiltInHeading():
            return "heading:built in"


def elsewhere(model: Model) -> bool:
    """Whether a model is only in the built-in catalog, and not on the demo's hub."""
    return model.source == "builtin" and not model.downloaded


def parted(models: Sequence[Model]) -> list[Row]:
    """The models of a demo; below a heading, those that its hub does not have."""
    here: list[Row] = [model for model in models if not elsewhere(model)]
    others: list[Row] = [model for model in models if elsewhere(model)]
    return [*here, BuiltInHeading(), *others] if others else here


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
    bench: BenchProgress | None = None
    """The benchmark that runs."""
    ready: bool = False
    """Whether it was made of a State."""

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
            or (self.bench is not None and self.bench.model_id == model.id)
        )

    def yours(self, model: Model) -> bool:
        """Whether it is used on this machine: downloaded, loaded, or not built in."""
        return (
            model.downloaded
            or model.source not in ("builtin", "catalog")
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
        bench=state.bench if state.bench is not None and state.bench.live else None,
        corrupt=frozenset(corrupt),
        sound={key: at for key, at in sound.items() if key not in corrupt},
        ready=True,
    )


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


def belongs(model: Model, show: Show, now: RowContext) -> bool:
    """Whether a model is of the kind shown."""
    match show:
        case Show.ALL:
            return True
        case Show.DOWNLOADED:
            return model.downloaded
        case Show.LOADED:
            instance = now.instances.get(model.id)
            return instance is not None and instance.state.live
        case Show.BUSY:
            return now.moving(model) or now.failed(model)
        case Show.FITS:
            fit = now.fits.get(model.id)
            return fit is not None and fit.verdict in ("fits", "tight")
        case Show.CUSTOM:
            return model.custom


def hub_rows(
    result: SearchResult | None, text: str, hits: Sequence[SearchHit], *, asking: bool, key: str
) -> list[Row]:
    """Hub results, under a rule with the status of the search.

    Args:
        result: The last answer; None before it.
        text: The words that the Hub was asked for.
        hits: Those of its results that pass the filter.
        asking: Whether a search is under way.
        key: The search key.
    """
    if not text and result is None:
        return []
    words = f'Hugging Face "{text}"'
    if asking and not hits:
        words += "  searching" + "…"
    elif result is None:
        words += f"  {key} searches"
    elif result.error and not result.hits:
        words += f"  {result.error}"
    elif result.error or result.from_cache:
        words += f"  offline: {result.error or 'results of an earlier search'}"
    elif not hits:
        words += "  no results"
    return [Heading(words, bool(hits)), *hits]


def busy(state: State, model_id: str) -> Instance | None:
    """The live instance of a model, if any."""
    return next((i for i in records.live(state) if i.model_id == model_id), None)


def running_job(state: State, model_id: str) -> Download | None:
    """The download of a model that can be cancelled, if any."""
    jobs = (j for j in state.downloads.values() if j.model_id == model_id)
    return next((j for j in jobs if j.state not in records.ENDED_JOBS), None)
