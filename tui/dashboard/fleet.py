"""The machines of a dashboard: the link to the core of each, and switching between them."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual.app import App
from textual.worker import Worker

from modeldeck.core.config.config import Tui
from modeldeck.core.errors import DeckError, Forbidden
from modeldeck.tui.remote.core_link import FAR_S, CoreLink, LinkState, LinkStatus

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
    is_late: bool = False
    """Whether it is connected when Fleet is shown for the first time, and not at the start."""
    prefer: int = 0
    """Of machines that would serve a model equally well, the one with the most comes first."""

    @property
    def title(self) -> str:
        """Its name, as people know it."""
        if self.name or self.link.latest is None:
            return self.name or "this machine"
        return self.link.latest.host.name


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


class MachineSwitch:
    """Shows one of several machines, and keeps the links to all of them."""

    def __init__(
        self,
        app: App[None],
        stations: tuple[FleetMachine, ...],
        settings: Tui,
        *,
        changed: Callable[[], Coroutine[None, None, None]],
        at_stake: Callable[[], Sequence[str]],
        confirm: Callable[[Sequence[str]], Awaitable[bool]],
    ) -> None:
        """Begin with the first machine.

        Args:
            app: The dashboard.
            stations: The machines.
            settings: The `[tui]` table of the configuration.
            changed: Rebuilds the screens after another machine was chosen.
            at_stake: What is lost with the screens of a machine, a sentence each.
            confirm: Asks whether to lose that.
        """
        self._app = app
        self._settings = settings
        self._changed = changed
        self._at_stake = at_stake
        self._confirm = confirm
        self.stations = stations
        self._at = 0
        self._connected: set[int] = set()
        """The machines that were connected to, at least tried."""
        self.asks = False
        """Whether `ssh` has the terminal, and gets ctrl+c."""

    @property
    def are_several(self) -> bool:
        """Whether there are several machines."""
        return len(self.stations) > 1

    @property
    def were_named(self) -> bool:
        """Whether there are several machines, all of which the person named at the start."""
        return self.are_several and not any(station.is_late for station in self.stations)

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
            self._settings.low_bandwidth,
            over_ssh=bool(os.environ.get("SSH_CONNECTION")),
            round_trip_s=self.link.status.round_trip_s,
        )

    def reach(self, *stations: int) -> None:
        """Attach to the cores of these machines; slow, so called after the first frame."""
        self._connected.update(stations)
        for at in stations:
            link = self.stations[at].link
            _work: Worker[None] = self._app.run_worker(
                link.run, name="link", group=f"link {at}", exclusive=True
            )

    def reach_at_start(self) -> None:
        """Attach to the core that is shown, and to those that do not wait for Fleet."""
        early = (at for at, each in enumerate(self.stations) if not each.is_late or at == self._at)
        self.reach(*(at for at in early if at not in self._connected))

    def reach_all(self) -> None:
        """Attach to the cores of all machines that have not been connected to yet."""
        self.reach(*(at for at in range(len(self.stations)) if at not in self._connected))

    def retry(self) -> None:
        """Reconnect to the core that is shown, unless it answers."""
        self.again(self._at)

    def again(self, at: int) -> None:
        """Reconnect to a core unless it answers; `ssh` may ask for a password."""
        station = self.stations[at]
        if station.link.status.state not in (LinkState.LOST, LinkState.FAILED):
            return
        if isinstance(station.link.status.error, Forbidden) and station.host is not None:
            asking = self._ask(at, station.host)
            self._app.run_worker(asking, name="ask", group="ask", exclusive=True)
        else:
            self.reach(at)

    async def _ask(self, at: int, host: ReachableCore) -> None:
        """Give the terminal to `ssh` for its questions; the app draws nothing meanwhile."""
        self.asks = True
        try:
            with self._app.batch_update(), self._app.suspend():
                print(f"Reaching {host.name}.", file=sys.stderr)
                # Textual does not take the terminal back after an exception.
                (failed,) = await asyncio.gather(host.ask(), return_exceptions=True)
        finally:
            self.asks = False
        await self._app.run_action("redraw")
        if failed is None:
            self.reach(at)
        elif not isinstance(failed, DeckError):  # after a DeckError the status stays
            raise failed

    def show_next(self) -> None:
        """Show the next machine."""
        self.show((self._at + 1) % len(self.stations))

    def show(self, at: int) -> None:
        """Show another machine; ask first where something would be lost with the screens."""
        if stakes := self._at_stake():
            self._app.run_worker(self._ask_to_show(at, stakes), group="machine", exclusive=True)
        else:
            self._show(at)

    async def _ask_to_show(self, at: int, stakes: Sequence[str]) -> None:
        if await self._confirm(stakes):
            self._app.call_later(self._show, at)  # its worker ends this one, of the same group

    def _show(self, at: int) -> None:
        self._at = at
        if at not in self._connected:
            self.reach(at)
        self._app.run_worker(self._changed(), group="machine", exclusive=True)
