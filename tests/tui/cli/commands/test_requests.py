"""The commands of requests to models, against a real core whose engine follows scripts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sysconfig
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import httpx
import pytest
from click.testing import CliRunner

from modeldeck.tui.cli.main import main
from tests.support import scripted_engine
from tests.support.process import CoreProcess

PATIENCE_S = 60.0
PROGRAM = str(Path(sysconfig.get_path("scripts")) / "modeldeck")


def run(*words: str, code: int = 0) -> str:
    """What a command writes to standard output; it must end with this code."""
    done = CliRunner().invoke(main, words)
    assert done.exit_code == code, (done.stdout, done.stderr)
    return done.stdout if code == 0 else done.stderr


def told() -> list[dict[str, Any]]:
    """The requests as the command tells a program."""
    (line,) = run("requests", "--json").splitlines()
    found: list[dict[str, Any]] = json.loads(line)
    return found


@contextmanager
def watching() -> Iterator[IO[str]]:
    """What `requests --watch` writes."""
    command = [PROGRAM, "requests", "--watch"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(PATIENCE_S)


@pytest.fixture
def core(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CoreProcess]:
    scripted_engine.install(tmp_path, monkeypatch)
    with CoreProcess(dict(os.environ)) as core:
        yield core


def test_they_are_listed_and_cancelled(core: CoreProcess, demo_models: Path) -> None:
    assert "No model was asked" in CliRunner().invoke(main, ["requests"]).stderr
    path = str(demo_models / "tiny-GGUF" / "tiny-F16.gguf")
    with (
        httpx.Client(base_url=core.url, timeout=PATIENCE_S, trust_env=False) as http,
        ThreadPoolExecutor(1) as pool,
    ):
        model = http.post("/deck/models", json={"unique": path, "name": "tiny"}).json()["id"]

        def ask(prompt: str) -> httpx.Response:
            body = {"model": model, "prompt": prompt, "max_tokens": 9000}
            return http.post("/v1/completions", json=body)

        assert ask("say 3").status_code == 200
        running: Future[httpx.Response] = pool.submit(ask, "endless")
        deadline = time.monotonic() + PATIENCE_S
        while not (writing := [r for r in told() if r["state"] == "writing"]):
            assert time.monotonic() < deadline
            threading.Event().wait(0.05)
        shown = run("requests")
        assert shown.index("writing") < shown.index("done"), "what has not ended comes first"
        key = writing[0]["id"]
        with watching() as lines:
            assert any("writing" in line for line in iter(lines.readline, "")), (
                "it lists them first"
            )
            assert "is cancelled" in run("requests", "cancel", key)
            assert any("cancelled by" in line for line in iter(lines.readline, ""))
        assert running.result(PATIENCE_S).status_code == 499
        assert "has ended" in run("requests", "cancel", key, code=4)
        assert "no request" in run("requests", "cancel", "nobody", code=3)
    secret = run("token", "create", "night", "--batch").strip()
    assert secret
    (token,) = json.loads(run("token", "list", "--json"))
    assert token["priority"] == "batch"
