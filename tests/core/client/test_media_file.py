"""Files that go into a question: read, or refused by their name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from modeldeck.core.client.media_file import read_media_file
from modeldeck.core.errors import InvalidRequest
from modeldeck.core.formats.media_files import LARGEST_BYTES
from modeldeck.core.schema import Media, MediaKind


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.gif"
    path.write_bytes(b"GIF89a...")
    assert read_media_file(path, "image", at=3) == Media(kind="image", data=b"GIF89a...", at=3)


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("missing.png", "image", "There is no file"),
        ("", "image", "cannot be read"),
        ("pipe", "image", "cannot be read"),
        ("large.png", "image", "more than 20 MiB"),
        ("page.png", "image", "is no file of an image"),
        ("a.wav", "image", "it is audio/wav"),
        ("page.png", "audio", "is no file of a recording"),
    ],
)
def test_another_is_refused_by_its_name(
    tmp_path: Path, name: str, kind: MediaKind, words: str
) -> None:
    (tmp_path / "page.png").write_bytes(b"<html>")
    (tmp_path / "a.wav").write_bytes(b"RIFF\x04\0\0\0WAVE")
    with (tmp_path / "large.png").open("wb") as file:
        file.truncate(LARGEST_BYTES + 1)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InvalidRequest) as refused:
        read_media_file(tmp_path / name, kind)
    assert words in refused.value.message
    assert str(tmp_path / name) in refused.value.message
    assert refused.value.remedy
