"""Hand-made weights of a small llama whose greedy answers are known to the letter.

No training and no download. How it works:

- The embedding of a token is a one-hot vector, so the hidden size is at least the vocabulary's.
- A padding block has norm weights of zero: attention and feed-forward then see a zero vector and
  add nothing, for any random weights. Those are real bytes: any size is possible.
- The final RMSNorm turns the one-hot vector into sqrt(hidden) times it, so the output matrix is a
  table of bigrams: the next token follows from the last one.
- Block 0 has one real attention head. The token `<|assistant|>` looks for the latest keyword in the
  context, and the output matrix uses what it found to pick the sentence to start. So the answer
  depends on the conversation, and a lost message or a damaged KV cache shows in the text.
- A model that sees has another head beside it (`modeldeck.core.demo.sight`).
- A model that thinks writes a fixed thought after `<|assistant|>`, and the token that ends it does
  the looking.

Needs numpy. Everything is a function of the arguments: the same bytes on every run.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from modeldeck.core.demo import sight
from modeldeck.core.demo.sight import Sight
from modeldeck.core.demo.vocabulary import (
    ASSISTANT,
    CHAINS,
    CLOSE_THOUGHT,
    END,
    OPEN_THOUGHT,
    THOUGHT,
    Vocabulary,
    chains,
    forms,
)

Array = npt.NDArray[Any]

HEAD_SIZE = 64
ROPE_BASE = 10_000.0
NORM_EPSILON = 1e-5
CONTEXT_LENGTH = 4096

_LOW, _UNSURE, _CHOSEN = -30.0, -10.0, 20.0
"""Logits: never, the start of an answer that no keyword asks for, and of one that it does."""

_KEYWORD_SCORE = 2000.0
_RECENCY_SCORE = 3162.0
"""How strongly the topic head prefers a keyword to anything else, and a later keyword to an earlier
one. Checked with gaps of up to 1,000 tokens and 1,500 tokens after the keyword, in both engines."""

_RECENCY_TURN = ROPE_BASE ** (-28 / 32)
"""Radians: that of the fourth slowest of 32 pairs."""

_TOPICS = tuple(topic for topic in CHAINS if topic != "default")


@cache
def _noise() -> Array:
    """Random weights, the same for every model; made for each, they took a third of a build."""
    noise = np.random.default_rng(1).normal(0, 0.02, 1 << 20).astype(np.float16)
    noise.setflags(write=False)
    return noise


def topic_number(topic: str) -> int:
    """Which dimension of the topic head stands for a topic."""
    return _TOPICS.index(topic)


@dataclass(slots=True, kw_only=True)
class Tiny:
    """The weights, under Hugging Face's names and in its layout (rows are outputs)."""

    layers: int = 2
    feed_forward: int = 64
    heads: int = 2
    kv_heads: int = 1
    extra_tokens: int = 0
    thinks: bool = False
    fills: bool = False
    sees: bool = False
    vocabulary: Vocabulary = field(init=False)
    live: int = field(init=False)
    """Tokens with a dimension of their own: all but the fillers."""
    hidden: int = field(init=False)

    def __post_init__(self) -> None:
        self.vocabulary = Vocabulary(self.extra_tokens, self.thinks, self.fills, self.sees)
        self.live = self.vocabulary.words + len(self.vocabulary.specials)
        others = len(_TOPICS) + (sight.DIMENSIONS if self.sees else 0)
        self.hidden = -(-(self.live + others) // 64) * 64

    @property
    def parameters(self) -> int:
        """How many numbers the weights are."""
        block = self.hidden * (
            2 * HEAD_SIZE * (self.heads + self.kv_heads) + 3 * self.feed_forward + 2
        )
        return 2 * len(self.vocabulary.tokens) * self.hidden + self.layers * block + self.hidden

    @property
    def rope_base(self) -> float:
        """Of RoPE's frequencies."""
        return sight.ROPE_BASE if self.sees else ROPE_BASE

    @property
    def sight(self) -> Sight:
        """How it sees."""
        return Sight(
            vocabulary=self.vocabulary,
            dimension=self._dimension,
            asked=self._asked,
            words=self.live,
            start=self.live + len(_TOPICS),
        )

    def tensors(self) -> Iterator[tuple[str, Array]]:
        """Every tensor's name and content, made one at a time."""
        yield "model.embed_tokens.weight", self._embedding()
        for layer in range(self.layers):
            for name, tensor in self._block(layer):
                yield f"model.layers.{layer}.{name}.weight", tensor
        yield "model.norm.weight", np.ones(self.hidden, np.float32)
        yield "lm_head.weight", self._output()

    def _dimension(self, token: int) -> int:
        """The hidden dimension of a token. The fillers share that of the end token."""
        words, first_special = self.vocabulary.words, self.vocabulary.first_special
        if token < words:
            return token
        if token < first_special:
            token = self.vocabulary.index[END]
        return words + token - first_special

    @property
    def _asked(self) -> int:
        """The dimension of the token after which the answer begins."""
        return self._dimension(self.vocabulary.index[CLOSE_THOUGHT if self.thinks else ASSISTANT])

    def _random(self, rows: int, columns: int) -> Array:
        noise = _noise()
        repeats = -(-rows * columns // noise.size)
        return np.tile(noise, repeats)[: rows * columns].reshape(rows, columns)

    def _embedding(self) -> Array:
        matrix = np.zeros((len(self.vocabulary.tokens), self.hidden), np.float16)
        for token in range(len(self.vocabulary.tokens)):
            matrix[token, self._dimension(token)] = 1
        return matrix

    def _output(self) -> Array:
        """The bigram table, with rows for what comes next and columns for what is there now."""
        logit = np.zeros((len(self.vocabulary.tokens), self.hidden), np.float32)
        logit[:, : self.live] = _LOW
        known = chains(thinks=self.thinks)
        starts = {topic: self.vocabulary.ids(c.pieces[0])[0] for topic, c in known.items()}
        default, end = starts["default"], self.vocabulary.index[END]
        logit[default, : self.live] = 0
        for chain in known.values():
            tokens = [token for piece in chain.pieces for token in self.vocabulary.ids(piece)]
            for now, following in pairwise([*tokens, end if chain.ends else tokens[0]]):
                logit[default, self._dimension(now)] = _LOW
                logit[following, self._dimension(now)] = 0
        logit[:, self._dimension(end)] = _LOW
        logit[end, self._dimension(end)] = 0
        if self.thinks:
            path = (ASSISTANT, OPEN_THOUGHT, *THOUGHT, CLOSE_THOUGHT)
            for now, following in pairwise(self.vocabulary.ids(piece)[0] for piece in path):
                logit[default, self._dimension(now)] = _LOW
                logit[following, self._dimension(now)] = 0
        for number, topic in enumerate(_TOPICS):
            if topic not in known:
                continue
            asked = self._asked
            logit[starts[topic], asked] = _UNSURE
            logit[starts[topic], self.live + number] = _CHOSEN
        if self.sees:
            self.sight.answer(logit)
        return (logit / math.sqrt(self.hidden)).astype(np.float16)

    def _block(self, layer: int) -> Iterator[tuple[str, Array]]:
        hidden, q_rows, kv_rows = self.hidden, self.heads * HEAD_SIZE, self.kv_heads * HEAD_SIZE
        yield "input_layernorm", np.full(hidden, 0.0 if layer else 1.0, np.float32)
        if layer:
            yield "self_attn.q_proj", self._random(q_rows, hidden)
            yield "self_attn.k_proj", self._random(kv_rows, hidden)
            yield "self_attn.v_proj", self._random(kv_rows, hidden)
            yield "self_attn.o_proj", self._random(hidden, q_rows)
        else:
            yield from self._topic_head()
        yield "post_attention_layernorm", np.zeros(hidden, np.float32)
        yield "mlp.gate_proj", self._random(self.feed_forward, hidden)
        yield "mlp.up_proj", self._random(self.feed_forward, hidden)
        yield "mlp.down_proj", self._random(hidden, self.feed_forward)

    def _topic_head(self) -> Iterator[tuple[str, Array]]:
        """Head 0 of block 0: from `<|assistant|>` to the latest keyword.

        Its input is sqrt(hidden) times a one-hot vector. Of the RoPE pairs (i, i + half) the
        slowest one carries the match; the one that turns by `_RECENCY_TURN` at each token, a
        quarter turn ahead in the query, makes the score fall with the distance. Both scores undo
        attention's own 1/sqrt(head size).
        """
        root, half = math.sqrt(self.hidden), HEAD_SIZE // 2
        match = math.sqrt(_KEYWORD_SCORE * math.sqrt(HEAD_SIZE)) / root
        recency = math.sqrt(_RECENCY_SCORE * math.sqrt(HEAD_SIZE)) / root
        query = np.zeros((self.heads * HEAD_SIZE, self.hidden), np.float16)
        key = np.zeros((self.kv_heads * HEAD_SIZE, self.hidden), np.float16)
        value = np.zeros_like(key)
        result = np.zeros((self.hidden, self.heads * HEAD_SIZE), np.float16)
        query[half - 1, self._asked] = match
        later = round(-half * math.log(_RECENCY_TURN, self.rope_base))
        query[later + half, self._asked] = recency
        for number, topic in enumerate(_TOPICS):
            if topic not in chains(thinks=self.thinks):
                continue
            for form in (form for word in CHAINS[topic].keywords for form in forms(word)):
                token = self._dimension(self.vocabulary.ids(form)[0])
                key[half - 1, token] = match
                key[later, token] = recency
                value[number, token] = 1 / root
            result[self.live + number, number] = 1
        if self.sees:
            self.sight.look(query, key, value, result, HEAD_SIZE)
        yield "self_attn.q_proj", query
        yield "self_attn.k_proj", key
        yield "self_attn.v_proj", value
        yield "self_attn.o_proj", result


def tiny(
    size_bytes: int = 0,
    extra_tokens: int = 0,
    *,
    thinks: bool = False,
    fills: bool = False,
    sees: bool = False,
) -> Tiny:
    """The smallest model, or one padded to about `size_bytes` of 16-bit weights."""
    if not size_bytes:
        return Tiny(extra_tokens=extra_tokens, thinks=thinks, fills=fills, sees=sees)
    layers, heads, kv_heads = 8, 4, 2
    base = Tiny(
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        feed_forward=0,
        extra_tokens=extra_tokens,
        thinks=thinks,
    )
    per_row = 2 * 3 * base.hidden * layers
    rows = (size_bytes - 2 * base.parameters) // per_row
    return Tiny(
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        feed_forward=max(64, rows // 32 * 32),
        extra_tokens=extra_tokens,
        thinks=thinks,
    )
