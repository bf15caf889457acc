"""Messages fade by a clock; errors are counted until they are seen, or mended by good news."""

from __future__ import annotations

from dataclasses import replace

import pytest
from textual.widgets import ContentSwitcher

from modeldeck.core.schema import (
    Download,
    Instance,
    InstanceState,
    Memory,
    RequestInfo,
    RequestState,
    Runtime,
)
from modeldeck.tui.dashboard.app import Dashboard
from modeldeck.tui.dashboard.messages import MessageList
from modeldeck.tui.dashboard.widgets.notice import NoticeMessage, Severity
from modeldeck.tui.dashboard.widgets.status_bar import StatusBar
from tests.tui.dashboard.test_frame import GIB, STATE, dashboard, drawn, live

pytestmark = pytest.mark.usefixtures("undebugged")


def message(text: str, severity: Severity, about: str = "") -> NoticeMessage:
    return NoticeMessage(text=text, severity=severity, about=about)


@pytest.mark.parametrize(
    ("severity", "seconds"), [("done", 8), ("note", 8), ("refused", 8), ("error", 30)]
)
def test_each_kind_is_shown_for_its_time(severity: Severity, seconds: float) -> None:
    messages = MessageList()
    messages.add(message("x", severity), now=100.0)
    messages.fade(100.0 + seconds - 0.1)
    assert messages.shown is not None
    messages.fade(100.0 + seconds)
    assert messages.shown is None
    assert messages.unseen == (severity == "error")


def test_what_a_question_covers_has_its_time_afterwards() -> None:
    messages = MessageList()
    messages.add(message("x", "done"), now=0.0, hidden=True)
    messages.fade(60.0)
    messages.reveal(60.0)
    messages.fade(67.9)
    assert messages.shown is not None
    messages.fade(68.0)
    assert messages.shown is None


def test_good_news_of_the_same_thing_mends_an_error() -> None:
    messages = MessageList()
    for about in ("a", "b", ""):
        messages.add(message("failed", "error", about), now=0.0)
    messages.add(message("note", "note", "a"), now=0.0)
    assert messages.unseen == 3
    messages.add(message("ready", "done", "a"), now=0.0)
    messages.add(message("copied", "done"), now=0.0)
    assert messages.unseen == 2
    messages.see()
    assert messages.unseen == 0
    messages.add(message("failed", "error"), now=0.0, seen=True)
    assert messages.unseen == 0


async def test_a_refusal_is_shown_whole_and_counts_as_no_failure() -> None:
    app = dashboard()
    async with app.run_test(size=(60, 15)) as pilot:
        await live(app, pilot)
        app.parts.messages.leave_view(for_log=True)  # that there is no core
        app.say(
            "A name of a model that is long is still being downloaded. c cancels it.", "refused"
        )
        await pilot.pause()
        assert drawn(app)[-3].startswith(" ! A name of a model")
        assert "c cancels it." in drawn(app)[-2]
        assert "✗" not in drawn(app)[0]
        await pilot.press("3")
        await pilot.pause()
        assert "c cancels it." not in "\n".join(drawn(app)), "it was about the view before"


async def test_messages_fade_and_the_count_stays_until_the_log_is_opened() -> None:
    app = dashboard()
    now = 0.0
    app.clock = lambda: now

    def shows(words: str) -> bool:
        app._look()
        return (
            app.parts.messages.list.shown is not None
            and words in app.parts.messages.list.shown.text
        )

    async with app.run_test(size=(80, 24)) as pilot:
        await live(app, pilot)
        app.parts.messages.leave_view(for_log=True)  # that there is no core
        body = app.query_one(ContentSwitcher).size.height
        app.say("Copied.", "done")
        await pilot.pause()
        assert "Copied." in drawn(app)[-2]
        assert app.query_one(ContentSwitcher).size.height == body
        now = 8.0
        assert not shows("Copied.")
        await pilot.pause()
        assert "Copied." not in "\n".join(drawn(app))
        app.say("Broken. " * 40, "error")
        await pilot.pause()
        assert app.query_one(ContentSwitcher).size.height == body - 2
        now = 37.9
        assert shows("Broken")
        now = 38.0
        assert not shows("Broken")
        await pilot.pause()
        assert app.query_one(ContentSwitcher).size.height == body
        assert "✗ 1" in drawn(app)[0]
        app.say("Broken again.", "error")
        await pilot.press("3")
        assert not shows("Broken"), "it was about the view before"
        app.say("Broken once more.", "error")
        await pilot.press("escape")
        assert not shows("Broken")
        await pilot.pause()
        assert "✗ 3" in drawn(app)[0]
        await pilot.press("5")
        await pilot.pause()
        assert "✗" not in drawn(app)[0]


