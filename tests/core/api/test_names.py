"""One namespace of names: what one API lists, every other knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.process import CoreProcess

TINY = "deck/tiny-GGUF:Q8_0"
PATIENCE_S = 60
ANTHROPIC = {"anthropic-version": "2023-06-01"}
HELLO = [{"role": "user", "content": "count"}]


@pytest.fixture(scope="module")
def http(shared_core: CoreProcess, demo_models: Path) -> Any:
    """A client of a core with a downloaded model and a custom one."""
    path = str(demo_models / "tiny-GGUF" / "tiny-F16.gguf")
    with httpx.Client(base_url=shared_core.url, timeout=PATIENCE_S) as http:
        answer = http.post("/api/pull", json={"model": TINY, "stream": False})
        assert answer.json() == {"status": "success"}
        added = http.post("/deck/models", json={"unique": path, "name": "My Model"})
        assert added.status_code == 200, added.text
        yield http


def listed(http: httpx.Client) -> tuple[list[str], list[str], list[str]]:
    openai = [model["id"] for model in http.get("/v1/models").json()["data"]]
    anthropic = [m["id"] for m in http.get("/v1/models", headers=ANTHROPIC).json()["data"]]
    ollama = [model["name"] for model in http.get("/api/tags").json()["models"]]
    return openai, anthropic, ollama


def test_every_listed_name_is_known_to_every_api(http: httpx.Client) -> None:
    openai, anthropic, ollama = listed(http)
    assert openai == anthropic == [TINY, "my-model"]
    assert ollama == [f"hf.co/{TINY}", "my-model:latest"]
    limits = {"max_tokens": 1, "messages": HELLO}
    for name in (*openai, *ollama, "tiny-GGUF:Q8_0", "tiny-gguf:q8_0:latest", "MY MODEL"):
        known = "my-model" if "my" in name.lower() else TINY
        for path, more in (
            ("/v1/chat/completions", limits),
            ("/v1/completions", {"prompt": "One", "max_tokens": 1}),
            ("/v1/messages", limits),
        ):
            answer = http.post(path, json={"model": name, **more})
            assert (answer.status_code, answer.json().get("model")) == (200, known), answer.text
        chat = {"model": name, "messages": HELLO, "stream": False, "options": {"num_predict": 1}}
        assert http.post("/api/chat", json=chat).status_code == 200
        assert http.post("/api/show", json={"model": name}).status_code == 200
        for headers in ({}, ANTHROPIC):
            assert http.get(f"/v1/models/{name}", headers=headers).json()["id"] == known
    assert {model["name"] for model in http.get("/api/ps").json()["models"]} == set(ollama)


def test_two_models_of_one_name_are_listed_by_their_ids(
    http: httpx.Client, demo_models: Path
) -> None:
    path = str(demo_models / "tiny-GGUF" / "tiny-Q8_0.gguf")
    twin = http.post("/deck/models", json={"unique": path, "name": "my model"}).json()["id"]
    try:
        openai, _, ollama = listed(http)
        assert twin in openai
        assert f"{twin}:latest" in ollama
        assert "my-model" not in openai
        assert not any("/tiny-Q8_0.gguf" in name for name in (*openai, *ollama))
        for name in openai[1:]:
            assert http.get(f"/v1/models/{name}").json()["id"] == name
        for name in ollama[1:]:
            assert http.post("/api/show", json={"model": name}).status_code == 200
    finally:
        http.delete(f"/deck/models/{twin}")


def test_what_no_model_has_is_refused_in_the_form_of_the_api(http: httpx.Client) -> None:
    asked = {"model": "claude-none", "max_tokens": 1, "messages": HELLO}
    openai = http.post("/v1/chat/completions", json=asked)
    anthropic = http.post("/v1/messages", json=asked)
    ollama = http.post("/api/chat", json=asked)
    assert [a.status_code for a in (openai, anthropic, ollama)] == [404] * 3
    assert openai.json()["error"]["code"] == "model_not_found"
    assert anthropic.json()["error"]["type"] == "not_found_error"
    assert isinstance(ollama.json()["error"], str)
    for path, form in (("/v1/nothing", dict), ("/api/nothing", str)):
        assert isinstance(http.get(path).json()["error"], form)
