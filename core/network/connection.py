"""One HTTP/1.1 connection: connecting, directly or through a proxy, TLS, requests and receiving.

h11 writes and parses the heads. All methods of a connection block and are called in threads; `dial`
alone runs on the event loop.
"""

from __future__ import annotations

import asyncio
import base64
import os
import socket
import ssl
import time
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

import h11
import httpx

from modeldeck.core.network.address_policy import is_public

GATHER_S = 0.05
"""Seconds to collect bytes of a slow connection before they are written."""

HEAD_BYTES = 100 << 10
"""Most bytes of a response head. Those of the Hub have about 4 KiB."""

EACH_ADDRESS_S = 2.0
"""Seconds to connect to one of several addresses; the next may be of the other IP version."""


class PrivateAddress(httpx.ConnectError):
    """A host resolved to an address, the only argument, that is not public."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """An HTTP proxy."""

    host: str
    port: int
    authorization: bytes | None = None
    """Value of `Proxy-Authorization` (RFC 9110, 11.7.2); None where the URL has no user name."""

    @classmethod
    def parse(cls, url: str) -> Proxy:
        """The proxy at `http://[name:password@]host[:port]`. Raises ValueError."""
        parts = urlsplit(url)
        if not parts.hostname:
            raise ValueError("the URL of the proxy names no host")
        authorization = None
        if parts.username is not None:
            words = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            authorization = b"Basic " + base64.b64encode(words.encode())
        return cls(host=parts.hostname, port=parts.port or 80, authorization=authorization)

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """Headers that every request to the proxy needs."""
        return [(b"Proxy-Authorization", self.authorization)] if self.authorization else []


Origin = tuple[str, str, int]
"""Scheme, host and port."""


class DownloadConnection:
    """One connection. Its blocking methods are called in one thread at a time."""

    def __init__(self, sock: socket.socket, origin: Origin, *, public: bool = False) -> None:
        self._socket = sock
        self.origin = origin
        self.public = public
        """Whether the address at the other end was checked to be public."""
        self.idle_since = 0.0

    def secure(self, context: ssl.SSLContext, timeout_s: float | None) -> None:
        """Start TLS. Raises OSError, ssl.SSLError."""
        self._socket.settimeout(timeout_s)
        # Wrapped before the handshake, so that `abort` closes the socket that waits in it.
        self._socket = sock = context.wrap_socket(
            self._socket, server_hostname=self.origin[1], do_handshake_on_connect=False
        )
        sock.do_handshake()

    def request(self, head: h11.Request, timeout_s: float | None) -> HttpResponse:
        """Send a request, read the response head. Raises OSError, h11.RemoteProtocolError.

        The time limit covers the whole exchange: single bytes do not extend it.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_BYTES)
        self._socket.settimeout(timeout_s)
        self._socket.sendall((parser.send(head) or b"") + (parser.send(h11.EndOfMessage()) or b""))
        while True:
            event = parser.next_event()
            if isinstance(event, h11.Response):
                self._socket.settimeout(timeout_s)
                return HttpResponse(event, parser)
            if event is h11.NEED_DATA:
                if deadline is not None:
                    self._socket.settimeout(max(0.001, deadline - time.monotonic()))
                parser.receive_data(self._socket.recv(1 << 16))

    def tunnel(self, proxy: Proxy, timeout_s: float | None) -> None:
        """Send CONNECT to the proxy at the other end (RFC 9110, 9.3.6).

        Raises httpx.ProxyError, OSError, h11.RemoteProtocolError.
        """
        host = f"[{self.origin[1]}]" if ":" in self.origin[1] else self.origin[1]
        target = f"{host}:{self.origin[2]}".encode()
        headers = [(b"Host", target), *proxy.headers]
        response = self.request(
            h11.Request(method="CONNECT", target=target, headers=headers), timeout_s
        )
        status = response.head.status_code
        if not 200 <= status < 300:
            reason = response.head.reason.decode("latin-1")
            raise httpx.ProxyError(f"{status} {reason}".rstrip())

    def receive(self, view: memoryview, timeout_s: float | None) -> int:
        """Receive until the buffer is full or `GATHER_S` passed; return the count, 0 at the end.

        Raises OSError when nothing was received; an error after that is raised by the next call.
        """
        self._socket.settimeout(timeout_s)
        got = self._socket.recv_into(view)
        until = time.monotonic() + GATHER_S
        while 0 < got < len(view) and (rest := until - time.monotonic()) > 0:
            self._socket.settimeout(rest)
            try:
                if not (more := self._socket.recv_into(view[got:])):
                    break
            except OSError:
                break  # The next call raises it again, or it was only the time limit set here.
            got += more
        return got

    def read(self) -> bytes:
        """The next bytes, 64 KiB at most; empty at the end of the connection."""
        return self._socket.recv(1 << 16)

    def is_quiet(self) -> bool:
        """Whether nothing waits to be read; on an idle connection that is its end."""
        self._socket.settimeout(0)
        try:
            # Below TLS, whose own recv would consume the bytes.
            socket.socket.recv(self._socket, 1, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return True
        except (OSError, ValueError):
            return False
        return False

    def abort(self) -> None:
        """Make a blocking call in another thread end now."""
        try:
            # Not ssl.SSLSocket.shutdown, which continues the connection unencrypted.
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
        except OSError:
            pass  # It is closed already.

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()


class HttpResponse:
    """Head of a response, and the parser, which may hold first bytes of the body."""

    def __init__(self, head: h11.Response, parser: h11.Connection) -> None:
        self.head = head
        self.parser = parser
        headers = dict(head.headers)
        length = headers.get(b"content-length")
        self.length = int(length) if length and b"transfer-encoding" not in headers else None
        """Bytes of the body, where they are counted and nothing else marks its end."""
        tokens = headers.get(b"connection", b"").lower().split(b",")
        self.keeps_alive = head.http_version == b"1.1" and b"close" not in map(bytes.strip, tokens)
        """Whether the connection may be used again."""


async def dial(host: str, port: int, *, public: bool = False) -> socket.socket:
    """Connect to the first address of a host that accepts.

    `public` allows only hosts whose addresses are all public. The very addresses that are connected
    to are checked, since a second look-up of the name may differ. Raises OSError, PrivateAddress.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for _, _, _, _, address in found:
        if public and not is_public(str(address[0])):
            raise PrivateAddress(str(address[0]))
    failure: OSError = OSError("the host has no address")
    for number, (family, kind, protocol, _, address) in enumerate(found, 1):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setblocking(False)
            async with asyncio.timeout(EACH_ADDRESS_S if number < len(found) else None):
                await loop.sock_connect(sock, address)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            sock.close()
            # asyncio's message is "Connect call failed" and a tuple.
            failure = OSError(error.errno, os.strerror(error.errno)) if error.errno else error
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise failure
