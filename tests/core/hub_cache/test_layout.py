"""The layout on disk: the same as huggingface_hub's, and never outside its root."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from huggingface_hub import scan_cache_dir, try_to_load_from_cache
from huggingface_hub.utils._fixes import WeakFileLock

from modeldeck.core.errors import InvalidRequest, StorageFailed
from modeldeck.core.hub_cache.layout import HubCache
from modeldeck.core.schema import RepoFile

if TYPE_CHECKING:
    from tests.core.hub_cache.conftest import Shelf

ONE, TWO = "1" * 40, "2" * 40
BLOB = "ab" * 32


def test_where_everything_lies() -> None:
    cache = HubCache(Path("/c"))
    folder = "/c/models--o--r"
    assert str(cache.repo("o/r")) == folder
    assert str(cache.repo("gpt2")) == "/c/models--gpt2"
    assert str(cache.blob("o/r", BLOB)) == f"{folder}/blobs/{BLOB}"
    assert str(cache.partial("o/r", BLOB)) == f"{folder}/blobs/{BLOB}.modeldeck.incomplete"
    assert str(cache.pointer("o/r", ONE, "a/b.gguf")) == f"{folder}/snapshots/{ONE}/a/b.gguf"
    assert str(cache.ref("o/r", "refs/pr/1")) == f"{folder}/refs/refs/pr/1"


NAMES = [
    ("repo", ("../x",)),
    ("repo", ("a/b/c",)),
    ("repo", ("a--b/c",)),
    ("blob", ("o/r", "../" * 20)),
    ("blob", ("o/r", "AB" * 32)),
    ("partial", ("o/r", "x")),
    ("snapshot", ("o/r", "main")),
    ("snapshot", ("o/r", "../../x")),
    ("pointer", ("o/r", ONE, "../x")),
    ("pointer", ("o/r", ONE, "/etc/passwd")),
    ("pointer", ("o/r", ONE, "c:\\x")),
    ("ref", ("o/r", "../../x")),
    ("lock", ("o/r", "../x")),
]


@pytest.mark.parametrize(("method", "names"), NAMES)
def test_names_that_lead_out_are_refused(method: str, names: tuple[str, ...]) -> None:
    with pytest.raises(InvalidRequest):
        getattr(HubCache(Path("/c")), method)(*names)


def test_what_is_published_is_what_huggingface_hub_finds(shelf: Shelf) -> None:
    big = shelf.put("o/r", ONE, "sub/m.gguf", b"weights", ref="main")
    small = shelf.put("o/r", ONE, "README.md", b"hello", lfs=False)
    pointer = shelf.cache.pointer("o/r", ONE, "sub/m.gguf")
    assert os.readlink(pointer) == f"../../../blobs/{big.blob}"
    assert pointer.read_bytes() == b"weights"
    assert try_to_load_from_cache("o/r", "sub/m.gguf", cache_dir=shelf.root) == str(pointer)
    info = scan_cache_dir(shelf.root)
    assert info.warnings == []
    (repo,) = info.repos
    (revision,) = repo.revisions
    assert (repo.repo_id, revision.commit_hash, set(revision.refs)) == ("o/r", ONE, {"main"})
    assert {file.blob_path.name for file in revision.files} == {big.blob, small.blob}
    assert (shelf.root / "CACHEDIR.TAG").read_text().startswith("Signature: 8a477f597d28d172789f")


def test_publishing_again_changes_nothing(shelf: Shelf) -> None:
    file = shelf.put("o/r", ONE, "m.gguf", b"weights", ref="main")
    before = shelf.tree()
    shelf.cache.publish("o/r", ONE, file, fresh=False)
    shelf.cache.set_ref("o/r", "main", ONE)
    assert shelf.tree() == before


def test_one_content_in_two_commits_is_one_blob(shelf: Shelf) -> None:
    file = shelf.put("o/r", ONE, "m.gguf", b"weights")
    shelf.cache.publish("o/r", TWO, file, fresh=False)
    assert shelf.cache.pointer("o/r", TWO, "m.gguf").read_bytes() == b"weights"
    assert len([name for name in shelf.tree() if "/blobs/" in name]) == 1


def test_a_link_to_other_content_is_replaced(shelf: Shelf) -> None:
    shelf.put("o/r", ONE, "m.gguf", b"old")
    shelf.put("o/r", ONE, "m.gguf", b"new")
    assert shelf.cache.pointer("o/r", ONE, "m.gguf").read_bytes() == b"new"


def test_publishing_what_is_not_there_fails_and_leaves_no_link(shelf: Shelf) -> None:
    file = shelf.file("m.gguf", b"weights")
    shelf.cache.prepare("o/r")
    for fresh in (True, False):
        with pytest.raises(StorageFailed):
            shelf.cache.publish("o/r", ONE, file, fresh=fresh)
    assert [name for name in shelf.tree() if name.endswith("m.gguf")] == []


def test_without_links_the_file_itself_lies_in_the_snapshot(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "symlink", refuse)
    file = shelf.put("o/r", ONE, "m.gguf", b"weights")
    pointer = shelf.cache.pointer("o/r", ONE, "m.gguf")
    assert not pointer.is_symlink()
    assert pointer.read_bytes() == b"weights"
    assert shelf.cache.present("o/r", ONE, file) == pointer
    shelf.cache.publish("o/r", ONE, file, fresh=False)
    assert scan_cache_dir(shelf.root).warnings == []


def test_what_is_present(shelf: Shelf) -> None:
    file = shelf.put("o/r", ONE, "m.gguf", b"weights")
    assert shelf.cache.present("o/r", TWO, file) == shelf.cache.blob("o/r", file.blob)
    longer = RepoFile(path="m.gguf", size_bytes=8, blob=file.blob, lfs=True)
    assert shelf.cache.present("o/r", ONE, longer) is None
    assert shelf.cache.present("o/x", ONE, file) is None


def test_refs_move_and_nest(shelf: Shelf) -> None:
    shelf.put("o/r", ONE, "m.gguf", b"weights", ref="main")
    shelf.put("o/r", TWO, "m.gguf", b"weights", ref="refs/pr/1")
    shelf.cache.set_ref("o/r", "main", TWO)
    assert shelf.cache.ref("o/r", "main").read_text() == TWO
    (repo,) = scan_cache_dir(shelf.root).repos
    assert {r.commit_hash: r.refs for r in repo.revisions} == {
        ONE: frozenset(),
        TWO: {"main", "refs/pr/1"},
    }


def test_the_lock_is_the_hubs_own(shelf: Shelf) -> None:
    path = shelf.root / ".locks" / "models--o--r" / f"{BLOB}.lock"
    lock = shelf.cache.lock("o/r", BLOB)
    assert lock.try_acquire()
    assert path.is_file()
    with pytest.raises(TimeoutError), WeakFileLock(path, timeout=0.1):
        pass
    lock.release()
    with WeakFileLock(path):
        assert not shelf.cache.lock("o/r", BLOB).try_acquire()
    assert shelf.cache.lock("o/r", BLOB).try_acquire()


@pytest.mark.parametrize("folder", ["blobs", "snapshots"])
def test_nothing_is_written_through_a_folder_that_leads_out(
    shelf: Shelf, tmp_path: Path, folder: str
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    shelf.cache.repo("o/r").mkdir(parents=True)
    (shelf.cache.repo("o/r") / folder).symlink_to(outside)
    with pytest.raises(StorageFailed, match="out of the cache"):
        shelf.put("o/r", ONE, "m.gguf", b"weights")
    assert list(outside.iterdir()) == []


def test_discarding_removes_what_held_nothing_else(shelf: Shelf) -> None:
    shelf.cache.prepare("o/r")
    shelf.cache.partial("o/r", BLOB).write_bytes(b"part")
    shelf.cache.discard("o/r", BLOB)
    assert shelf.tree() == []
    shelf.cache.discard("o/r", BLOB)
    shelf.put("o/r", ONE, "m.gguf", b"weights")
    before = shelf.tree()
    shelf.cache.partial("o/r", BLOB).write_bytes(b"part")
    shelf.cache.discard("o/r", BLOB)
    assert shelf.tree() == before


def test_all_that_is_published_is_durable_when_it_is_said(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    shelf.put("o/r", ONE, "sub/m.gguf", b"weights", ref="refs/pr/1")
    repo = shelf.cache.repo("o/r").resolve()
    snapshot = shelf.cache.snapshot("o/r", ONE).resolve()
    # The blob has its name before anything links to it.
    folders = [path for path in synced if path.is_dir()]
    assert folders.index(repo / "blobs") < folders.index(snapshot / "sub")
    for folder in (snapshot, snapshot.parent, repo / "refs" / "refs" / "pr", repo / "refs"):
        assert folder in folders
    assert any(path.name.startswith(".modeldeck-ref") for path in synced)


def test_a_ref_that_is_written_by_many_at_once_is_always_whole(shelf: Shelf) -> None:
    commits = [f"{number}" * 40 for number in range(1, 9)]
    for commit in commits:
        shelf.put("o/r", commit, "m.gguf", b"weights")
    start, seen = threading.Barrier(len(commits)), set[str]()

    def write(commit: str) -> None:
        start.wait()
        for _ in range(20):
            shelf.cache.set_ref("o/r", "main", commit)
            seen.add(shelf.cache.ref("o/r", "main").read_text())

    with ThreadPoolExecutor(len(commits)) as threads:
        list(threads.map(write, commits))
    assert seen <= set(commits)
    assert not list(shelf.cache.repo("o/r").glob(".modeldeck-ref*"))


def test_processes_that_write_one_ref_do_not_take_each_others_files(shelf: Shelf) -> None:
    for commit in (ONE, TWO):
        shelf.put("o/r", commit, "m.gguf", b"weights")
    script = (
        "import pathlib, sys\n"
        "from modeldeck.core.hub_cache.layout import HubCache\n"
        "print('ready', flush=True)\n"
        "sys.stdin.readline()\n"
        "for _ in range(300):\n"
        "    HubCache(pathlib.Path(sys.argv[1])).ref('o/r', 'main').unlink(missing_ok=True)\n"
        "    HubCache(pathlib.Path(sys.argv[1])).set_ref('o/r', 'main', sys.argv[2])\n"
    )
    programs = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(shelf.root), commit],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for commit in (ONE, TWO)
    ]  # fmt: skip
    for program in programs:
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
    for program in programs:
        assert program.stdin is not None
        program.stdin.write("go\n")
        program.stdin.flush()
    for program in programs:
        _, errors = program.communicate(timeout=150)
        assert program.returncode == 0, errors
    assert shelf.cache.ref("o/r", "main").read_text() in (ONE, TWO)


def test_what_a_killed_core_left_of_a_ref_keeps_no_empty_repository(shelf: Shelf) -> None:
    file = shelf.put("o/r", ONE, "m.gguf", b"weights")
    (shelf.cache.repo("o/r") / ".modeldeck-ref0123").write_text(ONE)
    shelf.cache.pointer("o/r", ONE, "m.gguf").unlink()
    shelf.cache.snapshot("o/r", ONE).rmdir()
    shelf.cache.blob("o/r", file.blob).unlink()
    shelf.cache.tidy("o/r")
    assert not shelf.cache.repo("o/r").exists()
