"""Many clients of one model at once: real llama.cpp behind a real core's listener."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from modeldeck.core.demo.hub import DemoHub
from modeldeck.core.demo.model_writer import expected
from tests.support.process import CoreProcess

from .conftest import PATIENCE_S, Api

TINY = "deck/tiny-GGUF:F16"
ENDLESS = 1 << 16
"""A context that an answer without end does not fill while a test runs."""
TOPICS = ("count", "json", "llama", "rain")


@pytest.fixture
def api(home: Path, hub: DemoHub) -> Iterator[Api]:
    """A core with the tiny model's files."""
    loops = {"MODELDECK_RUNTIME_STOP_LOOPS": "false"}  # answers that do not end soon
    with CoreProcess({**os.environ, **loops, "HF_ENDPOINT": hub.url}) as core:
        api = Api(core)
        api.pull(TINY)
        yield api


def body(topic: str, **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": topic}]
    return {"model": TINY, "messages": messages, "temperature": 0, **more}


async def text_of(http: httpx.AsyncClient, topic: str) -> str:
    """A streamed answer, read to its end; an error in it is raised."""
    text = ""
    async with http.stream("POST", "/v1/chat/completions", json=body(topic, stream=True)) as answer:
        if answer.status_code != 200:
            raise RuntimeError((await answer.aread()).decode())
        async for line in answer.aiter_lines():
            if not line.startswith("data: {"):
                continue
            event = json.loads(line.removeprefix("data: "))
            if "error" in event:
                raise RuntimeError(event["error"]["message"])
            text += event["choices"][0]["delta"].get("content") or ""
    return text


async def begun(http: httpx.AsyncClient, count: int) -> list[asyncio.Task[str]]:
    """Answers without end, as many as this, the first of which has begun."""
    tasks = [asyncio.create_task(text_of(http, "loop")) for _ in range(count)]
    await live(
        http, lambda found: any(r["state"] == "writing" for r in found) and len(found) >= count
    )
    return tasks


async def live(http: httpx.AsyncClient, holds: Any) -> list[dict[str, Any]]:
    """Wait until the requests that have not ended are so."""
    states = ("waiting", "loading", "prompt", "thinking", "writing")
    async with asyncio.timeout(PATIENCE_S):
        while True:
            found = (await http.get("/deck/requests")).json()["requests"]
            found = [record for record in found if record["state"] in states]
            if holds(found):
                return found
            await asyncio.sleep(0.02)


async def idle(http: httpx.AsyncClient) -> dict[str, Any]:
    """The instance, once its engine has nothing to do: it notes later that a client has left."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            instance: dict[str, Any]
            (instance,) = (await http.get("/deck/state")).json()["instances"]
            if not instance["requests"] and not instance["running"]:
                return instance
            await asyncio.sleep(0.02)


async def test_each_gets_its_own_answer_and_cancels_cost_nobody_else(api: Api) -> None:
    assert api.load(TINY, parallel=4, context_length=ENDLESS)["parallel"] == 4
    async with httpx.AsyncClient(
        base_url=api.core.url, timeout=PATIENCE_S, trust_env=False
    ) as http:
        draw = random.Random(7)
        topics = [draw.choice(TOPICS) for _ in range(24)]
        loops = [asyncio.create_task(text_of(http, "loop")) for _ in range(3)]
        by_name, *_ = await live(http, lambda found: len(found) == 3)
        answers = [asyncio.create_task(text_of(http, topic)) for topic in topics]
        await http.post(f"/deck/requests/{by_name['id']}/cancel", json={})
        (told,), others = await asyncio.wait(loops, return_when=asyncio.FIRST_COMPLETED)
        assert "was cancelled by" in str(told.exception())
        leaving, staying = others
        leaving.cancel()
        assert await asyncio.gather(*answers) == [expected(topic) for topic in topics]
        staying.cancel()
        await asyncio.gather(*loops, return_exceptions=True)
        await live(http, lambda found: not found)
        instance = await idle(http)
        assert instance["restarts"] == 0


async def test_a_killed_engine_is_told_and_nobody_waits_for_ever(api: Api) -> None:
    api.load(TINY, parallel=4, context_length=ENDLESS)
    async with httpx.AsyncClient(
        base_url=api.core.url, timeout=PATIENCE_S, trust_env=False
    ) as http:
        loops = await begun(http, 2)
        topics = TOPICS * 5
        asked = [asyncio.create_task(text_of(http, topic)) for topic in topics]
        await live(http, lambda found: len(found) >= 2)  # of the short ones some may have ended
        (instance,) = (await http.get("/deck/state")).json()["instances"]
        os.kill(instance["pid"], signal.SIGKILL)
        ends = await asyncio.gather(*loops, return_exceptions=True)
        assert any("SIGKILL" in str(end) for end in ends), "one that wrote is told"
        answers = await asyncio.gather(*asked, return_exceptions=True)
        right = [answer == expected(topic) for topic, answer in zip(topics, answers, strict=True)]
        assert all("SIGKILL" in str(a) for a, ok in zip(answers, right, strict=True) if not ok)
        assert sum(right) >= len(topics) - 2, "only those that wrote beside the loops can be cut"
        (again,) = (await http.get("/deck/state")).json()["instances"]
        assert (again["restarts"], again["pid"] != instance["pid"]) == (1, True)
        await live(http, lambda found: not found)


async def test_a_core_that_stops_ends_all_and_leaves_no_engine(api: Api) -> None:
    api.load(TINY, parallel=4, context_length=ENDLESS)
    async with httpx.AsyncClient(
        base_url=api.core.url, timeout=PATIENCE_S, trust_env=False
    ) as http:
        tasks = await begun(http, 6)
        (instance,) = (await http.get("/deck/state")).json()["instances"]
        engine = psutil.Process(instance["pid"])
        api.core.process.terminate()
        ends = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), PATIENCE_S)
    assert len(ends) == 6
    assert api.core.process.wait(PATIENCE_S) == 0
    psutil.wait_procs([engine], timeout=PATIENCE_S)
    assert not engine.is_running()


async def test_a_longer_context_is_loaded_or_refused_and_never_ignored(api: Api) -> None:
    async with httpx.AsyncClient(
        base_url=api.core.url, timeout=PATIENCE_S, trust_env=False
    ) as http:

        async def ask(num_ctx: int) -> httpx.Response:
            options = {"num_ctx": num_ctx, "temperature": 0}
            messages = [{"role": "user", "content": "count"}]
            question = {"model": TINY, "messages": messages, "options": options, "stream": False}
            return await http.post("/api/chat", json=question)

        assert (await ask(512)).json()["message"]["content"] == expected("count")
        task = asyncio.create_task(text_of(http, "loop"))
        # On a slow machine it has filled its 512 tokens before that is seen.
        await live(http, lambda found: task.done() or any(r["state"] == "writing" for r in found))
        refused = await ask(1024)
        if refused.status_code != 200:  # the loop had not reached its end at 512 tokens
            assert (refused.status_code, "with 512" in refused.json()["error"]) == (409, True)
        await asyncio.wait({task})
        assert (await ask(1024)).json()["message"]["content"] == expected("count")
        (instance,) = (await http.get("/deck/state")).json()["instances"]
        assert instance["context_length"] == 1024
