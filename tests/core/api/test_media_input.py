"""Images and recordings of a request: read within bounds, or refused by their place."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import pytest

from modeldeck.core.api import media_input
from modeldeck.core.api.media_input import NOTE, decode, with_media
from modeldeck.core.api.message_content import MessageContent, UnreadMedia, joined, media_content
from modeldeck.core.errors import (
    Forbidden,
    ImageNotSupported,
    InvalidRequest,
    NotDownloaded,
    ServerUnavailable,
)
from modeldeck.core.formats.media_files import LARGEST_BYTES
from modeldeck.core.schema import GenerateRequest, Media, Message, Model, Requester
from modeldeck.core.schema.media_support import check

PNG = b"\x89PNG\r\n\x1a\n and more"
WAV = b"RIFF\x04\0\0\0WAVE"
SEEING = Model(
    id="1", unique="a/eyes", name="eyes", format="gguf", source="hub", downloaded=True,
    capabilities=("vision", "audio"),
)  # fmt: skip
REMOTE = replace(SEEING, id="3", downloaded=False)
ASKER = Requester(who="a client")
BLIND = Model(id="2", unique="a/b", name="b", format="gguf", source="hub", downloaded=True)


@dataclass
class FakeDeck:
    """What reading media asks of a deck."""

    fetch_images: bool = True
    files: dict[str, bytes | Exception | None] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    now: Model | None = None
    """What the model is by now, where that is another."""

    @property
    def config(self) -> Any:
        return SimpleNamespace(api=SimpleNamespace(fetch_images=self.fetch_images))

    @property
    def instances(self) -> Any:
        return SimpleNamespace(of=lambda model_id: None)

    @property
    def inference(self) -> FakeDeck:
        return self

    @property
    def models(self) -> FakeDeck:
        return self

    def find(self, ref: str) -> Model:
        return self.now or next(model for model in (SEEING, BLIND, REMOTE) if model.id == ref)

    def check_answers(self, model: Model) -> None:
        if not model.downloaded:
            raise NotDownloaded(f"{model.name} is not downloaded.", "Download it.")

    def check_media(self, model: Model, request: GenerateRequest) -> None:
        check(request, model, None, (SEEING, BLIND))

    async def fetch_media(self, url: str, most_bytes: int, requester: Requester) -> bytes | None:
        assert requester == ASKER
        self.asked.append(url)
        self.begun.set()
        if url not in self.files:
            try:
                await asyncio.Event().wait()
            finally:
                self.cancelled.append(url)
        found = self.files[url]
        if isinstance(found, Exception):
            raise found
        return found


def url(data: bytes = PNG, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def asked(*sources: str, role: Any = "user") -> GenerateRequest:
    parts = [MessageContent(text="a")]
    for number, source in enumerate(sources):
        parts += [media_content("image", source, f"input[{number}]"), MessageContent(text="b")]
    content = joined(parts)
    return GenerateRequest(
        messages=(Message(role=role, content=content.text, media=content.media),)
    )


async def read(deck: FakeDeck, request: GenerateRequest, model: Model = SEEING) -> Message:
    made: Any = deck
    return (await with_media(made, model, request, ASKER)).messages[0]


@pytest.mark.parametrize(
    "source",
    [
        url(),
        url(kind=""),
        url(kind="text/plain"),  # what is in it decides
        url().replace("data:image/png;base64", "DATA:image/PNG;charset=x;BASE64"),
        url(PNG + bytes(99)).replace("AAAA", "AAAA\r\n"),
    ],
)
def test_data_urls_are_decoded(source: str) -> None:
    media = UnreadMedia(kind="image", source=source)
    assert decode(media).startswith(PNG)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("", "has no data"),
        ("AAAA", "is no URL"),
        ("picture.png", "is no URL"),
        ("file:///etc/passwd", "scheme 'file'"),
        ("FTP://x/y.png", "scheme 'FTP'"),
        ("data:image/svg+xml,<svg/>", "not in base64"),
        ("data:image/png;base64", "or empty"),
        ("data:image/png;base64,AAA", "not in base64"),
        ("data:image/png;base64,A A=", "not in base64"),
        ("data:image/png;base64,AA==AA==", "not in base64"),
        ("data:image/png;base64,AA-_", "not in base64"),
        ("data:image/png;base64,AAé=", "not in base64"),
        ("data:image/png;base64," + "A" * (media_input.STEP - 2) + "==AAAA", "not in base64"),
        (url(b""), "There is no file of an image"),
        (url(b"<svg/>"), "There is no file of an image"),
        (url(WAV), "It is audio/wav"),
    ],
)
async def test_what_is_no_image_is_refused_by_its_place(source: str, words: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await read(FakeDeck(), asked(url(), source))
    assert words in refused.value.message
    assert "`$.input[1]`" in refused.value.message
    assert refused.value.remedy


async def test_the_bytes_stand_where_the_image_stood(monkeypatch: pytest.MonkeyPatch) -> None:
    for at_once in (media_input.AT_ONCE_BYTES, 0):  # on the loop, and in a thread
        monkeypatch.setattr(media_input, "AT_ONCE_BYTES", at_once)
        message = await read(FakeDeck(), asked(url(), url(PNG * 2)))
        assert message.content == "abb"
        assert message.media == (
            Media(kind="image", data=PNG, at=1, place="input[0]"),
            Media(kind="image", data=PNG * 2, at=2, place="input[1]"),
        )


async def test_size_and_number_have_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    large = PNG + bytes(LARGEST_BYTES)
    for source in (url(large), url(large[: LARGEST_BYTES + 1])):
        with pytest.raises(InvalidRequest, match=r"more than 20 MiB \(at `\$\.input\[0\]`\)"):
            await read(FakeDeck(), asked(source))
    fits = await read(FakeDeck(), asked(url(large[:LARGEST_BYTES])))
    assert len(fits.media[0].data) == LARGEST_BYTES
    monkeypatch.setattr(media_input, "MEDIA_BYTES", 3 * len(PNG))
    await read(FakeDeck(), asked(*[url()] * 3))
    with pytest.raises(InvalidRequest, match="0 are the most"):
        await read(FakeDeck(), asked(*[url()] * 4))
    monkeypatch.setattr(media_input, "MEDIA", 3)
    with pytest.raises(InvalidRequest, match="There are 4 images and recordings; 3 are"):
        await read(FakeDeck(), asked(*[url()] * 4))


async def test_a_model_that_cannot_see_is_told_before_anything_is_read() -> None:
    deck = FakeDeck()
    with pytest.raises(ImageNotSupported, match=r"`\$\.input\[0\]`"):
        await read(deck, asked("https://x.example/a.png"), BLIND)
    assert deck.asked == []


async def test_a_model_that_is_not_here_is_refused_before_anything_is_fetched() -> None:
    deck = FakeDeck(files={"https://x.example/a.png": PNG})
    with pytest.raises(NotDownloaded):
        await read(deck, asked("https://x.example/a.png"), REMOTE)
    assert deck.asked == []


@pytest.mark.parametrize(
    ("now", "error"), [(REMOTE, NotDownloaded), (BLIND, ImageNotSupported)], ids=["gone", "blind"]
)
async def test_a_model_is_checked_again_after_its_images_were_fetched(
    now: Model, error: type[Exception]
) -> None:
    deck = FakeDeck(files={A: PNG}, now=now)
    with pytest.raises(error):
        await read(deck, asked(A))
    assert deck.asked == [A]


async def test_a_tool_s_image_becomes_a_note_for_a_model_that_cannot_see() -> None:
    message = await read(FakeDeck(), asked("nonsense", url(), role="tool"), BLIND)
    assert (message.content, message.media) == (f"a{NOTE['image']}b{NOTE['image']}b", ())
    seen = await read(FakeDeck(), asked(url(), role="tool"))
    assert (seen.content, seen.media[0].data) == ("ab", PNG)


# URLs

A, B = "https://x.example/a.png", "HTTP://x.example/b.png"


async def test_urls_are_fetched_once_each_and_only_where_that_is_allowed() -> None:
    deck = FakeDeck(files={A: PNG, B: PNG * 2})
    message = await read(deck, asked(A, url(), B, A))
    assert [media.data for media in message.media] == [PNG, PNG, PNG * 2, PNG]
    assert sorted(deck.asked) == sorted([A, B])
    with pytest.raises(InvalidRequest, match=r"not fetched.*input\[1\]") as refused:
        await read(FakeDeck(fetch_images=False), asked(url(), A))
    assert "api.fetch_images" in refused.value.remedy
    assert "data:" in refused.value.remedy


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (Forbidden("x is inside.", "Add it to trusted_hosts."), "x is inside. Add it to trusted"),
        (ServerUnavailable("Lost.", "Try."), "Lost. Send the image itself."),
        (None, "more than 20 MiB"),
        (b"<html>", "There is no file of an image"),
    ],
)
async def test_a_fetch_that_fails_is_a_bad_request_and_ends_the_others(
    found: Any, words: str
) -> None:
    deck = FakeDeck(files={A: found} if found != b"<html>" else {A: found, B: PNG})
    with pytest.raises(InvalidRequest) as refused:
        await read(deck, asked(B, A))
    assert words in str(refused.value)
    assert "`$.input[1]`" in refused.value.message
    assert deck.cancelled == ([] if B in deck.files else [B])


async def test_no_more_is_fetched_than_a_request_may_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media_input, "MEDIA_BYTES", len(PNG))
    never = "https://x.example/c.png"
    deck = FakeDeck(files={A: PNG, B: PNG})
    with pytest.raises(InvalidRequest, match="are the most"):
        await read(deck, asked(A, B, never))
    assert deck.cancelled == [never]


async def test_a_client_that_leaves_ends_the_fetch() -> None:
    deck = FakeDeck()
    task = asyncio.create_task(read(deck, asked(A)))
    await deck.begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert deck.cancelled == [A]
