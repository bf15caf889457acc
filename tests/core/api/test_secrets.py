"""Secrets of a real core turn up nowhere: not in its log, State, errors, files, nor in a child."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import httpx
import psutil
import pytest

from modeldeck.core.demo.hub import TOKEN as HUB_TOKEN
from modeldeck.core.demo.hub import DemoHub
from tests.support.process import CoreProcess

TINY = quote("deck/tiny-GGUF:Q8_0", safe="")
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def core(home: Path, hub: DemoHub) -> Iterator[CoreProcess]:
    (home.parent / "hf").mkdir()
    (home.parent / "hf" / "token").write_text(HUB_TOKEN)
    environ = {
        **os.environ,
        "HF_ENDPOINT": hub.url,
        "MODELDECK_API_ACCESS_LOG": "true",
        "MODELDECK_API_OUTSIDE": "127.0.0.1:0",
    }
    with CoreProcess({**environ, "MODELDECK_API_OUTSIDE": ""}) as first:
        transport = httpx.HTTPTransport(uds=str(first.socket))
        with httpx.Client(base_url="http://core", transport=transport, timeout=60) as owner:
            made = owner.post("/deck/tokens", json={"name": "mine", "scopes": ["manage"]})
    (home / "secret").write_text(made.json()["secret"])
    with CoreProcess(environ, ["--verbose"]) as core:
        yield core


def outside(core: CoreProcess) -> str:
    """Where it answers beyond this machine, as State has it."""
    url: str = httpx.get(f"{core.url}/deck/state", timeout=60).json()["host"]["urls"][1]
    return url


def test_no_secret_is_told(core: CoreProcess, home: Path) -> None:
    secret = (home / "secret").read_text()
    (home / "secret").unlink()
    bearer = {"Authorization": f"Bearer {secret}"}
    answers = []
    with httpx.Client(base_url=outside(core), headers=bearer, timeout=120) as http:
        # What is right, what is wrong, and what fails half-way.
        answers += [http.get(path) for path in ("/models", "/nothing", "/deck/search?query=tiny")]
        answers.append(http.post("/deck/models", content=b"{", headers=JSON))
        answers.append(http.get("/deck/models/none", headers={"Authorization": f"Basic {secret}"}))
        answers.append(http.get(f"/models?token={secret}"))
        answers.append(http.get("/models", headers={"Authorization": f"Bearer {secret}x"}))
        answers.append(http.post(f"/deck/models/{TINY}/download", content=b"{}", headers=JSON))
        while not http.get(f"/deck/models/{TINY}").json()["downloaded"]:
            time.sleep(0.1)  # or it would be told that it asks too often
        body = json.dumps({"wait": True, "context_length": 256})
        loaded = http.post(f"/deck/models/{TINY}/load", content=body, headers=JSON)
        assert loaded.status_code == 200
        answers.append(loaded)

        for process in psutil.Process(core.process.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):  # some look at the machine, and end
                words, environ = process.cmdline(), process.environ().values()
                assert not any(secret in text for text in (*words, *environ))
                assert not any(secret in text or HUB_TOKEN in text for text in words)
        told = ("/deck/state", "/deck/log?limit=5000", "/deck/audit", "/metrics", "/openapi.json")
        answers += [http.get(path) for path in told]
    everything = core.stderr + "".join(
        answer.text + repr(answer.headers) for answer in answers if answer.request
    )
    assert "token=mine" in everything
    assert "method=GET path=/models status=200" in core.stderr
    for found in (secret, secret.removeprefix("mdk_"), HUB_TOKEN):
        assert found not in everything
    files = [path for path in home.rglob("*") if path.is_file()]
    assert any(path.name == "modeldeck.sqlite3" for path in files)
    for path in files:
        try:
            content = path.read_bytes()
        except FileNotFoundError:  # it was replaced by another
            continue
        assert secret.encode() not in content, path
        assert HUB_TOKEN.encode() not in content, path
