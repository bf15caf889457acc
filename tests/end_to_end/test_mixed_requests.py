"""Hundreds of requests of all kinds at one model, some cut: slots and memory come back."""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from modeldeck.core.demo.hub import DemoHub
from modeldeck.core.demo.model_writer import expected
from tests.support.process import CoreProcess

from .conftest import PATIENCE_S, Api
from .test_many_clients import ENDLESS, TINY, TOPICS, body, idle, live, text_of

REQUESTS = 500
AT_ONCE = 16
GROWTH_BYTES = 16 << 20
"""What the second half of the requests may add: 67 KB each. It was 2 MB in all, mostly pages that
the allocator keeps."""

COLOURS = ("red", "green")


@pytest.fixture
def api(home: Path, hub: DemoHub) -> Iterator[Api]:
    """A core with the tiny model's files, whose prefix cache is soon full."""
    own = {"MODELDECK_RUNTIME_PREFIX_CACHE_BYTES": str(1 << 20), "HF_ENDPOINT": hub.url}
    with CoreProcess({**os.environ, **own}) as core:
        api = Api(core)
        api.pull(TINY)
        yield api


@dataclass(frozen=True, slots=True)
class Asking:
    """A client that asks in every way, and cuts what it has begun."""

    http: httpx.AsyncClient
    draw: random.Random

    async def ask(self, number: int) -> None:
        """One request of the kind that is its turn, with the answer that it must have."""
        kinds = (
            self.streamed,
            self.chat,
            self.responses,
            self.messages,
            self.ollama,
            self.schema,
            self.few_tokens,
            self.left,
            self.cancelled,
        )
        await kinds[number % len(kinds)](self.draw.choice(TOPICS))

    async def post(self, path: str, question: dict[str, Any]) -> Any:
        answer = await self.http.post(path, json={"model": TINY, "temperature": 0, **question})
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def streamed(self, topic: str) -> None:
        assert await text_of(self.http, topic) == expected(topic)

    async def chat(self, topic: str) -> None:
        answer = await self.post("/v1/chat/completions", {**body(topic), "cache": False})
        assert answer["choices"][0]["message"]["content"] == expected(topic)

    async def responses(self, topic: str) -> None:
        answer = await self.post("/v1/responses", {"input": topic, "store": False})
        assert answer["output"][0]["content"][0]["text"] == expected(topic)

    async def messages(self, topic: str) -> None:
        question = {"messages": body(topic)["messages"], "max_tokens": 200}
        answer = await self.post("/v1/messages", question)
        assert answer["content"] == [{"type": "text", "text": expected(topic)}]

    async def ollama(self, topic: str) -> None:
        question = {"messages": body(topic)["messages"], "stream": False}
        assert (await self.post("/api/chat", question))["message"]["content"] == expected(topic)

    async def schema(self, topic: str) -> None:
        asked = {"name": "colour", "schema": {"enum": COLOURS}}
        form = {"type": "json_schema", "json_schema": asked}
        answer = await self.post("/v1/chat/completions", {**body(topic), "response_format": form})
        assert json.loads(answer["choices"][0]["message"]["content"]) in COLOURS

    async def few_tokens(self, topic: str) -> None:
        more = {"max_tokens": 3, "logprobs": True, "seed": 7, "temperature": 1}
        answer = await self.post("/v1/chat/completions", {**body(topic), **more})
        assert 1 <= len(answer["choices"][0]["logprobs"]["content"]) <= 3

    async def left(self, _: str) -> None:
        """An answer without end that its client leaves, somewhere."""
        question = body("loop", stream=True)
        async with self.http.stream("POST", "/v1/chat/completions", json=question) as answer:
            assert answer.status_code == 200
            lines, stop = 0, self.draw.randrange(30)
            async for _line in answer.aiter_lines():
                lines += 1
                if lines > stop:
                    return
        pytest.fail("an answer without end has ended")

    async def cancelled(self, _: str) -> None:
        """An answer without end that is cancelled by its name, waiting or writing."""
        name = f"{self.draw.getrandbits(32):08x}"
        path, headers = "/v1/chat/completions", {"X-Modeldeck-Client": name}
        asked = asyncio.create_task(self.http.post(path, json=body("loop"), headers=headers))
        found = await live(self.http, lambda found: any(one["client"] == name for one in found))
        (record,) = (one for one in found if one["client"] == name)
        await self.http.post(f"/deck/requests/{record['id']}/cancel", json={})
        assert "was cancelled by" in (await asked).text


async def asked(http: httpx.AsyncClient, numbers: range) -> None:
    """Ask these requests, `AT_ONCE` at once, and wait until the engine has nothing to do."""
    asking, places = Asking(http, random.Random(numbers.start)), asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> None:
        async with places:
            await asking.ask(number)

    async with asyncio.TaskGroup() as tasks:
        for number in numbers:
            tasks.create_task(one(number))
    await live(http, lambda found: not found)
    await idle(http)


def resident(*processes: psutil.Process) -> list[int]:
    """Bytes of memory that each process has."""
    return [process.memory_info().rss for process in processes]


async def test_five_hundred_requests_leave_no_slot_taken_and_no_memory(api: Api) -> None:
    before = api.load(TINY, parallel=AT_ONCE, context_length=ENDLESS)
    assert before["parallel"] == AT_ONCE
    processes = psutil.Process(api.core.process.pid), psutil.Process(before["pid"])
    async with httpx.AsyncClient(
        base_url=api.core.url, timeout=PATIENCE_S, trust_env=False
    ) as http:
        await asked(http, range(REQUESTS // 2))
        half = resident(*processes)
        await asked(http, range(REQUESTS // 2, REQUESTS))
        after = await idle(http)
    assert (after["restarts"], after["pid"]) == (0, before["pid"])
    grown = [end - start for start, end in zip(half, resident(*processes), strict=True)]
    assert max(grown) < GROWTH_BYTES
