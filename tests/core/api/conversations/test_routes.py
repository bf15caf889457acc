"""Conversations over HTTP, on a service that answers as it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from openai.types.conversations import (
    Conversation,
    ConversationDeletedResource,
    ConversationItemList,
)

from modeldeck.core.errors import EngineFailed
from modeldeck.core.schema import Chunk, ToolCall
from modeldeck.core.service.answers.conversations import ConversationStore
from tests.core.api.responses.scripted import HELLO, ScriptedDeck, events_of
from tests.core.api.responses.sdk_types import checked_answer

Until = Callable[[Callable[[], bool]], Awaitable[None]]
Start = Callable[..., Awaitable[tuple[ScriptedDeck, httpx.AsyncClient]]]

ASK: dict[str, Any] = {"model": "b", "input": "hello"}
ITEMS: list[dict[str, Any]] = [
    {"role": "developer", "content": "Be brief."},
    {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]},
    {"role": "assistant", "content": "ho"},
]


async def made(client: httpx.AsyncClient, **fields: Any) -> str:
    """Id of a new conversation."""
    answer = await client.post("/conversations", json=fields)
    assert answer.status_code == 200, answer.text
    id: str = Conversation.model_validate_json(answer.content).id
    return id


async def texts(client: httpx.AsyncClient, id: str) -> list[str]:
    """Texts of the messages of a conversation, each item checked as the client's own type."""
    answer = await client.get(f"/conversations/{id}/items", params={"order": "asc"})
    assert answer.status_code == 200, answer.text
    if answer.json()["data"]:
        ConversationItemList.model_validate_json(answer.content)
    return [
        item["content"][0]["text"] for item in answer.json()["data"] if item["type"] == "message"
    ]


async def test_one_is_begun_described_and_forgotten(start: Start) -> None:
    _, client = await start()
    id = await made(client, items=ITEMS, metadata={"a": "b"})
    assert id.startswith("conv_")
    path = f"/conversations/{id}"
    told = (await client.get(path)).json()
    assert (told["id"], told["object"], told["metadata"]) == (id, "conversation", {"a": "b"})
    told = (await client.post(path, json={"metadata": {"c": "d"}})).json()
    assert told["metadata"] == (await client.get(path)).json()["metadata"] == {"c": "d"}
    assert (await client.post(path, json={})).status_code == 400
    assert await texts(client, id) == ["Be brief.", "hi", "ho"]
    forgotten = await client.delete(path)
    ConversationDeletedResource.model_validate_json(forgotten.content)
    assert forgotten.json() == {"id": id, "object": "conversation.deleted", "deleted": True}
    for method, way in (("GET", ""), ("DELETE", ""), ("GET", "/items"), ("GET", "/items/msg_1")):
        gone = await client.request(method, path + way)
        assert (gone.status_code, gone.json()["error"]["code"]) == (404, "conversation_not_found")
    assert await texts(client, await made(client)) == []


async def test_items_are_added_read_and_removed(start: Start) -> None:
    _, client = await start()
    id = await made(client)
    path = f"/conversations/{id}/items"
    added = await client.post(path, json={"items": ITEMS})
    ConversationItemList.model_validate_json(added.content)
    ids = [item["id"] for item in added.json()["data"]]
    assert (added.json()["first_id"], added.json()["last_id"]) == (ids[0], ids[-1])
    page = (await client.get(path, params={"limit": "2"})).json()
    assert ([item["id"] for item in page["data"]], page["has_more"]) == (ids[:0:-1], True)
    one = (await client.get(f"{path}/{ids[1]}")).json()
    assert (one["role"], one["content"]) == ("user", [{"type": "input_text", "text": "hi"}])
    left = await client.delete(f"{path}/{ids[1]}")
    assert Conversation.model_validate_json(left.content).id == id
    assert (await client.delete(f"{path}/{ids[1]}")).status_code == 404
    assert (await client.get(f"{path}/{ids[1]}")).status_code == 404
    assert await texts(client, id) == ["Be brief.", "ho"]


