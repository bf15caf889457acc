"""Load options as people write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from modeldeck.core.errors import InvalidRequest
from modeldeck.core.schema import LoadOptions, Lora
from modeldeck.tui.text.load_options import hint, lora, parse, written

FRENCH = Lora(path="/my adapters/french.gguf", scale=0.5)


@pytest.mark.parametrize(
    ("line", "options"),
    [
        ("", LoadOptions()),
        (
            "context_length=8192 mmap=false",
            LoadOptions(context_length=8192, mmap=False),
        ),
        ("kv_cache_type=q8_0  threads=4", LoadOptions(kv_cache_type="q8_0", threads=4)),
        (
            "loras=/a.gguf,/b.gguf:2",
            LoadOptions(loras=(Lora(path="/a.gguf"), Lora(path="/b.gguf", scale=2))),
        ),
        ("loras='/my adapters/french.gguf:0.5'", LoadOptions(loras=(FRENCH,))),
    ],
)
def test_a_line_is_read(line: str, options: LoadOptions) -> None:
    assert parse(line) == options


@pytest.mark.parametrize(
    "options",
    [
        LoadOptions(),
        LoadOptions(parallel=8, cache_tokens=32_768),
        LoadOptions(context_length=4096, flash_attention=True, pinned=False, idle_ttl_s=60.0),
        LoadOptions(loras=(FRENCH, Lora(path="/b.gguf")), draft_model="deck/tiny-GGUF:Q8_0"),
    ],
)
def test_what_is_written_is_read_back(options: LoadOptions) -> None:
    assert parse(written(options)) == options


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("context=8192", "Not an option: context=8192"),
        ("mmap", "Not an option: mmap"),
        ("threads=many", "threads"),
        ("kv_cache_type=q9", "q9"),
        ("loras='/a", "quotation mark"),
    ],
)
def test_what_cannot_be_read_is_named(line: str, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        parse(line)


def test_an_adapter_is_found_from_where_one_stands() -> None:
    assert lora("a.gguf:-1.5") == Lora(path=str(Path("a.gguf").absolute()), scale=-1.5)
    assert lora("/x:y.gguf") == Lora(path="/x:y.gguf")


def test_the_hint_names_every_option() -> None:
    assert "loras" in hint(0)
    assert "context_length=4096" in hint(4096)
