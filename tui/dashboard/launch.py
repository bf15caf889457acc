"""Opens the dashboard on a terminal, and disconnects from its cores at the end.

The dashboard is drawn before it attaches to a core. Cores are left after the terminal is restored,
so that a core that ends slowly does not block the terminal. A hang-up (a lost SSH session) leaves
the user's core running.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from modeldeck.core.concurrency import each_to_its_end
from modeldeck.core.config import config_file
from modeldeck.core.config.config import Config, Tui
from modeldeck.core.config.paths import Paths, locate
from modeldeck.core.remote.printable import clean
from modeldeck.core.storage.log_file import put_aside
from modeldeck.tui.dashboard import theme
from modeldeck.tui.dashboard.app import Dashboard
from modeldeck.tui.dashboard.column_store import ColumnStore
from modeldeck.tui.dashboard.commands import KeyOf
from modeldeck.tui.dashboard.fleet import FleetMachine
from modeldeck.tui.dashboard.options import DashboardOptions, open_chats
from modeldeck.tui.dashboard.terminal_driver import ProgramDriver
from modeldeck.tui.remote.core_host import DemoCore, OwnCore, ReachableCore
from modeldeck.tui.remote.core_link import CoreLink
from modeldeck.tui.remote.late_core import LateCore
from modeldeck.tui.remote.machines import HERE, Machine, beside
from modeldeck.tui.text.format import SIGNS, glyphs

if TYPE_CHECKING:
    from modeldeck.tui.remote.core_host import CoreHost, ReachableCore

ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Signals that end the dashboard without asking."""


def welcome(key_of: KeyOf) -> str:
    """First notice of the demo."""
    fetch, load, talk = (key_of(f"catalog.{name}") for name in ("download", "load", "try"))
    return f"{fetch} downloads tiny, {load} loads it, {talk} talks to it."


def open_on(
    machines: Sequence[Machine] = (HERE,),
    *,
    ascii_only: bool = False,
    readonly: bool = False,
    only: str | None = None,
) -> int:
    """Show the dashboard on the cores of these machines; return the exit code.

    `only` is the name of the only view to show. Raises DeckError where a single machine cannot be
    reached; of several, each shows its own error.
    """
    paths = locate()
    settings, problems = config_file.load(paths.config_file)
    words = [str(problem) for problem in problems]
    tui = _settings(settings, ascii_only=ascii_only, readonly=readonly)
    others, wrong = beside(machines, settings.hosts) if only is None else ((), ())
    show = partial(_dashboard, paths, replace(settings, tui=tui), [*words, *wrong], only)
    return asyncio.run(_ended_by_signals(partial(_on, machines, others, paths, show)))


async def _ended_by_signals(work: Callable[[list[int]], Awaitable[int]]) -> int:
    """Run `work`, which signals that end the program cancel; return the exit code.

    `work` gets the list that received signals are appended to.
    """
    signals: list[int] = []
    _cancel_by_signals(signals)
    try:
        return await work(signals)
    except asyncio.CancelledError:
        if not signals:
            raise
        return 128 + signals[0]


def _cancel_by_signals(signals: list[int]) -> None:
    """Cancel this task on every signal that ends the program."""
    task = asyncio.current_task()
    assert task is not None

    def end(number: int) -> None:
        signals.append(number)
        task.cancel()

    for number in ENDING:
        asyncio.get_running_loop().add_signal_handler(number, end, number)


async def _on(
    machines: Sequence[Machine],
    others: Sequence[Machine],
    paths: Paths,
    show: Callable[[Sequence[FleetMachine]], Dashboard],
    signals: list[int],
) -> int:
    """Connect to the machines, while `ssh` may ask for passwords, then show the dashboard.

    Fleet shows `others` too, which are connected to when it is opened.
    """
    late = [LateCore(machine) for machine in others]
    far = [core for core, machine in zip(late, others, strict=True) if machine.remote is not None]
    if list(machines) == [HERE]:
        here = OwnCore(paths)
        link = CoreLink(here.attach, revive=here.revive)
        own = FleetMachine("", link, host=here if late else None)
        stations = [own, *map(_late_station, others, late)]
        try:
            return await _until_left(show(stations), [here, *late], signals)
        finally:
            await _closed(far)
    from modeldeck.tui.remote.remote_core import core_of, reach_all

    cores = {m.name: core_of(m) for m in machines if m.remote is not None}
    hosts: list[ReachableCore] = [cores.get(m.name) or OwnCore(paths) for m in machines]
    try:
        failed = await reach_all(list(cores.values()))
        if failed and len(machines) == 1:
            raise failed[machines[0].name]
        stations = [*map(_station, machines, hosts), *map(_late_station, others, late)]
        return await _until_left(show(stations), [*hosts, *late], signals)
    finally:
        await _closed([*cores.values(), *far])


async def _closed(hosts: Sequence[CoreHost]) -> None:
    """Close the connections to other machines that are open still, as after a hang-up."""
    await each_to_its_end(host.leave() for host in hosts)


