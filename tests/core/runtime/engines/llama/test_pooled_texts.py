"""Texts to embed and to rank, several at once, with the real llama.cpp."""

from __future__ import annotations

import doctest
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from modeldeck.core.demo.model_writer import write_gguf
from modeldeck.core.demo.reranker import write_reranker
from modeldeck.core.errors import Cancelled, InvalidRequest
from modeldeck.core.runtime import request_limits
from modeldeck.core.runtime.engines.llama import pooled_texts
from modeldeck.core.runtime.engines.llama.loader import TEXTS_AT_ONCE
from modeldeck.core.runtime.process.messages import (
    EmbedTexts,
    EngineReport,
    RankTexts,
    TextsEmbedded,
    TextsRanked,
)
from modeldeck.core.schema import LoadOptions, TextVector
from tests.support.engine_turns import EngineTurns

TEXTS = [
    *("count one", "zzz", "a", "count " * 30, "the last of all of these"),
    *(f"number {n} of many" * (1 + n % 3) for n in range(25)),
]


@pytest.fixture
def engines() -> Iterator[list[EngineTurns]]:
    found: list[EngineTurns] = []
    yield found
    for engine in found:
        engine.close()


def run(engine: EngineTurns) -> tuple[dict[int, EngineReport], int]:
    """Do turns until nothing is in work; the last report of each request, and how many turns."""
    found: dict[int, EngineReport] = {}
    turns = 0
    while engine.engine.working:
        turns += 1
        found |= {report.id: report for report in engine.engine.step()}
    return found, turns


def embedded(engine: EngineTurns, texts: Sequence[str]) -> tuple[TextVector, ...]:
    engine.engine.begin_texts(1, EmbedTexts(id=1, texts=tuple(texts)))
    report = run(engine)[0][1]
    assert isinstance(report, TextsEmbedded), report
    return report.vectors


@pytest.mark.parametrize("pooling", [1, 3])  # the mean of all tokens, and the last one
def test_texts_at_once_have_the_vectors_that_they_have_alone(
    tmp_path: Path, engines: list[EngineTurns], pooling: int
) -> None:
    (path,) = write_gguf(tmp_path / "m.gguf", pooling=pooling, chat_template=None)
    engine = EngineTurns(path, LoadOptions(context_length=1024))
    engines.append(engine)
    assert engine.loaded.parallel == TEXTS_AT_ONCE
    alone = [embedded(engine, [text])[0] for text in TEXTS]
    together = embedded(engine, TEXTS)
    assert [vector.tokens for vector in together] == [vector.tokens for vector in alone]
    for one, other in zip(together, alone, strict=True):
        assert one.values == pytest.approx(other.values, abs=2e-3)
        assert sum(value * value for value in one.values) == pytest.approx(1)


def test_texts_of_several_requests_share_an_evaluation_and_one_fails_alone(
    demo_models: Path, engines: list[EngineTurns]
) -> None:
    path = demo_models / "tiny-embed-GGUF" / "tiny-embed-F16.gguf"
    engine = EngineTurns(path, LoadOptions(context_length=256))
    engines.append(engine)
    for number, texts in ((1, ["a b"] * 6), (2, ["c"]), (3, ["d", "e"]), (4, ["gone"])):
        engine.engine.begin_texts(number, EmbedTexts(id=number, texts=tuple(texts)))
    with pytest.raises(InvalidRequest, match="1 to 256 tokens"):
        engine.engine.begin_texts(5, EmbedTexts(id=5, texts=("f", "too long " * 200)))
    engine.engine.begin_texts(6, EmbedTexts(id=6, texts=("cut off " * 200,), truncate=True))
    engine.engine.cancel(4)
    found, turns = run(engine)
    assert turns == 2, "the long text has an evaluation of its own"
    counts = {n: len(r.vectors) for n, r in found.items() if isinstance(r, TextsEmbedded)}
    assert counts == {1: 6, 2: 1, 3: 2, 6: 1}


def test_reading_texts_is_cancelled(demo_models: Path, engines: list[EngineTurns]) -> None:
    path = demo_models / "tiny-embed-GGUF" / "tiny-embed-F16.gguf"
    engine = EngineTurns(path, LoadOptions(embedding=True, threads=1))
    engines.append(engine)
    engine.engine.begin_texts(1, EmbedTexts(id=1, texts=("a b c",)))
    engine.flag.set()
    with pytest.raises(Cancelled):
        engine.engine.step()
    engine.flag.clear()
    engine.engine.cancel(1)
    assert not engine.engine.working
    assert len(embedded(engine, ["a b c"])) == 1


def test_scores_of_several_texts_are_those_that_each_has_alone(
    tmp_path: Path, engines: list[EngineTurns]
) -> None:
    path = tmp_path / "reranker.gguf"
    write_reranker(path)
    engine = EngineTurns(path)
    engines.append(engine)

    def scores(*texts: str) -> list[float]:
        engine.engine.begin_texts(1, RankTexts(id=1, query="count", texts=texts))
        report = run(engine)[0][1]
        assert isinstance(report, TextsRanked), report
        return [score.score for score in report.scores]

    texts = ("count", "zzz", "count to ten", *["other"] * 20)
    alone = [scores(text)[0] for text in texts]
    assert scores(*texts) == pytest.approx(alone, abs=2e-3)
    assert len(set(alone)) > 1
    with pytest.raises(InvalidRequest, match="makes no vectors"):
        engine.engine.begin_texts(2, EmbedTexts(id=2, texts=("x",)))


def test_the_examples_hold() -> None:
    for module in (pooled_texts, request_limits):
        result = doctest.testmod(module)
        assert result.attempted
        assert not result.failed
