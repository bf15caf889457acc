"""The documented API's own programs: the published wrapper, and pieces-cli in a terminal."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pexpect  # type: ignore[import-untyped] # it has no types
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from modeldeck.core.demo.hub import DemoHub
from modeldeck.core.demo.model_writer import expected
from tests.support.process import CoreProcess

pytestmark = pytest.mark.timeout(480)  # the first test may have to wait for pip
ROUND = Path(__file__).with_name("wrapper_round.py")
TINY = "deck/tiny-GGUF:Q8_0"
NAME = "tiny Q8_0"
LAUNCH = (
    "import sys, urllib.request as u; sys.path.insert(0, {path!r});"
    "o = u.urlopen; u.urlopen = lambda *a, **k: o(*a, **{{**k, 'timeout': 60}});"
    "from pieces._vendor.pieces_os_client.wrapper import client;"
    "client.range = lambda *_: ({port},);"
    "from pieces.app import main; main()"
)
"""Starts pieces-cli with its scan for a server narrowed to one port.

It gives a server a tenth of a second to answer, which is little on a machine at work.
"""
ENDLESS = 1 << 16
"""A context that an answer without end does not fill before it is stopped."""
PATIENCE_S = 60


@pytest.fixture(scope="module")
def stocked(shared_hub: DemoHub) -> Iterator[CoreProcess]:
    """A core that serves these programs, with the tiny model loaded."""
    with tempfile.TemporaryDirectory(prefix="md-") as folder:
        environ = {
            **os.environ,
            "MODELDECK_HOME": f"{folder}/home",
            "HF_HOME": f"{folder}/hf",
            "HF_ENDPOINT": shared_hub.url,
            "MODELDECK_API_PIECES_CLIENTS": "true",
        }
        with CoreProcess(environ) as core:
            with httpx.Client(base_url=core.url, timeout=PATIENCE_S) as http:
                for path in ("pull", "generate"):
                    asked = {"model": TINY, "stream": False, "options": {"num_ctx": ENDLESS}}
                    answer = http.post(f"/api/{path}", json=asked)
                    assert answer.status_code == 200, answer.text
            yield core


def port_of(core: CoreProcess) -> int:
    return int(core.url.rsplit(":", 1)[1])


def test_the_wrapper_constructs_lists_and_asks(
    stocked: CoreProcess, sdk_version: tuple[str, Path | None]
) -> None:
    version, folder = sdk_version
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if folder is not None:
        # Its own pydantic, and what it shares with the newer one.
        environ["PYTHONPATH"] = str(folder)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", ROUND, str(port_of(stocked)), NAME],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=3 * PATIENCE_S,
    )
    assert done.returncode == 0, f"{done.stderr}\n{stocked.stderr}"
    # The wrapper prints what goes wrong with its sockets.
    assert len(done.stdout.splitlines()) == 1, done.stdout
    told: dict[str, Any] = json.loads(done.stdout)
    assert told["version"].startswith(version)
    assert told["server"] == "12.0.0"
    assert told["default"] == "GPT-3.5-turbo Chat Model"
    assert set(told["models"]) == {
        NAME,
        "GPT-3.5-turbo Chat Model",
        "Gemini Chat Model (placeholder)",
    }
    assert "placeholder" in told["user"]
    assert told["application"] == told["again"] == str(uuid.UUID(told["application"]))
    status, words = told["placeholder"]
    assert status == "FAILED"
    assert "placeholder" in words
    assert told["answer"] == ["COMPLETED", expected("count")]


class Cli:
    """pieces-cli with a home of its own."""

    def __init__(self, core: CoreProcess, home: Path, folder: Path) -> None:
        """`folder` is where pieces-cli is installed."""
        self._launch = LAUNCH.format(path=str(folder), port=port_of(core))
        self._environ = {
            **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
            "HOME": str(home),
            "XDG_DATA_HOME": str(home),
            "HTTPS_PROXY": "http://127.0.0.1:9",  # it reports to its makers by itself
            "NO_PROXY": "127.0.0.1",
            "TERM": "xterm-256color",
        }

    @contextmanager
    def run(self, *arguments: str) -> Iterator[Any]:
        """The program in a terminal of its own, ended when the block is left: its own end takes
        seconds, for its makers and its sockets."""
        terminal = pexpect.spawn(
            sys.executable,
            ["-W", "ignore", "-c", self._launch, "--ignore-onboarding", *arguments],
            env=self._environ,
            encoding="utf-8",
            dimensions=(40, 120),
            timeout=PATIENCE_S,
        )
        try:
            yield terminal
        finally:
            terminal.close(force=True)


@pytest.fixture
def cli(stocked: CoreProcess, tmp_path: Path, pieces_cli: Path) -> Cli:
    return Cli(stocked, tmp_path, pieces_cli)


def test_pieces_cli_tells_versions_chooses_a_model_and_asks_it(cli: Cli) -> None:
    with cli.run("version") as told:
        told.expect("12.0.0")
    with cli.run("list", "models") as menu:
        menu.expect(f"1: {NAME}")
        menu.send("\r")  # the first is the one that is here: placeholders come last
        menu.expect(f"(?s)Switched to.*{NAME}")
    with cli.run("ask", "Please count.") as asked:
        asked.expect("nine ten;")


# The socket itself


@asynccontextmanager
async def talking(core: CoreProcess) -> AsyncIterator[ClientConnection]:
    uri = f"ws://127.0.0.1:{port_of(core)}/qgpt/stream"
    # With frames unread the answer to the close is never heard: there is no use in waiting for it.
    async with connect(uri, proxy=None, open_timeout=PATIENCE_S, close_timeout=0.1) as socket:
        yield socket


async def frames(socket: ClientConnection) -> list[dict[str, Any]]:
    """What comes, up to an end."""
    found: list[dict[str, Any]] = []
    async with asyncio.timeout(PATIENCE_S):
        while not found or found[-1]["status"] == "IN-PROGRESS":
            found.append(json.loads(await socket.recv()))
    return found


def text_of(found: list[dict[str, Any]]) -> str:
    return "".join(
        answer["text"]
        for f in found
        if "question" in f
        for answer in f["question"]["answers"]["iterable"]
    )


async def tiny_id(core: CoreProcess) -> str:
    async with httpx.AsyncClient(base_url=core.url, timeout=PATIENCE_S) as http:
        models = (await http.get("/models")).json()["iterable"]
    return next(str(model["id"]) for model in models if model["name"] == NAME)


async def test_a_conversation_is_remembered_stopped_and_refused(stocked: CoreProcess) -> None:
    model = await tiny_id(stocked)

    def asking(query: str, **more: Any) -> str:
        relevance = {"query": query, "model": model, **more.pop("relevance", {})}
        return json.dumps({"relevance": relevance, **more})

    async with talking(stocked) as socket:
        await socket.send(asking("count", request="r1"))
        first = await frames(socket)
        assert text_of(first) == expected("count")
        assert {frame["request"] for frame in first} == {"r1"}
        key = first[0]["conversation"]
        # The newest keyword decides: "this" has none, and the conversation still says "count".
        await socket.send(asking("this", conversation=key))
        assert text_of(await frames(socket)) == expected("count")

        await socket.send(asking("loop", conversation=key))
        assert json.loads(await socket.recv())["status"] == "IN-PROGRESS"
        await socket.send(json.dumps({"stop": True, "conversation": key}))
        assert (await frames(socket))[-1]["status"] == "STOPPED"
        await socket.send(asking("count", conversation=key))
        assert text_of(await frames(socket)).endswith(expected("count"))

        for wrong, words in (
            ("{", "not a question"),
            ('{"relevance": {"query": 1}}', "query"),
            ("{}", "no question"),
            (asking("x", relevance={"paths": ["/etc/passwd"]}), "reads no files"),
            (asking("x", relevance={"assets": {"iterable": [{"id": "1"}]}}), "saved material"),
            (asking("x", relevance={"model": "none"}), "no model"),
        ):
            await socket.send(wrong)
            (refused,) = await frames(socket)
            assert refused["status"] == "FAILED"
            assert words in refused["errorMessage"]


async def test_a_socket_that_goes_away_ends_its_answers(stocked: CoreProcess) -> None:
    model = await tiny_id(stocked)
    async with talking(stocked) as socket:
        await socket.send(json.dumps({"relevance": {"query": "loop", "model": model}}))
        await socket.recv()
    async with httpx.AsyncClient(base_url=stocked.url, timeout=PATIENCE_S) as http:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                (instance,) = (await http.get("/deck/state")).json()["instances"]
                if instance["state"] == "ready":
                    break
                await asyncio.sleep(0.02)


async def test_models_are_told_as_they_come_and_go(stocked: CoreProcess, demo_models: Path) -> None:
    path = str(demo_models / "tiny-GGUF" / "tiny-F16.gguf")
    uri = f"ws://127.0.0.1:{port_of(stocked)}/models/stream/identifiers"
    async with (
        connect(uri, proxy=None, open_timeout=PATIENCE_S) as socket,
        httpx.AsyncClient(base_url=stocked.url, timeout=PATIENCE_S) as http,
        asyncio.timeout(PATIENCE_S),
    ):
        everything = json.loads(await socket.recv())["iterable"]
        listed = (await http.get("/models")).json()["iterable"]
        assert {entry["model"]["id"] for entry in everything} == {one["id"] for one in listed}
        made = (await http.post("/deck/models", json={"unique": path})).json()
        assert json.loads(await socket.recv()) == {"iterable": [{"model": {"id": made["id"]}}]}
        await http.delete(f"/deck/models/{made['id']}")
        (gone,) = json.loads(await socket.recv())["iterable"]
        assert gone == {"model": {"id": made["id"]}, "deleted": True}


async def test_placeholders_say_so_and_cannot_be_used(stocked: CoreProcess) -> None:
    async with httpx.AsyncClient(base_url=stocked.url, timeout=PATIENCE_S) as http:
        listed = (await http.get("/models")).json()["iterable"]
        clouds = [model for model in listed if model["cloud"]]
        assert [model["unique"] for model in clouds] == [
            "gpt-3.5-turbo",
            "gemini-2.0-flash-lite-001",
        ]
        assert listed[-2:] == clouds
        for model in clouds:
            assert model["description"].startswith("A placeholder")
            assert (await http.get(f"/model/{model['id']}")).json() == model
            for verb in ("download", "load", "unload"):
                answer = await http.post(f"/model/{model['id']}/{verb}")
                assert answer.status_code == 500
            assert (await http.post(f"/model/{model['id']}/scores/increment")).status_code == 204
        applications = (await http.get("/applications")).json()["iterable"]
        assert [one["name"] for one in applications] == ["OS_SERVER"]


async def test_without_the_setting_there_is_none_of_it(shared_core: CoreProcess) -> None:
    async with httpx.AsyncClient(base_url=shared_core.url, timeout=PATIENCE_S) as http:
        for method, path in (
            ("GET", "/user"),
            ("GET", "/applications"),
            ("POST", "/connect"),
            ("POST", "/model/x/scores/increment"),
        ):
            answer = await http.request(method, path)
            assert answer.status_code == 404, path
            assert "pieces_clients" in answer.text
        assert not [m for m in (await http.get("/models")).json()["iterable"] if m["cloud"]]
        version = (await http.get("/.well-known/version")).text
        assert version != "12.0.0"
    for path in ("qgpt/stream", "user/stream", "models/stream/identifiers"):
        uri = f"ws://127.0.0.1:{port_of(shared_core)}/{path}"
        with pytest.raises(InvalidStatus) as refused:
            async with connect(uri, proxy=None, open_timeout=PATIENCE_S):
                pass
        assert refused.value.response.status_code == 404
