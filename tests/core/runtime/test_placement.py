import pytest

from core.runtime.placement import Candidate, LoadPlan, NoRoom, place

OLD = Candidate(id="old", holds_bytes=40, idle_s=100)
NEW = Candidate(id="new", holds_bytes=30, idle_s=5)
BUSY = Candidate(id="busy", holds_bytes=500, idle_s=None)
PINNED = Candidate(id="pinned", holds_bytes=500, idle_s=900, pinned=True)


@pytest.mark.parametrize(
    ("needed", "available", "may_unload", "unload"),
    [
        (10, 10, False, ()),
        (10, 50, True, ()),
        (50, 10, True, ("old",)),
        (80, 10, True, ("old", "new")),
        (51, 10, True, ("old", "new")),
    ],
)
def test_room_is_made_by_the_longest_idle_and_no_more_than_needed(
    needed: int, available: int, may_unload: bool, unload: tuple[str, ...]
) -> None:
    plan = place(needed, available, [NEW, BUSY, PINNED, OLD], may_unload=may_unload)
    assert plan == LoadPlan(unload=unload)


@pytest.mark.parametrize(("needed", "may_unload"), [(11, False), (81, True), (600, True)])
def test_nothing_is_unloaded_when_it_is_not_allowed_or_not_enough(
    needed: int, may_unload: bool
) -> None:
    answer = place(needed, 10, [NEW, BUSY, PINNED, OLD], may_unload=may_unload)
    assert answer == NoRoom(needed_bytes=needed, available_bytes=10, evictable_bytes=70)


def test_a_reserve_larger_than_what_is_free_counts_as_nothing_free() -> None:
    assert place(5, -100) == NoRoom(needed_bytes=5, available_bytes=0, evictable_bytes=0)
