"""How long an answer lives: its line breaks, its client comes back, it is kept and forgotten."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest

from modeldeck.core.api import inference
from modeldeck.core.errors import Busy, ContextExceeded, EngineFailed
from modeldeck.core.schema import Chunk, GenerateRequest, ToolCall
from modeldeck.core.service.answers import running
from tests.core.api.conftest import PATIENCE_S
from tests.core.api.responses.scripted import HELLO, Piece, ScriptedDeck, events_of

Until = Callable[[Callable[[], bool]], Awaitable[None]]
Start = Callable[..., Awaitable[tuple[ScriptedDeck, httpx.AsyncClient]]]

ASK: dict[str, Any] = {"model": "b", "input": "hello"}


async def post(client: httpx.AsyncClient, path: str = "/responses", **fields: Any) -> Any:
    answer = await client.post(path, json={**ASK, **fields})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def stream(client: httpx.AsyncClient, id: str, after: int | None = None) -> bytes:
    query = {"stream": "true"} | ({} if after is None else {"starting_after": str(after)})
    answer = await client.get(f"/responses/{id}", params=query)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    return answer.content


async def first_id(lines: AsyncIterator[str]) -> str:
    """The id in the first event of a stream."""
    async for line in lines:
        if line.startswith("data: "):
            return str(json.loads(line.removeprefix("data: "))["response"]["id"])
    raise AssertionError("no event came")


async def test_a_stream_whose_line_broke_is_picked_up_at_any_event(start: Start) -> None:
    go = asyncio.Event()
    pieces: list[Piece] = [Chunk(thought="hm"), Chunk(text="Hel"), go, *HELLO[1:]]
    deck, client = await start(pieces)
    async with client.stream("POST", "/responses", json={**ASK, "stream": True}) as answer:
        id = await first_id(answer.aiter_lines())
    running_now = (await client.get(f"/responses/{id}")).json()
    assert running_now["status"] == "in_progress"
    assert running_now["id"] == id
    go.set()
    whole = await stream(client, id)
    events = events_of(whole)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert (events[0]["type"], events[-1]["type"]) == ("response.created", "response.completed")
    assert events[-1]["response"]["output"][1]["content"][0]["text"] == "Hello"
    for number in range(len(events)):
        assert events_of(await stream(client, id, number)) == events[number + 1 :]
    for wrong, words in (("999", "no event"), ("-5", "below 0"), ("x", "whole number")):
        query = {"stream": "true", "starting_after": wrong}
        refused = await client.get(f"/responses/{id}", params=query)
        assert refused.status_code == 400
        assert words in refused.json()["error"]["message"]
    kept = (await client.get(f"/responses/{id}")).json()
    assert kept == events[-1]["response"]
    assert len(deck.asked) == 1


async def test_two_clients_follow_one_answer(start: Start) -> None:
    go = asyncio.Event()
    _, client = await start([Chunk(text="Hel"), go, *HELLO[1:]])
    async with client.stream("POST", "/responses", json={**ASK, "stream": True}) as answer:
        lines = answer.aiter_lines()
        id = await first_id(lines)
        other = asyncio.create_task(stream(client, id))
        go.set()
        rest = [line async for line in lines]
    assert events_of(await other)[-1]["type"] == "response.completed"
    assert any("response.completed" in line for line in rest)


async def test_the_numbers_are_known_for_a_short_while_only(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "LOG_KEPT_S", 0.0)
    _, client = await start()
    answer = await client.post("/responses", json={**ASK, "stream": True})
    id = events_of(answer.content)[0]["response"]["id"]
    query = {"stream": "true", "starting_after": "3"}
    refused = await client.get(f"/responses/{id}", params=query)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "starting_after")
    told = events_of(await stream(client, id))
    assert told[-1]["response"] == (await client.get(f"/responses/{id}")).json()


async def test_an_answer_made_whole_can_be_followed_as_well(start: Start) -> None:
    _, client = await start()
    whole = await post(client)
    told = events_of(await stream(client, whole["id"]))
    assert told[-1]["response"] == whole
    assert events_of(await stream(client, whole["id"], 2)) == told[3:]


async def test_an_answer_that_is_not_stored_ends_with_its_line(start: Start) -> None:
    deck, client = await start([Chunk(text="a"), asyncio.Event()])
    asked = {**ASK, "stream": True, "store": False}
    async with client.stream("POST", "/responses", json=asked) as answer:
        id = await first_id(answer.aiter_lines())
    await asyncio.wait_for(deck.left.wait(), PATIENCE_S)
    assert (await client.get(f"/responses/{id}")).status_code == 404


async def test_a_whole_answer_ends_with_its_line(start: Start, until: Until) -> None:
    deck, client = await start([asyncio.Event()])
    waiting = asyncio.create_task(client.post("/responses", json=ASK))
    await until(lambda: bool(deck.asked))
    waiting.cancel()
    await asyncio.wait_for(deck.left.wait(), PATIENCE_S)


async def test_a_stored_one_ends_when_nobody_comes_back(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "RESUME_S", 0.01)
    deck, client = await start([Chunk(text="a"), asyncio.Event()])
    async with client.stream("POST", "/responses", json={**ASK, "stream": True}) as answer:
        id = await first_id(answer.aiter_lines())
    await asyncio.wait_for(deck.left.wait(), PATIENCE_S)
    events = events_of(await stream(client, id))
    assert events[-1]["response"]["status"] == "cancelled"
    kept = (await client.get(f"/responses/{id}")).json()
    assert kept["output"][0]["content"][0]["text"] == "a"


async def test_a_request_that_is_sent_again_does_not_wait_for_the_first(
    start: Start, until: Until
) -> None:
    deck, client = await start([Chunk(text="a"), asyncio.Event()], HELLO)
    async with client.stream("POST", "/responses", json={**ASK, "stream": True}) as answer:
        id = await first_id(answer.aiter_lines())
    found = deck.answers.running(id, "")
    assert found is not None
    await until(lambda: found.is_abandoned)
    await post(client)
    await asyncio.wait_for(deck.left.wait(), PATIENCE_S)
    await until(lambda: found.ended)
    assert (await client.get(f"/responses/{id}")).json()["status"] == "cancelled"


async def test_a_running_answer_is_cancelled_or_forgotten(start: Start) -> None:
    _, client = await start([Chunk(text="a"), asyncio.Event()])
    for method, path in (("POST", "/cancel"), ("DELETE", "")):
        async with client.stream("POST", "/responses", json={**ASK, "stream": True}) as answer:
            lines = answer.aiter_lines()
            id = await first_id(lines)
            done = await client.request(method, f"/responses/{id}{path}")
            assert done.status_code == 200
            rest = [line async for line in lines]
        assert '"status":"cancelled"' in next(line for line in reversed(rest) if line)
        if path:
            assert done.json()["status"] == "cancelled"
            assert (await client.post(f"/responses/{id}/cancel")).status_code == 400
        else:
            assert done.json() == {"id": id, "object": "response.deleted", "deleted": True}
            assert (await client.get(f"/responses/{id}")).status_code == 404


async def test_an_answer_belongs_to_its_token(start: Start) -> None:
    _, client = await start(require_token=True)
    mine, other = ({"Authorization": f"Bearer {name}"} for name in ("mine", "other"))
    answer = (await client.post("/responses", json=ASK, headers=mine)).json()
    path = f"/responses/{answer['id']}"
    for method, way in (("GET", ""), ("GET", "/input_items"), ("POST", "/cancel"), ("DELETE", "")):
        refused = await client.request(method, path + way, headers=other)
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, "response_not_found")
    asked = {**ASK, "previous_response_id": answer["id"]}
    refused = await client.post("/responses", json=asked, headers=other)
    assert refused.json()["error"]["code"] == "previous_response_not_found"
    reference = {"type": "item_reference", "id": answer["output"][0]["id"]}
    refused = await client.post("/responses", json={**ASK, "input": [reference]}, headers=other)
    assert refused.status_code == 400
    assert (await client.get(path, headers=mine)).json() == answer
    assert (await client.delete(path, headers=mine)).status_code == 200


async def test_a_conversation_goes_on_by_its_id(start: Start) -> None:
    call = ToolCall(id="call_1", name="add", arguments="{}")
    first = (Chunk(thought="hm"), Chunk(finish_reason="tool_calls", tool_calls=(call,)))
    deck, client = await start(first, HELLO)
    tools = [{"type": "function", "name": "add"}]
    one = await post(client, instructions="Be brief.", tools=tools)
    output = {"type": "function_call_output", "call_id": "call_1", "output": "3"}
    two = await post(client, input=[output], previous_response_id=one["id"], tools=tools)
    assert two["previous_response_id"] == one["id"]
    reference = {"type": "item_reference", "id": two["output"][0]["id"]}
    await post(client, input=[{"role": "user", "content": "a"}, reference])
    await post(client, input="more", previous_response_id=two["id"])
    last = deck.asked[-1].messages
    assert [(m.role, m.content, m.thought) for m in last] == [
        ("user", "hello", ""),
        ("assistant", "", "hm"),
        ("tool", "3", ""),
        ("assistant", "Hello", ""),
        ("user", "more", ""),
    ]
    assert last[1].tool_calls == (call,)
    assert deck.asked[2].messages[-1].content == "Hello"
    # What went before stays, although its first answer is forgotten.
    assert (await client.delete(f"/responses/{one['id']}")).status_code == 200
    await post(client, input="more", previous_response_id=two["id"])
    assert deck.asked[-1].messages == last
    refused = await client.post("/responses", json={**ASK, "previous_response_id": one["id"]})
    error = refused.json()["error"]
    assert (refused.status_code, error["code"], error["param"]) == (
        *(400, "previous_response_not_found", "previous_response_id"),
    )


async def test_fields_that_a_chat_refuses_are_refused(start: Start) -> None:
    deck, client = await start()
    for fields in ({"ignore_eos": True}, {"min_tokens": 5}, {"lora": [{"id": 0}]}):
        refused = await client.post("/responses", json={**ASK, **fields})
        assert (refused.status_code, deck.asked) == (400, [])
    await post(client, ignore_eos=False, min_tokens=0)


async def test_references_are_kept_as_what_they_refer_to(start: Start) -> None:
    """Vercel's AI SDK refers to every earlier item of the conversation in each request."""
    deck, client = await start(HELLO)
    reference = {"type": "item_reference", "id": (await post(client))["output"][0]["id"]}
    two = await post(client, input=[reference, {"role": "user", "content": "a"}])
    listed = (
        await client.get(f"/responses/{two['id']}/input_items", params={"order": "asc"})
    ).json()
    assert [item["type"] for item in listed["data"]] == ["message", "message"]
    await post(client, input=[{"id": reference["id"]}, {"role": "user", "content": "b"}])
    assert [m.content for m in deck.asked[-1].messages] == ["Hello", "b"]
    await post(client, input="c", previous_response_id=two["id"])
    assert [m.content for m in deck.asked[-1].messages] == ["Hello", "a", "Hello", "c"]


