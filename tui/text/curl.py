"""Requests to the API as a line of curl that runs. Pure."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modeldeck.core.schema import Host, RecordedText, RequestInfo

HIDDEN = "…"
"""What stands for a text that was not recorded."""

_ASKED = [{"role": "user", "content": HIDDEN}]


def request_line(
    info: RequestInfo, host: Host, *, token: bool, text: RecordedText | None = None
) -> str:
    """The request as curl: its text is left out where it was not recorded, its token is `$TOKEN`.

    Args:
        info: The request.
        host: The core's machine, with its addresses.
        token: Whether it came with a token.
        text: What it says, where that was recorded.
    """
    path, body = _path_and_body(info)
    if text is not None:
        body.pop("input", None)
        told = [{"role": m.role, "content": m.content} for m in text.messages]
        said = text.prompt or ""
        if info.dialect == "responses":
            body["input"] = told or said
        else:
            body["messages"] = told or [{"role": "user", "content": said}]
    limits = {"max_tokens": info.max_tokens, "temperature": info.temperature}
    if info.kind == "text" and info.dialect != "ollama":
        body |= {name: value for name, value in limits.items() if value is not None}
    if info.dialect == "responses" and "max_tokens" in body:
        body["max_output_tokens"] = body.pop("max_tokens")
    return _curl(host, path, body, token=token)


def first_line(model: str, host: Host) -> str:
    """A first question to a model as curl."""
    body = {"model": model, "messages": [{"role": "user", "content": "Say hello."}]}
    return _curl(host, "/v1/chat/completions", body, token=False)


def _path_and_body(info: RequestInfo) -> tuple[str, dict[str, Any]]:
    model = info.unique
    if info.kind == "embedding":
        return "/v1/embeddings", {"model": model, "input": [HIDDEN]}
    if info.kind == "ranking":
        return "/v1/rerank", {"model": model, "query": HIDDEN, "documents": [HIDDEN]}
    match info.dialect:
        case "anthropic":
            return "/v1/messages", {"model": model, "messages": _ASKED, "max_tokens": 1024}
        case "ollama":
            return "/api/chat", {"model": model, "messages": _ASKED}
        case "responses":
            return "/v1/responses", {"model": model, "input": HIDDEN}
    return "/v1/chat/completions", {"model": model, "messages": _ASKED}


def _curl(host: Host, path: str, body: dict[str, Any], *, token: bool) -> str:
    words = ["curl"]
    if host.urls:
        words.append(shlex.quote(host.urls[0].rstrip("/") + path))
    else:
        words += ["--unix-socket", shlex.quote(host.socket or ""), f"http://localhost{path}"]
    if token:
        words.append('-H "Authorization: Bearer $TOKEN"')
    words.append(f"--json {shlex.quote(json.dumps(body, ensure_ascii=False))}")
    return " ".join(words)
