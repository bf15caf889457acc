"""What is sent of an answer: nothing where the client has it, less where that pays, else all of it.

ETags are weak (RFC 9110, section 8.8.1): the same for a body and its compressed copy. They tell of
the content, not of a number of the core's, so they hold across restarts, and while other parts of
the state change.
"""

from __future__ import annotations

import asyncio
import hashlib
import zlib
from dataclasses import replace
from functools import lru_cache

from modeldeck.core.api.http import response_bytes
from modeldeck.core.api.http.messages import Prepared, Response
from modeldeck.core.api.http.request_head import RequestHead

COPIES = 8
"""Bodies that are kept with their copies: the lists of a few SDK versions, and the state."""

SMALL_BYTES = 1 << 10
"""Bodies below this fit into one packet anyway."""

LARGE_BYTES = 256 << 10
"""Bodies above this take more than a few milliseconds to compress: in a thread, then."""

_LEVEL = 1
"""Of zlib: the higher ones take three times as long for a tenth less of JSON."""

_ASK_AGAIN = b"Cache-Control: no-cache\r\n"
"""May be kept, if it is asked for again each time."""


class _Copy:
    """One body that many ask for, and what may be sent instead of it."""

    def __init__(self, answer: Response) -> None:
        digest = hashlib.blake2b(answer.body, digest_size=12).hexdigest()
        self.etag = f'W/"{digest}"'
        self._of = answer
        headers = (("ETag", self.etag), ("Vary", "Accept-Encoding"))
        self.plain = _prepared(replace(answer, headers=answer.headers + headers))
        self.unchanged = _prepared(Response(status=304, content_type=None, headers=headers))
        self._zipped: Prepared | None = None

    @property
    def has_zipped(self) -> bool:
        """Whether `zipped` costs nothing."""
        return self._zipped is not None

    @property
    def zipped(self) -> Prepared:
        """The same, compressed."""
        if self._zipped is None:
            self._zipped = _prepared(_compressed(self.plain))
        return self._zipped


def _prepared(answer: Response) -> Prepared:
    return Prepared(
        status=answer.status,
        body=answer.body,
        content_type=answer.content_type,
        headers=answer.headers,
        start=response_bytes.start(answer, _ASK_AGAIN),
    )


def _compressed(answer: Response) -> Response:
    zipper = zlib.compressobj(_LEVEL, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    body = zipper.compress(answer.body) + zipper.flush()
    return Response(
        status=answer.status,
        body=body,
        content_type=answer.content_type,
        headers=(*answer.headers, ("Content-Encoding", "gzip")),
    )


class ResponseEncoder:
    """Decides for every answer of one listener."""

    def __init__(self) -> None:
        self._copies: dict[int, tuple[Response, _Copy]] = {}

    def settled(self, answer: Response, head: RequestHead | None) -> Response:
        """What to send of this answer. Compresses at once what is not `is_slow`."""
        if head is None or answer.status != 200:
            return answer
        if not answer.kept:
            return _varied(_compressed(answer)) if _pays(answer, head) else answer
        copy = self._copy(answer)
        known = head.headers.get("if-none-match")
        if known is not None and _matches(known, copy.etag):
            return copy.unchanged
        return copy.zipped if _pays(answer, head) else copy.plain

    def is_slow(self, answer: Response, head: RequestHead | None) -> bool:
        """Whether `settled` would hold everybody else up."""
        if len(answer.body) <= LARGE_BYTES or head is None or not _pays(answer, head):
            return False
        return not (answer.kept and self._copy(answer).has_zipped)

    async def settled_slowly(self, answer: Response, head: RequestHead | None) -> Response:
        """As `settled`, with what takes long in a thread."""
        if not self.is_slow(answer, head):
            return self.settled(answer, head)
        if answer.kept:
            await asyncio.to_thread(getattr, self._copy(answer), "zipped")
            return self.settled(answer, head)
        return _varied(await asyncio.to_thread(_compressed, answer))

    def _copy(self, answer: Response) -> _Copy:
        """The copies of a body, found by its identity: it is held, so no other can be there."""
        found = self._copies.get(id(answer.body))
        if found is None:
            if len(self._copies) >= COPIES:
                del self._copies[next(iter(self._copies))]
            found = self._copies[id(answer.body)] = answer, _Copy(answer)
        return found[1]


def _pays(answer: Response, head: RequestHead) -> bool:
    """Whether this answer is better sent compressed, and the client takes it so."""
    asked = head.headers.get("accept-encoding")
    return (
        asked is not None
        and len(answer.body) >= SMALL_BYTES
        and answer.status == 200
        and answer.content_type is not None
        and takes_gzip(asked)
    )


def _varied(answer: Response) -> Response:
    return replace(answer, headers=(*answer.headers, ("Vary", "Accept-Encoding")))


@lru_cache(64)
def takes_gzip(accept_encoding: str) -> bool:
    """Whether gzip is among the codings a client accepts (RFC 9110, section 12.5.3)."""
    weights = {}
    for part in accept_encoding.lower().split(","):
        coding, _, parameter = part.partition(";")
        name, _, value = parameter.strip().partition("=")
        weights[coding.strip()] = value.strip() if name == "q" else "1"
    weight = weights.get("gzip", weights.get("x-gzip", weights.get("*", "0")))
    return weight.strip("0.") != ""


def _matches(known: str, etag: str) -> bool:
    """Whether the client has what this ETag stands for, by the weak comparison (section 13.1.2)."""
    opaque = etag.removeprefix("W/")
    return known.strip() == "*" or any(
        tag.strip().removeprefix("W/") == opaque for tag in known.split(",")
    )
