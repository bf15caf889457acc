"""The question above the footer: its lines at each size, its keys, and what cancels it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from modeldeck.core.schema.state import State
from modeldeck.tui.dashboard.app import Dashboard
from modeldeck.tui.dashboard.dialogs.help_screen import HelpScreen
from modeldeck.tui.dashboard.questions import (
    ChoiceQuestion,
    LineQuestion,
    Question,
    QuestionItem,
    QuestionKey,
    QuestionWarning,
    YesNoQuestion,
    fitting_keys,
    item_line,
    layout,
)
from modeldeck.tui.dashboard.widgets.prompt import Prompt, QuestionBody
from tests.tui.dashboard.test_frame import dashboard, drawn, live

pytestmark = pytest.mark.usefixtures("undebugged")

DELETE = YesNoQuestion(
    title="Delete the files of 3 marked models: 7.5 GB come back.",
    warnings=(
        QuestionWarning(
            text="Qwen3 8B is loaded: it is unloaded first, and the answer to laptop ends.",
            short="Qwen3 8B is loaded: unloaded first, ends 1 answer",
        ),
    ),
    items=(
        QuestionItem(
            text="delete   5.0 GB",
            name="Qwen3-8B-Q4_K_M.gguf",
            note="Qwen/Qwen3-8B-GGUF",
            path="/c/models--Qwen--Qwen3-8B-GGUF/snapshots/1/Qwen3-8B-Q4_K_M.gguf",
        ),
        QuestionItem(
            text="delete   2.5 GB", name="Qwen3-4B-Q4_K_M.gguf", note="Qwen/Qwen3-4B-GGUF"
        ),
        QuestionItem(
            text="keep     0.1 GB",
            name="nomic-embed-text-v1.5.Q8_0.gguf",
            note="another revision uses it",
        ),
    ),
    more="and 4 small files, 25 kB",
    verb="delete 7.5 GB",
    keep="keep everything",
    cancelled="Cancelled: nothing was deleted.",
)
FILES = replace(
    DELETE,
    warnings=(),
    items=tuple(QuestionItem(text="delete", name=f"part-{n:02}.gguf") for n in range(1, 13)),
    more="",
)


@asynccontextmanager
async def asked(
    app: Dashboard, pilot: Pilot[None], question: Question, body: QuestionBody | None = None
) -> AsyncIterator[asyncio.Task[str | None]]:
    """The question is shown; it is cancelled in the end."""
    asking = asyncio.create_task(app.ask_question(question, body))
    while app.question is not question:
        await pilot.pause()
    await pilot.pause()
    yield asking
    app.parts.questions.dismiss()
    await asking


def cancelled(app: Dashboard) -> bool:
    return app.question is None and app.messages[-1].text == DELETE.cancelled


# Lines and keys


def test_a_question_takes_half_of_the_height_at_most_and_keeps_title_and_warnings() -> None:
    many = replace(FILES, warnings=DELETE.warnings * 9)
    for question in (DELETE, FILES, many):
        for height in range(6, 60):
            plan = layout(question, height)
            assert 1 + plan.rule + plan.warnings + plan.rows + plan.foot <= max(3, height // 2)
            assert plan.warnings >= min(1, len(question.warnings))
            assert plan.rows >= 1 or height < 8
    assert layout(DELETE, 15).rows == 3


def test_keys_that_decide_are_shown_at_every_width() -> None:
    for width in range(18, 120):
        shown = [key.keys for key, _ in fitting_keys(DELETE.keys, width)]
        assert shown[:2] == ["y", "n esc"]
    assert [label for _, label in fitting_keys(DELETE.keys, 49)] == [
        "delete",
        "keep",
        "scroll",
        "paths",
    ]


@pytest.mark.parametrize(
    ("size", "keys"),
    [
        ((120, 40), "y delete 7.5 GB  n esc keep everything  j k scroll  e paths  ? help "),
        ((80, 24), "y delete 7.5 GB  n esc keep everything  j k scroll  e paths "),
        ((60, 15), "y delete  n esc keep  j k scroll  e paths "),
    ],
)
async def test_the_footer_is_the_key_line(size: tuple[int, int], keys: str) -> None:
    app = dashboard()
    async with app.run_test(size=size) as pilot:
        await live(app, pilot)
        async with asked(app, pilot, DELETE):
            lines = drawn(app)
            assert lines[-1].endswith(keys)
            assert lines[-1].startswith("  Delete?  ")
            assert lines[-8].startswith("────")
            assert lines[-7].startswith(" Delete the files of 3 marked models: 7.5 GB come back.")
            assert lines[-6].startswith(" ! Qwen3 8B is loaded: ")
            assert "…" not in lines[-6]
            assert lines[-5].startswith("   delete   5.0 GB  Qwen3-8B-Q4_K_M.gguf")
            assert lines[-2].startswith("   and 4 small files, 25 kB")
            await pilot.press("e")
            await pilot.pause()
            assert "Qwen3-8B-Q4_K_M.gguf" in drawn(app)[-5]
            assert "snapshots/1" in drawn(app)[-5]
        await pilot.pause()
        assert "1 Catalog" in drawn(app)[-1]


async def test_a_long_list_scrolls_to_its_end_under_title_and_above_keys() -> None:
    app = dashboard()
    async with app.run_test(size=(80, 24)) as pilot:
        await live(app, pilot)
        async with asked(app, pilot, FILES):
            assert "part-12.gguf" not in "\n".join(drawn(app))
            await pilot.press(*("j" * 12))
            await pilot.pause()
            text = "\n".join(drawn(app))
            assert "part-12.gguf" in text
            assert "part-01.gguf" not in text
            assert FILES.title in text
            assert "y delete 7.5 GB  n esc keep everything" in drawn(app)[-1]
            await pilot.press("g")
            await pilot.pause()
            assert "part-01.gguf" in "\n".join(drawn(app))


async def test_on_one_line_keys_and_title_alternate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modeldeck.tui.dashboard.widgets.footer.ALTERNATE_S", 3600.0)
    app = dashboard()
    async with app.run_test(size=(60, 1)) as pilot:
        await live(app, pilot)
        async with asked(app, pilot, DELETE):
            (line,) = drawn(app)
            assert "y delete  n esc keep" in line
            footer = app.screen.query_one("Footer")
            footer.alternate()  # type: ignore[attr-defined] # as its timer does
            await pilot.pause()
            assert "3 marked models" in drawn(app)[0]
            footer.alternate()  # type: ignore[attr-defined] # and back
            await pilot.pause()
            assert "y delete  n esc keep" in drawn(app)[0]
        await pilot.resize_terminal(60, 4)
        async with asked(app, pilot, DELETE):
            lines = drawn(app)
            assert "3 marked models" in lines[0]
            assert "y delete  n esc keep" in lines[1]


# Answers


@pytest.mark.parametrize(
    ("key", "answer"), [("y", "y"), ("n", None), ("q", None), ("escape", None), ("ctrl+c", None)]
)
async def test_yes_and_no(key: str, answer: str | None) -> None:
    app = dashboard()
    async with app.run_test(size=(80, 24)) as pilot:
        await live(app, pilot)
        before = app.focused
        async with asked(app, pilot, DELETE) as asking:
            await pilot.press(key)
            assert await asking == answer
            await pilot.pause()
            assert app.focused is before
            assert app.is_running
            assert not app.messages, "the person knows what they did"


async def test_keys_of_the_view_do_nothing_and_help_shows_those_of_the_question() -> None:
    app = dashboard()
    async with app.run_test(size=(80, 24)) as pilot:
        await live(app, pilot)
        async with asked(app, pilot, DELETE):
            await pilot.press("tab", "3", "d", "ctrl+t", "ctrl+p", "slash", "colon")
            await pilot.pause()
            assert app.current == "catalog"
            assert len(app.screen_stack) == 1
            assert app.question is DELETE
            await pilot.press("question_mark")
            await pilot.pause()
            assert isinstance(app.screen, HelpScreen)
            assert "Keep everything." in "\n".join(drawn(app))
            await pilot.press("escape")
            await pilot.pause()
            assert app.question is DELETE


async def test_a_widget_that_asks_for_the_focus_gets_it_after_the_question() -> None:
    app = dashboard()
    async with app.run_test(size=(80, 24)) as pilot:
        await live(app, pilot)
        async with asked(app, pilot, DELETE):
            app.current = "log"  # as a worker may do
            await pilot.pause()
            assert isinstance(app.focused, Prompt)
            await pilot.press("n")
            await pilot.pause()
        assert app.focused is not None
        assert app.view in app.focused.ancestors


async def test_a_choice_is_made_by_its_number_or_under_the_cursor() -> None:
    question = ChoiceQuestion(
        title="What fits instead", items=tuple(QuestionItem(text=text) for text in "abc")
    )
    app = dashboard()
    async with app.run_test(size=(80, 24)) as pilot:
        await live(app, pilot)
        for keys, answer in ((("2",), "2"), (("9", "j", "j", "k", "enter"), "2"), (("q",), None)):
            async with asked(app, pilot, question) as asking:
                assert " ▸ 1  a" in "\n".join(drawn(app))
                await pilot.press(*keys)
                assert await asking == answer


async def test_a_line_that_is_wrong_stays_with_the_reason_under_it() -> None:
    question = LineQuestion(
        title="Limit of all downloads together",
        word="Total limit",
        value="",
        hint="such as 500k",
        problem=lambda text: "" if text.isdecimal() else f"Not a rate: {text!r}.",
    )
    app = dashboard()
    async with app.run_test(size=(60, 15)) as pilot:
        await live(app, pilot)
        async with asked(app, pilot, question) as asking:
            lines = drawn(app)
            assert lines[-1].startswith("  Total limit ")
            assert lines[-1].rstrip().endswith("enter set  esc leave")
            assert lines[-2].startswith(" such as 500k")
            await pilot.press("4", "x", "tab", "enter")
            await pilot.pause()
            assert drawn(app)[-2].startswith(" ✗ Not a rate: '4x'.")
            assert app.query_one("Prompt > Input", Input).value == "4x"
            await pilot.press("backspace")
            await pilot.pause()
            assert drawn(app)[-2].startswith(" such as 500k")
            await pilot.press("enter")
            assert await asking == "4"


async def test_a_body_of_its_own_takes_the_keys_and_names_them() -> None:
    class Columns(QuestionBody):
        def question_keys(self) -> list[QuestionKey]:
            return [QuestionKey(keys="o", label="sort", press="o", required=True)]

        def press(self, key: str) -> bool:
            if key == "o":
                self.post_message(self.Answered("sorted"))
            return key == "o"

    app = dashboard()
    async with app.run_test(size=(80, 24)) as pilot:
        await live(app, pilot)
        body = Columns()
        async with asked(app, pilot, Question(title="Columns"), body) as asking:
            assert drawn(app)[-1].rstrip().endswith("o sort")
            assert app.focused is body
            await pilot.press("x", "o")
            assert await asking == "sorted"
        await pilot.pause()
        assert not app.query(Columns)


# What cancels it


async def test_a_click_elsewhere_cancels_and_the_place_clicked_has_the_keys() -> None:
    app = dashboard()
    async with app.run_test(size=(120, 40)) as pilot:
        await live(app, pilot)
        for offset in ((5, 5), (60, 0)):
            async with asked(app, pilot, DELETE) as asking:
                await pilot.click(offset=offset)
                assert await asking is None
                await pilot.pause()
                assert cancelled(app)
                assert app.focused is not None
                assert app.view in app.focused.ancestors
        async with asked(app, pilot, DELETE) as asking:
            await pilot.click("Footer", offset=(20, 0))  # where a tab was
            assert await asking is None
            await pilot.pause()
            assert cancelled(app)
        async with asked(app, pilot, DELETE) as asking:
            await pilot.click("Prompt", offset=(20, 3))
            await pilot.pause()
            assert app.question is DELETE
            await pilot.click("Footer", offset=(drawn(app)[-1].index("y delete"), 0))
            assert await asking == "y"


async def test_a_subject_that_is_gone_cancels() -> None:
    app = dashboard()
    async with app.run_test(size=(80, 24)) as pilot:
        await live(app, pilot)
        state = app.state
        assert state is not None
        question = replace(DELETE, subject=lambda now: now is state)
        async with asked(app, pilot, question) as asking:
            app.parts.questions.check_subject(state)
            assert app.question is question
            app.link.latest = State(host=state.host)
            app._look()
            assert await asking is None
            await pilot.pause()
            assert cancelled(app)


async def test_one_at_a_time_and_what_the_core_asks_waits_or_is_dropped() -> None:
    app = dashboard()
    sees = True
    memory = YesNoQuestion(
        title="Not enough memory.",
        verb="load it anyway",
        keep="leave it",
        from_core=True,
        is_in_view=lambda: sees,
        dropped="Tiny was not loaded.",
    )
    async with app.run_test(size=(80, 24)) as pilot:
        await live(app, pilot)
        async with asked(app, pilot, DELETE):
            assert await app.ask_question(FILES) is None
            waiting = asyncio.create_task(app.ask_question(memory))
            await pilot.press("n")
            while app.question is not memory:
                await pilot.pause()
            await pilot.press("y")
            assert await waiting == "y"
        async with asked(app, pilot, DELETE):
            waiting = asyncio.create_task(app.ask_question(memory))
            await pilot.pause()
            sees = False
            await pilot.press("n")
            assert await waiting is None
            await pilot.pause()
            assert app.messages[-1].text == "Tiny was not loaded."


async def test_the_frame_makes_room_for_a_question_and_stands_again_after_it() -> None:
    app = dashboard()
    async with app.run_test(size=(80, 4)) as pilot:
        await live(app, pilot)
        parts = {name: app.screen.query_one(name) for name in ("StatusBar", "Footer", "Prompt")}

        def shown() -> set[str]:
            return {name for name, part in parts.items() if part.display}

        assert shown() == {"StatusBar"}
        async with asked(app, pilot, LineQuestion(title="Name")):
            assert shown() == {"Footer", "Prompt"}
            await pilot.press("escape")
        await pilot.pause()
        assert app.question is None
        assert shown() == {"StatusBar"}


def test_columns_of_a_choice_give_way_before_its_words() -> None:
    item = QuestionItem(text=f"{'tiny Q8_0':<40} loaded, 64k context")
    assert item_line(item, 57, paths=False) == "   tiny Q8_0  loaded, 64k context"
    assert item_line(item, 80, paths=False) == f"   {item.text}"
