"""Ollama's API, driven by Ollama's own client against a real core and real engines."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from ollama import AsyncClient, ResponseError

from modeldeck.core.api.http.messages import convert
from modeldeck.core.api.ollama.options import with_options_inside
from modeldeck.core.api.ollama.schema import OllamaChatBody, conversation
from modeldeck.core.demo.model_writer import expected
from modeldeck.core.errors import InvalidRequest
from modeldeck.core.formats.unique_names import spellings
from tests.support.process import CoreProcess

TINY = "hf.co/deck/tiny-GGUF:Q8_0"
EMBED = "hf.co/deck/tiny-embed-GGUF:F16"
CALM: dict[str, Any] = {"temperature": 0}
PATIENCE_S = 60


@pytest.fixture
async def client(shared_core: CoreProcess) -> AsyncIterator[AsyncClient]:
    """Ollama's client, on a core that this module shares; it starts empty."""
    async with AsyncClient(host=shared_core.url, timeout=PATIENCE_S) as client:
        yield client


def said(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


async def test_it_is_found_and_told_its_version(shared_core: CoreProcess) -> None:
    async with httpx.AsyncClient(base_url=shared_core.url, timeout=PATIENCE_S) as http:
        assert (await http.get("/")).text == "Ollama is running"
        assert (await http.head("/")).status_code == 200
        assert (await http.get("/api/version")).json()["version"]


async def test_a_model_s_whole_life(client: AsyncClient, shared_core: CoreProcess) -> None:
    assert (await client.list()).models == []
    with pytest.raises(ResponseError) as missing:
        await client.chat(TINY, said("count"))
    assert missing.value.status_code == 404  # what tells clients to pull

    lines = [line async for line in await client.pull(TINY, stream=True)]
    assert [line.status for line in lines][:1] == ["pulling manifest"]
    assert lines[-1].status == "success"
    layers = [line for line in lines if line.digest]
    assert len({line.digest for line in layers}) == 1
    assert all(0 <= (line.completed or 0) <= (line.total or 0) for line in layers)
    again = await client.pull("deck/tiny-GGUF:Q8_0")
    assert again.status == "success"

    (listed,) = (await client.list()).models
    assert listed.model == TINY
    assert listed.size
    assert listed.modified_at is not None
    assert (datetime.now(UTC) - listed.modified_at).total_seconds() < 3600
    assert listed.details is not None
    assert (listed.details.family, listed.details.quantization_level) == ("llama", "Q8_0")

    shown = await client.show(TINY)
    assert shown.capabilities is not None
    assert "completion" in shown.capabilities
    assert shown.modelinfo is not None
    assert shown.modelinfo["general.architecture"] == "llama"
    assert shown.modelinfo["llama.context_length"] == 4096
    assert "messages" in (shown.template or "")

    whole = await client.chat(TINY, said("count"), options=CALM, keep_alive=-1)
    assert whole.message.content == expected("count")
    assert (whole.done, whole.done_reason) == (True, "stop")
    assert whole.eval_count
    assert whole.total_duration
    assert whole.total_duration >= (whole.load_duration or 0) > 0

    (running,) = (await client.ps()).models
    assert (running.name, running.context_length) == (TINY, 4096)
    told = (await client._client.get("/api/ps")).json()["models"][0]
    assert (told["parallel"], told["cache_tokens"]) == (4, 4096)
    assert running.expires_at is not None
    assert running.expires_at.year > 2100

    pieces = [p async for p in await client.chat(TINY, said("llama"), options=CALM, stream=True)]
    assert "".join(piece.message.content or "" for piece in pieces) == expected("llama")
    assert [piece.done for piece in pieces] == [False] * (len(pieces) - 1) + [True]

    await client.delete(TINY)
    assert (await client.list()).models == []
    assert (await client.ps()).models == []
    with pytest.raises(ResponseError) as gone:
        await client.delete(TINY)
    assert gone.value.status_code == 404


async def test_prompts_options_and_keep_alive(client: AsyncClient) -> None:
    await client.pull(TINY)
    loaded = await client.generate(TINY, options={"num_ctx": 512}, keep_alive="5m")
    assert (loaded.done_reason, loaded.response) == ("load", "")
    (running,) = (await client.ps()).models
    assert running.context_length == 512
    assert running.expires_at is not None
    assert 200 < (running.expires_at - datetime.now(UTC)).total_seconds() <= 300

    answer = await client.generate(TINY, "count", system="Be brief.", options=CALM)
    assert answer.response == expected("count")
    short = await client.generate(TINY, "count", options={**CALM, "num_predict": 2})
    assert (short.response, short.done_reason) == ("One two", "length")
    raw = await client.generate(TINY, "count", raw=True, options={**CALM, "num_predict": 2})
    assert raw.prompt_eval_count == 1
    pieces = [p async for p in await client.generate(TINY, "count", options=CALM, stream=True)]
    assert "".join(piece.response or "" for piece in pieces) == expected("count")
    told = await client.generate(TINY, "count", options=CALM, logprobs=True, top_logprobs=2)
    assert "".join(token.token for token in told.logprobs or ()) == expected("count")

    ended = await client.generate(TINY, keep_alive=0)
    assert ended.done_reason == "unload"
    assert (await client.ps()).models == []
    assert (await client.chat(TINY, [])).done_reason == "load"
    assert (await client.chat(TINY, [], keep_alive=0)).done_reason == "unload"


async def test_tools_and_schemas(client: AsyncClient) -> None:
    await client.pull(TINY)
    schema = {"type": "object", "properties": {"yes": {"type": "boolean"}}, "required": ["yes"]}
    for form in ("json", schema):
        answer = await client.chat(
            TINY,
            said("count"),
            format=form,
            options={**CALM, "num_predict": 100},
        )
        assert isinstance(json.loads(answer.message.content or ""), dict)

    def weather(city: str) -> str:
        """What the weather is like in a city."""
        return f"count the clouds of {city}"

    assert (await client.show(TINY)).capabilities == ["completion", "tools"]
    turns: list[Any] = said("Will it rain?")
    offered = await client.chat(TINY, turns, tools=[weather], options=CALM)
    (call,) = offered.message.tool_calls or ()
    assert (call.function.name, call.function.arguments) == ("weather", {"city": "Paris"})
    pieces = [
        piece
        async for piece in await client.chat(
            TINY, turns, tools=[weather], options=CALM, stream=True
        )
    ]
    streamed = [call for piece in pieces for call in piece.message.tool_calls or ()]
    assert [call.function.arguments for call in streamed] == [{"city": "Paris"}]
    assert pieces[-1].done_reason == "stop"

    told = {"role": "tool", "tool_name": "weather", "content": weather("Paris")}
    after = await client.chat(TINY, [*turns, offered.message, told], options=CALM)
    assert after.message.content == expected("count")


async def test_a_request_of_ollama_ai_provider(
    client: AsyncClient, shared_core: CoreProcess
) -> None:
    """As ollama-ai-provider-v2 3.6.0 sends it: what Ollama has in `options` stands beside it."""
    await client.pull(TINY)
    city = {"type": "string", "enum": ["Oslo"]}
    schema = {"type": "object", "properties": {"city": city}, "required": ["city"]}
    asked = {"model": TINY, "think": False, "stream": False, "temperature": 0.0, "top_p": 0.9}
    tools = [{"type": "function", "function": {"name": "clock", "parameters": schema}}]
    forced = {**asked, "max_output_tokens": 600, "tools": tools, "tool_choice": "required"}
    async with httpx.AsyncClient(base_url=f"{shared_core.url}/api", timeout=60) as http:
        called = (await http.post("/chat", json={**forced, "messages": said("count")})).json()
        cut = {**asked, "max_output_tokens": 3, "messages": said("count")}
        short = (await http.post("/chat", json=cut)).json()
    (call,) = called["message"]["tool_calls"]
    assert call["function"] == {"name": "clock", "arguments": {"city": "Oslo"}, "index": 0}
    assert (short["done_reason"], short["eval_count"]) == ("length", 3)


async def test_embeddings(client: AsyncClient) -> None:
    await client.pull("hf.co/deck/tiny-embed-GGUF")
    shown = await client.show(EMBED)
    assert shown.capabilities == ["embedding"]
    both = await client.embed(EMBED, ["count one", "zzz"])
    assert [math.hypot(*vector) for vector in both.embeddings] == pytest.approx([1, 1])
    assert both.prompt_eval_count == 8
    one = await client.embed(EMBED, "count one", dimensions=256)
    assert len(one.embeddings[0]) == 256
    assert math.hypot(*one.embeddings[0]) == pytest.approx(1)
    old = await client.embeddings(EMBED, "count one")
    # What shares a batch moves the last digits.
    assert old.embedding == pytest.approx(both.embeddings[0], abs=1e-5)
    with pytest.raises(ResponseError, match="embeddings"):
        await client.generate(EMBED, "x")


async def test_what_is_not_done_is_refused_in_words(
    client: AsyncClient, shared_core: CoreProcess
) -> None:
    for name, words in (("llama3.2", "Hub"), ("hf.co/nobody/nothing:Q8_0", "nobody/nothing")):
        with pytest.raises(ResponseError, match=words) as caught:
            await client.pull(name)
        assert caught.value.status_code == 404
    async with httpx.AsyncClient(base_url=shared_core.url, timeout=PATIENCE_S) as http:
        for path in ("create", "copy", "push"):
            answer = await http.post(f"/api/{path}", json={"model": "x"})
            assert answer.status_code == 501
            assert "neither makes, copies nor pushes" in answer.json()["error"]
        assert (await http.head("/api/blobs/sha256:0")).status_code == 501
        assert "model is missing" in (await http.post("/api/chat", json={})).json()["error"]


# Forms


def chat(**fields: Any) -> OllamaChatBody:
    return convert({"model": "m", "messages": said("x"), **fields}, OllamaChatBody, "The body")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"think": "a lot"}, "think"),
        ({"format": "xml"}, "xml"),
        ({"messages": [{"role": "user", "images": [7]}]}, "images"),
        ({"messages": [{"role": "nobody"}]}, "role"),
        ({"options": {"temperature": "hot"}}, "temperature"),
        ({"options": {"num_ctx": 1 << 40}}, "num_ctx"),
        ({"tools": [{"type": "x"}]}, "'x'"),
        ({"keep_alive": "for ever"}, "keep_alive"),
        ({"tool_choice": "required"}, "tool_choice"),
    ],
)
def test_a_chat_that_cannot_be_honoured_is_refused(fields: dict[str, Any], words: str) -> None:
    def ask() -> None:
        body = chat(**fields)
        body.request()
        body.keep_alive_s()

    with pytest.raises(InvalidRequest, match=words):
        ask()


