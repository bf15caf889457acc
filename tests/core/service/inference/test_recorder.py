"""What is recorded of requests stays within its bytes, and is dropped at the end."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from modeldeck.core.schema import (
    Chunk,
    GenerateRequest,
    Host,
    Media,
    Message,
    Model,
    ToolCall,
)
from modeldeck.core.schema.state import State
from modeldeck.core.service.feed import Feed
from modeldeck.core.service.inference import recorder
from modeldeck.core.service.inference.recorder import RequestRecorder

ONE, OTHER = (
    Model(id=key, unique=f"o/{key}", name=key, format="gguf", source="builtin")
    for key in ("one", "other")
)
ASKED = GenerateRequest(prompt="Why?")


@pytest.fixture
async def records() -> AsyncIterator[RequestRecorder]:
    feed = Feed(State(host=Host(name="box", version="1", started_at="2026-01-01T00:00:00Z")))
    made = RequestRecorder(feed)
    yield made
    made.close()


async def test_only_what_was_asked_for_is_recorded(records: RequestRecorder) -> None:
    records.begin("early", ONE, ASKED)
    records.start(60, ["one"], "me")
    records.begin("a", ONE, ASKED)
    records.begin("b", OTHER, ASKED)
    for key in ("early", "a", "b"):
        records.add(key, Chunk(thought="Hm."))
        records.add(key, Chunk(text="So."))
    assert records.text("early") is None
    assert records.text("b") is None
    text = records.text("a")
    assert text is not None
    assert (text.prompt, text.thought, text.answer) == ("Why?", "Hm.", "So.")
    records.stop()
    assert records.text("a") is None
    records.add("a", Chunk(text="late"))
    assert records.text("a") is None


async def test_the_oldest_goes_where_there_is_too_much(
    records: RequestRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "MOST_BYTES", 20_000)
    records.start(60, [], "me")
    for key in "abc":
        records.begin(key, ONE, ASKED)
        records.add(key, Chunk(text="x" * 1500))
    assert [bool(records.text(key)) for key in "abc"] == [False, True, True]
    records.begin("d", ONE, GenerateRequest(prompt="y" * 100_000))
    assert not any(map(records.text, "abcd")), "one that is too large alone is not kept either"


async def test_files_are_not_kept_and_calls_of_tools_are_counted(
    records: RequestRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hundred requests with 64 MiB of images each are no more than their texts."""
    monkeypatch.setattr(recorder, "MOST_BYTES", 20_000)
    records.start(60, [], "me")
    image = Media(kind="image", data=b"x" * 100_000, at=0, place="input[0]")
    seen = Message(role="user", content="What is it?", media=(image,))
    records.begin("image", ONE, GenerateRequest(messages=(seen,)))
    text = records.text("image")
    assert text is not None
    assert [(media.place, media.data) for media in text.messages[0].media] == [("input[0]", b"")]
    called = Message(
        role="assistant", tool_calls=(ToolCall(id="1", name="put", arguments="y" * 100_000),)
    )
    records.begin("call", ONE, GenerateRequest(messages=(called,)))
    assert records.text("call") is None
