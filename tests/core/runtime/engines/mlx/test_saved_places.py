"""Models whose caches cannot be cut, with a window or a state of the text: mlx-lm's own, untrained.

Their answers are noise, and the same noise for the same text.
"""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from modeldeck.core.runtime.engines.base import Flag
from modeldeck.core.runtime.engines.mlx.answer import AnswerMaker
from modeldeck.core.runtime.engines.mlx.engine import MlxEngine
from modeldeck.core.runtime.engines.mlx.model import MlxModel
from modeldeck.core.runtime.engines.mlx.turns import MlxTurns
from modeldeck.core.runtime.process.messages import AnswerDone, PromptProgress
from modeldeck.core.schema import GenerateRequest, Message

WINDOW = {
    "model_type": "gemma3_text",
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "intermediate_size": 64,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "query_pre_attn_scalar": 32,
    "sliding_window": 32,
    "sliding_window_pattern": 3,
}
STATE = {
    "model_type": "lfm2",
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 4096,
    "norm_eps": 1e-5,
    "conv_bias": False,
    "conv_L_cache": 3,
    "block_dim": 64,
    "block_ff_dim": 64,
    "block_multiple_of": 32,
    "block_ffn_dim_multiplier": 1.0,
    "block_auto_adjust_ff_dim": False,
    "full_attn_idxs": [1],
}
SYSTEM = "s" * 60


class Noise:
    """A model with random weights, and what its requests were answered with."""

    def __init__(self, config: dict[str, Any], tokenizer: Any, mx: Any) -> None:
        package: Any = importlib.import_module(f"mlx_lm.models.{config['model_type']}")
        size = len(tokenizer.get_vocab())
        mx.random.seed(5)
        model = package.Model(package.ModelArgs.from_dict({**config, "vocab_size": size}))
        mx.eval(model.parameters())
        self.model = MlxModel(
            mx,
            model,
            tokenizer,
            context_length=2048,
            cache_tokens=8192,
            parallel=4,
            vocabulary=size,
        )
        self._maker = AnswerMaker(self.model, Flag(), stop_loops=False)
        self.turns = MlxTurns(self.model, 64 << 20, 60.0)  # at any speed in the same steps
        self.told: dict[int, list[int]] = {}
        """The tokens of each request, by number."""
        self.found: dict[int, int] = {}
        self._answers: dict[int, Any] = {}

    def ask(self, *requests: GenerateRequest) -> list[int]:
        """Take requests in; return their numbers."""
        numbers = []
        for request in requests:
            number = len(self._answers) + 1
            self._answers[number] = self._maker.make(number, request, lambda *piece: None)
            self.turns.add(self._answers[number])
            numbers.append(number)
        return numbers

    def text(self, number: int) -> tuple[int, ...]:
        """The tokens of prompt and answer so far."""
        return tuple(self._answers[number].text)

    def finish(self) -> None:
        """Do all turns."""
        while self.turns.working:
            for report in self.turns.step():
                if isinstance(report, AnswerDone):
                    self.found[report.id] = report.cached_tokens or 0
                else:
                    assert isinstance(report, PromptProgress), report

    def alone(self, request: GenerateRequest) -> tuple[int, ...]:
        """The text of a request that finds nothing, by mlx-lm's generator of one answer."""
        self.turns.cache.clear()
        (number,) = self.ask(replace(request, cache=False, seed=1, temperature=1.0, top_k=1))
        self.finish()
        assert self.found[number] == 0
        return self.text(number)


@pytest.fixture(params=[WINDOW, STATE], ids=["window", "state"])
def noise(request: pytest.FixtureRequest, demo_models: Path) -> Noise:
    mx = pytest.importorskip("mlx.core")
    MlxEngine(Flag()).hello()  # sets mlx up
    utils: Any = importlib.import_module("mlx_lm.utils")
    tokenizer = utils.load_tokenizer(demo_models / "tiny-mlx")
    return Noise(request.param, tokenizer, mx)


def said(question: str, *, length: int = 24) -> GenerateRequest:
    """A request with the system prompt."""
    return GenerateRequest(
        messages=(Message(role="system", content=SYSTEM), Message(role="user", content=question)),
        temperature=0,
        frequency_penalty=2.0,  # else untrained models repeat one word
        max_tokens=length,
    )


def test_they_are_answered_together_as_alone(noise: Noise) -> None:
    asked = [said("x" * 5), said("y" * 50), said("z" * 20, length=40)]
    alone = [noise.alone(request) for request in asked]
    noise.turns.cache.clear()
    numbers = noise.ask(*asked)
    noise.finish()
    assert [noise.text(number) for number in numbers] == alone
    assert all(len(set(text[-24:])) > 4 for text in alone), "noise, not one word"
    # Each after the first one goes on from where the system prompt ends.
    assert noise.found[numbers[0]] == 0
    assert all(noise.found[number] > len(SYSTEM) for number in numbers[1:])


def test_a_conversation_goes_on_from_its_last_turn(noise: Noise) -> None:
    first = said("first", length=8)
    (number,) = noise.ask(first)
    noise.finish()
    text = noise.text(number)
    # The same again: all of the prompt but its last token was saved.
    (again,) = noise.ask(first)
    noise.finish()
    assert noise.text(again) == text
    assert noise.found[again] == len(text) - 8 - 1
    # Another question: as far as the system prompt reaches.
    (other,) = noise.ask(said("other", length=8))
    noise.finish()
    assert len(SYSTEM) < noise.found[other] < noise.found[again]
    other_text = noise.text(other)
    assert noise.alone(said("other", length=8)) == other_text


def test_a_paused_one_reads_again_what_cannot_be_cut(noise: Noise) -> None:
    request = said("pause", length=60)
    alone = noise.alone(request)
    (number,) = noise.ask(request)
    while len(noise.text(number)) < len(alone) - 20:
        noise.turns.step()
    noise.turns.pause(number)
    assert not noise.turns.working
    noise.ask(said("y" * 9))
    noise.finish()
    assert len(noise.text(number)) < len(alone)
    noise.turns.resume(number)
    noise.finish()
    assert noise.text(number) == alone


def test_an_answer_that_repeats_itself_without_end_is_cut_but_not_by_a_grammar(
    noise: Noise,
) -> None:
    maker = AnswerMaker(noise.model, Flag(), stop_loops=True)
    letters = [97, 98, 99]  # "abc"
    free = maker.make(1, said("x", length=1500), lambda *piece: None)
    assert all(free.take(letters[i % 3], None) for i in range(1023))
    assert not free.take(letters[1023 % 3], None)
    assert (free.complete().looped, free.complete().reason) == (True, "length")
    held = replace(said("x", length=1500), grammar='root ::= "abc"+')
    ruled = maker.make(2, held, lambda *piece: None)
    assert all(ruled.take(letters[i % 3], None) for i in range(1200))
    assert not ruled.complete().looped
