"""The way out of this machine: through the proxy that the environment names, or straight."""

from __future__ import annotations

import os
import ssl
import threading
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx

from core.downloads.line import Proxy
from core.downloads.wire import Wire
from core.errors import HubUnavailable
from core.storage.foreign_files import stat_regular


class Certificates:
    """Those that servers are checked against, read when the first one is: that takes 0.1 s.

    They are those of `SSL_CERT_FILE` or `SSL_CERT_DIR`, else certifi's, as with any tool that uses
    httpx.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._context: ssl.SSLContext | None = None

    def context(self) -> ssl.SSLContext:
        """What a connection is secured with. Blocks. Raises HubUnavailable."""
        with self._lock:
            if self._context is None:
                self._context = _read()
            return self._context


def _read() -> ssl.SSLContext:
    try:
        if file := os.environ.get("SSL_CERT_FILE"):
            stat_regular(file)  # OpenSSL would wait for a pipe
        return httpx.create_ssl_context()
    except (OSError, ssl.SSLError) as error:
        named = os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR")
        raise HubUnavailable(
            f"The certificates in {named} cannot be read: {error}.",
            "Mend or unset SSL_CERT_FILE, and start modeldeck again.",
        ) from error


def outward(certificates: Certificates) -> httpx.AsyncBaseTransport:
    """A transport for every URL. Blocks where the system is asked. Raises HubUnavailable.

    Proxies are those of `http_proxy`, `https_proxy`, `all_proxy` and `no_proxy` (and of the system,
    where Python knows them).
    """
    try:
        proxies = {
            scheme: _through(url if "://" in url else f"http://{url}", certificates)
            for scheme, url in getproxies().items()
            if scheme in ("http", "https", "all") and url
        }
    except (ImportError, ValueError) as error:
        raise HubUnavailable(
            f"The proxy of this environment cannot be used: {error}.",
            "An HTTP proxy can: set https_proxy to http://host:port, and start modeldeck again.",
        ) from error
    straight = Wire(certificates.context)
    return Outward(straight, proxies) if proxies else straight


def _through(url: str, certificates: Certificates) -> httpx.AsyncBaseTransport:
    """A transport through a proxy. httpx's own for one that speaks TLS itself, or SOCKS.

    Raises ValueError, ImportError.
    """
    if urlsplit(url).scheme.lower() == "http":
        return Wire(certificates.context, Proxy.parse(url))
    return httpx.AsyncHTTPTransport(
        verify=certificates.context(), proxy=url, limits=httpx.Limits(max_connections=None)
    )


class Outward(httpx.AsyncBaseTransport):
    """Chooses for each request."""

    def __init__(
        self, straight: httpx.AsyncBaseTransport, proxies: dict[str, httpx.AsyncBaseTransport]
    ) -> None:
        self._straight = straight
        self._proxies = proxies

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request the way it must go. Raises httpx.TransportError."""
        proxy = self._proxies.get(request.url.scheme) or self._proxies.get("all")
        if proxy is None or proxy_bypass(request.url.netloc.decode()):
            return await self._straight.handle_async_request(request)
        return await proxy.handle_async_request(request)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._straight.aclose()
        for proxy in self._proxies.values():
            await proxy.aclose()
