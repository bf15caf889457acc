from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
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


@asynccontextmanager
async def answering(*chunks: Chunk) -> AsyncIterator[AsyncIterator[Chunk]]:
    async def pieces() -> AsyncIterator[Chunk]:
        for chunk in chunks:
            yield chunk

    yield pieces()


async def test_tokens_count_when_an_answer_ends() -> None:
    counters = Counters()
    last = Chunk(finish_reason="stop", prompt_tokens=7, completion_tokens=3)
    async with counters.answer(answering(Chunk(text="a"), last)) as chunks:
        assert [chunk async for chunk in chunks] == [Chunk(text="a"), last]
    assert (counters.prompt_tokens, counters.completion_tokens) == (7, 3)
    assert counters.answers == {"stop": 1}


async def test_an_answer_that_is_left_counts_as_such() -> None:
    counters = Counters()
    async with counters.answer(answering(Chunk(text="a"), Chunk(text="b"))) as chunks:
        assert (await anext(aiter(chunks))).text == "a"
    assert counters.answers == {"abandoned": 1}
