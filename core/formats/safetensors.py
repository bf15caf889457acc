"""Read the folder of an MLX model, or its small files, without the weights.

Sources: the safetensors format (huggingface/safetensors, README "Format"), the index that
transformers writes beside split weights, and the `config.json` that mlx-lm reads. A configuration
that names Python code to run is refused: mlx-lm before 0.32.2 ran `model_file` without asking
(CVE-2026-5843), and transformers has run `auto_map` and `_attn_implementation_internal`.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import prod
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from modeldeck.core.errors import Corrupt, Forbidden, StorageFailed
from modeldeck.core.formats.hub_names import check_path
from modeldeck.core.formats.lfs import refuse_pointer
from modeldeck.core.storage.foreign_files import open_regular

MAX_HEADER = 32 << 20
"""Maximum bytes of the JSON in a safetensors file. The reference implementation allows 100 MB; the
largest known have some 7 MB, and decoding holds the GIL."""
MAX_TENSORS = 1 << 16
"""Maximum tensors per file; the largest models have some 100,000 in 160 files."""
MAX_ENTRIES = 1 << 19
"""Maximum commas and colons in a configuration or an index, which limits its values."""
MAX_DIMENSIONS = 32
MAX_CONFIG = 4 << 20
"""Maximum bytes of `config.json`; large ones (per-layer quantization) are well below 1 MB."""
MAX_INDEX = 32 << 20
"""Maximum bytes of `model.safetensors.index.json`; about 100 per tensor."""

_MAX_ROW = 4096
"""Maximum bytes of one entry of a header."""

MAX_LAYERS = 10_000
"""Maximum layers whose types are listed; the deepest models have some hundred."""

INDEX = "model.safetensors.index.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
WEIGHTS = "model*.safetensors"
"""Weights files that mlx-lm reads (`mlx_lm.utils.load_model`), regardless of the index."""
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "*.tiktoken")
"""Tokenizer files: one of them is needed."""

_LENGTH = struct.Struct("<Q")
_DTYPE_BITS = {
    **{"F64": 64, "I64": 64, "U64": 64, "F32": 32, "I32": 32, "U32": 32, "C64": 64},
    **{"F16": 16, "BF16": 16, "I16": 16, "U16": 16, "I8": 8, "U8": 8, "BOOL": 8},
    **{"F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4},
}
_CODE_KEYS = frozenset(
    {"auto_map", "model_file", "_attn_implementation_internal", "custom_pipelines"}
)
"""Keys of a configuration that make some program import a file of the repository."""

_REMEDY = "Download it again, or take another repository."


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
class TensorSizes:
    """Sizes from the header of a safetensors file."""

    tensor_bytes: int
    elements: int
    """Stored numbers; a packed number of 32 bits contains several weights."""
    packed_elements: int
    """Elements of type U32, in which MLX packs quantized weights."""
    tensors: int


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
    heads, width = _number(text, "num_attention_heads"), _number(text, "hidden_size")
    latent = _number(text, "kv_lora_rank")
    scheme = document.get("quantization") or document.get("quantization_config")
    scheme = scheme if isinstance(scheme, dict) else {}
    model_type = document.get("model_type")
    return MlxConfig(
        architecture=model_type if isinstance(model_type, str) else None,
        context_length=_number(text, "max_position_embeddings"),
        layers=_number(text, "num_hidden_layers"),
        heads=heads,
        kv_heads=_number(text, "num_key_value_heads") or heads,
        head_length=_number(text, "head_dim") or (width // heads if width and heads else None),
        latent_length=latent + (_number(text, "qk_rope_head_dim") or 0) if latent else None,
        window=_number(text, "sliding_window"),
        layer_types=_layer_types(text),
        value_bytes=4 if "float32" in (text.get("torch_dtype"), text.get("dtype")) else 2,
        embedding_length=width,
        feed_forward_length=_number(text, "intermediate_size"),
        vocab_size=_number(text, "vocab_size"),
        quantization_bits=_number(scheme, "bits"),
        group_size=_number(scheme, "group_size"),
    )


def _layer_types(text: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the type of each layer: as listed, or every n-th with full attention."""
    layers = min(_number(text, "num_hidden_layers") or 0, MAX_LAYERS)
    kinds = text.get("layer_types")
    if isinstance(kinds, list):
        return tuple(map(str, kinds[:layers]))
    for key, other in (
        ("sliding_window_pattern", "sliding_attention"),
        ("full_attention_interval", "linear_attention"),
    ):
        if step := _number(text, key):
            return tuple("full_attention" if n % step == step - 1 else other for n in range(layers))
    return ()


