"""Reads the images and recordings of a request: base64 is decoded, URLs are fetched.

Converters leave them as `UnreadMedia`; what comes out has the bytes of each file, still undecoded
(the engine's process decodes images, within its bounds). The model is checked first, so that
nothing is read for one that cannot see.
"""

from __future__ import annotations

import asyncio
import binascii
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from modeldeck.core.api.message_content import UnreadMedia
from modeldeck.core.concurrency import in_thread
from modeldeck.core.errors import DeckError, Forbidden, InvalidRequest
from modeldeck.core.formats.media_files import FORMATS, LARGEST_BYTES, media_type
from modeldeck.core.runtime.request_limits import MEDIA, MEDIA_BYTES
from modeldeck.core.schema import (
    GenerateRequest,
    Media,
    MediaKind,
    Message,
    Model,
    Requester,
)
from modeldeck.core.schema.media_support import taken

if TYPE_CHECKING:
    from modeldeck.core.service.deck import Deck

AT_ONCE_BYTES = 256 << 10
"""Base64 of up to this length is decoded on the loop: that takes less than a millisecond."""
STEP = 1 << 20
"""Characters that are decoded at a time, a multiple of 4: between two, other threads may run."""

NOTE = {
    "image": "[An image that this model cannot see]",
    "audio": "[A recording that this model cannot hear]",
}
"""What stands for media in the output of a tool, which may give some unasked."""

_SENT_AS = {
    "image": "Send it as data:image/png;base64,... or, where api.fetch_images is on, as a URL.",
    "audio": "Send it in base64.",
}


async def with_media(
    deck: Deck, model: Model, asked: GenerateRequest, requester: Requester
) -> GenerateRequest:
    """The request with the bytes of its images and recordings.

    In the output of a tool a note stands for what the model cannot take. Raises InvalidRequest
    naming the place of what is too large, too many or no such file, and of a URL that cannot be
    fetched; ImageNotSupported and AudioNotSupported; and for a model that cannot be asked at all
    NotDownloaded, EngineMissing and Conflict.
    """
    if not any(message.media for message in asked.messages):
        return asked
    deck.inference.check_answers(model)
    can = taken(model, deck.instances.of(model.id))
    asked = replace(asked, messages=tuple(_noted(m, can) for m in asked.messages))
    deck.inference.check_media(model, asked)
    unread = [m for m in _media_of(asked.messages) if isinstance(m, UnreadMedia)]
    if len(unread) > MEDIA:
        raise InvalidRequest(
            f"There are {len(unread)} images and recordings; {MEDIA} are the most.",
            "Leave the oldest out.",
        )
    inline = [media for media in unread if not _is_remote(media)]
    remote = [media for media in unread if _is_remote(media)]
    files = [*await _decoded(inline), *await _fetched(deck, remote, requester)]
    _check_files([*inline, *remote], files)
    model = deck.models.find(model.id)  # it may have been deleted or loaded meanwhile
    deck.inference.check_answers(model)
    deck.inference.check_media(model, asked)
    read = {id(media): data for media, data in zip((*inline, *remote), files, strict=True)}
    return replace(asked, messages=tuple(_filled(m, read) for m in asked.messages))


def _media_of(messages: Sequence[Message]) -> Iterator[Media]:
    return (media for message in messages for media in message.media)


def _noted(message: Message, can: frozenset[MediaKind]) -> Message:
    """A tool's output with notes in place of what the model cannot take."""
    if message.role != "tool" or all(media.kind in can for media in message.media):
        return message
    texts: list[str] = []
    kept: list[Media] = []
    at = added = 0
    for media in message.media:
        texts.append(message.content[at : media.at])
        at = media.at
        if media.kind in can:
            kept.append(replace(media, at=media.at + added))
        else:
            texts.append(NOTE[media.kind])
            added += len(NOTE[media.kind])
    return replace(message, content="".join((*texts, message.content[at:])), media=tuple(kept))


def _filled(message: Message, read: Mapping[int, bytes]) -> Message:
    """The message with the bytes of its media."""
    if not message.media:
        return message
    media = (
        Media(kind=each.kind, data=read[id(each)], at=each.at, place=each.place)
        if id(each) in read
        else each
        for each in message.media
    )
    return replace(message, media=tuple(media))


def _check_files(unread: Sequence[UnreadMedia], files: Sequence[bytes]) -> None:
    """Raise InvalidRequest for files of another kind, and for too much of them."""
    for each, data in zip(unread, files, strict=True):
        found = media_type(data)
        if found is None or not found.startswith(each.kind):
            what = "an image" if each.kind == "image" else "a recording"
            kind = f"It is {found}" if found else "It is of another kind, or empty"
            raise InvalidRequest(
                f"There is no file of {what} that can be read (at `$.{each.place}`). {kind}.",
                f"{FORMATS[each.kind]} can be read.",
            )
    _check_total(sum(map(len, files)))


