"""The Log view: lines of a real core and a real engine, notices, and the audit trail."""

from __future__ import annotations

import os
from typing import Any

import pytest
from textual.theme import Theme

from modeldeck.core.client.client import Client
from modeldeck.core.errors import DeckError
from modeldeck.core.schema import AuditEntry, LoadOptions, LogLine
from modeldeck.tui.dashboard.screens.log.rows import (
    ALL,
    AUDIT,
    CORE,
    DASHBOARD,
    LANGUAGE,
    Filters,
    LogEntry,
    _whos,
    columns,
    drawn,
    of_audit,
    of_line,
    select,
    sources,
    titled,
)
from modeldeck.tui.dashboard.screens.log.screen import LogView
from modeldeck.tui.dashboard.screens.log.whole_line import WholeLine
from modeldeck.tui.dashboard.theme import ink
from modeldeck.tui.dashboard.widgets.column_choice import ColumnChoice
from modeldeck.tui.dashboard.widgets.table import Table
from modeldeck.tui.text.format import UNICODE
from tests.support.process import CoreProcess

TINY = "deck/tiny-GGUF:Q8_0"
BROKEN = "deck/broken-GGUF:Q8_0"


@pytest.fixture(scope="module")
def core(shared_core: CoreProcess) -> CoreProcess:
    """One core for all of these tests, with what the ones before left in it."""
    return shared_core


async def failed(client: Client) -> None:
    """Have an engine say why it refuses a file."""
    await client.download(BROKEN, force=True)
    await client.feed.until(
        lambda s: any(j.unique == BROKEN and j.state == "completed" for j in s.downloads.values())
    )
    with pytest.raises(DeckError):
        await client.loaded(BROKEN, LoadOptions(context_length=512), force=True)


async def fetched(client: Client) -> None:
    """Do something that the audit trail keeps."""
    await client.download(TINY)
    await client.feed.until(
        lambda s: any(j.unique == TINY and j.state == "completed" for j in s.downloads.values())
    )


def view(at: Any) -> LogView:
    found: LogView = at.app.query_one(LogView)
    return found


def table(at: Any) -> Table[LogEntry]:
    found: Table[LogEntry] = at.app.query_one("#log Table", Table)
    return found


def shown(at: Any) -> list[LogEntry]:
    return list(table(at).items)


async def choose(at: Any, source: str) -> None:
    """Go round the sources until this one is shown."""
    for _ in range(10):
        if view(at)._filters.source == source:
            return
        await at.press("s")
    raise AssertionError(f"no source {source}")


async def test_shows_what_an_engine_says_when_it_refuses_a_file(screen: Any) -> None:
    async with screen("log", before=failed) as at:
        await at.until(lambda: any(e.source.startswith("engine:") for e in shown(at)))
        source = next(e.source for e in shown(at) if e.source.startswith("engine:"))
        await choose(at, source)
        assert {e.source for e in shown(at)} == {source}
        await choose(at, CORE)
        assert {e.source for e in shown(at)} <= {CORE}


async def test_shows_every_notice_of_this_dashboard(screen: Any) -> None:
    async with screen("log") as at:
        at.app.say("It is done.", "done")
        at.app.say("It went wrong: do this.", "error")
        await choose(at, DASHBOARD)
        await at.until(lambda: len(shown(at)) >= 2)
        await at.sees("It is done.", "✗", "error", "It went wrong: do this.")
        await at.press("v", "v")
        await at.until(lambda: [e.text for e in shown(at)] == ["It went wrong: do this."])
        await at.sees("level error")


async def test_an_empty_choice_says_that_there_are_other_lines(screen: Any) -> None:
    async with screen("log") as at:
        at.app.say("It is done.", "done")
        await choose(at, DASHBOARD)
        await at.sees("It is done.")
        await at.press("v", "v")
        await at.sees("No such lines: s shows another source, v other levels.")


