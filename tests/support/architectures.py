"""Writes small models of any architecture that llama.cpp knows, with random weights.

The tensors of an architecture are not listed here: llama.cpp is asked. It is given a header, says
which key or tensor is missing or which shape was expected, and is shown a better one, until it
plans a load. What it cannot be asked is in `tests.support.recipes`.

For measuring memory, not for answers. Needs numpy and gguf, as the models do.
"""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from modeldeck.core.demo.model_writer import missing_package
from modeldeck.core.demo.vocabulary import BEGIN, END, Vocabulary
from modeldeck.core.errors import EngineFailed
from tests.support.recipes import DEFAULTS, MOE, NEWER, PRESETS, SILENT, TOKENS, UNFIT, Value

Kind = Literal["F16", "Q8_0", "Q4_0"]

STEPS = 400
"""Questions to llama.cpp at most: an architecture has about 20 tensors in each of a few layers."""

_WIDE = re.compile(
    r"norm|bias|ssm_|shortconv|time_|scale|rope|sinks|exp_probs|altup|laurel|per_layer|gate_inp"
)
"""Tensors that llama.cpp keeps in 32 bits, or that it multiplies with others that are."""
_BARE = "xielu."
"""Keys that stand without the architecture's prefix."""
_MISSING_KEY = re.compile(r"key not found in model: ([\w.-]*\w)")
_MISSING_TENSOR = re.compile(r"missing tensor '([^']+)'|tensor '([^']+)' not found")
_WRONG_SHAPE = re.compile(r"tensor '([^']+)' has wrong shape; expected ([^;]+?), got")

AskPlan = Callable[[Path], Awaitable[object]]
"""Lets llama.cpp plan a load of a file. Raises EngineFailed with what it says."""


