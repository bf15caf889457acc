"""Load options in words."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest

from modeldeck.core.schema import LoadOptions, Lora
from modeldeck.tui.text import load_options
from modeldeck.tui.text.load_options import lora, written

FRENCH = Lora(path="/my adapters/french.gguf", scale=0.5)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (LoadOptions(), ""),
        (LoadOptions(parallel=8, cache_tokens=32_768), "parallel=8 cache_tokens=32768"),
        (
            LoadOptions(flash_attention=True, idle_ttl_s=60.0, pinned=False),
            "flash_attention=true idle_ttl_s=60 pinned=false",
        ),
        (
            LoadOptions(loras=(FRENCH, Lora(path="/b.gguf"))),
            "loras='/my adapters/french.gguf:0.5,/b.gguf:1'",
        ),
    ],
)
def test_options_are_written(options: LoadOptions, line: str) -> None:
    assert written(options) == line


def test_an_adapter_is_made_absolute_where_it_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert lora("french.gguf:0.5") == Lora(path=str(tmp_path / "french.gguf"), scale=0.5)
    assert lora("/a:b.gguf") == Lora(path="/a:b.gguf")


def test_the_examples_of_the_docstrings() -> None:
    result = doctest.testmod(load_options)
    assert result.attempted
    assert not result.failed
