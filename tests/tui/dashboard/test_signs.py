"""Signs of each kind of terminal: every screen, the go-to line, the load form, a question, help."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from textual.color import Color

from modeldeck.core.config.config import Tui
from modeldeck.core.schema import LoadOptions
from modeldeck.tui.chats.chat import ChatTurn
from modeldeck.tui.dashboard.console_filter import SIGNS, console_text
from modeldeck.tui.dashboard.screens import ALL
from modeldeck.tui.dashboard.screens.chat.screen import ChatView
from modeldeck.tui.dashboard.theme import PLAIN, SIXTEEN
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text.format import ASCII, CONSOLE, UNICODE, Glyphs, glyphs
from tests.tui.dashboard.screens.steps import F16, TINY, fetched, go

pytestmark = pytest.mark.usefixtures("undebugged")

COLOUR = re.compile(r"[34][0-8]|9[0-7]|10[0-7]")
"""SGR parameters of colours, other than the terminal's own."""


async def pictures(at: Any) -> AsyncIterator[tuple[str, str]]:
    """What is sent to the terminal for each screen, as text, with the name of the screen."""

    def sent() -> str:
        filters = at.app.get_line_filters()
        lines = []
        for strip in at.app.screen._compositor.render_strips():
            for each in filters:
                strip = strip.apply_filter(each, Color(0, 0, 0))
            lines.append(strip.text.rstrip())
        return "\n".join(lines)

    await go(at, TINY)
    for view in ALL:
        if view.name == "fleet":
            continue
        at.app.current = view.name
        await at.pilot.pause()
        yield view.name, sent()
    at.app.current = "catalog"
    await at.pilot.pause()
    at.app.say("✗ — “ends” … → ok", "error")
    for name, keys, shown in (
        ("go to", "ctrl+p", ["chat"]),
        ("custom model", "n", ["another field"]),
        ("question", "x", ["Delete?"]),
        ("form", "L", ["context"]),
        ("columns", "o", ["sort"]),
        ("help", "question_mark", []),
        ("themes", "ctrl+t", ["enter use"]),
    ):
        await at.press(keys)
        await at.sees(*shown)
        yield name, sent()
        await at.press("escape")
        await at.until(lambda: at.app.question is None and len(at.app.screen_stack) == 1)


async def prepared(client: Any) -> None:
    """Something loaded, and something downloaded beside it."""
    await fetched(TINY, F16)(client)
    await client.load(F16, LoadOptions(context_length=512))


@pytest.mark.parametrize(
    ("signs", "is_shown"),
    [
        (CONSOLE, lambda char: char.isascii() or char in SIGNS),
        (ASCII, str.isascii),
    ],
)
async def test_every_screen_has_only_signs_of_the_terminal(
    screen: Any, signs: Glyphs, is_shown: Any
) -> None:
    async with screen("catalog", glyphs=signs, before=prepared) as at:
        async for name, text in pictures(at):
            wrong = sorted({char for char in text if not is_shown(char) and char != "\n"})
            assert not wrong, f"{name}: {wrong}\n{text}"
            if signs is ASCII:  # arrows that look like the keys < > ^ v
                assert not re.search("< > |\\^ v ", text), f"{name}: {text}"


async def test_sixteen_colours_are_neither_dim_nor_below_dim_text(screen: Any) -> None:
    """What is muted is dim there: no colour is readable on it or in it on every terminal."""
    settings = Tui(theme=SIXTEEN)
    async with screen("catalog", settings=settings, before=prepared) as at:
        await at.until(lambda: at.app.theme == SIXTEEN)
        async for name, _ in pictures(at):
            if name == "themes":
                continue  # shows the colours of other themes
            for strip in at.app.screen._compositor.render_strips():
                for text, style, _ in strip:
                    if style is None or not style.dim or style.reverse or not text.strip():
                        continue  # the cursor of a text field is reversed
                    colours = (style.color, style.bgcolor)
                    assert all(c is None or c.is_default or c.name == "default" for c in colours), (
                        f"{name}: {text!r} is {style}"
                    )


async def test_no_color_sends_no_colours_and_shows_the_cursor(
    screen: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    async with screen("catalog", before=prepared) as at:
        await go(at, TINY)
        await at.press("space", *"/tin")
        await at.until(lambda: "1 of" in at.text or "of " in at.text)
        assert at.app.theme == PLAIN
        strips = at.app.screen._compositor.render_strips()
        styles = [s.style for strip in strips for s in strip if s.style is not None]
        for style in styles:
            sgr = style.render("x", color_system=at.app.console._color_system)
            codes = re.findall(r"\x1b\[([\d;]*)m", sgr)
            found = [c for code in codes for c in code.split(";") if COLOUR.fullmatch(c)]
            assert not found, sgr
        assert "◆" in at.text
        underlined = [s.text for strip in strips for s in strip if s.style and s.style.underline]
        assert "tin" in underlined
        assert any(style.reverse for style in styles)


async def test_code_of_answers_has_no_colours_in_the_theme_without_colours(screen: Any) -> None:
    async with screen("chat", before=prepared) as at:
        view = at.app.query_one(ChatView)
        question = ChatTurn(role="user", text="code?", at=1)
        await view.session.add(question)
        code = "```python\ndef f(): return 'text'\n```\n"
        await view.session.add(ChatTurn(role="assistant", parent=question.id, text=code, at=2))
        await view.opened.show()
        await at.sees("def f()")

        def sent() -> set[Any]:
            strips = at.app.screen._compositor.render_strips()
            for each in at.app.get_line_filters():
                strips = [strip.apply_filter(each, Color(0, 0, 0)) for strip in strips]
            colours = {c for s in strips for _, x, _ in s if x for c in (x.color, x.bgcolor)}
            return {c for c in colours if c is not None and not c.is_default}

        assert sent()
        at.app.theme = PLAIN
        await at.until(lambda: not sent())


def test_the_console_row_is_what_the_glyphs_have() -> None:
    for name in Glyphs.__dataclass_fields__:
        sign = getattr(CONSOLE, name)
        assert all(char.isascii() or char in SIGNS for char in sign), name
        assert getattr(ASCII, name).isascii()
        if name not in ("liked", "levels", "degrees"):  # those stand in no column
            assert fmt.columns(sign) == fmt.columns(getattr(UNICODE, name)), name


@pytest.mark.parametrize(
    ("term", "signs"), [("linux", CONSOLE), ("linux-16color", CONSOLE), ("xterm", UNICODE)]
)
def test_the_console_is_known_by_its_name(term: str, signs: Glyphs) -> None:
    assert glyphs("utf-8", {"TERM": term, "LANG": "en_GB.UTF-8"}) is signs
    assert glyphs("ascii", {"TERM": term}) is ASCII


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("╭─╮", "┼─┼"),
        ("für Zoë", "für Zoë"),
        ("模型", "????"),
        ("✓ ◐ ▁", "■ » ░"),
        ("привет", "привет"),
    ],
)
def test_letters_stay_on_the_console_and_other_signs_do_not(text: str, seen: str) -> None:
    assert console_text(text) == seen
    assert fmt.columns(console_text(text)) == fmt.columns(text)


def test_the_settings_name_them() -> None:
    assert fmt.SIGNS == {"unicode": UNICODE, "console": CONSOLE, "ascii": ASCII}
    assert Tui().glyphs is None
