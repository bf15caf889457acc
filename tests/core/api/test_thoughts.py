"""Thoughts through the APIs, driven by OpenAI's and Ollama's own clients against a real core."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import ollama
import openai
import pytest
from openai import AsyncOpenAI

from modeldeck.core.demo.model_writer import expected
from modeldeck.core.demo.vocabulary import THOUGHT
from tests.core.api.openai.test_routes import refusal
from tests.support.process import CoreProcess

THINKER, TINY = "deck/tiny-think-GGUF:F16", "deck/tiny-GGUF:Q8_0"
ALL, COUNT = "".join(THOUGHT), expected("count")
ASK: list[Any] = [{"role": "user", "content": "count"}]
CALM: dict[str, Any] = {"temperature": 0}
PATIENCE_S = 60


@pytest.fixture(scope="module")
def stocked(shared_core: CoreProcess) -> str:
    """The address of a core that has the tiny models' files."""
    with httpx.Client(base_url=f"{shared_core.url}/api", timeout=PATIENCE_S) as http:
        for name in (TINY, THINKER):
            answer = http.post("/pull", json={"model": name, "stream": False})
            assert answer.json() == {"status": "success"}
    return shared_core.url


@pytest.fixture
async def client(stocked: str) -> AsyncIterator[AsyncOpenAI]:
    """OpenAI's client."""
    async with AsyncOpenAI(base_url=f"{stocked}/v1", api_key="none", max_retries=0) as client:
        yield client


async def asked(client: AsyncOpenAI, **more: Any) -> Any:
    """A whole answer."""
    return await client.chat.completions.create(
        **{"model": THINKER, "messages": ASK, "temperature": 0} | more
    )


async def test_openai_s_client_gets_thoughts_apart(client: AsyncOpenAI) -> None:
    whole = await asked(client)
    message = whole.choices[0].message
    assert (message.content, message.reasoning_content) == (COUNT, ALL)
    assert whole.usage.completion_tokens_details.reasoning_tokens == len(THOUGHT) + 2
    assert whole.usage.prompt_tokens_details.cached_tokens == 0

    pieces = [
        piece
        async for piece in await asked(client, stream=True, stream_options={"include_usage": True})
    ]
    deltas = [piece.choices[0].delta for piece in pieces if piece.choices]
    thoughts = [getattr(delta, "reasoning_content", None) or "" for delta in deltas]
    assert ("".join(thoughts), "".join(d.content or "" for d in deltas)) == (ALL, COUNT)
    assert pieces[-1].usage.completion_tokens_details.reasoning_tokens == len(THOUGHT) + 2
    begun = [bool(delta.content) for delta in deltas].index(True)
    assert not any(thoughts[begun:])


@pytest.mark.parametrize(
    ("more", "thought"),
    [
        ({"reasoning_effort": "none"}, None),
        ({"reasoning_effort": "high"}, ALL),
        ({"extra_body": {"think": False}}, None),
        ({"extra_body": {"reasoning": {"enabled": False}}}, None),
        ({"extra_body": {"thinking": {"type": "disabled"}}}, None),
        ({"extra_body": {"chat_template_kwargs": {"enable_thinking": False}}}, None),
        ({"extra_body": {"thinking_budget": 0}}, None),
        ({"extra_body": {"reasoning": {"exclude": True}}}, None),
    ],
)
async def test_thinking_is_switched_by_every_spelling(
    client: AsyncOpenAI, more: dict[str, Any], thought: str | None
) -> None:
    message = (await asked(client, **more)).choices[0].message
    assert (message.content, getattr(message, "reasoning_content", None)) == (COUNT, thought)


async def test_a_thought_has_a_budget_and_comes_before_what_is_forced(client: AsyncOpenAI) -> None:
    message = (await asked(client, extra_body={"thinking_budget": 2})).choices[0].message
    assert message.content == COUNT
    assert message.reasoning_content.startswith("Let me\n")
    message = (
        (await asked(client, extra_body={"guided_choice": ["blue", "green"]})).choices[0].message
    )
    assert message.content in ("blue", "green")
    assert message.reasoning_content == ALL
    cut = (await asked(client, max_tokens=3)).choices[0]
    assert (cut.message.content, cut.finish_reason) == ("", "length")
    assert ALL.startswith(cut.message.reasoning_content)


async def test_a_thought_goes_back_between_a_call_and_its_answer(
    client: AsyncOpenAI, stocked: str
) -> None:
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}}
    tools = [{"type": "function", "function": {"name": "weather", "parameters": parameters}}]
    turns = [{"role": "user", "content": "Will it rain?"}]
    called = (await asked(client, messages=turns, tools=tools)).choices[0]
    assert called.finish_reason == "tool_calls"
    assert (called.message.content, called.message.reasoning_content) == (None, ALL)
    (call,) = called.message.tool_calls
    told = {"role": "tool", "tool_call_id": call.id, "content": "count the clouds"}
    said = called.message.model_dump(exclude_none=True)
    tokens = []
    for turn in (said, {**said, "reasoning_content": ""}):
        after = await asked(client, messages=[*turns, turn, told], tools=tools)
        assert after.choices[0].message.content == COUNT
        tokens.append(after.usage.prompt_tokens)
    assert tokens[0] > tokens[1]