def _check_total(size: int) -> None:
    """Raise InvalidRequest for files that have too many bytes together."""
    if size > MEDIA_BYTES:
        raise InvalidRequest(
            f"The images and recordings have {size >> 20} MiB; {MEDIA_BYTES >> 20} are the most.",
            "Send fewer or smaller ones.",
        )


# Base64


async def _decoded(unread: Sequence[UnreadMedia]) -> list[bytes]:
    """The files that are in the request itself. Raises InvalidRequest."""
    for each in unread:
        if len(each.source) * 3 // 4 > LARGEST_BYTES + AT_ONCE_BYTES:
            raise _too_large(each)

    def work() -> list[bytes]:
        return [decode(each) for each in unread]

    if sum(len(each.source) for each in unread) <= AT_ONCE_BYTES:
        return work()
    return await in_thread(work)


def decode(media: UnreadMedia) -> bytes:
    """The bytes of an image or a recording in a data: URL, or in base64. Raises InvalidRequest.

    Lines may be broken, as `base64 FILE` breaks them; else the base64 is strict (RFC 4648, 3).
    """
    text = media.source
    if text[:5].lower() == "data:":
        head, _, text = text.partition(",")
        if not head.lower().endswith(";base64"):
            raise _wrong(media, "is a data: URL that is not in base64")
    elif not media.is_base64:
        raise _wrong(media, _fault(text))
    try:
        data = _from_base64(text.encode("ascii"))
    except (UnicodeEncodeError, binascii.Error):
        raise _wrong(media, "is not in base64, or has a URL where base64 belongs") from None
    if len(data) > LARGEST_BYTES:
        raise _too_large(media)
    return data


def _from_base64(text: bytes) -> bytes:
    """The bytes, step by step. Raises binascii.Error."""
    if b"\n" in text:
        text = text.translate(None, b"\r\n")
    pieces = []
    for at in range(0, len(text), STEP):
        piece = binascii.a2b_base64(text[at : at + STEP], strict_mode=True)
        if at + STEP < len(text) and len(piece) != STEP // 4 * 3:
            raise binascii.Error("padding in the middle")
        pieces.append(piece)
    return b"".join(pieces)


def _fault(source: str) -> str:
    scheme, colon, _ = source[:40].partition(":")
    if not source:
        return "has no data: nothing is uploaded here"
    if colon and scheme.isascii() and scheme.replace("+", "").isalnum():
        return f"is a URL of scheme {scheme[:20]!r}, which is not read"
    return "is no URL"


# URLs


def _is_remote(media: UnreadMedia) -> bool:
    return media.source[:8].lower().startswith(("http://", "https://"))


async def _fetched(deck: Deck, unread: Sequence[UnreadMedia], requester: Requester) -> list[bytes]:
    """The files at URLs, each fetched once. Raises InvalidRequest."""
    if not unread:
        return []
    if not deck.config.api.fetch_images:
        raise InvalidRequest(
            f"Images at URLs are not fetched (at `$.{unread[0].place}`).",
            "Send the image itself, as data:image/png;base64,... or set api.fetch_images to true.",
        )
    first_of = {each.source: each for each in reversed(unread)}
    size = 0

    async def fetch(each: UnreadMedia) -> bytes:
        nonlocal size
        data = await _fetch(deck, each, requester)
        size += len(data)
        _check_total(size)  # at once: a short request may name gigabytes
        return data

    try:
        async with asyncio.TaskGroup() as group:
            tasks = {
                url: group.create_task(fetch(each), name="fetching an image")
                for url, each in first_of.items()
            }
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return [tasks[each.source].result() for each in unread]


async def _fetch(deck: Deck, media: UnreadMedia, requester: Requester) -> bytes:
    try:
        data = await deck.inference.fetch_media(media.source, LARGEST_BYTES, requester)
    except DeckError as error:
        remedy = error.remedy if isinstance(error, Forbidden) else "Send the image itself."
        raise InvalidRequest(
            f"An image cannot be fetched (at `$.{media.place}`): {error.message}", remedy
        ) from error
    if data is None:
        raise _too_large(media)
    return data


def _wrong(media: UnreadMedia, how: str) -> InvalidRequest:
    what = "An image" if media.kind == "image" else "A recording"
    return InvalidRequest(f"{what} {how} (at `$.{media.place}`).", _SENT_AS[media.kind])


def _too_large(media: UnreadMedia) -> InvalidRequest:
    what = "An image" if media.kind == "image" else "A recording"
    return InvalidRequest(
        f"{what} has more than {LARGEST_BYTES >> 20} MiB (at `$.{media.place}`).",
        "Send a smaller one.",
    )
