"""The audit trail: each action that changes state, with its origin and outcome."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from modeldeck.core.concurrency import whole
from modeldeck.core.errors import DeckError, ShuttingDown, StorageFailed
from modeldeck.core.schema import AuditEntry
from modeldeck.core.schema.clock import now
from modeldeck.core.storage.database import AuditRow, Database

logger = logging.getLogger(__name__)

PENDING = 1000
"""Entries kept in memory while the disk cannot be written; the oldest are dropped."""


class AuditTrail:
    """Records actions in the database; refuses new actions once `close` was called."""

    def __init__(self, store: Database) -> None:
        self._store = store
        self._is_closed = False
        self._pending: deque[AuditRow] = deque(maxlen=PENDING)
        self._writing = asyncio.Lock()
        self._is_failing = False

    def close(self) -> None:
        """Refuse new actions from now on."""
        self._is_closed = True

    @asynccontextmanager
    async def action(self, origin: str, action: str, target: str) -> AsyncIterator[None]:
        """Record the action of the block with its outcome. Raises ShuttingDown once closed."""
        if self._is_closed:
            raise ShuttingDown(
                "The core is about to end.", "Start it again with `modeldeck serve`."
            )
        outcome = "failed"
        try:
            yield
            outcome = "done"
        except DeckError as error:
            outcome = error.code
            raise
        except asyncio.CancelledError:
            outcome = "abandoned"
            raise
        finally:
            self._pending.append((now(), origin, action, target, outcome))
            await self.flush()

    @whole
    async def flush(self) -> None:
        """Write the pending entries; after a failure they are written with the next entry.

        Raises nothing: an action that succeeded must not be reported as failed because it could not
        be recorded.
        """
        async with self._writing:
            entries, self._pending = self._pending, deque(maxlen=PENDING)
            if not entries:
                return
            try:
                await self._store.audit_all(list(entries))
            except (StorageFailed, ShuttingDown) as error:
                if not self._is_failing:
                    logger.error("The audit trail cannot be written; it is tried again: %s", error)
                self._is_failing = True
                self._pending = deque([*entries, *self._pending], maxlen=PENDING)
            else:
                self._is_failing = False

    async def trail(self, limit: int) -> list[AuditEntry]:
        """Return the newest entries, newest first, pending ones included."""
        async with self._writing:
            waiting = list(reversed(self._pending))[:limit]
            written = await self._store.audit_trail(limit - len(waiting))
        return [
            AuditEntry(at=at, origin=origin, action=action, target=target, outcome=outcome)
            for at, origin, action, target, outcome in (*waiting, *written)
        ]
