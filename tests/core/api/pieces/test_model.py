from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pieces_os_client.models.model import Model as SdkModel

from modeldeck.core.api.pieces.model import (
    FAMILIES,
    SINCE,
    changes,
    checked,
    document,
    for_sdk,
    readable,
    sdk_version,
    seed,
)
from modeldeck.core.api.pieces.schema import SCHEMAS, check
from modeldeck.core.errors import InvalidRequest
from modeldeck.core.schema import Model

TINY = Model(
    id="5d0c4c60-0000-5000-8000-000000000000",
    unique="deck/tiny-GGUF:Q8_0",
    name="Tiny",
    format="gguf",
    source="custom",
    custom=True,
    quantization="Q8_0",
    size_bytes=105_454_432,
    repo="deck/tiny-GGUF",
    parameters=0.135,
    context_length=8192,
    usage=("chat",),
    version="2",
    created_at="2026-03-04T05:06:07Z",
)


def test_a_record_is_told_in_the_documented_words() -> None:
    assert document(TINY, downloading=True) == {
        "id": TINY.id,
        "name": "Tiny",
        "version": "2",
        "created": {"value": "2026-03-04T05:06:07Z"},
        "cloud": False,
        "type": "SPEED",
        "usage": "CODE_CONVERSATION",
        "description": "",
        "unique": "deck/tiny-GGUF:Q8_0",
        "parameters": 0.135,
        "quantization": "Q8_0",
        "bytes": {"value": 105_454_432, "readable": "105.5 MB"},
        "maxTokens": {"total": 8192},
        "cpu": True,
        "custom": True,
        "downloaded": False,
        "downloading": True,
        "loaded": False,
    }


def test_a_loaded_model_tells_the_memory_it_takes() -> None:
    made = document(replace(TINY, downloaded=True), loaded=True, ram_bytes=999)
    assert made["loaded"]
    assert made["ram"] == {"value": 999, "readable": "999 B"}


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"usage": ("embedding",)}, {"usage": "TEXT_EMBEDDING"}),
        ({"usage": ("code", "chat")}, {"usage": "CODE_GENERATION"}),
        ({"usage": ("chat", "code")}, {"usage": "CODE_CONVERSATION"}),
        ({"usage": ("chat", "vision")}, {"capabilities": {"images": True}}),
        ({"parameters": None}, {"type": "BALANCED", "parameters": None}),
        ({"parameters": 8.0}, {"type": "BALANCED"}),
        ({"parameters": 14.0}, {"type": "ACCURACY"}),
        ({"parameters": float("nan")}, {"type": "BALANCED", "parameters": None}),
        ({"format": "mlx"}, {"cpu": False}),
        ({"unique": "custom:Tiny:2"}, {"unique": None}),
        ({"version": ""}, {"version": "1"}),
        ({"size_bytes": None}, {"bytes": None}),
        ({"size_bytes": 1 << 63}, {"bytes": None}),
        ({"created_at": "2026-03-04T07:06:07+02:00"}, {"created": {"value": TINY.created_at}}),
        ({"created_at": "?"}, {"created": {"value": "1970-01-01T00:00:00Z"}}),
        ({"name": "a\udcffb"}, {"name": "a?b"}),
    ],
)
def test_what_follows_from_a_record(record: dict[str, Any], expected: dict[str, Any]) -> None:
    made = document(replace(TINY, **record))
    assert {name: made.get(name) for name in expected} == expected


@pytest.mark.parametrize(
    ("name", "provider", "foundation"),
    [
        ("Llama 3.2 1B Instruct", "META", "LLAMA_LATEST"),
        ("Meta Llama 3 8B Instruct", "META", "LLAMA_3_8B"),
        ("Llama 2 7B Chat", "META", "LLAMA_2_7B"),
        ("Gemma 3 4B", "GOOGLE", "GEMMA_LATEST"),
        ("EmbeddingGemma 300M", "GOOGLE", None),
        ("Phi-4 mini", "MICROSOFT", "PHI_LATEST"),
        ("Mistral 7B Instruct v0.3", None, "MISTRAL_7B"),
        ("Granite 4.0 H Tiny", "IBM", "GRANITE_LATEST"),
        ("Granite 3.3 8B", "IBM", "GRANITE_8B"),
        ("gpt-oss 20B", "OPENAI", "GPT_LATEST"),
        ("SmolLM2 135M Instruct", "HUGGING_FACE", None),
        ("Qwen3 8B", None, None),
        ("DeepSeek R1 Distill Llama 8B", None, None),
        ("Dolphin 3", None, None),
    ],
)
def test_the_family_is_read_from_the_name(
    name: str, provider: str | None, foundation: str | None
) -> None:
    made = document(replace(TINY, name=name, repo="someone/gguf"))
    assert (made.get("provider"), made.get("foundation")) == (provider, foundation)


