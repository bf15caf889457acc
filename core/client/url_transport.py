"""HTTP to a core at a URL, with TLS where it is https; by httpx."""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import httpx

from modeldeck.core.client.transport import (
    CONNECT_S,
    KEEP_ALIVE_S,
    AnswerTimeout,
    CoreResponse,
    TransportFailed,
)
from modeldeck.core.errors import InvalidRequest


class UrlTransport:
    """Requests to the core at a URL."""

    def __init__(self, url: str, headers: Mapping[str, str], ca_file: str | None) -> None:
        """Raises InvalidRequest for a `ca_file` that cannot be read."""
        self.tls = _tls_context(ca_file) if url.startswith("https:") else None
        """What the feed's WebSocket has to use as well; None for http."""
        self._http = httpx.AsyncClient(
            base_url=url,
            transport=httpx.AsyncHTTPTransport(
                verify=self.tls or False,
                limits=httpx.Limits(keepalive_expiry=KEEP_ALIVE_S),
            ),
            headers=dict(headers),
            trust_env=False,  # a proxy for the internet does not lead to this machine
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    @asynccontextmanager
    async def stream(
        self, method: str, path: str, content: bytes | None, timeout_s: float | None
    ) -> AsyncIterator[CoreResponse]:
        """Send a request; see `Transport.stream`."""
        try:
            async with self._http.stream(
                method,
                path,
                content=content,
                headers=None if content is None else {"Content-Type": "application/json"},
                timeout=httpx.Timeout(timeout_s, connect=CONNECT_S),
            ) as response:
                yield CoreResponse(
                    status=response.status_code,
                    reason=response.reason_phrase,
                    body=response.aiter_bytes(),
                )
        except httpx.ReadTimeout as error:
            raise AnswerTimeout(f"nothing came for {timeout_s} s") from error
        except (httpx.TransportError, httpx.DecodingError) as error:
            raise TransportFailed(str(error) or type(error).__name__) from error


def _tls_context(ca_file: str | None) -> ssl.SSLContext:
    """Trust the certificates in the file, else the usual ones. Raises InvalidRequest."""
    try:
        if ca_file is None:
            return httpx.create_ssl_context()
        file = os.path.expanduser(ca_file)
        if os.path.exists(file) and not os.path.isfile(file):
            raise OSError("it is no file")  # reading a named pipe would hold the program up
        return ssl.create_default_context(cafile=file)
    except (OSError, ssl.SSLError) as error:
        raise InvalidRequest(f"The certificates in {ca_file} cannot be read: {error}.") from error
