"""Hostile files and clients, all at once: nothing waits without end, `/health` least of all.

The bar is 0.3 s for an answer of `/health`, from a connection of its own. A machine under load is
slower at everything, so what a program that does nothing else takes to answer at the same time is
allowed on top: that tells a busy machine from a loop that is blocked.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote, urlsplit

import httpx
import psutil
import pytest

from modeldeck.core.api.http.acceptor import AT_ONCE
from modeldeck.core.demo.hub import DemoHub
from modeldeck.core.demo.repository import DemoRepo, demo_repo
from tests.end_to_end.conftest import Api
from tests.support.absurd_headers import large_table, many_arrays
from tests.support.process import CoreProcess
from tests.support.signals import suspend

BAR_S = 0.3
EVERY_S = 0.05
SOON_S = 30.0
"""For an answer that must not wait for a file: the longest time limit of one, and some room."""
PATIENCE_S = 60.0

DESCRIPTORS = 1024
TINY = "deck/tiny-GGUF:F16"
CAP = 800
"""Connections that this limit leaves room for."""

CONTROL = """
import asyncio
async def answer(reader, writer):
    await reader.read(100)
    writer.write(b"ok")
    writer.close()
async def main():
    server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=1000)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"""


class Sampler:
    """Asks `/health` every 50 ms, and an idle program beside it."""

    def __init__(self, core: CoreProcess) -> None:
        self._place = urlsplit(core.url)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.took: list[float] = []
        self.control: list[float] = []
        self.answers: list[bytes] = []

    def __enter__(self) -> Self:
        self._idle = subprocess.Popen([sys.executable, "-c", CONTROL], stdout=subprocess.PIPE)
        assert self._idle.stdout is not None
        self._port = int(self._idle.stdout.readline())
        self._thread.start()
        return self

    def finish(self) -> None:
        """Ask no more after the question that is on its way."""
        self._done.set()

    def __exit__(self, *_: object) -> None:
        self.finish()
        self._thread.join(60)
        self._idle.kill()
        with self._idle:
            pass

    def _run(self) -> None:
        assert self._place.port is not None
        ask = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        while not self._done.wait(EVERY_S):
            took, answer = _asked(self._place.port, ask)
            self.took.append(took)
            self.answers.append(answer)
            self.control.append(_asked(self._port, b"?")[0])

    @property
    def allowed_s(self) -> float:
        """For an answer: two steps of the core, accepting and answering, may each wait for a
        processor, as the idle program did."""
        return BAR_S + 2 * max(self.control)

    def check(self) -> None:
        """Assert that no answer took too long, or was another than it should be."""
        assert len(self.took) > 20
        odd = [answer for answer in self.answers if b"HTTP/1.1 200 " not in answer]
        assert not odd
        allowed = self.allowed_s
        slow = [round(took, 3) for took in self.took if took > allowed]
        assert not slow, f"slower than {allowed:.3f} s: {slow}"


def _asked(port: int, data: bytes) -> tuple[float, bytes]:
    """How long an answer took on a new connection, and the answer."""
    answer, began = b"", time.perf_counter()
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=60) as wire:
            wire.sendall(data)
            while piece := wire.recv(4096):
                answer += piece
    except OSError as error:
        answer += repr(error).encode()
    return time.perf_counter() - began, answer


@pytest.fixture
def own_core(home: Path, hub: DemoHub) -> Iterator[CoreProcess]:
    """A core with a limit of open files as most systems have it."""
    environ = {**os.environ, "HF_ENDPOINT": hub.url}
    with CoreProcess(environ, descriptors=DESCRIPTORS) as core:
        yield core


@pytest.fixture
def many_files() -> Iterator[None]:
    """Room for the burst's sockets in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= hard < 2048:
        pytest.skip("this process may not have 2048 open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def asked(core: CoreProcess, method: str, path: str, body: object = None) -> tuple[int, str]:
    """Status and text of an answer, which must come soon."""
    with httpx.Client(base_url=core.url, timeout=SOON_S, trust_env=False) as client:
        answer = client.request(method, path, json=body)
    return answer.status_code, answer.text


def together(core: CoreProcess, method: str, paths: list[str], bodies: list[Any]) -> list[Any]:
    with ThreadPoolExecutor(len(paths)) as threads:
        return list(
            threads.map(lambda each: asked(core, method, *each), zip(paths, bodies, strict=True))
        )


def pipes(folder: Path, count: int) -> list[Path]:
    made = [folder / f"pipe-{number}.gguf" for number in range(count)]
    for path in made:
        os.mkfifo(path)
    return made


def add_pipes(core: CoreProcess, folder: Path) -> None:
    """Named pipes as custom models: refused, all of them."""
    found = together(
        core, "POST", ["/deck/models"] * 10, [{"unique": str(p)} for p in pipes(folder, 10)]
    )
    assert [status for status, _ in found] == [400] * 10
    assert all("named pipe" in text for _, text in found)


def turn_into_pipes(api: Api, folder: Path, sound: Path) -> None:
    """Custom models whose files become pipes: nothing that looks at them waits."""
    core, models = api.core, [folder / f"model-{number}.gguf" for number in range(10)]
    for path in models:
        shutil.copy(sound, path)
        assert asked(core, "POST", "/deck/models", {"unique": str(path)})[0] == 200
    for path in models:
        path.unlink()
        os.mkfifo(path)
    loads = [f"/deck/models/{quote(str(path), safe='')}/load" for path in models]
    refused = together(core, "POST", loads, [{"wait": True}] * len(loads))
    assert all(status >= 400 for status, _ in refused)
    looks = ["/deck/fits", "/api/tags", "/deck/cache", "/v1/models", "/deck/state"] * 2
    assert {status for status, _ in together(core, "GET", looks, [None] * len(looks))} == {200}
    api.until(
        lambda state: (
            not any(
                model["downloaded"] for model in state["models"] if model["unique"].startswith("/")
            )
        )
    )


def spoil_cache(api: Api, root: Path) -> None:
    """Pipes in the cache where other tools keep files."""
    api.pull("deck/tiny-GGUF:Q8_0")
    repo = root / "models--deck--tiny-GGUF"
    os.mkfifo(repo / "refs" / "v1")
    blob = max((repo / "blobs").iterdir(), key=lambda path: path.stat().st_size)
    blob.unlink()
    os.mkfifo(blob)
    assert asked(api.core, "GET", "/deck/cache")[0] == 200
    assert asked(api.core, "GET", "/deck/repositories/deck%2Ftiny-GGUF/card")[0] in (200, 404)
    asked(api.core, "POST", "/deck/cache/verify", {})
    asked(api.core, "POST", f"/deck/models/{quote('deck/tiny-GGUF:Q8_0', safe='')}/load", {})


def read_absurd_headers(api: Api) -> None:
    """Headers on the Hub that take long to read: answered in words, by every verb that looks."""
    for unique in ("deck/arrays-GGUF:F16", "deck/table-mlx"):
        name = quote(unique, safe="")
        paths = [f"/deck/models/{name}/fit"] * 3
        found = together(api.core, "GET", paths, [None] * len(paths))
        assert all(status in (200, 502) for status, _ in found), found
        assert all("verdict" in text or "remedy" in text for _, text in found)
    assert asked(api.core, "GET", "/deck/search?query=deck")[0] == 200


def ask_hostile_questions(api: Api) -> None:
    """Schemas that would hold an engine up, and an engine that is stopped."""
    api.pull(TINY)
    question = {"model": TINY, "messages": [{"role": "user", "content": "count"}], "max_tokens": 4}
    api.post("/v1/chat/completions", question)
    circle = {"allOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"$ref": "#/$defs/a"}}}
    wide = {"anyOf": [{"const": f"{number}" * 50} for number in range(5_000)]}
    deep: dict[str, Any] = {}
    for _ in range(500):
        deep = {"items": deep}
    for schema in (circle, wide, deep, {"pattern": "(.*a){30}" * 20, "type": "string"}):
        form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
        status, text = asked(
            api.core, "POST", "/v1/chat/completions", {**question, "response_format": form}
        )
        assert status in (200, 400), text
    suspend(api.state()["instances"][0]["pid"])
    status, text = asked(api.core, "POST", "/v1/chat/completions", question)
    assert (status, "does not answer" in text) == (500, True), text


def crowd(core: CoreProcess, *, at_once: bool = False) -> None:
    """A burst of silent clients: the cap holds.

    With `at_once` all of them wait when the core comes to accept the first.
    """
    process, port = psutil.Process(core.process.pid), urlsplit(core.url).port
    clients, before = [socket.socket() for _ in range(1100)], process.num_fds()
    try:
        if at_once:
            process.suspend()
        for client in clients:
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", port))
        process.resume()
        deadline = time.monotonic() + 60
        while True:
            found = [_state(client) for client in clients]
            if "pending" not in found and found.count("open") <= CAP:
                break
            assert process.num_fds() <= before + CAP + 2 * AT_ONCE
            assert time.monotonic() < deadline, f"{found.count('open')} stay, {CAP} may"
            time.sleep(0.02)
        assert found.count("open") > CAP - 50
    finally:
        for client in clients:
            client.close()


def _state(client: socket.socket) -> str:
    """Whether the other end is there, is gone, or has not been reached yet."""
    try:
        if client.recv(1) == b"":
            return "closed"
    except BlockingIOError:
        pass
    except OSError:
        return "closed"
    try:
        client.getpeername()
    except OSError:
        return "pending"
    return "open"


@pytest.mark.usefixtures("many_files")
def test_health_answers_through_hostile_files_and_clients(
    own_core: CoreProcess, home: Path, tmp_path: Path, demo_models: Path
) -> None:
    api = Api(own_core)
    with Sampler(own_core) as sampler:
        add_pipes(own_core, tmp_path)
        turn_into_pipes(api, tmp_path, demo_models / "tiny-GGUF" / "tiny-Q8_0.gguf")
        spoil_cache(api, home.parent / "hf" / "hub")
        crowd(own_core)
        junk = os.urandom(1 << 20)
        for data in (junk, b"GET " + b"a" * 100_000, b"POST / HTTP/1.1\r\n" * 10_000):
            _asked(urlsplit(own_core.url).port or 0, data)
    sampler.check()
    assert json.loads(asked(own_core, "GET", "/health")[1])["status"] == "ok"
    assert "Traceback" not in own_core.stderr
    assert len(own_core.stderr) < 100_000
    assert asked(own_core, "POST", "/deck/stop")[0] in (200, 202)
    own_core.process.wait(PATIENCE_S)


def test_health_answers_through_hostile_headers_and_questions(
    home: Path, tmp_path: Path, demo_repositories: tuple[DemoRepo, ...]
) -> None:
    folders = {"arrays-GGUF": many_arrays, "table-mlx": large_table}
    repos = list(demo_repositories)
    for name, write in folders.items():
        folder = tmp_path / name
        folder.mkdir()
        write(folder)
        repos.append(demo_repo(f"deck/{name}", folder, tags=("mlx",) if "mlx" in name else ()))
    with DemoHub.in_thread(tuple(repos)) as hub:
        environ = {**os.environ, "HF_ENDPOINT": hub.url, "MODELDECK_RUNTIME_SILENCE_S": "8"}
        with CoreProcess(environ) as core:
            with Sampler(core) as sampler:
                read_absurd_headers(Api(core))
                ask_hostile_questions(Api(core))
            sampler.check()
            assert "Traceback" not in core.stderr


@pytest.mark.usefixtures("many_files")
def test_a_burst_that_comes_at_once_does_not_get_past_the_cap(own_core: CoreProcess) -> None:
    crowd(own_core, at_once=True)
    assert asked(own_core, "GET", "/health")[0] == 200
    assert "Traceback" not in own_core.stderr
    assert len(own_core.stderr) < 100_000


def test_the_sampler_sees_a_core_that_is_blocked(own_core: CoreProcess) -> None:
    process = psutil.Process(own_core.process.pid)
    with Sampler(own_core) as sampler:
        while len(sampler.took) < 25:
            time.sleep(EVERY_S)
        process.suspend()
        suspended = time.monotonic()
        while time.monotonic() - suspended < 3.0 + 2 * sampler.allowed_s:  # far beyond the bar
            time.sleep(EVERY_S)
        sampler.finish()
        process.resume()
    with pytest.raises(AssertionError, match="slower than"):
        sampler.check()
