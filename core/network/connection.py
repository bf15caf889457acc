"""One connection of HTTP/1.1: made straight or through a proxy, asked, and received from.

h11 writes and reads the heads. What blocks is called in threads; `dial` alone is the loop's.
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
"""A slow line's bytes are gathered so long before they are written."""

HEAD_BYTES = 100 << 10
"""Limit of an answer's head. The Hub's, with its policies, take some 4 KiB."""

EACH_ADDRESS_S = 2.0
"""For one of several addresses of a host: the next may be of the other IP version."""


class PrivateAddress(httpx.ConnectError):
    """A host led to an address, its only argument, that is not of the internet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """An HTTP proxy."""

    host: str
    port: int
    authorization: bytes | None = None
    """The value of `Proxy-Authorization` (RFC 9110, 11.7.2), where its URL has a name in it."""

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
        """What every request to it needs."""
        return [(b"Proxy-Authorization", self.authorization)] if self.authorization else []


Origin = tuple[str, str, int]
"""Scheme, host and port."""


class DownloadConnection:
    """One connection. Its blocking methods are called in one thread at a time."""

    def __init__(self, plug: socket.socket, origin: Origin, *, public: bool = False) -> None:
        self._plug = plug
        self.origin = origin
        self.public = public
        """Whether the address at its other end was looked at, and is of the internet."""
        self.idle_since = 0.0

    def secure(self, context: ssl.SSLContext, timeout_s: float | None) -> None:
        """Speak TLS from now on."""
        self._plug.settimeout(timeout_s)
        # First wrapped, then shaken hands: so that `abort` finds the socket that waits.
        self._plug = plug = context.wrap_socket(
            self._plug, server_hostname=self.origin[1], do_handshake_on_connect=False
        )
        plug.do_handshake()

    def ask(self, asked: h11.Request, timeout_s: float | None) -> HttpResponse:
        """Send a request and read the head of its answer. Raises OSError, h11.RemoteProtocolError.

        The limit is for all of it, so a server that sends a byte now and then gains nothing.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_BYTES)
        self._plug.settimeout(timeout_s)
        self._plug.sendall((parser.send(asked) or b"") + (parser.send(h11.EndOfMessage()) or b""))
        while True:
            event = parser.next_event()
            if isinstance(event, h11.Response):
                self._plug.settimeout(timeout_s)
                return HttpResponse(event, parser)
            if event is h11.NEED_DATA:
                if deadline is not None:
                    self._plug.settimeout(max(0.001, deadline - time.monotonic()))
                parser.receive_data(self._plug.recv(1 << 16))

    def tunnel(self, proxy: Proxy, timeout_s: float | None) -> None:
        """Have the proxy at the other end pass everything on (RFC 9110, 9.3.6).

        Raises httpx.ProxyError, OSError, h11.RemoteProtocolError.
        """
        host = f"[{self.origin[1]}]" if ":" in self.origin[1] else self.origin[1]
        target = f"{host}:{self.origin[2]}".encode()
        headers = [(b"Host", target), *proxy.headers]
        head = self.ask(h11.Request(method="CONNECT", target=target, headers=headers), timeout_s)
        status = head.head.status_code
        if not 200 <= status < 300:
            reason = head.head.reason.decode("latin-1")
            raise httpx.ProxyError(f"{status} {reason}".rstrip())

    def receive(self, view: memoryview, timeout_s: float | None) -> int:
        """Fill the buffer, or what comes of it within `GATHER_S`; 0 at the end of the connection.

        Raises OSError when nothing came at all; what came before an error is not lost.
        """
        self._plug.settimeout(timeout_s)
        got = self._plug.recv_into(view)
        until = time.monotonic() + GATHER_S
        while 0 < got < len(view) and (rest := until - time.monotonic()) > 0:
            self._plug.settimeout(rest)
            try:
                if not (more := self._plug.recv_into(view[got:])):
                    break
            except OSError:
                break  # The next call meets it again, or the limit was only ours.
            got += more
        return got

    def read(self) -> bytes:
        """Whatever comes next, up to 64 KiB."""
        return self._plug.recv(1 << 16)

    def is_quiet(self) -> bool:
        """Whether nothing waits to be read: on an idle connection that would be its end."""
        self._plug.settimeout(0)
        try:
            # Past TLS, which would take what is there.
            socket.socket.recv(self._plug, 1, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return True
        except (OSError, ValueError):
            return False
        return False

    def abort(self) -> None:
        """Make a blocking call in another thread end now."""
        try:
            # Not ssl.SSLSocket's: that one goes on unencrypted.
            socket.socket.shutdown(self._plug, socket.SHUT_RDWR)
        except OSError:
            pass  # It is closed already.

    def close(self) -> None:
        """Close the connection."""
        self._plug.close()


class HttpResponse:
    """The head of an answer, and what the parser has of its body."""

    def __init__(self, head: h11.Response, parser: h11.Connection) -> None:
        self.head = head
        self.parser = parser
        headers = dict(head.headers)
        length = headers.get(b"content-length")
        self.length = int(length) if length and b"transfer-encoding" not in headers else None
        """Bytes of the body, where they are counted and nothing else marks its end."""
        tokens = headers.get(b"connection", b"").lower().split(b",")
        self.stays = head.http_version == b"1.1" and b"close" not in map(bytes.strip, tokens)
        """Whether the connection may be used again."""


async def dial(host: str, port: int, *, public: bool = False) -> socket.socket:
    """A connection to the first address of a host that answers.

    `public` allows only hosts whose addresses are all of the internet: the check is on what is
    connected to, not on a name that may be asked for again. Raises OSError, Inward.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for _, _, _, _, address in found:
        if public and not is_public(str(address[0])):
            raise PrivateAddress(str(address[0]))
    failure: OSError = OSError("the host has no address")
    for number, (family, kind, protocol, _, address) in enumerate(found, 1):
        plug = socket.socket(family, kind, protocol)
        try:
            plug.setblocking(False)
            async with asyncio.timeout(EACH_ADDRESS_S if number < len(found) else None):
                await loop.sock_connect(plug, address)
            plug.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            plug.close()
            # asyncio's words are "Connect call failed" and a tuple.
            failure = OSError(error.errno, os.strerror(error.errno)) if error.errno else error
        except BaseException:
            plug.close()
            raise
        else:
            return plug
    raise failure