@dataclass(slots=True, kw_only=True)
class Recipe:
    """What a model of an architecture consists of."""

    architecture: str
    width: int = 256
    layers: int = 4
    feed_forward: int = 512
    heads: int = 4
    kv_heads: int = 2
    extra_tokens: int = 0
    """Fillers in its vocabulary."""
    markers: tuple[str, ...] = ()
    """Special tokens in its vocabulary besides the usual ones."""
    chat_template: str | None = None
    keys: dict[str, Value] = field(default_factory=dict)
    """Metadata under the architecture's prefix, besides the sizes above."""
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Of its tensors, in ggml's order."""

    def _metadata(self, tokens: int) -> dict[str, Value]:
        return {
            "context_length": 32_768,
            "embedding_length": self.width,
            "block_count": self.layers,
            "feed_forward_length": self.feed_forward,
            "attention.head_count": self.heads,
            "attention.head_count_kv": self.kv_heads,
            "attention.layer_norm_rms_epsilon": 1e-5,
            "attention.layer_norm_epsilon": 1e-5,
            "attention.sliding_window": 128,
            "rope.dimension_count": 64,
            "rope.freq_base": 10_000.0,
            "vocab_size": tokens,
            **PRESETS.get(self.architecture, {}),
            **self.keys,
        }

    def write(self, path: Path, kind: Kind = "F16", *, header_only: bool = False) -> Path:
        """Write the model, or a sparse file of its size with the header alone.

        Raises DeckError when numpy or gguf is not installed.
        """
        try:
            import gguf
        except ImportError as error:
            raise missing_package(error) from error
        extra = max(self.extra_tokens, TOKENS.get(self.architecture, 0))
        vocabulary = Vocabulary(extra, markers=self.markers)
        writer = gguf.GGUFWriter(str(path), self.architecture)
        for key, value in self._metadata(len(vocabulary.tokens)).items():
            own = "" if key.startswith(_BARE) else f"{self.architecture}."
            _add(writer, own + key, value)
        _add_tokenizer(writer, vocabulary)
        if self.chat_template is not None:
            writer.add_chat_template(self.chat_template)
        shapes = {"token_embd.weight": (self.width, len(vocabulary.tokens)), **self.shapes}
        data_bytes = 0
        for name, shape in shapes.items():
            data_bytes += _add_tensor(writer, name, shape, kind, header_only=header_only)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        if header_only:
            writer.write_ti_data_to_file()
            writer.close()
            os.truncate(path, -(-path.stat().st_size // 32) * 32 + data_bytes)
        else:
            writer.write_tensors_to_file()
            writer.close()
        return path


async def discover(recipe: Recipe, path: Path, plan: AskPlan) -> Recipe:
    """Complete a recipe by asking llama.cpp; `path` is written over.

    Raises EngineFailed for an architecture that this does not get by, with the reason.
    """
    if why := UNFIT.get(recipe.architecture):
        raise EngineFailed(why)
    try:
        return await _discover(recipe, path, plan)
    except EngineFailed as error:
        unasked = re.search(r"expert|ended|gave up|crashed", error.message)
        if not unasked or recipe.architecture in PRESETS:
            raise
        recipe.keys, recipe.shapes = dict(MOE), {}
        return await _discover(recipe, path, plan)


async def _discover(recipe: Recipe, path: Path, plan: AskPlan) -> Recipe:
    for names, shape in SILENT.get(recipe.architecture, {}).items():
        recipe.shapes = dict.fromkeys(expand(names), shape) | recipe.shapes
    for _ in range(STEPS):
        recipe.write(path, header_only=True)
        try:
            await plan(path)
            return recipe
        except EngineFailed as error:
            if not _improve(recipe, error.message):
                raise
    raise EngineFailed(f"llama.cpp wants ever more of {recipe.architecture}.")


def _improve(recipe: Recipe, said: str) -> bool:
    """Give llama.cpp what it misses; False when it is nothing that can be given."""
    if found := _MISSING_KEY.search(said):
        key = found[1].removeprefix(f"{recipe.architecture}.")
        if key in recipe.keys or key not in DEFAULTS:
            return False
        recipe.keys[key] = DEFAULTS[key]
    elif found := _MISSING_TENSOR.search(said):
        name = found[1] or found[2]
        if name in recipe.shapes:
            return False
        recipe.shapes[name] = _like(recipe.shapes, name)
    elif found := _WRONG_SHAPE.search(said):
        shape = [int(size) for size in found[2].split(",")]
        while len(shape) > 1 and shape[-1] == 1:
            shape.pop()
        if recipe.shapes.get(found[1]) == tuple(shape):
            return False
        recipe.shapes[found[1]] = tuple(shape)
    else:
        return False
    return True


def expand(pattern: str) -> list[str]:
    """The names of tensors that a pattern stands for, with numbers of layers in brackets.

    >>> expand("blk.[02].attn_qkv.weight"), expand("output.weight")
    (['blk.0.attn_qkv.weight', 'blk.2.attn_qkv.weight'], ['output.weight'])
    """
    if "[" not in pattern:
        return [pattern]
    before, layers, after = re.split(r"[\[\]]", pattern)
    return [f"{before}{layer}{after}" for layer in layers]


def _like(shapes: Mapping[str, tuple[int, ...]], name: str) -> tuple[int, ...]:
    """The shape of the same tensor in another layer, which is mostly right; else any."""
    pattern = re.compile(re.sub(r"\\\.\d+\\\.", r"\\.\\d+\\.", re.escape(name)))
    return next((shape for other, shape in shapes.items() if pattern.fullmatch(other)), (1,))


def architectures() -> tuple[str, ...]:
    """Names of the architectures that llama.cpp knows. Raises DeckError without gguf."""
    try:
        import gguf
    except ImportError as error:
        raise missing_package(error) from error
    return tuple(dict.fromkeys((*map(str, gguf.MODEL_ARCH_NAMES.values()), *NEWER)))


def _add(writer: Any, key: str, value: Value) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    else:
        writer.add_array(key, value)


def _add_tokenizer(writer: Any, vocabulary: Vocabulary) -> None:
    words, total = vocabulary.first_special, len(vocabulary.tokens)
    writer.add_uint32("tokenizer.ggml.token_type_count", 2)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([token.encode() for token in vocabulary.tokens])
    writer.add_token_types([1] * words + [3] * (total - words))
    writer.add_token_merges([f"{left} {right}" for left, right in vocabulary.merges])
    writer.add_bos_token_id(vocabulary.index[BEGIN])
    writer.add_eos_token_id(vocabulary.index[END])
    writer.add_add_bos_token(False)


def _add_tensor(
    writer: Any, name: str, shape: tuple[int, ...], kind: Kind, *, header_only: bool
) -> int:
    """Add a tensor of small random numbers; how many bytes it takes in the file."""
    import gguf
    import numpy as np

    own: str = kind
    if "tid2eid" in name:
        own = "I32"  # experts by token
    elif len(shape) == 1 or min(shape[:2]) < 32 or _WIDE.search(name):
        own = "F32"
    elif shape[0] % 32:
        own = "F16"
    rows = tuple(reversed(shape))
    count = int(np.prod(shape))
    type_ = gguf.GGMLQuantizationType[own]
    block, size = gguf.GGML_QUANT_SIZES[type_]
    if header_only:
        plain = {"F32": np.float32, "F16": np.float16, "I32": np.int32}.get(own)
        stored = rows if plain else gguf.quant_shape_to_byte_shape(rows, type_)
        writer.add_tensor_info(
            name,
            stored,
            np.dtype(plain or np.uint8),
            count // block * size,
            raw_dtype=None if plain else type_,
        )
    else:
        numbers = np.resize(_noise(), count).reshape(rows)
        if own == "F32":
            writer.add_tensor(name, numbers)
        elif own == "I32":
            writer.add_tensor(name, np.zeros(rows, np.int32))
        elif own == "F16":
            writer.add_tensor(name, numbers.astype(np.float16))
        else:
            writer.add_tensor(name, gguf.quants.quantize(numbers, type_), raw_dtype=type_)
    return -(-count // block * size // 32) * 32


def _noise() -> Any:
    import numpy as np

    return np.random.default_rng(1).normal(0, 0.02, 1 << 16).astype(np.float32)
