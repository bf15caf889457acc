"""OpenAI's own client and its agents, against a real core and a real engine."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import httpx
import openai
import pydantic
import pytest
from openai import AsyncOpenAI

from modeldeck.core.demo.model_writer import expected
from tests.contract.old_clients import installed
from tests.support.process import CoreProcess

TINY = "deck/tiny-GGUF:Q8_0"
PATIENCE_S = 60
AGENTS = "openai-agents==0.24.0"
"""Needs websockets below 17, and we need 17."""

WEATHER: dict[str, Any] = {
    "type": "function",
    "name": "weather",
    "description": "What the weather is like in a city.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 10}},
        "required": ["city"],
    },
    "strict": None,
}


class Place(pydantic.BaseModel):
    city: Literal["Oslo", "Bergen"]


PLACE = {**Place.model_json_schema(), "additionalProperties": False}


@pytest.fixture(scope="module")
def stocked(shared_core: CoreProcess) -> str:
    """The address of a core that has the tiny model."""
    with httpx.Client(base_url=f"{shared_core.url}/api", timeout=PATIENCE_S) as http:
        answer = http.post("/pull", json={"model": TINY, "stream": False})
        assert answer.json() == {"status": "success"}
    return shared_core.url


@pytest.fixture
async def client(stocked: str) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{stocked}/v1", api_key="none", max_retries=0) as client:
        yield client


ASK: dict[str, Any] = {"model": TINY, "temperature": 0}


async def test_an_answer_whole_and_streamed(client: AsyncOpenAI) -> None:
    whole = await client.responses.create(**ASK, input="count", metadata={"k": "v"})
    assert (whole.output_text, whole.status) == (expected("count"), "completed")
    assert (whole.model, whole.metadata) == (TINY, {"k": "v"})
    assert whole.usage is not None
    assert whole.usage.output_tokens == 11

    async with client.responses.stream(**ASK, input="count") as stream:
        text = [e.delta async for e in stream if e.type == "response.output_text.delta"]
        final = await stream.get_final_response()
    assert "".join(text) == final.output_text == expected("count")
    assert final.usage is not None
    assert final.usage.total_tokens == whole.usage.total_tokens
    assert whole.usage.input_tokens_details.cached_tokens == 0
    assert final.usage.input_tokens_details.cached_tokens > 0

    events = [e async for e in await client.responses.create(**ASK, input="count", stream=True)]
    assert [e.sequence_number for e in events] == list(range(len(events)))
    cut = await client.responses.create(**ASK, input="count", max_output_tokens=2)
    assert (cut.status, cut.output_text) == ("incomplete", "One two")
    assert cut.incomplete_details is not None
    assert cut.incomplete_details.reason == "max_output_tokens"
    likely = await client.responses.create(
        **ASK, input="count", top_logprobs=2, include=["message.output_text.logprobs"]
    )
    part: Any = likely.output[0]
    tokens = part.content[0].logprobs
    assert "".join(token.token for token in tokens) == expected("count")
    assert all(len(token.top_logprobs) == 2 for token in tokens)


async def test_answers_have_the_form_that_was_asked_for(client: AsyncOpenAI) -> None:
    parsed = await client.responses.parse(**ASK, input="count", text_format=Place)
    assert isinstance(parsed.output_parsed, Place)
    async with client.responses.stream(**ASK, input="count", text_format=Place) as stream:
        final = await stream.get_final_response()
    assert final.output_parsed == parsed.output_parsed
    form: Any = {"format": {"type": "json_object"}}
    free = await client.responses.create(**ASK, input="json please", text=form)
    assert json.loads(free.output_text) == {"answer": "yes"}


async def test_tools_are_called_and_their_outputs_taken(client: AsyncOpenAI) -> None:
    first = await client.responses.create(**ASK, input="Will it rain?", tools=[WEATHER])
    (call,) = first.output
    assert call.type == "function_call"
    assert (call.name, json.loads(call.arguments)) == ("weather", {"city": "Paris"})
    output: Any = {
        "type": "function_call_output",
        "call_id": call.call_id,
        "output": "count the clouds",
    }
    asked: Any = [{"role": "user", "content": "Will it rain?"}, *first.output, output]
    sent = await client.responses.create(**ASK, input=asked, tools=[WEATHER])
    kept = await client.responses.create(
        **ASK, input=[output], previous_response_id=first.id, tools=[WEATHER]
    )
    assert sent.output_text == kept.output_text == expected("count")
    assert kept.previous_response_id == first.id

    async with client.responses.stream(
        **ASK, input="count", tools=[WEATHER], tool_choice="required"
    ) as stream:
        kind = "response.function_call_arguments.delta"
        deltas = [e.delta async for e in stream if e.type == kind]
        final = await stream.get_final_response()
    forced: Any = final.output[0]
    assert "".join(deltas) == forced.arguments
    assert isinstance(json.loads(forced.arguments)["city"], str)

    own = await client.responses.create(
        **ASK, input="Will it rain?", tools=[{"type": "custom", "name": "weather"}]
    )
    (custom,) = own.output
    assert custom.type == "custom_tool_call"
    assert (custom.name, custom.input) == ("weather", '{"city": "Paris"}')

    held = {**WEATHER, "parameters": PLACE, "strict": True}
    strict = await client.responses.create(**ASK, input="Will it rain?", tools=[held])
    (place,) = [item for item in strict.output if item.type == "function_call"]
    assert json.loads(place.arguments)["city"] in ("Oslo", "Bergen"), "by itself it says Paris"
    regex: Any = {"type": "grammar", "syntax": "regex", "definition": "[a-z]{2,9}"}
    told = await client.responses.create(
        **ASK,
        input="Will it rain?",
        tools=[{"type": "custom", "name": "weather", "format": regex}],
    )
    (typed,) = [item for item in told.output if item.type == "custom_tool_call"]
    assert re.fullmatch("[a-z]{2,9}", typed.input)

    form: Any = {"format": {"type": "json_schema", "name": "p", "schema": PLACE}}
    called = await client.responses.create(**ASK, input="Will it rain?", tools=[WEATHER], text=form)
    assert [item.type for item in called.output] == ["function_call"]
    free = await client.responses.create(**ASK, input="count", tools=[WEATHER], text=form)
    assert json.loads(free.output_text)["city"] in ("Oslo", "Bergen")


async def test_thoughts_are_items_of_their_own(client: AsyncOpenAI) -> None:
    whole = await client.responses.create(
        **ASK, input="think", include=["reasoning.encrypted_content"]
    )
    thought, message = whole.output
    assert thought.type == "reasoning"
    assert message.type == "message"
    assert [part.text for part in thought.summary] == ["hmm"]
    assert [part.text for part in thought.content or ()] == ["hmm"]
    assert whole.output_text == "done"
    assert whole.usage is not None
    assert whole.usage.output_tokens_details.reasoning_tokens > 0
    async with client.responses.stream(**ASK, input="think") as stream:
        kind = "response.reasoning_summary_text.delta"
        deltas = [event.delta async for event in stream if event.type == kind]
        final = await stream.get_final_response()
    assert "".join(deltas) == "hmm"
    assert final.output_text == "done"
    turns: Any = [{"role": "user", "content": "think"}, thought.model_copy(), message]
    again = await client.responses.create(
        **ASK, input=[*turns, {"role": "user", "content": "count"}]
    )
    assert again.output_text == expected("count")


async def test_answers_are_kept_until_they_are_deleted(client: AsyncOpenAI) -> None:
    made = await client.responses.create(**ASK, input="count")
    assert await client.responses.retrieve(made.id) == made
    items = [item async for item in client.responses.input_items.list(made.id)]
    assert [item.type for item in items] == ["message"]
    stream = await client.responses.retrieve(made.id, stream=True, starting_after=1)
    events = [event async for event in stream]
    assert [event.sequence_number for event in events] == list(range(2, 2 + len(events)))
    assert events[-1].type == "response.completed"
    with pytest.raises(openai.BadRequestError, match="at its end"):
        await client.responses.cancel(made.id)
    await client.responses.delete(made.id)
    for gone in (client.responses.retrieve, client.responses.delete):
        with pytest.raises(openai.NotFoundError):
            await gone(made.id)
    with pytest.raises(openai.BadRequestError) as caught:
        await client.responses.create(**ASK, input="x", previous_response_id=made.id)
    error = caught.value
    assert (error.code, error.param) == ("previous_response_not_found", "previous_response_id")
    unkept = await client.responses.create(**ASK, input="count", store=False)
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(unkept.id)


@pytest.fixture
def roomy(stocked: str) -> Iterator[None]:
    """The model is loaded with a context that an answer without an end fills in half a minute."""
    with httpx.Client(base_url=f"{stocked}/deck", timeout=PATIENCE_S) as http:

        def load(context_length: int) -> None:
            asked = {"context_length": context_length, "reload": True, "wait": True}
            asked["end_answers"] = True  # one that was cancelled may not have ended yet
            loaded = http.post(f"/models/{quote(TINY, safe='')}/load", json=asked)
            assert loaded.status_code == 200, loaded.text

        load(1 << 16)
        yield
        load(4096)


async def begun_with(stream: Any, words: str) -> tuple[str, int]:
    """The id of a streamed answer and the number of its event, once it begins with these words."""
    id = text = ""
    async for event in stream:
        if event.type == "response.created":
            id = event.response.id
        if event.type == "response.output_text.delta":
            text += event.delta
            if text.startswith(words):
                return id, event.sequence_number
    raise AssertionError(text)


@pytest.mark.usefixtures("roomy")
async def test_an_answer_that_never_ends_is_cancelled(client: AsyncOpenAI) -> None:
    stream = await client.responses.create(**ASK, input="loop", stream=True)
    id, _ = await begun_with(stream, "Tick tock")
    cancelled = await client.responses.cancel(id)
    assert cancelled.status == "cancelled"
    assert cancelled.output_text.startswith("Tick tock")
    await stream.close()


@pytest.mark.usefixtures("roomy")
async def test_an_answer_in_the_background_is_polled_followed_and_cancelled(
    client: AsyncOpenAI,
) -> None:
    begun = await client.responses.create(**ASK, input="count", background=True)
    assert (begun.status, begun.background) == ("queued", True)
    stream = await client.responses.retrieve(begun.id, stream=True)
    events = [event async for event in stream]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [event.type for event in events[:3]] == [
        *("response.created", "response.queued", "response.in_progress"),
    ]
    whole = await client.responses.retrieve(begun.id)
    assert (whole.status, whole.output_text) == ("completed", expected("count"))
    assert await client.responses.cancel(begun.id) == whole

    stream = await client.responses.create(**ASK, input="loop", background=True, stream=True)
    id, number = await begun_with(stream, "Tick tock")
    await stream.close()
    rest = await client.responses.retrieve(id, stream=True, starting_after=number)
    assert (await anext(aiter(rest))).sequence_number == number + 1
    await rest.close()
    cancelled = await client.responses.cancel(id)
    assert cancelled.status == "cancelled"
    assert cancelled.output_text.startswith("Tick tock")


async def test_a_conversation_is_kept_and_gone_on_from(client: AsyncOpenAI) -> None:
    made = await client.conversations.create(
        metadata={"topic": "numbers"}, items=[{"role": "user", "content": "Be brief."}]
    )
    assert made.metadata == {"topic": "numbers"}
    told = await client.responses.create(**ASK, input="count", conversation=made.id)
    assert told.conversation is not None
    assert (told.conversation.id, told.output_text) == (made.id, expected("count"))
    async with client.responses.stream(
        **ASK, input="llama", conversation={"id": made.id}, store=False
    ) as stream:
        final = await stream.get_final_response()
    assert final.output_text == expected("llama")
    pages = client.conversations.items.list(made.id, order="asc", limit=2)
    items: list[Any] = [item async for item in pages]
    assert [item.content[0].text for item in items] == [
        *("Be brief.", "count", expected("count"), "llama", expected("llama")),
    ]
    assert await client.conversations.items.retrieve(items[1].id, conversation_id=made.id)
    await client.conversations.items.delete(items[0].id, conversation_id=made.id)
    added = await client.conversations.items.create(
        made.id, items=[{"role": "user", "content": "more"}]
    )
    assert added.first_id == added.last_id == added.data[0].id
    changed = await client.conversations.update(made.id, metadata={"topic": "words"})
    assert await client.conversations.retrieve(made.id) == changed
    deleted = await client.conversations.delete(made.id)
    assert deleted.deleted
    with pytest.raises(openai.NotFoundError) as gone:
        await client.responses.create(**ASK, input="count", conversation=made.id)
    assert gone.value.code == "conversation_not_found"


async def why_refused(client: AsyncOpenAI, *, stream: bool) -> str:
    """The code of the refusal of too long an input; of a late one, the stream has it."""
    try:
        answer: Any = await client.responses.create(**ASK, input="count " * 9000, stream=stream)
    except openai.BadRequestError as error:
        return str(error.code)
    assert stream, "it was answered"
    last = [event async for event in answer][-1]
    return str(last.response.error.code)


async def test_what_cannot_be_done_is_an_error_with_its_code(client: AsyncOpenAI) -> None:
    counted = await client.responses.input_tokens.count(model=TINY, input="count")
    assert counted.input_tokens == 4
    for stream in (False, True):
        assert await why_refused(client, stream=stream) == "context_length_exceeded"
        with pytest.raises(openai.NotFoundError) as unknown:
            await client.responses.create(model="none", input="x", stream=stream)
        assert unknown.value.code == "model_not_found"
    short = await client.responses.create(
        **ASK,
        input=[{"role": "user", "content": "zzz " * 800}] * 3
        + [{"role": "user", "content": "count"}],
        truncation="auto",
    )
    assert short.output_text == expected("count")


AGENT_PROGRAM = """
import asyncio, json, os, sys
from typing import Literal
from agents import Agent, ModelSettings, OpenAIResponsesModel, Runner, function_tool
from agents import OpenAIConversationsSession, set_tracing_disabled
from openai import AsyncOpenAI
from pydantic import BaseModel

