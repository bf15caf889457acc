"""No field of Ollama's package is passed over unnoticed."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import ollama
import pytest
from ollama import _types as sent  # the package gives its requests no other name

from modeldeck.core.api.ollama import field_table
from modeldeck.core.api.ollama.model_schema import PullBody
from modeldeck.core.api.ollama.options import Options
from modeldeck.core.api.ollama.schema import (
    EmbedBody,
    EmbeddingBody,
    GenerateBody,
    ModelNameBody,
    OllamaChatBody,
    OllamaMessage,
)
from modeldeck.core.api.openai.field_table import FieldTable
from modeldeck.core.errors import InvalidRequest

NONE = FieldTable()


@pytest.mark.parametrize(
    ("request_type", "body", "table"),
    [
        (sent.ChatRequest, OllamaChatBody, field_table.CHAT),
        (sent.GenerateRequest, GenerateBody, field_table.GENERATE),
        (sent.EmbedRequest, EmbedBody, field_table.EMBED),
        (sent.EmbeddingsRequest, EmbeddingBody, NONE),
        (sent.PullRequest, PullBody, NONE),
        (sent.ShowRequest, ModelNameBody, NONE),
        (sent.DeleteRequest, ModelNameBody, NONE),
        (ollama.Message, OllamaMessage, NONE),
        (ollama.Options, Options, field_table.OPTIONS),
    ],
)
def test_every_field_of_the_package_is_in_the_table(
    request_type: Any, body: Any, table: FieldTable
) -> None:
    given, honoured = set(request_type.model_fields), {field.name for field in fields(body)}
    assert given
    assert given - honoured - set(table.refused) - table.harmless == set()
    assert honoured & (set(table.refused) | table.harmless) == set()


def test_refused_fields_are_named() -> None:
    for name, plain in field_table.GENERATE.refused.items():
        for value in (*plain, None, "", []):
            field_table.GENERATE.check({name: value})
        with pytest.raises(InvalidRequest, match=name):
            field_table.GENERATE.check({name: "x"})
