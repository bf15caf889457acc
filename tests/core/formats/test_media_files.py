"""What a file is, by its first bytes."""

from __future__ import annotations

import pytest

from modeldeck.core.formats.media_files import media_type


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "image/png"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "image/jpeg"),
        (b"GIF87a", "image/gif"),
        (b"GIF89a", "image/gif"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "image/webp"),
        (b"BM\x46\0\0\0", "image/bmp"),
        (b"RIFF\x10\0\0\0WAVEfmt ", "audio/wav"),
        (b"ID3\x04\0", "audio/mpeg"),
        (b"\xff\xfb\x90\x64", "audio/mpeg"),
        (b"fLaC\0", "audio/flac"),
        (b"\xff\xf1\x50\x80", None),  # AAC
        (b"RIFF\x10\0\0\0AVI LIST", None),
        (b"<svg xmlns=", None),
        (b"%PDF-1.7", None),
        (b"\xff", None),
        (b"", None),
    ],
)
def test_the_first_bytes_tell(data: bytes, found: str | None) -> None:
    assert media_type(data) == found