async def test_the_input_is_listed_in_pages(start: Start) -> None:
    _, client = await start()
    items = [{"role": "user", "content": str(number)} for number in range(5)]
    answer = await post(client, input=items)
    path = f"/responses/{answer['id']}/input_items"
    newest = (await client.get(path)).json()
    assert [item["content"][0]["text"] for item in newest["data"]] == ["4", "3", "2", "1", "0"]
    assert (newest["has_more"], newest["last_id"]) == (False, newest["data"][-1]["id"])
    page = (await client.get(path, params={"order": "asc", "limit": "2"})).json()
    assert ([item["content"][0]["text"] for item in page["data"]], page["has_more"]) == (
        ["0", "1"],
        True,
    )
    query = {"order": "asc", "limit": "2", "after": page["last_id"]}
    page = (await client.get(path, params=query)).json()
    assert [item["content"][0]["text"] for item in page["data"]] == ["2", "3"]
    for wrong in ({"order": "up"}, {"limit": "0"}, {"limit": "101"}, {"after": "x"}):
        assert (await client.get(path, params=wrong)).status_code == 400


async def test_an_empty_input_loads_and_asks_nothing(start: Start) -> None:
    deck, client = await start()
    answer = await post(client, input="", max_output_tokens=1)
    assert (deck.loads, deck.asked) == (1, [])
    assert answer["status"] == "completed"
    assert answer["output"][0]["content"][0]["text"] == ""
    listed = (await client.get(f"/responses/{answer['id']}/input_items")).json()
    assert (listed["data"], listed["first_id"]) == ([], None)


