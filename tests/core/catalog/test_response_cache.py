from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from modeldeck.core.catalog.response_cache import ResponseCache

if TYPE_CHECKING:
    from tests.core.conftest import SmallDisk


def test_an_answer_is_kept_under_its_whole_key(tmp_path: Path) -> None:
    answers = ResponseCache(tmp_path / "new" / "folder", 100)
    assert answers.get("a", "b") is None
    answers.put(b"1", "a", "b")
    answers.put(b"2", "ab")
    answers.put(b"3", "a", "b\ud800/../..")
    assert (answers.get("a", "b"), answers.get("ab")) == (b"1", b"2")
    answers.put(b"4", "a", "b")
    assert answers.get("a", "b") == b"4"
    assert len(list((tmp_path / "new" / "folder").iterdir())) == 3


def test_the_ones_used_longest_ago_go_first(tmp_path: Path) -> None:
    answers = ResponseCache(tmp_path, 10)
    for number, name in enumerate("abc"):
        answers.put(b"123", name)
        path = max(tmp_path.iterdir(), key=lambda path: path.stat().st_mtime_ns)
        os.utime(path, (number, number))
    assert answers.get("a") == b"123"
    answers.put(b"123", "d")
    assert [answers.get(name) is not None for name in "abcd"] == [True, False, True, True]
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 10


def test_a_folder_that_cannot_be_written_costs_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    answers = ResponseCache(tmp_path / "file", 10)
    answers.put(b"1", "a")
    assert answers.get("a") is None
    assert "cannot be cached" in caplog.text


def test_a_full_disk_is_not_littered(small_disk: SmallDisk) -> None:
    answers = ResponseCache(small_disk.path / "hub", 1 << 20)
    answers.put(b"1", "a")
    small_disk.fill()
    for _ in range(3):
        answers.put(b"2" * 5000, "a")
    assert answers.get("a") == b"1"
    assert len(list((small_disk.path / "hub").iterdir())) == 1
