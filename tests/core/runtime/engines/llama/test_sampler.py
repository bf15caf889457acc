"""Samplers on llama.cpp's real logits: several requests in one batch, each by its own grammar."""

import ctypes
import json
import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from llama_cpp import llama_cpp as c

from modeldeck.core.errors import InvalidRequest
from modeldeck.core.runtime.engines.bounds import Bounds
from modeldeck.core.runtime.engines.llama.sampler import SamplerChain
from modeldeck.core.runtime.engines.llama.vocabulary import make_vocabulary
from modeldeck.core.runtime.grammar.answer_grammar import of_expression, of_gbnf, of_schema
from modeldeck.core.runtime.grammar.matcher import GrammarVocabulary, Matcher
from modeldeck.core.schema import GenerateRequest

ROWS = 4
SILENT = c.llama_log_callback(lambda _level, _text, _data: None)
"""llama.cpp has a pointer to it: it must not be freed."""


class Model:
    """The tiny model, with a context of several sequences."""

    def __init__(self, path: Path) -> None:
        c.llama_log_set(SILENT, None)
        c.llama_backend_init()
        self.model = c.llama_model_load_from_file(
            str(path).encode(), c.llama_model_default_params()
        )
        parameters = c.llama_context_default_params()
        parameters.n_ctx, parameters.n_seq_max, parameters.n_threads = 1024, ROWS, 1
        self.context = c.llama_init_from_model(self.model, parameters)
        self.vocab = c.llama_model_get_vocab(self.model)
        self.size = c.llama_vocab_n_tokens(self.vocab)
        self.grammars = GrammarVocabulary(partial(make_vocabulary, c, self.vocab))
        self._batch = c.llama_batch_init(ROWS, 0, 1)

    def read(self, rows: dict[int, int], position: int) -> None:
        """Evaluate a token of each sequence, all with logits."""
        batch = self._batch
        batch.n_tokens = len(rows)
        for row, (sequence, token) in enumerate(rows.items()):
            batch.token[row], batch.pos[row], batch.logits[row] = token, position, 1
            batch.n_seq_id[row], batch.seq_id[row][0] = 1, sequence
        assert c.llama_decode(self.context, batch) == 0

    def logits(self, place: int) -> Any:
        return np.ctypeslib.as_array(c.llama_get_logits_ith(self.context, place), (self.size,))

    def piece(self, token: int) -> bytes:
        room = ctypes.create_string_buffer(64)
        length = c.llama_token_to_piece(self.vocab, token, room, 64, 0, False)
        return room.raw[: max(0, length)]

    def close(self) -> None:
        c.llama_batch_free(self._batch)
        c.llama_free(self.context)
        c.llama_model_free(self.model)


@pytest.fixture(scope="module")
def model(demo_models: Path) -> Iterator[Model]:
    model = Model(demo_models / "tiny-GGUF" / "tiny-F16.gguf")
    yield model
    model.close()


def written(model: Model, chains: dict[int, SamplerChain], limit: int) -> dict[int, bytes]:
    """What the requests say, all in one batch after the other."""
    texts = dict.fromkeys(chains, b"")
    rows, position = dict.fromkeys(chains, 5), 0
    c.llama_memory_clear(c.llama_get_memory(model.context), True)
    while rows and position < limit:
        model.read(rows, position)
        position += 1
        for place, sequence in enumerate(list(rows)):
            before = model.logits(place).copy()
            token = chains[sequence].sample(place)
            if token is None or c.llama_vocab_is_eog(model.vocab, token):
                del rows[sequence]
                continue
            assert (model.logits(place) == before).all()  # probabilities are told of them
            likely = chains[sequence].logprob(token, model.piece, place)
            if likely is not None:
                assert math.exp(likely.logprob) <= 1
                assert likely.top[0][1] >= likely.logprob
            rows[sequence] = token
            texts[sequence] += model.piece(token)
    return texts


def chain(model: Model, matcher: Matcher | None, **more: Any) -> SamplerChain:
    request = GenerateRequest(prompt="x", **{"seed": 3, **more})
    return SamplerChain(
        c, model.context, model.vocab, request, matcher, bounds=Bounds(lambda: False)
    )


@pytest.mark.parametrize(
    "more",
    [
        {"temperature": 0},
        {"temperature": 0, "repeat_penalty": 1.5},
        {"temperature": 1.5, "top_k": 0, "min_p": 0.0, "top_p": 1.0},
        {"temperature": 1.0, "presence_penalty": 1.0},
    ],
)
def test_requests_in_one_batch_follow_each_its_own_grammar(
    model: Model, more: dict[str, Any]
) -> None:
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer", "minimum": 50, "maximum": 99}},
        "required": ["n"],
    }
    grammars = [of_schema(schema), of_expression("[0-9]{3}-(ab|cd)"), of_gbnf('root ::= "é"{4}')]
    chains = {
        row: chain(model, model.grammars.matcher(grammar), logprobs=2, **more)
        for row, grammar in enumerate(grammars)
    }
    chains[3] = chain(model, None, **more)
    alone = chain(model, None, **more)
    free = written(model, {3: alone}, 120)[3]
    texts = written(model, chains, 120)
    assert 50 <= json.loads(texts[0])["n"] <= 99
    assert texts[1][3:4] == b"-"
    assert texts[1][:3].isdigit()
    assert texts[2].decode() == "éééé"
    if more["temperature"] == 0:
        assert texts[3] == free
    for made in (*chains.values(), alone):
        made.__exit__()


def test_the_vocabulary_knows_text_signs_and_ends(model: Model) -> None:
    import llguidance

    made = make_vocabulary(c, model.vocab, llguidance)
    ends = [n for n in range(model.size) if c.llama_vocab_is_eog(model.vocab, n)]
    assert made.vocab_size == model.size
    assert sorted(made.eos_tokens) == ends
    assert all(made.is_special_token(token) for token in ends)
    for token in range(model.size):
        text = model.piece(token)
        if text and text != b"\xff":  # which is in no text
            assert made.decode_bytes([token]) == text
        else:
            assert made.is_special_token(token)
    assert made.decode_bytes(made.tokenize_str("One two three")) == b"One two three"


def test_a_chain_that_cannot_be_made_leaves_nothing(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def noting(name: str, make: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*given: Any) -> Any:
            made.append(name)
            return make(*given)

        return noted

    for name in dir(c):
        if name.startswith("llama_sampler_") and "init" in name:
            monkeypatch.setattr(c, name, noting(name, getattr(c, name)))
    with pytest.raises(InvalidRequest, match="this model has"):
        chain(model, None, logit_bias={1 << 30: 1.0}, repeat_penalty=1.1)
    assert made == []
