"""Chat over a WebSocket, in the protocol of the documented API's own programs.

A client sends questions; each is answered with frames that name its conversation: any number of
IN-PROGRESS with a piece of text, then COMPLETED, FAILED with a message, or STOPPED. Conversations
are remembered while the socket is open. Files and saved material are not supported: a question with
some is refused.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from modeldeck.core.api.http.messages import WebSocket
from modeldeck.core.api.http.writer import PeerGone
from modeldeck.core.api.inference import asking
from modeldeck.core.api.pieces.model import is_cloud
from modeldeck.core.errors import Busy, DeckError, InvalidRequest, NotFound
from modeldeck.core.schema import GenerateRequest, Message, Model, Requester

if TYPE_CHECKING:
    from modeldeck.core.service.deck import Deck

CONVERSATIONS = 16
"""Conversations that one socket remembers; the least recently used is dropped."""
TURNS = 64
"""Messages remembered of each conversation."""
AT_ONCE = 4
"""Open questions of one socket at most."""

Status = Literal["IN-PROGRESS", "COMPLETED", "FAILED", "STOPPED", "RESET"]

MATERIAL = ("paths", "seeds", "assets", "messages", "anchors", "temporal", "sources", "summaries")
"""Fields of a question for files and saved material, which are not supported."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PiecesQuestion:
    """A question, from either of the two fields that clients use."""

    query: str
    model: str | None = None
    """The id of a model."""
    paths: Any = None
    seeds: Any = None
    assets: Any = None
    messages: Any = None
    anchors: Any = None
    temporal: Any = None
    sources: Any = None
    summaries: Any = None
    relevant: Any = None

    def refuse_material(self) -> None:
        """Raise InvalidRequest for a question with files or saved material."""
        given = [name for name in MATERIAL if _holds(getattr(self, name))]
        given += ["relevant"] if _holds(self.relevant) else []
        if given:
            raise InvalidRequest(
                f"modeldeck reads no files or saved material ({', '.join(given)}).",
                "Put the text itself into the question.",
            )


def _holds(part: Any) -> bool:
    """Whether a field has any content."""
    return bool(part.get("iterable", True)) if isinstance(part, dict) else bool(part)


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamInput:
    """A message of a client."""

    relevance: PiecesQuestion | None = None
    question: PiecesQuestion | None = None
    conversation: str | None = None
    request: str | None = None
    """The client's id of the request, returned in every frame."""
    stop: bool | None = None
    reset: bool | None = None


class ChatSocket:
    """The questions of one socket."""

    def __init__(self, deck: Deck, socket: WebSocket, requester: Requester) -> None:
        self._deck = deck
        self._socket = socket
        self._requester = requester
        self._tasks: dict[asyncio.Task[None], StreamInput] = {}
        self._turns: OrderedDict[str, tuple[Message, ...]] = OrderedDict()

    async def run(self) -> None:
        """Receive and answer questions until the client is gone, which cancels all answers."""
        async with asyncio.TaskGroup() as group:
            while True:
                asked = await self._receive()
                if asked is None:
                    continue
                if asked.stop or asked.reset:
                    await self._stop(asked)
                elif len(self._tasks) >= AT_ONCE:
                    await self._fail(asked, Busy(f"{AT_ONCE} questions are open already."))
                else:
                    task = group.create_task(self._answer(asked))
                    self._tasks[task] = asked
                    task.add_done_callback(self._tasks.pop)

    async def _receive(self) -> StreamInput | None:
        """The next message, with a conversation id; None for an invalid one."""
        message = await self._socket.receive()
        try:
            asked = msgspec.json.decode(message, type=StreamInput)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            unclear = StreamInput(conversation=str(uuid.uuid4()))
            await self._fail(unclear, InvalidRequest(f"That is not a question: {error}."))
            return None
        return replace(asked, conversation=asked.conversation or str(uuid.uuid4()))

    async def _stop(self, asked: StreamInput) -> None:
        """Cancel the answers of a conversation; all answers if its id is unknown."""
        named = [t for t, of in self._tasks.items() if of.conversation == asked.conversation]
        for task in named or list(self._tasks):
            task.cancel()
        if asked.reset:
            self._turns.clear()
        await self._send(asked, "RESET" if asked.reset else "STOPPED")

    async def _answer(self, asked: StreamInput) -> None:
        try:
            await self._relay(asked)
        except DeckError as error:
            await self._fail(asked, error)

    async def _relay(self, asked: StreamInput) -> None:
        """Generate the answer and send it in pieces."""
        question = asked.relevance or asked.question
        if question is None:
            raise InvalidRequest("There is no question.", "Send relevance.query.")
        question.refuse_material()
        key = asked.conversation or ""
        turns = (*self._turns.get(key, ()), Message(role="user", content=question.query))
        model = self._model(question.model)
        text = ""
        async with asking(
            self._deck, model, GenerateRequest(messages=turns), self._requester
        ) as reply:
            async for chunk in reply.chunks:
                if chunk.text:
                    text += chunk.text
                    await self._send(asked, "IN-PROGRESS", question=_piece(chunk.text))
        self._remember(key, (*turns, Message(role="assistant", content=text)))
        await self._send(asked, "COMPLETED")

    def _model(self, key: str | None) -> Model:
        """The requested model. Raises NotFound."""
        model = self._deck.state.models.get(key or "")
        if model is None or is_cloud(model):
            raise NotFound(
                "There is no model behind this entry: it is a placeholder, or gone.",
                "Choose one that is downloaded (`pieces list models`).",
            )
        return model

    def _remember(self, key: str, turns: tuple[Message, ...]) -> None:
        self._turns[key] = turns[-TURNS:]
        self._turns.move_to_end(key)
        if len(self._turns) > CONVERSATIONS:
            self._turns.popitem(last=False)

    async def _fail(self, asked: StreamInput, error: DeckError) -> None:
        await self._send(asked, "FAILED", errorMessage=str(error), statusCode=error.status)

    async def _send(self, asked: StreamInput, status: Status, **more: Any) -> None:
        frame = {"conversation": asked.conversation, "status": status, **more}
        if asked.request is not None:
            frame["request"] = asked.request
        await self._socket.send(msgspec.json.encode(frame))


def _piece(text: str) -> dict[str, Any]:
    return {"answers": {"iterable": [{"score": 1, "text": text}]}}


async def answer_questions(deck: Deck, socket: WebSocket, requester: Requester) -> None:
    """Answer the questions of an accepted socket until its client is gone."""
    try:
        await ChatSocket(deck, socket, requester).run()
    except* PeerGone:
        pass
