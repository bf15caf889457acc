"""The Requests view and Memory's strip, against a real core whose engine follows scripts."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from modeldeck.core.client.client import Client
from modeldeck.core.schema import GenerateRequest, LoadOptions, Message, ModelSeed
from modeldeck.tui.dashboard.app import REFRESH_S
from modeldeck.tui.dashboard.screens.requests.screen import RequestsView
from tests.support import scripted_engine
from tests.support.folder import contents
from tests.support.process import CoreProcess
from tests.tui.dashboard.conftest import Open, opens, size_of
from tests.tui.dashboard.screens.steps import go

PATIENCE_S = 60.0
MOST_PER_S = 1500
"""Bytes that three live requests may send to a terminal of 120 by 40, in each second."""
LOOKS = 24
"""Updates of the screens that are counted: six seconds of them."""


@pytest.fixture
def core(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CoreProcess]:
    scripted_engine.install(tmp_path, monkeypatch)
    with CoreProcess(dict(os.environ)) as core:
        yield core


@pytest.fixture
def screen(core: CoreProcess, undebugged: None) -> Open:
    return opens(core)


class Laptop:
    """A program with a token that asks over TCP."""

    def __init__(self, http: httpx.AsyncClient, model: str, secret: str) -> None:
        self._http, self._model = http, model
        self.secret = secret

    def ask(self, prompt: str) -> asyncio.Task[str]:
        """Ask for a stream; the task has all of it."""

        async def work() -> str:
            body = {"model": self._model, "prompt": prompt, "max_tokens": 90_000, "stream": True}
            async with self._http.stream("POST", "/v1/completions", json=body) as answer:
                return "".join([part async for part in answer.aiter_text()])

        return asyncio.create_task(work())


@pytest.fixture
async def laptop(core: CoreProcess, demo_models: Path) -> AsyncIterator[Laptop]:
    """Asks a model that answers two at once."""
    path = str(demo_models / "tiny-GGUF" / "tiny-F16.gguf")
    async with Client(socket=core.socket) as client:
        made = await client.create_token("laptop", ["infer"])
        model = await client.create_model(ModelSeed(unique=path, name="tiny"))
        await client.loaded(model.id, LoadOptions(parallel=2, context_length=512))
        head = {"Authorization": f"Bearer {made.secret}"}
        async with httpx.AsyncClient(
            base_url=core.url, headers=head, timeout=PATIENCE_S, trust_env=False
        ) as http:
            yield Laptop(http, model.id, made.secret)


@asynccontextmanager
async def asking(laptop: Laptop, *prompts: str) -> AsyncIterator[list[asyncio.Task[str]]]:
    """Requests that run during the block."""
    tasks = [laptop.ask(prompt) for prompt in prompts]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def under_the_rule(text: str) -> str:
    return text.split("── last", 1)[1] if "── last" in text else ""


async def test_one_of_three_is_cancelled_and_the_others_go_on(screen: Open, laptop: Laptop) -> None:
    async with asking(laptop, *["endless"] * 3) as tasks, screen("memory") as at:
        await at.sees("Requests", "2 answering · 1 waiting", "laptop", "writing", "waiting, next")
        await at.until(
            lambda: sum(bool(i.completion_tokens) for i in at.state.requests.values()) == 2
        )
        await at.press("r")
        assert at.app.current == "requests"
        await at.sees("2 answering · 1 waiting", "openai", "not recorded", "c cancel")
        await at.press("g", "c")
        await at.sees("Cancel the request of laptop?", "so far.", "y cancel  n esc keep it")
        await at.press("y")
        await at.sees("Cancelled the request of laptop")
        done, _ = await asyncio.wait(tasks, timeout=PATIENCE_S, return_when="FIRST_COMPLETED")
        (ended,) = done
        assert "was cancelled by" in ended.result(), "the stream ends with who did it"
        await at.until(lambda: "cancelled by you" in under_the_rule(at.text))
        await at.sees("2 answering")
        assert sum(task.done() for task in tasks) == 1, "the others go on"
        await at.press("s", "s")
        await at.sees("[failed]", "No failed requests.")
        await at.press("s", "slash", *"who:nobody")
        await at.sees("No match.", "filter:")
        await at.press("escape")
        await at.sees("laptop", "2 answering")
        await at.press("escape")
        await at.pilot.click("StatusBar", offset=(at.text.splitlines()[0].index("◐"), 0))
        assert at.app.current == "requests", "the sign of the top line leads here"
        await at.press("escape")
        assert at.app.current == "memory"


async def test_what_ended_keeps_its_place_for_a_moment(screen: Open, laptop: Laptop) -> None:
    async with screen("requests") as at, asking(laptop, "endless") as (running,):
        await at.sees("1 answering", "writing")
        running.cancel()
        await at.sees("client left")
        await at.until(lambda: "client left" in under_the_rule(at.text))
        await at.press("c")
        await at.sees("That request has ended: client left.")
        await at.press("enter")
        await at.sees("prompt ", "answer ", "python-httpx", "request ")
        await at.press("enter")
        await at.until(lambda: "python-httpx" not in at.text)


async def test_what_is_counted_today_begins_anew_at_midnight_though_nobody_asks(
    screen: Open,
) -> None:
    async with screen("requests") as at:
        await at.until(lambda: at.app.state is not None)
        view = at.app.query_one(RequestsView)
        await at.until(lambda: bool(view._today))
        view._today = "2026-01-01"  # as if it had been drawn on another day
        await at.until(lambda: view._today > "2026-01-01")


async def test_own_requests_are_cancelled_at_once(screen: Open, laptop: Laptop) -> None:
    async with screen("requests") as at:
        own = at.app.link.client

        async def chat() -> None:
            asked = GenerateRequest(messages=(Message(role="user", content="endless"),))
            (model,) = [i.model_id for i in at.state.instances.values()]
            async with own.generate(model, asked) as chunks:
                async for _ in chunks:
                    pass

        task = asyncio.create_task(chat())
        await at.sees("chat (this one)", "1 answering")
        await at.press("c")
        await at.sees("Cancelled the request of chat (this one)")
        await asyncio.wait({task}, timeout=PATIENCE_S)
        assert "cancelled" in str(task.exception())


@pytest.mark.parametrize("view", ["catalog", "memory", "requests", "log"])
async def test_three_live_requests_send_little(
    screen: Open, laptop: Laptop, sent: list[str], view: str
) -> None:
    async with asking(laptop, *["endless"] * 3), screen(view, size=(120, 40)) as at:
        await at.sees("◐ 2+1")
        at.app.parts.messages.hide()
        looks, since, before = at.app._looks, time.monotonic(), size_of(sent)
        await at.until(lambda: at.app._looks >= looks + LOOKS)
        # On a busy machine updates come later, and what is drawn by the clock more often for each.
        seconds = max(LOOKS * REFRESH_S, time.monotonic() - since)
        count = size_of(sent) - before
        assert count <= MOST_PER_S * seconds, sent[-1]
        assert count or view != "requests", "the figures of a request go on"


@pytest.mark.parametrize("size", [(120, 40), (80, 24), (60, 15)])
async def test_it_fits_every_terminal(screen: Open, laptop: Laptop, size: tuple[int, int]) -> None:
    await laptop.ask("say 3")
    async with asking(laptop, "endless"), screen("requests", size=size) as at:
        await at.sees("who", "state", "for", "laptop", "writing", "── last 1", "done")
        assert all(len(line) <= size[0] for line in at.text.splitlines())
        await at.press("enter")
        await at.sees("answer")


async def test_what_is_said_is_recorded_for_some_minutes(
    screen: Open, laptop: Laptop, core: CoreProcess
) -> None:
    async with screen("requests") as at, screen("catalog") as other:
        await at.press("R")
        await at.sees("Record prompts and answers", "5 minutes", "1 hour")
        await at.press("1")
        await at.sees("Recording for 5 minutes. R stops and deletes it.", "are recorded")
        await other.until(lambda: bool(re.search(r"recording [1-5]:\d\d", other.text)))
        await laptop.ask("say 3")
        await at.sees("done")
        await at.press("g", "enter")
        await at.sees("asked ", "say 3", "said ", "word word word")
        await at.press("y")
        await at.sees("Copied as curl.")
        assert "say 3" in at.app.clipboard
        again = await asyncio.create_subprocess_shell(
            at.app.clipboard,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "TOKEN": laptop.secret, "no_proxy": "*"},
        )
        said, _ = await again.communicate()
        assert again.returncode == 0
        assert b"word word word" in said, "the line of curl runs"
        await at.until(lambda: len(at.state.requests) == 2)
        await at.press("R")
        await at.sees("Recording stopped", "not recorded; R records")
        await other.until(lambda: "recording" not in other.text.splitlines()[0])
        for info in at.state.requests.values():
            assert await at.client.request_text(info.id) is None
        assert "say 3" not in str(at.state.requests)
        kept = [*contents(core.home)]
        assert kept
        assert not [text for text in kept if b"say 3" in text], "it was in memory only"


async def test_a_benchmark_waits_for_requests_and_is_cancelled(
    screen: Open, laptop: Laptop, demo_models: Path
) -> None:
    async with asking(laptop, "endless"), screen("catalog") as at:
        await at.sees("answering 1")
        await go(at, str(demo_models / "tiny-GGUF" / "tiny-F16.gguf"))
        await at.press("b")
        await at.sees("Measuring tiny; a request to a model ends it.")
        await at.until(lambda: at.state.bench is not None and at.state.bench.waits_for == "laptop")
        await at.press("c")
        await at.sees("Benchmark of tiny cancelled.")
        await at.until(lambda: at.state.bench is not None and at.state.bench.state == "stopped")
