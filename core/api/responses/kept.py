"""Answers that are kept: get one, follow it once more, forget it, cancel it, list its input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from modeldeck.core.api.http.messages import Request, Response, StreamResponse, json_response
from modeldeck.core.api.responses.answer import AnswerObject
from modeldeck.core.api.responses.events import replayed
from modeldeck.core.api.responses.history import decoded
from modeldeck.core.errors import AnswerNotFound, InvalidRequest, NotFound
from modeldeck.core.service.answers.event_log import EventLog
from modeldeck.core.service.answers.store import MOST_BYTES, StoredAnswer

if TYPE_CHECKING:
    from modeldeck.core.service.deck import Deck

PAGE, LARGEST_PAGE = 20, 100
"""Items in one answer to a list, by default and at most: OpenAI's numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgottenAnswer:
    """That an answer was forgotten."""

    id: str
    object: Literal["response.deleted"] = "response.deleted"
    deleted: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemList:
    """Items of an input, in the order that was asked for."""

    data: list[Any] = field(default_factory=list)
    first_id: str | None = None
    last_id: str | None = None
    has_more: bool = False
    object: Literal["list"] = "list"


async def retrieve(deck: Deck, request: Request) -> Response | StreamResponse:
    """A kept answer, or one that is being streamed, as far as it has come.

    With `stream=true` its events once more; with `starting_after` those after that number, for a
    short while after the answer was made.
    """
    id = request.params["response"]
    running = deck.answers.running(id, request.owner)
    if request.query.get("stream", "").lower() in ("true", "1"):
        after = _number_after(request)
        if running is not None:
            running.log.check(after)
            return StreamResponse(chunks=running.read(after))
        return _replay(_find(deck, request), after)
    if running is not None and not running.ended:
        return Response(body=running.snapshot())
    return Response(body=_find(deck, request).response)


def _number_after(request: Request) -> int:
    after = request.number("starting_after", -1)
    if after < -1:
        raise InvalidRequest("starting_after is below 0.", "Send the number of the last event.")
    return after


def _replay(answer: StoredAnswer, after: int) -> StreamResponse:
    """The events of a stored answer. Raises InvalidRequest where their numbers are not known."""
    if answer.streamed and after >= 0:
        raise InvalidRequest(
            "The events of this answer are no longer kept (at `$.starting_after`).",
            "Get the answer as a whole: leave stream out.",
        )
    log = EventLog(limit_bytes=MOST_BYTES)
    log.add(replayed(msgspec.json.decode(answer.response, type=AnswerObject)))
    log.end()
    log.check(after)
    return StreamResponse(chunks=log.read(after))


def _find(deck: Deck, request: Request) -> StoredAnswer:
    """The stored answer that a route names. Raises AnswerNotFound."""
    id = request.params["response"]
    answer = deck.answers.store.find(id, request.owner)
    if answer is None:
        raise _not_kept(id)
    return answer


def _not_kept(id: str) -> AnswerNotFound:
    return AnswerNotFound(
        f"No answer with the id {id[:80]!r} is kept.",
        "Answers are kept for a day unless store is false, and end with the core.",
    )


async def forget(deck: Deck, request: Request) -> Response:
    """Forget an answer; one that is being made is cancelled.

    Answers that go on from it keep what they need.
    """
    id = request.params["response"]
    running = deck.answers.running(id, request.owner)
    if running is not None:
        await deck.answers.drop(running)
    if not deck.answers.store.forget(id, request.owner) and running is None:
        raise _not_kept(id)
    return json_response(ForgottenAnswer(id=id))


async def cancel(deck: Deck, request: Request) -> Response:
    """Cancel an answer that is being made; what it has until then is kept.

    One that was made in the background and is at its end is given as it is.
    """
    running = deck.answers.running(request.params["response"], request.owner)
    if running is None or running.ended:
        answer = _find(deck, request)
        if answer.background:
            return Response(body=answer.response)
        raise InvalidRequest(
            f"The answer {answer.id!r} is at its end; only one that is being made is cancelled.",
            "Delete it to forget it.",
        )
    await running.stop()
    return Response(body=_find(deck, request).response)


async def list_input(deck: Deck, request: Request) -> Response:
    """The items that an answer was asked with, the newest first unless `order` is `asc`."""
    items = await decoded(_find(deck, request).inputs)
    return json_response(page(items, request))


def page(items: Sequence[Any], request: Request) -> ItemList:
    """The items that `order`, `after` and `limit` select. Raises InvalidRequest."""
    order = request.query.get("order", "desc")
    limit = request.number("limit", PAGE)
    if order not in ("asc", "desc") or not 1 <= limit <= LARGEST_PAGE:
        raise InvalidRequest(f"order is asc or desc, limit from 1 to {LARGEST_PAGE}.")
    found = list(items) if order == "asc" else list(reversed(items))
    if (after := request.query.get("after")) is not None:
        places = [place for place, item in enumerate(found) if item["id"] == after]
        if not places:
            raise InvalidRequest(f"There is no item {after[:80]!r} (at `$.after`).")
        found = found[places[0] + 1 :]
    shown = found[:limit]
    return ItemList(
        data=shown,
        first_id=shown[0]["id"] if shown else None,
        last_id=shown[-1]["id"] if shown else None,
        has_more=len(found) > limit,
    )


def compact(deck: Deck, request: Request) -> Response:
    """Not offered: OpenAI compacts for its own models only, programs ask others for a summary."""
    raise NotFound(
        "There is nothing at /v1/responses/compact.",
        "Ask for a summary of the conversation, as programs do with other models.",
    )
