"""The API's listener: a Unix socket, TCP on loopback and, where set, an outside address."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from modeldeck.core.api.http import tls
from modeldeck.core.api.http.acceptor import Acceptor
from modeldeck.core.api.http.access import Access, ListenAddress
from modeldeck.core.api.http.access_log import AccessLog
from modeldeck.core.api.http.connection import HttpConnection
from modeldeck.core.api.http.descriptors import connections_for, limit
from modeldeck.core.api.http.limits import ConnectionLimits
from modeldeck.core.api.http.meter import RequestMetrics
from modeldeck.core.api.http.origin_checks import OriginPolicy, policy
from modeldeck.core.api.http.rate_limit import Allowance, RequestLimiter
from modeldeck.core.api.http.router import Route, Router
from modeldeck.core.api.http.server_state import ServerState, log
from modeldeck.core.api.http.tls import TlsHandshake
from modeldeck.core.api.route_table import ERROR_STYLES, ROUTES
from modeldeck.core.config.config import DOCUMENTED_PORTS, Api
from modeldeck.core.config.paths import Paths
from modeldeck.core.errors import Conflict, Forbidden, StorageFailed
from modeldeck.core.storage.files import make_private
from modeldeck.core.storage.foreign_files import in_file_thread

if TYPE_CHECKING:
    from modeldeck.core.service.deck import Deck

LOOPBACK = "127.0.0.1"
LOOPBACK_V6 = "::1"

BACKLOG = 1024
"""Connections that can wait to be accepted, as in a burst of scripts. One that finds the backlog
full tries again after a second (TCP's first retransmission)."""
FREE_PORTS_TRIED = 20
"""Attempts to find a port that is free on both addresses of loopback."""

_REFUSED = (errno.EADDRINUSE, errno.EACCES, errno.EPERM)
_NO_V6 = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT, errno.ENOPROTOOPT)
"""Errors of a machine without IPv6, or without IPv6 on loopback."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Addresses that the API answers on."""

    url: str
    """URL over TCP, without a slash at the end."""
    port: int
    url_v6: str | None = None
    """The same port over IPv6; None where this machine has none."""
    socket: str | None
    """Path of the Unix socket; None where it is turned off."""
    outside: str | None = None
    """URL for other machines; None where `api.outside` is not set."""

    @property
    def urls(self) -> tuple[str, ...]:
        """Every URL."""
        return tuple(url for url in (self.url, self.url_v6, self.outside) if url)


