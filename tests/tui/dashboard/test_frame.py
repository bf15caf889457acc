"""The frame: top line, footer, notice and help, at every size, colour depth and in ASCII."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from rich.cells import cell_len
from textual.pilot import Pilot
from textual.theme import Theme

from modeldeck.core.client.client import Client
from modeldeck.core.config.config import Tui
from modeldeck.core.errors import CoreUnreachable, StorageFailed
from modeldeck.core.schema import Host, Memory
from modeldeck.core.schema.state import State
from modeldeck.tui.dashboard import app as app_module
from modeldeck.tui.dashboard import screens, theme
from modeldeck.tui.dashboard.app import Dashboard
from modeldeck.tui.dashboard.ascii_filter import plain
from modeldeck.tui.dashboard.command_registry import NO_ANSWER, OF_THE_CORE
from modeldeck.tui.dashboard.dialogs.theme_picker import ThemePicker
from modeldeck.tui.dashboard.options import DashboardOptions
from modeldeck.tui.remote.core_link import Attach, LinkState, LinkStatus
from modeldeck.tui.text.format import ASCII, UNICODE, Glyphs
from tests.support.process import CoreProcess
from tests.tui.conftest import PATIENCE_S

GIB = 1 << 30
STATE = State(
    host=Host(name="gpubox", version="1", started_at="2026-01-01T00:00:00Z"),
    memory=Memory(total_bytes=64 * GIB, available_bytes=46 * GIB),
)

pytestmark = pytest.mark.usefixtures("undebugged")


@asynccontextmanager
async def no_core() -> AsyncIterator[Client]:
    """No core at all: the frame must stand all the same."""
    raise CoreUnreachable("No core is running.", "`modeldeck serve` starts one.")
    yield Client()


@asynccontextmanager
async def silent() -> AsyncIterator[Client]:
    """A core that never answers, so that nothing overwrites what a test puts in the link."""
    await asyncio.Event().wait()
    yield Client()


def dashboard(
    *,
    cores: Attach = silent,
    glyphs: Glyphs = UNICODE,
    chosen: str = theme.DEFAULT,
    keymap: Mapping[str, str] | None = None,
) -> Dashboard:
    return Dashboard(
        cores,
        DashboardOptions(
            glyphs=glyphs, settings=Tui(theme=chosen), keymap=keymap or {}, themes=theme.load(None)
        ),
    )


def drawn(app: Dashboard) -> list[str]:
    return [strip.text for strip in app.screen._compositor.render_strips()]


def escapes(app: Dashboard) -> str:
    """What is sent to the terminal for the whole screen."""
    console = app.console
    return "".join(strip.render(console) + "\n" for strip in app.screen._compositor.render_strips())


async def live(app: Dashboard, pilot: Pilot[None]) -> None:
    """As if a core had answered, once the views stand."""
    while not app.survives:
        await pilot.pause()
    app.link.latest = STATE
    app.link._status = LinkStatus(state=LinkState.LIVE)
    app._look()
    await pilot.pause()


async def until(pilot: Pilot[None], condition: Callable[[], bool]) -> None:
    """Wait until the condition holds; pytest's time limit names the test where it never does."""
    while not condition():
        await pilot.pause()


@pytest.mark.parametrize("size", [(120, 40), (80, 24), (60, 15)])
async def test_the_frame_stands_at_every_size(size: tuple[int, int]) -> None:
    app = dashboard()
    async with app.run_test(size=size) as pilot:
        await live(app, pilot)
        lines = drawn(app)
        assert len(lines) == size[1]
        assert all(cell_len(line) == size[0] for line in lines)
        assert "18.0/64.0 GiB" in lines[0]
        assert "0 loaded" in lines[0]
        assert "1 Catalog" in lines[-1]
        assert "? help" in lines[-1]


@pytest.mark.parametrize("size", [(60, 3), (30, 1), (12, 1), (80, 5)])
async def test_under_that_one_line_is_left_and_the_place_is_kept(size: tuple[int, int]) -> None:
    app = dashboard()
    async with app.run_test(size=(80, 24)) as pilot:
        await live(app, pilot)
        await pilot.press("5")
        focused = app.focused
        assert focused is not None
        await pilot.resize_terminal(*size)
        await pilot.pause()
        lines = drawn(app)
        assert "loaded" in lines[0]
        assert all(not line.strip() for line in lines[1:])
        await pilot.resize_terminal(80, 24)
        await pilot.pause()
        assert app.focused is focused
        assert app.current == "log"
        assert "5 Log" in drawn(app)[-1]


async def test_a_core_that_cannot_be_had_is_said_with_what_to_do() -> None:
    app = dashboard(cores=no_core)
    async with app.run_test(size=(80, 24)) as pilot:
        while app.link_status.state is not LinkState.FAILED:
            await pilot.pause(0.05)
        await pilot.pause()
        text = "\n".join(drawn(app))
        assert "✗ no core" in text
        assert "`modeldeck serve` starts one." in text


