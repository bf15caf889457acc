"""The list of what the cache holds: what counts once, and what would stay."""

from modeldeck.core.hub_cache.inventory import inventory
from modeldeck.core.schema import CachedFile, CachedSnapshot

ONE, TWO = "1" * 40, "2" * 40


def snapshot(
    repo: str, revision: str, *files: CachedFile, refs: tuple[str, ...] = ()
) -> CachedSnapshot:
    return CachedSnapshot(
        repo=repo, revision=revision, refs=refs, folder="/c", files=files, modified_at=5.0
    )


def file(path: str, blob: str, size: int, shared: str = "", used_at: float = 0.0) -> CachedFile:
    return CachedFile(path=path, blob=blob, size_bytes=size, shared=shared, used_at=used_at)


def test_content_that_two_revisions_have_counts_once_and_is_shared() -> None:
    old = snapshot("o/r", ONE, file("a", "a", 10, used_at=3.0), file("b", "b", 5))
    new = snapshot(
        "o/r",
        TWO,
        file("a", "a", 10, used_at=3.0),
        file("copy", "a", 10, used_at=3.0),
        refs=("main",),
    )
    (repo,) = inventory([old, new], {}, lambda s: ["m"] if s is new else [])
    assert (repo.size_bytes, repo.shared_bytes, repo.used_at) == (15, 0, 3.0)
    first, second = repo.revisions
    assert (first.size_bytes, first.shared_bytes, first.files) == (15, 10, 2)
    assert (first.refs, first.models, first.modified_at) == ((), (), 5.0)
    assert (second.size_bytes, second.shared_bytes, second.models) == (10, 10, ("m",))


def test_payloads_that_two_repositories_have_are_shared() -> None:
    found = [snapshot(r, ONE, file("a", "a", 10, "p"), file("b", "b", 1)) for r in ("o/a", "o/b")]
    listed = inventory(found, {})
    assert [(r.repo, r.size_bytes, r.shared_bytes) for r in listed] == [
        ("o/a", 11, 10),
        ("o/b", 11, 10),
    ]


def test_plain_files_are_their_own_and_partials_are_listed_alone_too() -> None:
    found = [snapshot("o/b", ONE, file("a", "", 4)), snapshot("o/b", TWO, file("a", "", 4))]
    listed = inventory(found, {("o/b", "x"): 3, ("o/b", "y"): 4, ("O/a", "x"): 9})
    assert [(r.repo, r.size_bytes, r.partial_bytes, len(r.revisions)) for r in listed] == [
        ("O/a", 0, 9, 0),
        ("o/b", 8, 7, 2),
    ]


def test_an_empty_cache_lists_nothing() -> None:
    assert inventory([], {}) == ()
