"""What a URL offers that is not the Hub's: how much, in which state, and of which hash."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import cast

import httpx

from modeldeck.core.downloads.http.responses import mark, web_refusal
from modeldeck.core.errors import Corrupt, InvalidRequest, ServerUnavailable
from modeldeck.core.formats.hub_names import UrlName
from modeldeck.core.network.encoding import encoding_of
from modeldeck.core.network.failures import reason, shown
from modeldeck.core.schema import RepoFile

MAGIC = b"GGUF"
"""The first bytes of a GGUF file (gguf.md, File structure)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UrlFile:
    """One file at a URL, as its server tells of it."""

    size_bytes: int
    mark: str = ""
    """Its ETag, or when it was last changed; empty where the server says neither."""
    sha256: str = ""
    """The hash that the server promises; empty where it gives none."""

    def listed(self, name: UrlName) -> tuple[str, RepoFile]:
        """What stands for the commit, and the file.

        Raises Corrupt when the name and the server promise different content. Where nobody promises
        a hash, one of the URL and of what tells this state of the file from others stands for it.
        """
        if name.sha256 and self.sha256 and name.sha256 != self.sha256:
            raise Corrupt(
                f"{shown(name.url)} has another hash now than was asked for: {self.sha256[:12]}.",
                "Check the hash with whoever gave it.",
            )
        sha256 = name.sha256 or self.sha256
        state = f"{name.url}\n{self.size_bytes}\n{self.mark}\n{sha256}".encode()
        file = RepoFile(
            path=name.file,
            size_bytes=self.size_bytes,
            blob=sha256 or hashlib.sha256(state).hexdigest(),
            lfs=True,
            verifiable=bool(sha256),
        )
        return hashlib.sha1(state, usedforsecurity=False).hexdigest(), file


async def offered(url: str, response: httpx.Response, sha256: str) -> UrlFile:
    """The offer that an answer to a question for the first bytes makes.

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
    return UrlFile(size_bytes=size, mark=mark(response.headers), sha256=sha256)


def _size(response: httpx.Response) -> int | None:
    """Bytes of the whole file: a part's answer says it behind the slash (RFC 9110, 14.4)."""
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