def refuse_code(data: bytes, name: str) -> dict[str, Any]:
    """Parse a configuration. Raises Forbidden if it names Python code to run."""
    document = _json(data, name, MAX_CONFIG)
    named = next((key for key, value in _pairs(document) if key in _CODE_KEYS and value), None)
    if named:
        raise Forbidden(
            f"{name} names Python code to run ({named}), and modeldeck never runs a model's.",
            "Take a repository without it; most models have one, or a GGUF version.",
        )
    return document


def header_end(data: bytes) -> int:
    """Return the end of the header, in bytes, of the safetensors file that starts with `data`."""
    return _LENGTH.size + (int(_LENGTH.unpack_from(data)[0]) if len(data) >= _LENGTH.size else 0)


def read_header(data: bytes, size: int) -> TensorSizes | None:
    """Parse the header of a safetensors file of `size` bytes; None if `data` is too short.

    Raises Corrupt if the tensors do not fill the file exactly, as the format requires.
    """
    refuse_pointer(data, "This safetensors file")
    if len(data) < _LENGTH.size:
        return None
    length = int(_LENGTH.unpack_from(data)[0])
    start = _LENGTH.size + length
    if length > MAX_HEADER or start > size:
        _corrupt("a safetensors file", f"its header claims {length} bytes")
    if len(data) < start:
        return None
    table = _table(data[_LENGTH.size : start])
    spans, elements, packed = [], 0, 0
    for name, row in table.items():
        if name == "__metadata__":
            continue
        dtype, shape, begin, end = _row(name, row)
        bits = prod(shape) * _DTYPE_BITS[dtype]
        if end - begin != -(-bits // 8):
            _corrupt("a safetensors file", f"the size of {name[:80]!r} does not fit its shape")
        spans.append((begin, end))
        elements += prod(shape)
        packed += prod(shape) if dtype == "U32" else 0
    spans.sort()
    ends = [0, *(end for _, end in spans)]
    if any(begin != end for (begin, _), end in zip(spans, ends, strict=False)):
        _corrupt("a safetensors file", "its tensors overlap or leave gaps")
    if start + ends[-1] != size:
        _corrupt("a safetensors file", f"it has {size} bytes and should have {start + ends[-1]}")
    return TensorSizes(
        tensor_bytes=ends[-1],
        elements=elements,
        packed_elements=packed,
        tensors=len(spans),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """Parse the index of split weights."""

    files: frozenset[str]
    total_bytes: int | None
    """Bytes of all tensors; None if missing."""
    tensors: int


def read_index(data: bytes) -> Index:
    """Parse the index of split weights.

    Raises Corrupt, and InvalidRequest for a file name that leaves the folder.
    """
    document = _json(data, INDEX, MAX_INDEX)
    table, metadata = document.get("weight_map"), document.get("metadata")
    if not isinstance(table, dict) or not all(isinstance(name, str) for name in table.values()):
        _corrupt(INDEX, "it has no table of weights")
    total = _number(metadata, "total_size") if isinstance(metadata, dict) else None
    files = frozenset(check_path(name) for name in set(table.values()))
    return Index(files=files, total_bytes=total, tensors=len(table))


def is_weights(path: str) -> bool:
    """Whether mlx-lm reads weights from this path of a repository.

    >>> is_weights("model-00001-of-00002.safetensors"), is_weights("adapters.safetensors")
    (True, False)
    """
    return "/" not in path and fnmatchcase(path, WEIGHTS)


def missing_weights(named: Collection[str], present: Collection[str]) -> tuple[str, ...]:
    """Return the files in an index that are missing; none for an index of another model.

    mlx-lm writes a quantized model into new files, and some publishers keep the index of the
    original, whose files were never part of the repository. So an index counts only if at least one
    of its files is present; of its files only those count that mlx-lm reads.

    >>> missing_weights({"model-00001-of-00002.safetensors"}, {"model.safetensors"})
    ()
    """
    if not set(named) & set(present):
        return ()
    return tuple(sorted(filter(is_weights, set(named) - set(present))))


def check_complete(named: Collection[str], present: Collection[str]) -> None:
    """Raise Corrupt if files named in the index are missing."""
    if missing := missing_weights(named, present):
        _corrupt(INDEX, f"it names {missing[0]}, which is not there")


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
            _corrupt(str(folder), f"it holds no {WEIGHTS} file")
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


def read_weights(path: Path) -> TensorSizes:
    """Read the header of a weights file. Raises Corrupt and OSError."""
    with open_regular(path) as file:
        first = file.read(_LENGTH.size)
        length = int(_LENGTH.unpack(first)[0]) if len(first) == _LENGTH.size else 0
        data = first + file.read(min(length, MAX_HEADER))
        weights = read_header(data, os.fstat(file.fileno()).st_size)
    if weights is None:
        _corrupt(path.name, "it is cut off")
    return weights


def _bounded(path: Path, limit: int) -> bytes:
    with open_regular(path) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        _corrupt(path.name, f"it is larger than {limit} bytes")
    return data


def _table(data: bytes) -> dict[str, msgspec.Raw]:
    """Split a header into its entries, which stay undecoded; only names are decoded."""
    # An entry has four colons: after its name, `dtype`, `shape` and `data_offsets`.
    if data.count(b":") > 4 * MAX_TENSORS:
        _corrupt("a safetensors header", f"it describes more than {MAX_TENSORS} tensors")
    try:
        return msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Corrupt(f"a safetensors header is not sound: {error}.", _REMEDY) from error


def _json(data: bytes, what: str, limit: int) -> dict[str, Any]:
    refuse_pointer(data, what)
    if len(data) > limit:
        _corrupt(what, f"it is larger than {limit} bytes")
    if data.count(b",") + data.count(b":") > MAX_ENTRIES:
        _corrupt(what, f"it has more than {MAX_ENTRIES} entries")
    try:
        return msgspec.json.decode(data, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Corrupt(f"{what} is not sound: {error}.", _REMEDY) from error


def _row(name: str, row: msgspec.Raw) -> tuple[str, list[int], int, int]:
    """Decode an entry: type, shape, begin and end of a tensor."""
    if len(memoryview(row)) > _MAX_ROW:
        _corrupt("a safetensors file", f"the entry of {name[:80]!r} is far too long")
    try:
        entry = msgspec.json.decode(row, type=_TensorRow)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Corrupt(f"The entry of {name[:80]!r} is not sound: {error}.", _REMEDY) from error
    begin, end = entry.data_offsets
    if len(entry.shape) > MAX_DIMENSIONS:
        _corrupt("a safetensors file", f"{name[:80]!r} has {len(entry.shape)} dimensions")
    if entry.dtype not in _DTYPE_BITS or begin > end or any(n < 0 for n in (begin, *entry.shape)):
        _corrupt("a safetensors file", f"the entry of {name[:80]!r} has impossible values")
    return entry.dtype, entry.shape, begin, end


@dataclass(frozen=True, slots=True, kw_only=True)
class _TensorRow:
    dtype: str
    shape: list[int]
    data_offsets: tuple[int, int]


def _number(document: Mapping[str, Any], key: str) -> int | None:
    value = document.get(key)
    good = isinstance(value, int) and not isinstance(value, bool) and 0 < value <= 1 << 40
    return value if good else None


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


def _corrupt(what: str, why: str) -> NoReturn:
    raise Corrupt(f"{what} is not sound: {why}.", _REMEDY)
