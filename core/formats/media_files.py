"""Images and recordings: what a file is, from its first bytes. Pure.

Sources: PNG, section 5.2; JPEG, ITU-T T.81, B.1.1.3; GIF89a, section 17; the containers of WebP and
WAV, RIFF; BITMAPFILEHEADER; RFC 9639, section 6 (FLAC); ID3v2.4, section 3.1; ISO 11172-3, 2.4.1.3
(MP3 without a tag).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

FORMATS: Mapping[Literal["image", "audio"], str] = {
    "image": "PNG, JPEG, WebP, GIF and BMP",
    "audio": "WAV, MP3 and FLAC",
}
"""The formats that are read, in words."""

LARGEST_BYTES = 20 << 20
"""The largest file that is read."""

_STARTS = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"BM", "image/bmp"),
    (b"fLaC", "audio/flac"),
    (b"ID3", "audio/mpeg"),
)
_RIFF = {b"WEBP": "image/webp", b"WAVE": "audio/wav"}


def media_type(data: bytes) -> str | None:
    r"""The media type of an image or a recording; None for any other file.

    >>> media_type(b"GIF89a..."), media_type(b"RIFF\x24\0\0\0WAVEfmt "), media_type(b"%PDF-1.7")
    ('image/gif', 'audio/wav', None)
    """
    for start, name in _STARTS:
        if data.startswith(start):
            return name
    if data[:4] == b"RIFF":
        return _RIFF.get(data[8:12])
    is_frame = len(data) > 1 and data[0] == 0xFF and data[1] & 0xE0 == 0xE0 and data[1] & 0x06
    return "audio/mpeg" if is_frame else None
