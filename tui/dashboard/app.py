"""The dashboard: status bar, screens, notices and footer, and the link to a core.

The frame is drawn before the screens are imported and before the core has answered. Only the app
uses the link; every quarter of a second it hands the newest State to the screens, which redraw what
changed. Actions run in workers of the app; their results and errors become notices.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from textual import events, work
from textual.app import ComposeResult, SystemCommand
from textual.filter import LineFilter
from textual.reactive import var
from textual.screen import Screen
from textual.widgets import ContentSwitcher
from textual.worker import Worker

from modeldeck.core.config.config import Tui
from modeldeck.core.errors import DeckError
from modeldeck.tui.dashboard import screens
from modeldeck.tui.dashboard.ascii_filter import AsciiOnly
from modeldeck.tui.dashboard.commands import Command, KeyOf, bindings, first_key, keymap_problems
from modeldeck.tui.dashboard.dialogs.help_screen import HelpScreen
from modeldeck.tui.dashboard.diff_renderer import BaseScreen, DiffRenderer
from modeldeck.tui.dashboard.fleet import FleetApp, FleetMachine
from modeldeck.tui.dashboard.global_commands import COMMANDS, FLEET, turns
from modeldeck.tui.dashboard.screens.view import View
from modeldeck.tui.dashboard.theme import DEFAULT, Themes, fitting
from modeldeck.tui.dashboard.widgets import table_commands
from modeldeck.tui.dashboard.widgets.footer import Footer
from modeldeck.tui.dashboard.widgets.no_core import NoCoreNotice
from modeldeck.tui.dashboard.widgets.notice import Notice, NoticeMessage, Severity
from modeldeck.tui.dashboard.widgets.prompt import Prompt
from modeldeck.tui.dashboard.widgets.status_bar import StatusBar
from modeldeck.tui.remote.core_link import Attach, CoreLink, LinkState, LinkStatus
from modeldeck.tui.text.format import ASCII, Glyphs

if TYPE_CHECKING:
    from modeldeck.core.client.client import Client
    from modeldeck.core.schema import Undoable
    from modeldeck.core.schema.state import State

T = TypeVar("T")

REFRESH_S = 0.25
"""Seconds between two updates of the screens from the newest State."""
SLOW = 4
"""On a slow link only every fourth update is drawn."""

MESSAGES_KEPT = 500
"""Number of notices kept for the Log screen."""

ONE_LINE = 6
"""Height in lines below which only the status bar is shown."""


class Dashboard(DiffRenderer, FleetApp):
    """The app: shows one core, or several machines with a core each."""

    CSS = """
    Screen { layers: base; }
    ContentSwitcher { height: 1fr; }
    Screen.stale ContentSwitcher { opacity: 70%; }
    Screen.stale ContentSwitcher:ansi { opacity: 100%; text-style: dim; }
    Screen.-one-line {
        ContentSwitcher { height: 0; }
        Notice, Footer, NoCoreNotice { display: none; }
    }
    """
    VERTICAL_BREAKPOINTS = [(0, "-one-line"), (ONE_LINE, "-lines")]  # noqa: RUF012 (Textual's)
    BINDINGS = bindings("app", (*COMMANDS, *FLEET))  # type: ignore[assignment] # a list of one kind of what Textual takes

    state: var[State | None] = var(None)
    link_status: var[LinkStatus] = var(LinkStatus(state=LinkState.CONNECTING))
    current: var[str] = var(screens.VIEWS[0].name)

    def __init__(
        self,
        cores: Attach | Sequence[FleetMachine],
        *,
        glyphs: Glyphs,
        settings: Tui,
        keymap: Mapping[str, str],
        themes: Themes,
        keep_theme: Callable[[str], None] | None = None,
        problems: Sequence[str] = (),
        welcome: Callable[[KeyOf], str] | None = None,
        only: str | None = None,
    ) -> None:
        """Create the app; nothing is connected before it runs.

        Args:
            cores: The machines, or how to attach to the core of the only one.
            glyphs: Characters that the terminal can show.
            settings: The `[tui]` table of the configuration.
            keymap: Keys by full command name, from the configuration.
            themes: Themes to choose from.
            keep_theme: Saves the name of a chosen theme; may raise DeckError.
            problems: Errors to show once the frame is drawn.
            welcome: Makes the first notice.
            only: Name of the only screen to show; None for all.
        """
        stations = (FleetMachine("", CoreLink(cores)),) if callable(cores) else tuple(cores)
        super().__init__(
            stations,
            settings,
            machine_changed=self._rebuild_screens,
            no_color="NO_COLOR" in os.environ,
        )
        self._looks = 0
        several = len(self.stations) > 1
        self.views = tuple(view for view in screens.VIEWS if only in (None, view.name))
        self.views += (screens.FLEET,) if several and only is None else ()
        self._unnumbered = tuple(
            view for view in screens.ALL if view.under in [known.name for known in self.views]
        )
        self.commands = COMMANDS + (FLEET if several else ())
        if only is not None:
            self.commands = tuple(c for c in self.commands if not turns(c))
        self.set_reactive(Dashboard.current, self.views[-1 if several else 0].name)
        self.glyphs = glyphs
        self.keymap = keymap
        self._scopes: Mapping[str, Sequence[Command]] = {}
        self.messages: deque[NoticeMessage] = deque(maxlen=MESSAGES_KEPT)
        """Notices so far, for the Log screen."""
        self._themes = themes
        self._keep_theme = keep_theme
        for theme in themes.themes:
            self.register_theme(theme)
        known = settings.theme in self.available_themes
        self.theme = self._fitting(settings.theme if known else DEFAULT)
        self._problems = [*problems, *themes.problems]
        self._welcome = welcome
        if not known:
            self._problems.append(f"there is no theme {settings.theme!r}")

    def get_default_screen(self) -> BaseScreen:
        """The screen under all dialogs."""
        return BaseScreen()

    def compose(self) -> ComposeResult:
        """The widgets of the first frame."""
        top = StatusBar(self.glyphs).data_bind(Dashboard.state, Dashboard.link_status)
        top.station = self.station
        yield top
        yield ContentSwitcher()
        yield Notice(self.glyphs)
        yield Footer([view.title for view in self.views], self.keymap)

    def on_mount(self) -> None:
        """Draw the first frame, then create the rest; keys are queued until it is there."""
        self.hold_keys()
        self.call_after_refresh(self.run_worker, self._open)

    async def _open(self) -> None:
        """Create the screens, then attach to the cores."""
        kinds = await asyncio.to_thread(lambda: [view.load() for view in screens.ALL])
        self._scopes = {view.NAME: view.COMMANDS for view in kinds} | {"app": (*COMMANDS, *FLEET)}
        self._problems += keymap_problems(self._scopes, self.keymap)
        self.set_keymap(dict(self.keymap))
        frame = self._frame
        await frame.mount(NoCoreNotice(), before=frame.query_one(ContentSwitcher))
        await frame.mount(Prompt(), before=frame.query_one(Notice))
        await self._furnish()
        self.set_interval(REFRESH_S, self._look)
        for problem in self._problems:
            self.say(problem, "error")
        if self._welcome:
            self.say(self._welcome(self.key_of))
        self.reach(*range(len(self.stations)))
        self.release_keys()
        self.report_failure = self._report_failure

    async def _furnish(self) -> None:
        """Create the screens that do not exist yet."""
        switcher = self._frame.query_one(ContentSwitcher)
        there = {view.id for view in switcher.query(View)}
        made = [
            view.load()(id=view.name).data_bind(Dashboard.state)
            for view in (*self.views, *self._unnumbered)
            if view.name not in there
        ]
        for view in made:
            view.display = False
        await switcher.mount_all(made)
        if self.current not in there:
            self.watch_current()

    def _look(self) -> None:
        """Hand the newest State to the screens; an unchanged one draws nothing."""
        self._looks += 1
        slow = self.low_bandwidth
        self.animation_level = "none" if slow else "full"
        if slow and self._looks % SLOW and self.state is not None:
            return
        if not self._standing:
            return
        self.link_status = self.link.status
        before, self.state = self.state, self.link.latest
        if self.state is not None and self.state is not before:
            from modeldeck.tui.dashboard.notifications import news
            from modeldeck.tui.text.terminal_notification import ended

            for text, severity in news(before, self.state, self.key_of):
                self.say(text, severity)
            for text in ended(before, self.state, self.settings.notify_after_s):
                self.notify_outside(text)
        if self.link_status.state is not LinkState.LIVE:
            self._frame.query_one(StatusBar).draw()

    def key_of(self, name: str) -> str:
        """The key of a command such as `catalog.download`, as the user has it."""
        return first_key(name, self._scopes, self.keymap)

    def watch_link_status(self, before: LinkStatus, now: LinkStatus) -> None:
        """Show a change of the connection to the core."""
        self._frame.set_class(now.state is LinkState.LOST, "stale")
        for trouble in self._frame.query(NoCoreNotice):  # created after the first frame
            trouble.show(now.error if now.is_blocked else None, self.key_of("app.retry"))
        if before.state is now.state:
            return
        if now.error is not None:
            self.say(str(now.error), "error")
        elif before.state is LinkState.LOST:
            self.say("The core answers again.", "done")

    async def _rebuild_screens(self) -> None:
        """Replace the screens, which hold data of the machine shown before."""
        self._frame.query_one(Prompt).call_off()
        switcher = self._frame.query_one(ContentSwitcher)
        if self.current == screens.FLEET.name:
            self.current = self.views[0].name
        with self.batch_update():
            self.state, self.link_status = None, self.link.status
            self._frame.query_one(StatusBar).station = self.station
            for view in [view for view in switcher.query(View) if view.id != screens.FLEET.name]:
                await view.remove()
            switcher.current = None  # so that the new view of this name comes to the front
            self.state = self.link.latest
            await self._furnish()

    # Views

    @property
    def view(self) -> View:
        """The view in front."""
        name = self._frame.query_one(ContentSwitcher).current
        return self._frame.query_one(f"#{name}", View)

    def watch_current(self) -> None:
        """Bring the view to the front."""
        if not self._standing or not self._frame.query(f"#{self.current}"):
            return  # `_furnish` calls this again once the screen exists
        self._frame.query_one(ContentSwitcher).current = self.current
        footer = self._frame.query_one(Footer)
        footer.current = self._front
        self.view.activated()
        self.keys_changed()

    def keys_changed(self) -> None:
        """Show the keys of the view in front."""
        if not self._standing:
            return
        view = self.view
        everywhere = [("app", command) for command in self.commands if command.footer]
        entries = [*view.keys_shown(), *(() if view.writing else everywhere)]
        self._frame.query_one(Footer).entries = tuple(entries)

    @property
    def _standing(self) -> bool:
        """Whether the frame is mounted; timers and workers still run while it is removed."""
        return bool(self.screen_stack) and any(
            isinstance(part, Footer) for part in self._frame.children
        )

    @property
    def _frame(self) -> Screen[Any]:
        """The screen with the frame, under all dialogs."""
        return self.screen_stack[0]

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Textual's filters, and one for ASCII where the terminal can show no more."""
        filters = super().get_line_filters()
        return [*filters, AsciiOnly()] if self.glyphs is ASCII else filters

    def on_footer_view_clicked(self, event: Footer.ViewClicked) -> None:
        """A view was clicked in the footer."""
        self.current = self.views[event.number].name

    async def on_footer_pressed(self, event: Footer.Pressed) -> None:
        """A key was clicked in the footer."""
        command = event.command
        scope = self if event.scope == "app" else self.view
        await self.run_action(command.action or command.name, scope)

    def action_show(self, name: str) -> None:
        """Go to a view."""
        if name in [view.name for view in (*self.views, *self._unnumbered)]:
            self.current = name

    def action_next(self) -> None:
        """Go to the next view."""
        self._step(1)

    def action_previous(self) -> None:
        """Go to the view before."""
        self._step(-1)

    def _step(self, by: int) -> None:
        self.current = self.views[(self._front + by) % len(self.views)].name

    @property
    def _front(self) -> int:
        """Index of the view in front, or of the view it belongs to."""
        above = {view.name: view.under for view in self._unnumbered}
        return [view.name for view in self.views].index(above.get(self.current, self.current))

    async def action_back(self) -> None:
        """Go back one step in the view."""
        if not self.view.dismiss():
            self._frame.query_one(Notice).message = None

    def action_help(self) -> None:
        """Show every key."""
        view = self.view
        lists = table_commands.COMMANDS if view.query("Table") else ()
        parts = [
            (view.TITLE, view.NAME, view.COMMANDS),
            *view.MORE,
            ("Lists", table_commands.SCOPE, lists),
            ("Everywhere", "app", self.commands),
        ]
        self.push_screen(HelpScreen(parts, self.keymap))

    def _fitting(self, name: str) -> str:
        """The theme to show for the wanted one, by the colours of the terminal."""
        theme = self.available_themes[name]
        return fitting(theme, self.console.color_system, no_color=self.no_color)

    @work(exclusive=True, group="theme")
    async def action_theme(self) -> None:
        """Choose a theme with a preview."""
        from modeldeck.tui.dashboard.dialogs.theme_picker import ThemePicker

        picker = ThemePicker(
            self._themes.themes,
            lambda theme: self._fitting(theme.name) == theme.name,
            self._themes.problems,
        )
        chosen = await self.push_screen_wait(picker)
        if chosen is not None and self._keep_theme is not None:
            try:
                await asyncio.to_thread(self._keep_theme, chosen)
            except DeckError as error:
                self.say(str(error), "error")
            else:
                self.say(f"The theme is {chosen} from now on.", "done")

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """Commands of the palette: those of the view in front, and the global ones."""
        for scope, commands in ((self.view, self.view.COMMANDS), (self, self.commands)):
            for command in commands:
                run = partial(self.run_action, command.action or command.name, scope)
                yield SystemCommand(command.label, command.help, run)

    # Actions and notices

    def perform(
        self,
        doing: Callable[[Client], Awaitable[T]],
        done: Callable[[T], str] | None = None,
        *,
        group: str = "",
    ) -> Worker[None]:
        """Run an action in a worker; its receipt or error becomes a notice."""

        async def work() -> None:
            try:
                answer = await doing(self.link.client)
            except DeckError as error:
                self.say(str(error), "error")
            else:
                if done is not None:
                    self.say(done(answer), "done")

        return self.run_worker(work, group=group or "verbs", exclusive=bool(group))

    def say(self, text: str, severity: Severity = "note") -> None:
        """Show a notice, and keep it for the Log screen."""
        now = datetime.now()
        message = NoticeMessage(
            text=text, severity=severity, at=now.strftime("%H:%M:%S"), stamp=now.timestamp()
        )
        self.messages.append(message)
        if self._standing:
            self._frame.query_one(Notice).message = message

    def _report_failure(self, error: DeckError) -> None:
        self.say(str(error), "error")

    async def confirm(self, lines: Sequence[str], verb: str) -> bool:
        """Show a plan and ask; True when the user confirms it."""
        return await self._frame.query_one(Prompt).confirm(lines, verb)

    async def ask(self, label: str, value: str = "", hint: str = "") -> str | None:
        """Ask for one line of text; None when cancelled."""
        return await self._frame.query_one(Prompt).line(label, value, hint)

    # Leaving

    @work(exclusive=True, group="leave")
    async def action_leave(self) -> None:
        """Leave; ask first when something would be lost."""
        stakes = [words for view in self._frame.query(View) if (words := view.at_stake())]
        if not stakes or await self.confirm(stakes, "leave anyway"):
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
        elif self.screen is not self._frame:
            self.post_message(events.Key("escape", None))  # closes the dialog
        elif not self._frame.query_one(Prompt).call_off():
            self.action_leave()

    def action_undo(self) -> None:
        """Undo the last removal or cancel that deleted no files."""

        def receipt(done: Undoable) -> str:
            self.view.undone()
            return f"taken back: {done.what}"

        self.perform(lambda client: client.undo(), receipt)
