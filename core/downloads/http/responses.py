"""What the answers of servers mean, decided without any I/O.

What a server says about a file (size, ETag, range) is checked against what was promised before: by
the Hub's listing, by the first answer of a URL, or by a person.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

from modeldeck.core.downloads.ranges import ByteRange
from modeldeck.core.errors import (
    Corrupt,
    DeckError,
    Gated,
    HubUnavailable,
    NotFound,
    ServerUnavailable,
)
from modeldeck.core.network import refusals
from modeldeck.core.network.address_policy import inward
from modeldeck.core.network.connection import PrivateAddress
from modeldeck.core.network.encoding import encoding_of
from modeldeck.core.network.failures import certain, reason, shown
from modeldeck.core.schema import RepoFile

LONGEST_RETRY_AFTER_S = 300.0
"""The Hub's rate limits are counted per five minutes."""

REDIRECTS = frozenset({301, 302, 303, 307, 308})
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_DIGEST = re.compile(r"(?:^|,)\s*sha-256\s*=\s*:?([A-Za-z0-9+/]{43}=)", re.IGNORECASE)
"""SHA-256 among the digests of RFC 9530 (`sha-256=:...:`) and of RFC 3230 (`SHA-256=...`)."""


class RetryableFailure(Exception):
    """Something that may pass: to be tried again, after `wait_s` where the server said so.

    `passes` says that it will some day, as a network that is down or a server that is busy: such a
    thing never ends a job. An answer that makes no sense may come for ever.
    """

    def __init__(
        self, error: DeckError, wait_s: float | None = None, *, passes: bool = False
    ) -> None:
        super().__init__(str(error))
        self.error = error
        self.wait_s = wait_s
        self.passes = passes


@dataclass(frozen=True, slots=True, kw_only=True)
class FileLocation:
    """One file: of one commit on the Hub, or at a URL."""

    repo: str
    revision: str
    file: RepoFile
    url: str | None = None
    """Where it is when that is not the Hub."""

    def __str__(self) -> str:
        return shown(self.url) if self.url else f"{self.repo}/{self.file.path}"


def refusal(
    status: int,
    headers: Mapping[str, str],
    place: FileLocation,
    home: bool,
    *,
    endpoint: str = "the Hub",
    has_token: bool = False,
) -> DeckError | RetryableFailure | None:
    """What an answer's status means; None for one that brings content or leads to it.

    `home` says whether the endpoint itself answered: elsewhere, a 403 is a signature that ran out.
    `has_token` says whether the request carried the Hub token.
    """
    if status in (200, 206) or status in REDIRECTS:
        return None
    gone = HubUnavailable(
        f"{place} was answered with {status}.", "Try again later; resume goes on where it stopped."
    )
    if status in (408, 425, 429) or status >= 500:
        wait_s = retry_after(headers.get("retry-after", ""), datetime.now(UTC))
        return RetryableFailure(gone, wait_s, passes=True)
    if not home:
        return RetryableFailure(gone)
    if place.url is not None:
        return web_refusal(status, place.url)
    if status == 416:
        return RetryableFailure(changed(place, "it is shorter than its listing says"))
    return refusals.of_hub(endpoint, place.repo, status, headers, has_token=has_token)


def web_refusal(status: int, url: str) -> DeckError:
    """What it means that the server of a URL has nothing for us."""
    url = shown(url)
    if status in (401, 403):
        return Gated(
            f"{url} is not given to everybody: it was answered with {status}.",
            "Fetch it by yourself, and name the file's path.",
        )
    if status in (404, 410):
        return NotFound(f"There is nothing at {url}.", "Check the URL.")
    return ServerUnavailable(f"{url} was answered with {status}.", "Check the URL, or try later.")


def retry_after(value: str, now: datetime) -> float | None:
    """Seconds that a Retry-After header asks for (RFC 9110, 10.2.3); None for none or nonsense."""
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(value) - now).total_seconds()
        except (ValueError, TypeError):
            return None
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER_S)


