"""TLS for the outside address: loading the certificate, and the handshake.

The handshake is asyncio's own `start_tls`, on connections that are counted from their first byte:
`create_server(ssl=...)` shows them only after the handshake, so a thousand that never finish it
would use up every file descriptor.
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
"""Bytes at most of a certificate with its chain, or of a key; kilobytes are usual."""

REMEDY = "Check api.tls_certificate and api.tls_key: PEM files that this user can read."


def context(certificate: str, key: str | None) -> ssl.SSLContext:
    """The TLS context. Blocks. Raises StorageFailed naming the file and what is wrong with it.

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
    """A connection during its TLS handshake; then an `HttpConnection` takes over."""

    idle = True
    """True, so that at the connection limit unfinished handshakes are dropped first."""
    is_outside = True
    held_bytes = 0
    token: Token | None = None

    def __init__(self, server: ServerState, address: ListenAddress, secure: ssl.SSLContext) -> None:
        self._server = server
        self._connection = HttpConnection(server, address)
        self._secure = secure
        self._early = b""
        self._eof = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the handshake."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.peer = peer_of(transport, over_unix=False)
        transport.pause_reading()  # `start_tls` reads from now on
        self._server.admit(self)
        self._task = self._server.start(self._handshake())

    def data_received(self, data: bytes) -> None:
        """Keep data that came right after the handshake for the `HttpConnection`."""
        self._early += data

    def eof_received(self) -> bool:
        """The client closed its side."""
        self._eof = True
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The client went away during the handshake."""
        self._server.release(self)

    async def _handshake(self) -> None:
        limits = self._server.limits
        try:
            secured = await asyncio.get_running_loop().start_tls(
                self._transport,
                self,
                self._secure,
                server_side=True,
                ssl_handshake_timeout=limits.head_s,
                ssl_shutdown_timeout=limits.linger_s,
            )
        except (OSError, ssl.SSLError):  # not TLS, an unsupported version, or a timeout
            self._server.meter.refused["tls"] += 1
            self._transport.abort()
            return
        finally:
            self._server.release(self)
        if secured is None or secured.is_closing():
            return
        secured.set_protocol(self._connection)
        self._connection.connection_made(secured)
        if self._early:
            self._connection.data_received(memoryview(self._early))
        if self._eof:
            self._connection.eof_received()

    def drop(self) -> None:
        """Abort the connection."""
        self._transport.abort()

    def end(self) -> None:
        """Abort the connection: no request was read yet."""
        self._transport.abort()

    def stop(self) -> None:
        """Abort the connection: no request was read yet."""
        self._transport.abort()