async def test_shows_who_did_what(screen: Any) -> None:
    async with screen("log", before=fetched) as at:
        await choose(at, AUDIT)
        await at.sees("who", "unix uid=", f"✓ unix uid={os.getuid()}", f"download {TINY}")
        await at.pilot.resize_terminal(60, 15)
        await at.sees(f"✓ unix       download {TINY}")


async def test_filters_as_one_types(screen: Any) -> None:
    async with screen("log") as at:
        at.app.say("apples")
        at.app.say("pears")
        await choose(at, DASHBOARD)
        await at.press("slash", *"pe")
        await at.until(lambda: [e.text for e in shown(at)] == ["pears"])
        await at.press("enter")
        assert table(at).has_focus
        await at.press("escape")
        await at.until(lambda: len(shown(at)) == 2)


async def test_follows_until_one_moves_away(screen: Any) -> None:
    async with screen("log", size=(80, 24)) as at:
        await choose(at, DASHBOARD)
        for number in range(40):
            at.app.say(f"line {number}")
        await at.until(lambda: len(shown(at)) == 40)
        await at.sees("follow on")
        await at.press("k")
        await at.sees("follow off")
        key = table(at).cursor_key
        at.app.say("line 40")
        await at.until(lambda: len(shown(at)) == 41)
        assert table(at).cursor_key == key
        await at.press("f")
        await at.sees("line 40", "follow on")
        await at.press("g")
        await at.sees("line 0", "follow off")
        await at.press("G")
        await at.sees("follow on")


@pytest.mark.parametrize(
    ("choice", "order"),
    [(ColumnChoice(sort="level"), "level ▲"), (ColumnChoice(sort="at", reverse=True), "time ▼")],
)
async def test_follow_says_why_it_does_nothing_in_another_order(
    screen: Any, choice: ColumnChoice, order: str
) -> None:
    async with screen("log") as at:
        await choose(at, DASHBOARD)
        at.app.say("line")
        await at.sees("follow on")
        table(at).choice = choice
        at.app.view.columns_chosen(table(at))
        await at.sees("follow off")
        await at.press("f")
        await at.sees(f"Sorted by {order}: follow needs time ▲. o chooses the order.", "follow off")
        assert at.app.parts.messages.list.unseen == 0


async def test_shows_a_long_line_whole_and_copies_it(screen: Any) -> None:
    words = " ".join(f"word{n}" for n in range(60))
    async with screen("log", size=(60, 15)) as at:
        await choose(at, DASHBOARD)
        at.app.say(words)
        await at.until(lambda: any(e.text == words for e in shown(at)))
        await at.sees("word0")
        assert "word20" not in at.text.split("5 Log")[0].split("word0", 1)[1].split("\n")[0]
        await at.press("enter")
        await at.sees("word20", "J K scroll")
        whole = at.app.query_one(WholeLine)
        assert "word59" not in whole.plain
        await at.press(*"JJJJ")
        await at.sees("word59")
        assert "word0 " not in whole.plain
        await at.press(*"KKKK")
        assert whole.plain.startswith("word0 ")
        await at.press("y")
        assert at.app.clipboard.endswith(words)
        await at.press("escape")
        assert not view(at).has_class("whole")


def line(**changes: object) -> LogLine:
    values = {"seq": 1, "at": "2026-01-01T00:00:01.000Z", "level": "info", "source": "core"}
    return LogLine(**{"text": "x", **values, **changes})  # type: ignore[arg-type]


ENTRIES = (
    of_line(line(seq=2, at="2026-01-01T00:00:02.000Z", level="error", text="Bad luck")),
    of_line(line(seq=1)),
    of_line(line(seq=3, source="engine:abcdef0123456789", level="debug")),
    of_line(line(seq=4, source="engine:abcdef0123456789", level="warning")),
    of_audit(
        AuditEntry(
            at="2026-01-01T00:00:00Z", origin="unix:0", action="load", target="m", outcome="busy"
        ),
        {"m": "tiny"},
    ),
)