def names_blob(headers: Mapping[str, str], place: FileLocation) -> bool:
    """Whether the endpoint's answer names the blob that was asked for.

    A mirror may give an ETag of its own, which says nothing. Raises Corrupt when the Hub's own
    headers name another file, or a URL's server another hash than was promised.
    """
    if place.url is not None:
        digest = promised(headers)
        if digest and place.file.verifiable and digest != place.file.blob:
            raise changed(place, f"its content is {digest[:12]} now")
        return digest == place.file.blob
    linked = headers.get("x-linked-etag")
    etag = (linked or headers.get("etag", "")).removeprefix("W/").strip('"')
    if linked and etag != place.file.blob:
        raise changed(place, f"its content is {etag[:12]} now")
    size = headers.get("x-linked-size", "")
    if size.isdigit() and int(size) != place.file.size_bytes:
        raise changed(place, f"it has {size} bytes now")
    return etag == place.file.blob


def promised(headers: Mapping[str, str]) -> str:
    """The SHA-256 that an answer names for the whole file; empty where it names none.

    The Hub's `X-Linked-Etag`, `Repr-Digest` (RFC 9530), `Digest` (RFC 3230). An ETag is none, even
    where it looks like one: nobody says how it was made.
    """
    linked = headers.get("x-linked-etag", "").removeprefix("W/").strip('"').lower()
    if _SHA256.fullmatch(linked):
        return linked
    for name in ("repr-digest", "digest"):
        if match := _DIGEST.search(headers.get(name, "")):
            try:
                return base64.b64decode(match[1], validate=True).hex()
            except binascii.Error:
                continue
    return ""


def begins_at(status: int, headers: Mapping[str, str], place: FileLocation, span: ByteRange) -> int:
    """Offset of the first byte of an answer's content (RFC 9110, 14.4 and 15.3.7).

    Raises Setback when length, range or encoding are not what was asked for. A whole file may come
    compressed: its length is told by its content only.
    """
    size = place.file.size_bytes
    if encoding_of(headers):
        if status == 206:
            raise RetryableFailure(undecodable(place, "a part of its compressed form came"))
        return 0
    if status == 206:
        match = _CONTENT_RANGE.fullmatch(headers.get("content-range", "").strip())
        if match is None or int(match[1]) != span[0] or int(match[2]) >= span[1]:
            raise RetryableFailure(HubUnavailable(f"{place} came in another range than asked for."))
        if match[3] != "*" and int(match[3]) != size:
            raise RetryableFailure(changed(place, f"it has {match[3]} bytes, not {size}"))
        return span[0]
    length = headers.get("content-length", "")
    if length.isdigit() and int(length) != size:
        raise RetryableFailure(changed(place, f"it has {length} bytes, not {size}"))
    return 0


def undecodable(place: FileLocation, how: str) -> HubUnavailable:
    """The refusal of content that came compressed, though it was asked for as it is."""
    return HubUnavailable(
        f"{place} came compressed, though that was not asked for: {how}.",
        "A proxy on the way may change it: name the host in no_proxy, then resume the download.",
    )


def mark(headers: Mapping[str, str]) -> str:
    """What tells an answer's content from other content, for `If-Range`; empty for nothing.

    A strong ETag, else the date of the last change (RFC 9110, 13.1.5): weak ETags may not be used.
    """
    etag = headers.get("etag", "")
    if len(etag) > 2 and etag.startswith('"') and etag.endswith('"'):
        return etag
    return headers.get("last-modified", "")


def changed(place: FileLocation, how: str) -> Corrupt:
    """The refusal of content that is not what was promised."""
    if place.url is not None:
        return Corrupt(
            f"{place} is not what it was when the download began: {how}.", "Download it again."
        )
    return Corrupt(
        f"{place} is not what the Hub listed: {how}.",
        "Download it again; the listing is then asked for anew.",
    )


def lost(host: str, error: Exception) -> DeckError | RetryableFailure:
    """What it means that a connection failed: something that passes, or that does not."""
    if isinstance(error, PrivateAddress):
        return inward(host, str(error))
    if (told := certain(host, error)) is not None:
        return told
    if isinstance(error, httpx.LocalProtocolError):
        return HubUnavailable(
            f"A request to {host} cannot be sent: one of its headers is malformed.",
            "Check the Hub token: `hf auth login` writes it anew.",
        )
    return RetryableFailure(
        HubUnavailable(
            f"The connection to {host} was lost: {reason(error)}.",
            "It is made anew by itself; check the network if it does not come back.",
        ),
        passes=True,
    )
