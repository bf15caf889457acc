"""The audit trail: who changed what, and what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from core.errors import DeckError, ShuttingDown
from core.log import now
from core.schema import AuditEntry
from core.store import Store


class Audit:
    """Every action that changes something passes through here, and none once `close` was called."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._is_closed = False

    def close(self) -> None:
        """Let no new action in."""
        self._is_closed = True

    @asynccontextmanager
    async def action(self, origin: str, action: str, target: str) -> AsyncIterator[None]:
        """Write down what the block does, with its outcome. Raises ShuttingDown once closed."""
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
            await self._store.audit(now(), origin, action, target, outcome)

    async def trail(self, limit: int) -> list[AuditEntry]:
        """The newest entries, newest first."""
        return [
            AuditEntry(at=at, origin=origin, action=action, target=target, outcome=outcome)
            for at, origin, action, target, outcome in await self._store.audit_trail(limit)
        ]