@pytest.mark.parametrize(
    ("filters", "keys"),
    [
        (Filters(), ["log:1", "log:4", "log:2"]),
        (Filters(level="debug"), ["log:1", "log:3", "log:4", "log:2"]),
        (Filters(level="error"), ["log:2"]),
        (Filters(source=CORE), ["log:1", "log:2"]),
        (Filters(source="engine:abcdef0123456789", level="debug"), ["log:3", "log:4"]),
        (Filters(source=DASHBOARD), []),
    ],
)
def test_what_is_shown(filters: Filters, keys: list[str]) -> None:
    assert [entry.key for entry in select(ENTRIES, filters)] == keys


def test_the_audit_trail_stands_by_itself() -> None:
    [entry] = select(ENTRIES, Filters(source=AUDIT))
    assert entry.level == "warning"
    assert (entry.who, entry.text) == ("unix:0", "load tiny  busy")
    assert LANGUAGE.parse("unix load who:unix").matches(entry)
    assert not LANGUAGE.parse("-unix").matches(entry)


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        ("luck BAD", ["log:2"]),
        ("error", ["log:2"]),
        ("-error source:engine", ["log:4"]),
        ("level:info", ["log:1"]),
    ],
)
def test_words_and_tests_filter(words: str, keys: list[str]) -> None:
    passes = LANGUAGE.parse(words).matches
    assert [entry.key for entry in select(ENTRIES, Filters()) if passes(entry)] == keys


@pytest.mark.parametrize(
    ("choice", "keys"),
    [
        (ColumnChoice(sort="level"), ["log:2", "log:4", "log:1"]),
        (ColumnChoice(sort="level", reverse=True), ["log:1", "log:4", "log:2"]),
        (ColumnChoice(sort="at", reverse=True), ["log:2", "log:1", "log:4"]),
        (ColumnChoice(sort="source"), ["log:1", "log:2", "log:4"]),
    ],
)
def test_lines_are_sorted_by_a_column(choice: ColumnChoice, keys: list[str]) -> None:
    assert [entry.key for entry in select(ENTRIES, Filters(), choice)] == keys


@pytest.mark.parametrize(
    ("source", "keys"),
    [
        (ALL, ["at", "sign", "level", "source", "text"]),
        (CORE, ["at", "sign", "level", "text"]),
        (AUDIT, ["at", "sign", "who", "text"]),
    ],
)
def test_a_source_alone_does_not_repeat_its_name(source: str, keys: list[str]) -> None:
    assert [column.key for column in columns(source, wide=False)] == keys


@pytest.mark.parametrize(
    ("origin", "word"),
    [
        ("unix uid=0 pid=7", "unix"),
        ("127.0.0.1:80 ci", "127.0.0.1"),
        ("[::1]:9", "[::1]"),
        ("", ""),
    ],
)
def test_who_asked_is_told_in_a_word_where_it_is_narrow(origin: str, word: str) -> None:
    assert _whos(origin) == (origin, word)


def test_sources_name_every_engine() -> None:
    engine = "engine:abcdef0123456789"
    assert sources(ENTRIES, ["engine:other"]) == (
        ALL,
        CORE,
        engine,
        "engine:other",
        "dashboard",
        "audit",
    )
    assert titled(engine, {"abcdef0123456789": "Qwen\x1b[31m"}) == "Qwen"
    assert titled(engine, {}) == "engine abcdef01"


def test_a_time_that_is_none_is_shown_all_the_same() -> None:
    assert of_line(line(at="yesterday")).stamp == 0.0


def test_hostile_lines_draw_as_plain_text() -> None:
    inks = ink(
        Theme(name="x", primary="red", foreground="white", background="black")
        .to_color_system()
        .generate()
    )
    row = drawn(of_line(line(text="a\x1b[2Jb\u202e [red]c[/red]")), {}, UNICODE, inks)
    assert str(row.cells["text"]) == "ab [red]c[/red]"
