"""What a model can do, as a column and in words."""

from __future__ import annotations

from typing import Any

import pytest

from modeldeck.core.catalog import builtin
from modeldeck.core.schema import Model, SearchHit
from modeldeck.tui.text.capabilities import letters, of_hit, of_model, spelled


def model(**more: Any) -> Model:
    return Model(id="a", unique="a", name="a", format="gguf", **{"source": "cache", **more})


@pytest.mark.parametrize(
    ("known", "column", "words"),
    [
        ({"downloaded": True}, "····", "reads and writes text"),
        (
            {"downloaded": True, "capabilities": ("tools", "thinking")},
            "·tr·",
            "calls tools, thinks first",
        ),
        (
            {"downloaded": True, "capabilities": ("thinking", "always_thinking")},
            "··r·",
            "always thinks first",
        ),
        ({"downloaded": True, "projector": "/mmproj.gguf"}, "v···", "sees images"),
        # listed as one that sees, but the file for that is not here
        ({"downloaded": True, "usage": ("vision",)}, "····", "reads and writes text"),
        ({"source": "builtin", "usage": ("chat", "vision")}, "v···", "sees images"),
        ({"usage": ("embedding",)}, "emb", "makes vectors of texts"),
        ({"usage": ("rerank",)}, "rank", "sorts texts by a question"),
        ({}, "?", "what it can do shows once it is downloaded"),
        ({"usage": ("vision",)}, "v???", "sees images"),
        (
            {"downloaded": True, "capabilities": ("vision", "audio")},
            "v··a",
            "sees images, hears audio",
        ),
    ],
)  # fmt: skip
def test_a_model(known: dict[str, Any], column: str, words: str) -> None:
    found = of_model(model(**known))
    assert (letters(found, "·"), spelled(found)) == (column, words)


def test_the_catalog_tells_of_each_of_its_models() -> None:
    found = {m.name: letters(of_model(m), "·") for m in builtin.load()}
    assert "?" not in "".join(found.values())
    assert found["Qwen3 8B Q4_K_M"] == "·tr·"
    assert found["Gemma 4 E2B MLX 4bit"] == "·tr·"


def test_a_repository_by_its_tags() -> None:
    assert letters(of_hit(SearchHit(repo="a/b")), "·") == "?"
    assert letters(of_hit(SearchHit(repo="a/b", usage=("vision", "thinking"))), "·") == "v?r?"
    assert letters(of_hit(SearchHit(repo="a/b", usage=("embedding",))), "·") == "emb"