@pytest.mark.parametrize("answers", [True, False])
async def test_the_first_answer_of_a_core_is_not_left_for_the_next_look(
    core: CoreProcess, monkeypatch: pytest.MonkeyPatch, answers: bool
) -> None:
    monkeypatch.setattr(app_module, "REFRESH_S", 3600)
    app = dashboard(cores=partial(Client, socket=core.socket) if answers else no_core)
    async with app.run_test(size=(80, 24)) as pilot:
        async with asyncio.timeout(PATIENCE_S):
            while ("0 loaded" if answers else "✗ no core") not in "\n".join(drawn(app)):
                await pilot.pause(0.02)


async def test_an_error_may_take_three_lines_and_other_notices_one() -> None:
    app = dashboard()
    async with app.run_test(size=(60, 15)) as pilot:
        await live(app, pilot)
        words = " ".join(f"word{n}" for n in range(18))
        app.say(words, "error")
        await pilot.pause()
        text = " ".join(" ".join(drawn(app)).split())
        assert "word17" in text
        long = " ".join(f"word{n}" for n in range(60))
        app.say(long, "error")
        await pilot.pause()
        text = " ".join(" ".join(drawn(app)).split())
        assert "✗ word0 " in text, "what happened"
        assert " … " in text
        assert "word58 word59" in text, "what to do"
        app.say(words, "done")
        await pilot.pause()
        assert "word17" not in "\n".join(drawn(app))
        assert "…" in drawn(app)[-2]


@pytest.mark.parametrize(("view", "key"), [("1", "d"), ("2", "p"), ("3", "u"), ("3", "U")])
async def test_a_verb_before_the_core_has_answered_says_that_nothing_was_done(
    view: str, key: str
) -> None:
    app = dashboard()
    app.clock = lambda: 0.0  # no message fades
    async with app.run_test(size=(80, 24)) as pilot:
        while not app.survives:
            await pilot.pause()
        await pilot.press(view)
        assert NO_ANSWER not in "\n".join(drawn(app))
        await pilot.press(key)
        await until(pilot, lambda: NO_ANSWER in "\n".join(drawn(app)))
        await live(app, pilot)
        await pilot.press("escape", key)
        assert sum(NO_ANSWER in message.text for message in app.messages) == 1


def test_views_of_the_core_are_views() -> None:
    assert {view.name for view in screens.ALL} > OF_THE_CORE


async def test_hostile_words_cannot_break_the_frame() -> None:
    app = dashboard()
    async with app.run_test(size=(80, 24)) as pilot:
        await live(app, pilot)
        app.link.latest = replace(
            STATE, host=replace(STATE.host, name="evil\x1b[2J\u202e[b]" + "名" * 40)
        )
        app._look()
        app.say("\x1b]0;owned\x07[red]x[/red]\u202e" + "🦙" * 300, "error")
        await pilot.pause()
        lines = drawn(app)
        assert all(cell_len(line) == 80 for line in lines)
        assert all(c.isprintable() for line in lines for c in line)
        assert "[red]x[/red]" in "\n".join(lines)


async def test_a_timer_or_worker_that_comes_while_it_is_taken_down_finds_nothing_to_do() -> None:
    app = dashboard()
    async with app.run_test(size=(80, 24)) as pilot:
        await live(app, pilot)
    assert not app.screen_stack
    app._look()
    app.keys_changed()
    app.say("too late to be shown")
    assert app.messages[-1].text == "too late to be shown"


async def test_tab_goes_round_and_footer_can_be_clicked() -> None:
    app = dashboard()
    async with app.run_test(size=(120, 40)) as pilot:
        await live(app, pilot)
        for name in ("downloads", "memory", "chat", "log", "catalog"):
            await pilot.press("tab")
            while app.current != name:
                await pilot.pause()
        await pilot.press("shift+tab")
        await until(pilot, lambda: app.current == "log" and "3 Memory" in drawn(app)[-1])
        await pilot.click("Footer", offset=(drawn(app)[-1].index("3 Memory") + 2, 0))
        await until(pilot, lambda: app.current == "memory" and "? help" in drawn(app)[-1])
        await pilot.click("Footer", offset=(drawn(app)[-1].index("? help") + 1, 0))
        await until(pilot, lambda: "Everywhere" in "\n".join(drawn(app)))


@pytest.mark.parametrize("size", [(120, 40), (80, 24), (60, 15), (30, 8)])
async def test_help_shows_every_key_and_scrolls(size: tuple[int, int]) -> None:
    app = dashboard(keymap={"app.theme": "f9"})
    async with app.run_test(size=size) as pilot:
        await live(app, pilot)
        await pilot.press("5", "question_mark", "g")
        seen = ""
        for _ in range(40):
            await pilot.pause()
            seen += "\n".join(drawn(app))
            await pilot.press("pagedown")
        assert "f9" in seen
        assert "ctrl+t" not in seen
        assert all(heading in seen for heading in ("Log", "Lists", "Everywhere"))
        await pilot.press("escape")
        await pilot.pause()
        assert "Keys" not in "\n".join(drawn(app))


