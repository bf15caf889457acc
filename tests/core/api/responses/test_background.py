"""Answers in the background: told at once, made without their client, followed, cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import httpx
import pytest

from modeldeck.core.api.responses import create
from modeldeck.core.errors import EngineFailed
from modeldeck.core.schema import Chunk, Media
from modeldeck.core.service.answers import running
from tests.core.api.conftest import PATIENCE_S
from tests.core.api.responses.scripted import HELLO, ScriptedDeck, events_of
from tests.core.api.responses.sdk_types import checked_answer, checked_event

Until = Callable[[Callable[[], bool]], Awaitable[None]]
Start = Callable[..., Awaitable[tuple[ScriptedDeck, httpx.AsyncClient]]]

ASK: dict[str, Any] = {"model": "b", "input": "hello", "background": True}


async def begun(client: httpx.AsyncClient, **fields: Any) -> Any:
    """The answer to a request, which is told before it is made."""
    answer = await client.post("/responses", json={**ASK, **fields})
    assert answer.status_code == 200, answer.text
    checked_answer(answer.content)
    return answer.json()


async def ended(deck: ScriptedDeck, client: httpx.AsyncClient, id: str, until: Until) -> Any:
    """The answer at its end."""
    found = deck.answers.running(id, "")
    assert found is not None
    await until(lambda: found.ended)
    answer = await client.get(f"/responses/{id}")
    checked_answer(answer.content)
    return answer.json()


async def test_it_is_told_at_once_and_made_without_its_client(
    start: Start, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "RESUME_S", 0.0)
    go = asyncio.Event()
    deck, client = await start([go, *HELLO])
    told = await begun(client)
    assert (told["status"], told["background"], told["output"]) == ("queued", True, [])
    await until(lambda: bool(deck.asked))
    path = f"/responses/{told['id']}"
    await until_status(client, path, "in_progress")
    items = (await client.get(f"{path}/input_items")).json()
    assert items["data"][0]["content"][0]["text"] == "hello"
    go.set()
    whole = await ended(deck, client, told["id"], until)
    assert (whole["status"], whole["output"][0]["content"][0]["text"]) == ("completed", "Hello")
    assert whole["usage"]["total_tokens"] == 5


async def test_it_is_queued_until_its_turn_has_come(start: Start, until: Until) -> None:
    go = asyncio.Event()
    deck, client = await start([go, *HELLO])
    deck.turn_came = asyncio.Event()
    id = (await begun(client))["id"]
    await until(lambda: bool(deck.asked))
    assert (await client.get(f"/responses/{id}")).json()["status"] == "queued"
    following = asyncio.create_task(client.get(f"/responses/{id}", params={"stream": "true"}))
    deck.turn_came.set()
    await until_status(client, f"/responses/{id}", "in_progress")
    go.set()
    kinds = [
        event["type"].removeprefix("response.") for event in events_of((await following).content)
    ]
    assert kinds[:4] == ["created", "queued", "in_progress", "output_item.added"]
    assert kinds.count("in_progress") == 1


async def until_status(client: httpx.AsyncClient, path: str, status: str) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while (await client.get(path)).json()["status"] != status:  # noqa: ASYNC110  # over HTTP
            await asyncio.sleep(0.01)


async def test_its_stream_is_picked_up_at_any_event(
    start: Start, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "RESUME_S", 0.0)
    go = asyncio.Event()
    deck, client = await start([Chunk(text="Hel"), go, *HELLO[1:]])
    id = ""
    async with client.stream("POST", "/responses", json={**ASK, "stream": True}) as answer:
        async for line in answer.aiter_lines():
            if line.startswith("data: "):
                id = events_of(b"event: x\n" + line.encode() + b"\n\n")[0]["response"]["id"]
                break
    go.set()
    whole = await ended(deck, client, id, until)
    query = {"stream": "true"}
    events = events_of((await client.get(f"/responses/{id}", params=query)).content)
    for event in events:
        checked_event(event)
    assert [event["type"].removeprefix("response.") for event in events[:4]] == [
        *("created", "queued", "in_progress", "output_item.added"),
    ]
    assert events[-1]["response"] == whole
    for number in range(len(events)):
        rest = await client.get(f"/responses/{id}", params={**query, "starting_after": str(number)})
        assert events_of(rest.content) == events[number + 1 :]


async def test_it_is_followed_from_its_beginning_although_it_was_not_streamed(
    start: Start,
) -> None:
    go = asyncio.Event()
    _, client = await start([Chunk(text="Hel"), go, *HELLO[1:]])
    id = (await begun(client))["id"]
    following = asyncio.create_task(client.get(f"/responses/{id}", params={"stream": "true"}))
    go.set()
    events = events_of((await following).content)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert events[-1]["type"] == "response.completed"


async def test_asking_the_model_again_leaves_it_alone(start: Start, until: Until) -> None:
    go = asyncio.Event()
    deck, client = await start([go, *HELLO], HELLO)
    id = (await begun(client))["id"]
    await until(lambda: bool(deck.asked))
    await client.post("/responses", json={**ASK, "background": False})
    go.set()
    assert (await ended(deck, client, id, until))["status"] == "completed"


async def test_it_is_cancelled_as_often_as_is_wanted_and_forgotten(
    start: Start, until: Until
) -> None:
    deck, client = await start([Chunk(text="a"), asyncio.Event()], HELLO, [asyncio.Event()])
    id = (await begun(client))["id"]
    await until(lambda: bool(deck.asked))
    cancelled = await client.post(f"/responses/{id}/cancel")
    assert cancelled.json()["status"] == "cancelled"
    await asyncio.wait_for(deck.left.wait(), PATIENCE_S)
    assert (await client.post(f"/responses/{id}/cancel")).json() == cancelled.json()
    done = (await begun(client))["id"]
    whole = await ended(deck, client, done, until)
    assert (await client.post(f"/responses/{done}/cancel")).json() == whole
    deck.left.clear()
    dropped = (await begun(client))["id"]
    await until(lambda: len(deck.asked) == 3)
    assert (await client.delete(f"/responses/{dropped}")).status_code == 200
    await asyncio.wait_for(deck.left.wait(), PATIENCE_S)
    assert (await client.get(f"/responses/{dropped}")).status_code == 404


async def test_it_fails_as_a_stream_does(start: Start, until: Until) -> None:
    deck, client = await start([EngineFailed("It broke.", "Ask again.")])
    told = await ended(deck, client, (await begun(client))["id"], until)
    assert (told["status"], told["error"]["code"]) == ("failed", "server_error")
    assert told["error"]["message"] == "It broke. Ask again."


async def test_a_bug_leaves_none_queued_for_ever(start: Start, until: Until) -> None:
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # it is meant to come there
    deck, client = await start([None])
    told = await ended(deck, client, (await begun(client))["id"], until)
    assert (told["status"], told["error"]["code"]) == ("failed", "server_error")
    assert "NoneType" not in told["error"]["message"]


async def test_images_count_among_what_is_held(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def with_image(deck: object, model: object, asked: Any, requester: object) -> Any:
        image = Media(kind="image", data=bytes(100), at=0)
        return replace(asked, messages=(replace(asked.messages[0], media=(image,)),))

    monkeypatch.setattr(create, "with_media", with_image)
    monkeypatch.setattr(running, "MOST_HELD_BYTES", 199)
    _, client = await start([asyncio.Event()])
    await begun(client)
    refused = await client.post("/responses", json=ASK)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "busy")


async def test_what_is_wrong_is_told_before(start: Start) -> None:
    deck, client = await start()
    wrong: list[dict[str, Any]] = [
        {"input": []},
        {"store": False},
        {"previous_response_id": "resp_none"},
    ]
    for fields in wrong:
        refused = await client.post("/responses", json={**ASK, **fields})
        assert refused.status_code == 400
    assert deck.asked == []


async def test_nothing_goes_on_from_it_before_its_end(start: Start, until: Until) -> None:
    go = asyncio.Event()
    deck, client = await start([go, *HELLO], HELLO)
    id = (await begun(client))["id"]
    next_one = {**ASK, "background": False, "previous_response_id": id}
    refused = await client.post("/responses", json=next_one)
    error = refused.json()["error"]
    assert (refused.status_code, error["code"]) == (400, "previous_response_not_found")
    assert "not at its end" in error["message"]
    await until(lambda: bool(deck.asked))
    go.set()
    await ended(deck, client, id, until)
    assert (await client.post("/responses", json=next_one)).status_code == 200
    assert [m.content for m in deck.asked[-1].messages] == ["hello", "Hello", "hello"]


@pytest.mark.parametrize(
    ("limit", "value"),
    [("MOST_IN_BACKGROUND", 1), ("MOST_OF_ONE_OWNER", 1), ("MOST_HELD_BYTES", 50)],
)
async def test_there_is_a_limit_to_how_many_and_how_large_they_are(
    start: Start, until: Until, monkeypatch: pytest.MonkeyPatch, limit: str, value: int
) -> None:
    monkeypatch.setattr(running, limit, value)
    deck, client = await start([asyncio.Event()], HELLO)
    id = (await begun(client, input="a" * 20))["id"]
    refused = await client.post("/responses", json={**ASK, "input": "a" * 20})
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "busy")
    assert (await client.post("/responses", json={**ASK, "background": False})).status_code == 200
    await until(lambda: bool(deck.asked))
    await client.post(f"/responses/{id}/cancel")
    await begun(client, input="a" * 20)


async def test_the_end_of_the_core_ends_it(start: Start, until: Until) -> None:
    deck, client = await start([Chunk(text="a"), asyncio.Event()])
    id = (await begun(client))["id"]
    await until(lambda: bool(deck.asked))
    await deck.background.close(grace_s=0)
    assert deck.left.is_set()
    assert (await client.get(f"/responses/{id}")).json()["status"] == "cancelled"
