"""Reading a piece of a file on the Hub by HTTP range (RFC 9110, section 14).

The Hub answers with a redirect to a signed URL on another host. Redirects are followed here hop by
hop: the token goes to the endpoint's own host and to no other, and a redirect never leads from
https to http.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import quote

import httpx

from core import __version__
from core.errors import Corrupt, DeckError, Gated, HubUnavailable, NotFound
from core.schema import RepoFile

MAX_HOPS = 5
"""Redirects of one request; the Hub needs one or two."""
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


_ERRNO = re.compile(r"\[Errno -?\d+\] ")
"""What Python writes before the words of the system."""


class Remote:
    """Reads ranges of files on one Hub, over connections that are kept."""

    def __init__(
        self, endpoint: str, token: Callable[[], str | None], timeout_s: float = 10
    ) -> None:
        self._endpoint = httpx.URL(endpoint)
        self._base = endpoint.rstrip("/")
        self._token = token
        self._timeout_s = timeout_s
        self._client: httpx.AsyncClient | None = None

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def read(
        self, repo: str, revision: str, file: RepoFile, offset: int, length: int
    ) -> bytes:
        """Up to `length` bytes of a file from `offset`; fewer at its end.

        Raises HubUnavailable, Gated or NotFound, and Corrupt when the Hub has another file there.
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
        """As `read`, of a file whose hash need not be known."""
        place = f"{quote(revision, safe='')}/{quote(path)}"
        url = httpx.URL(f"{self._base}/{repo}/resolve/{place}")
        try:
            for _ in range(MAX_HOPS + 1):
                response = await self._send(url, offset, length)
                try:
                    status = response.status_code
                    if status in (200, 206):
                        return await _piece(response, offset, length)
                    if status == 416:
                        return b""
                    if status not in _REDIRECTS:
                        raise self._refusal(url, repo, response)
                    _check_hash(response, path, sha256)
                    url = self._next(url, response)
                finally:
                    await response.aclose()
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise unreachable(self._base, error) from error
        raise HubUnavailable(f"{self._base} redirects without end.", "Check `hub.endpoint`.")

    async def _send(self, url: httpx.URL, offset: int, length: int) -> httpx.Response:
        if self._client is None:
            agent = {"User-Agent": f"modeldeck/{__version__}", "Accept-Encoding": "identity"}
            self._client = httpx.AsyncClient(headers=agent, timeout=self._timeout_s)
        headers = {"Range": f"bytes={offset}-{offset + length - 1}"}
        token = self._token()
        if token and _origin(url) == _origin(self._endpoint):
            headers["Authorization"] = f"Bearer {token}"
        request = self._client.build_request("GET", url, headers=headers)
        return await self._client.send(request, stream=True, follow_redirects=False)

    def _next(self, url: httpx.URL, response: httpx.Response) -> httpx.URL:
        target = url.join(response.headers.get("Location", ""))
        if target.scheme not in {"https", self._endpoint.scheme} or not target.host:
            raise HubUnavailable(
                f"{self._base} redirects to {target.scheme}://{target.host}, which is not safe.",
                "Check `hub.endpoint`.",
            )
        return target

    def _refusal(self, url: httpx.URL, repo: str, response: httpx.Response) -> DeckError:
        """The error for an answer without bytes. Only the endpoint knows who may read what."""
        status = response.status_code
        if _origin(url) != _origin(self._endpoint):
            return HubUnavailable(
                f"The storage behind {self._base} answered {status}.", "Try again later."
            )
        return refusal(self._base, repo, status, response.headers.get("X-Error-Code"))


def unreachable(endpoint: str, error: Exception) -> HubUnavailable:
    """The error for a Hub that did not answer, or not in HTTP."""
    reason = _ERRNO.sub("", str(error)) or type(error).__name__
    return HubUnavailable(
        f"{endpoint} cannot be reached: {reason}.",
        "Check the network; HF_ENDPOINT or `hub.endpoint` names another Hub.",
    )


def refusal(
    endpoint: str, repo: str, status: int, code: str | None, *, detail: str = ""
) -> DeckError:
    """The error for an answer of the Hub that is not a success.

    Args:
        endpoint: The Hub's base URL.
        repo: What was asked about.
        status: The HTTP status.
        code: Value of the `X-Error-Code` header.
        detail: What else is known, for the message.
    """
    if code == "GatedRepo" or (status == 403 and code is None):
        return Gated(
            f"{repo} is gated: its licence must be accepted before it can be fetched.",
            f"Accept it at {endpoint}/{repo}, then log in with `hf auth login` or set HF_TOKEN.",
        )
    if status in (401, 404) or code in ("RepoNotFound", "RevisionNotFound", "EntryNotFound"):
        what = {"RevisionNotFound": "no such revision", "EntryNotFound": "no such file"}
        return NotFound(
            f"{repo}: {what.get(code or '', 'there is no such repository, or it is private')}"
            f" on {endpoint}.",
            "Check the name; a private repository needs a token (`hf auth login`).",
        )
    if status == 429:
        return HubUnavailable(f"{endpoint} asks to wait: too many requests.", "Try again later.")
    return HubUnavailable(
        f"{endpoint} answered {status} for {repo}{': ' + detail if detail else ''}.",
        "Try again later.",
    )


def _origin(url: httpx.URL) -> tuple[str, str, int]:
    return url.scheme, url.host, url.port or (443 if url.scheme == "https" else 80)


def _check_hash(response: httpx.Response, path: str, sha256: str | None) -> None:
    """The redirect names the file that it leads to: it must be the one that the tree named."""
    tag = response.headers.get("X-Linked-Etag", "").removeprefix("W/").strip('"')
    if tag and sha256 and tag.lower() != sha256:
        raise Corrupt(
            f"The Hub has another file at {path} than its list of files says.",
            "Refresh the repository and try again.",
        )


async def _piece(response: httpx.Response, offset: int, length: int) -> bytes:
    """The bytes that were asked for, also from a server that ignored the range."""
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise HubUnavailable("The Hub sent a range in compressed form.", "Try again later.")
    start = _start(response) if response.status_code == 206 else 0
    if start > offset:
        raise HubUnavailable("The Hub sent another range than was asked for.", "Try again later.")
    wanted = offset - start + length
    data = bytearray()
    async for chunk in response.aiter_raw():
        data += chunk
        if len(data) >= wanted:
            break
    return bytes(data[offset - start : wanted])


def _start(response: httpx.Response) -> int:
    """Where a 206 begins: `Content-Range: bytes START-END/SIZE` (RFC 9110, section 14.4)."""
    unit, _, span = response.headers.get("Content-Range", "").partition(" ")
    first = span.split("-", 1)[0]
    if unit.lower() != "bytes" or not first.isdecimal():
        raise HubUnavailable("The Hub sent a range without saying which.", "Try again later.")
    return int(first)
