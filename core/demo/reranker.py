"""Hand-made weights of a small reranker whose order is known: texts about the query's topic first.

A decoder of one block (qwen3), as llama.cpp runs rerankers. How it works:

- The embedding of a token is a one-hot vector.
- The last token of the prompt looks equally at every keyword (`vocabulary.CHAINS`) of query and
  text and at the first token, so that each topic gets a share of its attention, whatever the
  length.
- The feed-forward adds the squares of these shares: most where the query and the text name the
  same topic.
- The classifier compares that with the last token's own dimension, which is constant.

Needs numpy and gguf, which are imported when a model is written.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modeldeck.core.demo.model_writer import missing_package
from modeldeck.core.demo.vocabulary import ASSISTANT, BEGIN, CHAINS, END, Vocabulary, forms

if TYPE_CHECKING:
    import numpy.typing as npt

RANK_TEMPLATE = f"{BEGIN}{{query}}{END}{{document}}{ASSISTANT}"
"""How the model reads a query and a text."""
CONTEXT_LENGTH = 2048

_HEAD, _FEED = 64, 64
_POOLING_RANK = 4
"""`enum llama_pooling_type`, llama.h."""
_LOOK = 2.0
"""Weight of queries and keys: their product is 8 times its square."""
_SHARE = 0.3
"""How much a topic's share adds to its dimension; the last token's own one is 1."""
_SHARP, _SUM = 4.0, 0.01
"""Weights of the feed-forward: what enters it, and what the sum of squares becomes."""
_YES, _NO = 1.2, 1.02
"""Weights of the classifier: of the sum, and of the constant it is compared with."""

_TOPICS = tuple(topic for topic in CHAINS if topic != "default")


def write_reranker(path: Path) -> None:
    """Write a reranker in GGUF. Raises DeckError where numpy or gguf is not installed."""
    try:
        import gguf
        import numpy as np
    except ImportError as error:
        raise missing_package(error) from error
    vocabulary = Vocabulary()
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(str(path), "qwen3")
    tensors = _tensors(vocabulary)
    _describe(writer, tensors["output_norm"].shape[0])
    _add_vocabulary(writer, vocabulary)
    for name, tensor in tensors.items():
        kind = np.float32 if tensor.ndim == 1 else np.float16
        writer.add_tensor(f"{name}.weight", np.ascontiguousarray(tensor, kind))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _describe(writer: Any, hidden: int) -> None:
    import gguf

    writer.add_name("tiny-rerank")
    writer.add_type("model")
    writer.add_context_length(CONTEXT_LENGTH)
    writer.add_embedding_length(hidden)
    writer.add_block_count(1)
    writer.add_feed_forward_length(_FEED)
    writer.add_head_count(1)
    writer.add_head_count_kv(1)
    writer.add_key_length(_HEAD)
    writer.add_value_length(_HEAD)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(1_000_000.0)
    writer.add_file_type(1)
    writer.add_pooling_type(gguf.PoolingType(_POOLING_RANK))
    writer.add_array("qwen3.classifier.output_labels", ["yes", "no"])
    writer.add_string("tokenizer.chat_template.rerank", RANK_TEMPLATE)
    writer.add_array("tokenizer.chat_templates", ["rerank"])


def _add_vocabulary(writer: Any, vocabulary: Vocabulary) -> None:
    words = vocabulary.first_special
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([token.encode() for token in vocabulary.tokens])
    writer.add_token_types([1] * words + [3] * (len(vocabulary.tokens) - words))
    writer.add_token_merges([f"{left} {right}" for left, right in vocabulary.merges])
    writer.add_bos_token_id(vocabulary.index[BEGIN])
    writer.add_eos_token_id(vocabulary.index[END])
    writer.add_add_bos_token(False)


def _tensors(vocabulary: Vocabulary) -> dict[str, npt.NDArray[Any]]:
    """Every tensor by its name, rows being outputs."""
    import numpy as np

    live = len(vocabulary.tokens)
    hidden = -(-(live + len(_TOPICS) + 1) // 64) * 64
    total = live + len(_TOPICS)  # the dimension of the sum of squares
    root = math.sqrt(hidden)
    last, first = vocabulary.index[ASSISTANT], vocabulary.index[BEGIN]

    def zeros(rows: int, columns: int = hidden) -> npt.NDArray[Any]:
        return np.zeros((rows, columns), np.float32)

    embedding = zeros(live)
    embedding[np.arange(live), np.arange(live)] = 1
    query, key, value = zeros(_HEAD), zeros(_HEAD), zeros(_HEAD)
    slowest = _HEAD // 2 - 1
    query[slowest, last] = key[slowest, first] = 1
    out, gate, up, down = zeros(hidden, _HEAD), zeros(_FEED), zeros(_FEED), zeros(hidden, _FEED)
    for number, topic in enumerate(_TOPICS):
        for form in (form for word in CHAINS[topic].keywords for form in forms(word)):
            token = vocabulary.ids(form)[0]
            key[slowest, token] = 1
            value[number, token] = 1 / root
        out[live + number, number] = _SHARE
        gate[number, live + number] = _SHARP
        up[number, live + number] = 1
        down[total, number] = _SUM
    classes = zeros(2)
    classes[0, total], classes[1, last] = _YES, _NO
    ones, look = np.ones(hidden, np.float32), np.full(_HEAD, _LOOK, np.float32)
    return {
        "token_embd": embedding,
        "output_norm": ones,
        "cls.output": classes,
        "blk.0.attn_norm": ones,
        "blk.0.attn_q": query,
        "blk.0.attn_k": key,
        "blk.0.attn_v": value,
        "blk.0.attn_output": out,
        "blk.0.attn_q_norm": look,
        "blk.0.attn_k_norm": look,
        "blk.0.ffn_norm": ones,
        "blk.0.ffn_gate": gate,
        "blk.0.ffn_up": up,
        "blk.0.ffn_down": down,
    }
