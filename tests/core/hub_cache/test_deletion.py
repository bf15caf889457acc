"""Deleting: what goes, what stays and why, and what a reader sees at every moment of it."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from huggingface_hub import scan_cache_dir
from huggingface_hub.utils import _shared_blobs

from modeldeck.core.hub_cache.deletion import execute
from modeldeck.core.hub_cache.deletion_plan import FileSet, decide, plan
from modeldeck.core.schema import CachedFile, CachedSnapshot, DeletionPlan

if TYPE_CHECKING:
    from tests.core.hub_cache.conftest import Shelf

ONE, TWO = "1" * 40, "2" * 40
ROOT = Path("/c")


def snapshot(
    revision: str, files: dict[str, str], refs: tuple[str, ...] = (), repo: str = "o/r"
) -> CachedSnapshot:
    """A revision whose files have 10 bytes each, by path and blob; `=name` shares a payload."""
    return CachedSnapshot(
        repo=repo,
        revision=revision,
        refs=refs,
        folder=f"/c/models--{repo.replace('/', '--')}/snapshots/{revision}",
        files=tuple(
            CachedFile(
                path=path,
                blob=blob.partition("=")[0],
                size_bytes=10,
                shared=blob.partition("=")[2],
            )
            for path, blob in files.items()
        ),
    )


def gone(made: DeletionPlan) -> list[str]:
    """What goes, short: `kind name`."""
    return [f"{item.kind} {os.path.basename(item.path)[:8]}" for item in made.delete]


A, B, C = "a" * 64, "b" * 64, "c" * 64
Q4 = {"q4.gguf": A}
BOTH = {"q4.gguf": A, "q8.gguf": B}


def test_one_quantization_leaves_its_siblings_alone() -> None:
    made = decide(
        ROOT, [snapshot(ONE, BOTH, ("main",))], {}, [FileSet(repo="o/r", paths=("q4.gguf",))]
    )
    assert gone(made) == ["link q4.gguf", "blob aaaaaaaa"]
    assert (made.freed_bytes, made.keep) == (10, ())


def test_the_last_file_takes_revision_refs_and_repository_with_it() -> None:
    found = [snapshot(ONE, BOTH, ("main", "v1"))]
    made = decide(ROOT, found, {}, [FileSet(repo="o/r", paths=("q4.gguf", "q8.gguf"))])
    assert gone(made) == [
        "ref main",
        "ref v1",
        "link q4.gguf",
        "link q8.gguf",
        "snapshot 11111111",
        "blob aaaaaaaa",
        "blob bbbbbbbb",
        "repository models--",
    ]
    assert made.freed_bytes == 20


def test_another_revision_keeps_the_content_it_shares() -> None:
    found = [snapshot(ONE, Q4, ("main",)), snapshot(TWO, Q4)]
    made = decide(ROOT, found, {}, [FileSet(repo="o/r", revision=TWO, paths=("q4.gguf",))])
    assert gone(made) == ["link q4.gguf", "snapshot 22222222"]
    assert made.freed_bytes == 0
    (kept,) = made.keep
    assert (kept.size_bytes, kept.reason) == (10, "revision main shares it")


def test_without_a_revision_every_one_goes_and_bytes_count_once() -> None:
    found = [snapshot(ONE, Q4, ("main",)), snapshot(TWO, Q4)]
    made = decide(ROOT, found, {}, [FileSet(repo="o/r", paths=("q4.gguf",))])
    assert gone(made).count("blob aaaaaaaa") == 1
    assert made.freed_bytes == 10


def test_a_file_that_another_model_needs_stays() -> None:
    files = {"q4.gguf": A, "q8.gguf": B, "mmproj.gguf": C}
    made = decide(
        ROOT,
        [snapshot(ONE, files)],
        {},
        [FileSet(repo="o/r", paths=("q4.gguf", "mmproj.gguf"))],
        [FileSet(repo="o/r", paths=("q8.gguf", "mmproj.gguf"), reason="o/r:Q8_0")],
    )
    assert gone(made) == ["link q4.gguf", "blob aaaaaaaa"]
    assert [kept.reason for kept in made.keep] == ["o/r:Q8_0 needs it"]


def test_content_that_another_repository_shares_stays() -> None:
    found = [snapshot(ONE, {"m": f"{A}=x"}), snapshot(ONE, {"m": f"{B}=x"}, repo="o/s")]
    one = decide(ROOT, found, {}, [FileSet(repo="o/r", paths=("m",))])
    assert (one.freed_bytes, one.keep[0].reason) == (0, "o/s shares its content")
    both = [FileSet(repo="o/r", paths=("m",)), FileSet(repo="o/s", paths=("m",))]
    assert decide(ROOT, found, {}, both).freed_bytes == 10


def test_partials_go_when_they_are_asked_for_and_keep_their_repository_when_not() -> None:
    found, left = [snapshot(ONE, Q4)], {("o/r", B): 5, ("o/r", C): 7}
    made = decide(ROOT, found, left, [FileSet(repo="o/r", paths=("q4.gguf",), blobs=(B,))])
    assert "partial bbbbbbbb" in gone(made)
    assert "repository models--" not in gone(made)
    assert made.freed_bytes == 15


def test_each_blob_is_named_by_a_file_that_shows_it() -> None:
    found = [snapshot(ONE, {"sub/q4.gguf": A, "q8.gguf": B}), snapshot(TWO, {"q8.gguf": B})]
    wanted = [FileSet(repo="o/r", revision=ONE, paths=("sub/q4.gguf", "q8.gguf"))]
    made = decide(ROOT, found, {}, wanted, alone={("o/r", C): 10})
    folder = f"/c/models--o--r/snapshots/{ONE}"
    assert {i.path[-64:]: i.file for i in made.delete if i.kind == "blob"} == {
        A: f"{folder}/sub/q4.gguf"
    }
    assert [item.file for item in made.keep] == [f"{folder}/q8.gguf"]


def test_a_plain_file_instead_of_a_link_gives_its_bytes_back() -> None:
    made = decide(ROOT, [snapshot(ONE, {"m": ""})], {}, [FileSet(repo="o/r", paths=("m",))])
    assert gone(made) == ["blob m", "snapshot 11111111", "repository models--"]
    assert made.freed_bytes == 10


def test_nothing_wanted_is_nothing_done() -> None:
    found = [snapshot(ONE, Q4)]
    for wanted in ([], [FileSet(repo="o/r")], [FileSet(repo="o/x", paths=("q4.gguf",))]):
        assert decide(ROOT, found, {}, wanted) == DeletionPlan(
            model_ids=(), delete=(), keep=(), freed_bytes=0
        )


# On disk


def filled(shelf: Shelf) -> None:
    shelf.put("o/r", ONE, "q4.gguf", b"4" * 40, ref="main")
    shelf.put("o/r", ONE, "sub/q8.gguf", b"8" * 80)
    shelf.put("o/r", TWO, "q4.gguf", b"4" * 40, ref="v2")


def test_the_receipt_says_what_came_back(shelf: Shelf) -> None:
    filled(shelf)
    made = plan(shelf.root, [FileSet(repo="o/r", paths=("q4.gguf",))])
    receipt = execute(shelf.root, replace(made, model_ids=("id",)))
    assert receipt.model_ids == ("id",)
    assert (receipt.freed_bytes, receipt.failed) == (40, ())
    assert receipt.freed_bytes == made.freed_bytes
    assert receipt.deleted == len(made.delete)
    assert receipt.free_before_bytes is not None
    assert scan_cache_dir(shelf.root).warnings == []
    assert shelf.cache.pointer("o/r", ONE, "sub/q8.gguf").read_bytes() == b"8" * 80
    assert not shelf.cache.snapshot("o/r", TWO).exists()
    assert not shelf.cache.ref("o/r", "v2").exists()
    assert execute(shelf.root, made).deleted == 0


def test_nothing_is_left_of_a_repository_that_is_deleted_whole(shelf: Shelf) -> None:
    filled(shelf)
    (shelf.cache.repo("o/r") / "trees").mkdir()
    (shelf.cache.repo("o/r") / "trees" / f"{ONE}.json").write_text("{}")
    (shelf.cache.repo("o/r") / ".no_exist" / TWO).mkdir(parents=True)
    (shelf.cache.repo("o/r") / ".no_exist" / TWO / "x").touch()
    made = plan(shelf.root, [FileSet(repo="o/r", paths=("q4.gguf", "sub/q8.gguf"))])
    receipt = execute(shelf.root, made)
    assert (receipt.freed_bytes, receipt.failed) == (120, ())
    assert shelf.tree() == []


def test_an_interruption_at_any_step_leaves_a_cache_that_reads(shelf: Shelf) -> None:
    filled(shelf)
    made = plan(shelf.root, [FileSet(repo="o/r", paths=("q4.gguf", "sub/q8.gguf"))])
    for item in made.delete:
        execute(shelf.root, replace(made, delete=(item,)))
        assert scan_cache_dir(shelf.root).warnings == [], item
    assert shelf.tree() == []


def test_what_was_linked_meanwhile_stays(shelf: Shelf) -> None:
    filled(shelf)
    made = plan(shelf.root, [FileSet(repo="o/r", paths=("q4.gguf",))])
    late = "3" * 40
    shelf.put("o/r", late, "q4.gguf", b"4" * 40)
    receipt = execute(shelf.root, made)
    assert receipt.freed_bytes == 0
    assert [reason.rpartition(": ")[2] for reason in receipt.failed] == ["a revision links to it"]
    assert shelf.cache.pointer("o/r", late, "q4.gguf").read_bytes() == b"4" * 40


def test_what_another_program_writes_stays(shelf: Shelf) -> None:
    filled(shelf)
    file = shelf.file("m.gguf", b"m")
    shelf.cache.partial("o/r", file.blob).write_bytes(b"part")
    made = plan(shelf.root, [FileSet(repo="o/r", blobs=(file.blob,))])
    lock = shelf.cache.lock("o/r", file.blob)
    assert lock.try_acquire()
    receipt = execute(shelf.root, made)
    assert (receipt.deleted, len(receipt.failed)) == (0, 1)
    lock.release()
    assert execute(shelf.root, made).freed_bytes == 4


def test_nothing_outside_the_cache_is_touched(shelf: Shelf, tmp_path: Path) -> None:
    filled(shelf)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "q4.gguf").write_text("mine")
    made = plan(shelf.root, [FileSet(repo="o/r", paths=("q4.gguf",))])
    (item, *_) = made.delete
    paths = [tmp_path / "mine" / "q4.gguf", shelf.root / ".." / "mine" / "q4.gguf", shelf.root]
    (shelf.root / "way").symlink_to(tmp_path / "mine")
    paths.append(shelf.root / "way" / "q4.gguf")
    evil = tuple(
        replace(item, path=str(path), kind=kind)
        for path in paths
        for kind in ("blob", "link", "snapshot")
    )
    receipt = execute(shelf.root, replace(made, delete=evil))
    assert (receipt.deleted, len(receipt.failed)) == (0, len(paths)), "each is told once"
    assert (tmp_path / "mine" / "q4.gguf").read_text() == "mine"


@pytest.mark.parametrize("both", [False, True])
def test_a_shared_payload_goes_with_the_last_repository(shelf: Shelf, both: bool) -> None:
    for repo in ("o/a", "o/b"):
        file = shelf.put(repo, ONE, "m.gguf", b"weights")
        assert _shared_blobs.publish_blob_to_shared_store(
            blob_path=str(shelf.cache.blob(repo, file.blob)),
            xet_hash="cd" * 32,
            cache_dir=shelf.root,
            expected_size=7,
        )
    wanted = [FileSet(repo=repo, paths=("m.gguf",)) for repo in ("o/a", "o/b")[: 1 + both]]
    made = plan(shelf.root, wanted)
    receipt = execute(shelf.root, made)
    assert receipt.failed == ()
    assert receipt.freed_bytes == made.freed_bytes == (7 if both else 0)
    assert _shared_blobs.shared_blob_path(shelf.root, "cd" * 32).exists() is not both
    if not both:
        assert shelf.cache.pointer("o/b", ONE, "m.gguf").read_bytes() == b"weights"
    assert scan_cache_dir(shelf.root).warnings == []


def test_what_another_program_removes_meanwhile_is_no_failure(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    for revision in ("1" * 40, "2" * 40):
        shelf.put("o/gone", revision, "m.gguf", b"weights", ref=f"v{revision[0]}")
    planned = plan(shelf.root, [FileSet(repo="o/gone", paths=("m.gguf",))])
    real = os.path.lexists

    def lexists(path: str | os.PathLike[str]) -> bool:
        there = real(path)
        shutil.rmtree(shelf.cache.repo("o/gone"), ignore_errors=True)
        return there

    monkeypatch.setattr(os.path, "lexists", lexists)
    receipt = execute(shelf.root, planned)
    assert receipt.failed == ()
    assert receipt.freed_bytes == 0
