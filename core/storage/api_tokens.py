"""API tokens of this installation: create, find by secret, revoke.

Only the SHA-256 of a secret is stored; a secret has 256 random bits, so it cannot be guessed from
its hash. All tokens are in memory, so a request is checked without the disk.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import msgspec

from modeldeck.core.concurrency import whole
from modeldeck.core.errors import Conflict, InvalidRequest, NotFound, StorageFailed
from modeldeck.core.schema import TOKEN_PREFIX, NewToken, Priority, Scope, Token
from modeldeck.core.schema.clock import now
from modeldeck.core.storage.database import Database

logger = logging.getLogger(__name__)

MOST = 100
"""Maximum number of tokens; each request with a token is compared with all of them."""

LONGEST_S = 10 * 365 * 86400.0

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,62}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _StoredToken:
    """A token as it is stored."""

    token: Token
    sha256: str


def _clock() -> datetime:
    return datetime.now(UTC)


class ApiTokens:
    """All tokens. Call `open` first; `close` stores the times of last use."""

    def __init__(self, store: Database, clock: Callable[[], datetime] = _clock) -> None:
        self._store = store
        self._clock = clock
        self._stored: dict[str, _StoredToken] = {}
        self._last_used: dict[str, str] = {}
        self._change_lock = asyncio.Lock()
        self._watchers: list[Callable[[Token], None]] = []

    async def open(self) -> None:
        """Read the tokens from the database."""
        for _, kept in await self._store.records(
            "tokens", _StoredToken, lambda k: self._expired(k.token)
        ):
            self._stored[kept.token.id] = kept

    async def close(self) -> None:
        """Store the times of last use; a storage error is logged."""
        async with self._change_lock:
            used = [self._stored[key] for key in self._last_used.keys() & self._stored.keys()]
            updated = [replace(kept, token=self._with_last_use(kept.token)) for kept in used]
            try:
                await self._store.put_all(
                    "tokens", [(kept.token.id, msgspec.json.encode(kept), 0) for kept in updated]
                )
            except StorageFailed as error:
                logger.warning("The times when tokens were last used are not stored: %s", error)

    def all(self) -> list[Token]:
        """Return all tokens, oldest first, including expired ones."""
        return [self._with_last_use(kept.token) for kept in self._stored.values()]

    @property
    def usable(self) -> bool:
        """Whether there is a token that has not expired."""
        return any(not self._expired(kept.token) for kept in self._stored.values())

    def find(self, secret: str) -> Token | None:
        """Return the token with this secret; None for a wrong, revoked or expired one.

        Every hash is compared, each in constant time.
        """
        digest = hashlib.sha256(secret.encode(errors="replace")).hexdigest()
        found: Token | None = None
        for kept in self._stored.values():
            if hmac.compare_digest(kept.sha256, digest):
                found = kept.token
        if found is None or self._expired(found):
            return None
        self._last_used[found.id] = now()
        return found

    @whole
    async def create(
        self,
        name: str,
        scopes: Sequence[Scope],
        expires_s: float | None = None,
        priority: Priority = "interactive",
    ) -> NewToken:
        """Create a token; durable when it returns. Raises InvalidRequest, Conflict for a used name.

        Args:
            name: Its name in the audit trail.
            scopes: What it permits; none means `read` and `infer`.
            expires_s: Seconds from now; None for a token that does not expire.
            priority: The highest priority of its requests to models.
        """
        async with self._change_lock:
            self._check(name, expires_s)
            end = self._clock() + timedelta(seconds=expires_s) if expires_s else None
            token = Token(
                id=secrets.token_hex(4),
                name=name,
                scopes=tuple(dict.fromkeys(scopes or ("read", "infer"))),
                created_at=now(),
                priority=priority,
                expires_at=end.isoformat(timespec="seconds").replace("+00:00", "Z")
                if end
                else None,
            )
            secret = TOKEN_PREFIX + secrets.token_urlsafe(32)
            kept = _StoredToken(token=token, sha256=hashlib.sha256(secret.encode()).hexdigest())
            await self._store.put("tokens", token.id, msgspec.json.encode(kept))
            self._stored[token.id] = kept
            return NewToken(token=token, secret=secret)

    def _check(self, name: str, expires_s: float | None) -> None:
        if not _NAME.fullmatch(name):
            raise InvalidRequest(
                f"{name[:80]!r} cannot be the name of a token.",
                "Use up to 63 letters, digits, dots, dashes, underscores and @.",
            )
        if expires_s is not None and not 1 <= expires_s <= LONGEST_S:
            raise InvalidRequest("A token is valid for at least a second and at most ten years.")
        if any(kept.token.name == name for kept in self._stored.values()):
            raise Conflict(
                f"There is a token {name!r} already.",
                f"Choose another name, or `modeldeck token revoke {name}` first.",
            )
        if len(self._stored) >= MOST:
            raise Conflict(f"There are {MOST} tokens already.", "Revoke unused ones.")

    @whole
    async def revoke(self, ref: str) -> Token:
        """Revoke the tokens with this name or id; durable when it returns.

        Raises NotFound, and StorageFailed when that cannot be stored: then the token stays valid,
        as it would be after a restart.
        """
        async with self._change_lock:
            # An earlier version could create several tokens with one name: all are revoked.
            kept = [k for k in self._stored.values() if ref in (k.token.name, k.token.id)]
            if not kept:
                raise NotFound(
                    f"There is no token {ref[:80]!r}.", "`modeldeck token list` shows them."
                )
            for each in kept:
                await self._remove(each.token)
                del self._stored[each.token.id]
                for watcher in self._watchers:
                    watcher(each.token)
            return self._with_last_use(kept[0].token)

    async def _remove(self, token: Token) -> None:
        try:
            await self._store.remove("tokens", token.id)
        except StorageFailed as error:
            raise type(error)(
                f"The token {token.name} could not be revoked and is still valid. {error.message}",
                "Free space for the state folder, or correct its permissions, and revoke it again.",
            ) from error

    def on_revoked(self, watcher: Callable[[Token], None]) -> None:
        """Call `watcher` with each token that is revoked from now on."""
        self._watchers.append(watcher)

    def _expired(self, token: Token) -> bool:
        end = token.expires_at
        return end is not None and datetime.fromisoformat(end) <= self._clock()

    def _with_last_use(self, token: Token) -> Token:
        return replace(token, last_used_at=self._last_used.get(token.id, token.last_used_at))
