"""Writes small projectors of many kinds, with random weights, and text models to go with them.

A projector is a GGUF file of architecture `clip`, which llama.cpp's library for images and audio
(libmtmd) loads beside the text model. `tests.support.projector_kinds` lists the kinds.

For measuring memory and for the paths of an engine, not for answers: the demo's model that sees is
in `modeldeck.core.demo`. Needs numpy and gguf.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from modeldeck.core.demo.model_writer import missing_package
from modeldeck.core.demo.vocabulary import CHAT_TEMPLATE
from tests.support import recorded
from tests.support.architectures import Kind
from tests.support.projector_kinds import KINDS, Keys, ProjectorKind, Tower

RECORD = Path(__file__).parents[1] / "core" / "runtime" / "architectures.json"


def write_projector(
    path: Path,
    kind: str,
    tower: Tower | None = None,
    weights: Kind = "F16",
    *,
    header_only: bool = False,
) -> Path:
    """Write a projector, or a sparse file of its size with the header alone.

    Args:
        path: Where; its folder is made if it is missing.
        kind: One of `KINDS`.
        tower: Its sizes; by default about 300 kB, and 4 tokens for an image of 56 x 56 pixels.
        weights: Type of the matrices.
        header_only: Whether the data is left out.

    Raises DeckError when numpy or gguf is not installed.
    """
    try:
        import gguf
    except ImportError as error:
        raise missing_package(error) from error
    tower = tower or Tower()
    known = KINDS[kind]
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(str(path), "clip")
    for key, value in _metadata(known, tower).items():
        _add_key(writer, f"clip.{key}", value)
    sizes = [
        _add_tensor(writer, name, shape, weights, header_only=header_only)
        for name, shape in known.shapes(tower).items()
    ]
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    if header_only:
        writer.write_ti_data_to_file()
        writer.close()
        os.truncate(path, -(-path.stat().st_size // 32) * 32 + sum(sizes))
    else:
        writer.write_tensors_to_file()
        writer.close()
    return path


def write_text_model(path: Path, kind: str, tower: Tower | None = None, layers: int = 4) -> Path:
    """Write a text model that a projector of a kind fits, with its tokens and a chat template.

    The template takes the text of a message as it is, markers of images included.
    """
    known = KINDS[kind]
    recipe = recorded.read(RECORD)[known.text].recipe(known.text)
    assert (tower or Tower()).out == recipe.width, "the projector does not fit the text model"
    path.parent.mkdir(parents=True, exist_ok=True)
    return replace(recipe, markers=known.markers, chat_template=CHAT_TEMPLATE).write(path)


@dataclass(frozen=True, slots=True, kw_only=True)
class SeeingModel:
    """A text model and its projector on disk."""

    path: Path
    projector: Path
    tower: Tower = field(default_factory=Tower)


def write_seeing_model(folder: Path, kind: str, tower: Tower | None = None) -> SeeingModel:
    """Write a text model and a projector of a kind, into a folder named for the kind."""
    tower = tower or Tower()
    return SeeingModel(
        path=write_text_model(folder / kind / "model-F16.gguf", kind, tower),
        projector=write_projector(folder / kind / "mmproj-F16.gguf", kind, tower),
        tower=tower,
    )


def _metadata(kind: ProjectorKind, t: Tower) -> Keys:
    part = "audio" if kind.hears else "vision"
    found: Keys = {
        f"has_{part}_encoder": True,
        "projector_type": kind.type,
        "use_gelu": "use_silu" not in kind.keys(t),
        f"{part}.embedding_length": t.width,
        f"{part}.feed_forward_length": t.feed_forward,
        f"{part}.block_count": t.blocks,
        f"{part}.projection_dim": t.out,
        f"{part}.attention.head_count": t.heads,
        f"{part}.attention.layer_norm_epsilon": 1e-6,
    }
    if kind.hears:
        found["audio.num_mel_bins"] = t.bins
    else:
        found |= {
            "vision.image_size": t.image,
            "vision.patch_size": t.patch,
            "vision.image_mean": [0.5, 0.5, 0.5],
            "vision.image_std": [0.5, 0.5, 0.5],
        }
    return found | kind.keys(t)


def _add_key(writer: Any, key: str, value: Any) -> Any:
    if key == "clip.minicpmv_version":
        return writer.add_int32(key, value)  # the only one that is signed
    add = {
        bool: writer.add_bool,
        int: writer.add_uint32,
        float: writer.add_float32,
        str: writer.add_string,
        list: writer.add_array,
    }
    return add[type(value)](key, value)


_PLAIN = ("embd", "norm", "ln", "query", "boi", "eoi", "bias", "img_break")
"""Parts of the names of tensors that libmtmd adds or concatenates, and keeps in 32 bits."""


def _add_tensor(
    writer: Any, name: str, shape: tuple[int, ...], weights: Kind, *, header_only: bool
) -> int:
    """Add a tensor of small random numbers; how many bytes it takes in the file."""
    import gguf
    import numpy as np

    own: str = weights
    if len(shape) == 1 or (any(p in name for p in _PLAIN) and "patch_embd.weight" not in name):
        own = "F32"
    elif len(shape) > 2 or shape[0] % 32:
        own = "F16"  # a convolution, or rows that no block fits
    rows, count = tuple(reversed(shape)), int(np.prod(shape))
    type_ = gguf.GGMLQuantizationType[own]
    block, size = gguf.GGML_QUANT_SIZES[type_]
    plain = {"F32": np.float32, "F16": np.float16}.get(own)
    if header_only:
        stored = rows if plain else gguf.quant_shape_to_byte_shape(rows, type_)
        kept = np.dtype(plain or np.uint8)
        raw = None if plain else type_
        writer.add_tensor_info(name, stored, kept, count // block * size, raw_dtype=raw)
    else:
        numbers = np.resize(_noise(), count).reshape(rows)
        if plain:
            writer.add_tensor(name, numbers.astype(plain))
        else:
            writer.add_tensor(name, gguf.quants.quantize(numbers, type_), raw_dtype=type_)
    return -(-count // block * size // 32) * 32


def _noise() -> Any:
    import numpy as np

    return np.random.default_rng(1).normal(0, 0.05, 1 << 16).astype(np.float32)
