"""Bodies and headers of errors, in the form of each API. Pure.

Sources: https://platform.openai.com/docs/guides/error-codes,
https://docs.claude.com/en/api/errors and https://github.com/ollama/ollama/blob/main/docs/api.md.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from modeldeck.core.errors import (
    Busy,
    ContextExceeded,
    DeckError,
    TooManyRequests,
    Unauthorized,
)
from modeldeck.core.schema.errors import to_info

ErrorStyle = Literal["json", "text", "openai", "anthropic", "ollama"]

RETRIED = frozenset({408, 409, 429})
"""Statuses below 500 with which OpenAI's and Anthropic's clients send a request again."""

OVERLOADED = 529
"""Anthropic's status for a server with too much to do."""

_FIELD = re.compile(r"at `\$\.([A-Za-z_]+)")
"""Finds the field that a validation error of msgspec names."""

_OPENAI_TYPES: Mapping[int, str] = {401: "authentication_error", 403: "permission_error"}

_ANTHROPIC_TYPES: Mapping[int, str] = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    499: "api_error",
    504: "timeout_error",
    OVERLOADED: "overloaded_error",
}


def status_of(error: DeckError, style: ErrorStyle) -> int:
    """The status of an error in a form, where its route says nothing else."""
    return OVERLOADED if style == "anthropic" and isinstance(error, Busy) else error.status


def body_of(error: DeckError, style: ErrorStyle, status: int, request_id: str) -> Any:
    """The JSON body of an error; for `text`, its text."""
    if style == "text":
        return str(error)
    if style == "openai":
        return {"error": _openai(error, status)}
    if style == "anthropic":
        return {**_anthropic(error, status), "request_id": request_id or None}
    if style == "ollama":
        return {"error": str(error)}
    info = msgspec.to_builtins(to_info(error))
    return {"error": {**info, "request_id": request_id} if request_id else info}


def headers_of(error: DeckError, status: int) -> tuple[tuple[str, str], ...]:
    """Headers of an error: when to retry and whether to, and how to authenticate."""
    headers: list[tuple[str, str]] = []
    if isinstance(error, TooManyRequests):
        headers.append(("Retry-After", str(error.retry_after_s)))
    if isinstance(error, Busy):
        headers.append(("Retry-After", "1"))
    if isinstance(error, Unauthorized):
        headers.append(("WWW-Authenticate", 'Bearer realm="modeldeck"'))
    if error.final and (status in RETRIED or status >= 500):
        headers.append(("X-Should-Retry", "false"))
    return tuple(headers)


def _openai(error: DeckError, status: int) -> dict[str, Any]:
    """The error object of OpenAI's API; a full context has llama-server's two numbers as well."""
    kind = _OPENAI_TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    code = "model_not_found" if error.code == "not_found" else error.code
    named = _FIELD.search(error.message)
    param = named[1] if named else None
    form: dict[str, Any] = {"message": str(error), "type": kind, "param": param, "code": code}
    if isinstance(error, ContextExceeded) and error.sizes is not None:
        form["n_prompt_tokens"], form["n_ctx"] = error.sizes
    return form


def _anthropic(error: DeckError, status: int) -> dict[str, Any]:
    """The error of Anthropic's API, without the request id."""
    kind = _ANTHROPIC_TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
    message = str(error)
    if isinstance(error, ContextExceeded) and error.sizes is not None:
        prompt, context = error.sizes
        message = (
            f"prompt is too long: {prompt} tokens > {context} maximum (this model's maximum "
            f"context length is {context} tokens). {error.remedy}"
        )
    return {"type": "error", "error": {"type": kind, "message": message}}
