from __future__ import annotations

from dataclasses import replace

from modeldeck.core.schema import Chunk, Download
from modeldeck.core.service.counters import Counters

JOB = Download(id="1", model_id="m", unique="a/b:Q", repo="a/b", revision="main", state="queued")


def test_bytes_count_from_where_a_job_was_found() -> None:
    counters = Counters()
    for received in (100, 150, 150, 400):
        counters.download(replace(JOB, state="downloading", received_bytes=received))
    assert counters.received_bytes == 300
    counters.download(replace(JOB, state="downloading", received_bytes=50))
    counters.download(replace(JOB, state="completed", received_bytes=450))
    counters.download(replace(JOB, state="completed", received_bytes=450))
    assert counters.received_bytes == 700
    assert counters.downloads == {"completed": 1}


def test_jobs_that_ended_before_do_not_count() -> None:
    counters = Counters()
    counters.download(replace(JOB, state="failed", received_bytes=10))
    assert counters.received_bytes == 0
    assert not counters.downloads


def test_answers_count_with_the_tokens_of_their_last_piece() -> None:
    counters = Counters()
    counters.answer(
        "stop",
        Chunk(finish_reason="stop", prompt_tokens=7, cached_tokens=5, completion_tokens=3),
    )
    counters.answer("stop", Chunk(finish_reason="stop", prompt_tokens=1))
    counters.answer("abandoned", None)
    assert (counters.prompt_tokens, counters.cached_tokens) == (8, 5)
    assert counters.completion_tokens == 3
    assert counters.answers == {"stop": 2, "abandoned": 1}
