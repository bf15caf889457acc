"""The service behind the API: one method per command, in groups by what the command is about.

Every change appears in State through the feed. A command returns once the action is accepted, or
done where its docstring says so (`instances.loaded`, `instances.unload`, `cache.delete`). Each
action that changes state is recorded in the audit trail with its origin, the client.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, AsyncExitStack
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from modeldeck.core.concurrency import contained
from modeldeck.core.config.config import Config
from modeldeck.core.config.config_file import Problem
from modeldeck.core.config.paths import Paths
from modeldeck.core.schema import (
    AuditEntry,
    LogLine,
    NewToken,
    Priority,
    Scope,
    Settings,
    Token,
    Undoable,
)
from modeldeck.core.schema.state import HostChanged, State
from modeldeck.core.service.answers.running import KeptAnswers
from modeldeck.core.service.bandwidth import AttachedClient
from modeldeck.core.service.commands.benches import BenchCommands
from modeldeck.core.service.commands.cache import CacheCommands
from modeldeck.core.service.commands.copies import CopyCommands
from modeldeck.core.service.commands.downloads import DownloadCommands
from modeldeck.core.service.commands.hub import HubCommands
from modeldeck.core.service.commands.inference import InferenceCommands
from modeldeck.core.service.commands.instances import InstanceCommands
from modeldeck.core.service.commands.models import ModelCommands
from modeldeck.core.service.commands.requests import RequestCommands
from modeldeck.core.service.counters import Counters
from modeldeck.core.service.feed import Feed
from modeldeck.core.service.health import Health, judge, waits
from modeldeck.core.service.loading.memory_budget import BUDGET_KEY, check_budget
from modeldeck.core.service.wiring import ServiceParts
from modeldeck.core.storage.api_tokens import ApiTokens


class Deck:
    """The service of one machine. Use as an async context manager."""

    def __init__(self, paths: Paths, config: Config, problems: Sequence[Problem] = ()) -> None:
        self.paths = paths
        self.config = config
        self._parts = ServiceParts(paths, config, problems)
        self._stop = asyncio.Event()
        self.models = ModelCommands(self._parts)
        self.hub = HubCommands(self._parts)
        self.downloads = DownloadCommands(self._parts, self.models)
        self.copies = CopyCommands(self._parts, self.models)
        self.cache = CacheCommands(self._parts)
        self.instances = InstanceCommands(self._parts, self.models)
        self.inference = InferenceCommands(self._parts)
        self.requests = RequestCommands(self._parts, self.models)
        self.benches = BenchCommands(self._parts, self.models)

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await self._parts.open(stack)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        self._parts.audit.close()
        return await self._stack.__aexit__(kind, error, trace)

    @property
    def host_id(self) -> str:
        """A UUID of this installation, kept across restarts."""
        return self._parts.host_id

    @property
    def answers(self) -> KeptAnswers:
        """Answers that clients may name again."""
        return self._parts.answers

    @property
    def feed(self) -> Feed:
        """State and its changes."""
        return self._parts.feed

    def announce(self, urls: tuple[str, ...], socket_path: str | None) -> None:
        """Set the addresses of the API in State."""
        self.feed.commit(HostChanged, host=replace(self.state.host, urls=urls, socket=socket_path))

    def request_stop(self) -> None:
        """Request the end of the core; `stopped` returns."""
        self._parts.audit.close()
        self._stop.set()

    async def stopped(self) -> None:
        """Wait until `request_stop` is called."""
        await self._stop.wait()

    # Reading

    def health(self) -> Health:
        """Return whether the database and the files of models answer. Never waits."""
        return judge(waits(self._parts.store.waiting_s))

    @property
    def state(self) -> State:
        """The current State. Never waits."""
        return self._parts.feed.state

    async def refresh(self) -> State:
        """Return the State with memory no older than a second."""
        await self._parts.sampler.refresh()
        return self.state

    def log(self, after: int = 0, limit: int = 500, source: str | None = None) -> list[LogLine]:
        """Return the lines of the log with a number above `after`, oldest first."""
        return list(self._parts.log.lines(after, limit, source))

    async def audit_trail(self, limit: int = 200) -> list[AuditEntry]:
        """Return the newest entries of the audit trail, newest first."""
        return await self._parts.audit.trail(limit)

    @property
    def counters(self) -> Counters:
        """Counters since the start of the core."""
        return self._parts.counters

    # Tokens

    @property
    def tokens(self) -> ApiTokens:
        """The API tokens; change them with `create_token` and `revoke_token`."""
        return self._parts.tokens

    async def create_token(
        self,
        name: str,
        scopes: Sequence[Scope],
        expires_s: float | None,
        origin: str,
        *,
        priority: Priority = "interactive",
    ) -> NewToken:
        """Create an API token. Raises InvalidRequest, and Conflict for a name in use."""
        async with self._parts.audit.action(origin, "create token", name[:80]):
            return await self._parts.tokens.create(name, scopes, expires_s, priority)

    async def revoke_token(self, ref: str, origin: str) -> Token:
        """Revoke an API token; its connections are closed at once. Raises NotFound."""
        async with self._parts.audit.action(origin, "revoke token", ref[:80]):
            return await self._parts.tokens.revoke(ref)

    # Settings

    async def change_settings(self, changes: Mapping[str, Any], origin: str) -> Settings:
        """Change settings of downloads, and the memory budget; saved, and in force at once.

        Raises InvalidRequest for a bad value, StorageFailed when it cannot be saved.
        """
        download_settings = {key: value for key, value in changes.items() if key != BUDGET_KEY}
        async with self._parts.audit.action(origin, "settings", ", ".join(changes)):
            if BUDGET_KEY in changes:  # all is checked before any of it is changed
                check_budget(changes[BUDGET_KEY])
            if download_settings:
                await self._parts.bandwidth.change(download_settings)
            if BUDGET_KEY in changes:
                await self._parts.budget.change(changes[BUDGET_KEY])
                with contained("sampling memory"):
                    await self._parts.sampler.sample()
            return self.state.settings

    def listening(self) -> AbstractContextManager[AttachedClient]:
        """Measure the latency of an attached front end while the block runs."""
        return self._parts.bandwidth.listening()

    @property
    def ping_s(self) -> float | None:
        """Seconds between pings to attached front ends; None while they are not needed."""
        return self._parts.bandwidth.ping_s

    # Undo

    def undoable(self) -> tuple[Undoable, ...]:
        """Return the actions that can be undone, newest first."""
        return self._parts.undo.steps

    async def undo(self, key: str | None, origin: str) -> Undoable:
        """Undo the action with this key, or the newest for None. Raises NotFound, Conflict."""
        async with self._parts.audit.action(origin, "undo", key or "the newest"):
            return await self._parts.undo.undo(key)
