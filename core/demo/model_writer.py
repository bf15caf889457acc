"""Writes tiny real models: GGUF for llama.cpp, and safetensors folders for MLX.

Their answers are known to the letter (`expected`), for every engine and precision, so a
test or a demo can tell a right answer from a plausible one. Needs numpy and gguf, which the `demo`
extra brings and nothing else does: they are imported when a model is written.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from modeldeck.core.demo.vocabulary import (
    BEGIN,
    CHAT_TEMPLATE,
    END,
    TOPICS,
    Vocabulary,
    expected,
)
from modeldeck.core.errors import DeckError
from modeldeck.core.storage.installation import this_installation

if TYPE_CHECKING:
    import numpy.typing as npt

    from modeldeck.core.demo.weights import Tiny

__all__ = ["TOPICS", "Quantization", "expected", "parameters", "write_gguf", "write_mlx"]

Quantization = Literal["F32", "F16", "Q8_0", "Q4_0"]

_FILE_TYPES: dict[Quantization, int] = {"F32": 0, "F16": 1, "Q8_0": 7, "Q4_0": 2}
"""`general.file_type`: llama.cpp's `enum llama_ftype`."""

_GGUF_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
}

_SPECIAL_TOKEN, _NORMAL_TOKEN, _VISIBLE_TOKEN = 3, 1, 4
"""`tokenizer.ggml.token_type`: control, normal and user-defined."""


def write_gguf(
    path: Path,
    quant: Quantization = "F16",
    *,
    size_bytes: int = 0,
    split_bytes: int = 0,
    pooling: int | None = None,
    extra_tokens: int = 0,
    chat_template: str | None = CHAT_TEMPLATE,
    thinks: bool = False,
    fills: bool = False,
    sees: bool = False,
) -> list[Path]:
    """Write a GGUF model and return its files: one, or the parts of a split one.

    Args:
        path: Where; parts of a split model get `-00001-of-0000N` before the suffix.
        quant: Type of the matrices.
        size_bytes: Padded to about this size at 16 bits; 0 for the smallest, about 3 MB.
        split_bytes: Largest size of a part; 0 for one file.
        pooling: `llama_pooling_type` of an embedding model (1 for mean); None for a text model.
        extra_tokens: Tokens added to the vocabulary that no text uses.
        chat_template: Jinja; None for a model without one.
        thinks: Whether it thinks before each answer; `THINKING_TEMPLATE` is for such a model.
        fills: Whether it has tokens around a gap to fill; only for the smallest model.
        sees: Whether it counts the squares of pictures, with the projector that
            `modeldeck.core.demo.projector` writes; only for the smallest model.

    Raises:
        DeckError: numpy or gguf is not installed.
    """
    model = make(size_bytes, extra_tokens, thinks=thinks, fills=fills, sees=sees)
    try:
        import gguf
    except ImportError as error:
        raise missing_package(error) from error
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(str(path), "llama", split_max_size=split_bytes)
    _describe(writer, model, quant)
    if pooling is not None:
        writer.add_pooling_type(gguf.PoolingType(pooling))
    _add_tokenizer(writer, model.vocabulary, chat_template)
    for name, tensor in model.tensors():
        _add_tensor(writer, model, quant, name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return sorted(path.parent.glob(f"{path.stem}-*-of-*{path.suffix}")) if split_bytes else [path]


def write_mlx(
    folder: Path,
    *,
    size_bytes: int = 0,
    shard_bytes: int = 5 << 30,
    extra_tokens: int = 0,
    chat_template: str | None = CHAT_TEMPLATE,
    thinks: bool = False,
) -> list[Path]:
    """Write a model folder that mlx-lm and transformers load, and return its files.

    Args:
        folder: Where; made if it is missing.
        size_bytes: Padded to about this size; 0 for the smallest, about 3 MB.
        shard_bytes: Largest size of a weight file; several come with an index.
        extra_tokens: Tokens added to the vocabulary that no text uses.
        chat_template: Jinja; None for a model without one.
        thinks: Whether it thinks before each answer; `THINKING_TEMPLATE` is for such a model.

    Raises:
        DeckError: numpy is not installed.
    """
    model = make(size_bytes, extra_tokens, thinks=thinks)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer_config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BEGIN,
        "eos_token": END,
        "add_bos_token": False,
        "clean_up_tokenization_spaces": False,
    }
    if chat_template is not None:
        tokenizer_config["chat_template"] = chat_template
    write_json(folder / "config.json", _mlx_config(model))
    write_json(folder / "tokenizer.json", _tokenizer(model.vocabulary))
    write_json(folder / "tokenizer_config.json", tokenizer_config)
    _write_shards(folder, model, shard_bytes)
    return sorted(folder.iterdir())


