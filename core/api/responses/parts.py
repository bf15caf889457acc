"""Parts of messages and of outputs become text. Pure."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Literal

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

IMAGE_LEFT_OUT = "[An image that this model cannot see]"


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentPiece:
    """A part of a message or of an output."""

    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: Any = None
    """Of an image."""
    filename: str | None = None
    file_data: str | None = None
    """Of a file: a data URL, or its bytes in base64."""
    file_url: str | None = None
    file_id: str | None = None


def joined_text(
    content: str | list[ContentPiece] | None,
    what: str,
    *,
    images: Literal["refused", "named"] = "refused",
) -> str:
    """The text of a content. Raises InvalidRequest for parts that cannot become text.

    Args:
        content: A text, or parts.
        what: Where it stands, for errors.
        images: Whether an image is an error, or a note to the model: a tool may give one unasked.
    """
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(_text_of(part, what, images) for part in content)


def _text_of(part: ContentPiece, what: str, images: Literal["refused", "named"]) -> str:
    if part.type in TEXTS:
        return part.text or part.refusal or ""
    if part.type == "input_file":
        return _file_text(part, what)
    if part.type == "input_image" and images == "named":
        return IMAGE_LEFT_OUT
    if part.type == "encrypted_content":
        return ""
    raise InvalidRequest(
        f"{what} has a part of type {part.type[:40]!r}, which is not supported.", "Send text only."
    )


def _file_text(part: ContentPiece, what: str) -> str:
    """A text file with its name. Raises InvalidRequest for any other file."""
    name = part.filename or "file"
    if part.file_data is None:
        raise InvalidRequest(
            f"{what} names a file without its data.",
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
            f"{what} has a file that is not text: {name[:80]!r}.",
            "Send text files, in base64 and UTF-8.",
        )
    return f"File {name}:\n{text}\n"
