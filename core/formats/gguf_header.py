"""The header of a GGUF file as a record, with properties for the metadata in use.

Names of keys are those of the GGUF specification (ggml, docs/gguf.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

Value = int | float | bool | str | tuple[int | float | bool | str, ...]

_POOLING = ("none", "mean", "cls", "last", "rank")
"""`enum llama_pooling_type`, from 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorInfo:
    """An entry of the table of tensors."""

    name: str
    shape: tuple[int, ...]
    type: int
    """The ggml type's number."""
    offset: int
    """From the start of the data, in bytes."""
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufHeader:
    """The header of a GGUF file."""

    version: int
    metadata: Mapping[str, Value]
    """All values but long arrays, whose lengths are in `array_lengths`."""
    array_lengths: Mapping[str, int]
    tensors: tuple[TensorInfo, ...]
    data_offset: int
    """Start of the weights: the length of the header in bytes."""

    @property
    def architecture(self) -> str | None:
        """Name of the architecture, such as `llama`."""
        return self.text("general.architecture")

    @property
    def name(self) -> str | None:
        """The model's name, as its maker wrote it."""
        return self.text("general.name")

    @property
    def license(self) -> str | None:
        """The licence's identifier."""
        return self.text("general.license")

    @property
    def context_length(self) -> int | None:
        """Tokens the model was trained for."""
        return self.number("context_length")

    @property
    def layers(self) -> int | None:
        """Number of blocks."""
        return self.number("block_count")

    @property
    def embedding_length(self) -> int | None:
        """Width of the hidden state."""
        return self.number("embedding_length")

    @property
    def heads(self) -> int | None:
        """Attention heads of a layer; the largest where layers differ."""
        return self.number("attention.head_count")

    @property
    def kv_heads(self) -> tuple[int, ...] | None:
        """Key and value heads of each layer; 0 for a layer without a KV cache."""
        layers = self.layers
        value = self._own("attention.head_count_kv")
        if value is None:
            value = self._own("attention.head_count")
        if layers is None or value is None:
            return None
        if isinstance(value, tuple):
            return tuple(int(v) for v in value)
        return (int(value),) * layers

    @property
    def key_length(self) -> int | None:
        """Elements of a key, per head."""
        return self.number("attention.key_length") or self._width_per_head()

    @property
    def value_length(self) -> int | None:
        """Elements of a value, per head."""
        return self.number("attention.value_length") or self._width_per_head()

    @property
    def vocab_size(self) -> int | None:
        """Tokens of the vocabulary."""
        return self.array_lengths.get("tokenizer.ggml.tokens")

    @property
    def weights_bytes(self) -> int:
        """Bytes of all tensors of this file; a split model's other parts have their own."""
        return sum(tensor.size_bytes for tensor in self.tensors)

    @property
    def file_size(self) -> int:
        """Minimum size in bytes of a file with these tensors."""
        ends = (tensor.offset + tensor.size_bytes for tensor in self.tensors)
        return self.data_offset + max(ends, default=0)

    @property
    def parameters(self) -> int:
        """Elements of all tensors of this file."""
        return sum(prod(tensor.shape) for tensor in self.tensors)

    @property
    def pooling(self) -> str | None:
        """Pooling of an embedding model; None for a model that generates text."""
        number = self.number("pooling_type")
        return _POOLING[number] if number is not None and 0 < number < len(_POOLING) else None

    @property
    def encoders(self) -> tuple[str, ...]:
        """What a projector takes: `vision` for images, `audio` for recordings.

        Source: tools/mtmd/clip.cpp of llama.cpp, which reads the same two keys.
        """
        kinds = ("vision", "audio")
        return tuple(k for k in kinds if self.metadata.get(f"clip.has_{k}_encoder") is True)

    @property
    def split_count(self) -> int:
        """Number of files that make up the model."""
        value = self.metadata.get("split.count", 1)
        return max(1, value) if isinstance(value, int) else 1

    def text(self, key: str) -> str | None:
        """Return a string of the metadata; None if it is missing or has another type."""
        value = self.metadata.get(key)
        return value if isinstance(value, str) else None

    def number(self, key: str) -> int | None:
        """Return an integer under the architecture's prefix; the largest of a list."""
        value = self._own(key)
        if isinstance(value, tuple):
            return max((v for v in value if isinstance(v, int)), default=None)
        return value if isinstance(value, int) else None

    def _own(self, key: str) -> int | tuple[int, ...] | None:
        value = self.metadata.get(f"{self.architecture}.{key}")
        if isinstance(value, tuple):
            return tuple(v for v in value if isinstance(v, int))
        return value if isinstance(value, int) else None

    def _width_per_head(self) -> int | None:
        width, heads = self.embedding_length, self.heads
        return width // heads if width and heads else None
