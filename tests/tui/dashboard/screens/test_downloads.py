"""Every verb of the Downloads view, against a real core and hub."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from modeldeck.core.client.client import Client
from modeldeck.core.demo.hub import DemoHub
from modeldeck.core.schema import Download, DownloadState
from modeldeck.tui.dashboard.screens.downloads.rows import DownloadRow
from modeldeck.tui.dashboard.screens.downloads.screen import RATE_CELLS, DownloadsView
from modeldeck.tui.dashboard.widgets.table import Table
from modeldeck.tui.text.format import ASCII, UNICODE
from tests.tui.conftest import PATIENCE_S

PADDED = "deck/padded-GGUF:F16"
SPLIT = "deck/tiny-split-GGUF:F16"
TINY = "deck/tiny-GGUF:Q8_0"
CORRUPT = "deck/corrupt-GGUF:Q8_0"

SLOW = 50_000
"""Bytes a second of each connection: whatever their number, `PADDED` does not end meanwhile."""
CRAWL = 10_000
"""Bytes a second of all downloads together: even a small one takes minutes."""


async def fetch(client: Client, *names: str) -> None:
    """Download these to their end."""
    for name in names:
        await client.download(name)
    await client.feed.until(
        lambda s: all(
            any(j.unique == n and j.state in ("completed", "failed") for j in s.downloads.values())
            for n in names
        )
    )


async def begin(client: Client, name: str = PADDED) -> None:
    """Download this until some of it is here."""
    await client.download(name)
    try:
        async with asyncio.timeout(PATIENCE_S):
            await client.feed.until(lambda s: any(j.received_bytes for j in s.downloads.values()))
    except TimeoutError:
        raise AssertionError(f"nothing arrived: {(await client.state()).downloads}") from None


async def test_no_line_grows_while_nothing_is_downloaded(screen: Any) -> None:
    async with screen("downloads", size=(120, 40)) as at:
        await at.sees("No downloads.")
        view: DownloadsView = at.app.query_one(DownloadsView)

        def cells_known() -> int:
            rates = view._rate.values(time.monotonic(), RATE_CELLS)
            return sum(rate is not None for rate in rates)

        await at.until(lambda: cells_known() >= 2)
        assert UNICODE.levels[0] not in at.text.splitlines()[1]


def job(screen: Any, name: str = PADDED) -> Download:
    found = [j for j in screen.state.downloads.values() if j.unique == name]
    return (
        found[0]
        if found
        else Download(id="", model_id="", unique=name, repo="", revision="", state="queued")
    )


def state(screen: Any, name: str = PADDED) -> DownloadState:
    return job(screen, name).state


def table(screen: Any) -> Table[DownloadRow]:
    found: Table[DownloadRow] = screen.app.query_one("#downloads Table", Table)
    return found


async def test_an_empty_list_says_what_to_do(screen: Any) -> None:
    async with screen("downloads") as at:
        await at.sees("no downloads", "No downloads.", "choose a model, then d", "free")


async def test_a_download_is_seen_from_its_start_to_its_end(screen: Any, hub: DemoHub) -> None:
    hub.rate_bytes_per_s = SLOW
    async with screen("downloads") as at:
        await at.client.download(PADDED)
        await at.sees("1 active", "padded F16", "downloading", "B/s", "left afterwards")
        await at.until(lambda: job(at).received_bytes > 0)
        hub.rate_bytes_per_s = None
        await at.sees("1 downloaded", "verified", "✓")
        assert "left afterwards" not in at.text


async def test_cancel_keeps_what_arrived_and_retry_goes_on_from_there(
    screen: Any, hub: DemoHub
) -> None:
    hub.rate_bytes_per_s = SLOW
    since = len(hub.log)
    async with screen("downloads", before=begin) as at:
        await at.sees("downloading")
        await at.press("c")
        await at.until(lambda: state(at) == "canceled")
        await at.sees("1 cancelled", "kept: r resumes.")
        kept = job(at).received_bytes
        assert kept > 0
        hub.rate_bytes_per_s = None
        await at.press("r")
        await at.until(lambda: state(at) == "completed")
        sent = sum(e.bytes_sent for e in hub.log[since:] if e.file.endswith("padded-F16.gguf"))
        assert sent < 2 * job(at).total_bytes


async def test_cancel_and_delete_shows_the_bytes_and_asks(screen: Any, hub: DemoHub) -> None:
    hub.rate_bytes_per_s = SLOW
    async with screen("downloads", before=begin) as at:
        await at.sees("downloading")
        await at.press("C")
        await at.sees(
            "Cancel 1 download and delete what arrived", PADDED, "y delete it  n esc keep it"
        )
        await at.press("n")
        await at.until(lambda: "y delete it" not in at.text)
        assert state(at) == "downloading"
        await at.press("C")
        await at.sees("y delete it")
        await at.press("y")
        await at.until(lambda: state(at) == "canceled")
        await at.sees("deleted", "nothing kept")
        assert job(at).received_bytes == 0
        assert at.app.focused is table(at)


async def test_pause_holds_and_lets_go_on(screen: Any, hub: DemoHub) -> None:
    hub.rate_bytes_per_s = SLOW
    async with screen("downloads", before=begin) as at:
        await at.sees("downloading")
        await at.press("p")
        await at.until(lambda: state(at) == "paused")
        await at.sees("1 paused", "‖", "paused; p resumes it")
        hub.rate_bytes_per_s = None
        await at.press("p")
        await at.until(lambda: state(at) == "completed")


async def test_a_failed_download_says_why_and_can_be_tried_again(screen: Any, hub: DemoHub) -> None:
    async with screen("downloads", before=lambda c: fetch(c, CORRUPT)) as at:
        await at.sees("✗", "failed", "1 failed", "corrupt-Q8_0.gguf arrived")
        before = len(hub.log)
        await at.press("r")
        await at.until(lambda: len(hub.log) > before and state(at, CORRUPT) == "failed")


async def test_finished_ones_are_cleared_at_once(screen: Any) -> None:
    async with screen("downloads", before=lambda c: fetch(c, TINY, SPLIT)) as at:
        await at.sees("2 downloaded")
        await at.press("X")
        await at.until(lambda: not at.state.downloads)
        await at.sees("2 downloads cleared", "no downloads")
        await at.until(
            lambda: {m.unique for m in at.state.models.values() if m.downloaded} >= {TINY, SPLIT}
        )
        await at.press("z")
        await at.sees("Undone: download of")
        await at.until(lambda: len(at.state.downloads) == 1)


async def test_clearing_asks_where_it_deletes_what_arrived(screen: Any, hub: DemoHub) -> None:
    async def half(client: Client) -> None:
        await fetch(client, TINY)
        hub.rate_bytes_per_s = SLOW
        await client.download(PADDED)
        reached = await client.feed.until(
            lambda s: any(j.unique == PADDED and j.received_bytes for j in s.downloads.values())
        )
        key = next(j.id for j in reached.downloads.values() if j.unique == PADDED)
        await client.cancel_download(key)

    async with screen("downloads", before=half) as at:
        await at.sees("1 cancelled", "1 downloaded")
        await at.press("X")
        await at.sees("Clear 2 downloads that ended", PADDED, "y clear them  n esc keep them")
        await at.press("escape")
        await at.until(lambda: "y clear them" not in at.text)
        assert len(at.state.downloads) == 2
        await at.press("X", "y")
        await at.until(lambda: not at.state.downloads)


async def test_enter_shows_the_files_and_esc_hides_them(screen: Any) -> None:
    async with screen("downloads", before=lambda c: fetch(c, SPLIT)) as at:
        await at.sees("tiny-split F16")
        assert "00001-of-00003" not in at.text
        await at.press("enter")
        await at.sees("└", "00001-of-00003", "00003-of-00003")
        await at.press("j", "enter")
        await at.until(lambda: "00001-of-00003" not in at.text)
        await at.press("enter")
        await at.sees("00001-of-00003")
        await at.press("escape")
        await at.until(lambda: "00001-of-00003" not in at.text)


async def test_a_verb_acts_on_every_marked_row(screen: Any) -> None:
    async def both(client: Client) -> None:
        await client.change_settings(rate_limit_bytes_per_s=CRAWL)
        await begin(client)
        await begin(client, "deck/tiny-GGUF:F16")

    async with screen("downloads", before=both) as at:
        await at.until(lambda: len(table(at).items) == 2)
        await at.press("g", "space", "space", "p")
        await at.until(lambda: [j.state for j in at.state.downloads.values()] == ["paused"] * 2)
        await at.sees("2 downloads paused", "2 paused")
        assert not table(at).marks


async def test_what_means_nothing_is_said_and_not_asked_of_the_core(screen: Any) -> None:
    async with screen("downloads", before=lambda c: fetch(c, TINY)) as at:
        await at.sees("1 downloaded")
        await at.press("c")
        await at.sees("! tiny Q8_0 is downloaded: there is nothing to cancel.")
        await at.press("p")
        await at.sees("there is nothing to pause")
        await at.press("r")
        await at.sees("there is nothing to retry")


async def test_verbs_on_an_empty_list_do_no_harm(screen: Any) -> None:
    async with screen("downloads") as at:
        await at.press("c", "C", "p", "r", "K", "J", "B", "enter", "y", "escape", "X")
        await at.sees("Nothing has ended yet.")


async def test_y_copies_the_name(screen: Any) -> None:
    async with screen("downloads", before=lambda c: fetch(c, TINY)) as at:
        await at.sees("1 downloaded")
        await at.press("y")
        await at.sees(f"{TINY} copied")
        assert at.app.clipboard == TINY


async def test_the_cursor_stays_on_its_row_when_rows_move(screen: Any, hub: DemoHub) -> None:
    async with screen("downloads", before=lambda c: fetch(c, TINY, SPLIT)) as at:
        await at.until(lambda: len(table(at).items) == 2)
        await at.press("G")
        key = table(at).cursor_key
        hub.rate_bytes_per_s = SLOW
        await begin(at.client)
        await at.until(lambda: len(table(at).items) == 3)
        assert table(at).cursor_key == key
        assert table(at).items[0].job.unique == PADDED


async def three(client: Client) -> None:
    """One that runs, and two that wait; all so slow that none ends in the meantime."""
    await client.change_settings(jobs_at_once=1, rate_limit_bytes_per_s=CRAWL)
    await begin(client)
    for name in (TINY, SPLIT):
        await client.download(name)


def order(screen: Any) -> list[str]:
    """What is listed, from above."""
    return [row.job.unique for row in table(screen).items]


def under_cursor(screen: Any) -> str | None:
    """The model of the row under the cursor."""
    row = table(screen).cursor_item
    return row.job.unique if row else None


async def test_a_job_moves_in_the_queue_and_the_cursor_follows(screen: Any) -> None:
    async with screen("downloads", before=three) as at:
        await at.until(lambda: order(at) == [PADDED, TINY, SPLIT])
        await at.press("G", "K")
        await at.until(lambda: order(at) == [PADDED, SPLIT, TINY])
        assert under_cursor(at) == SPLIT
        await at.press("K")
        await at.until(lambda: order(at) == [SPLIT, PADDED, TINY])
        await at.until(lambda: state(at, PADDED) == "queued")
        await at.press("K")
        await at.sees("tiny-split F16 is the first in the queue.")
        await at.press("J")
        await at.until(lambda: order(at) == [PADDED, SPLIT, TINY])
        assert under_cursor(at) == SPLIT
        await at.press("G", "J")
        await at.sees("tiny Q8_0 is the last in the queue.")


@pytest.mark.parametrize(
    ("name", "stands"), [(TINY, "tiny Q8_0 is downloaded"), (CORRUPT, "corrupt Q8_0 failed")]
)
async def test_what_has_ended_stands_in_no_queue(screen: Any, name: str, stands: str) -> None:
    async with screen("downloads", before=lambda c: fetch(c, name)) as at:
        await at.sees("1 downloaded" if name == TINY else "1 failed")
        await at.press("K")
        await at.sees(f"! {stands}; only waiting downloads can be moved.")


@pytest.mark.parametrize(
    ("name", "key", "words"),
    [
        (CORRUPT, "p", "corrupt Q8_0 failed: there is nothing to pause."),
        (TINY, "B", "tiny Q8_0 is downloaded: there is nothing to limit."),
    ],
)
async def test_a_key_that_does_not_apply_says_how_the_download_stands(
    screen: Any, name: str, key: str, words: str
) -> None:
    async with screen("downloads", before=lambda c: fetch(c, name)) as at:
        await at.sees("1 downloaded" if name == TINY else "1 failed")
        await at.press(key)
        await at.sees(f"! {words}")


async def test_the_limit_of_all_is_written_on_a_line(screen: Any, hub: DemoHub) -> None:
    hub.rate_bytes_per_s = SLOW
    async with screen("downloads", before=begin) as at:
        await at.sees("limit none [b]")
        await at.press("b")
        await at.sees("Limit of all downloads together", "such as 2.5 MB/s", "empty for none")
        await at.press(*"fast", "enter")
        await at.sees("'fast' is not a rate.")
        await at.press("ctrl+u", *"2.5 MB/s", "enter")
        await at.sees("Total limit: 2.5 MB/s at most", "limit 2.5 MB/s [b]")
        assert at.state.settings.rate_limit_bytes_per_s == 2_500_000
        await at.press("b")
        await at.sees("Limit of all downloads together")
        await at.press("escape")
        await at.until(lambda: at.app.focused is table(at))
        await at.press("b")
        await at.sees("Limit of all downloads together")
        await at.press("ctrl+u", "enter")
        await at.sees("Total limit: no limit", "limit none [b]")
        assert at.state.settings.rate_limit_bytes_per_s is None


async def test_the_head_says_why_another_limit_holds(screen: Any) -> None:
    async def scheduled(client: Client) -> None:
        await client.change_settings(schedule={"00:00-24:00": 5_000_000})

    async with screen("downloads", before=scheduled) as at:
        await at.sees("limit 5.0 MB/s (schedule) [b]")
        await at.press("b")
        await at.sees("Limit of all downloads together")
        await at.press(*"1 MB/s", "enter")
        await at.sees("1.0 MB/s at most; 5.0 MB/s for now (schedule)")


async def test_the_limit_of_one_is_written_on_a_line(screen: Any, hub: DemoHub) -> None:
    hub.rate_bytes_per_s = SLOW
    async with screen("downloads", before=begin) as at:
        await at.sees("downloading")
        await at.press("B")
        await at.sees("Limit of padded F16")
        await at.press(*"50k", "enter")
        await at.sees("padded F16: 50.0 kB/s at most", "limit 50.0 kB/s")
        assert job(at).rate_limit_bytes_per_s == 50_000
        assert at.state.settings.rate_limit_bytes_per_s is None
        await at.press("B")
        await at.sees("Limit of padded F16")
        await at.press("ctrl+u", "enter")
        await at.sees("no limit")
        await at.until(lambda: job(at).rate_limit_bytes_per_s is None)


@pytest.mark.parametrize(
    ("size", "there", "gone"),
    [
        ((120, 40), ["model", "state", "progress", "rate", "left", " of "], []),
        ((80, 24), ["model", "state", "progress", "rate", "left"], []),
        ((60, 15), ["model", "state", "left", " %"], ["progress"]),
    ],
)
async def test_columns_fall_away_by_rank(
    screen: Any, hub: DemoHub, size: tuple[int, int], there: list[str], gone: list[str]
) -> None:
    hub.rate_bytes_per_s = SLOW
    async with screen("downloads", size=size, before=begin) as at:
        await at.sees("padded F16", "downloading", *there)
        assert not [word for word in gone if word in at.text]
        assert all(len(line) <= size[0] for line in at.text.splitlines())


async def test_it_is_drawn_in_ascii(screen: Any, hub: DemoHub) -> None:
    hub.rate_bytes_per_s = SLOW
    async with screen("downloads", glyphs=ASCII, before=begin) as at:
        await at.sees("padded F16", "downloading", "#")
        await at.press("enter")
        await at.sees("padded-F16.gguf")
        view = at.app.query_one("#downloads")
        lines = at.text.splitlines()[view.region.y : view.region.bottom]
        assert "".join(lines).isascii()


async def test_nothing_is_drawn_while_its_parts_are_removed(screen: Any) -> None:
    async with screen("downloads") as at:
        view = at.app.query_one(DownloadsView)
        await view.query_one(Table).remove()
        view.redraw()
