"""The machines of a dashboard: the link to the core of each, and switching between them."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual import events

from modeldeck.core.config.config import Tui
from modeldeck.core.errors import DeckError, Forbidden
from modeldeck.tui.dashboard.key_queue import OrderedKeyApp
from modeldeck.tui.dashboard.worker_failures import WorkerFailureApp
from modeldeck.tui.remote.core_link import FAR_S, CoreLink, LinkState, LinkStatus
from modeldeck.tui.text.terminal_notification import sequence

if TYPE_CHECKING:
    from modeldeck.tui.remote.core_host import ReachableCore


@dataclass(frozen=True, slots=True)
class FleetMachine:
    """One machine of a dashboard."""

    name: str
    """Empty for a single local machine: its core sends its name."""
    link: CoreLink
    way: str = ""
    """Protocol it is reached by, such as `ssh` or `https`; empty for the local machine."""
    host: ReachableCore | None = None
    """Connection for copies between machines; None for a single machine."""


def trip(status: LinkStatus) -> str:
    """The round-trip time as text; empty below 10 ms."""
    seconds = status.round_trip_s or 0.0
    return f"{seconds * 1000:.0f} ms" if seconds >= 0.01 else ""


def low_bandwidth(wanted: bool | None, *, over_ssh: bool, round_trip_s: float | None) -> bool:
    """Whether to draw less often and without animation: the setting, else for a slow link.

    >>> low_bandwidth(None, over_ssh=False, round_trip_s=0.3)
    True
    >>> low_bandwidth(False, over_ssh=True, round_trip_s=None)
    False
    """
    if wanted is not None:
        return wanted
    return over_ssh or (round_trip_s or 0.0) >= FAR_S


class FleetApp(WorkerFailureApp, OrderedKeyApp):
    """An app that shows one of several machines and keeps the links to all of them."""

    def __init__(
        self,
        stations: tuple[FleetMachine, ...],
        settings: Tui,
        *,
        machine_changed: Callable[[], Coroutine[None, None, None]],
        no_color: bool,
    ) -> None:
        """`machine_changed` rebuilds the screens after another machine was chosen."""
        super().__init__(ansi_color=True if no_color else None)
        self._machine_changed = machine_changed
        self.stations = stations
        self.settings = settings
        self._at = 0
        self.asks = False
        """Whether `ssh` has the terminal, and gets ctrl+c."""

    @property
    def station(self) -> FleetMachine:
        """The machine that is shown."""
        return self.stations[self._at]

    @property
    def link(self) -> CoreLink:
        """The link to the core of the machine that is shown."""
        return self.station.link

    @property
    def low_bandwidth(self) -> bool:
        """Whether to draw less often and without animation."""
        return low_bandwidth(
            self.settings.low_bandwidth,
            over_ssh=bool(os.environ.get("SSH_CONNECTION")),
            round_trip_s=self.link.status.round_trip_s,
        )

    def reach(self, *stations: int) -> None:
        """Attach to the cores of these machines; slow, so called after the first frame."""
        for at in stations:
            link = self.stations[at].link
            self.run_worker(link.run(), name="link", group=f"link {at}", exclusive=True)

    def action_retry(self) -> None:
        """Reconnect to the core that is shown, unless it answers."""
        self.again(self._at)

    def again(self, at: int) -> None:
        """Reconnect to a core unless it answers; `ssh` may ask for a password."""
        station = self.stations[at]
        if station.link.status.state not in (LinkState.LOST, LinkState.FAILED):
            return
        if isinstance(station.link.status.error, Forbidden) and station.host is not None:
            self.run_worker(self._ask(at, station.host), name="ask", group="ask", exclusive=True)
        else:
            self.reach(at)

    async def _ask(self, at: int, host: ReachableCore) -> None:
        """Give the terminal to `ssh` for its questions; the app draws nothing meanwhile."""
        self.asks = True
        with self.batch_update(), self.suspend():
            print(f"Reaching {host.name}.", file=sys.stderr)
            # Textual does not take the terminal back after an exception.
            (failed,) = await asyncio.gather(host.ask(), return_exceptions=True)
        self.asks = False
        await self.run_action("redraw")
        if failed is None:
            self.reach(at)
        elif not isinstance(failed, DeckError):  # after a DeckError the status stays
            raise failed

    def action_machine(self) -> None:
        """Go to the next machine."""
        self.go((self._at + 1) % len(self.stations))

    def go(self, at: int) -> None:
        """Show another machine."""
        self._at = at
        self.run_worker(self._machine_changed(), group="machine", exclusive=True)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Disable the keys for several machines where there is one."""
        several = len(self.stations) > 1
        return several or (action, *parameters) not in {("machine",), ("show", "fleet")}

    def notify_outside(self, words: str) -> None:
        """Send a terminal notification, as the setting says."""
        if self._driver is not None and (sent := sequence(words, self.settings.notify, os.environ)):
            self._driver.write(sent)
            self._driver.flush()

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        """Stop the cursor from blinking on a slow link: each blink is sent."""
        if self.low_bandwidth and hasattr(event.widget, "cursor_blink"):
            event.widget.cursor_blink = False
