"""Writes the smallest models that the engines load, for measuring the overhead of a process.

All weights are zero, and are holes in the files. The tokenizer is a complete one, since it takes
memory for each token.

Sources: the GGUF specification (ggml, docs/gguf.md) and the tensors of llama.cpp's `llama`
architecture (llama-arch.cpp); the safetensors format, and the `tokenizer.json` of the tokenizers
library.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

from modeldeck.core.runtime.text.text_streams import byte_characters

WIDTH, FEED_FORWARD, HEADS, CONTEXT = 64, 64, 2, 512
END = "<|end|>"
BASE_TOKENS = 257
"""One token for each byte, and the token that ends an answer."""

_ALIGNMENT = 32
_UINT32, _INT32, _FLOAT32, _STRING, _ARRAY = 4, 5, 6, 8, 9
"""Types of values in a GGUF file."""
_F16 = 1
"""`GGML_TYPE_F16`; norms are of type 0, 32 bits."""
_NORMAL, _CONTROL = 1, 3
"""Types of tokens (`llama_token_type`)."""


def vocabulary(extra: int) -> tuple[list[str], list[tuple[str, str]]]:
    """Return the tokens, and the merges of two tokens into one, of which there are `extra`.

    >>> tokens, merges = vocabulary(300)
    >>> len(tokens), tokens[300], merges[0]
    (557, 'Ā,', ('Ā', 'Ā'))
    """
    signs = byte_characters()
    merges = [(signs[i // 256], signs[i % 256]) for i in range(extra)]
    return [*signs, *(a + b for a, b in merges), END], merges


def _shapes(tokens: int) -> dict[str, tuple[int, ...]]:
    """Shapes of all tensors of a model of one layer, by their names in a safetensors file."""
    square, up, down = (WIDTH, WIDTH), (FEED_FORWARD, WIDTH), (WIDTH, FEED_FORWARD)
    return {
        "model.embed_tokens.weight": (tokens, WIDTH),
        "model.norm.weight": (WIDTH,),
        "model.layers.0.input_layernorm.weight": (WIDTH,),
        "model.layers.0.self_attn.q_proj.weight": square,
        "model.layers.0.self_attn.k_proj.weight": square,
        "model.layers.0.self_attn.v_proj.weight": square,
        "model.layers.0.self_attn.o_proj.weight": square,
        "model.layers.0.post_attention_layernorm.weight": (WIDTH,),
        "model.layers.0.mlp.gate_proj.weight": up,
        "model.layers.0.mlp.up_proj.weight": up,
        "model.layers.0.mlp.down_proj.weight": down,
    }


_GGUF_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "model.layers.0.input_layernorm": "blk.0.attn_norm",
    "model.layers.0.self_attn.q_proj": "blk.0.attn_q",
    "model.layers.0.self_attn.k_proj": "blk.0.attn_k",
    "model.layers.0.self_attn.v_proj": "blk.0.attn_v",
    "model.layers.0.self_attn.o_proj": "blk.0.attn_output",
    "model.layers.0.post_attention_layernorm": "blk.0.ffn_norm",
    "model.layers.0.mlp.gate_proj": "blk.0.ffn_gate",
    "model.layers.0.mlp.up_proj": "blk.0.ffn_up",
    "model.layers.0.mlp.down_proj": "blk.0.ffn_down",
}


def write_gguf(path: Path, extra_tokens: int) -> None:
    """Write a GGUF model of one layer, with `extra_tokens` besides the `BASE_TOKENS`."""
    tokens, merges = vocabulary(extra_tokens)
    keys = b"".join(_keys(tokens, merges))
    table, offset = b"", 0
    shapes = _shapes(len(tokens))
    for name, shape in shapes.items():
        is_norm = len(shape) == 1
        dimensions = b"".join(struct.pack("<Q", count) for count in reversed(shape))
        gguf_name = f"{_GGUF_NAMES[name.removesuffix('.weight')]}.weight"
        table += _string(gguf_name) + struct.pack("<I", len(shape)) + dimensions
        table += struct.pack("<IQ", 0 if is_norm else _F16, offset)
        size = prod(shape) * (4 if is_norm else 2)
        offset += -(-size // _ALIGNMENT) * _ALIGNMENT
    count = sum(1 for _ in _keys([], []))
    head = b"GGUF" + struct.pack("<IQQ", 3, len(shapes), count) + keys + table
    with path.open("wb") as file:
        file.write(head)
        file.truncate(-(-len(head) // _ALIGNMENT) * _ALIGNMENT + offset)


def _keys(tokens: Sequence[str], merges: Sequence[tuple[str, str]]) -> Iterator[bytes]:
    numbers = {
        "llama.context_length": CONTEXT,
        "llama.embedding_length": WIDTH,
        "llama.block_count": 1,
        "llama.feed_forward_length": FEED_FORWARD,
        "llama.attention.head_count": HEADS,
        "llama.rope.dimension_count": WIDTH // HEADS,
        "tokenizer.ggml.eos_token_id": max(0, len(tokens) - 1),
    }
    yield _key("general.architecture", _STRING, _string("llama"))
    for name, number in numbers.items():
        yield _key(name, _UINT32, struct.pack("<I", number))
    epsilon = struct.pack("<f", 1e-5)
    yield _key("llama.attention.layer_norm_rms_epsilon", _FLOAT32, epsilon)
    yield _key("tokenizer.ggml.model", _STRING, _string("gpt2"))
    yield _key("tokenizer.ggml.pre", _STRING, _string("gpt-2"))
    yield _array("tokenizer.ggml.tokens", _STRING, [_string(token) for token in tokens])
    types = [struct.pack("<i", _CONTROL if token == END else _NORMAL) for token in tokens]
    yield _array("tokenizer.ggml.token_type", _INT32, types)
    yield _array("tokenizer.ggml.merges", _STRING, [_string(f"{a} {b}") for a, b in merges])


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _key(name: str, kind: int, value: bytes) -> bytes:
    return _string(name) + struct.pack("<I", kind) + value


def _array(name: str, kind: int, items: Sequence[bytes]) -> bytes:
    return _key(name, _ARRAY, struct.pack("<IQ", kind, len(items)) + b"".join(items))


def write_mlx(folder: Path, extra_tokens: int) -> None:
    """Write an MLX folder with a model of one layer and `extra_tokens` besides `BASE_TOKENS`."""
    tokens, merges = vocabulary(extra_tokens)
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / "config.json", _mlx_config(len(tokens)))
    _write_json(folder / "tokenizer.json", _tokenizer(tokens, merges))
    _write_json(
        folder / "tokenizer_config.json",
        {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": END},
    )
    table: dict[str, Any] = {}
    end = 0
    for name, shape in _shapes(len(tokens)).items():
        start, end = end, end + 2 * prod(shape)
        table[name] = {"dtype": "F16", "shape": shape, "data_offsets": [start, end]}
    head = json.dumps(table).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(head)) + head)
        file.truncate(8 + len(head) + end)


def _write_json(path: Path, document: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(document), encoding="utf-8")


def _mlx_config(tokens: int) -> dict[str, Any]:
    return {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": WIDTH,
        "intermediate_size": FEED_FORWARD,
        "num_hidden_layers": 1,
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS,
        "head_dim": WIDTH // HEADS,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "max_position_embeddings": CONTEXT,
        "vocab_size": tokens,
        "tie_word_embeddings": True,
        "eos_token_id": tokens - 1,
        "torch_dtype": "float16",
    }


def _tokenizer(tokens: Sequence[str], merges: Sequence[tuple[str, str]]) -> dict[str, Any]:
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {
        "version": "1.0",
        "added_tokens": [{"id": len(tokens) - 1, "content": END, "special": True, **flags}],
        "pre_tokenizer": level,
        "decoder": level,
        "model": {
            "type": "BPE",
            "vocab": {token: i for i, token in enumerate(tokens[:-1])},
            "merges": [list(pair) for pair in merges],
        },
    }