def _station(machine: Machine, host: ReachableCore) -> FleetMachine:
    link = CoreLink(host.attach, revive=host.revive, outage=host.outage)
    prefer = machine.remote.prefer if machine.remote is not None else 0
    return FleetMachine(machine.name, link, _way(machine), host, prefer=prefer)


def _late_station(machine: Machine, host: ReachableCore) -> FleetMachine:
    station = _station(machine, host)
    return replace(station, name="" if machine == HERE else machine.name, is_late=True)


def _way(machine: Machine) -> str:
    if machine.remote is None:
        return ""
    if machine.remote.socket:
        return "socket"
    return "ssh" if machine.remote.ssh else (machine.remote.url or "").partition(":")[0]


def open_demo(
    rate_bytes_per_s: int, port: int, *, ascii_only: bool = False, readonly: bool = False
) -> int:
    """Show the dashboard on a demo core and hub, in the user's theme; return the exit code.

    What the dashboard keeps, such as chats, goes with the demo.
    """
    with tempfile.TemporaryDirectory(prefix="modeldeck-demo-") as folder:
        paths = replace(locate(), state=Path(folder))
        return _show_demo(paths, rate_bytes_per_s, port, ascii_only, readonly)


def _show_demo(
    paths: Paths, rate_bytes_per_s: int, port: int, ascii_only: bool, readonly: bool
) -> int:
    settings, _ = config_file.load(paths.config_file)
    host = DemoCore(rate_bytes_per_s, port)
    station = FleetMachine("", CoreLink(host.attach, revive=host.revive))
    settings = replace(settings, tui=_settings(settings, ascii_only=ascii_only, readonly=readonly))
    first = None if settings.tui.readonly else welcome
    app = _dashboard(paths, settings, [], None, [station], welcome=first, is_demo=True)
    return asyncio.run(_ended_by_signals(partial(_until_left, app, [host])))


def _settings(settings: Config, *, ascii_only: bool, readonly: bool) -> Tui:
    """The settings of the dashboard, with the options of the command line."""
    tui = replace(settings.tui, glyphs="ascii") if ascii_only else settings.tui
    return replace(tui, readonly=True) if readonly else tui


def _dashboard(
    paths: Paths,
    settings: Config,
    problems: list[str],
    only: str | None,
    stations: Sequence[FleetMachine],
    *,
    welcome: Callable[[KeyOf], str] | None = None,
    is_demo: bool = False,
) -> Dashboard:
    log_to_file(paths.dashboard_log)
    tui = settings.tui
    for name in ("COLUMNS", "LINES"):  # exported by some shells, and outdated after a resize
        os.environ.pop(name, None)
    signs = SIGNS[tui.glyphs] if tui.glyphs else glyphs(sys.stdout.encoding)
    app = Dashboard(
        stations,
        DashboardOptions(
            glyphs=signs,
            settings=tui,
            keymap=settings.keys,
            themes=theme.load(paths.config / "themes"),
            keep_theme=partial(config_file.set_value, paths.config_file, "tui", "theme"),
            problems=problems,
            welcome=welcome,
            only=only,
            columns=ColumnStore(paths.state),
            open_chats=partial(open_chats, paths.chats, settings.chat),
            is_demo=is_demo,
            log_file=paths.dashboard_log,
        ),
    )
    app.driver_class = ProgramDriver
    return app


def log_to_file(path: Path) -> None:
    """Write warnings of this process to a file, which is created by the first of them.

    On the terminal they would stand across the dashboard.
    """
    root = logging.getLogger()
    if not root.handlers:
        root.addHandler(DashboardLog(path))


class DashboardLog(logging.Handler):
    """Appends records to a file of limited size; what cannot be written is dropped."""

    def __init__(self, path: Path) -> None:
        super().__init__(logging.WARNING)
        self._path = path
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """Append a record."""
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            put_aside(self._path)
            new = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            with open(new, "a", encoding="utf-8") as file:
                file.write(f"{self.format(record)}\n")


async def _until_left(app: Dashboard, hosts: Sequence[CoreHost], signals: list[int]) -> int:
    """Run the app, then leave the cores; return the exit code."""
    loop = asyncio.get_running_loop()

    def end(number: int) -> None:
        if number == signal.SIGINT and app.parts.machines.asks:
            return  # ctrl+c cancels the question of ssh
        signals.append(number)
        app.exit()

    for number in ENDING:
        loop.add_signal_handler(number, end, number)
    await app.run_async()
    await app.close_chats()
    _cancel_by_signals(signals)  # leaving a core may take long, or hang
    hung_up = signal.SIGHUP in signals
    for host in hosts:
        if not hung_up or isinstance(host, DemoCore):
            words = await host.leave()
            if words and not hung_up:
                print(clean(words), file=sys.stderr)
    return 128 + signals[0] if signals else app.return_code or 0