set_tracing_disabled(True)
url, name = sys.argv[1:]
client = AsyncOpenAI(base_url=url + "/v1", api_key="none", max_retries=0)
model = OpenAIResponsesModel(model=name, openai_client=client)
calm = ModelSettings(temperature=0)
told = {}

@function_tool
def weather(city: str) -> str:
    "The weather in a city."
    told["city"] = city
    return "count the clouds"

class Place(BaseModel):
    city: Literal["Oslo", "Bergen"]

async def main():
    plain = Agent(name="a", instructions="Be brief.", model=model, model_settings=calm)
    one = await Runner.run(plain, "count")
    told["text"] = one.final_output
    told["again"] = (
        await Runner.run(plain, one.to_input_list() + [{"role": "user", "content": "llama"}])
    ).final_output
    told["kept"] = (
        await Runner.run(plain, "json", previous_response_id=one.last_response_id)
    ).final_output
    session = OpenAIConversationsSession(openai_client=client)
    await Runner.run(plain, "count", session=session)
    told["session"] = (await Runner.run(plain, "llama", session=session)).final_output
    told["turns"] = len(await session.get_items())
    await session.pop_item()
    await session.clear_session()
    tools = Agent(name="a", model=model, model_settings=calm, tools=[weather])
    told["tool"] = (await Runner.run(tools, "Will it rain?")).final_output
    typed = Agent(name="a", model=model, model_settings=calm, output_type=Place)
    told["typed"] = (await Runner.run(typed, "count")).final_output.city
    streamed = Runner.run_streamed(plain, "count")
    told["events"] = [
        e.data.type async for e in streamed.stream_events() if e.type == "raw_response_event"
    ][-1]
    other = Agent(name="b", model=model, model_settings=calm, handoff_description="The other.")
    must = ModelSettings(temperature=0, tool_choice="required")
    first = Agent(name="a", model=model, handoffs=[other], model_settings=must)
    told["agent"] = (await Runner.run(first, "count")).last_agent.name

asyncio.run(main())
print(json.dumps(told))
"""


async def test_openai_s_agents_work_by_default(stocked: str, tmp_path: Path) -> None:
    folder = await asyncio.to_thread(installed, "openai-agents", AGENTS)
    program = tmp_path / "agents_round.py"
    program.write_text(AGENT_PROGRAM)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(program), stocked, TINY),
        env={**os.environ, "PYTHONPATH": str(folder), "OPENAI_AGENTS_DISABLE_TRACING": "1"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    told = json.loads(out)
    assert told["typed"] in ("Oslo", "Bergen")
    assert {name: value for name, value in told.items() if name != "typed"} == {
        "text": expected("count"),
        "again": expected("llama"),
        "kept": expected("json"),
        "session": expected("llama"),
        "turns": 4,
        "city": "Paris",
        "tool": expected("count"),
        "events": "response.completed",
        "agent": "b",
    }