async def test_ascii_draws_nothing_else() -> None:
    app = dashboard(glyphs=ASCII)
    async with app.run_test(size=(120, 40)) as pilot:
        await live(app, pilot)
        app.say("Zoë · 名前 … █ ╭─╮", "error")
        for keys in (("1",), ("2",), ("3",), ("4",), ("5",), ("question_mark",)):
            await pilot.press(*keys)
            await pilot.pause()
            lines = drawn(app)
            assert all(line.isascii() for line in lines), [x for x in lines if not x.isascii()]
            assert all(len(line) == 120 for line in lines)
        await pilot.press("escape", "ctrl+t")
        await pilot.pause()
        assert all(line.isascii() for line in drawn(app))


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("plain", "plain"),
        ("╭─┤x├─╮", "+-+x+-+"),
        ("▁▄▇█", "_-*#"),
        ("naïve", "naive"),
        ("名", "??"),
    ],
)
def test_what_stands_for_what_in_ascii(text: str, seen: str) -> None:
    assert plain(text) == seen
    assert cell_len(seen) == cell_len(text)


async def test_no_color_sends_no_colour_and_the_place_is_still_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    app = dashboard()
    async with app.run_test(size=(80, 24)) as pilot:
        await live(app, pilot)
        assert app.theme == theme.PLAIN
        sent = escapes(app)
        codes = {
            code
            for sequence in sent.split("\x1b[")[1:]
            for code in sequence.split("m")[0].split(";")
        }
        assert not codes & {*map(str, (*range(30, 39), *range(40, 49))), "90", "100"}
        assert "7" in codes  # the view in front stands out by being reversed


@pytest.mark.parametrize(
    ("term", "colorterm", "shown"),
    [
        ("xterm", "", theme.SIXTEEN),
        ("linux", "", theme.SIXTEEN),
        ("xterm-256color", "", theme.DEFAULT),
        ("xterm-256color", "truecolor", theme.DEFAULT),
        ("dumb", "", theme.PLAIN),
    ],
)
async def test_every_terminal_gets_a_theme_that_it_can_show(
    monkeypatch: pytest.MonkeyPatch, term: str, colorterm: str, shown: str
) -> None:
    monkeypatch.setenv("TERM", term)
    monkeypatch.setenv("COLORTERM", colorterm)
    assert dashboard().theme == shown


async def test_sixteen_colours_send_the_terminals_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLORTERM", "")
    app = dashboard()
    async with app.run_test(size=(80, 24)) as pilot:
        await live(app, pilot)
        sent = escapes(app)
        assert not re.search(r"[34]8;2;", sent)
        assert "38;5" not in sent


async def test_the_picker_previews_keeps_and_brings_back() -> None:
    kept: list[str] = []
    app = dashboard()
    app.parts.themes.keep = kept.append
    async with app.run_test(size=(80, 24)) as pilot:
        await live(app, pilot)
        await pilot.press("ctrl+t")
        await pilot.pause()
        assert isinstance(app.screen, ThemePicker)
        await pilot.press("j")
        await pilot.pause()
        assert app.theme == "deck-light"
        await pilot.press("escape")
        await pilot.pause()
        assert app.theme == theme.DEFAULT
        await pilot.press("ctrl+t")
        await pilot.pause()
        await pilot.press("k", "k", "enter")
        while not kept:
            await pilot.pause()
        assert app.theme == "contrast"
        assert kept == ["contrast"]


async def test_a_theme_that_cannot_be_kept_is_said() -> None:
    def refuse(_: str) -> None:
        raise StorageFailed("config.toml cannot be changed.", "Mend its permissions.")

    app = dashboard()
    app.parts.themes.keep = refuse
    async with app.run_test(size=(80, 24)) as pilot:
        await live(app, pilot)
        await pilot.press("ctrl+t", "enter")
        while "Mend its permissions." not in "\n".join(drawn(app)):
            await pilot.pause()


@pytest.mark.parametrize("shipped", theme.load(None).themes, ids=lambda shipped: shipped.name)
async def test_every_theme_draws_every_screen(shipped: Theme) -> None:
    app = dashboard()
    async with app.run_test(size=(80, 24)) as pilot:
        await live(app, pilot)
        app.theme = shipped.name
        for key in "12345":
            await pilot.press("escape", "escape", key)
            await pilot.pause()
            assert app.current in drawn(app)[-1].casefold()
        await pilot.press("escape", "question_mark")
        await pilot.pause()
        assert "Keys" in "\n".join(drawn(app))


async def test_a_broken_theme_of_ones_own_is_a_notice(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text('name = "bad"\nprimary = "no colour"\n')
    app = Dashboard(
        no_core,
        DashboardOptions(glyphs=UNICODE, settings=Tui(), keymap={}, themes=theme.load(tmp_path)),
    )
    async with app.run_test(size=(80, 24)) as pilot:
        while app.link.status.state is LinkState.CONNECTING:
            await pilot.pause()
        assert any("bad.toml" in message.text for message in app.messages)
