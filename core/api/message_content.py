"""Text with images and recordings in it, as the converters of all dialects build it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from modeldeck.core.schema import Media, MediaKind


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadMedia(Media):
    """An image or a recording whose bytes are still to be decoded or fetched: see `media_input`."""

    data: bytes = b""
    at: int = 0
    source: str
    """A URL, or base64."""
    is_base64: bool = False
    """Whether `source` is base64 where it is no URL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageContent:
    """A text, and the images and recordings in it."""

    text: str = ""
    media: tuple[Media, ...] = ()


def media_content(
    kind: MediaKind, source: str, place: str, *, is_base64: bool = False
) -> MessageContent:
    """A content of one image or recording, which stands at `place` in the request."""
    media = UnreadMedia(kind=kind, source=source, is_base64=is_base64, place=place)
    return MessageContent(media=(media,))


def joined(parts: Iterable[MessageContent], separator: str = "") -> MessageContent:
    """The parts as one content; the separator stands between texts that are not empty.

    >>> image = media_content("image", "data:,", "input[0]")
    >>> whole = joined([MessageContent(text="a"), image, MessageContent(text="b")], "--")
    >>> whole.text, [media.at for media in whole.media]
    ('a--b', [1])
    """
    texts: list[str] = []
    media: list[Media] = []
    length = 0
    for part in parts:
        if part.text:
            text = separator + part.text if length else part.text
            texts.append(text)
            length += len(text)
        start = length - len(part.text)
        media += (replace(each, at=each.at + start) for each in part.media)
    return MessageContent(text="".join(texts), media=tuple(media))
