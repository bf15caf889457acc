"""The dashboard: status bar, screens, notices and footer, and the link to a core.

The frame is drawn before the screens are imported and before the core has answered. Only the app
uses the link; every quarter of a second it hands the newest State to the screens, which redraw what
changed. Actions run in workers of the app; their results and errors become notices.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from textual import events, work
from textual.app import ComposeResult
from textual.filter import LineFilter, NoColor
from textual.reactive import var
from textual.widgets import ContentSwitcher

from modeldeck.tui.dashboard import screens
from modeldeck.tui.dashboard.ascii_filter import AsciiOnly
from modeldeck.tui.dashboard.column_store import ColumnStore
from modeldeck.tui.dashboard.commands import bindings, keymap_problems
from modeldeck.tui.dashboard.console_filter import ConsoleOnly
from modeldeck.tui.dashboard.diff_renderer import BaseScreen, DiffRenderer
from modeldeck.tui.dashboard.fleet import FleetMachine
from modeldeck.tui.dashboard.global_commands import COMMANDS, FLEET
from modeldeck.tui.dashboard.go_to.navigation import ACTIONS
from modeldeck.tui.dashboard.key_queue import OrderedKeyApp
from modeldeck.tui.dashboard.last_resort import LastResortApp
from modeldeck.tui.dashboard.options import DashboardOptions
from modeldeck.tui.dashboard.screens.view import View
from modeldeck.tui.dashboard.theme import PLAIN
from modeldeck.tui.dashboard.widgets.footer import Footer
from modeldeck.tui.dashboard.widgets.no_core import NoCoreNotice
from modeldeck.tui.dashboard.widgets.notice import Notice
from modeldeck.tui.dashboard.widgets.prompt import Prompt
from modeldeck.tui.dashboard.widgets.status_bar import StatusBar
from modeldeck.tui.dashboard.wiring import DashboardParts
from modeldeck.tui.remote.core_link import Attach, CoreLink, LinkState, LinkStatus
from modeldeck.tui.text.format import ASCII, CONSOLE

if TYPE_CHECKING:
    from textual.actions import ActionParseResult
    from textual.dom import DOMNode

    from modeldeck.core.schema.state import State
    from modeldeck.tui.chats.store import ChatStore
    from modeldeck.tui.dashboard.questions import Question

REFRESH_S = 0.25
"""Seconds between two updates of the screens from the newest State."""
SLOW = 4
"""On a slow link only every fourth update is drawn."""

ONE_LINE = 6
"""Height in lines below which only the status bar is shown."""


class Dashboard(DiffRenderer, LastResortApp, OrderedKeyApp):
    """The app: shows one core, or several machines with a core each.

    The bases change how Textual draws, fails and hands on keys; what the dashboard does is in its
    parts, to which its actions and handlers of events pass their work.
    """

    CSS = """
    Screen { layers: base; }
    ContentSwitcher { height: 1fr; }
    Screen.stale ContentSwitcher { opacity: 70%; }
    Screen.stale ContentSwitcher:ansi { opacity: 100%; text-style: dim; }
    Screen.-one-line, Screen.-single {
        ContentSwitcher { height: 0; }
        Notice, Footer, NoCoreNotice { display: none; }
        &.asking {
            Footer { display: block; }
            StatusBar { display: none; }
        }
    }
    Screen.asking Notice { display: none; }
    Screen.-single Prompt.writing { height: 1; }
    Screen.-single.writing Footer { display: none; }
    Screen.-single Prompt.typing { height: 1; }
    Screen.-single.typing Footer { display: none; }
    """
    VERTICAL_BREAKPOINTS = [(0, "-single"), (2, "-one-line"), (ONE_LINE, "-lines")]  # noqa: RUF012 (Textual's)
    ENABLE_COMMAND_PALETTE = False
    BINDINGS = bindings("app", (*COMMANDS, *FLEET))  # type: ignore[assignment] # a list of one kind of what Textual takes

    state: var[State | None] = var(None)
    link_status: var[LinkStatus] = var(LinkStatus(state=LinkState.CONNECTING))
    current: var[str] = var(screens.VIEWS[0].name)

    def __init__(self, cores: Attach | Sequence[FleetMachine], options: DashboardOptions) -> None:
        """Create the app; nothing is connected before it runs.

        `cores` are the machines, or how to attach to the core of the only one.
        """
        super().__init__(ansi_color=True if "NO_COLOR" in os.environ else None)
        stations = (FleetMachine("", CoreLink(cores)),) if callable(cores) else tuple(cores)
        self.settings = options.settings
        self.glyphs = options.glyphs
        self.columns = options.columns or ColumnStore()
        self._open_chats = options.open_chats
        self._chats: ChatStore | None = None
        self.is_demo = options.is_demo
        self.log_file = options.log_file
        self.clock: Callable[[], float] = time.monotonic
        """Time in seconds by which messages fade and failures count together."""
        self._looks = 0
        self._welcome = options.welcome
        self.parts = DashboardParts(self, self, stations, options, clock=lambda: self.clock())
        self.set_reactive(Dashboard.current, self.parts.views.first)
        self._problems = [*options.problems, *options.themes.problems]
        if not self.parts.themes.has_wanted:
            self._problems.append(f"there is no theme {self.settings.theme!r}")
        self._use_parts()

    def _use_parts(self) -> None:
        """Take from the parts what the bases call, and what screens may use of the app."""
        self.key_comes = self.parts.navigation.key_comes
        self.show_failure = self.parts.failures.tell
        self.stations = self.parts.machines.stations
        self.go = self.parts.machines.show
        self.reach_all = self.parts.machines.reach_all
        self.again = self.parts.machines.again
        self.messages = self.parts.messages.list.all
        self.say = self.parts.messages.say
        self.hint = self.parts.messages.hint
        self.confirm = self.parts.questions.confirm
        self.ask = self.parts.questions.ask_line
        self.ask_question = self.parts.questions.ask
        self.perform = self.parts.actions.perform
        self.key_of = self.parts.commands.key_of
        self.refuses_to_load = self.parts.commands.refuses_to_load

    def name_in_front(self) -> str:
        """Name of the view in front."""
        return self.current

    def bind_view(self, view: View) -> View:
        """Bind a new view to the state of the core."""
        return view.data_bind(Dashboard.state)

    @property
    def chats(self) -> ChatStore:
        """Conversations of this person, on this machine; opened when they are asked for."""
        if self._chats is None:
            self._chats = self._open_chats()
        return self._chats

    async def close_chats(self) -> None:
        """Close the conversations, if they were opened."""
        if self._chats is not None:
            await self._chats.close()

    @property
    def station(self) -> FleetMachine:
        """The machine that is shown."""
        return self.parts.machines.station

    @property
    def link(self) -> CoreLink:
        """The link to the core of the machine that is shown."""
        return self.parts.machines.link

    @property
    def question(self) -> Question | None:
        """The question that is shown; None without one."""
        return self.parts.questions.shown

    def get_default_screen(self) -> BaseScreen:
        """The screen under all dialogs."""
        return BaseScreen()

    def compose(self) -> ComposeResult:
        """The widgets of the first frame."""
        tags = [
            *(["demo"] if self.is_demo else []),
            *(["read-only"] if self.settings.readonly else []),
        ]
        top = StatusBar(self.glyphs, tags).data_bind(Dashboard.state, Dashboard.link_status)
        top.station = self.station
        yield top
        yield ContentSwitcher()
        yield Notice(self.glyphs)
        commands = self.parts.commands
        titles = [view.title for view in self.parts.views.numbered]
        yield Footer(titles, commands.keymap, self.glyphs, commands.is_refused)

    def on_mount(self) -> None:
        """Draw the first frame, then create the rest; keys are queued until it is there."""
        self.hold_keys()
        self.call_after_refresh(self.run_worker, self._open)

    async def _open(self) -> None:
        """Create the screens, then attach to the cores."""
        kinds = await asyncio.to_thread(lambda: [view.load() for view in screens.ALL])
        scopes = {view.NAME: view.COMMANDS for view in kinds}
        commands = self.parts.commands
        commands.scopes = scopes | {"app": (*COMMANDS, *FLEET)}
        self._problems += keymap_problems(commands.scopes, commands.keymap)
        self.set_keymap(dict(commands.keymap))
        frame = self.parts.frame.screen
        await frame.mount(NoCoreNotice(), before=frame.query_one(ContentSwitcher))
        await frame.mount(Prompt(self.glyphs), before=frame.query_one(Notice))
        await self._furnish()
        self.set_interval(REFRESH_S, self._look)
        for problem in self._problems:
            self.say(problem, "error")
        if self._welcome:
            self.say(self._welcome(self.key_of), stays=True)
        self.parts.machines.reach_at_start()
        self._look_first()
        self.release_keys()
        self.survives = True

    async def _furnish(self) -> None:
        """Create the screens that do not exist yet."""
        if self.current not in await self.parts.views.create():
            self.watch_current()

    @work
    async def _look_first(self) -> None:
        """Look when the core has answered: at the next look that would be a quarter second old."""
        await self.link.answered.wait()
        self._look()

    def _look(self) -> None:
        """Hand the newest State to the screens; an unchanged one draws nothing."""
        self._looks += 1
        self.parts.messages.fade()
        slow = self.parts.machines.low_bandwidth
        self.animation_level = "none" if slow else "full"
        if slow and self._looks % SLOW and self.state is not None:
            return
        if not self.parts.frame.is_mounted:
            return
        self.link_status = self.link.status
        before, self.state = self.state, self.link.latest
        if self.state is not None and self.state is not before:
            self.parts.questions.check_subject(self.state)
            self.parts.news.tell(before, self.state, self._write)
        recording = self.state is not None and self.state.recording is not None
        if recording or self.link_status.state is not LinkState.LIVE:  # both count seconds
            for bar in self.parts.frame.parts(StatusBar):  # gone while the frame is removed
                bar.draw()

    def watch_link_status(self, before: LinkStatus, now: LinkStatus) -> None:
        """Show a change of the connection to the core."""
        self.parts.frame.screen.set_class(now.state is LinkState.LOST, "stale")
        for trouble in self.parts.frame.screen.query(NoCoreNotice):  # created after the first frame
            trouble.show(now.error if now.is_blocked else None, self.key_of("app.retry"))
        self.parts.news.tell_link(before, now)

    def _write(self, sent: str) -> None:
        """Send an escape sequence to the terminal."""
        if self._driver is not None:
            self._driver.write(sent)
            self._driver.flush()

    async def rebuild_screens(self) -> None:
        """Replace the screens, which hold data of the machine shown before."""
        self.parts.questions.call_off()
        if self.current == screens.FLEET.name:
            self.current = self.parts.views.numbered[0].name
        with self.keys_held(), self.batch_update():
            # First as if connecting: the loss of the other machine's core is no news of this one.
            self.state, self.link_status = None, LinkStatus(state=LinkState.CONNECTING)
            self.link_status = self.link.status
            self.parts.frame.screen.query_one(StatusBar).station = self.station
            views = [view for view in self.parts.views.existing if view.id != screens.FLEET.name]
            await self.parts.views.remove(views)
            self.state = self.link.latest
            await self._furnish()

    # Views

    @property
    def view(self) -> View:
        """The view in front."""
        return self.parts.views.front

    def watch_current(self, before: str = "", now: str = "") -> None:
        """Bring the view to the front."""
        if not self.parts.frame.is_mounted:
            return
        if before not in ("", now):
            self.parts.navigation.left(before)
        if self.parts.views.created(self.current) is None:
            return  # `_furnish` calls this again once the screen exists
        self.parts.views.show(self.current)
        self.parts.messages.leave_view(for_log=self.current == "log")
        self.parts.frame.screen.query_one(Footer).current = self.parts.views.number_of(self.current)
        self.view.activated()
        self.keys_changed()

    def keys_changed(self) -> None:
        """Show the keys of the view in front."""
        if not self.parts.frame.is_mounted:
            return
        view = self.view
        everywhere = [("app", each) for each in self.parts.commands.everywhere if each.footer]
        entries = [*view.keys_shown(), *(() if view.writing else everywhere)]
        self.parts.frame.screen.query_one(Footer).entries = tuple(entries)

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Textual's filters, and one for the signs that the terminal can show."""
        filters = list(super().get_line_filters())
        if self.theme == PLAIN:
            filters.append(NoColor())  # code of answers is highlighted in every theme
        if self.glyphs is CONSOLE:
            return [*filters, ConsoleOnly()]
        return [*filters, AsciiOnly()] if self.glyphs is ASCII else filters

    def on_footer_view_clicked(self, event: Footer.ViewClicked) -> None:
        """A view was clicked in the footer."""
        self.current = self.parts.views.numbered[event.number].name

    async def on_footer_pressed(self, event: Footer.Pressed) -> None:
        """A key was clicked in the footer."""
        command = event.command
        scope = self if event.scope == "app" else self.view
        await self.run_action(command.action or command.name, scope)

    def action_show(self, name: str) -> None:
        """Go to a view."""
        if self.parts.views.has(name):
            self.current = name

    def action_next(self) -> None:
        """Go to the next view."""
        self.current = self.parts.views.beside(self.current, 1)

    def action_previous(self) -> None:
        """Go to the view before."""
        self.current = self.parts.views.beside(self.current, -1)

    async def action_back(self) -> None:
        """Go back one step in the view."""
        if not self.view.dismiss():
            self.parts.messages.hide()

    def action_help(self) -> None:
        """Show every key; of a question only its own."""
        if not self.parts.questions.show_help():
            self.parts.help.show()

    # Questions and failures

    def question_ended(self) -> None:
        """Show the message again, and give the focus to the view where nothing has it."""
        self.parts.messages.reveal()
        if not self.parts.frame.is_mounted or self.parts.frame.screen.focused is not None:
            return
        view = self.parts.views.created(self.current)
        if view is not None:  # None while the views are replaced
            view.activated()

    async def renew_view(self) -> None:
        """Create the view in front anew."""
        views = [view for view in self.parts.views.existing if view.id == self.current]
        with self.keys_held():
            await self.parts.views.remove(views)
            await self._furnish()

    async def on_event(self, event: events.Event) -> None:
        """Cancel the question at a click beside it, before the click does anything else."""
        if isinstance(event, events.MouseDown):
            self.parts.questions.clicked(int(event.screen_x), int(event.screen_y))
        await super().on_event(event)

    def on_footer_question_clicked(self, event: Footer.QuestionClicked) -> None:
        """The key line of the question was clicked: at a key, or beside all keys."""
        self.parts.questions.key_clicked(event.key)

    def on_prompt_dropped(self, event: Prompt.Dropped) -> None:
        """A question that waited is not asked any more."""
        self.parts.questions.dropped(event.question)

    def on_prompt_help_wanted(self) -> None:
        """`?` was pressed in the question."""
        self.parts.questions.show_help()

    def on_resize(self) -> None:
        """Lay the question out again, once Textual has noted the new size."""
        self.call_later(self.parts.questions.draw)

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        """Stop the cursor from blinking on a slow link: each blink is sent."""
        if self.parts.machines.low_bandwidth and hasattr(event.widget, "cursor_blink"):
            event.widget.cursor_blink = False

    # Actions

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Whether a key applies: not those for several machines where there is one."""
        if action in ACTIONS and not self.parts.navigation.applies(action):
            return False
        several = self.parts.machines.are_several
        return several or (action, *parameters) not in {("machine",), ("show", "fleet")}

    async def run_action(
        self,
        action: str | ActionParseResult,
        default_namespace: DOMNode | None = None,
        namespaces: Mapping[str, DOMNode] | None = None,
    ) -> bool:
        """Run an action, unless it belongs to a command that is refused."""
        if isinstance(action, str):
            is_own = default_namespace is self
            scope = "app" if is_own else getattr(default_namespace, "NAME", "app")
            if self.parts.commands.refuses_action(scope, action):
                return True
        return await super().run_action(action, default_namespace, namespaces)

    async def action_go_to(self) -> None:
        """Open the go-to line."""
        await self.parts.navigation.open_line(everything=False)

    async def action_everything(self) -> None:
        """Open the go-to line with everything listed."""
        await self.parts.navigation.open_line(everything=True)

    def action_earlier(self) -> None:
        """Go back to the place before."""
        self.parts.navigation.go_back()

    def action_later(self) -> None:
        """Go forward to the place that was gone back from."""
        self.parts.navigation.go_forward()

    @work(exclusive=True, group="theme")
    async def action_theme(self) -> None:
        """Choose a theme with a preview."""
        await self.parts.themes.ask()

    def action_machine(self) -> None:
        """Go to the next machine."""
        self.parts.machines.show_next()

    def action_retry(self) -> None:
        """Reconnect to the core that is shown, unless it answers."""
        self.parts.machines.retry()

    # Leaving

    @work(exclusive=True, group="leave")
    async def action_leave(self) -> None:
        """Leave; ask first when something would be lost."""
        stakes = self.parts.views.at_stake()
        if not stakes or await self.confirm(stakes, "leave anyway", "stay"):
            self.exit()

    async def action_quit(self) -> None:
        """Leave the way `ctrl+c` does, also from Textual's own command."""
        self.action_interrupt()

    def action_interrupt(self) -> None:
        """Handle `ctrl+c`: copy the selection, else cancel the question, else leave."""
        if selected := self.screen.get_selected_text():
            self.copy_to_clipboard(selected)
            self.screen.clear_selection()
            self.say("Copied.", "done")
        elif self.parts.frame.is_covered:
            self.post_message(events.Key("escape", None))  # closes the dialog
        elif not self.parts.questions.dismiss():
            self.action_leave()

    def action_undo(self) -> None:
        """Undo what the view in front did last, else the last removal or cancel in the core."""
        if not self.view.take_back():
            self.undo_in_core()

    def undo_in_core(self) -> None:
        """Undo the last removal or cancel that deleted no files."""
        self.parts.actions.undo(lambda: self.view.undone())
