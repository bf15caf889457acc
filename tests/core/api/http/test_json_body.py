"""Bodies are decoded within bounds of depth and number of values."""

from __future__ import annotations

import json
from typing import Any

import pytest

from modeldeck.core.api.http import json_body
from modeldeck.core.api.http.json_body import (
    IMAGE_BYTES,
    MOST_VALUES,
    SMALL_BYTES,
    TEXT_BYTES,
    WINDOW,
    decode,
)
from modeldeck.core.errors import ContextExceeded, InvalidRequest


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
def test_very_many_values_are_refused_before_they_are_made(
    value: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_body, "MOST_VALUES", 1000)
    monkeypatch.setattr(json_body, "MOST_OBJECTS", 500)
    monkeypatch.setattr(json_body, "SMALL_BYTES", 1000)
    fine = b"[" + (value + b",") * 400 + value + b"]"
    assert len(decode(fine)) == 401
    body = b"[" + (value + b",") * 1000 + value + b"]"
    with pytest.raises(InvalidRequest, match="values"):
        decode(body)


def test_very_many_objects_are_refused_where_as_many_numbers_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(json_body, "MOST_OBJECTS", 500)
    monkeypatch.setattr(json_body, "SMALL_BYTES", 1000)
    for value, many in ((b"{}", True), (b"1", False), (b'"{"', False)):
        body = b"[" + (value + b",") * 600 + value + b"]"
        if many:
            with pytest.raises(InvalidRequest, match="objects"):
                decode(body)
        else:
            assert len(decode(body)) == 601


def test_what_is_no_json_is_refused_in_words() -> None:
    image = b'"' + b"A" * IMAGE_BYTES + b'"'
    for body in (
        *(b"{", b'{"a": "\xff"}', b"[" * 100_000, b"nope" * MOST_VALUES),
        *(b'["x' + image * 20 + b"]", b"[" + image * 20 + b"]", image[:-1] * 20),
    ):
        with pytest.raises(InvalidRequest, match="not JSON"):
            decode(body)


TEXT = 'a\n"\\ü🦙'
LONG = "QUJD" * (IMAGE_BYTES // 4)


@pytest.mark.parametrize(
    "value",
    [
        {"a": LONG * 40, "b": [TEXT, {"c": "data:image/png;base64," + LONG * 9}]},
        # Each cut by windows in another place.
        [LONG * 16 + "A" * n for n in (0, 1, 2, 5)],
        [TEXT * (WINDOW // 8) + '"' + LONG + '"', LONG + TEXT, TEXT + LONG],
        [LONG + "\\", "\\" + LONG, '"' + LONG, LONG + '"', "=" + LONG[:-2]] * 5,
        {LONG: TEXT * (SMALL_BYTES // 8)},
        [LONG[: IMAGE_BYTES - 1]] * 40,
        [0.5] * 400_000,
    ],
)
def test_images_are_decoded_as_they_were_sent(value: Any) -> None:
    for data in (json.dumps(value), json.dumps(value, ensure_ascii=False, indent=1)):
        assert len(data) > SMALL_BYTES
        assert decode(bytearray(data.encode())) == value


def test_more_text_than_any_context_holds_is_refused_before_it_is_decoded() -> None:
    text = json.dumps({"text": "a b" * (TEXT_BYTES // 3)}).encode()
    with pytest.raises(ContextExceeded, match="prompt is too long"):
        decode(text)
    image = json.dumps({"image": "A" * TEXT_BYTES, "text": "a"}).encode()
    assert decode(image)["text"] == "a"


@pytest.mark.parametrize("text", ["A" * 9, 'A"B\\C\n' * 3, "é" * 9, "\x00" * 9])
def test_large_values_are_encoded_as_others_are(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_body, "IMAGE_BYTES", 5)
    monkeypatch.setattr(json_body, "WINDOW", 4)
    value = {"a": [text, {"b": text + "="}, "short", None, 1.5], "c": text}
    assert json.loads(json_body.encode(value)) == value
