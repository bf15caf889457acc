"""HTTP requests to the Hub: its API, and parts of files by range (RFC 9110, section 14).

The Hub redirects file requests to a signed URL on another host. Redirects are followed here hop by
hop: the token is sent only to the endpoint's own host, and a redirect from https to http is
refused. Every response has a limit of bytes, also after decompression, and of time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import cast
from urllib.parse import quote

import httpx

from modeldeck.core import __version__
from modeldeck.core.concurrency import in_thread
from modeldeck.core.errors import Corrupt, DeckError, HubUnavailable
from modeldeck.core.network import failures, refusals
from modeldeck.core.network.address_policy import next_hop, origin
from modeldeck.core.network.encoding import BodyDecoder, Undecodable, encoding_of
from modeldeck.core.network.proxy_selector import ProxySelector, build
from modeldeck.core.schema import RepoFile

MAX_HOPS = 5
"""Maximum redirects of a request; the Hub needs one or two."""
WHOLE_TIMES = 12
"""Time limit of a whole response, as a multiple of the timeout of one wait: it ends a server that
sends a byte now and then."""
WHOLE_LIMIT = 8 << 20
"""Maximum bytes of a file that is requested whole, when a server compresses ranges."""

_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class RangeReader:
    """Sends requests to one Hub."""

    def __init__(
        self,
        endpoint: str,
        token: Callable[[], str | None],
        timeout_s: float = 10,
        outward: ProxySelector | None = None,
    ) -> None:
        """`outward` is a shared HTTP client, closed by its owner; None to create one."""
        self._base = endpoint.rstrip("/")
        self._token = token
        self._timeout_s = timeout_s
        self._shared = outward
        self._outward = outward or ProxySelector()

    async def close(self) -> None:
        """Close the connections."""
        if self._shared is None:
            await self._outward.close()

    async def ask(
        self, path: str, params: Mapping[str, str | int | list[str]], repo: str | None, limit: int
    ) -> bytes:
        """Send a request to the API; return the body of the response.

        Args:
            path: The part after `/api/`, quoted.
            params: Query parameters.
            repo: The repository, for errors; None for a search.
            limit: Maximum bytes of the response.

        Raises HubUnavailable, Gated or NotFound.
        """
        url = f"{self._base}/api/{path}?{httpx.QueryParams(dict(params))}"
        headers = {"Accept": "application/json", "Accept-Encoding": "gzip, deflate"}
        async with self._follow(url, headers, repo) as response:
            if response.status_code != 200:
                raise self._refusal(response, repo)
            data = await self._body(response, limit + 1)
        if len(data) > limit:
            raise HubUnavailable(
                f"{self._base} answered with more than {limit >> 20} MiB, which no Hub does.",
                "Check `hub.endpoint`.",
            )
        return data

    async def read(
        self, repo: str, revision: str, file: RepoFile, offset: int, length: int
    ) -> bytes:
        """Read up to `length` bytes of a file from `offset`; fewer at its end.

        Raises HubUnavailable, Gated or NotFound, and Corrupt if the Hub has another file there.
        """
        sha256 = file.blob if file.lfs else None
        return await self.read_path(repo, revision, file.path, offset, length, sha256=sha256)

    async def read_path(
        self,
        repo: str,
        revision: str,
        path: str,
        offset: int,
        length: int,
        *,
        sha256: str | None = None,
    ) -> bytes:
        """Read as `read` does; the hash of the file need not be known."""
        url = f"{self._base}/{repo}/resolve/{quote(revision, safe='')}/{quote(path)}"

        def check(response: httpx.Response) -> None:
            _check_hash(response, path, sha256)

        headers = {"Accept-Encoding": "identity"}
        part = {**headers, "Range": f"bytes={offset}-{offset + length - 1}"}
        async with self._follow(url, part, repo, check) as response:
            if response.status_code == 416:
                return b""
            if response.status_code not in (200, 206):
                raise self._refusal(response, repo)
            if response.status_code == 200 or not encoding_of(response.headers):
                return await self._requested_range(response, offset, length)
        # A range of compressed bytes is useless: request the whole file, if it is small.
        if offset + length > WHOLE_LIMIT:
            raise HubUnavailable(
                f"{self._base} sent a part of {path} in compressed form.",
                "A proxy on the way may compress: name the Hub in no_proxy, or try again later.",
            )
        async with self._follow(url, headers, repo, check) as response:
            if response.status_code != 200:
                raise self._refusal(response, repo)
            return await self._requested_range(response, offset, length)

    @asynccontextmanager
    async def _follow(
        self,
        url: str,
        headers: dict[str, str],
        repo: str | None,
        check: Callable[[httpx.Response], None] = lambda _: None,
    ) -> AsyncIterator[httpx.Response]:
        """Yield the first response that is not a redirect; `check` is called with redirects."""
        first = url
        token = await in_thread(self._token)
        try:
            async with asyncio.timeout(WHOLE_TIMES * self._timeout_s):
                for _ in range(MAX_HOPS + 1):
                    same_origin = origin(url) == origin(first)
                    bearer = {"Authorization": f"Bearer {token}"} if token and same_origin else {}
                    response = await self._send(url, headers | bearer)
                    try:
                        if response.status_code not in _REDIRECTS:
                            yield response
                            return
                        check(response)
                        url = next_hop(url, response.headers.get("Location", ""))
                    finally:
                        await response.aclose()
        except TimeoutError as error:
            raise HubUnavailable(
                f"{self._base} did not send a whole answer within"
                f" {WHOLE_TIMES * self._timeout_s:g} s.",
                "Try again later.",
            ) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise unreachable(self._base, url, error) from error
        raise HubUnavailable(f"{self._base} redirects without end.", "Check `hub.endpoint`.")

    async def _send(self, url: str, headers: Mapping[str, str]) -> httpx.Response:
        limits = dict.fromkeys(("connect", "read", "write"), self._timeout_s)
        common = {"User-Agent": f"modeldeck/{__version__}", "Accept": "*/*"}
        request = build(url, {**common, **headers}, {"timeout": {**limits, "pool": None}})
        return await self._outward.send(request)

    def _refusal(self, response: httpx.Response, repo: str | None) -> DeckError:
        """Return the error for a response status. Only the endpoint decides about access."""
        request = response.request
        if origin(str(request.url)) != origin(self._base):
            return HubUnavailable(
                f"The storage behind {self._base} answered {response.status_code}.",
                "Try again later.",
            )
        has_token = "Authorization" in request.headers
        return refusals.of_hub(
            self._base, repo, response.status_code, response.headers, has_token=has_token
        )

    async def _requested_range(self, response: httpx.Response, offset: int, length: int) -> bytes:
        """Return the requested bytes, also if the server ignored the range."""
        start = _start(response) if response.status_code == 206 else 0
        if start > offset:
            raise HubUnavailable(
                f"{self._base} sent another range than was asked for.", "Try again later."
            )
        wanted = offset - start + length
        return (await self._body(response, wanted))[offset - start : wanted]

    async def _body(self, response: httpx.Response, limit: int) -> bytes:
        """Read the decompressed body up to a limit in bytes; the rest is not read."""
        body = bytearray()
        raw = cast(AsyncGenerator[bytes, None], response.aiter_raw())
        try:
            decoder = BodyDecoder(encoding_of(response.headers))
            async with aclosing(raw):
                async for chunk in raw:
                    for piece in decoder.pieces(chunk):
                        body += piece
                        if len(body) >= limit:
                            return bytes(body[:limit])
                        await asyncio.sleep(0)  # decoding a piece takes a millisecond
        except Undecodable as error:
            raise HubUnavailable(
                f"The answer of {self._base} cannot be decompressed: {error}.",
                "A proxy on the way may change it: name the Hub in no_proxy, or try again later.",
            ) from error
        return bytes(body)


def unreachable(endpoint: str, url: str, error: Exception) -> HubUnavailable:
    """Return the error for a Hub that did not answer in HTTP. `url` is the requested one."""
    return failures.permanent_failure(failures.host_of(url), error) or HubUnavailable(
        f"{endpoint} cannot be reached: {failures.reason(error)}.",
        "Check the network; HF_ENDPOINT or `hub.endpoint` names another Hub.",
    )


def _check_hash(response: httpx.Response, path: str, sha256: str | None) -> None:
    """Raise Corrupt if the redirect's file has another hash than the listed one."""
    tag = response.headers.get("X-Linked-Etag", "").removeprefix("W/").strip('"')
    if tag and sha256 and tag.lower() != sha256:
        raise Corrupt(
            f"The Hub has another file at {path} than its list of files says.",
            "Refresh the repository and try again.",
        )


def _start(response: httpx.Response) -> int:
    """Return the start of a 206 response (`Content-Range`, RFC 9110, section 14.4)."""
    unit, _, span = response.headers.get("Content-Range", "").partition(" ")
    first = span.split("-", 1)[0]
    if unit.lower() != "bytes" or not first.isdecimal() or len(first) > 18:
        raise HubUnavailable("The Hub sent a range without saying which.", "Try again later.")
    return int(first)