def test_a_family_is_a_word_of_the_oldest_sdk() -> None:
    for _, provider, foundation in FAMILIES:
        for field, value in (("provider", provider), ("foundation", foundation)):
            schema = {"provider": "ExternalMLProviderEnum", "foundation": "ModelFoundationEnum"}
            assert value is None or value in SCHEMAS[schema[field]]["enum"]
            assert value not in SINCE[field]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["value", "readable", "total", "input", "images", "x"]), inner
        )
    ),
    max_leaves=4,
)
TEXT = st.text(st.characters(codec=None, exclude_categories=()), max_size=12)
RECORDS = st.builds(
    Model,
    id=st.uuids().map(str),
    unique=TEXT,
    name=TEXT,
    format=st.sampled_from(["gguf", "mlx"]),
    source=st.just("custom"),
    quantization=st.none() | TEXT,
    size_bytes=st.none() | st.integers(),
    downloaded=st.booleans(),
    repo=st.none() | TEXT,
    parameters=st.none() | st.floats(),
    context_length=st.none() | st.integers(),
    usage=st.lists(st.sampled_from(["chat", "code", "vision", "embedding"])).map(tuple),
    description=TEXT,
    version=TEXT,
    created_at=TEXT | st.datetimes().map(str),
    documented=st.dictionaries(
        st.sampled_from(["type", "usage", "foundation", "parameters", "bytes", "maxTokens", "cpu"])
        | st.sampled_from(["capabilities", "ram", "cloud", "id", "loaded", "else"]),
        JSON | st.sampled_from(["SPEED", "UNKNOWN", "GPT_4", "NEWER"]),
    ),
)


@given(RECORDS, st.booleans(), st.none() | st.integers())
def test_no_record_can_break_the_list(record: Model, flag: bool, ram: int | None) -> None:
    made = document(record, downloading=flag, loaded=flag, ram_bytes=ram)
    check(made, "Model")
    text = msgspec.json.encode(made).decode()
    read = SdkModel.from_json(text)
    assert read is not None
    assert read.id == record.id


def test_what_a_client_gave_wins_unless_it_is_not_as_documented() -> None:
    documented = {
        "type": "ACCURACY",
        "foundation": "CLAUDE_4",
        "quantization": 4,
        "bytes": {"value": 1.5, "readable": "?"},
        "parameters": None,
        "loaded": True,
    }
    made = document(replace(TINY, documented=documented))
    assert made["type"] == "ACCURACY"
    assert made["foundation"] == "CLAUDE_4"
    assert made["quantization"] == "Q8_0"
    assert made["bytes"]["value"] == TINY.size_bytes
    assert "parameters" not in made
    assert not made["loaded"]


def test_a_cloud_entry_is_neither_here_nor_loaded() -> None:
    record = replace(TINY, documented={"cloud": True}, downloaded=True)
    made = document(record, downloading=True, loaded=True)
    assert made["cloud"]
    assert not any(made[name] for name in ("downloaded", "downloading", "loaded"))


@pytest.mark.parametrize(
    ("agent", "version"),
    [
        ("OpenAPI-Generator/5.0.0/python", (5, 0)),
        ("OpenAPI-Generator/4.4.0/python", (4, 4)),
        ("OpenAPI-Generator/3.2.1/python", (3, 2)),
        ("OpenAPI-Generator/4.1.0/javascript", None),
        ("curl/8", None),
        ("", None),
        (None, None),
    ],
)
def test_an_sdk_is_known_by_its_name(agent: str | None, version: tuple[int, int] | None) -> None:
    assert sdk_version(agent) == version


@pytest.mark.parametrize(
    ("foundation", "version", "shown"),
    [
        ("AWS_BEDROCK_LATEST", (5, 0), True),
        ("AWS_BEDROCK_LATEST", (4, 4), False),
        ("AWS_BEDROCK_LATEST", None, True),
        ("QWEN_LATEST", (4, 4), True),
        ("QWEN_LATEST", (3, 2), False),
        ("LLAMA_3_8B", (2, 7), True),
    ],
)
def test_an_old_sdk_is_spared_values_it_fails_on(
    foundation: str, version: tuple[int, int] | None, shown: bool
) -> None:
    made = document(replace(TINY, documented={"foundation": foundation}))
    assert ("foundation" in for_sdk(made, version)) is shown
    assert made["foundation"] == foundation


