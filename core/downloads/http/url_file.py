"""Size, validator and hash of a file at a URL outside the Hub, from its first response."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import cast

import httpx

from modeldeck.core.downloads.http.responses import validator_of, web_refusal
from modeldeck.core.errors import Corrupt, InvalidRequest, ServerUnavailable
from modeldeck.core.formats.unique_names import UrlName
from modeldeck.core.network.encoding import encoding_of
from modeldeck.core.network.failures import reason, shown
from modeldeck.core.schema import RepoFile

MAGIC = b"GGUF"
"""The first bytes of a GGUF file (gguf.md, File structure)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UrlFile:
    """One file at a URL, as its server describes it."""

    size_bytes: int
    validator: str = ""
    """Its strong ETag or last change; empty where the server states neither."""
    sha256: str = ""
    """The hash that the server states; empty for none."""

    def listed(self, name: UrlName) -> tuple[str, RepoFile]:
        """A substitute for a commit hash, and the file's record.

        Raises Corrupt when name and server state different hashes. Without any hash, a hash of URL,
        size and validator identifies the blob.
        """
        if name.sha256 and self.sha256 and name.sha256 != self.sha256:
            raise Corrupt(
                f"{shown(name.url)} has another hash now than was asked for: {self.sha256[:12]}.",
                "Check the hash with its source.",
            )
        sha256 = name.sha256 or self.sha256
        state = f"{name.url}\n{self.size_bytes}\n{self.validator}\n{sha256}".encode()
        file = RepoFile(
            path=name.file,
            size_bytes=self.size_bytes,
            blob=sha256 or hashlib.sha256(state).hexdigest(),
            lfs=True,
            verifiable=bool(sha256),
        )
        return hashlib.sha1(state, usedforsecurity=False).hexdigest(), file


async def url_file_of(url: str, response: httpx.Response, sha256: str) -> UrlFile:
    """The file's description from the response to a request for its first bytes.

    Raises Gated, NotFound, ServerUnavailable, InvalidRequest.
    """
    if response.status_code not in (200, 206):
        raise web_refusal(response.status_code, url)
    start = await first(response, len(MAGIC))
    size = _size(response)
    if size is None:
        raise InvalidRequest(
            f"The server of {shown(url)} does not say how large the file is.",
            "Fetch it by yourself, and name the file's path.",
        )
    if start != MAGIC:
        raise InvalidRequest(
            f"{shown(url)} is not a GGUF file: it does not begin as one.",
            "Give the URL of the file itself, not that of a page about it.",
        )
    return UrlFile(size_bytes=size, validator=validator_of(response.headers), sha256=sha256)


def _size(response: httpx.Response) -> int | None:
    """Size of the whole file; of a partial response, from Content-Range (RFC 9110, 14.4)."""
    text = response.headers.get("content-length", "")
    if response.status_code == 206:
        text = response.headers.get("content-range", "").rpartition("/")[2]
    return int(text) if text.isdecimal() and len(text) < 16 else None


async def first(response: httpx.Response, size: int) -> bytes:
    """The first `size` bytes of a body, or all of a shorter one. Raises ServerUnavailable."""
    if encoding_of(response.headers):
        raise ServerUnavailable(
            f"{response.url.host} sends the file compressed, though that was not asked for.",
            "Fetch it by yourself, and name the file's path.",
        )
    got = bytearray()
    pieces = cast(AsyncGenerator[bytes, None], response.aiter_raw())
    try:
        async with aclosing(pieces):
            async for piece in pieces:
                got += piece
                if len(got) >= size:
                    break
    except httpx.TransportError as error:
        raise ServerUnavailable(
            f"The connection to {response.url.host} was lost: {reason(error)}.", "Try again."
        ) from error
    return bytes(got[:size])
