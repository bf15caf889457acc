"""The parts of the dashboard, each created with what it uses of the others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from modeldeck.tui.dashboard import screens
from modeldeck.tui.dashboard.actions import ActionRunner
from modeldeck.tui.dashboard.command_registry import CommandRegistry
from modeldeck.tui.dashboard.failure_report import FailureReport
from modeldeck.tui.dashboard.fleet import FleetMachine, MachineSwitch
from modeldeck.tui.dashboard.frame import DashboardFrame
from modeldeck.tui.dashboard.global_commands import everywhere
from modeldeck.tui.dashboard.go_to.navigation import GoToNavigation
from modeldeck.tui.dashboard.help_opener import HelpOpener
from modeldeck.tui.dashboard.key_queue import OrderedKeyApp
from modeldeck.tui.dashboard.message_display import MessageDisplay
from modeldeck.tui.dashboard.news_display import NewsDisplay
from modeldeck.tui.dashboard.options import DashboardOptions
from modeldeck.tui.dashboard.question_asker import QuestionAsker
from modeldeck.tui.dashboard.screens.view import View
from modeldeck.tui.dashboard.theme_choice import ThemeChoice
from modeldeck.tui.dashboard.view_switch import ViewSwitch


class PartsOwner(Protocol):
    """What the parts use of the dashboard, besides what every app has."""

    def name_in_front(self) -> str:
        """Name of the view in front."""

    def action_show(self, name: str) -> None:
        """Go to a view."""

    def bind_view(self, view: View) -> View:
        """Bind a new view to the state of the core."""

    async def rebuild_screens(self) -> None:
        """Replace the screens after another machine was chosen."""

    async def renew_view(self) -> None:
        """Create the view in front anew."""

    def question_ended(self) -> None:
        """Go on after a question."""

    def leave_failed(self, error: BaseException) -> None:
        """End the app after failures that go on."""


class DashboardParts:
    """The parts of a dashboard. They know each other, and of the dashboard only `PartsOwner`."""

    def __init__(
        self,
        app: OrderedKeyApp,
        owner: PartsOwner,
        stations: tuple[FleetMachine, ...],
        options: DashboardOptions,
        *,
        clock: Callable[[], float],
    ) -> None:
        """Create the parts.

        Args:
            app: The dashboard, as Textual sees it.
            owner: The same dashboard, as its parts see it.
            stations: The machines.
            options: What the dashboard is started with.
            clock: Time in seconds by which messages fade and failures count together.
        """
        self.frame = DashboardFrame(app)
        self.machines = MachineSwitch(
            app,
            stations,
            options.settings,
            changed=owner.rebuild_screens,
            at_stake=lambda: self.views.at_stake(but=screens.FLEET.name),
            confirm=lambda lines: self.questions.confirm(lines, "go anyway", "stay here"),
        )
        several = self.machines.are_several
        self.views = ViewSwitch(
            self.frame,
            only=options.only,
            several=several,
            fleet_first=self.machines.were_named,
            bind=owner.bind_view,
        )
        self.messages = MessageDisplay(
            self.frame,
            clock=clock,
            is_hidden=lambda: self.questions.shown is not None,
            is_log_in_front=lambda: owner.name_in_front() == "log" and not self.frame.is_covered,
        )
        self.questions = QuestionAsker(
            app, self.frame, say=self.messages.say, ended=owner.question_ended
        )
        self.commands = CommandRegistry(
            options.keymap,
            self.messages,
            everywhere=everywhere(several=several, only=options.only),
            read_only=options.settings.readonly,
            has_state=lambda: self.machines.link.latest is not None,
        )
        self.news = NewsDisplay(self.messages, options.settings, self.commands.key_of)
        self.actions = ActionRunner(app, lambda: self.machines.link.client, self.messages)
        self.help = HelpOpener(app, self.views, self.commands, options.glyphs)
        self.themes = ThemeChoice(
            app,
            options.themes,
            self.messages,
            wanted=options.settings.theme,
            keep=options.keep_theme,
        )
        self.failures = FailureReport(
            app,
            self.messages,
            clock=clock,
            log_key=lambda: self.commands.key_of("app.log"),
            dismiss_question=self.questions.dismiss,
            renew_view=owner.renew_view,
            leave=owner.leave_failed,
        )
        self.navigation = GoToNavigation(
            app, self, options.glyphs, show=owner.action_show, name_in_front=owner.name_in_front
        )
