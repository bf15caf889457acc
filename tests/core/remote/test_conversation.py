from __future__ import annotations

import asyncio
import json

import pytest

from modeldeck.core.errors import Conflict, CoreUnreachable, NotFound
from modeldeck.core.remote.ssh_conversation import NOISE_BYTES, UNANSWERED, Conversation
from modeldeck.core.remote.ssh_process import Text

HELLO = '{"modeldeck": {"socket": "/core.sock", "version": "1"}}'


def greeted() -> Conversation:
    conversation = Conversation("gpu1")
    conversation.heard(Text(HELLO))
    return conversation


async def test_the_greeting_is_found_behind_what_a_shell_says() -> None:
    conversation = Conversation("gpu1")
    for line in ("Welcome!", "{not json", '{"modeldeck": 1}', "[" * 5000, HELLO):
        conversation.heard(Text(line))
    assert (await conversation.greeting).socket == "/core.sock"


async def test_an_error_instead_of_a_greeting_is_raised_with_its_class() -> None:
    conversation = Conversation("gpu1")
    conversation.heard(Text('{"error": {"code": "conflict", "message": "No socket."}}'))
    with pytest.raises(Conflict, match="No socket"):
        await conversation.greeting


async def test_the_answer_to_a_question_that_was_cancelled_goes_to_nobody_else() -> None:
    conversation = greeted()
    first, second, third = conversation.asked(), conversation.asked(), conversation.asked()
    first.cancel()
    for answer in (1, "noise", 2):
        conversation.heard(Text(json.dumps({"answer": answer}) if answer != "noise" else "noise"))
    conversation.heard(Text('{"error": {"code": "not_found", "message": "Gone."}}'))
    assert await second == 2
    with pytest.raises(NotFound):
        await third


@pytest.mark.parametrize("answer", ['{"error": 1}', '{"error": {"code": 7}}'])
async def test_an_answer_that_makes_no_sense_is_an_error_in_words(answer: str) -> None:
    conversation = greeted()
    waiting = conversation.asked()
    conversation.heard(Text(answer))
    with pytest.raises(CoreUnreachable, match="nonsense"):
        await waiting


@pytest.mark.parametrize(
    "line", [Text("x" * 60_000, whole=False), Text("x" * 100), Text('{"answer": 1}')]
)
async def test_a_machine_that_writes_on_and_on_is_not_listened_to(line: Text) -> None:
    conversation = greeted()
    written = 0
    while not conversation.overrun.done():
        conversation.heard(line)
        written += len(line.text)
        assert written < 2 * NOISE_BYTES
    conversation.heard(line)


async def test_too_much_before_the_greeting_is_told() -> None:
    conversation = Conversation("gpu1")
    for _ in range(NOISE_BYTES // 60_000 + 1):
        conversation.heard(Text("x" * 60_000, whole=False))
    with pytest.raises(CoreUnreachable, match="gpu1 writes on and on"):
        await conversation.greeting


async def test_what_waits_at_the_end_fails_and_only_so_much_may_wait() -> None:
    conversation = greeted()
    waiting = [conversation.asked() for _ in range(UNANSWERED)]
    with pytest.raises(CoreUnreachable, match="stopped answering"):
        conversation.asked()
    conversation.close(CoreUnreachable("The line is down."))
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert {str(result) for result in results} == {"The line is down."}