class Listener:
    """Serves the API of one deck until it is stopped."""

    def __init__(
        self,
        deck: Deck,
        settings: Api,
        paths: Paths,
        *,
        routes: Iterable[Route] | None = None,
        limits: ConnectionLimits | None = None,
    ) -> None:
        """`routes` replaces the whole table, for tests.

        Without `limits`, the limit of open files decides how many connections are accepted.
        """
        self._settings = settings
        self._paths = paths
        limiter = RequestLimiter(
            Allowance(
                per_s=settings.requests_per_s,
                burst=settings.requests_burst,
                at_once=settings.requests_at_once,
            )
        )
        meter = RequestMetrics()
        self._server = ServerState(
            deck=deck,
            router=Router(ROUTES if routes is None else routes, ERROR_STYLES),
            access=Access(lambda secret: deck.tokens.find(secret), limiter),
            limiter=limiter,
            access_log=AccessLog(logs=settings.access_log),
            meter=meter,
            limits=limits or _limits(settings),
            per_address=settings.connections_per_address,
        )
        self._acceptors: list[Acceptor] = []
        self._secure: ssl.SSLContext | None = None
        self._socket_path: Path | None = None

    async def start(self) -> Addresses:
        """Bind and start to accept connections.

        Raises Conflict when no port is free, StorageFailed for the socket or the certificate,
        Forbidden for an outside address while there is no token.
        """
        with ExitStack() as bound:
            loopback = [bound.enter_context(each) for each in _bind(self._settings.port)]
            outside = await self._bind_outside(bound)
            if self._settings.socket:
                self._serve_unix()
            self._serve_loopback(loopback)
            url = self._serve_outside(outside) if outside is not None else None
            bound.pop_all()
        if outside is not None or self._settings.require_token:
            self._server.deck.tokens.on_revoked(self._server.revoked)
        port = loopback[0].getsockname()[1]
        return Addresses(
            url=f"http://{LOOPBACK}:{port}",
            port=port,
            url_v6=f"http://[{LOOPBACK_V6}]:{port}" if len(loopback) > 1 else None,
            socket=str(self._socket_path) if self._socket_path else None,
            outside=url,
        )

    def _policy(self, names: Iterable[str] = (), scheme: str = "http") -> OriginPolicy:
        hosts = (*self._settings.allowed_hosts, *names)
        return policy(hosts, self._settings.allowed_origins, scheme=scheme)

    def _serve_unix(self) -> None:
        unix = _bind_unix(self._paths.socket, group=self._settings.socket_group)
        self._socket_path = self._paths.socket
        address = ListenAddress(name="socket", policy=self._policy())
        self._acceptors.append(
            Acceptor(unix, self._server, lambda: HttpConnection(self._server, address))
        )

    def _serve_loopback(self, bound: Iterable[socket.socket]) -> None:
        address = ListenAddress(
            name="loopback", policy=self._policy(), needs_token=self._settings.require_token
        )
        self._acceptors += [
            Acceptor(each, self._server, lambda: HttpConnection(self._server, address))
            for each in bound
        ]

    async def _bind_outside(self, bound: ExitStack) -> socket.socket | None:
        """The socket of `api.outside`; None where that is not set. Raises Forbidden, Conflict."""
        if not self._settings.outside:
            return None
        if not self._server.deck.tokens.usable:
            raise Forbidden(
                f"{self._settings.outside} is beyond this machine, and there is no token yet.",
                "Make one with `modeldeck token create NAME`, or remove api.outside.",
            )
        if self._settings.tls_certificate:
            certificate, key = self._settings.tls_certificate, self._settings.tls_key
            self._secure = await in_file_thread(
                partial(tls.context, certificate, key), certificate, custom=True
            )
        return bound.enter_context(await asyncio.to_thread(_bind_address, self._settings.outside))

    def _serve_outside(self, bound: socket.socket) -> str:
        """Accept connections on the outside socket; returns its URL."""
        secure, server = self._secure, self._server
        scheme = "https" if secure is not None else "http"
        host, port = bound.getsockname()[:2]
        names = [socket.gethostname(), *(() if is_any(host) else (host,))]
        address = ListenAddress(
            name="outside",
            policy=replace(self._policy(names, scheme), allows_addresses=True),
            needs_token=True,
        )
        if secure is None:
            log.warning("%s:%s has no certificate: tokens cross the network in the clear.",
                        host, port)  # fmt: skip

        def protocol() -> HttpConnection | TlsHandshake:
            if secure is None:
                return HttpConnection(server, address)
            return TlsHandshake(server, address, secure)

        self._acceptors.append(Acceptor(bound, server, protocol))
        shown = names[0] if is_any(host) else f"[{host}]" if ":" in host else host
        return f"{scheme}://{shown}:{port}"

    async def stop(self) -> None:
        """Stop in order; harmless when repeated.

        1. Accept no connections. 2. Close idle ones and WebSockets (1001), refuse new requests.
        3. Wait `grace_s` for running requests. 4. Cancel the rest. 5. Close every connection.
        """
        self._server.stopping = True
        acceptors, self._acceptors = self._acceptors, []
        for acceptor in acceptors:
            acceptor.close()
        for acceptor in acceptors:
            await acceptor.wait_closed()
        for connection in list(self._server.connections):
            connection.stop()
        if self._server.tasks:
            await asyncio.wait(self._server.tasks, timeout=self._server.limits.grace_s)
        for task in self._server.tasks:
            log.warning("A request was cut short because the core stops.")
            task.cancel()
        if self._server.tasks:
            await asyncio.wait(self._server.tasks)
        await self._server.empty()
        if self._socket_path is not None:
            self._socket_path.unlink(missing_ok=True)
            self._socket_path = None


