"""Files that are replaced in one step."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from modeldeck.core.storage.files import is_disk_full, locked_folder, replace_file


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_file_has_the_mode_that_was_asked_for_and_an_old_one_keeps_its_own(
    tmp_path: Path,
) -> None:
    before = os.umask(0o022)
    try:
        replace_file(tmp_path / "a", b"1")
        replace_file(tmp_path / "b", b"1", mode=0o600)
    finally:
        os.umask(before)
    assert (mode(tmp_path / "a"), mode(tmp_path / "b")) == (0o644, 0o600)
    (tmp_path / "b").chmod(0o664)
    replace_file(tmp_path / "b", b"2", mode=0o600)
    assert ((tmp_path / "b").read_bytes(), mode(tmp_path / "b")) == (b"2", 0o664)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_the_file_and_its_folder_are_made_durable_in_this_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    real_sync, real_replace = os.fsync, os.replace

    def sync(descriptor: int) -> None:
        kind = "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
        steps.append(kind)
        real_sync(descriptor)

    def replace(old: Path, new: Path) -> None:
        steps.append("replace")
        real_replace(old, new)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", replace)
    replace_file(tmp_path / "a", b"1")
    assert steps == ["file", "replace", "folder"]


def test_what_fails_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_bytes(b"old")

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="space") as caught:
        replace_file(tmp_path / "a", b"new")
    assert is_disk_full(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_bytes() == b"old"


def test_the_lock_of_a_folder_holds_against_other_processes_and_leaves_nothing(
    tmp_path: Path,
) -> None:
    script = (
        "import pathlib, sys\n"
        "from modeldeck.core.storage.files import locked_folder\n"
        "try:\n"
        "    with locked_folder(pathlib.Path(sys.argv[1]), wait_s=0.05):\n"
        "        print('had it')\n"
        "except TimeoutError:\n"
        "    print('waited')\n"
    )

    def other() -> str:
        words = [sys.executable, "-c", script, str(tmp_path)]
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()

    with locked_folder(tmp_path):
        assert other() == "waited"
        with pytest.raises(TimeoutError), locked_folder(tmp_path, wait_s=0.02):
            pass  # nor may another thread of this process have it
    assert other() == "had it"
    assert list(tmp_path.iterdir()) == []
