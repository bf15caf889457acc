"""The documented API's chat over a WebSocket, in the form that its programs use.

A client sends questions; each is answered by frames that all name their conversation: any number of
IN-PROGRESS with a piece of text, then COMPLETED, FAILED with words, or STOPPED. Conversations are
remembered for as long as the socket is open. Files and saved material are not read: a question that
comes with some is refused in words.
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
from modeldeck.core.schema import GenerateRequest, Message, Model

if TYPE_CHECKING:
    from modeldeck.core.service.deck import Deck

CONVERSATIONS = 16
"""That one socket remembers; the one that was used longest ago goes first."""
TURNS = 64
"""Messages of a conversation that are remembered."""
AT_ONCE = 4
"""Questions of one socket that are answered or wait."""

Status = Literal["IN-PROGRESS", "COMPLETED", "FAILED", "STOPPED", "RESET"]

MATERIAL = ("paths", "seeds", "assets", "messages", "anchors", "temporal", "sources", "summaries")
"""What a question may come with, and what is not read here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PiecesQuestion:
    """A question, in either of the two places that clients put it."""

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
        """Raise InvalidRequest where the question leans on something that is not read here."""
        given = [name for name in MATERIAL if _holds(getattr(self, name))]
        given += ["relevant"] if _holds(self.relevant) else []
        if given:
            raise InvalidRequest(
                f"modeldeck reads no files or saved material ({', '.join(given)}).",
                "Put the text itself into the question.",
            )


def _holds(part: Any) -> bool:
    """Whether there is anything in it."""
    return bool(part.get("iterable", True)) if isinstance(part, dict) else bool(part)


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamInput:
    """What a client sends."""

    relevance: PiecesQuestion | None = None
    question: PiecesQuestion | None = None
    conversation: str | None = None
    request: str | None = None
    """An id of the client's own, handed back in every frame."""
    stop: bool | None = None
    reset: bool | None = None


class ChatSocket:
    """The questions of one socket."""

    def __init__(self, deck: Deck, socket: WebSocket, origin: str) -> None:
        self._deck = deck
        self._socket = socket
        self._origin = origin
        self._tasks: dict[asyncio.Task[None], StreamInput] = {}
        self._turns: OrderedDict[str, tuple[Message, ...]] = OrderedDict()

    async def run(self) -> None:
        """Hear and answer until the socket is gone; then nothing is answered any more."""
        async with asyncio.TaskGroup() as group:
            while True:
                asked = await self._hear()
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

    async def _hear(self) -> StreamInput | None:
        """The next message, with a conversation; None where it is not understood."""
        message = await self._socket.receive()
        try:
            asked = msgspec.json.decode(message, type=StreamInput)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            unclear = StreamInput(conversation=str(uuid.uuid4()))
            await self._fail(unclear, InvalidRequest(f"That is not a question: {error}."))
            return None
        return replace(asked, conversation=asked.conversation or str(uuid.uuid4()))

    async def _stop(self, asked: StreamInput) -> None:
        """End the answers of a conversation, or all where none is named by a known id."""
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
        """Ask the model, and pass its answer on."""
        question = asked.relevance or asked.question
        if question is None:
            raise InvalidRequest("There is no question.", "Send relevance.query.")
        question.refuse_material()
        key = asked.conversation or ""
        turns = (*self._turns.get(key, ()), Message(role="user", content=question.query))
        model = self._model(question.model)
        text = ""
        async with asking(
            self._deck, model, GenerateRequest(messages=turns), self._origin
        ) as reply:
            async for chunk in reply.chunks:
                if chunk.text:
                    text += chunk.text
                    await self._send(asked, "IN-PROGRESS", question=_piece(chunk.text))
        self._remember(key, (*turns, Message(role="assistant", content=text)))
        await self._send(asked, "COMPLETED")

    def _model(self, key: str | None) -> Model:
        """The model that is asked. Raises NotFound."""
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


async def answer_questions(deck: Deck, socket: WebSocket, origin: str) -> None:
    """Answer what comes over an accepted socket, until it is gone."""
    try:
        await ChatSocket(deck, socket, origin).run()
    except* PeerGone:
        pass
