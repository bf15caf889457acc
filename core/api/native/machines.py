"""Routes for copies between machines, and a summary for status bars and other machines."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modeldeck.core.api.http.messages import Request, Response, StreamResponse, json_response
from modeldeck.core.api.http.router import Route
from modeldeck.core.api.native.bodies import Accepted
from modeldeck.core.errors import Forbidden
from modeldeck.core.schema import Manifest, Summary
from modeldeck.core.schema.summary import summary

if TYPE_CHECKING:
    from modeldeck.core.service.deck import Deck


async def get_summary(deck: Deck, request: Request) -> Response:
    """The machine in a few numbers, with memory figures at most a second old."""
    return json_response(summary(await deck.refresh()))


# Copying a model from one machine to another


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeBody:
    """A model to copy."""

    manifest: Manifest
    peer: str
    """Path of a Unix socket on this machine that is forwarded to the core with the files."""


def get_manifest(deck: Deck, request: Request) -> Response:
    """Files of a downloaded model, with their hashes."""
    return json_response(deck.copies.manifest(request.params["model"]))


async def get_blob(deck: Deck, request: Request) -> StreamResponse:
    """A file of the cache by its hash: whole, or one range of it (RFC 9110, section 14)."""
    repo, blob = request.params["repo"], request.params["blob"]
    content = await deck.copies.open_blob(repo, blob)
    span = _range(request.headers.get("range", ""), content.size_bytes)
    start, end = span or (0, content.size_bytes)
    headers = [("ETag", f'"{blob}"'), ("Accept-Ranges", "bytes")]
    if span is not None:
        headers.append(("Content-Range", f"bytes {start}-{end - 1}/{content.size_bytes}"))
    return StreamResponse(
        chunks=content.pieces(start, end),
        status=200 if span is None else 206,
        content_type="application/octet-stream",
        headers=tuple(headers),
    )


_RANGE = re.compile(r"bytes=(\d{1,18})-(\d{1,18})")


def _range(text: str, size: int) -> tuple[int, int] | None:
    """Start and end (exclusive) of a Range header; None for the whole file.

    Other forms than one satisfiable range are ignored, as RFC 9110, section 14.2, allows.

    >>> _range("bytes=2-4", 9), _range("bytes=2-40", 9), _range("bytes=-5", 9)
    ((2, 5), (2, 9), None)
    """
    match = _RANGE.fullmatch(text.strip())
    if match is None or not int(match[1]) < size or int(match[2]) < int(match[1]):
        return None
    return int(match[1]), min(int(match[2]) + 1, size)


async def take(deck: Deck, request: Request) -> Response:
    """Copy a model from the core behind a Unix socket of this machine."""
    if not request.origin.startswith("unix"):
        raise Forbidden(
            "Only a front end on this machine, or one connected over ssh, may do this.",
            "Use `modeldeck copy`.",
        )
    body = request.parse(TakeBody)
    model, job = await deck.copies.take(body.manifest, body.peer, request.origin)
    return json_response(Accepted(model=model, download=job))


ROUTES: tuple[Route, ...] = (
    Route(
        method="GET",
        template="/deck/summary",
        operation_id="deckGetSummary",
        summary="The machine in a few numbers, and its protocol version",
        tag="core",
        handler=get_summary,
        answer=Summary,
    ),
    Route(
        method="GET",
        template="/deck/models/{model}/manifest",
        operation_id="deckGetManifest",
        summary="Files of a downloaded model, for another machine",
        tag="machines",
        handler=get_manifest,
        answer=Manifest,
    ),
    Route(
        method="GET",
        template="/deck/blobs/{repo}/{blob}",
        operation_id="deckGetBlob",
        summary="A file of the cache by its hash",
        tag="machines",
        handler=get_blob,
        content_type="application/octet-stream",
        need="manage",
    ),
    Route(
        method="POST",
        template="/deck/take",
        operation_id="deckTake",
        summary="Copy a model from another machine, over a forwarded Unix socket",
        tag="machines",
        handler=take,
        body=TakeBody,
        body_required=True,
        answer=Accepted,
    ),
)
