"""TLS for the address beyond this machine: its certificate, and the way in.

The handshake is done by asyncio's own `start_tls`, on connections that are counted from their first
byte: those of `create_server(ssl=...)` are not seen until they have shaken hands, and a thousand of
them that never do would take every open file there is.
"""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

from modeldeck.core.api.http.access import ListenAddress
from modeldeck.core.api.http.connection import HttpConnection
from modeldeck.core.api.http.server_state import ServerState, peer_of
from modeldeck.core.errors import StorageFailed
from modeldeck.core.schema import Token
from modeldeck.core.storage.foreign_files import read_regular

LONGEST = 4 << 20
"""Bytes of a certificate with its chain, or of a key: kilobytes as a rule."""

REMEDY = "Check api.tls_certificate and api.tls_key: PEM files that this user can read."


def context(certificate: str, key: str | None) -> ssl.SSLContext:
    """What TLS needs to know. Blocks. Raises StorageFailed, naming the file and what is wrong.

    TLS 1.2 and newer, with Python's choice of ciphers.
    """
    for name in filter(None, (certificate, key)):
        try:
            read_regular(Path(name).expanduser(), LONGEST)
        except OSError as error:
            raise StorageFailed(f"{name} cannot be read: {error.strerror}.", REMEDY) from error
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.set_alpn_protocols(["http/1.1"])
    try:
        made.load_cert_chain(
            Path(certificate).expanduser(),
            Path(key).expanduser() if key else None,
            password=_refuse,  # else it would be asked for on the terminal
        )
    except (ssl.SSLError, ValueError) as error:
        raise StorageFailed(
            f"{certificate} with {key or 'the key in it'} cannot be used for TLS: {error}.", REMEDY
        ) from error
    return made


def _refuse() -> str:
    raise ValueError("the key has a password: remove it with `openssl pkey`")


class TlsHandshake(asyncio.Protocol):
    """A connection until it has shaken hands; then a `HttpConnection` has it."""

    idle = True
    """At the limit they are the first that have to go."""
    is_outside = True
    held_bytes = 0
    token: Token | None = None

    def __init__(self, site: ServerState, door: ListenAddress, secure: ssl.SSLContext) -> None:
        self._site = site
        self._connection = HttpConnection(site, door)
        self._secure = secure
        self._early = b""
        self._eof = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Somebody is at the door."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.peer = peer_of(transport, over_unix=False)
        transport.pause_reading()  # what comes now is the handshake's
        self._site.admit(self)
        self._task = self._site.start(self._shake_hands())

    def data_received(self, data: bytes) -> None:
        """It spoke on at once: kept for the connection, which is made in the same moment."""
        self._early += data

    def eof_received(self) -> bool:
        """It will say no more."""
        self._eof = True
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """It went away before anything came of it."""
        self._site.release(self)

    async def _shake_hands(self) -> None:
        limits = self._site.limits
        try:
            secured = await asyncio.get_running_loop().start_tls(
                self._transport,
                self,
                self._secure,
                server_side=True,
                ssl_handshake_timeout=limits.head_s,
                ssl_shutdown_timeout=limits.linger_s,
            )
        except (OSError, ssl.SSLError):  # no TLS, none that we speak, or nothing at all
            self._site.meter.refused["tls"] += 1
            self._transport.abort()
            return
        finally:
            self._site.release(self)
        if secured is None or secured.is_closing():
            return
        secured.set_protocol(self._connection)
        self._connection.connection_made(secured)
        if self._early:
            self._connection.data_received(self._early)
        if self._eof:
            self._connection.eof_received()

    def drop(self) -> None:
        """End it without a word."""
        self._transport.abort()

    def end(self) -> None:
        """As `drop`: nothing has been said yet."""
        self._transport.abort()

    def stop(self) -> None:
        """As `drop`: nothing has been said yet."""
        self._transport.abort()