def test_the_late_values_are_values_of_the_newest_sdk() -> None:
    assert set(SINCE["foundation"]) < set(SCHEMAS["ModelFoundationEnum"]["enum"])
    assert set(SINCE["provider"]) < set(SCHEMAS["ExternalMLProviderEnum"]["enum"])


SEED: dict[str, Any] = {
    "name": " Mine ",
    "version": "1",
    "created": {"value": "2026-01-01T02:00:00+02:00"},
    "cloud": False,
    "type": "BALANCED",
    "usage": "CODE_GENERATION",
}


def test_a_seed_keeps_what_is_the_clients_to_say() -> None:
    made = seed(
        {
            **SEED,
            "unique": " deck/tiny-GGUF:Q8_0 ",
            "provider": "META",
            "foundation": "UNKNOWN",
            "parameters": None,
            "maxTokens": {"total": 9, "input": None, "odd": 1, "schema": {"migration": 0}},
            "downloaded": True,
            "custom": False,
            "denied": True,
            "organization": {"id": "o"},
        }
    )
    assert made.unique == "deck/tiny-GGUF:Q8_0"
    assert made.name == "Mine"
    assert made.created_at == "2026-01-01T00:00:00Z"
    assert made.documented == {
        "type": "BALANCED",
        "usage": "CODE_GENERATION",
        "provider": "META",
        "maxTokens": {"total": 9},
    }


def test_a_seed_may_lack_a_unique_name_and_may_be_in_the_cloud() -> None:
    made = seed({**SEED, "unique": "  ", "cloud": True})
    assert made.unique is None
    assert made.documented["cloud"] is True


def test_a_body_must_be_there_and_be_as_documented() -> None:
    with pytest.raises(InvalidRequest, match="The body is missing"):
        checked(None, "Model")
    with pytest.raises(InvalidRequest, match="The body must not be an array"):
        checked([], "SeededModel")
    assert checked(SEED, "SeededModel") is SEED


def test_sending_back_what_was_read_changes_nothing() -> None:
    shown = document(replace(TINY, downloaded=True), loaded=True, ram_bytes=5)
    stale = {**shown, "ram": {"value": 4, "readable": "4 B"}, "loaded": False, "custom": False}
    assert changes(TINY, shown, stale) == {}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"name": "New", "description": "d", "version": "3"}, None),
        ({"unique": " deck/other-GGUF:F16 "}, {"unique": "deck/other-GGUF:F16"}),
        ({"unique": ""}, {}),
        ({"type": "ACCURACY"}, {"documented": {"cpu": True, "type": "ACCURACY"}}),
        ({"type": "UNKNOWN"}, {}),
        ({"parameters": 7}, {"documented": {"cpu": True, "parameters": 7}}),
        ({"parameters": None}, {"documented": {"cpu": True, "parameters": None}}),
        ({"parameters": 0.135}, {}),
        ({"cpu": False}, {"documented": {"cpu": False}}),
        (
            {"maxTokens": {"total": None, "input": 3}},
            {"documented": {"cpu": True, "maxTokens": {"total": None, "input": 3}}},
        ),
        (
            {"created": {"value": "2020-01-01"}, "cloud": True, "denied": True, "loaded": True},
            {},
        ),
    ],
)
def test_an_update_changes_what_it_names(
    body: dict[str, Any], expected: dict[str, Any] | None
) -> None:
    record = replace(TINY, documented={"cpu": True})
    shown = document(record)
    required = {"id", "name", "version", "created", "cloud", "type", "usage"}
    sent = {**{name: shown[name] for name in required}, **body}
    assert changes(record, shown, sent) == (body if expected is None else expected)


def test_clearing_what_is_not_known_says_nothing() -> None:
    record = replace(TINY, parameters=None)
    shown = document(record)
    assert changes(record, shown, {**shown, "parameters": None}) == {}


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (1_500_000_000, "1.5 GB"),
        ((1 << 63) - 1, "9.2 EB"),
    ],
)
def test_sizes_in_words(size: int, text: str) -> None:
    assert readable(size) == text
