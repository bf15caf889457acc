"""Tokens of texts and of conversations, told by a real core with real llama.cpp."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.process import CoreProcess

TINY = "deck/tiny-GGUF:Q8_0"
PATIENCE_S = 60
HI = [{"role": "user", "content": "hi"}]


@pytest.fixture(scope="module")
def http(shared_core: CoreProcess) -> Iterator[httpx.Client]:
    """A client of a core that has the tiny model's files."""
    with httpx.Client(base_url=shared_core.url, timeout=PATIENCE_S) as http:
        answer = http.post("/api/pull", json={"model": TINY, "stream": False})
        assert answer.json() == {"status": "success"}
        yield http


def asked(http: httpx.Client, path: str, **body: Any) -> Any:
    answer = http.post(path, json={"model": TINY, **body})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_text_becomes_tokens_and_text_again(http: httpx.Client) -> None:
    text = "One two 🦙"
    tokens = asked(http, "/tokenize", content=text)["tokens"]
    assert all(isinstance(token, int) for token in tokens)
    assert asked(http, "/detokenize", tokens=tokens) == {"content": text}
    pieces = asked(http, "/tokenize", content=text, with_pieces=True)["tokens"]
    assert [piece["id"] for piece in pieces] == tokens
    data = b"".join(
        p["piece"].encode() if isinstance(p["piece"], str) else bytes(p["piece"]) for p in pieces
    )
    assert data.decode() == text
    assert asked(http, "/tokenize", content="") == {"tokens": []}


def test_names_of_special_tokens_are_text_where_that_is_asked(http: httpx.Client) -> None:
    template = asked(http, "/apply-template", messages=[{"role": "user", "content": "count"}])
    assert "count" in template["prompt"]
    special = asked(http, "/tokenize", content=template["prompt"])["tokens"]
    plain = asked(http, "/tokenize", content=template["prompt"], parse_special=False)["tokens"]
    assert len(plain) > len(special)
    assert asked(http, "/detokenize", tokens=special) == {"content": template["prompt"]}
    count = asked(
        http,
        "/v1/chat/completions/input_tokens",
        messages=[{"role": "user", "content": "count"}],
    )
    assert count == {"input_tokens": len(special), "object": "response.input_tokens"}


def test_the_model_may_be_left_out_while_one_is_loaded(http: httpx.Client) -> None:
    asked(http, "/tokenize", content="One")
    answer = http.post("/tokenize", json={"content": "One"})
    assert answer.json() == asked(http, "/tokenize", content="One")
    http.post("/models/unload")
    refused = http.post("/tokenize", json={"content": "One"})
    assert (refused.status_code, refused.json()["error"]["type"]) == (400, "invalid_request_error")
    assert "names no model" in refused.json()["error"]["message"]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/detokenize", {"tokens": [-1]}, 400),
        ("/detokenize", {"tokens": [1 << 40]}, 400),
        ("/tokenize", {"content": 1}, 400),
        ("/apply-template", {"messages": []}, 400),
        ("/apply-template", {"messages": HI, "add_generation_prompt": False}, 400),
        ("/v1/chat/completions/input_tokens", {"messages": HI, "chat_template": "x"}, 400),
        ("/tokenize", {"content": "x", "model": "none"}, 404),
    ],
)
def test_what_cannot_be_told_is_refused(
    http: httpx.Client, path: str, body: dict[str, Any], status: int
) -> None:
    answer = http.post(path, json={"model": TINY, **body})
    assert answer.status_code == status
    assert answer.json()["error"]["message"]


def test_chat_is_answered_where_programs_leave_v1_out(http: httpx.Client) -> None:
    given = {"messages": [{"role": "user", "content": "count"}], "temperature": 0}
    named = asked(http, "/v1/chat/completions", **given)
    bare = asked(http, "/chat/completions", **given)
    assert bare["choices"] == named["choices"]
    with http.stream(
        "POST", "/chat/completions", json={"model": TINY, "stream": True, **given}
    ) as a:
        assert list(a.iter_lines())[-2] == "data: [DONE]"
    refused = http.post("/chat/completions", json={"model": "nobody/nothing", **given})
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "model_not_found")
