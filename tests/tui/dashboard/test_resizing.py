"""What stands on the screen stays whole when the terminal gets another size."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from modeldeck.tui.dashboard.dialogs.custom_model import FIELDS
from modeldeck.tui.dashboard.screens.requests.screen import RequestsView
from tests.tui.dashboard.screens.chat_hands import chat, ended, say
from tests.tui.dashboard.screens.chat_hands import loaded as tiny_loaded
from tests.tui.dashboard.screens.steps import TINY, fetched

SMALL = (60, 15)


async def resized(at: Any, width: int, height: int) -> None:
    """Give the terminal another size, and wait until the screen has it."""
    await at.pilot.resize_terminal(width, height)
    await at.until(lambda: at.app.screen.size == (width, height))
    await at.pilot.pause()


async def test_a_question_is_laid_out_for_the_new_size(screen: Any) -> None:
    async with screen("catalog", before=fetched(TINY)) as at:
        await at.sees("downloaded")
        await at.press("x")
        await at.sees("tiny-Q8_0.gguf", "deck/tiny-GGUF")
        await resized(at, *SMALL)
        whole = "   delete   1.9 MB  tiny-Q8_0.gguf"
        # What has no room is left out, and nothing is cut.
        await at.until(lambda: whole in [line.rstrip() for line in at.text.splitlines()])
        await resized(at, 120, 40)
        await at.sees("tiny-Q8_0.gguf                       deck/tiny-GGUF")
        await at.press("n")


async def test_the_list_of_chats_covers_a_narrow_chat_only_in_use(screen: Any) -> None:
    async with screen("chat", before=tiny_loaded) as at:
        await say(at, "Please count.")
        await ended(at)
        await at.press("escape", "c")
        await at.until(lambda: chat(at).list.table.has_focus)
        await resized(at, *SMALL)
        assert chat(at).list.display
        assert not chat(at).pane.display, "it is in use, and has the place"
        await resized(at, 120, 40)
        await at.press("enter")
        await at.until(lambda: chat(at).pane.scroll.has_focus)
        assert chat(at).list.display
        await resized(at, *SMALL)
        await at.sees("One two three")
        assert not chat(at).list.display
        await at.press("t")
        await at.sees("temperature")
        await at.press("escape")
        await resized(at, 120, 40)
        assert chat(at).list.display
        assert chat(at).pane.display


@pytest.mark.parametrize("size", [(120, 40), (80, 24), SMALL])
async def test_the_form_of_a_custom_model_cuts_no_word(screen: Any, size: tuple[int, int]) -> None:
    async with screen("catalog", size=size) as at:
        await at.sees("BGE Small")
        await at.press("n")
        await at.sees("New custom model", "enter save", "another field", "esc leave")
        assert all(hint in at.text for _, _, hint in FIELDS)


@pytest.mark.parametrize(("size", "keys"), [((120, 40), "u unload"), ((80, 24), "x delete")])
async def test_the_footer_names_the_go_to_line_and_ends_in_help(
    screen: Any, size: tuple[int, int], keys: str
) -> None:
    async with screen("catalog", size=size) as at:
        await at.sees("BGE Small")
        for view in ("catalog", "downloads", "memory", "log"):
            at.app.current = view
            await at.until(lambda view=view: view == at.app.view.NAME)
            await at.pilot.pause()
            footer = at.text.splitlines()[-1]
            assert footer.endswith("? help"), footer
            if view == "catalog":
                assert keys in footer
                assert (": go to" in footer) == (size[0] == 120), "where there is room"


async def test_no_requests_are_told_in_lines_that_fit(screen: Any) -> None:
    async with screen("requests", size=SMALL) as at:
        view = at.app.query_one(RequestsView)
        lines = view.nothing(replace(at.state, requests={})).splitlines()
        assert lines[0] == "No requests yet. y copies a first curl."
        assert lines[1].startswith("The API answers at http://")
        assert all(len(line) <= SMALL[0] - 4 for line in lines)
