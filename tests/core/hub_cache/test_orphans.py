"""Caches without links, as Windows, a NAS or `rsync -L` leave them; and links of other kinds."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from huggingface_hub import scan_cache_dir

from modeldeck.core.hub_cache import orphans
from modeldeck.core.hub_cache.deletion import execute
from modeldeck.core.hub_cache.deletion_plan import FileSet, decide, plan
from modeldeck.core.hub_cache.inventory import inventory
from modeldeck.core.hub_cache.scan import scan
from modeldeck.core.schema import CachedFile, CachedSnapshot

if TYPE_CHECKING:
    from tests.core.hub_cache.conftest import Shelf

ONE, TWO = "1" * 40, "2" * 40
A, B = "a" * 64, "b" * 64


def followed(shelf: Shelf) -> None:
    """Put a plain file in place of every link, as what follows links leaves it."""
    for path in list(shelf.root.rglob("snapshots/**/*")):
        if path.is_symlink():
            content = path.read_bytes()
            path.unlink()
            path.write_bytes(content)


def filled(shelf: Shelf) -> None:
    shelf.put("o/r", ONE, "q4.gguf", b"4" * 40, ref="main")
    shelf.put("o/r", ONE, "q8.gguf", b"8" * 80)
    shelf.put("o/s", ONE, "m.gguf", b"s" * 7, ref="main")


def test_a_linked_cache_has_no_orphans(shelf: Shelf) -> None:
    filled(shelf)
    assert orphans.find(shelf.root) == {}


def test_a_file_that_goes_takes_the_blob_it_is_a_copy_of(shelf: Shelf) -> None:
    filled(shelf)
    followed(shelf)
    assert sorted(orphans.find(shelf.root).values()) == [7, 40, 80]
    made = plan(shelf.root, [FileSet(repo="o/r", paths=("q4.gguf",))])
    assert made.freed_bytes == 80, "the file, and the blob beside it"
    receipt = execute(shelf.root, made)
    assert (receipt.freed_bytes, receipt.failed) == (80, ())
    assert sorted(orphans.find(shelf.root).values()) == [7, 80], "those of other files stay"
    assert scan_cache_dir(shelf.root).warnings == []


def test_a_repository_that_goes_whole_leaves_nothing(shelf: Shelf) -> None:
    filled(shelf)
    followed(shelf)
    (shelf.cache.repo("o/r") / "blobs" / B).write_bytes(b"of a revision that is long gone")
    made = plan(shelf.root, [FileSet(repo="o/r", paths=("q4.gguf", "q8.gguf"))])
    receipt = execute(shelf.root, made)
    assert receipt.failed == ()
    assert receipt.freed_bytes == made.freed_bytes == 2 * 120 + 31
    assert not shelf.cache.repo("o/r").exists()
    assert scan_cache_dir(shelf.root).warnings == []


def test_what_a_download_goes_on_with_stays(shelf: Shelf) -> None:
    filled(shelf)
    followed(shelf)
    needed = {key for key, size in orphans.find(shelf.root).items() if size == 40}
    made = plan(shelf.root, [FileSet(repo="o/r", paths=("q4.gguf", "q8.gguf"))], needed=needed)
    assert made.freed_bytes == 40 + 2 * 80
    assert not any(item.kind == "repository" for item in made.delete)
    execute(shelf.root, made)
    assert set(orphans.find(shelf.root)) == needed | {
        key for key in orphans.find(shelf.root) if key[0] == "o/s"
    }


def test_the_inventory_lists_a_repository_of_which_only_blobs_are_left(shelf: Shelf) -> None:
    filled(shelf)
    shutil.rmtree(shelf.cache.repo("o/r") / "snapshots")
    (listed, _) = inventory(scan(shelf.root), {}, orphan_bytes=orphans.find(shelf.root))
    assert (listed.repo, listed.revisions, listed.size_bytes) == ("o/r", (), 0)
    assert listed.orphan_bytes == 120


def test_a_blob_that_is_linked_meanwhile_stays(shelf: Shelf) -> None:
    filled(shelf)
    followed(shelf)
    made = plan(shelf.root, [FileSet(repo="o/r", paths=("q4.gguf",))])
    (orphan,) = [i for i in made.delete if Path(i.path).parent.name == "blobs"]
    late = shelf.cache.repo("o/r") / "snapshots" / TWO / "q4.gguf"
    late.parent.mkdir()
    late.symlink_to(os.path.relpath(orphan.path, late.parent))
    receipt = execute(shelf.root, made)
    assert receipt.failed == (f"{orphan.path}: a revision links to it",)
    assert late.read_bytes() == b"4" * 40


def plain(*files: tuple[str, int], revision: str = ONE) -> CachedSnapshot:
    return CachedSnapshot(
        repo="o/r",
        revision=revision,
        refs=(),
        folder=f"/c/models--o--r/snapshots/{revision}",
        files=tuple(CachedFile(path=path, blob="", size_bytes=size) for path, size in files),
    )


@pytest.mark.parametrize(
    ("held", "going"),
    [
        ([plain(("q4", 10), ("q8", 20))], [A]),
        ([plain(("q4", 10), ("other", 10))], []),  # which of the two it is a copy of is not told
        ([plain(("q4", 10)), plain(("q4", 10), revision=TWO)], [A, B]),
        ([plain(("q4", 11), ("q8", 20))], []),
        ([plain(("q4", 11))], [A, B]),  # nothing is left of the repository
    ],
)
def test_which_orphans_go_with_a_file(held: list[CachedSnapshot], going: list[str]) -> None:
    alone = {("o/r", A): 10, ("o/r", B): 5}
    made = decide(Path("/c"), held, {}, [FileSet(repo="o/r", paths=("q4",))], (), alone)
    assert [Path(i.path).name for i in made.delete if "/blobs/" in i.path] == going


@pytest.mark.parametrize("absolute", [False, True])
def test_a_cache_behind_a_link_is_listed_whatever_its_links_are(
    shelf: Shelf, tmp_path: Path, absolute: bool
) -> None:
    filled(shelf)
    door = tmp_path / "door"
    door.symlink_to(shelf.root)
    if absolute:  # written by a tool that knew the cache by its real place
        for path in list(shelf.root.rglob("snapshots/**/*")):
            if path.is_symlink():
                target = path.resolve()
                path.unlink()
                path.symlink_to(target)
    found = [file.path for snapshot in scan(door) for file in snapshot.files]
    assert found == ["q4.gguf", "q8.gguf", "m.gguf"]
    assert orphans.find(door) == {}
    receipt = execute(door, plan(door, [FileSet(repo="o/r", paths=("q4.gguf", "q8.gguf"))]))
    assert (receipt.freed_bytes, receipt.failed) == (120, ())
    assert not shelf.cache.repo("o/r").exists()


def test_links_that_lead_elsewhere_are_still_left_out(shelf: Shelf, tmp_path: Path) -> None:
    filled(shelf)
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / A).write_bytes(b"not of this repository")
    (shelf.cache.snapshot("o/r", ONE) / "x").symlink_to(tmp_path / "blobs" / A)
    assert "x" not in [file.path for snapshot in scan(shelf.root) for file in snapshot.files]
