"""Several answers to one request: how many are made at once, and that they end together."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest

from modeldeck.core.api.http.limits import ConnectionLimits
from modeldeck.core.api.side_by_side import AHEAD, answers_to, collected_answers
from modeldeck.core.errors import Busy, DeckError, EngineFailed
from modeldeck.core.schema import Chunk, GenerateRequest, LoadOptions, Model, Requester
from modeldeck.core.service.inference.answers import ModelReply
from tests.core.api.conftest import PATIENCE_S
from tests.core.api.responses.scripted import ScriptedDeck

ME = Requester(dialect="openai")


class SlotDeck(ScriptedDeck):
    """A deck whose instance has slots; an answer's second piece waits for `go`."""

    def __init__(self, parallel: int) -> None:
        super().__init__()
        self.parallel = parallel
        self.go = asyncio.Event()
        self.running: set[int] = set()
        self.most = 0
        self.error: DeckError | None = None
        self.wanted = parallel
        self.full = asyncio.Event()
        """Set when as many answers run as are wanted, at least once."""

    @asynccontextmanager
    async def answer(
        self,
        model: Model,
        request: GenerateRequest,
        requester: Requester,
        *,
        options: LoadOptions | None = None,
        keep_alive_s: float | None = None,
    ) -> AsyncIterator[ModelReply]:
        number = len(self.asked)
        self.asked.append(request)
        self.running.add(number)
        self.most = max(self.most, len(self.running))
        try:
            async with aclosing(self._numbered(number)) as chunks:
                yield ModelReply(chunks=chunks, load_s=0, parallel=self.parallel)
        finally:
            self.running.discard(number)

    async def _numbered(self, number: int) -> AsyncGenerator[Chunk, None]:
        yield Chunk(text=f"{number}:")
        if len(self.running) == self.wanted:
            self.full.set()
        await self.go.wait()
        if self.error is not None and number == 1:
            raise self.error
        yield Chunk(text="end")
        yield Chunk(finish_reason="stop", prompt_tokens=10, completion_tokens=2)


def asked(count: int) -> list[GenerateRequest]:
    return [GenerateRequest(prompt="x", seed=number) for number in range(count)]


async def test_as_many_are_made_at_once_as_there_are_slots() -> None:
    for slots, count, most in ((1, 3, 1), (3, 2, 2), (3, 7, 3)):
        deck: Any = SlotDeck(slots)
        deck.wanted = most
        work = asyncio.create_task(
            collected_answers(deck, deck.models.find("b"), asked(count), ME, None)
        )
        async with asyncio.timeout(PATIENCE_S):
            await deck.full.wait()
        deck.go.set()
        found = await work
        assert [chunk.text for chunk in found] == [f"{n}:end" for n in range(count)]
        assert [request.seed for request in deck.asked] == list(range(count))
        assert (deck.most, deck.running) == (most, set())


async def test_an_error_or_leaving_ends_all() -> None:
    deck: Any = SlotDeck(3)
    deck.error = EngineFailed("It died.")
    deck.go.set()
    with pytest.raises(EngineFailed, match="It died"):
        await collected_answers(deck, deck.models.find("b"), asked(4), ME, None)
    assert deck.running == set()

    deck = SlotDeck(3)
    async with aclosing(answers_to(deck, deck.models.find("b"), asked(9), ME, None)) as pieces:
        await anext(pieces)
        async with asyncio.timeout(PATIENCE_S):
            await deck.full.wait()
    assert (deck.running, len(deck.asked)) == (set(), 3)

    scripted: Any = ScriptedDeck((Busy("Full."),))
    with pytest.raises(Busy):
        await collected_answers(scripted, scripted.model("b"), asked(2), ME, None)


async def test_an_error_at_the_end_of_an_answer_that_is_left_holds_nothing_up() -> None:
    class FailingDeck(SlotDeck):
        async def _numbered(self, number: int) -> AsyncGenerator[Chunk, None]:
            try:
                for _ in range(AHEAD + 1):
                    yield Chunk(text="x")
                self.full.set()
                await self.go.wait()
            finally:
                raise EngineFailed("It died just then.")

    deck: Any = FailingDeck(1)
    pieces = answers_to(deck, deck.models.find("b"), asked(2), ME, None)
    async with asyncio.timeout(PATIENCE_S):
        await anext(pieces)  # the queue is full again when the answer waits
        await deck.full.wait()
        await pieces.aclose()
    assert deck.running == set()


@pytest.mark.parametrize(
    ("path", "fields", "text"),
    [
        (
            "chat/completions",
            {"messages": [{"role": "user", "content": "x"}]},
            lambda choice: choice["delta"].get("content", ""),
        ),
        ("completions", {"prompt": "x"}, lambda choice: choice["text"]),
    ],
)
async def test_pieces_of_several_answers_come_with_their_index(
    serve: Callable[..., Any],
    path: str,
    fields: dict[str, Any],
    text: Callable[[dict[str, Any]], str],
) -> None:
    deck = SlotDeck(2)
    deck.go.set()
    served = await serve(deck=deck, limits=ConnectionLimits())
    given = {"model": "b", "n": 3, "stream": True, "stream_options": {"include_usage": True}}
    body = json.dumps({**given, **fields}).encode()
    answer = await served.ask(
        b"POST /v1/%b HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (path.encode(), len(body), body)
    )
    *lines, done = answer.body.decode().strip().split("\n\n")
    assert done == "data: [DONE]"
    *parts, last = [json.loads(line.removeprefix("data: ")) for line in lines]
    found = {0: "", 1: "", 2: ""}
    ends = []
    for part in parts:
        (choice,) = part["choices"]
        found[choice["index"]] += text(choice)
        if choice["finish_reason"]:
            ends.append(choice["index"])
    assert found == {0: "0:end", 1: "1:end", 2: "2:end"}
    assert sorted(ends) == [0, 1, 2]
    assert (last["usage"]["prompt_tokens"], last["usage"]["completion_tokens"]) == (10, 6)
