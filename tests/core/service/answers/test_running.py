"""Answers go on without their line for a while, and end when nobody comes back."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from modeldeck.core.concurrency import BackgroundTasks
from modeldeck.core.config.config import Config, RuntimeSettings
from modeldeck.core.config.paths import locate
from modeldeck.core.service.answers import running as module
from modeldeck.core.service.answers.running import KeptAnswers, RunningAnswer
from modeldeck.core.service.deck import Deck

END = b"data: called off\n\n"


@pytest.fixture
async def answers() -> AsyncIterator[KeptAnswers]:
    tasks = BackgroundTasks()
    yield KeptAnswers(tasks)
    tasks.cancel()
    await tasks.close()
    assert not tasks.failures


class Maker:
    """Events that are let go one by one."""

    def __init__(self) -> None:
        self.go = asyncio.Semaphore(0)
        self.closed = asyncio.Event()

    async def events(self) -> AsyncGenerator[bytes, None]:
        try:
            for number in range(1, 5):
                await self.go.acquire()
                yield b"data: %d\n\n" % number
        finally:
            self.closed.set()


def made(id: str = "resp_1", owner: str = "me", *, in_background: bool = False) -> RunningAnswer:
    return RunningAnswer(
        id,
        owner,
        model_id="m",
        snapshot=lambda: b"{}",
        called_off=lambda: END,
        in_background=in_background,
    )


async def test_a_client_comes_back_for_the_rest(answers: KeptAnswers) -> None:
    answer, maker = made(), Maker()
    answers.start(answer, maker.events(), b"data: 0\n\n")
    async with aclosing(answer.read(-1)) as events:
        assert await anext(events) == b"data: 0\n\n"
        maker.go.release()
        assert await anext(events) == b"data: 1\n\n"
    for _ in range(3):
        maker.go.release()
    found = answers.running("resp_1", "me")
    assert found is answer
    assert answers.running("resp_1", "") is None
    rest = b"".join([data async for data in answer.read(1)])
    assert rest == b"data: 2\n\ndata: 3\n\ndata: 4\n\n"
    assert answer.ended
    # Once more, since the line may break again at its end.
    assert b"".join([data async for data in answer.read(3)]) == b"data: 4\n\n"


async def test_a_revoked_token_ends_its_answers_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELDECK_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    async with Deck(locate(), Config(runtime=RuntimeSettings(calibrate=False))) as deck:
        token = (await deck.create_token("laptop", (), None, "test")).token
        kept, gone = made(), made("resp_2", owner=token.id, in_background=True)
        for answer in (kept, gone):
            deck.answers.start(answer, Maker().events(), b"")
        await deck.revoke_token("laptop", "test")
        assert b"".join([data async for data in gone.read(-1)]) == END
        assert not kept.ended


async def test_an_answer_that_nobody_reads_is_called_off(
    answers: KeptAnswers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RESUME_S", 0.01)
    answer, maker = made(), Maker()
    answers.start(answer, maker.events(), b"data: 0\n\n")
    async with aclosing(answer.read(-1)) as events:
        await anext(events)
        maker.go.release()
        await anext(events)  # read, it goes on for any time
    await maker.closed.wait()
    assert b"".join([data async for data in answer.read(1)]) == END


async def test_asking_again_ends_an_answer_that_nobody_reads(answers: KeptAnswers) -> None:
    answer, maker = made(), Maker()
    answers.start(answer, maker.events(), b"data: 0\n\n")
    answers.cancel_abandoned("me", "m")  # its first reader is on the way
    async with aclosing(answer.read(-1)) as events:
        await anext(events)
        answers.cancel_abandoned("me", "m")
        maker.go.release()
        assert await anext(events) == b"data: 1\n\n"
    answers.cancel_abandoned("other", "m")
    answers.cancel_abandoned("me", "other")
    await asyncio.sleep(0)
    assert not answer.ended
    answers.cancel_abandoned("me", "m")
    await maker.closed.wait()
    assert b"".join([data async for data in answer.read(1)]) == END


async def test_one_that_is_never_read_ends_as_well(
    answers: KeptAnswers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RESUME_S", 0.01)
    maker = Maker()
    answers.start(made(), maker.events(), b"")
    await maker.closed.wait()


async def test_stopping_ends_it_with_its_last_event(answers: KeptAnswers) -> None:
    answer, maker = made(), Maker()
    answers.start(answer, maker.events(), b"data: 0\n\n")
    await answer.stop()  # before its first step
    assert b"".join([data async for data in answer.read(0)]) == END
    second = made("resp_2")
    answers.start(second, maker.events(), b"")
    async with aclosing(second.read(-1)) as events:
        maker.go.release()
        await anext(events)
        await answers.drop(second)
        assert await anext(events) == END
    assert answers.running("resp_2", "me") is None
    await second.stop()  # again: harmless


async def test_events_of_ended_answers_are_bounded(
    answers: KeptAnswers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_LOG_BYTES", 2500)

    async def long() -> AsyncGenerator[bytes, None]:
        yield b"x" * 998 + b"\n\n"

    for number in range(4):
        answer = made(str(number))
        answers.start(answer, long(), b"")
        assert [data async for data in answer.read(-1)]
    kept = [answers.running(str(number), "me") is not None for number in range(4)]
    assert kept == [False, False, True, True]
    monkeypatch.setattr(module, "LOG_KEPT_S", 0.0)
    assert answers.running("3", "me") is None


async def test_an_ended_answer_keeps_its_events_only(answers: KeptAnswers) -> None:
    class Conversation:
        def told(self) -> bytes:
            return b"{}"

    asked = Conversation()
    gone = weakref.ref(asked)
    answer = RunningAnswer("resp_1", "me", model_id="m", snapshot=asked.told, called_off=asked.told)
    del asked
    maker = Maker()
    answers.start(answer, maker.events(), b"data: 0\n\n")
    assert gone() is not None
    await answer.stop()
    gc.collect()
    assert gone() is None
    assert answers.running("resp_1", "me") is answer
