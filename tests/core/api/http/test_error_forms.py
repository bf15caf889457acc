"""Errors in the form of each API."""

from __future__ import annotations

import msgspec
import pytest

from modeldeck.core.api.http.error_forms import ErrorStyle
from modeldeck.core.api.http.messages import error_response
from modeldeck.core.errors import (
    Ambiguous,
    Busy,
    Cancelled,
    Conflict,
    ContextExceeded,
    DeckError,
    EngineFailed,
    EngineMissing,
    Forbidden,
    InvalidRequest,
    MethodNotAllowed,
    NotEnoughMemory,
    NotFound,
    RequestTimeout,
    ShuttingDown,
    StorageTimeout,
    TooLarge,
    TooManyRequests,
    Unauthorized,
    UnknownRoute,
)
from modeldeck.core.schema.errors import from_info, to_info


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (InvalidRequest("a"), 400, "invalid_request_error"),
        (Unauthorized("a"), 401, "authentication_error"),
        (Forbidden("a"), 403, "permission_error"),
        (NotFound("a"), 404, "not_found_error"),
        (UnknownRoute("a"), 404, "not_found_error"),
        (MethodNotAllowed("a"), 405, "invalid_request_error"),
        (RequestTimeout("a"), 408, "timeout_error"),
        (Conflict("a"), 409, "invalid_request_error"),
        (TooLarge("a"), 413, "request_too_large"),
        (TooManyRequests("a"), 429, "rate_limit_error"),
        (Cancelled("a"), 499, "api_error"),
        (EngineFailed("a"), 500, "api_error"),
        (ShuttingDown("a"), 503, "api_error"),
        (StorageTimeout("a"), 504, "timeout_error"),
        (NotEnoughMemory("a"), 507, "api_error"),
        (Busy("a"), 529, "overloaded_error"),
    ],
)
def test_anthropic_s_types_and_statuses(error: DeckError, status: int, kind: str) -> None:
    error.remedy = "Do b."
    answer = error_response(error, "anthropic", request_id="id-1")
    assert answer.status == status
    assert msgspec.json.decode(answer.body) == {
        "type": "error",
        "error": {"type": kind, "message": "a Do b."},
        "request_id": "id-1",
    }


def test_a_full_context_in_the_words_of_each_api() -> None:
    error = from_info(to_info(ContextExceeded.of(40003, 4096)))
    openai = msgspec.json.decode(error_response(error, "openai").body)["error"]
    assert openai["code"] == "context_length_exceeded"
    assert openai["message"].startswith(
        "This model's maximum context length is 4096 tokens, but the prompt is too long: 40003 "
        "tokens (context_length_exceeded)."
    )
    assert (openai["n_prompt_tokens"], openai["n_ctx"]) == (40003, 4096)
    anthropic = msgspec.json.decode(error_response(error, "anthropic").body)["error"]
    assert anthropic["message"].startswith(
        "prompt is too long: 40003 tokens > 4096 maximum (this model's maximum context length is "
        "4096 tokens)"
    )
    other = ContextExceeded("Too long.")
    assert b"Too long." in error_response(other, "anthropic").body
    assert b"n_ctx" not in error_response(other, "openai").body


def test_what_is_unknown_is_no_model_where_it_is_no_route() -> None:
    codes = [
        msgspec.json.decode(error_response(error, "openai").body)["error"]["code"]
        for error in (NotFound("a"), UnknownRoute("a"))
    ]
    assert codes == ["model_not_found", "unknown_route"]


@pytest.mark.parametrize("style", ["json", "text", "openai", "anthropic", "ollama"])
@pytest.mark.parametrize(
    ("error", "useless"),
    [
        (NotEnoughMemory("a"), True),
        (EngineMissing("a"), True),
        (Ambiguous("a"), True),
        (EngineFailed("a"), False),
        (Conflict("a"), False),
        (Busy("a"), False),
        (TooManyRequests("a"), False),
        # Nobody sends these again.
        (InvalidRequest("a"), False),
        (NotFound("a"), False),
    ],
)
def test_clients_are_told_what_not_to_repeat(
    error: DeckError, useless: bool, style: ErrorStyle
) -> None:
    headers = dict(error_response(error, style).headers)
    assert headers.get("X-Should-Retry") == ("false" if useless else None)
    waits = isinstance(error, Busy | TooManyRequests)
    assert headers.get("Retry-After") == ("1" if waits else None)