async def test_signs_of_life_before_the_first_item(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference, "HEAD_S", 0.02)
    monkeypatch.setattr(inference, "PING_S", 0.02)
    go, later = asyncio.Event(), asyncio.Event()
    _, client = await start([go, Chunk(text="Hel"), later, *HELLO[1:]])
    kinds: list[str] = []
    async with client.stream("POST", "/responses", json={**ASK, "stream": True}) as answer:
        async for line in answer.aiter_lines():
            if line.startswith("event: "):
                kinds.append(line.removeprefix("event: "))
                if kinds.count("response.in_progress") == 3:
                    go.set()
                if kinds[-1] == "response.output_text.delta":
                    asyncio.get_running_loop().call_later(0.2, later.set)
    assert kinds[0] == "response.created"
    items = kinds.index("response.output_item.added")
    assert set(kinds[1:items]) == {"response.in_progress"}
    assert "response.in_progress" not in kinds[items:]
    assert kinds[-1] == "response.completed"


async def test_errors_that_are_known_early_have_a_status(start: Start) -> None:
    for error, status, code in (
        (ContextExceeded("Too long."), 400, "context_length_exceeded"),
        (Busy("Full."), 503, "busy"),
    ):
        _, client = await start([error])
        for streams in (False, True):
            answer = await client.post("/responses", json={**ASK, "stream": streams})
            assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


