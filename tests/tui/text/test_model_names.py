"""Short names of models."""

from __future__ import annotations

import pytest

from modeldeck.core.schema import Model
from modeldeck.tui.text.model_names import name_of_unique


def model(unique: str, name: str, quantization: str) -> Model:
    return Model(
        id=unique, unique=unique, name=name, format="gguf", source="hub", quantization=quantization
    )


MODELS = {
    each.id: each
    for each in (
        model("deck/tiny-GGUF:Q8_0", "tiny Q8_0", "Q8_0"),
        model("deck/tiny-GGUF:F16", "tiny F16", "F16"),
        model("deck/padded-GGUF:F16", "padded F16", "F16"),
    )
}


@pytest.mark.parametrize(
    ("unique", "name"),
    [
        ("deck/padded-GGUF:F16", "padded"),
        ("deck/tiny-GGUF:F16", "tiny F16"),
        ("gone/other-GGUF:Q4_0", "other-GGUF:Q4_0"),
        ("/home/me/file.gguf", "file.gguf"),
    ],
)
def test_what_is_kept_by_its_unique_name_is_named_as_its_row(unique: str, name: str) -> None:
    assert name_of_unique(unique, MODELS) == name
