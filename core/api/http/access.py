"""Who asks, and whether they may: decided from the head alone, by the door they came through.

A door is one of the addresses that the listener answers on. The Unix socket is open to nobody but
its owner, and TCP on loopback to this machine, as the documented API has it; there a token is not
needed, and what clients of other APIs send for one is passed over. From beyond this machine every
request needs one (RFC 6750), in its head: never in a URL, which ends in logs and histories.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from modeldeck.core.api.http.origin_checks import OriginPolicy
from modeldeck.core.api.http.rate_limit import RequestLimiter
from modeldeck.core.errors import Forbidden, InvalidRequest, TooManyRequests, Unauthorized
from modeldeck.core.schema import TOKEN_PREFIX, TOKEN_SECRET, Scope, Token

if TYPE_CHECKING:
    from modeldeck.core.api.http.request_head import RequestHead

Need = Scope | Literal["open", "owner"]
"""What a route asks of its caller: `open` nothing at all, `owner` to come over the Unix socket."""

IN_URL = frozenset({"access_token", "token", "api_key", "apikey", "authorization"})
"""Names of query parameters that other servers take secrets in."""

CREATE = "Make one on that machine: `modeldeck token create NAME`."


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenAddress:
    """One address of the listener."""

    name: Literal["socket", "loopback", "outside"]
    policy: OriginPolicy
    needs_token: bool = False

    @property
    def is_socket(self) -> bool:
        """Whether it is the Unix socket."""
        return self.name == "socket"

    @property
    def is_outside(self) -> bool:
        """Whether others than this machine may come through it."""
        return self.name == "outside"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks."""

    name: str
    """For the audit trail: the peer, and the name of the token."""
    key: str | None = None
    """What its allowance is counted by; None for one that has no limit."""
    token: Token | None = None

    def may(self, need: Need, method: str) -> bool:
        """Whether its token, if it has one, is for that.

        What is needed to ask models may be looked at by whoever may look.
        """
        if self.token is None or need == "open" or "manage" in self.token.scopes:
            return True
        wanted = {need, "read"} if method in ("GET", "HEAD") else {need}
        return not wanted.isdisjoint(self.token.scopes)


class Access:
    """Judges callers."""

    def __init__(self, find: Callable[[str], Token | None], limiter: RequestLimiter) -> None:
        """`find` gives the token with a secret."""
        self._find = find
        self._limiter = limiter

    def caller(self, head: RequestHead, door: ListenAddress, peer: str, need: Need) -> Caller:
        """Who sends this. Raises Unauthorized, InvalidRequest, TooManyRequests.

        Those whom a door lets in only with a token pay for every try to come in without.
        """
        if head.query or TOKEN_PREFIX in head.path:
            _check_url(head)
        key = network(peer) if door.is_outside else None
        token = self._token(head, door, peer, key)
        if token is not None:
            key = f"token {token.id}"
            peer = f"{peer} token={token.name}"
        elif door.needs_token and need != "open":
            self._count(key)
            raise Unauthorized("This address takes no request without a token.", CREATE)
        if key is not None:
            self._count(key)
        return Caller(name=peer, key=key, token=token)

    def _token(
        self, head: RequestHead, door: ListenAddress, peer: str, key: str | None
    ) -> Token | None:
        kind, _, secret = head.headers.get("authorization", "").partition(" ")
        secret = secret.strip()
        if door.is_socket or kind.lower() != "bearer" or not secret:
            return None
        token = self._find(secret)
        if token is None and (door.needs_token or TOKEN_SECRET.fullmatch(secret)):
            self._count(key)
            raise Unauthorized("The token is unknown, revoked or expired.", CREATE)
        return token

    def _count(self, key: str | None) -> None:
        wait_s = self._limiter.ask(key) if key is not None else 0
        if wait_s:
            raise too_many(wait_s)

    def check(self, caller: Caller, need: Need, method: str, door: ListenAddress) -> None:
        """Raises Forbidden when this caller may not do that."""
        if need == "owner":
            if not door.is_socket:
                raise Forbidden(
                    "Tokens are managed over the Unix socket only.",
                    "Use `modeldeck token` as the user whom the core belongs to.",
                )
        elif not caller.may(need, method):
            assert caller.token is not None
            raise Forbidden(
                f"The token {caller.token.name!r} is not for that: it would need {need!r}.",
                "Make one that is: `modeldeck token create NAME --scope ...`.",
            )


def remaining_s(token: Token) -> float | None:
    """Seconds until a token expires; None for one that does not."""
    if token.expires_at is None:
        return None
    return (datetime.fromisoformat(token.expires_at) - datetime.now(UTC)).total_seconds()


def too_many(wait_s: float) -> TooManyRequests:
    """The refusal of a caller that asks too often; it says when to come back."""
    error = TooManyRequests("Too many requests.", "Ask less often; api.requests_per_s allows more.")
    error.retry_after_s = max(1, round(wait_s + 0.5))
    return error


def _check_url(head: RequestHead) -> None:
    """Raises InvalidRequest for a secret in the URL."""
    names = {part.partition("=")[0].lower() for part in head.query.split("&")}
    if TOKEN_PREFIX in head.target or names & IN_URL:
        raise InvalidRequest(
            "A token does not belong into a URL, which is logged and remembered in many places.",
            "Send it as `Authorization: Bearer ...`; revoke it if it was a real one.",
        )


def network(peer: str) -> str:
    """What a peer is counted by: its address; of IPv6 the network of 64 bits that one host has."""
    host = peer.rpartition(":")[0].strip("[]").partition("%")[0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return host
    mapped = address.ipv4_mapped
    if mapped is not None:
        return str(mapped)
    return str(ipaddress.ip_network((address, 64), strict=False))
