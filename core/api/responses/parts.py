"""Parts of messages and of outputs become text with images and recordings in it. Pure."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from modeldeck.core.api.message_content import MessageContent, joined, media_content
from modeldeck.core.errors import InvalidRequest

TEXTS = frozenset(
    {"input_text", "output_text", "text", "summary_text", "reasoning_text", "refusal"}
)
"""Types of parts that are text."""

TEXT_SUFFIXES = frozenset(
    {
        *(".txt", ".md", ".rst", ".csv", ".tsv", ".json", ".jsonl", ".yaml", ".yml", ".toml"),
        *(".xml", ".html", ".css", ".ini", ".cfg", ".log", ".diff", ".patch", ".sql", ".tex"),
        *(".py", ".js", ".ts", ".tsx", ".c", ".h", ".cpp", ".hpp", ".cs", ".go", ".rs", ".java"),
        *(".kt", ".swift", ".rb", ".php", ".sh", ".lua", ".r", ".pl"),
    }
)
"""Endings of the names of files that are text."""

IMAGE_NOT_SENT = "[An image that was not sent]"
"""Stands for an image in a tool's output that only names a file elsewhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentPiece:
    """A part of a message or of an output."""

    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: Any = None
    """Of an image: a data: URL, or an address on the web."""
    input_audio: Any = None
    """Of a recording: `data` in base64, and its format."""
    filename: str | None = None
    file_data: str | None = None
    """Of a file: a data URL, or its bytes in base64."""
    file_url: str | None = None
    file_id: str | None = None


def content_of(
    content: str | list[ContentPiece] | None, place: str, *, is_output: bool = False
) -> MessageContent:
    """A content with its images and recordings. Raises InvalidRequest for parts of other types.

    Args:
        content: A text, or parts.
        place: Where it stands in the request.
        is_output: Whether a tool gave it: an image without data is then no error.
    """
    if content is None or isinstance(content, str):
        return MessageContent(text=content or "")
    parts = ((part, f"{place}[{number}]") for number, part in enumerate(content))
    return joined(_content_of(part, at, is_output=is_output) for part, at in parts)


def text_of(content: list[ContentPiece] | None, place: str) -> str:
    """The text of a content. Raises InvalidRequest as `content_of`."""
    return content_of(content, place).text


def _content_of(part: ContentPiece, place: str, *, is_output: bool) -> MessageContent:
    if part.type in TEXTS:
        return MessageContent(text=part.text or part.refusal or "")
    if part.type == "input_file":
        return MessageContent(text=_file_text(part, place))
    if part.type == "input_image":
        return _image(part, place, is_output=is_output)
    if part.type == "input_audio" and isinstance(part.input_audio, dict):
        data = part.input_audio.get("data")
        return media_content("audio", str(data or ""), place, is_base64=True)
    if part.type == "encrypted_content":
        return MessageContent()
    raise InvalidRequest(
        f"{place} has a part of type {part.type[:40]!r}, which is not supported.",
        "Send text, input_image or input_audio.",
    )


def _image(part: ContentPiece, place: str, *, is_output: bool) -> MessageContent:
    url = part.image_url.get("url") if isinstance(part.image_url, dict) else part.image_url
    if isinstance(url, str) and url:
        return media_content("image", url, place)
    if is_output:
        return MessageContent(text=IMAGE_NOT_SENT)
    raise InvalidRequest(
        f"The input_image names no image_url (at `$.{place}`).",
        "Send the image in image_url, as data:image/png;base64,...; nothing is uploaded here.",
    )


def _file_text(part: ContentPiece, place: str) -> str:
    """A text file with its name. Raises InvalidRequest for any other file."""
    name = part.filename or "file"
    if part.file_data is None:
        raise InvalidRequest(
            f"{place} names a file without its data.",
            "Send the file in file_data; nothing is uploaded or fetched here.",
        )
    kind, _, data = part.file_data.rpartition(",")
    is_text = (
        kind.startswith(("data:text/", "data:application/json", "data:application/xml"))
        or PurePosixPath(name).suffix.lower() in TEXT_SUFFIXES
    )
    try:
        text = base64.b64decode(data, validate=True).decode() if is_text else None
    except (binascii.Error, UnicodeDecodeError):
        text = None
    if text is None:
        raise InvalidRequest(
            f"{place} has a file that is not text: {name[:80]!r}.",
            "Send text files, in base64 and UTF-8.",
        )
    return f"File {name}:\n{text}\n"
