"""The folder of an MLX model, read from its small files.

Source: the `config.json` that mlx-lm reads. A configuration that names Python code to run is
refused: mlx-lm before 0.32.2 ran `model_file` without asking (CVE-2026-5843), and transformers has
run `auto_map` and `_attn_implementation_internal`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from modeldeck.core.errors import Forbidden, StorageFailed
from modeldeck.core.formats.safetensors import (
    INDEX,
    MAX_INDEX,
    WEIGHTS,
    TensorSizes,
    check_complete,
    parse_json,
    positive,
    raise_corrupt,
    read_index,
    read_weights,
)
from modeldeck.core.storage.foreign_files import open_regular

MAX_CONFIG = 4 << 20
"""Maximum bytes of `config.json`; large ones (per-layer quantization) are well below 1 MB."""
MAX_LAYERS = 10_000
"""Maximum layers whose types are listed; the deepest models have some hundred."""
TOKENIZER_CONFIG = "tokenizer_config.json"
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "*.tiktoken")
"""Tokenizer files: one of them is needed."""
_CODE_KEYS = frozenset(
    {"auto_map", "model_file", "_attn_implementation_internal", "custom_pipelines"}
)
"""Keys of a configuration that make some program import a file of the repository."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MlxConfig:
    """Values of an MLX model's `config.json`; None if missing."""

    architecture: str | None = None
    """`model_type`: the mlx-lm model class that reads the weights."""
    context_length: int | None = None
    layers: int | None = None
    heads: int | None = None
    kv_heads: int | None = None
    head_length: int | None = None
    """Elements of a key or value, per head."""
    latent_length: int | None = None
    """Elements cached per layer and token with multi-head latent attention, where keys and values
    are compressed into one vector; `kv_heads` and `head_length` are not used then."""
    window: int | None = None
    """Tokens that a layer with a sliding window sees."""
    layer_types: tuple[str, ...] = ()
    """Attention type of each layer, such as `sliding_attention`; empty if all are equal."""
    value_bytes: int = 2
    """Bytes of an unquantized number, also in the KV cache."""
    embedding_length: int | None = None
    feed_forward_length: int | None = None
    vocab_size: int | None = None
    quantization_bits: int | None = None
    """Bits of a weight; None if the weights are not quantized."""
    group_size: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MlxFolder:
    """An MLX model on disk."""

    config: MlxConfig
    weights_bytes: int
    tensors: int
    """Number of tensors in its files."""
    parameters: float | None
    """In billions."""

    @property
    def context_length(self) -> int | None:
        """Tokens the model was trained for."""
        return self.config.context_length

    @property
    def architecture(self) -> str | None:
        """`model_type` of the configuration."""
        return self.config.architecture


