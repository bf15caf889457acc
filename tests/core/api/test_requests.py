"""Requests to models over the real listener: seen, cancelled, ordered, and alive while they wait.

The engine process follows scripts (`tests.support.scripted_engine`); the core is a real one.
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from modeldeck.core.api import inference
from modeldeck.core.api.listener import Listener
from modeldeck.core.client.client import Client
from modeldeck.core.config.config import Api, Config, RuntimeSettings
from modeldeck.core.config.paths import locate
from modeldeck.core.errors import Cancelled, Conflict, InvalidRequest, NotFound
from modeldeck.core.schema import GenerateRequest, Model, ModelSeed, RequestInfo
from modeldeck.core.service.deck import Deck
from tests.support import scripted_engine
from tests.support.scripted_engine import PARALLEL, PIECE

PATIENCE_S = 60.0

_COMM = Path("/proc/self/comm")
OWN_NAME = f"{_COMM.read_text().strip()} {os.getpid()}" if _COMM.exists() else "local"
"""What the core calls this program, where it asks over the Unix socket."""


class Served:
    """A core in this process, behind its real listener."""

    def __init__(self, deck: Deck, url: str, socket: Path, model: Model) -> None:
        self.deck, self.url, self.socket, self.model = deck, url, socket, model
        self.writers: list[asyncio.StreamWriter] = []
        self.http = httpx.AsyncClient(base_url=url, timeout=PATIENCE_S, trust_env=False)

    def body(self, prompt: str, **more: Any) -> dict[str, Any]:
        return {"model": self.model.id, "prompt": prompt, "max_tokens": 10_000, **more}

    def ask(self, prompt: str, headers: dict[str, str] | None = None, **more: Any) -> Any:
        """A task that asks, without a stream."""
        body = self.body(prompt, **more)
        return asyncio.create_task(self.http.post("/v1/completions", json=body, headers=headers))

    async def stream(self, path: str, body: dict[str, Any]) -> asyncio.StreamReader:
        """Send a request, byte by byte; what comes back."""
        host, port = self.url.removeprefix("http://").split(":")
        # All that comes while a test has no time for it fits in.
        reader, writer = await asyncio.open_connection(host, int(port), limit=64 << 20)
        self.writers.append(writer)
        data = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
        return reader

    async def until(self, holds: Callable[[list[RequestInfo]], Any]) -> Any:
        """Wait until the requests are so."""
        async with asyncio.timeout(PATIENCE_S):
            while not (found := holds(list(self.deck.requests.all()))):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        return found

    async def found(self, state: str, **fields: Any) -> RequestInfo:
        """Wait for a request in this state and with these fields."""

        def find(requests: list[RequestInfo]) -> RequestInfo | None:
            for info in requests:
                if info.state == state and all(getattr(info, k) == v for k, v in fields.items()):
                    return info
            return None

        info = await self.until(find)
        assert isinstance(info, RequestInfo)
        return info

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """All places of the model are taken while the block runs."""
        holding = [self.ask("hold") for _ in range(PARALLEL)]
        await self.until(lambda found: sum(i.state == "prompt" for i in found) == PARALLEL)
        try:
            yield
        finally:
            for task in holding:
                task.cancel()
            await asyncio.wait(holding)


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="md-") as folder:
        monkeypatch.setenv("MODELDECK_HOME", folder)
        yield Path(folder)


@pytest.fixture
async def served(
    home: Path, demo_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Served]:
    scripted_engine.install(tmp_path, monkeypatch)
    paths = locate()
    runtime = RuntimeSettings(calibrate=False, context_length=1024, unload_grace_s=0.1)
    async with Deck(paths, Config(runtime=runtime)) as deck:
        listener = Listener(deck, Api(port=0), paths)
        addresses = await listener.start()
        path = demo_models / "tiny-GGUF" / "tiny-F16.gguf"
        model = await deck.models.create(ModelSeed(unique=str(path), name="tiny"), "test")
        assert addresses.url
        assert addresses.socket
        served = Served(deck, addresses.url, Path(addresses.socket), model)
        yield served
        await served.http.aclose()
        for writer in served.writers:
            writer.close()
        await listener.stop()


async def test_who_asks_and_through_what_is_told(served: Served) -> None:
    usage = (await served.ask("read 2 say 2")).json()["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (4, 2)
    assert usage["prompt_tokens_details"] == {"cached_tokens": 1}
    made = await served.deck.create_token("night", ["infer"], None, "test", priority="batch")
    bearer = {"Authorization": f"Bearer {made.secret}", "X-Modeldeck-Priority": "interactive"}
    await served.ask("say 1", headers=bearer)
    await served.ask("say 1", headers={"X-Modeldeck-Priority": "batch"})
    await served.ask("say 1", priority="batch")
    await served.ask("say 1", priority=0)
    chat = {"model": served.model.id, "messages": [{"role": "user", "content": "say 1"}]}
    await served.http.post("/v1/chat/completions", json=chat)
    await served.http.post("/api/chat", json={**chat, "stream": False, "priority": 3})
    await served.http.post("/api/embed", json={"model": served.model.id, "input": "a b"})
    async with Client(socket=served.socket) as client:
        async with client.generate(served.model.id, GenerateRequest(prompt="read 2")) as chunks:
            assert [chunk async for chunk in chunks][-1].cached_tokens == 1
        found = await client.requests()
        assert [(info.who, info.dialect, info.priority, info.kind) for info in found[:-1]] == [
            ("local", "openai", "interactive", "text"),
            ("night", "openai", "batch", "text"),
            ("local", "openai", "batch", "text"),
            ("local", "openai", "batch", "text"),
            ("local", "openai", "interactive", "text"),
            ("local", "openai", "interactive", "text"),
            ("local", "ollama", "batch", "text"),
            ("local", "ollama", "interactive", "embedding"),
        ]
        assert (found[-1].who, found[-1].client) == (OWN_NAME, client.client_id)
        assert {info.state for info in found} == {"done"}
    wrong = await served.ask("say 1", headers={"X-Modeldeck-Priority": "urgent"})
    assert (wrong.status_code, "interactive or batch" in wrong.text) == (400, True)


async def test_a_request_is_cancelled_by_its_id_and_its_client_told(served: Served) -> None:
    async with Client(socket=served.socket) as client:
        reader = await served.stream("/v1/completions", served.body("endless", stream=True))
        info = await served.found("writing")
        cancelled = await client.cancel_request(info.id)
        assert (cancelled.state, cancelled.id) == ("cancelled", info.id)
        data = await asyncio.wait_for(reader.readuntil(b"0\r\n\r\n"), PATIENCE_S)
        assert f"cancelled by {cancelled.cancelled_by}" in data.decode()
        with pytest.raises(Conflict, match="has ended"):
            await client.cancel_request(info.id)
        with pytest.raises(NotFound):
            await client.cancel_request("nobody")
        async with served.held():
            waiting = served.ask("say 1")
            info = await served.found("waiting", place=1)
            await client.cancel_request(info.id)
            assert (await waiting).status_code == Cancelled.status
    actions = [entry.action for entry in await served.deck.audit_trail()]
    assert "cancel request" in actions


async def test_interactive_requests_come_before_batches(served: Served) -> None:
    async with served.held():
        batch = [served.ask("say 1", priority="batch") for _ in range(2)]
        await served.found("waiting", place=2)
        first = served.ask("say 1")
        await served.found("waiting", place=1, priority="interactive")
        await served.found("waiting", place=3, priority="batch")
    assert [(await task).status_code for task in (*batch, first)] == [200] * 3


@pytest.fixture
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "HEAD_S", 0.05)
    monkeypatch.setattr(inference, "PING_S", 0.05)


@pytest.mark.usefixtures("short_waits")
async def test_a_stream_has_its_head_and_signs_of_life_while_it_waits(
    served: Served, tmp_path: Path
) -> None:
    """While the model is loaded for it, and while it is queued: raw bytes."""
    loads = scripted_engine.hold_loads(tmp_path)
    async with asyncio.timeout(PATIENCE_S):
        reader = await served.stream("/v1/completions", served.body("say 2", stream=True))
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        assert not served.deck.state.instances or all(
            instance.state == "starting" for instance in served.deck.state.instances.values()
        )
        for _ in range(2):
            assert PIECE.encode() not in await reader.readuntil(b": waiting\n\n")
        loads.unlink()
        assert (await reader.readuntil(b"[DONE]")).count(PIECE.encode()) == 2
        async with served.held():
            reader = await served.stream("/v1/completions", served.body("say 2", stream=True))
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
            for _ in range(3):
                await reader.readuntil(b": waiting\n\n")
            await served.found("waiting", place=1)
            body = {"model": served.model.id, "prompt": "say 1", "raw": True}
            ollama = await served.stream("/api/generate", body)
            assert (await ollama.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        assert (await reader.readuntil(b"[DONE]")).count(PIECE.encode()) == 2
        assert PIECE.encode() in await ollama.readuntil(b'"done":true')


async def test_a_client_that_goes_away_while_it_waits_leaves_its_place(served: Served) -> None:
    async with served.held():
        waiting = [served.ask("say 1") for _ in range(3)]
        await served.found("waiting", place=3)
        waiting[0].cancel()
        await served.found("left")
        await served.until(lambda found: sum(i.state == "waiting" for i in found) == 2)
    for task in waiting[1:]:
        assert (await task).status_code == 200


async def test_metrics_tell_how_many_run_and_wait(served: Served) -> None:
    await served.ask("read 3 say 2")
    async with served.held():
        waiting = served.ask("say 1")
        await served.found("waiting", place=1)
        told = (
            f"modeldeck_requests_running {PARALLEL}\n",
            "modeldeck_requests_waiting 1\n",
            f'modeldeck_requests{{state="prompt"}} {PARALLEL}\n',
            'modeldeck_tokens_total{kind="cached"} 1\n',
        )
        text = ""
        async with asyncio.timeout(PATIENCE_S):  # State has them a little later
            while not all(line in text for line in told):
                text = (await served.http.get("/metrics")).text
    await waiting


def test_a_bad_priority_of_a_body_is_refused() -> None:
    from modeldeck.core.api.http.messages import Request

    request = Request(method="POST", path="/", headers={"x-modeldeck-priority": " Batch "})
    assert request.requester("openai").priority == "batch"
    assert request.requester("openai", "interactive").priority == "interactive"
    assert Request(method="POST", path="/").requester("openai", -1).priority == "interactive"
    with pytest.raises(InvalidRequest):
        Request(method="POST", path="/", headers={"x-modeldeck-priority": "1"}).requester("x")
    forged = Request(method="POST", path="/", headers={"x-modeldeck-client": "\x1b[31mred"})
    assert forged.requester("x").client == ""


def holding(folder: Path, text: str) -> list[Path]:
    """The files below a folder that hold a text."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path for path in files if text.encode() in path.read_bytes()]


