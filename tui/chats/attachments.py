"""Files that go with a question: which kinds there are, and how they are read. Blocking."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path

from modeldeck.core.errors import InvalidRequest, NotFound, TooLarge
from modeldeck.core.storage.foreign_files import in_file_thread, read_regular
from modeldeck.tui.chats.chat import ChatAttachment
from modeldeck.tui.text import format as fmt

PICTURES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp"})
RECORDINGS = frozenset({".wav", ".mp3", ".flac"})

MOST_MEDIA_BYTES = 20 << 20
"""Of a picture or a recording: with base64 and another one it still fits a request."""
MOST_TEXT_BYTES = 4 << 20
"""Of a text file: about a million tokens, more than any context."""

BYTES_PER_TOKEN = 3.6
"""Of English text and code with the vocabularies of today, for estimates before it is sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureSize:
    """Width and height in pixels."""

    width: int
    height: int


def kind_of(name: str) -> str:
    """`image`, `audio` or `text`, by the ending of a name."""
    suffix = os.path.splitext(name)[1].lower()
    return "image" if suffix in PICTURES else "audio" if suffix in RECORDINGS else "text"


def estimated_tokens(text: str) -> int:
    """About how many tokens a text has; at least 1 for a text that is not empty."""
    return round(len(text.encode()) / BYTES_PER_TOKEN + 0.49)


async def read_attachment(path: str) -> ChatAttachment:
    """Read a file, in a thread. Raises NotFound, InvalidRequest, TooLarge and StorageTimeout."""
    return await in_file_thread(lambda: _read(path), path, custom=True)


def _read(written: str) -> ChatAttachment:
    path = Path(os.path.abspath(os.path.expanduser(written)))
    kind = kind_of(path.name)
    limit = MOST_TEXT_BYTES if kind == "text" else MOST_MEDIA_BYTES
    try:
        if path.stat().st_size > limit:
            raise TooLarge(
                f"{path.name} is too large: {fmt.size(path.stat().st_size)}.",
                f"At most {fmt.size(limit)} can be attached.",
            )
        data = read_regular(path, limit)
    except FileNotFoundError:
        raise NotFound(f"There is no file {path}.") from None
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {error.strerror or error}.") from error
    if kind == "image":
        size = picture_size(data)
        if size is None:
            raise InvalidRequest(f"{path.name} is not a picture that models can be sent.")
        return ChatAttachment(
            name=path.name, kind="image", data=data, width=size.width, height=size.height
        )
    if kind == "audio":
        return ChatAttachment(name=path.name, kind="audio", data=data)
    return _text(path.name, data)


def _text(name: str, data: bytes) -> ChatAttachment:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise InvalidRequest(f"{name} is neither text nor a picture.", "Attach UTF-8 text.")
    return ChatAttachment(name=name, text=text, tokens=estimated_tokens(text))


def picture_size(data: bytes) -> PictureSize | None:
    """Size from the header of a PNG, GIF, BMP, WebP or JPEG; None for anything else."""
    try:
        if data.startswith(b"\x89PNG\r\n\x1a\n") and data[12:16] == b"IHDR":
            return _size(*struct.unpack(">II", data[16:24]))
        if data[:6] in (b"GIF87a", b"GIF89a"):
            return _size(*struct.unpack("<HH", data[6:10]))
        if data.startswith(b"BM"):
            width, height = struct.unpack("<ii", data[18:26])
            return _size(width, abs(height))
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _webp(data)
        return _jpeg(data) if data.startswith(b"\xff\xd8\xff") else None
    except struct.error:
        return None


def _size(width: int, height: int) -> PictureSize | None:
    return PictureSize(width=width, height=height) if width > 0 and height > 0 else None


def _webp(data: bytes) -> PictureSize | None:
    """The three forms of RFC 9649: extended, lossless, lossy."""
    kind = data[12:16]
    if kind == b"VP8X":
        width = int.from_bytes(data[24:27], "little") + 1
        return _size(width, int.from_bytes(data[27:30], "little") + 1)
    if kind == b"VP8L":
        (bits,) = struct.unpack("<I", data[21:25])
        return _size((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    if kind == b"VP8 ":
        width, height = struct.unpack("<HH", data[26:30])
        return _size(width & 0x3FFF, height & 0x3FFF)
    return None


def _jpeg(data: bytes) -> PictureSize | None:
    """Walk the segments to the start of a frame (ITU T.81, B.2.2)."""
    at = 2
    while at + 9 <= len(data):
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == 0xFF:  # a filler
            at += 1
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return _size(width, height)
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:
            at += 2
            continue
        (length,) = struct.unpack(">H", data[at + 2 : at + 4])
        at += 2 + max(2, length)
    return None


def described(file: ChatAttachment) -> str:
    """What is known of it besides its name: `1280 x 720`, `1,204 tokens`."""
    if file.kind == "text":
        return f"~{file.tokens or 0:,} tokens"
    if file.width and file.height:
        return f"{file.width} x {file.height}"
    return fmt.size(len(file.data))
