"""Authentication and authorisation of a request, from its head and its listen address.

The Unix socket is open to its owner only, and TCP on loopback to this machine, as the documented
API has it; no token is needed there, and tokens of other APIs that clients send are ignored. From
other machines every request needs a token, in its head (RFC 6750, or `x-api-key` as Anthropic's
clients send it): URLs end in logs and histories.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

import msgspec

from modeldeck.core.api.http.origin_checks import OriginPolicy
from modeldeck.core.api.http.rate_limit import RequestLimiter
from modeldeck.core.errors import Forbidden, InvalidRequest, TooManyRequests, Unauthorized
from modeldeck.core.schema import TOKEN_PREFIX, TOKEN_SECRET, Scope, Token

if TYPE_CHECKING:
    from modeldeck.core.api.http.request_head import RequestHead

Need = Scope | Literal["open", "owner"]
"""What a route requires: a token's scope, `open` nothing, `owner` the Unix socket."""

IN_URL = frozenset({"access_token", "token", "api_key", "apikey", "authorization"})
"""Query parameters that other servers accept secrets in."""

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
        """Whether other machines can connect to it."""
        return self.name == "outside"


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """The sender of a request. A Struct, for the reason given at `messages.Request`."""

    name: str
    """For the audit trail: the peer, and the name of the token."""
    key: str | None = None
    """Key of its rate limit; None for a caller without limit."""
    token: Token | None = None

    def may(self, need: Need, method: str) -> bool:
        """Whether its token, if it has one, has the scope; `read` suffices for GET and HEAD.

        Except for a GET of a route that needs `manage`: its answer is for administrators only.
        """
        if self.token is None or need == "open" or "manage" in self.token.scopes:
            return True
        looks = method in ("GET", "HEAD") and need != "manage"
        wanted = {need, "read"} if looks else {need}
        return not wanted.isdisjoint(self.token.scopes)


class Access:
    """Authenticates and authorises callers."""

    def __init__(self, find: Callable[[str], Token | None], limiter: RequestLimiter) -> None:
        """`find` returns the token with a secret, or None."""
        self._find = find
        self._limiter = limiter

    def caller(self, head: RequestHead, address: ListenAddress, peer: str, need: Need) -> Caller:
        """The caller of a request. Raises Unauthorized, InvalidRequest, TooManyRequests.

        Where the address requires a token, requests without a valid one count for the rate limit.
        """
        if head.query or TOKEN_PREFIX in head.path:
            _check_url(head)
        key = network(peer) if address.is_outside else None
        headers, token = head.headers, None
        if "authorization" in headers or "x-api-key" in headers:
            token = self._token(head, address, key)
        if token is not None:
            key = f"token {token.id}"
            peer = f"{peer} token={token.name}"
        elif address.needs_token and need != "open":
            self._count(key)
            raise Unauthorized("This address takes no request without a token.", CREATE)
        if key is not None:
            self._count(key)
        return Caller(name=peer, key=key, token=token)

    def _token(self, head: RequestHead, address: ListenAddress, key: str | None) -> Token | None:
        secret = _secret(head.headers)
        if address.is_socket or not secret:
            return None
        token = self._find(secret)
        if token is None and (address.needs_token or TOKEN_SECRET.fullmatch(secret)):
            self._count(key)
            raise Unauthorized("The token is unknown, revoked or expired.", CREATE)
        return token

    def _count(self, key: str | None) -> None:
        wait_s = self._limiter.ask(key) if key is not None else 0
        if wait_s:
            raise too_many(wait_s)

    def check(self, caller: Caller, need: Need, method: str, address: ListenAddress) -> None:
        """Raise Forbidden unless the caller may use a route with this need."""
        if need == "owner":
            if not address.is_socket:
                raise Forbidden(
                    "Tokens are managed over the Unix socket only.",
                    "Use `modeldeck token` as the user whom the core belongs to.",
                )
        elif caller.token is not None and not caller.may(need, method):
            raise Forbidden(
                f"The token {caller.token.name!r} is not for that: it would need {need!r}.",
                "Make one that is: `modeldeck token create NAME --scope ...`.",
            )


def _secret(headers: Mapping[str, str]) -> str:
    """The secret of a request: of `Authorization: Bearer`, else of Anthropic's `x-api-key`.

    Where both are there, that with the form of our tokens.
    """
    kind, _, bearer = headers.get("authorization", "").partition(" ")
    bearer = bearer.strip() if kind.lower() == "bearer" else ""
    key = headers.get("x-api-key", "").strip()
    return key if not bearer or TOKEN_SECRET.fullmatch(key) else bearer


def remaining_s(token: Token) -> float | None:
    """Seconds until a token expires; None for one that does not."""
    if token.expires_at is None:
        return None
    return (datetime.fromisoformat(token.expires_at) - datetime.now(UTC)).total_seconds()


def too_many(wait_s: float) -> TooManyRequests:
    """The refusal of a caller over its rate limit, with the seconds to wait."""
    error = TooManyRequests("Too many requests.", "Ask less often; api.requests_per_s allows more.")
    error.retry_after_s = max(1, round(wait_s + 0.5))
    return error


def _check_url(head: RequestHead) -> None:
    """Raise InvalidRequest for a secret in the URL."""
    names = {part.partition("=")[0].lower() for part in head.query.split("&")}
    if TOKEN_PREFIX in head.target or names & IN_URL:
        raise InvalidRequest(
            "A token does not belong into a URL, which is logged and remembered in many places.",
            "Send it as `Authorization: Bearer ...`; revoke it if it was a real one.",
        )


def network(peer: str) -> str:
    """Key for counting a peer: its IPv4 address, or the IPv6 /64 network that one host has."""
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
