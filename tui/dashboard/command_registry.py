"""`CommandRegistry`: the commands of all views, their keys, and those that are refused now."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from modeldeck.tui.dashboard.commands import Command, first_key
from modeldeck.tui.dashboard.message_display import MessageDisplay

READ_ONLY = "Read-only: this dashboard was started with --readonly."
"""Said in place of what would change something."""

NO_ANSWER = "The core has not answered yet: nothing was done."
"""Said in place of what would change something of a core that is not known."""

OF_THE_CORE = frozenset({"catalog", "downloads", "memory", "requests", "disk"})
"""Views whose rows the core tells: before it answers there is nothing to change."""


class CommandRegistry:
    """The commands by the name of their view; none before `scopes` is set."""

    def __init__(
        self,
        keymap: Mapping[str, str],
        messages: MessageDisplay,
        *,
        everywhere: Sequence[Command],
        read_only: bool,
        has_state: Callable[[], bool],
    ) -> None:
        """Create a registry that does not know the commands of the views yet.

        Args:
            keymap: Keys by full command name, from the configuration.
            messages: Where it is said that a command is refused.
            everywhere: The commands that are offered in every view.
            read_only: Whether commands that change something are refused.
            has_state: Whether the core has told its State.
        """
        self.keymap = keymap
        self.everywhere = everywhere
        self.read_only = read_only
        self._has_state = has_state
        self._messages = messages
        self._scopes: Mapping[str, Sequence[Command]] = {}
        self._by_action: dict[tuple[str, str], Command] = {}

    @property
    def scopes(self) -> Mapping[str, Sequence[Command]]:
        """The commands, by the name of their view; `app` for those of every view."""
        return self._scopes

    @scopes.setter
    def scopes(self, scopes: Mapping[str, Sequence[Command]]) -> None:
        self._scopes = scopes
        self._by_action = {
            (scope, command.action or command.name): command
            for scope, commands in scopes.items()
            for command in commands
        }

    def key_of(self, name: str) -> str:
        """The key of a command such as `catalog.download`, as the user has it."""
        return first_key(name, self._scopes, self.keymap)

    def named(self, name: str) -> Command | None:
        """The command of this full name; None for none."""
        scope, _, own = name.partition(".")
        return next((c for c in self._scopes.get(scope, ()) if c.name == own), None)

    def is_refused(self, command: Command | None) -> bool:
        """Whether a command cannot be run, as it changes something."""
        return self.read_only and command is not None and command.changes

    def refuses_action(self, scope: str, action: str) -> bool:
        """Whether the command with this action in this view cannot be run, which is then said."""
        return self._refuses(scope, self._by_action.get((scope, action)))

    def refuses_named(self, name: str) -> bool:
        """The same for the command of this full name."""
        return self._refuses(name.partition(".")[0], self.named(name))

    def _refuses(self, scope: str, command: Command | None) -> bool:
        """Whether a command cannot be run now, which is said. All commands are asked about here.

        The first one that changes something also ends the message that welcomes the user.
        """
        if command is None or not command.changes:
            return False
        if self.read_only:
            self._messages.say(READ_ONLY)
            return True
        if scope in OF_THE_CORE and not self._has_state():
            self._messages.say(NO_ANSWER)
            return True
        self._messages.end_welcome()
        return False

    def refuses_to_load(self, *, loaded: bool) -> bool:
        """Whether a question to a model is refused, as it would load the model; says so."""
        if loaded or not self.read_only:
            return False
        self._messages.say(f"{READ_ONLY} Chat talks to loaded models only.")
        return True
