"""What the end-to-end tests ask a core with: its API over HTTP, and nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tests.support.process import CoreProcess

PATIENCE_S = 60.0
"""How long a condition may take to come true before the test fails."""


class Api:
    """The API of a core, as a script would use it."""

    def __init__(self, core: CoreProcess) -> None:
        self.core = core

    def call(self, method: str, path: str, body: object = None, status: int = 200) -> Any:
        """The answer to one request, which must have this status."""
        with httpx.Client(base_url=self.core.url, timeout=PATIENCE_S, trust_env=False) as client:
            answer = client.request(method, path, json=body)
        assert answer.status_code == status, answer.text
        return answer.json() if answer.content else None

    def get(self, path: str, status: int = 200) -> Any:
        return self.call("GET", path, status=status)

    def post(self, path: str, body: object = None, status: int = 200) -> Any:
        return self.call("POST", path, body, status=status)

    def state(self) -> Any:
        return self.get("/deck/state")

    def until(self, found: Callable[[Any], Any]) -> Any:
        """Ask for the state again and again until `found` sees in it what it looks for."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            state = self.state()
            if answer := found(state):
                return answer
            assert time.monotonic() < deadline, f"never came true; the last state was {state}"
            time.sleep(0.02)

    def model(self, unique: str) -> Any:
        """The model with this unique name in the state, or None."""
        return next((m for m in self.state()["models"] if m["unique"] == unique), None)

    def pull(self, unique: str, **how: bool) -> Any:
        """Download a model to its end, which must be a good one; the download."""
        self.post(f"/deck/models/{quote(unique, safe='')}/download", how)
        return self.until(lambda s: self.ended(s, unique, "completed"))

    def ended(self, state: Any, unique: str, wanted: str) -> Any:
        """The download of a model once it ended, which must be as wanted."""
        for job in state["downloads"]:
            if job["unique"] == unique and job["state"] in ("completed", "failed", "canceled"):
                assert job["state"] == wanted, job
                return job
        return None

    def load(self, unique: str, **options: object) -> Any:
        """Load a model and wait until it is ready; the instance."""
        path = f"/deck/models/{quote(unique, safe='')}/load"
        return self.post(path, {"wait": True, **options})

    def ask(self, unique: str, question: str) -> str:
        """The whole answer of a model to one question."""
        answer = self.post(
            "/v1/chat/completions",
            {"model": unique, "messages": [{"role": "user", "content": question}]},
        )
        return str(answer["choices"][0]["message"]["content"])


@pytest.fixture
def api(core: CoreProcess) -> Api:
    """The API of the core of this test."""
    return Api(core)