def _limits(settings: Api) -> ConnectionLimits:
    """The limits of connections by the settings and the limit of open files."""
    usual = ConnectionLimits()
    return replace(
        usual,
        connections=connections_for(limit()),
        asking_bytes=settings.body_limit_bytes,
        held_bytes=max(usual.held_bytes, 4 * settings.body_limit_bytes),
    )


def _bind(wanted: int | None) -> tuple[socket.socket, ...]:
    """Sockets on the wanted port, or on the first of the documented ports that is free.

    One on 127.0.0.1 and one on ::1, since `localhost` may lead to either; only the first where this
    machine has no IPv6. A port that another program uses on one of them is not used on the other:
    clients would reach one program or the other.
    """
    refusals: list[str] = []
    for port in DOCUMENTED_PORTS if wanted is None else (wanted,):
        try:
            return _bind_both(port)
        except OSError as error:
            if error.errno not in _REFUSED:
                raise
            refusals.append(f"{port}: {error.strerror}")
    raise Conflict(
        "The API has no port to answer on." if wanted is None else f"Port {wanted} cannot be used.",
        "Free it, or choose another with --port or api.port (0 takes any free one).",
        details=tuple(refusals),
    )


def _bind_both(port: int) -> tuple[socket.socket, ...]:
    """Sockets on both addresses of loopback, at the same port. Raises OSError."""
    for tries_left in reversed(range(FREE_PORTS_TRIED if port == 0 else 1)):
        first = _bind_loopback(socket.AF_INET, port)
        try:
            second = _bind_loopback(socket.AF_INET6, first.getsockname()[1])
        except OSError as error:
            if error.errno in _NO_V6:
                return (first,)
            first.close()
            if error.errno not in _REFUSED or not tries_left:
                raise
        else:
            return first, second
    raise AssertionError("the last try returns or raises")


def _bind_loopback(family: socket.AddressFamily, port: int) -> socket.socket:
    """A socket that listens on loopback. Raises OSError."""
    candidate = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        # Without it a port stays taken for a minute after a core that had clients has ended.
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            candidate.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        candidate.bind((LOOPBACK if family == socket.AF_INET else LOOPBACK_V6, port))
        candidate.listen(BACKLOG)  # two may bind one port, but only one may listen
        candidate.setblocking(False)
    except BaseException:
        candidate.close()
        raise
    return candidate


def _bind_address(address: str) -> socket.socket:
    """A socket bound to an address beyond this machine. Blocks where a name is looked up."""
    host, _, port = address.rpartition(":")
    try:
        if int(port) > 65535:
            raise OSError(errno.EINVAL, "there is no such port")
        found = socket.getaddrinfo(
            host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, kind, protocol, _, place = found[0]
        candidate = socket.socket(family, kind, protocol)
        try:
            candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            candidate.bind(place)
            candidate.listen(BACKLOG)
            candidate.setblocking(False)
            return candidate
        except BaseException:
            candidate.close()
            raise
    except OSError as error:
        raise Conflict(
            f"{address} cannot be answered on: {getattr(error, 'strerror', None) or error}.",
            "Set api.outside to an address of this machine and a free port, or remove it.",
        ) from error


def is_any(host: str) -> bool:
    """Whether an address stands for all addresses of this machine."""
    return host in ("0.0.0.0", "::")  # noqa: S104 (compared, not bound)


def _bind_unix(path: Path, *, group: bool) -> socket.socket:
    """A Unix socket that only its owner, or with `group` also its group, can reach.

    The folder gets the same permissions. An existing socket was left by a core that was killed: the
    lock of the state folder makes sure that no other core runs.
    """
    unix = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        make_private(path.parent, group=group)
        if path.is_socket():
            path.unlink()
        unix.bind(str(path))
        path.chmod(0o660 if group else 0o600)
        unix.listen(BACKLOG)
        unix.setblocking(False)
        return unix
    except OSError as error:
        unix.close()
        raise StorageFailed(
            f"The socket {path} cannot be made: {error.strerror}.",
            "Remove what is there, or set MODELDECK_RUNTIME_DIR to a folder of your own.",
        ) from error
