"""Texts are ranked by a real reranker, in the forms of Jina, Cohere and TEI."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from modeldeck.core.api.http.messages import convert
from modeldeck.core.api.rerank.routes import RerankBody, answer, tei_answer
from modeldeck.core.errors import InvalidRequest
from modeldeck.core.schema import TextScore
from tests.support.process import CoreProcess

RANK = "deck/rerank-GGUF:F16"
TINY = "deck/tiny-GGUF:Q8_0"
TEXTS = ["Bread is baked.", "I count the sheep.", "Will it rain, and rain again?"]
ASK: dict[str, Any] = {"model": RANK, "query": "How do I count?", "documents": TEXTS}


@pytest.fixture(scope="module")
def client(shared_core: CoreProcess) -> Iterator[httpx.Client]:
    """A client of a core that has the reranker and a model that answers."""
    with httpx.Client(base_url=shared_core.url, timeout=60) as client:
        for name in (RANK, TINY):
            done = client.post("/api/pull", json={"model": name, "stream": False})
            assert done.json() == {"status": "success"}
        yield client


def test_texts_of_the_query_s_topic_come_first(client: httpx.Client) -> None:
    for path in ("/v1/rerank", "/v2/rerank", "/rerank"):
        found = client.post(path, json={**ASK, "return_documents": True}).json()
        results = found["results"]
        assert [each["index"] for each in results] == [1, 2, 0]
        assert results[0]["document"] == {"text": TEXTS[1]}
        scores = [each["relevance_score"] for each in results]
        assert scores[0] > 0.9
        assert all(0 <= score < 0.2 for score in scores[1:])
        assert found["usage"]["prompt_tokens"] == found["usage"]["total_tokens"] > 0
        assert found["meta"]["api_version"]["version"] == "2"
        assert (found["object"], found["model"]) == ("list", RANK)
    objects = [{"text": text} for text in TEXTS]
    same = client.post("/v1/rerank", json={**ASK, "documents": objects, "top_n": 1}).json()
    assert same["results"] == [{"index": 1, "relevance_score": scores[0]}]


def test_tei_s_form_has_no_model_and_a_bare_list(client: httpx.Client) -> None:
    asked = {"query": ASK["query"], "texts": TEXTS, "raw_scores": False, "return_text": True}
    found = client.post("/rerank", json=asked).json()
    assert [each["index"] for each in found] == [1, 2, 0]
    assert found[0]["text"] == TEXTS[1]


def test_what_is_not_possible_is_told(client: httpx.Client) -> None:
    for fields, words in (
        ({"documents": []}, "1 to 1000"),
        ({"documents": None}, "1 to 1000"),
        ({"documents": [1]}, "documents"),
        ({"query": None}, "query"),
        ({"top_n": 0}, "top_n"),
        ({"model": TINY}, "does not rank"),
        ({"documents": ["count " * 5000]}, "tokens"),
        ({"model": "none"}, "none"),
    ):
        refused = client.post("/v1/rerank", json={**ASK, **fields})
        assert refused.status_code in (400, 404), fields
        assert words in refused.json()["error"]["message"]
    vectors = client.post("/v1/embeddings", json={"model": RANK, "input": "x"})
    assert (vectors.status_code, "ranks texts" in vectors.text) == (400, True)
    chat = {"model": RANK, "messages": [{"role": "user", "content": "x"}]}
    assert client.post("/v1/chat/completions", json=chat).status_code == 400


def test_raw_scores_are_those_of_the_model() -> None:
    scores = [TextScore(score=-2.0, probability=0.1, tokens=3), TextScore(
        score=8.0, probability=0.9, tokens=4
    )]  # fmt: skip
    body = convert({"query": "q", "texts": ["a", "b"], "raw_scores": True}, RerankBody, "The body")
    assert [(each.index, each.score) for each in tei_answer(body, ["a", "b"], scores)] == [
        (1, 8.0),
        (0, -2.0),
    ]
    made = answer(body, ["a", "b"], scores, "m")
    assert [each.relevance_score for each in made.results] == [0.9, 0.1]
    assert made.usage.total_tokens == 7
    with pytest.raises(InvalidRequest):
        convert({"query": "q"}, RerankBody, "The body").to_rank()
