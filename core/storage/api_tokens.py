"""The tokens of this installation: made, found by their secret, revoked.

A secret has 256 random bits, so its plain SHA-256 cannot be guessed back, and that is all that is
kept. Which tokens there are is held in memory: a request is judged without the disk.
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
from modeldeck.core.schema import TOKEN_PREFIX, NewToken, Scope, Token
from modeldeck.core.schema.clock import now
from modeldeck.core.storage.database import Database

logger = logging.getLogger(__name__)

MOST = 100
"""Tokens. Each request that brings one is compared with all of them."""

LONGEST_S = 10 * 365 * 86400.0

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,62}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _StoredToken:
    """A token as the store has it."""

    token: Token
    sha256: str


def _clock() -> datetime:
    return datetime.now(UTC)


class ApiTokens:
    """All tokens. `open` first; `close` writes down when each was last used."""

    def __init__(self, store: Database, clock: Callable[[], datetime] = _clock) -> None:
        self._store = store
        self._clock = clock
        self._kept: dict[str, _StoredToken] = {}
        self._used: dict[str, str] = {}
        self._changing = asyncio.Lock()
        self._watchers: list[Callable[[Token], None]] = []

    async def open(self) -> None:
        """Read them from the store."""
        for _, kept in await self._store.records(
            "tokens", _StoredToken, lambda k: self._expired(k.token)
        ):
            self._kept[kept.token.id] = kept

    async def close(self) -> None:
        """Write down when each was last used; where that cannot be written, the log says so."""
        async with self._changing:
            used = [self._kept[key] for key in self._used.keys() & self._kept.keys()]
            seen = [replace(kept, token=self._seen(kept.token)) for kept in used]
            try:
                await self._store.put_all(
                    "tokens", [(kept.token.id, msgspec.json.encode(kept), 0) for kept in seen]
                )
            except StorageFailed as error:
                logger.warning("When tokens were last used is not written down: %s", error)

    def all(self) -> list[Token]:
        """Every token, oldest first, expired ones too."""
        return [self._seen(kept.token) for kept in self._kept.values()]

    @property
    def usable(self) -> bool:
        """Whether there is one that has not expired."""
        return any(not self._expired(kept.token) for kept in self._kept.values())

    def find(self, secret: str) -> Token | None:
        """The token with this secret; None for a wrong, revoked or expired one.

        Every hash is compared, each in constant time.
        """
        digest = hashlib.sha256(secret.encode(errors="replace")).hexdigest()
        found: Token | None = None
        for kept in self._kept.values():
            if hmac.compare_digest(kept.sha256, digest):
                found = kept.token
        if found is None or self._expired(found):
            return None
        self._used[found.id] = now()
        return found

    @whole
    async def create(
        self, name: str, scopes: Sequence[Scope], expires_s: float | None = None
    ) -> NewToken:
        """Make one; durable when it returns. Raises InvalidRequest, or Conflict for a taken name.

        Args:
            name: What the audit trail will say.
            scopes: What it is for; without any, `read` and `infer`.
            expires_s: Seconds from now, or None for a token that holds until it is revoked.
        """
        async with self._changing:
            self._check(name, expires_s)
            end = self._clock() + timedelta(seconds=expires_s) if expires_s else None
            token = Token(
                id=secrets.token_hex(4),
                name=name,
                scopes=tuple(dict.fromkeys(scopes or ("read", "infer"))),
                created_at=now(),
                expires_at=end.isoformat(timespec="seconds").replace("+00:00", "Z")
                if end
                else None,
            )
            secret = TOKEN_PREFIX + secrets.token_urlsafe(32)
            kept = _StoredToken(token=token, sha256=hashlib.sha256(secret.encode()).hexdigest())
            await self._store.put("tokens", token.id, msgspec.json.encode(kept))
            self._kept[token.id] = kept
            return NewToken(token=token, secret=secret)

    def _check(self, name: str, expires_s: float | None) -> None:
        if not _NAME.fullmatch(name):
            raise InvalidRequest(
                f"{name[:80]!r} cannot be the name of a token.",
                "Use up to 63 letters, digits, dots, dashes, underscores and @.",
            )
        if expires_s is not None and not 1 <= expires_s <= LONGEST_S:
            raise InvalidRequest("A token holds for a second at least, and ten years at most.")
        if any(kept.token.name == name for kept in self._kept.values()):
            raise Conflict(
                f"There is a token {name!r} already.",
                f"Choose another name, or `modeldeck token revoke {name}` first.",
            )
        if len(self._kept) >= MOST:
            raise Conflict(f"There are {MOST} tokens already.", "Revoke those that nobody uses.")

    @whole
    async def revoke(self, ref: str) -> Token:
        """Take the tokens with this name or id away, for good when it returns.

        Raises NotFound, and StorageFailed when that cannot be written down: the token holds on,
        as it would after the next start.
        """
        async with self._changing:
            # Several of one name may be left by an earlier version: all of them are meant.
            kept = [k for k in self._kept.values() if ref in (k.token.name, k.token.id)]
            if not kept:
                raise NotFound(
                    f"There is no token {ref[:80]!r}.", "`modeldeck token list` shows them."
                )
            for each in kept:
                await self._remove(each.token)
                del self._kept[each.token.id]
                for watcher in self._watchers:
                    watcher(each.token)
            return self._seen(kept[0].token)

    async def _remove(self, token: Token) -> None:
        try:
            await self._store.remove("tokens", token.id)
        except StorageFailed as error:
            raise type(error)(
                f"The token {token.name} could not be revoked and still lets in. {error.message}",
                "Make room for the state folder, or mend its permissions, and revoke it again.",
            ) from error

    def on_revoked(self, watcher: Callable[[Token], None]) -> None:
        """Call `watcher` with each token that is revoked from now on."""
        self._watchers.append(watcher)

    def _expired(self, token: Token) -> bool:
        end = token.expires_at
        return end is not None and datetime.fromisoformat(end) <= self._clock()

    def _seen(self, token: Token) -> Token:
        return replace(token, last_used_at=self._used.get(token.id, token.last_used_at))
