"""The machines of a dashboard: each with the link to its core, and how it is reached."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual import events

from modeldeck.core.config.config import Tui
from modeldeck.core.errors import DeckError, Forbidden
from modeldeck.tui.dashboard.key_queue import OrderedKeyApp
from modeldeck.tui.dashboard.worker_failures import FailuresTold
from modeldeck.tui.remote.core_link import FAR_S, CoreLink, LinkState, LinkStatus
from modeldeck.tui.text.terminal_notification import sequence

if TYPE_CHECKING:
    from modeldeck.tui.remote.core_host import ReachableCore


@dataclass(frozen=True, slots=True)
class FleetMachine:
    """One machine, as a dashboard sees it."""

    name: str
    """Empty for this machine, where it is the only one: its core tells its name."""
    link: CoreLink
    way: str = ""
    """How it is reached, in a word: `ssh`, `https`; empty for this machine."""
    host: ReachableCore | None = None
    """What it is reached by, for what passes between machines; None where it is the only one."""


def trip(status: LinkStatus) -> str:
    """The round trip, in a step that a person feels; empty where it is none."""
    seconds = status.round_trip_s or 0.0
    return f"{seconds * 1000:.0f} ms" if seconds >= 0.01 else ""


def low_bandwidth(wanted: bool | None, *, over_ssh: bool, round_trip_s: float | None) -> bool:
    """Whether to draw seldom and without animation: as set, else where the line is slow.

    >>> low_bandwidth(None, over_ssh=False, round_trip_s=0.3)
    True
    >>> low_bandwidth(False, over_ssh=True, round_trip_s=None)
    False
    """
    if wanted is not None:
        return wanted
    return over_ssh or (round_trip_s or 0.0) >= FAR_S


class FleetApp(FailuresTold, OrderedKeyApp):
    """An app that looks at one of several machines, and keeps the links to all of them."""

    def __init__(self, stations: tuple[FleetMachine, ...], settings: Tui, no_color: bool) -> None:
        super().__init__(ansi_color=True if no_color else None)
        self.stations = stations
        self.settings = settings
        self._at = 0
        self.asks = False
        """Whether the terminal is given to `ssh` now, and with it ctrl+c."""

    @property
    def station(self) -> FleetMachine:
        """The machine that is shown."""
        return self.stations[self._at]

    @property
    def link(self) -> CoreLink:
        """The link to its core."""
        return self.station.link

    @property
    def low_bandwidth(self) -> bool:
        """Whether to draw seldom and without animation."""
        return low_bandwidth(
            self.settings.low_bandwidth,
            over_ssh=bool(os.environ.get("SSH_CONNECTION")),
            round_trip_s=self.link.status.round_trip_s,
        )

    def reach(self, *stations: int) -> None:
        """Attach to cores. Not before the frame is drawn: what that needs takes a while."""
        for at in stations:
            link = self.stations[at].link
            self.run_worker(link.run(), name="link", group=f"link {at}", exclusive=True)

    def action_retry(self) -> None:
        """Look for a core anew, unless one answers."""
        self.again(self._at)

    def again(self, at: int) -> None:
        """Look for a core anew, unless one answers; let `ssh` ask where it has to."""
        station = self.stations[at]
        if station.link.status.state not in (LinkState.LOST, LinkState.FAILED):
            return
        if isinstance(station.link.status.error, Forbidden) and station.host is not None:
            self.run_worker(self._ask(at, station.host), name="ask", group="ask", exclusive=True)
        else:
            self.reach(at)

    async def _ask(self, at: int, host: ReachableCore) -> None:
        """Give the terminal to `ssh` for as long as it asks; nothing is drawn meanwhile."""
        self.asks = True
        with self.batch_update(), self.suspend():
            print(f"Reaching {host.name}.", file=sys.stderr)
            # Textual does not take the terminal back where something is raised.
            (failed,) = await asyncio.gather(host.ask(), return_exceptions=True)
        self.asks = False
        await self.run_action("redraw")
        if failed is None:
            self.reach(at)
        elif not isinstance(failed, DeckError):  # what ssh said still holds
            raise failed

    def action_machine(self) -> None:
        """Go to the next machine."""
        self.go((self._at + 1) % len(self.stations))

    def go(self, at: int) -> None:
        """Show another machine."""
        self._at = at
        self.run_worker(self.moved(), group="machine", exclusive=True)

    async def moved(self) -> None:
        """Another machine is shown now."""
        raise NotImplementedError

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """What is about several machines is no key where there is one."""
        several = len(self.stations) > 1
        return several or (action, *parameters) not in {("machine",), ("show", "fleet")}

    def notify_outside(self, words: str) -> None:
        """Tell whoever looks elsewhere, as the setting has it."""
        if self._driver is not None and (sent := sequence(words, self.settings.notify, os.environ)):
            self._driver.write(sent)
            self._driver.flush()

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        """A cursor that blinks sends bytes for as long as it stands there."""
        if self.low_bandwidth and hasattr(event.widget, "cursor_blink"):
            event.widget.cursor_blink = False
