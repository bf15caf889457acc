"""The arithmetic of downloads, by tables and by properties."""

from __future__ import annotations

import doctest
from dataclasses import replace
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeldeck.core.downloads import job_records
from modeldeck.core.downloads.job_records import (
    AverageRate,
    DownloadJob,
    DurableRanges,
    FileProgress,
    JournalEntry,
    check_room,
    view,
    wait_s,
)
from modeldeck.core.downloads.ranges import ByteRanges, add, clip, covered, front, missing
from modeldeck.core.errors import NotEnoughDisk
from modeldeck.core.schema import DownloadState, RepoFile

SIZE = 40

spans_drawn = st.lists(
    st.tuples(st.integers(0, SIZE), st.integers(0, SIZE)).map(lambda pair: (min(pair), max(pair)))
)


def union(drawn: list[tuple[int, int]]) -> ByteRanges:
    spans: ByteRanges = ()
    for span in drawn:
        spans = add(spans, span)
    return spans


def test_examples() -> None:
    assert doctest.testmod(job_records).failed == 0


@given(spans_drawn)
def test_spans_are_the_bytes_that_were_added(drawn: list[tuple[int, int]]) -> None:
    spans = union(drawn)
    there = {at for start, end in drawn for at in range(start, end)}
    assert {at for start, end in spans for at in range(start, end)} == there
    assert covered(spans) == len(there)
    assert all(a[1] < b[0] for a, b in pairwise(spans))
    gone = {at for start, end in missing(spans, SIZE) for at in range(start, end)}
    assert gone == set(range(SIZE)) - there
    assert front(spans) == next(at for at in range(SIZE + 1) if at not in there)


@given(spans_drawn, st.integers(0, SIZE))
def test_clipping_leaves_what_lies_before(drawn: list[tuple[int, int]], size: int) -> None:
    spans = union(drawn)
    assert covered(clip(spans, size)) == len(
        {at for start, end in spans for at in range(start, end) if at < size}
    )


def job(state: DownloadState = "downloading", *sizes: int) -> DownloadJob:
    return DownloadJob(
        id="j",
        model_id="m",
        unique="a/b",
        repo="a/b",
        revision="0" * 40,
        ref="main",
        state=state,
        files=tuple(
            RepoFile(path=f"{n}.gguf", size_bytes=size, blob=f"{n:064}", lfs=True)
            for n, size in enumerate(sizes)
        ),
    )


def at(*pairs: tuple[int, int]) -> dict[str, FileProgress]:
    return {
        f"{n:064}": FileProgress(received_bytes=received, hashed_bytes=hashed)
        for n, (received, hashed) in enumerate(pairs)
    }


VIEWS = [
    (job("queued", 10, 10), at(), "queued", 0, 0, ["queued", "queued"]),
    (job("downloading", 10, 10), at((4, 2)), "downloading", 4, 2, ["downloading", "queued"]),
    (job("downloading", 10, 10), at((10, 10)), "downloading", 10, 10, ["completed", "queued"]),
    (job("downloading", 10, 9), at((10, 10), (9, 3)), "verifying", 19, 13, None),
    (job("paused", 10), at((4, 4)), "paused", 4, 4, ["paused"]),
    (job("failed", 10), at((99, 99)), "failed", 10, 10, ["failed"]),
    (job("completed", 10, 5), at(), "completed", 15, 15, ["completed", "completed"]),
    (job("downloading", 0), at(), "verifying", 0, 0, ["completed"]),
]


@pytest.mark.parametrize(("given", "progress", "state", "received", "verified", "files"), VIEWS)
def test_what_front_ends_see(
    given: DownloadJob,
    progress: dict[str, FileProgress],
    state: str,
    received: int,
    verified: int,
    files: list[str] | None,
) -> None:
    seen = view(given, progress, 2.0)
    assert (seen.state, seen.received_bytes, seen.verified_bytes) == (state, received, verified)
    assert files is None or [file.state for file in seen.files] == files
    flowing = state == "downloading"
    assert seen.rate_bytes_per_s == (2.0 if flowing else None)
    assert seen.eta_s == ((seen.total_bytes - received) / 2.0 if flowing else None)


def test_one_content_under_two_names_counts_once() -> None:
    twice = job("downloading", 10, 10)
    same = replace(twice.files[1], blob=twice.files[0].blob)
    seen = view(replace(twice, files=(twice.files[0], same)), at((6, 6)))
    assert (seen.total_bytes, seen.received_bytes) == (10, 6)


def test_a_steady_flow_is_told_as_it_is_and_a_stall_fades() -> None:
    pace = AverageRate()
    for tick in range(1, 21):
        pace = pace.after(tick * 250, tick * 0.25)
    assert pace.rate == pytest.approx(1000)
    rates = []
    for tick in range(21, 80):
        pace = pace.after(5000, tick * 0.25)
        rates.append(pace.rate or 0)
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < 100
    assert pace.after(0, 100.0).rate is not None
    assert pace.after(6000, 1.0) == pace


def test_a_burst_does_not_make_the_rate_jump() -> None:
    pace = AverageRate(rate=1000.0, received_bytes=1000, at=1.0)
    burst = pace.after(1000 + 2500, 1.25).rate
    assert burst is not None
    assert 1000 < burst < 1500


def test_nothing_received_has_no_rate_yet() -> None:
    assert AverageRate().after(0, 1.0).rate is None


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_waits_grow_but_not_for_ever(failures: int, chance: float) -> None:
    assert 0.5 <= wait_s(failures, 1.0, chance) <= 30


ROOM = [
    (100, None, 0, 0, True),
    (100, 100, 0, 0, True),
    (101, 100, 0, 0, False),
    (50, 100, 50, 0, True),
    (51, 100, 50, 0, False),
    (50, 100, 0, 51, False),
    (0, 10, 50, 50, True),
    (1, 10, 50, 50, False),
]


@pytest.mark.parametrize(("need", "free", "promised", "floor", "fits"), ROOM)
def test_room_on_disk(need: int, free: int | None, promised: int, floor: int, fits: bool) -> None:
    if fits:
        check_room(need, free, promised, floor)
    else:
        with pytest.raises(NotEnoughDisk):
            check_room(need, free, promised, floor)


ENTRIES = [
    JournalEntry(job=job("paused", 1, 2)),
    JournalEntry(
        claim=DurableRanges(repo="a/b", blob="0" * 64, size_bytes=9, durable=((0, 4), (5, 9)))
    ),
]


@pytest.mark.parametrize("entry", ENTRIES, ids=["job", "claim"])
def test_journal_entries_survive_their_encoding(entry: JournalEntry) -> None:
    assert msgspec.json.decode(msgspec.json.encode(entry), type=JournalEntry) == entry
