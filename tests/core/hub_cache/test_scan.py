"""What a scan finds: the same as huggingface_hub's, and more forgiving."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from huggingface_hub import hf_hub_download, scan_cache_dir
from huggingface_hub.utils import _shared_blobs

from modeldeck.core.demo.hub import DemoHub
from modeldeck.core.hub_cache import scan as scanning
from modeldeck.core.hub_cache.scan import foreign_partials, partials, scan, usage
from tests.support.hashes import verify

if TYPE_CHECKING:
    from tests.core.hub_cache.conftest import Shelf

ONE, TWO = "1" * 40, "2" * 40


def share(shelf: Shelf, repo: str, blob: str, name: str, size: int) -> Path:
    """Move a blob into the store that repositories share, by the Hub's own code."""
    assert _shared_blobs.publish_blob_to_shared_store(
        blob_path=str(shelf.cache.blob(repo, blob)),
        xet_hash=name,
        cache_dir=shelf.root,
        expected_size=size,
    )
    return _shared_blobs.shared_blob_path(shelf.root, name)


def test_an_absent_cache_is_empty(tmp_path: Path) -> None:
    assert scan(tmp_path / "nowhere") == ()
    assert usage(tmp_path / "nowhere") == (0, 0)
    assert partials(tmp_path / "nowhere") == {}


def test_snapshots_with_their_files_and_refs(shelf: Shelf) -> None:
    began = time.time() - 1
    m = shelf.put("o/r", ONE, "sub/m.gguf", b"weights", ref="main")
    readme = shelf.put("o/r", ONE, "README.md", b"hi", lfs=False)
    shelf.put("o/r", TWO, "m.gguf", b"other", ref="v1")
    shelf.put("gpt2", ONE, "model.safetensors", b"abc")
    found = scan(shelf.root)
    assert [(s.repo, s.revision, s.refs) for s in found] == [
        ("gpt2", ONE, ()),
        ("o/r", ONE, ("main",)),
        ("o/r", TWO, ("v1",)),
    ]
    assert [(f.path, f.blob, f.size_bytes) for f in found[1].files] == [
        ("README.md", readme.blob, 2),
        ("sub/m.gguf", m.blob, 7),
    ]
    assert found[1].folder == str(shelf.cache.snapshot("o/r", ONE))
    assert began < found[1].modified_at < time.time() + 1


def test_what_hf_downloaded_is_found(hub: DemoHub, tmp_path: Path) -> None:
    hf_hub_download("deck/tiny-GGUF", "tiny-Q8_0.gguf", cache_dir=tmp_path, endpoint=hub.url)
    (snapshot,) = scan(tmp_path)
    info = scan_cache_dir(tmp_path)
    (repo,) = info.repos
    (revision,) = repo.revisions
    assert (snapshot.repo, snapshot.revision) == (repo.repo_id, revision.commit_hash)
    assert set(snapshot.refs) == revision.refs
    assert {(f.path, f.size_bytes) for f in snapshot.files} == {
        (f.file_name, f.size_on_disk) for f in revision.files
    }
    assert usage(tmp_path) == (info.size_on_disk, 0)
    assert verify(snapshot) == ()