def parameters(size_bytes: int = 0, extra_tokens: int = 0) -> int:
    """How many numbers the weights of a model of this size are. Raises DeckError as `write_mlx`."""
    return make(size_bytes, extra_tokens).parameters


def make(size_bytes: int = 0, extra_tokens: int = 0, **kind: bool) -> Tiny:
    """The weights of a model; `kind` are the other arguments of `weights.tiny`.

    Raises DeckError where numpy is not installed.
    """
    try:
        from modeldeck.core.demo.weights import tiny
    except ImportError as error:
        raise missing_package(error) from error
    return tiny(size_bytes, extra_tokens, **kind)


def missing_package(error: ImportError) -> DeckError:
    """The error for what cannot be written without a package."""
    return DeckError(
        f"The demo's models cannot be written: {error.name} is not installed.",
        f"Install what writes them: {this_installation().install('gguf>=0.19')}.",
    )


# GGUF


def _describe(writer: Any, model: Tiny, quant: Quantization) -> None:
    from modeldeck.core.demo import weights

    writer.add_name("tiny")
    writer.add_type("model")
    writer.add_context_length(weights.CONTEXT_LENGTH)
    writer.add_embedding_length(model.hidden)
    writer.add_block_count(model.layers)
    writer.add_feed_forward_length(model.feed_forward)
    writer.add_head_count(model.heads)
    writer.add_head_count_kv(model.kv_heads)
    writer.add_key_length(weights.HEAD_SIZE)
    writer.add_value_length(weights.HEAD_SIZE)
    writer.add_layer_norm_rms_eps(weights.NORM_EPSILON)
    writer.add_rope_dimension_count(weights.HEAD_SIZE)
    writer.add_rope_freq_base(model.rope_base)
    writer.add_vocab_size(len(model.vocabulary.tokens))
    writer.add_file_type(_FILE_TYPES[quant])


def _add_tokenizer(writer: Any, vocabulary: Vocabulary, chat_template: str | None) -> None:
    words = vocabulary.first_special
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([token.encode() for token in vocabulary.tokens])
    writer.add_token_types(
        [_NORMAL_TOKEN] * words
        + [
            _VISIBLE_TOKEN if token in vocabulary.visible else _SPECIAL_TOKEN
            for token in vocabulary.tokens[words:]
        ]
    )
    writer.add_token_merges([f"{left} {right}" for left, right in vocabulary.merges])
    writer.add_bos_token_id(vocabulary.index[BEGIN])
    writer.add_eos_token_id(vocabulary.index[END])
    writer.add_add_bos_token(False)
    if chat_template is not None:
        writer.add_chat_template(chat_template)


def _add_tensor(
    writer: Any, model: Tiny, quant: Quantization, name: str, tensor: npt.NDArray[Any]
) -> None:
    import gguf
    import numpy as np

    if name.endswith("q_proj.weight"):
        tensor = _interleave(tensor, model.heads)
    elif name.endswith("k_proj.weight"):
        tensor = _interleave(tensor, model.kv_heads)
    wide = np.ascontiguousarray(tensor, np.float32)
    if tensor.ndim == 1 or quant == "F32":
        writer.add_tensor(_gguf_name(name), wide)
    elif quant == "F16":
        writer.add_tensor(_gguf_name(name), np.ascontiguousarray(tensor, np.float16))
    else:
        kind = gguf.GGMLQuantizationType[quant]
        writer.add_tensor(_gguf_name(name), gguf.quants.quantize(wide, kind), raw_dtype=kind)