@pytest.mark.parametrize(
    ("think", "thinking", "effort"),
    [
        (None, None, None),
        ("", None, None),
        (True, True, None),
        (False, False, None),
        ("low", True, "low"),
        ("max", True, "max"),
    ],
)
def test_think_is_a_switch_or_a_level(think: Any, thinking: Any, effort: Any) -> None:
    messages = [{"role": "assistant", "content": "a", "thinking": "Hm."}, *said("x")]
    made = chat(think=think, messages=messages).request()
    assert made is not None
    assert (made.thinking, made.thinking_effort) == (thinking, effort)
    assert [message.thought for message in made.messages] == ["Hm.", ""]


def test_options_become_ours() -> None:
    options = {
        "num_ctx": 512,
        "num_predict": -1,
        "num_thread": 0,
        "stop": ["", "x"],
        "seed": -1,
        "mirostat": 2.0,
        "typical_p": 0.5,
        "repeat_last_n": -1,
        "top_k": -1,
        "num_batch": 512.7,
        "penalize_newline": True,
        "unheard_of": {},
    }
    body = chat(options=options, format="json", think=False, logprobs=True)
    made = body.request()
    assert made is not None
    assert (made.max_tokens, made.stop, made.seed) == (None, ("x",), 0xFFFF_FFFF)
    assert (made.json_schema, made.logprobs) == ({}, 0)
    load = body.given().load()
    assert (load.context_length, load.threads, load.batch_size) == (512, None, 512)
    assert (made.mirostat, made.typical_p, made.repeat_last_n, made.top_k) == (2, 0.5, -1, 0)
    assert chat(messages=[]).request() is None


