"""No field of OpenAI's SDK is passed over unnoticed."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, get_args

import pytest
from openai.types import completion_create_params, embedding_create_params
from openai.types.chat import ChatCompletionMessageParam
from openai.types.chat import completion_create_params as chat_params

from modeldeck.core.api.openai import field_table
from modeldeck.core.api.openai.chat_messages import ChatMessage
from modeldeck.core.api.openai.chat_request import ChatBody
from modeldeck.core.api.openai.completions import CompletionBody
from modeldeck.core.api.openai.embeddings import EmbeddingsBody
from modeldeck.core.api.openai.field_table import FieldTable
from modeldeck.core.errors import InvalidRequest

TABLES = (
    (ChatBody, field_table.CHAT),
    (CompletionBody, field_table.COMPLETION),
    (EmbeddingsBody, field_table.EMBEDDING),
    (ChatMessage, field_table.MESSAGE),
)


def keys(*types: Any) -> set[str]:
    """The keys of typed dictionaries."""
    return {key for type_ in types for key in type_.__required_keys__ | type_.__optional_keys__}


SDK = (
    (
        ChatBody,
        field_table.CHAT,
        keys(
            chat_params.CompletionCreateParamsStreaming,
            chat_params.CompletionCreateParamsNonStreaming,
        ),
    ),
    (
        CompletionBody,
        field_table.COMPLETION,
        keys(
            completion_create_params.CompletionCreateParamsStreaming,
            completion_create_params.CompletionCreateParamsNonStreaming,
        ),
    ),
    (
        EmbeddingsBody,
        field_table.EMBEDDING,
        keys(embedding_create_params.EmbeddingCreateParams),
    ),
    (ChatMessage, field_table.MESSAGE, keys(*get_args(ChatCompletionMessageParam))),
)


def honoured(body: Any) -> set[str]:
    return {field.name for field in fields(body)}


@pytest.mark.parametrize(("body", "table", "sent"), SDK)
def test_every_field_of_the_sdk_is_in_the_table(
    body: Any, table: FieldTable, sent: set[str]
) -> None:
    assert len(sent) > 4
    assert sent - honoured(body) - set(table.refused) - table.harmless == set()


@pytest.mark.parametrize(("body", "table"), TABLES)
def test_a_field_has_one_fate(body: Any, table: FieldTable) -> None:
    assert honoured(body) & (set(table.refused) | table.harmless) == set()
    assert set(table.refused) & table.harmless == set()


@pytest.mark.parametrize(("body", "table"), TABLES)
def test_refused_fields_are_named_unless_they_change_nothing(body: Any, table: FieldTable) -> None:
    for name, plain in table.refused.items():
        for value in (*plain, None, "", [], {}):
            table.check({name: value})
        with pytest.raises(InvalidRequest, match=name):
            table.check({name: "something else"})
    table.check(dict.fromkeys(table.harmless, "x"))
    table.check(["no object"])


def test_nothing_is_not_false() -> None:
    with pytest.raises(InvalidRequest, match="ignore_eos"):
        field_table.CHAT.check({"ignore_eos": True})
    with pytest.raises(InvalidRequest, match="min_tokens"):
        field_table.CHAT.check({"min_tokens": 1})