def _gguf_name(name: str) -> str:
    """llama.cpp's name of a tensor of Hugging Face's.

    >>> _gguf_name("model.layers.1.mlp.up_proj.weight")
    'blk.1.ffn_up.weight'
    """
    stem = name.removesuffix(".weight")
    if not stem.startswith("model.layers."):
        return f"{_GGUF_NAMES[stem]}.weight"
    layer, part = stem.removeprefix("model.layers.").split(".", 1)
    return f"blk.{layer}.{_GGUF_NAMES[part]}.weight"


def _interleave(weight: npt.NDArray[Any], heads: int) -> npt.NDArray[Any]:
    """RoPE pairs as llama.cpp has them, side by side, from Hugging Face's two halves."""
    half = weight.shape[0] // heads // 2
    return weight.reshape(heads, 2, half, -1).swapaxes(1, 2).reshape(weight.shape)


# MLX


def _mlx_config(model: Tiny) -> dict[str, Any]:
    from modeldeck.core.demo import weights

    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": model.hidden,
        "num_hidden_layers": model.layers,
        "intermediate_size": model.feed_forward,
        "num_attention_heads": model.heads,
        "num_key_value_heads": model.kv_heads,
        "head_dim": weights.HEAD_SIZE,
        "rms_norm_eps": weights.NORM_EPSILON,
        "vocab_size": len(model.vocabulary.tokens),
        "max_position_embeddings": weights.CONTEXT_LENGTH,
        "rope_theta": model.rope_base,
        "tie_word_embeddings": False,
        "hidden_act": "silu",
        "torch_dtype": "float16",
        "bos_token_id": model.vocabulary.index[BEGIN],
        "eos_token_id": model.vocabulary.index[END],
    }


def _tokenizer(vocabulary: Vocabulary) -> dict[str, Any]:
    """`tokenizer.json` of the tokenizers library: a byte-level BPE."""
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    level = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": True,
    }
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": vocabulary.index[name],
                "content": name,
                "special": name not in vocabulary.visible,
                **flags,
            }
            for name in vocabulary.specials
        ],
        "normalizer": None,
        "pre_tokenizer": level,
        "post_processor": None,
        "decoder": level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {
                token: i for i, token in enumerate(vocabulary.tokens[: vocabulary.first_special])
            },
            "merges": [list(pair) for pair in vocabulary.merges],
        },
    }


def _write_shards(folder: Path, model: Tiny, shard_bytes: int) -> None:
    import numpy as np

    shards: list[dict[str, npt.NDArray[Any]]] = [{}]
    room, total = shard_bytes, 0
    for name, tensor in model.tensors():
        half = tensor.astype(np.float16)
        if half.nbytes > room and shards[-1]:
            shards.append({})
            room = shard_bytes
        shards[-1][name] = half
        room -= half.nbytes
        total += half.nbytes
    if len(shards) == 1:
        write_safetensors(folder / "model.safetensors", shards[0])
        return
    places: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        write_safetensors(folder / file, shard)
        places.update(dict.fromkeys(shard, file))
    index = {"metadata": {"total_size": total}, "weight_map": places}
    write_json(folder / "model.safetensors.index.json", index)


def write_safetensors(path: Path, tensors: dict[str, npt.NDArray[Any]], kind: str = "F16") -> None:
    """Write a safetensors file: 8 bytes of header length, a JSON header padded to 8, the data.

    All tensors are of one kind, which is named as the format does.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "mlx"}}
    end = 0
    for name, tensor in tensors.items():
        start, end = end, end + tensor.nbytes
        header[name] = {"dtype": kind, "shape": tensor.shape, "data_offsets": [start, end]}
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(encoded)) + encoded)
        for tensor in tensors.values():
            file.write(tensor.tobytes())


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file."""
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