@pytest.mark.parametrize(
    ("given", "options"),
    [
        ({"model": "m"}, None),
        ({"temperature": 0.5, "top_p": 0.9, "max_output_tokens": 40, "think": False},
         {"temperature": 0.5, "top_p": 0.9, "num_predict": 40}),
        ({"seed": 1, "top_k": 9, "options": {"seed": 7}}, {"seed": 7, "top_k": 9}),
        ({"max_tokens": 5, "options": None}, {"num_predict": 5}),
    ],
)  # fmt: skip
def test_options_beside_options_are_heeded(
    given: dict[str, Any], options: dict[str, Any] | None
) -> None:
    assert with_options_inside(given).get("options") == options
    assert with_options_inside(given).get("think") == given.get("think")


@pytest.mark.parametrize("given", [None, [], "x", {"seed": 1, "options": [2]}])
def test_what_is_no_request_is_left_for_its_refusal(given: Any) -> None:
    assert with_options_inside(given) is given


ADDER = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}


@pytest.mark.parametrize(
    ("choice", "made"),
    [
        (None, None),
        ("auto", "auto"),
        ("none", "none"),
        ("required", "required"),
        ({"type": "function", "function": {"name": "add"}}, "add"),
        ({"type": "function", "name": "add"}, "add"),
    ],
)
def test_a_tool_can_be_demanded(choice: Any, made: str | None) -> None:
    asked = chat(tools=[ADDER], tool_choice=choice).request()
    assert asked is not None
    assert asked.tool_choice == made


def test_answers_of_tools_belong_to_calls() -> None:
    def call(name: str) -> dict[str, Any]:
        return {"function": {"name": name, "arguments": {"a": "ü"}}}

    body = chat(
        messages=[
            {"role": "user", "content": "x"},
            {"role": "assistant", "tool_calls": [call("add"), call("mul")]},
            {"role": "tool", "content": "2", "tool_name": "mul"},
            {"role": "tool", "content": "1"},
        ]
    )
    _, asking, second, first = conversation(body.messages or [])
    add, mul = asking.tool_calls
    assert (second.tool_call_id, first.tool_call_id) == (mul.id, add.id)
    assert json.loads(add.arguments) == {"a": "ü"}


def test_names_are_read_as_they_are_shown() -> None:
    assert spellings(" HF.co/a/b-GGUF:Q8_0 ") == ["a/b-GGUF:Q8_0"]
    assert spellings("https://huggingface.co/a/b:latest") == ["a/b"]
    assert spellings("a/b:latest") == ["a/b", "a/b:latest"]
    assert spellings("mine:latest") == ["mine", "mine:latest"]