async def test_later_errors_are_the_end_of_the_stream(start: Start) -> None:
    _, client = await start([Chunk(text="Hel"), EngineFailed("It broke.", "Ask again.")])
    answer = await client.post("/responses", json={**ASK, "stream": True})
    last = events_of(answer.content)[-1]
    assert last["type"] == "response.failed"
    assert last["response"]["error"] == {
        "code": "server_error",
        "message": "It broke. Ask again.",
    }
    kept = (await client.get(f"/responses/{last['response']['id']}")).json()
    assert (kept["status"], kept["output"][0]["content"][0]["text"]) == ("failed", "Hel")


async def test_a_conversation_that_is_too_long_is_shortened_where_that_is_wanted(
    start: Start,
) -> None:
    def answerer(request: GenerateRequest) -> Any:
        size = sum(len(message.content) for message in request.messages)
        return [ContextExceeded.of(size, 1000)] if size > 1000 else HELLO

    deck, client = await start(answerer=answerer)
    items = [{"role": "user", "content": str(number) * 300} for number in range(9)]
    for streams in (False, True):
        answer = await client.post(
            "/responses",
            json={**ASK, "input": items, "truncation": "auto", "stream": streams, "top_k": 1},
        )
        assert answer.status_code == 200
        left = [message.content[0] for message in deck.asked[-1].messages]
        assert left == ["6", "7", "8"]
    one = {**ASK, "input": "x" * 2000, "truncation": "auto"}
    assert (await client.post("/responses", json=one)).status_code == 400
    assert (await client.post("/responses", json={**ASK, "input": items})).status_code == 400


async def test_tokens_are_counted_without_an_answer(start: Start) -> None:
    deck, client = await start()
    told = await post(client, "/responses/input_tokens", instructions="Be brief.")
    assert told == {"object": "response.input_tokens", "input_tokens": 2}
    both = {**ASK, "conversation": "conv_1", "previous_response_id": "resp_1"}
    refused = await client.post("/responses/input_tokens", json=both)
    assert refused.status_code == 400
    assert "exclude each other" in refused.text
    assert deck.asked == []


async def test_what_is_not_there_is_told_in_openai_s_form(start: Start) -> None:
    _, client = await start()
    for method, path in (
        ("GET", "/responses/resp_none"),
        ("GET", "/responses/resp_none?stream=true"),
        ("DELETE", "/responses/resp_none"),
        ("POST", "/responses/resp_none/cancel"),
        ("GET", "/responses/resp_none/input_items"),
        ("POST", "/responses/compact"),
    ):
        answer = await client.request(method, path)
        assert answer.status_code == 404, path
        assert set(answer.json()["error"]) >= {"message", "type", "param", "code"}
