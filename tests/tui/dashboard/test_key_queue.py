"""Keys that arrive together are heard one after the other, each where the one before it led."""

from __future__ import annotations

from textual import events, on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Input

from modeldeck.tui.dashboard.key_queue import OrderedKeyApp


class Field(Vertical):
    """A field that is left by `enter`, for one below it."""

    def compose(self) -> ComposeResult:
        yield Input(id="first")
        yield Input(id="second")

    @on(Input.Submitted, "#first")
    def leave(self) -> None:
        self.query_one("#second").focus()


class Small(OrderedKeyApp):
    def compose(self) -> ComposeResult:
        yield Field()


async def test_a_line_that_is_sent_moves_the_focus_before_the_next_key() -> None:
    app = Small()
    async with app.run_test() as pilot:
        app.query_one("#first").focus()
        await pilot.pause()
        for key in ("a", "b", "enter", "c", "d"):
            app.post_message(events.Key(key, key if len(key) == 1 else None))
        while app.query_one("#second", Input).value != "cd":
            await pilot.pause()
        assert app.query_one("#first", Input).value == "ab"


async def test_keys_are_held_although_the_one_before_was_just_handled() -> None:
    app = Small()
    async with app.run_test() as pilot:
        field = app.query_one("#first", Input)
        field.focus()
        await pilot.pause()
        app.post_message(events.Key("a", "a"))
        while field.value != "a":
            await pilot.pause()
        app._under_way = True
        app._finish(app._number)  # the next key would be handled in a moment
        app.hold_keys()
        app.post_message(events.Key("b", "b"))
        for _ in range(3):
            await pilot.pause()
        assert field.value == "a"
        app.release_keys()
        while field.value != "ab":
            await pilot.pause()