# The top line


STATES: tuple[RequestState, ...] = ("writing", "prompt", "waiting", "done", "failed")


def request(number: int, state: RequestState) -> RequestInfo:
    return RequestInfo(
        id=str(number), model_id="m", unique="u", who="laptop", dialect="openai", since="",
        state=state,
    )  # fmt: skip


FULL = replace(
    STATE,
    memory=Memory(total_bytes=64 * GIB, available_bytes=int(41.2 * GIB)),
    runtimes=(
        Runtime(name="llama.cpp", version="0.3.36", available=True, formats=("gguf",)),
        Runtime(name="mlx", available=False, formats=("mlx",)),
    ),
    requests={
        str(n): request(n, state) for n, state in enumerate(STATES)
    },
    downloads={
        "d": Download(
            id="d", model_id="m", unique="o/r:Q8_0", repo="o/r", revision="0" * 40,
            state="downloading", total_bytes=5, rate_bytes_per_s=41e6,
        )
    },
    instances={
        str(n): Instance(
            id=str(n), model_id="m", unique="u", state=InstanceState.READY, engine="llama.cpp"
        )
        for n in range(2)
    },
)  # fmt: skip


def top(app: Dashboard, width: int) -> str:
    """The top line at a width."""
    bar = app.query_one(StatusBar)
    assert bar.size.width == width
    return bar.plain.rstrip()


@pytest.mark.parametrize(
    ("width", "line"),
    [
        (
            120,
            " modeldeck   gpubox   llama.cpp 0.3.36 · mlx —  ↓ 41.0 MB/s (1)   ◐ 2+1"
            "   RAM ▇▇▇▁▁▁▁▁ 22.8/64.0 GiB   ● 2 loaded   ✗ 1",
        ),
        (
            80,
            " gpubox ↓ 41.0 MB/s (1)   ◐ 2+1   RAM ▇▇▇▁▁▁▁▁ 22.8/64.0 GiB   ● 2 loaded   ✗ 1",
        ),
        (60, " gpubox                  ◐ 2+1  RAM 22.8/64.0 GiB  ● 2  ✗ 1"),
        (30, "  RAM 22.8/64.0 GiB  ● 2  ✗ 1"),
        (12, "   ● 2  ✗ 1"),
    ],
)
async def test_the_top_line_keeps_what_matters_most(width: int, line: str) -> None:
    app = dashboard()
    async with app.run_test(size=(width, 24)) as pilot:
        await live(app, pilot)
        app.parts.messages.leave_view(for_log=True)
        bar = app.query_one(StatusBar)
        bar.state = FULL
        app.say("Broken.", "error")
        await pilot.pause()
        assert top(app, width) == line


async def test_demo_stands_after_the_host_and_little_memory_is_seen() -> None:
    app = dashboard()
    async with app.run_test(size=(120, 24)) as pilot:
        await live(app, pilot)
        bar = app.query_one(StatusBar)
        bar._tags = ("demo",)
        bar.state = replace(STATE, memory=Memory(total_bytes=64 * GIB, available_bytes=63 * GIB))
        await pilot.pause()
        assert " modeldeck   gpubox   demo" in bar.plain
        assert "RAM ▇▁▁▁▁▁▁▁  1.0/64.0 GiB" in bar.plain