@pytest.mark.parametrize(
    ("items", "words"),
    [
        ([{"type": "dream", "text": "x"}], "items[0]"),
        ([ITEMS[0], {"type": "item_reference", "id": "msg_none"}], "items[1] refers"),
        ([ITEMS[0]] * 21, "items"),
        ([{**ITEMS[0], "id": "msg_1"}] * 2, "already"),
        (None, "items"),
    ],
)
async def test_items_that_no_model_could_be_given_are_refused(
    start: Start, items: Any, words: str
) -> None:
    _, client = await start()
    id = await made(client)
    refused = await client.post(f"/conversations/{id}/items", json={"items": items})
    assert refused.status_code == 400
    assert words in refused.json()["error"]["message"]
    assert await texts(client, id) == []
    if items is not None:
        assert (await client.post("/conversations", json={"items": items})).status_code == 400


async def test_metadata_has_a_size(start: Start) -> None:
    _, client = await start()
    for wrong in ({"k" * 65: "v"}, {"k": "v" * 513}, {str(n): "v" for n in range(17)}):
        assert (await client.post("/conversations", json={"metadata": wrong})).status_code == 400


@pytest.mark.parametrize("store", [True, False])
@pytest.mark.parametrize("stream", [True, False])
async def test_answers_go_on_from_it_and_are_added(start: Start, store: bool, stream: bool) -> None:
    call = ToolCall(id="call_1", name="add", arguments="{}")
    first = (Chunk(thought="hm"), Chunk(finish_reason="tool_calls", tool_calls=(call,)))
    deck, client = await start(first, HELLO)
    id = await made(client, items=ITEMS[:1])
    more = {"store": store, "stream": stream, "tools": [{"type": "function", "name": "add"}]}
    answer = await client.post("/responses", json={**ASK, **more, "conversation": id})
    assert answer.status_code == 200
    output = {"type": "function_call_output", "call_id": "call_1", "output": "3"}
    asked = {**ASK, **more, "input": [output], "conversation": {"id": id}}
    answer = await client.post("/responses", json=asked)
    told = events_of(answer.content)[-1]["response"] if stream else answer.json()
    assert (told["conversation"], told["previous_response_id"]) == ({"id": id}, None)
    if not stream:
        checked_answer(answer.content)
    assert [(m.role, m.content, m.thought) for m in deck.asked[-1].messages] == [
        ("system", "Be brief.", ""),
        ("user", "hello", ""),
        ("assistant", "", "hm"),
        ("tool", "3", ""),
    ]
    items = (await client.get(f"/conversations/{id}/items", params={"order": "asc"})).json()
    assert [item["type"] for item in items["data"]] == [
        *("message", "message", "reasoning", "function_call", "function_call_output", "message"),
    ]
    assert items["data"][-1] == told["output"][0]
    assert await texts(client, id) == ["Be brief.", "hello", "Hello"]
    counted = await client.post("/responses/input_tokens", json={**ASK, "conversation": id})
    assert counted.json()["input_tokens"] == 6


async def test_what_was_not_answered_is_not_added(start: Start, until: Until) -> None:
    deck, client = await start([EngineFailed("It broke.")], [Chunk(text="a"), asyncio.Event()])
    id = await made(client)
    asked = {**ASK, "conversation": id}
    assert (await client.post("/responses", json=asked)).status_code == 500
    begun = (await client.post("/responses", json={**asked, "background": True})).json()
    await until(lambda: len(deck.asked) == 2)
    await client.post(f"/responses/{begun['id']}/cancel")
    assert await texts(client, id) == []


async def test_an_answer_in_the_background_is_added_at_its_end(start: Start, until: Until) -> None:
    go = asyncio.Event()
    deck, client = await start([go, *HELLO])
    id = await made(client)
    asked = {**ASK, "conversation": id, "background": True}
    begun = (await client.post("/responses", json=asked)).json()
    assert begun["conversation"] == {"id": id}
    assert await texts(client, id) == []
    go.set()
    found = deck.answers.running(begun["id"], "")
    assert found is not None
    await until(lambda: found.ended)
    assert await texts(client, id) == ["hello", "Hello"]


async def test_a_conversation_that_goes_while_it_is_answered_stays_away(
    start: Start, until: Until
) -> None:
    go = asyncio.Event()
    deck, client = await start([go, *HELLO])
    id = await made(client)
    asking = asyncio.create_task(client.post("/responses", json={**ASK, "conversation": id}))
    await until(lambda: bool(deck.asked))
    await client.delete(f"/conversations/{id}")
    go.set()
    assert (await asking).status_code == 200
    assert (await client.get(f"/conversations/{id}")).status_code == 404
    assert deck.answers.conversations.total_bytes == 0