async def test_what_is_said_is_kept_in_memory_only_and_only_while_it_is_recorded(
    served: Served, home: Path
) -> None:
    secret = "read 2 say 3"
    async with Client(socket=served.socket) as client:
        await served.ask(secret)
        (before,) = await client.requests()
        assert await client.request_text(before.id) is None, "recording was not asked for"
        recording = await client.record_requests(300)
        assert served.deck.state.recording == recording
        await served.ask(f"{secret} think 1")
        running = served.ask("say 2 endless")
        info = await served.found("writing")
        done = (await client.requests())[-2]
        text = await client.request_text(done.id)
        assert text is not None
        assert (text.prompt, text.answer, text.thought) == (f"{secret} think 1", PIECE * 3, PIECE)
        live = await client.request_text(info.id)
        assert live is not None
        assert live.answer.startswith(PIECE)
        whole = (await served.http.get("/deck/state")).text
        assert PIECE * 3 not in whole
        assert secret not in whole, "the State has figures only"
        made = await served.deck.create_token("reader", ["read", "infer"], None, "test")
        head = {"Authorization": f"Bearer {made.secret}"}
        for method, path in (
            ("GET", f"/deck/requests/{done.id}"),
            ("PUT", "/deck/recording"),
            ("DELETE", "/deck/recording"),
        ):
            answer = await served.http.request(method, path, headers=head)
            assert answer.status_code == 403, f"{method} {path} needs manage"
        assert not holding(home, PIECE * 3), "never on the disk"
        await client.stop_recording()
        assert served.deck.state.recording is None
        assert await client.request_text(done.id) is None
        trail = [entry.action for entry in await served.deck.audit_trail()]
        assert {"record requests", "stop recording requests"} <= set(trail)
        await client.record_requests(300, [])
        await client.record_requests(1)
        async with asyncio.timeout(PATIENCE_S):
            await client.feed.until(lambda state: state.recording is None)
        with pytest.raises(NotFound):
            await client.request_text("nobody")
        with pytest.raises(InvalidRequest):
            await client.record_requests(999_999)
        running.cancel()
        await asyncio.wait({running})