async def test_models_tell_what_they_can_do(client: AsyncOpenAI, stocked: str) -> None:
    found = {model.id: model async for model in client.models.list()}
    thinker: Any = found[THINKER]
    assert thinker.capabilities == ["completion", "tools", "thinking"]
    assert thinker.meta["n_ctx_train"] == 4096
    assert thinker.context_length == thinker.max_model_len
    tiny: Any = found[TINY]
    assert tiny.capabilities == ["completion", "tools"]


async def test_several_answers_biases_and_numbers_of_other_servers(client: AsyncOpenAI) -> None:
    both = await asked(client, model=TINY, n=2, seed=1, max_tokens=3)
    assert [(c.index, c.message.content) for c in both.choices] == [
        (0, "One two three"),
        (1, "One two three"),
    ]
    assert both.usage.completion_tokens == 6
    pieces = [p async for p in await asked(client, model=TINY, n=2, max_tokens=3, stream=True)]
    assert {p.choices[0].index for p in pieces} == {0, 1}
    loose = await asked(client, model=TINY, max_tokens=-1, extra_body={"top_k": -1})
    assert loose.choices[0].message.content == COUNT
    biased = await asked(client, model=TINY, logit_bias={str(ord("a")): 1000}, max_tokens=2)
    assert biased.choices[0].message.content == "@@" or biased.choices[0].message.content == "aa"
    said = [*ASK, {"role": "assistant", "content": "One two"}]
    more = await asked(client, model=TINY, messages=said)
    assert "One two" + more.choices[0].message.content == COUNT
    text = await client.completions.create(
        model=TINY, prompt=["count", "zz"], n=2, temperature=0, max_tokens=2
    )
    assert [choice.index for choice in text.choices] == [0, 1, 2, 3]
    llama = await asked(
        client, model=TINY, messages=[{"role": "user", "content": "llama"}], logprobs=True
    )
    tokens = llama.choices[0].logprobs.content
    assert bytes(b for token in tokens for b in token.bytes).decode() == expected("llama")


async def test_a_full_context_is_told_in_the_words_that_programs_look_for(
    client: AsyncOpenAI,
) -> None:
    long = [{"role": "user", "content": "word " * 9000}]
    for stream in (False, True):
        error = await refusal(client, model=TINY, messages=long, stream=stream)
        assert stream or isinstance(error, openai.BadRequestError)
        assert error.code == "context_length_exceeded"
        assert "This model's maximum context length is 4096 tokens" in str(error)
        assert "context_length_exceeded" in error.message


@pytest.fixture
async def deck(stocked: str) -> AsyncIterator[ollama.AsyncClient]:
    """Ollama's client."""
    async with ollama.AsyncClient(host=stocked) as client:
        yield client


async def test_ollama_s_client_gets_thoughts_apart(deck: ollama.AsyncClient) -> None:
    name = f"hf.co/{THINKER}"
    assert (await deck.show(name)).capabilities == ["completion", "tools", "thinking"]
    for think, thought in ((None, ALL), (True, ALL), ("low", ALL), (False, None)):
        whole = await deck.chat(name, ASK, think=think, options=CALM)
        assert (whole.message.content, whole.message.thinking) == (COUNT, thought)
    pieces = [p async for p in await deck.chat(name, ASK, options=CALM, stream=True)]
    thoughts = [piece.message.thinking or "" for piece in pieces]
    assert "".join(thoughts) == ALL
    assert "".join(piece.message.content or "" for piece in pieces) == COUNT
    one = await deck.generate(name, "count", options=CALM)
    assert (one.response, one.thinking) == (COUNT, ALL)
    said = [*ASK, {"role": "assistant", "content": COUNT, "thinking": ALL}, *ASK]
    assert (await deck.chat(name, said, options=CALM)).message.content == COUNT
    with pytest.raises(ollama.ResponseError, match="does not support thinking") as caught:
        await deck.chat(f"hf.co/{TINY}", ASK, think=True)
    assert caught.value.status_code == 400


async def test_ollama_leaves_the_oldest_messages_out_unless_told_not_to(stocked: str) -> None:
    name = f"hf.co/{TINY}"
    filler = [{"role": "user", "content": "# " * 1500}, {"role": "assistant", "content": "ok"}]
    body = {"model": name, "messages": [*filler, *filler, *ASK], "options": CALM}
    async with httpx.AsyncClient(base_url=stocked, timeout=PATIENCE_S) as http:
        for stream in (False, True):
            answer = await http.post("/api/chat", json={**body, "stream": stream})
            lines = [json.loads(line) for line in answer.text.splitlines()]
            assert "".join(line["message"]["content"] for line in lines) == COUNT
        answer = await http.post("/api/chat", json={**body, "truncate": False, "stream": False})
        assert answer.status_code == 400
        assert "maximum context length" in answer.json()["error"]


async def test_curl_and_litellm_need_no_content_type(stocked: str) -> None:
    body = json.dumps({"model": f"hf.co/{TINY}", "messages": ASK, "stream": False}).encode()
    async with httpx.AsyncClient(base_url=stocked, timeout=PATIENCE_S) as http:
        for headers in ({}, {"Content-Type": "application/x-www-form-urlencoded"}):
            answer = await http.post("/api/chat", content=body, headers=headers)
            assert answer.status_code == 200
        page = {"User-Agent": "Mozilla/5.0"}
        assert (await http.post("/api/chat", content=body, headers=page)).status_code == 415
        assert (await http.get("/api/version")).json()["version"] >= "0.33"
        tags = (await http.get("/api/tags")).json()["models"]
        assert all(model["capabilities"] for model in tags)
