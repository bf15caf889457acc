"""Samplers of llama.cpp, biases, and gaps to fill, with real models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from modeldeck.core.demo.model_writer import expected, write_gguf
from modeldeck.core.errors import InvalidRequest
from modeldeck.core.schema import Chunk, GenerateRequest, Message
from tests.support.bench import Bench

COUNT = expected("count")


def asked(text: str, **options: Any) -> GenerateRequest:
    messages = (Message(role="user", content=text),)
    return GenerateRequest(messages=messages, **{"temperature": 0, "max_tokens": 80} | options)


def said(chunks: list[Chunk]) -> str:
    return "".join(chunk.text for chunk in chunks)


@pytest.mark.parametrize(
    "options",
    [
        {"typical_p": 0.9, "top_n_sigma": 2.0, "xtc_probability": 0.1, "xtc_threshold": 0.4},
        {"mirostat": 1, "mirostat_tau": 0.1},
        {"mirostat": 2, "mirostat_tau": 0.1, "mirostat_eta": 0.2},
        {"dry_multiplier": 0.1, "dry_sequence_breakers": ("x", "y"), "repeat_last_n": -1},
        {"repeat_penalty": 1.01, "repeat_last_n": 0},
    ],
)
async def test_samplers_of_llama_cpp(
    bench: Bench, demo_models: Path, options: dict[str, Any]
) -> None:
    instance = await bench.loaded(demo_models / "tiny-GGUF" / "tiny-Q8_0.gguf")
    request = asked("count", temperature=0.1, **options)
    assert said(await bench.ask(instance, request)) == COUNT


async def test_biases_move_tokens(bench: Bench, demo_models: Path) -> None:
    instance = await bench.loaded(demo_models / "tiny-GGUF" / "tiny-Q8_0.gguf")
    a = ord("a")  # bytes come first in the vocabulary
    plain = await bench.ask(instance, asked("count", logit_bias={a: -1e9}))
    assert said(plain) == COUNT
    moved = await bench.ask(instance, asked("count", logit_bias={a: 1000.0}, max_tokens=3))
    assert said(moved) == "aaa"
    with pytest.raises(InvalidRequest, match="names token"):
        await bench.ask(instance, asked("count", logit_bias={1 << 30: 1.0}))


async def test_a_gap_is_filled_by_a_model_that_can(
    bench: Bench, demo_models: Path, tmp_path: Path
) -> None:
    (path,) = write_gguf(tmp_path / "code.gguf", fills=True)
    instance = await bench.loaded(path)
    request = GenerateRequest(prompt="def f", suffix="<|end|>", temperature=0)
    chunks = await bench.ask(instance, request)
    assert said(chunks) == expected("default")
    # The name of a sign in the text is letters, not that sign.
    assert (chunks[-1].prompt_tokens or 0) > 3 + len("def f") + 1
    only = await bench.ask(instance, GenerateRequest(suffix="x", temperature=0))
    assert said(only) == expected("default")
    plain = await bench.loaded(demo_models / "tiny-GGUF" / "tiny-Q8_0.gguf")
    with pytest.raises(InvalidRequest, match="does not fill gaps"):
        await bench.ask(plain, request)
