"""Newer files on the Hub for models that are downloaded: asked once a day, or by a person.

A newer commit that leaves the files of a model as they are is no update: the Hub has one for each
change of a README. What was found is stored, so that a restart need not ask again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import msgspec

from modeldeck.core.concurrency import Repeated
from modeldeck.core.errors import DeckError, HubUnavailable, NotFound
from modeldeck.core.formats.unique_names import hub_name
from modeldeck.core.network.offline import check_online, forbidden_by
from modeldeck.core.schema import Model, ModelUpdate, Repository, UpdateCheck
from modeldeck.core.schema.clock import now
from modeldeck.core.service.library.entries import choose
from modeldeck.core.service.library.library import ModelLibrary
from modeldeck.core.storage.database import Database

logger = logging.getLogger(__name__)

T = TypeVar("T")

EVERY = timedelta(days=1)
"""Time between two checks that no person asks for."""
LOOK_S = 3600.0
"""Seconds between two looks at the clock: a machine may sleep, so no timer runs for a day."""
AT_ONCE = 4
"""Repositories that are asked about at the same time."""
KEY = "last"
"""Key of the only record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateRecord:
    """What the last check found."""

    checked_at: str
    """ISO 8601, UTC."""
    updates: dict[str, ModelUpdate] = field(default_factory=dict)
    """By id of the model."""


class UpdateChecker:
    """Asks the Hub whether it has newer files of the models on this machine."""

    def __init__(
        self,
        *,
        library: ModelLibrary,
        store: Database,
        repository: Callable[[str], Awaitable[Repository]],
        allowed: bool,
    ) -> None:
        """`repository` asks the Hub; `allowed` is whether it is asked once a day."""
        self._library = library
        self._store = store
        self._repository = repository
        self._allowed = allowed
        self._checked_at: datetime | None = None
        self._lock = asyncio.Lock()

    async def open(self) -> None:
        """Read what the last check found."""
        for _, record in await self._store.records("updates", UpdateRecord):
            self._checked_at = _moment(record.checked_at)
            self._library.set_updates(record.updates)

    async def watch(self) -> None:
        """Check once a day. Ends only by cancellation: errors are logged, and it goes on."""
        checking = Repeated("asking the Hub for updates")
        while self._allowed:
            if is_due(self._checked_at, datetime.now(UTC)) and forbidden_by() is None:
                with checking.turn():
                    try:
                        await self.check()
                    except DeckError as error:
                        logger.info("The Hub was not asked for updates: %s", error)
            await asyncio.sleep(LOOK_S)

    async def check(self) -> UpdateCheck:
        """Ask the Hub about every model that came from it.

        Raises HubUnavailable where it cannot be reached, also in offline mode; then nothing that
        was known before is lost. Raises StorageFailed.
        """
        check_online()
        async with self._lock:
            by_repo: dict[str, list[Model]] = {}
            for model in self._library.listed:
                if (repo := _updatable(model)) is not None:
                    by_repo.setdefault(repo, []).append(model)
            slots = asyncio.Semaphore(AT_ONCE)

            async def ask(repo: str) -> Repository | None:
                async with slots:
                    return await self._ask(repo)

            answers = await _all(map(ask, by_repo))
            found: dict[str, ModelUpdate] = {}
            for repository, models in zip(answers, by_repo.values(), strict=True):
                if repository is not None:
                    found |= self._updates(repository, models)
            await self._keep(found)
        silent = [repo for repo, known in zip(by_repo, answers, strict=True) if known is None]
        return UpdateCheck(
            checked=sum(map(len, by_repo.values())), updates=tuple(found), unanswered=tuple(silent)
        )

    async def _ask(self, repo: str) -> Repository | None:
        """A repository as the Hub has it now; None where it refuses. Raises HubUnavailable."""
        try:
            found = await self._repository(repo)
        except HubUnavailable:
            raise
        except DeckError as error:  # it is gone, or its licence must be accepted
            logger.info("The Hub does not tell of %s: %s", repo, error)
            return None
        if found.from_cache:
            raise HubUnavailable(
                "The Hub cannot be reached, so it was not asked for updates.",
                "Try it again when it can.",
            )
        return found

    def _updates(self, repository: Repository, models: list[Model]) -> Mapping[str, ModelUpdate]:
        update = ModelUpdate(
            revision=repository.revision, last_modified=repository.last_modified or ""
        )
        return {model.id: update for model in models if self._differs(repository, model)}

    def _differs(self, repository: Repository, model: Model) -> bool:
        """Whether the Hub has other files of a model than this machine."""
        name = hub_name(model.unique)
        if name is None or repository.revision == model.revision:
            return False
        here = {
            file.path: file.blob
            for snapshot in self._library.snapshots
            if snapshot.repo == model.repo and snapshot.revision == model.revision
            for file in snapshot.files
        }
        try:
            there = choose(repository, name).files
        except NotFound:  # the Hub no longer has it
            return False
        # A copy without links to blobs has no hashes: then only a missing file tells.
        return any(here.get(file.path, "none") not in ("", file.blob) for file in there)

    async def _keep(self, found: dict[str, ModelUpdate]) -> None:
        record = UpdateRecord(checked_at=now(), updates=found)
        await self._store.put("updates", KEY, msgspec.json.encode(record))
        self._checked_at = _moment(record.checked_at)
        self._library.set_updates(found)


async def _all(questions: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """The answers to all questions; when one fails, the others are given up."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(each, name="asking the Hub") for each in questions]
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return [task.result() for task in tasks]


def is_due(checked_at: datetime | None, clock: datetime) -> bool:
    """Whether a day has passed since the last check; also where that lies in the future.

    >>> day = datetime(2026, 1, 2, tzinfo=UTC)
    >>> [is_due(at, day) for at in (None, day - EVERY, day - EVERY / 2, day + EVERY)]
    [True, True, False, True]
    """
    return checked_at is None or not timedelta() <= clock - checked_at < EVERY


def _updatable(model: Model) -> str | None:
    """The repository of a downloaded model that follows its main branch; else None."""
    name = hub_name(model.unique)
    if not model.downloaded or model.local or model.revision is None or name is None:
        return None
    return model.repo if name.revision is None else None


def _moment(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None
