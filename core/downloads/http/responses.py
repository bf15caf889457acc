"""Checks HTTP responses to download requests, and maps failures to errors. Pure.

Size, ETag and range of a response are compared with those expected: from the Hub's listing, from
the first response of a URL, or from a hash that the user gave.
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
from modeldeck.core.network.failures import permanent_failure, reason, shown
from modeldeck.core.schema import RepoFile

LONGEST_RETRY_AFTER_S = 300.0
"""Upper bound of `Retry-After` in seconds. The Hub counts its rate limits per five minutes."""

REDIRECTS = frozenset({301, 302, 303, 307, 308})
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_DIGEST = re.compile(r"(?:^|,)\s*sha-256\s*=\s*:?([A-Za-z0-9+/]{43}=)", re.IGNORECASE)
"""SHA-256 among the digests of RFC 9530 (`sha-256=:...:`) and of RFC 3230 (`SHA-256=...`)."""


class RetryableFailure(Exception):
    """A failure to retry, after `wait_s` where the server gave a time.

    `passes` marks an outage that ends some day, of a network or a busy server: it never fails a
    job. Without it, as for invalid responses, the number of retries is limited.
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
    """Its URL; None for the Hub."""

    def __str__(self) -> str:
        return shown(self.url) if self.url else f"{self.repo}/{self.file.path}"


def refusal(
    status: int,
    headers: Mapping[str, str],
    location: FileLocation,
    home: bool,
    *,
    endpoint: str = "the Hub",
    has_token: bool = False,
) -> DeckError | RetryableFailure | None:
    """The error for a response's status; None for content and redirects.

    `home` tells whether the endpoint itself responded: of another host, a 403 is an expired
    signature. `has_token` tells whether the request carried the Hub token.
    """
    if status in (200, 206) or status in REDIRECTS:
        return None
    gone = HubUnavailable(
        f"{location} was answered with {status}.",
        "Try again later; resume continues where it stopped.",
    )
    if status in (408, 425, 429) or status >= 500:
        wait_s = retry_after(headers.get("retry-after", ""), datetime.now(UTC))
        return RetryableFailure(gone, wait_s, passes=True)
    if not home:
        return RetryableFailure(gone)
    if location.url is not None:
        return web_refusal(status, location.url)
    if status == 416:
        return RetryableFailure(changed(location, "it is shorter than its listing says"))
    return refusals.of_hub(endpoint, location.repo, status, headers, has_token=has_token)


def web_refusal(status: int, url: str) -> DeckError:
    """The error for a status without content from the server of a URL."""
    url = shown(url)
    if status in (401, 403):
        return Gated(
            f"{url} is not public: it was answered with {status}.",
            "Fetch it by yourself, and name the file's path.",
        )
    if status in (404, 410):
        return NotFound(f"There is nothing at {url}.", "Check the URL.")
    return ServerUnavailable(f"{url} was answered with {status}.", "Check the URL, or try later.")


def retry_after(value: str, now: datetime) -> float | None:
    """Seconds of a `Retry-After` header (RFC 9110, 10.2.3); None where missing or invalid."""
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(value) - now).total_seconds()
        except (ValueError, TypeError):
            return None
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER_S)


def names_blob(headers: Mapping[str, str], location: FileLocation) -> bool:
    """Whether the headers of the endpoint identify the requested blob.

    An unknown ETag of a mirror proves nothing. Raises Corrupt when the Hub's own headers identify
    another file, or a URL's server states another hash than expected.
    """
    if location.url is not None:
        digest = stated_sha256(headers)
        if digest and location.file.verifiable and digest != location.file.blob:
            raise changed(location, f"its content is {digest[:12]} now")
        return digest == location.file.blob
    linked = headers.get("x-linked-etag")
    etag = (linked or headers.get("etag", "")).removeprefix("W/").strip('"')
    if linked and etag != location.file.blob:
        raise changed(location, f"its content is {etag[:12]} now")
    size = headers.get("x-linked-size", "")
    if size.isdigit() and int(size) != location.file.size_bytes:
        raise changed(location, f"it has {size} bytes now")
    return etag == location.file.blob


def stated_sha256(headers: Mapping[str, str]) -> str:
    """The SHA-256 of the whole file that the headers state; empty for none.

    The Hub's `X-Linked-Etag`, `Repr-Digest` (RFC 9530), `Digest` (RFC 3230). An ETag does not
    count, even where it looks like a hash, since its algorithm is unknown.
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


def begins_at(
    status: int, headers: Mapping[str, str], location: FileLocation, span: ByteRange
) -> int:
    """Offset of the first byte of a response's content (RFC 9110, 14.4 and 15.3.7).

    Raises RetryableFailure when length, range or encoding differ from the request. A whole file may
    be compressed: then its length is known at its end only.
    """
    size = location.file.size_bytes
    if encoding_of(headers):
        if status == 206:
            raise RetryableFailure(undecodable(location, "a part of its compressed form came"))
        return 0
    if status == 206:
        match = _CONTENT_RANGE.fullmatch(headers.get("content-range", "").strip())
        if match is None or int(match[1]) != span[0] or int(match[2]) >= span[1]:
            raise RetryableFailure(
                HubUnavailable(f"{location} came in another range than asked for.")
            )
        if match[3] != "*" and int(match[3]) != size:
            raise RetryableFailure(changed(location, f"it has {match[3]} bytes, not {size}"))
        return span[0]
    length = headers.get("content-length", "")
    if length.isdigit() and int(length) != size:
        raise RetryableFailure(changed(location, f"it has {length} bytes, not {size}"))
    return 0


def undecodable(location: FileLocation, how: str) -> HubUnavailable:
    """The error for content that was compressed, though the request ruled it out."""
    return HubUnavailable(
        f"{location} came compressed, though that was not asked for: {how}.",
        "A proxy on the way may change it: name the host in no_proxy, then resume the download.",
    )


def validator_of(headers: Mapping[str, str]) -> str:
    """The validator of a response's content for `If-Range`; empty for none.

    A strong ETag, else the date of the last change: weak ETags are not allowed (RFC 9110, 13.1.5).
    """
    etag = headers.get("etag", "")
    if len(etag) > 2 and etag.startswith('"') and etag.endswith('"'):
        return etag
    return headers.get("last-modified", "")


def changed(location: FileLocation, how: str) -> Corrupt:
    """The error for content that differs from the expected."""
    if location.url is not None:
        return Corrupt(
            f"{location} is not what it was when the download began: {how}.", "Download it again."
        )
    return Corrupt(
        f"{location} is not what the Hub listed: {how}.",
        "Download it again; the listing is then asked for anew.",
    )


def lost(host: str, error: Exception) -> DeckError | RetryableFailure:
    """The error for a failed connection: permanent, or a RetryableFailure."""
    if isinstance(error, PrivateAddress):
        return inward(host, str(error))
    if (permanent := permanent_failure(host, error)) is not None:
        return permanent
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
