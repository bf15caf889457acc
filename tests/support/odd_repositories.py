"""Repositories with the oddities of published ones, which the demo does not show.

deck/quant-mlx        quantized into one file, with the index of the original beside it
deck/code-mlx         its configuration names Python code to run (auto_map)
deck/newer-mlx        of a kind that mlx-lm does not know
deck/heads-GGUF       a model, and a multi-token prediction head, which is no model by itself
deck/newer-GGUF       of an architecture that llama.cpp does not know
deck/lora-GGUF        an adapter, and nothing else
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from modeldeck.core.demo.model_writer import write_gguf, write_json, write_mlx
from modeldeck.core.demo.repositories import OWNER
from modeldeck.core.demo.repository import DemoRepo, demo_repo
from modeldeck.core.formats.safetensors import INDEX
from tests.support.adapters import write_gguf_adapter

_TAGS = {"mlx": ("mlx", "safetensors", "llama"), "gguf": ("gguf", "llama")}


def build_odd(folder: Path) -> tuple[DemoRepo, ...]:
    """Write every repository's files under `folder`, and describe them.

    Raises DeckError where numpy or gguf is not installed, and OSError.
    """
    return (
        _stale_index(folder / "quant-mlx"),
        _configured(folder / "code-mlx", auto_map={"AutoModelForCausalLM": "run.Model"}),
        _configured(folder / "newer-mlx", model_type="unknown_kind"),
        _heads(folder / "heads-GGUF"),
        _of_architecture(folder / "newer-GGUF", "llamb"),
        _adapter(folder / "lora-GGUF"),
    )


def _stale_index(folder: Path) -> DemoRepo:
    write_mlx(folder)
    size = (folder / "model.safetensors").stat().st_size
    names = [f"model-{number:05d}-of-00004.safetensors" for number in range(1, 5)]
    table = {f"model.layers.{number}.weight": name for number, name in enumerate(names)}
    write_json(folder / INDEX, {"metadata": {"total_size": 4 * size}, "weight_map": table})
    return _repo(folder, "mlx")


def _configured(folder: Path, **keys: Any) -> DemoRepo:
    """A repository with other values in its config.json."""
    write_mlx(folder)
    config = folder / "config.json"
    write_json(config, {**json.loads(config.read_text(encoding="utf-8")), **keys})
    return _repo(folder, "mlx")


def _heads(folder: Path) -> DemoRepo:
    write_gguf(folder / "heads-Q8_0.gguf", "Q8_0", extra_tokens=5)
    write_gguf(folder / "mtp-heads-Q8_0.gguf", "Q8_0", extra_tokens=3)
    return _repo(folder, "gguf")


def _of_architecture(folder: Path, name: str) -> DemoRepo:
    """A repository whose GGUF names an architecture with as many letters as `llama`."""
    path = folder / f"{folder.name}-F16.gguf"
    write_gguf(path, "F16", extra_tokens=7)
    data = path.read_bytes()
    end = data.index(b"tokenizer.")  # what comes before it is numbers of the architecture
    path.write_bytes(data[:end].replace(b"llama", name.encode()) + data[end:])
    return _repo(folder, "gguf")


def _adapter(folder: Path) -> DemoRepo:
    write_gguf_adapter(folder / "lora-F16.gguf")
    return _repo(folder, "gguf")


def _repo(folder: Path, kind: str) -> DemoRepo:
    tags = (*_TAGS[kind], "text-generation", "license:apache-2.0")
    library = "mlx" if kind == "mlx" else None
    return demo_repo(f"{OWNER}/{folder.name}", folder, tags=tags, library_name=library)
