"""Encoded model lists: what is kept, and when it is encoded again."""

from __future__ import annotations

from dataclasses import replace

from modeldeck.core.api.pieces.routes import LISTS_KEPT, ModelDocuments
from modeldeck.core.schema import Host, Model
from modeldeck.core.schema.state import State

MODEL = Model(id="m", unique="deck/m", name="M", format="gguf", source="builtin")
STATE = State(seq=1, host=Host(name="h", version="1", started_at=""), models={"m": MODEL})


def test_a_list_is_encoded_once_until_a_model_changes() -> None:
    documents = ModelDocuments()
    first = documents.all(STATE, None)
    assert documents.all(replace(STATE, seq=2), None) is first
    renamed = replace(STATE, models={"m": replace(MODEL, name="N")})
    changed = documents.all(renamed, None)
    assert b'"name":"N"' in changed.response.body
    assert changed.etag != first.etag


def test_no_more_than_a_few_lists_are_kept() -> None:
    documents = ModelDocuments()
    for minor in range(5 * LISTS_KEPT):
        documents.all(STATE, (4, minor))
        assert len(documents._lists) <= LISTS_KEPT
