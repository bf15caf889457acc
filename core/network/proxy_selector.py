"""Sends every request to the Hub and to URLs, through the proxy that the environment names.

For each request it checks that the process is not offline (`offline`), selects the proxy
(`proxies`), and provides the TLS certificates (`certificates`).
"""

from __future__ import annotations

import asyncio
from functools import partial

import httpx

from modeldeck.core.concurrency import in_thread, settled
from modeldeck.core.errors import DeckError
from modeldeck.core.network.certificates import CertificateStore
from modeldeck.core.network.connection import Proxy
from modeldeck.core.network.offline import check_online
from modeldeck.core.network.proxies import Proxies
from modeldeck.core.network.transport import ConnectionPool

_ROUTES_MOST = 256
"""Most origins whose transport is cached."""


def build(url: str, headers: dict[str, str], extensions: dict[str, object]) -> httpx.Request:
    """A GET request. Raises httpx.LocalProtocolError and InvalidURL; neither quotes a header."""
    try:
        return httpx.Request("GET", url, headers=headers, extensions=extensions)
    except UnicodeEncodeError:
        # The error holds the header, which may be a token: it must not even be a cause.
        raise httpx.LocalProtocolError("a header of the request is not ASCII") from None


class ProxySelector:
    """Selects a connection pool per origin, and sends requests. It starts empty."""

    def __init__(self, transport: httpx.AsyncBaseTransport | None = None) -> None:
        """`transport` replaces all connection pools, in tests."""
        self._given = transport
        self._certificates = CertificateStore()
        self._proxies: Proxies | None = None
        self._transports: dict[str | None, httpx.AsyncBaseTransport] = {}
        self._routes: dict[tuple[str, str, int | None], httpx.AsyncBaseTransport] = {}
        self._making = asyncio.Lock()
        self._warming: asyncio.Task[None] | None = None

    def warm(self, endpoint: str) -> None:
        """Read proxies and certificates for `endpoint` in the background."""
        if self._warming is None and self._given is None:
            self._warming = asyncio.create_task(self._warm(httpx.URL(endpoint)))

    async def _warm(self, url: httpx.URL) -> None:
        try:
            await self._transport(url)
            if url.scheme == "https":
                await in_thread(self._certificates.context)
        except DeckError:
            pass  # The request itself raises it again.

    async def send(self, request: httpx.Request) -> httpx.Response:
        """Send a request; return the response with its body unread. The caller closes it.

        Raises httpx.TransportError, and HubUnavailable where the process is offline, or its proxy
        or certificates cannot be used.
        """
        check_online()
        transport = self._given or await self._transport(request.url)
        response = await transport.handle_async_request(request)
        response.request = request
        return response

    async def _transport(self, url: httpx.URL) -> httpx.AsyncBaseTransport:
        origin = (url.scheme, url.host, url.port)
        if (known := self._routes.get(origin)) is not None:
            return known
        async with self._making:
            if self._proxies is None:
                self._proxies = await in_thread(Proxies.read)
            proxy = await in_thread(partial(self._proxies.url_for, *origin))
            if proxy not in self._transports:
                self._transports[proxy] = await in_thread(partial(self._through, proxy))
            if len(self._routes) >= _ROUTES_MOST:
                self._routes.clear()
            self._routes[origin] = self._transports[proxy]
            return self._transports[proxy]

    def _through(self, proxy: str | None) -> httpx.AsyncBaseTransport:
        """A pool for a proxy, or a direct one; httpx's transport for a proxy behind TLS."""
        if proxy is None:
            return ConnectionPool(self._certificates.context)
        if proxy.lower().startswith("http://"):
            return ConnectionPool(self._certificates.context, Proxy.parse(proxy))
        return httpx.AsyncHTTPTransport(
            verify=self._certificates.context(),
            proxy=proxy,
            limits=httpx.Limits(max_connections=None),
        )

    async def close(self) -> None:
        """Close all connections."""
        if self._warming is not None:
            self._warming.cancel()
            await settled(self._warming)
            self._warming = None
        self._routes.clear()
        while self._transports:
            await self._transports.popitem()[1].aclose()
        if self._given is not None:
            await self._given.aclose()
