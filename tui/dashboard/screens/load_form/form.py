"""The load form as a widget: it takes all keys while it is open, and asks the core for plans."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from textual import events
from textual.worker import Worker

from modeldeck.core.schema import InstanceState
from modeldeck.core.schema.state import State
from modeldeck.tui.dashboard.dialogs.help_screen import HelpScreen
from modeldeck.tui.dashboard.screens.load_form import asking, wording
from modeldeck.tui.dashboard.screens.load_form.drawing import Drawing, draw
from modeldeck.tui.dashboard.screens.load_form.facts import Forecasts, FormFacts, LoadTarget
from modeldeck.tui.dashboard.screens.load_form.fields import changed_words
from modeldeck.tui.dashboard.screens.load_form.forecast_drawing import Painter
from modeldeck.tui.dashboard.screens.load_form.form_state import Act, FormState, moved_to, press
from modeldeck.tui.dashboard.screens.load_form.keys import HELP, key_line
from modeldeck.tui.dashboard.screens.load_form.ways import ways
from modeldeck.tui.dashboard.theme import ink
from modeldeck.tui.dashboard.widgets.bars import TextLines
from modeldeck.tui.dashboard.widgets.footer import Footer
from modeldeck.tui.dashboard.widgets.prompt import Prompt

if TYPE_CHECKING:
    from modeldeck.tui.dashboard.interface import DashboardInterface

REST_S = 0.12
"""Seconds after a change before the core is asked."""
PASSED_ON = frozenset({"ctrl+c", "ctrl+q", "ctrl+l", "ctrl+z"})
"""Keys of the app that also apply while the form is open."""


class LoadForm(TextLines, can_focus=True):
    """The form for one model, or for several at once."""

    DEFAULT_CSS = """
    LoadForm { width: 1fr; height: 1fr; }
    LoadForm.beside { width: 63; border-left: solid $panel; }
    """

    def __init__(
        self,
        targets: Sequence[LoadTarget],
        state: State,
        on_act: Callable[[Act], None],
        on_leave: Callable[[], None],
        kept: FormState,
    ) -> None:
        """Make a form.

        Args:
            targets: The models.
            state: The newest State.
            on_act: Called with what a key asks for.
            on_leave: Called when the user turned elsewhere.
            kept: What the user did in an earlier form for these models.
        """
        super().__init__(id="load-form")
        self.facts = FormFacts(targets=tuple(targets), state=state)
        self.choice = kept
        self._tell = on_act
        self._close = on_leave
        self.closing = False
        self._drawing = Drawing()
        self._hushed = False
        """Whether a message has the line above the footer."""
        self._compared: tuple[object, ...] = ()
        """What `largest` was asked for."""

    @property
    def dashboard(self) -> DashboardInterface:
        """The app, as screens may use it."""
        return cast("DashboardInterface", self.app)

    @property
    def how(self) -> dict[str, bool]:
        """How the load is asked for, besides its options."""
        how = {}
        if self.facts.loaded is not None:
            how["reload"] = True
        if self.choice.make_room:
            how["make_room"] = True
        return how

    # Life

    def on_mount(self) -> None:
        """Draw, take the keys, and ask for the first plan at once."""
        self.app.theme_changed_signal.subscribe(self, lambda _: self.redraw())
        self.focus()
        self.ask(rest_s=0.0)
        self.redraw()

    def on_focus(self) -> None:
        """Show its keys, also after a question."""
        self.show_keys()

    def on_blur(self) -> None:
        """Close when the user turned elsewhere: not for a question, nor with the terminal."""
        focused = self.screen.focused
        asked = focused is not None and any(
            isinstance(part, Prompt) for part in focused.ancestors_with_self
        )
        if self.app.app_focus and not asked and focused is not self:
            self.leave()

    def on_hide(self) -> None:
        """Close when another view came to the front."""
        self.leave()

    def leave(self) -> None:
        """Ask to be closed."""
        if not self.closing:
            self._close()

    def on_resize(self) -> None:
        """Draw for the new size."""
        self.redraw()

    def new_state(self, state: State) -> None:
        """Take a new State: ask again where models were loaded or unloaded."""
        before = self.facts
        self.facts = replace(before, state=state)
        if _loads(before.state) != _loads(state):
            self.ask()
        self.redraw()

    # Drawing

    def redraw(self) -> None:
        """Draw all lines, the keys, and what was changed."""
        if not self.is_attached or self.size.width < 1:
            return
        pad = 1 if self.has_class("beside") else 0
        painter = Painter(
            facts=self.facts,
            state=self.choice,
            width=max(20, self.size.width - 1 - pad),
            glyphs=self.dashboard.glyphs,
            inks=ink(self.app.theme_variables),
            away=bool(self.facts.forecasts.failure) and not self.facts.forecasts.faulty,
        )
        self._drawing = draw(painter, self.size.height, pad)
        super().show(self._drawing.lines)
        self.show_keys()

    def show_keys(self) -> None:
        """Show the form's keys in the footer, and above it what was changed."""
        if self.closing or self.screen.focused is not self:
            return
        self.screen.query_one(Footer).question = key_line(
            reload=self.facts.loaded is not None,
            ways=len(ways(self.facts)),
            press=self.press_key,
        )
        self.dashboard.hint("" if self._hushed else self._hint())

    def hide_keys(self) -> None:
        """Give the footer and the line above it back."""
        if not self.app.screen_stack:
            return
        for footer in self.app.screen_stack[0].query(Footer):
            if footer.question is not None and footer.question.pressed == self.press_key:
                footer.question = None
        self.dashboard.hint("")

    def on_unmount(self) -> None:
        """Leave nothing behind, also where the whole view is removed."""
        self.hide_keys()

    def hush(self) -> None:
        """Leave the line above the footer to a message, until the next key."""
        self._hushed = True
        self.dashboard.hint("")

    def _hint(self) -> str:
        """What stands above the footer: that it does not fit, or what was changed."""
        plan, glyphs = self.facts.plan, self.dashboard.glyphs
        if plan is not None and self.facts.forecasts.over and plan.forecast is not None:
            return f"{glyphs.failed} {wording.does_not_fit(plan)}"
        changed = wording.changed(self.facts, self.choice.chosen)
        if not changed:
            return ""
        words = f"{glyphs.dot} Changed: {changed_words(changed)}."
        them = "it" if len(changed) == 1 else "them"
        long = f"{words} ctrl+s keeps {them} for the next loads of this model."
        return long if len(long) < self.app.size.width - 2 else words

    # Keys and the mouse

    def on_key(self, event: events.Key) -> None:
        """Take every key while the form is open."""
        if event.key in PASSED_ON:
            return
        event.stop()
        event.prevent_default()
        self.press_key(event.key)

    def press_key(self, key: str) -> None:
        """Handle a key, by Textual's name."""
        before = self.choice
        self._hushed = False
        self.choice, act = press(before, key, self.facts)
        if (before.chosen, before.make_room) != (self.choice.chosen, self.choice.make_room):
            self.ask()
        self.redraw()
        if act == "help":
            self.app.push_screen(HelpScreen([("Load form", "load", HELP)], {}))
        elif act is not None:
            self._tell(act)

    def on_click(self, event: events.Click) -> None:
        """Select the field that was clicked, or do what its arrow or its number stands for."""
        at = event.get_content_offset(self)
        event.stop()
        spots = self._drawing.spots
        found = next(
            (s for s in spots if at is not None and s.line == at.y and s.start <= at.x < s.end),
            None,
        )
        if found is None:
            return
        if found.field and found.field != self.choice.at:
            self.choice = moved_to(self.choice, found.field)
        if found.key:
            self.press_key(found.key)
        self.redraw()

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """Go to the next field."""
        event.stop()
        self.press_key("tab")

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """Go to the field before."""
        event.stop()
        self.press_key("shift+tab")

    def choose(self, options: Mapping[str, Any]) -> None:
        """Choose these options; None gives one back to what it would be."""
        chosen = {**self.choice.chosen, **options}
        chosen = {name: value for name, value in chosen.items() if value is not None}
        self.choice = replace(self.choice, chosen=chosen)
        self.ask()
        self.redraw()

    # Forecasts

    def ask(self, rest_s: float = REST_S) -> None:
        """Ask the core for plans of what is chosen now; until they come the old ones stay."""
        self.facts = replace(self.facts, forecasts=replace(self.facts.forecasts, stale=True))
        work: Callable[[], Coroutine[Any, Any, None]] = partial(self._ask, rest_s)
        self._asking: Worker[None] = self.run_worker(work, group="load-plan", exclusive=True)

    async def _ask(self, rest_s: float) -> None:
        await asyncio.sleep(rest_s)
        client, how = self.dashboard.link.client, self.how
        chosen, options = dict(self.choice.chosen), self.choice.options()
        targets, old = self.facts.targets, self.facts.forecasts
        found = await asking.plans(client, targets, options, how)
        if not found.plans:
            # The old figures stay, and say that they are old.
            self._take(replace(old, failure=found.failure, faulty=found.faulty, stale=True))
            return
        others = {name: value for name, value in chosen.items() if name != "context_length"}
        basis = (tuple(sorted(others.items(), key=str)), tuple(how), *_loads(self.facts.state))
        is_known = basis == self._compared
        found = replace(found, largest=old.largest if is_known else None)
        saved = old.kv_saved_bytes if is_known else None
        self._take(replace(found, kv_saved_bytes=saved))
        if len(targets) > 1:
            return
        plan = found.plans[0]
        assert plan is not None
        room = await asking.roomy(client, targets[0], plan, options, how)
        if room is not None:
            self._take(replace(self.facts.forecasts, roomy=room))
        saved = await asking.kv_saved(client, targets[0], plan, how)
        largest = found.largest
        if not is_known:
            largest = await asking.largest(client, targets[0], chosen, how)
            self._compared = basis
        self._take(replace(self.facts.forecasts, largest=largest, kv_saved_bytes=saved))

    def _take(self, found: Forecasts) -> None:
        self.facts = replace(self.facts, forecasts=found)
        self.redraw()


def _loads(state: State) -> tuple[object, ...]:
    """What a plan depends on in a State: which instances are loaded, and how many requests run."""
    live = (i for i in state.instances.values() if i.state is not InstanceState.FAILED)
    return tuple((i.id, i.state, i.requests) for i in live)
