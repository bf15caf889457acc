"""Bodies are decoded within bounds of depth and number of values."""

from __future__ import annotations

import json

import pytest

from modeldeck.core.api.http.json_body import MOST_VALUES, decode
from modeldeck.core.errors import InvalidRequest


@pytest.mark.parametrize("body", [b"", b" \r\n\t", bytearray()])
def test_an_empty_body_has_no_value(body: bytes) -> None:
    assert decode(body) is None


def test_a_long_text_may_hold_any_signs() -> None:
    text = '[{,"\\' * (MOST_VALUES // 2)
    assert decode(json.dumps({"text": text}).encode()) == {"text": text}


def test_the_tokens_of_a_long_text_are_taken() -> None:
    tokens = [1] * (MOST_VALUES - 10)
    assert decode(json.dumps(tokens).encode()) == tokens


@pytest.mark.parametrize("value", [b"{}", b"[]", b"1", b'"[[["'])
def test_very_many_values_are_refused_before_they_are_made(value: bytes) -> None:
    body = b"[" + (value + b",") * MOST_VALUES + value + b"]"
    with pytest.raises(InvalidRequest, match="values"):
        decode(body)


def test_what_is_no_json_is_refused_in_words() -> None:
    for body in (b"{", b'{"a": "\xff"}', b"[" * 100_000, b"nope" * MOST_VALUES):
        with pytest.raises(InvalidRequest, match="not JSON"):
            decode(body)