def test_what_makes_no_sense_is_left_out_with_a_warning(
    shelf: Shelf, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good = shelf.put("o/r", ONE, "m.gguf", b"weights")
    snapshot = shelf.cache.snapshot("o/r", ONE)
    (tmp_path / "secret").write_text("secret")
    (snapshot / "out.gguf").symlink_to(tmp_path / "secret")
    (snapshot / "sideways.gguf").symlink_to(f"../../../models--x--y/blobs/{good.blob}")
    (snapshot / "dangling.gguf").symlink_to(f"../../blobs/{'0' * 64}")
    evil = shelf.cache.blob("o/r", "e" * 64)
    evil.symlink_to(tmp_path / "secret")
    (snapshot / "evil.gguf").symlink_to(f"../../blobs/{evil.name}")
    shelf.cache.snapshot("o/r", ONE).with_name("not-a-commit").mkdir()
    (shelf.root / "models--..--x").mkdir()
    (shelf.root / "models--a").write_text("a file")
    (shelf.cache.repo("o/r") / "refs").write_text("a file")
    with caplog.at_level(logging.WARNING):
        (found,) = scan(shelf.root)
    assert [file.path for file in found.files] == ["m.gguf"]
    for name in ("out.gguf", "sideways.gguf", "evil.gguf", "not-a-commit", "models--..--x"):
        assert name in caplog.text


def test_sizes_count_everything_once(shelf: Shelf) -> None:
    shelf.put("o/r", ONE, "m.gguf", b"x" * 1000)
    shelf.put("o/r", TWO, "m.gguf", b"x" * 1000)
    plain = shelf.cache.snapshot("o/r", TWO) / "plain.gguf"
    plain.write_bytes(b"y" * 10)
    shelf.cache.partial("o/r", "a" * 64).write_bytes(b"z" * 100)
    (shelf.root / "datasets--o--d" / "blobs").mkdir(parents=True)
    (shelf.root / "datasets--o--d" / "blobs" / "f.1234.incomplete").write_bytes(b"d" * 5)
    assert usage(shelf.root) == (1115, 105)
    assert partials(shelf.root) == {("o/r", "a" * 64): 100}
    foreign = shelf.cache.repo("o/r") / "blobs" / f"{'b' * 40}.1a2b.incomplete"
    foreign.write_bytes(b"f" * 7)
    foreign.with_name("notes.incomplete").write_bytes(b"no blob of the Hub")
    assert foreign_partials(shelf.root) == {str(foreign): 7}
    (snapshot,) = [s for s in scan(shelf.root) if s.revision == TWO]
    assert [(f.path, f.blob, f.size_bytes) for f in snapshot.files][1] == ("plain.gguf", "", 10)


def test_payloads_that_repositories_share(shelf: Shelf) -> None:
    for repo in ("o/a", "o/b"):
        file = shelf.put(repo, ONE, "m.gguf", b"weights")
        share(shelf, repo, file.blob, "cd" * 32, 7)
    assert all(s.files[0].shared == "cd" * 32 for s in scan(shelf.root))
    assert all(s.files[0].size_bytes == 7 for s in scan(shelf.root))
    assert usage(shelf.root) == (7, 0)
    assert verify(scan(shelf.root)[0]) == ()


def test_verification_reads_it_all_and_names_what_is_wrong(shelf: Shelf) -> None:
    shelf.put("o/r", ONE, "good.gguf", b"weights")
    shelf.put("o/r", ONE, "config.json", b"{}", lfs=False)
    bad = [
        shelf.put("o/r", ONE, "bad.gguf", b"WEIGHTS"),
        shelf.put("o/r", ONE, "bad.json", b"[]", lfs=False),
    ]
    for file in bad:
        blob = shelf.cache.blob("o/r", file.blob)
        os.chmod(blob, 0o644)
        blob.write_bytes(b"?" * file.size_bytes)
    (snapshot,) = scan(shelf.root)
    read: list[int] = []
    assert verify(snapshot, read.append) == ("bad.gguf", "bad.json")
    assert sum(read) == sum(file.size_bytes for file in snapshot.files)


def vanishing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have another program remove each file right after it was listed."""
    real = scanning._files

    def listed(folder: Path) -> Iterator[Path]:
        for path in list(real(folder)):
            path.unlink(missing_ok=True)
            yield path

    monkeypatch.setattr(scanning, "_files", listed)


def test_what_vanishes_while_it_is_counted_is_absent(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    shelf.put("o/r", ONE, "m.gguf", b"x" * 1000, ref="main")
    (shelf.cache.snapshot("o/r", ONE) / "plain.gguf").write_bytes(b"y" * 10)
    with monkeypatch.context() as patch:
        vanishing(patch)
        assert usage(shelf.root) == (1000, 0)
    shelf.put("o/r", ONE, "m.gguf", b"x" * 1000, ref="v1")
    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        vanishing(patch)
        assert [snapshot.files for snapshot in scan(shelf.root)] == [()]
    assert not caplog.records


def test_whole_repositories_may_vanish_between_two_looks(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        shelf.put(f"o/r{number}", ONE, "m.gguf", b"x" * 1000, ref="main")
    real = scanning._entries

    def entries(folder: Path) -> list[os.DirEntry[str]]:
        found = real(folder)
        shutil.rmtree(shelf.cache.repo("o/r1"), ignore_errors=True)
        return found

    monkeypatch.setattr(scanning, "_entries", entries)
    assert usage(shelf.root) == (2000, 0)
    shelf.put("o/r1", ONE, "m.gguf", b"x" * 1000, ref="main")
    assert {s.repo for s in scan(shelf.root) if s.files} == {"o/r0", "o/r2"}
    shelf.put("o/r1", ONE, "m.gguf", b"x" * 1000, ref="main")
    assert partials(shelf.root) == {}
    shelf.put("o/r1", ONE, "m.gguf", b"x" * 1000, ref="main")
    assert foreign_partials(shelf.root) == {}


def test_an_entry_that_cannot_be_looked_at_is_not_counted(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refused:
        """As an entry of a network file system whose server forgot it."""

        name = path = "m.gguf"

        def stat(self, **_: object) -> None:
            raise OSError(116, "Stale file handle")

        is_dir = is_file = stat

    entry: Any = Refused()
    assert scanning._size(entry) is None
    assert not scanning._is_folder(entry)
