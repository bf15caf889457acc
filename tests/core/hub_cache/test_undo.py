"""Deletions that removed no content, taken back."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from modeldeck.core.errors import Conflict
from modeldeck.core.hub_cache import deletion, deletion_plan
from modeldeck.core.hub_cache.deletion_plan import FileSet
from modeldeck.core.hub_cache.scan import scan
from modeldeck.core.hub_cache.undo import remember, restore
from modeldeck.core.schema import DeletionPlan

if TYPE_CHECKING:
    from tests.core.hub_cache.conftest import Shelf

REPO = "deck/one"
OLD, NEW = "1" * 40, "2" * 40


@pytest.fixture
def plan(shelf: Shelf) -> DeletionPlan:
    """The plan to delete a revision whose content another one has."""
    for revision, ref in ((OLD, "v1"), (NEW, "main")):
        shelf.put(REPO, revision, "a.gguf", b"content", ref=ref)
        shelf.put(REPO, revision, "sub/b.json", b"{}", lfs=False)
    paths = ("a.gguf", "sub/b.json")
    return deletion_plan.plan(shelf.root, [FileSet(repo=REPO, revision=OLD, paths=paths)])


def test_links_and_refs_come_back(shelf: Shelf, plan: DeletionPlan) -> None:
    before = scan(shelf.root)
    taken = remember(plan)
    assert taken is not None
    assert deletion.execute(shelf.root, plan).failed == ()
    assert [snapshot.revision for snapshot in scan(shelf.root)] == [NEW]
    restore(taken)
    assert scan(shelf.root) == before
    restore(taken)  # once more changes nothing
    assert scan(shelf.root) == before


def test_what_takes_content_is_not_taken_back(shelf: Shelf, plan: DeletionPlan) -> None:
    both = deletion_plan.plan(shelf.root, [FileSet(repo=REPO, paths=("a.gguf", "sub/b.json"))])
    assert any(item.kind == "blob" for item in both.delete)
    assert remember(both) is None
    assert remember(DeletionPlan(model_ids=(), delete=(), keep=(), freed_bytes=0)) is None


def test_what_came_in_the_way_meanwhile_stays(shelf: Shelf, plan: DeletionPlan) -> None:
    taken = remember(plan)
    assert taken is not None
    deletion.execute(shelf.root, plan)
    link = next(iter(taken.links))
    os.makedirs(os.path.dirname(link))
    with open(link, "w") as stream:
        stream.write("something else")
    with pytest.raises(Conflict, match="another file"):
        restore(taken)
    assert Path(link).read_text() == "something else"
    assert [len(snapshot.files) for snapshot in scan(shelf.root) if snapshot.revision == OLD] == [1]


def test_content_that_went_meanwhile_is_said(shelf: Shelf, plan: DeletionPlan) -> None:
    taken = remember(plan)
    assert taken is not None
    deletion.execute(shelf.root, plan)
    rest = deletion_plan.plan(shelf.root, [FileSet(repo=REPO, paths=("a.gguf", "sub/b.json"))])
    deletion.execute(shelf.root, rest)
    with pytest.raises(Conflict, match="gone by now"):
        restore(taken)
    assert scan(shelf.root) == ()


def test_refs_come_back_in_one_step(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for revision, ref in ((OLD, "refs/pr/1"), (NEW, "main")):
        shelf.put(REPO, revision, "a.gguf", b"content", ref=ref)
    taken = remember(
        deletion_plan.plan(shelf.root, [FileSet(repo=REPO, revision=OLD, paths=("a.gguf",))])
    )
    assert taken is not None
    (ref,) = taken.refs
    Path(ref).unlink()
    moved: list[tuple[Path, Path]] = []
    real = os.replace

    def replace(old: Path, new: Path) -> None:
        moved.append((Path(old), Path(new)))
        assert Path(old).read_text() == OLD
        real(old, new)

    monkeypatch.setattr(os, "replace", replace)
    restore(taken)
    # The temporary file lies beside `refs`: whatever lies in there is a ref to other tools.
    assert [(old.parent, new) for old, new in moved] == [(shelf.cache.repo(REPO), Path(ref))]
    assert Path(ref).read_text() == OLD


def test_a_ref_that_is_no_text_is_in_the_way(shelf: Shelf, plan: DeletionPlan) -> None:
    taken = remember(plan)
    assert taken is not None
    (ref,) = taken.refs
    Path(ref).write_bytes(b"\xff\xfe")
    with pytest.raises(Conflict, match="another revision"):
        restore(taken)