def read_config(data: bytes) -> MlxConfig:
    """Parse a `config.json`. Raises Forbidden if it names code to run, Corrupt if invalid."""
    document = refuse_code(data, "config.json")
    nested = document.get("text_config")
    text: Mapping[str, Any] = {**document, **nested} if isinstance(nested, dict) else document
    heads, width = positive(text, "num_attention_heads"), positive(text, "hidden_size")
    latent = positive(text, "kv_lora_rank")
    scheme = document.get("quantization") or document.get("quantization_config")
    scheme = scheme if isinstance(scheme, dict) else {}
    model_type = document.get("model_type")
    return MlxConfig(
        architecture=model_type if isinstance(model_type, str) else None,
        context_length=positive(text, "max_position_embeddings"),
        layers=positive(text, "num_hidden_layers"),
        heads=heads,
        kv_heads=positive(text, "num_key_value_heads") or heads,
        head_length=positive(text, "head_dim") or (width // heads if width and heads else None),
        latent_length=latent + (positive(text, "qk_rope_head_dim") or 0) if latent else None,
        window=positive(text, "sliding_window"),
        layer_types=_layer_types(text),
        value_bytes=4 if "float32" in (text.get("torch_dtype"), text.get("dtype")) else 2,
        embedding_length=width,
        feed_forward_length=positive(text, "intermediate_size"),
        vocab_size=positive(text, "vocab_size"),
        quantization_bits=positive(scheme, "bits"),
        group_size=positive(scheme, "group_size"),
    )


def _layer_types(text: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the type of each layer: as listed, or every n-th with full attention."""
    layers = min(positive(text, "num_hidden_layers") or 0, MAX_LAYERS)
    kinds = text.get("layer_types")
    if isinstance(kinds, list):
        return tuple(map(str, kinds[:layers]))
    for key, other in (
        ("sliding_window_pattern", "sliding_attention"),
        ("full_attention_interval", "linear_attention"),
    ):
        if step := positive(text, key):
            return tuple("full_attention" if n % step == step - 1 else other for n in range(layers))
    return ()


def refuse_code(data: bytes, name: str) -> dict[str, Any]:
    """Parse a configuration. Raises Forbidden if it names Python code to run."""
    document = parse_json(data, name, MAX_CONFIG)
    named = next((key for key, value in _pairs(document) if key in _CODE_KEYS and value), None)
    if named:
        raise Forbidden(
            f"{name} names Python code to run ({named}), and modeldeck never runs a model's.",
            "Take a repository without it; most models have one, or a GGUF version.",
        )
    return document


def read_folder(folder: Path) -> MlxFolder:
    """Read an MLX folder on disk. Raises StorageFailed, Corrupt or Forbidden.

    The tokenizer's configuration is checked for code as well.
    """
    try:
        config = read_config(_bounded(folder / "config.json", MAX_CONFIG))
        if (tokenizer := folder / TOKENIZER_CONFIG).exists():
            refuse_code(_bounded(tokenizer, MAX_CONFIG), TOKENIZER_CONFIG)
        files = sorted(folder.glob(WEIGHTS))
        if not files:
            raise_corrupt(str(folder), f"it holds no {WEIGHTS} file")
        index = folder / INDEX
        if index.exists():
            named = read_index(_bounded(index, MAX_INDEX)).files
            check_complete(named, [file.name for file in files])
        weights = [read_weights(file) for file in files]
    except OSError as error:
        raise StorageFailed(
            f"{error.filename or folder} cannot be read: {error.strerror}.",
            "An MLX folder holds config.json and all its safetensors files.",
        ) from error
    return folder_of(config, weights)


def load_error(folder: MlxFolder, files: Iterable[str]) -> str | None:
    """Return why mlx-lm will not load a model, judged by its small files; None if it will.

    Args:
        folder: The content of its small files.
        files: Names of all files in the folder.
    """
    layers, kind = folder.config.layers, folder.config.architecture
    if layers is not None and layers > folder.tensors:
        # mlx-lm would build all layers, for hours, before it fails for missing weights.
        return f"config.json tells of {layers} layers, and there are {folder.tensors} tensors."
    if kind is None:
        return "config.json does not say which model it is (model_type)."
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", kind):
        return "The model_type in config.json is none."
    if not any(fnmatchcase(file, name) for file in files for name in TOKENIZERS):
        return "There is no tokenizer."
    return None


def folder_of(config: MlxConfig, weights: list[TensorSizes]) -> MlxFolder:
    """Combine the configuration and the weights files of a folder."""
    return MlxFolder(
        config=config,
        weights_bytes=sum(part.tensor_bytes for part in weights),
        tensors=sum(part.tensors for part in weights),
        parameters=_parameters(config, weights) / 1e9,
    )


def _parameters(config: MlxConfig, weights: list[TensorSizes]) -> int:
    """Return the number of weights: a packed element of 32 bits holds 32 / bits of them."""
    packed = sum(part.packed_elements for part in weights)
    plain = sum(part.elements for part in weights) - packed
    bits = config.quantization_bits
    if not bits or not packed:
        return plain + packed
    unpacked = packed * 32 // bits
    # Each group has a scale and a bias, which are not weights of the model.
    overhead = 2 * unpacked // config.group_size if config.group_size else 0
    return max(0, plain - overhead) + unpacked


def _bounded(path: Path, limit: int) -> bytes:
    with open_regular(path) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise_corrupt(path.name, f"it is larger than {limit} bytes")
    return data


def _pairs(document: object) -> Iterator[tuple[str, object]]:
    """Yield all keys of a document with their values, also nested ones."""
    waiting = [document]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            yield from item.items()
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)
