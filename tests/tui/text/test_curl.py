"""A request as a line of curl."""

from __future__ import annotations

import json
import shlex
from typing import Any

import pytest

from modeldeck.core.schema import Host, RequestInfo
from modeldeck.tui.text import curl

HOST = Host(
    name="box", version="1", started_at="2026-01-01T00:00:00Z", urls=("http://localhost:5323",)
)


def request(**more: Any) -> RequestInfo:
    return RequestInfo(
        **{
            **{"id": "r", "model_id": "m", "unique": "it's/odd name:F16", "who": "laptop"},
            **{"dialect": "openai", "since": "2026-01-01T00:00:00Z", "state": "done", **more},
        }
    )


@pytest.mark.parametrize(
    ("asked", "path", "fields"),
    [
        (request(max_tokens=9), "/v1/chat/completions", {"max_tokens": 9}),
        (request(dialect="native", temperature=0.5), "/v1/chat/completions", {"temperature": 0.5}),
        (request(dialect="anthropic"), "/v1/messages", {"max_tokens": 1024}),
        (request(dialect="responses", max_tokens=9), "/v1/responses", {"max_output_tokens": 9}),
        (request(dialect="ollama", max_tokens=9), "/api/chat", {}),
        (request(kind="embedding"), "/v1/embeddings", {"input": ["…"]}),
        (request(kind="ranking"), "/v1/rerank", {"query": "…"}),
    ],
)
def test_it_has_the_path_and_the_limits_of_the_request(
    asked: RequestInfo, path: str, fields: dict[str, Any]
) -> None:
    words = shlex.split(curl.request_line(asked, HOST, token=True))
    assert words[:4] == [
        "curl",
        f"http://localhost:5323{path}",
        "-H",
        "Authorization: Bearer $TOKEN",
    ]
    body = json.loads(words[words.index("--json") + 1])
    assert body["model"] == "it's/odd name:F16"
    assert fields.items() <= body.items()


def test_without_an_address_it_goes_over_the_socket() -> None:
    host = Host(name="box", version="1", started_at="2026-01-01T00:00:00Z", socket="/run/a b.sock")
    words = shlex.split(curl.first_line("tiny", host))
    assert words[:4] == [
        "curl",
        "--unix-socket",
        "/run/a b.sock",
        "http://localhost/v1/chat/completions",
    ]
    assert "Authorization" not in " ".join(words)