async def test_answers_in_it_are_not_gone_on_from_by_their_own_id(start: Start) -> None:
    _, client = await start(HELLO)
    id = await made(client)
    answer = (await client.post("/responses", json={**ASK, "conversation": id})).json()
    asked = {**ASK, "previous_response_id": answer["id"]}
    refused = (await client.post("/responses", json=asked)).json()["error"]
    assert (refused["param"], id in refused["message"]) == ("previous_response_id", True)
    asked["conversation"] = id
    assert (await client.post("/responses", json=asked)).status_code == 400
    unknown = await client.post("/responses", json={**ASK, "conversation": "conv_none"})
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "conversation_not_found")
    again = {**answer["output"][0]}
    refused = await client.post("/responses", json={**ASK, "input": [again], "conversation": id})
    assert (refused.status_code, "already" in refused.text) == (400, True)


async def test_one_belongs_to_its_token(start: Start) -> None:
    deck, client = await start(require_token=True)
    mine, other = ({"Authorization": f"Bearer {name}"} for name in ("mine", "other"))
    begun = await client.post("/conversations", json={"items": ITEMS}, headers=mine)
    id = begun.json()["id"]
    path = f"/conversations/{id}"
    item = (await client.get(f"{path}/items", headers=mine)).json()["first_id"]
    for method, way, body in (
        ("GET", "", None),
        ("POST", "", {"metadata": {}}),
        ("DELETE", "", None),
        ("GET", "/items", None),
        ("POST", "/items", {"items": ITEMS}),
        ("GET", f"/items/{item}", None),
        ("DELETE", f"/items/{item}", None),
    ):
        refused = await client.request(method, path + way, json=body, headers=other)
        assert refused.status_code == 404, (method, way)
    refused = await client.post("/responses", json={**ASK, "conversation": id}, headers=other)
    assert (refused.status_code, deck.asked) == (404, [])
    assert len((await client.get(f"{path}/items", headers=mine)).json()["data"]) == 3


async def test_it_is_refused_where_it_would_grow_too_large(start: Start) -> None:
    deck, client = await start()
    deck.answers.conversations = ConversationStore(largest_bytes=3000)
    id = await made(client)
    large = {**ASK, "input": "x" * 4000, "conversation": id}
    refused = await client.post("/responses", json=large)
    assert (refused.status_code, "begin a new one" in refused.text) == (400, True)
    assert deck.asked == []


async def test_an_answer_that_finds_no_room_is_given_and_the_next_is_refused(start: Start) -> None:
    long = (Chunk(text="x" * 4000), Chunk(finish_reason="stop"))
    deck, client = await start(long, HELLO)
    deck.answers.conversations = ConversationStore(largest_bytes=3000)
    id = await made(client, items=ITEMS[:1])
    asked = {**ASK, "conversation": id}
    answer = await client.post("/responses", json=asked)
    assert answer.json()["output"][0]["content"][0]["text"] == "x" * 4000
    assert await texts(client, id) == ["Be brief."]
    refused = await client.post("/responses", json=asked)
    assert (refused.status_code, "is full" in refused.text, len(deck.asked)) == (400, True, 1)
    items = (await client.get(f"/conversations/{id}/items")).json()["data"]
    await client.delete(f"/conversations/{id}/items/{items[0]['id']}")
    assert (await client.post("/responses", json=asked)).status_code == 200
    assert await texts(client, id) == ["hello", "Hello"]


async def test_its_items_can_be_referred_to(start: Start) -> None:
    deck, client = await start(HELLO)
    id = await made(client, items=ITEMS[1:2])
    answer = await client.post("/responses", json={**ASK, "store": False, "conversation": id})
    assert answer.status_code == 200
    items = (await client.get(f"/conversations/{id}/items", params={"order": "asc"})).json()
    given = [{"type": "item_reference", "id": item["id"]} for item in items["data"]]
    answer = await client.post("/responses", json={**ASK, "input": given})
    assert answer.status_code == 200, answer.text
    assert [m.content for m in deck.asked[-1].messages] == ["hi", "hello", "Hello"]
    other = await made(client, items=given)
    assert await texts(client, other) == ["hi", "hello", "Hello"]
