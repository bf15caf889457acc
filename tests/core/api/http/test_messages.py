from __future__ import annotations

from typing import Any

import msgspec
import pytest

from modeldeck.core.api.http.json_body import JSON_DEPTH
from modeldeck.core.api.http.messages import (
    CachedEncoding,
    Request,
    error_response,
    reason,
)
from modeldeck.core.api.native.bodies import CancelBody, MoveBody
from modeldeck.core.errors import Busy, InvalidRequest, NotFound, Unauthorized
from modeldeck.core.schema import ModelSeed


def request(body: bytes = b"", n: str | None = None) -> Request:
    return Request(method="POST", path="/", body=body, query={} if n is None else {"n": n})


def test_an_empty_body_counts_as_no_fields() -> None:
    assert request(b" \r\n").json() is None
    assert request().parse(CancelBody) == CancelBody()
    with pytest.raises(InvalidRequest, match="`to`"):
        request().parse(MoveBody)


def test_a_body_becomes_a_record_and_what_is_unknown_is_passed_over() -> None:
    seed = request(b'{"unique":"a/b","later":1}').parse(ModelSeed)
    assert seed == ModelSeed(unique="a/b")


@pytest.mark.parametrize(
    ("body", "part"),
    [
        (b'{"unique":1}', "unique"),
        (b"[]", "object"),
        (b"null x", "not JSON"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b'{"unique":"\\ud800"}', "not JSON"),
        (b"1" * 5000, "out of range"),
    ],
)
def test_bodies_that_are_refused(body: bytes, part: str) -> None:
    with pytest.raises(InvalidRequest, match=part):
        request(body).parse(ModelSeed)


@pytest.mark.parametrize(("depth", "fine"), [(JSON_DEPTH, True), (JSON_DEPTH + 1, False)])
def test_depth(depth: int, fine: bool) -> None:
    nested = b"[" * depth + b"]" * depth
    if fine:
        assert request(nested).json() is not None
    else:
        with pytest.raises(InvalidRequest, match="deeper"):
            request(nested).json()


def test_many_brackets_are_not_depth() -> None:
    assert len(request(b"[" + b"[],{}," * 500 + b'"[["]').json()) == 1001


@pytest.mark.parametrize(("text", "value"), [("12", 12), ("-1", -1), ("", None), (None, None)])
def test_numbers_in_the_query(text: str | None, value: int | None) -> None:
    assert request(n=text).number("n", None) == value


@pytest.mark.parametrize("text", ["1.5", "x", "1e3", "٣", "--1", "9" * 40, " 1", "1_0"])
def test_numbers_that_are_none(text: str) -> None:
    with pytest.raises(InvalidRequest, match="whole number"):
        request(n=text).number("n", 0)


def test_kept_bytes_are_made_once_per_value() -> None:
    made: list[Any] = []

    def encode(value: Any) -> bytes:
        made.append(value)
        return b"%d" % len(made)

    kept, first, second = CachedEncoding(encode), object(), object()
    assert [kept.of(value) for value in (first, first, second, first)] == [b"1", b"1", b"2", b"3"]
    assert CachedEncoding(encode).of(None) == b"4"


def test_error_styles() -> None:
    error = NotFound("No model.", "Look it up.", details=("line",))
    native = error_response(error, "json")
    assert native.status == 404
    assert msgspec.json.decode(native.body)["error"] == {
        "code": "not_found",
        "message": "No model.",
        "remedy": "Look it up.",
        "details": ["line"],
    }
    text = error_response(error, "text", 410)
    assert (text.status, text.body) == (410, b"No model. Look it up.")
    openai = msgspec.json.decode(error_response(error, "openai").body)["error"]
    assert openai["type"] == "invalid_request_error"
    assert openai["code"] == "model_not_found"


@pytest.mark.parametrize(
    ("error", "kind"), [(Busy("a"), "server_error"), (Unauthorized("a"), "authentication_error")]
)
def test_kinds_of_openai_errors(error: Any, kind: str) -> None:
    answer = error_response(error, "openai")
    assert msgspec.json.decode(answer.body)["error"]["type"] == kind


def test_reasons() -> None:
    assert [reason(status) for status in (200, 499, 599)] == [
        "OK",
        "Client Closed Request",
        "Unknown",
    ]
