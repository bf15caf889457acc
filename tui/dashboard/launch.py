"""Opens the dashboard on a terminal, and disconnects from its cores at the end.

The dashboard is drawn before it attaches to a core. Cores are left after the terminal is restored,
so that a core that ends slowly does not block the terminal. A hang-up (a lost SSH session) leaves
the user's core running.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from modeldeck.core.config import config
from modeldeck.core.config.config import Config
from modeldeck.core.config.paths import Paths, locate
from modeldeck.core.remote.printable import clean
from modeldeck.tui.dashboard import theme
from modeldeck.tui.dashboard.app import Dashboard
from modeldeck.tui.dashboard.commands import KeyOf
from modeldeck.tui.dashboard.fleet import FleetMachine
from modeldeck.tui.dashboard.terminal_driver import ProgramDriver
from modeldeck.tui.remote.core_host import DemoCore, OwnCore, ReachableCore
from modeldeck.tui.remote.core_link import CoreLink
from modeldeck.tui.remote.machines import HERE, Machine
from modeldeck.tui.text.format import ASCII, glyphs

if TYPE_CHECKING:
    from modeldeck.tui.remote.core_host import CoreHost, ReachableCore

ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Signals that end the dashboard without asking."""


def welcome(key_of: KeyOf) -> str:
    """First notice of the demo."""
    find, fetch = key_of("catalog.filter"), key_of("catalog.download")
    return f"The demo's hub has tiny real models: {find} deck finds them, enter {fetch} downloads."


def possible() -> bool:
    """Whether there is a terminal to draw on."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def open_on(
    machines: Sequence[Machine] = (HERE,), *, ascii_only: bool = False, only: str | None = None
) -> int:
    """Show the dashboard on the cores of these machines; return the exit code.

    `only` is the name of the only view to show. Raises DeckError where a single machine cannot be
    reached; of several, each shows its own error.
    """
    paths = locate()
    settings, problems = config.load(paths.config_file)
    words = [str(problem) for problem in problems]
    show = partial(_dashboard, paths, settings, words, ascii_only, only)
    return asyncio.run(_ended_by_signals(partial(_on, machines, paths, show)))


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
    paths: Paths,
    show: Callable[[Sequence[FleetMachine]], Dashboard],
    signals: list[int],
) -> int:
    """Connect to the machines, while `ssh` may ask for passwords, then show the dashboard."""
    if list(machines) == [HERE]:
        own = OwnCore(paths)
        link = CoreLink(own.attach, revive=own.revive)
        return await _until_left(show([FleetMachine("", link)]), [own], signals)
    from modeldeck.tui.remote.remote_core import core_of, reach_all

    cores = {m.name: core_of(m) for m in machines if m.remote is not None}
    hosts: list[ReachableCore] = [cores.get(m.name) or OwnCore(paths) for m in machines]
    try:
        failed = await reach_all(list(cores.values()))
        if failed and len(machines) == 1:
            raise failed[machines[0].name]
        stations = [
            FleetMachine(
                machine.name,
                CoreLink(host.attach, revive=host.revive, outage=host.outage),
                _way(machine),
                host,
            )
            for machine, host in zip(machines, hosts, strict=True)
        ]
        return await _until_left(show(stations), hosts, signals)
    finally:
        await asyncio.gather(*(core.leave() for core in cores.values()))


def _way(machine: Machine) -> str:
    if machine.remote is None:
        return ""
    if machine.remote.socket:
        return "socket"
    return "ssh" if machine.remote.ssh else (machine.remote.url or "").partition(":")[0]


def open_demo(rate_bytes_per_s: int, port: int, *, ascii_only: bool = False) -> int:
    """Show the dashboard on a demo core and hub, in the user's theme; return the exit code."""
    paths = locate()
    settings, _ = config.load(paths.config_file)
    host = DemoCore(rate_bytes_per_s, port)
    station = FleetMachine("", CoreLink(host.attach, revive=host.revive))
    app = _dashboard(paths, settings, [], ascii_only, None, [station], welcome)
    return asyncio.run(_ended_by_signals(partial(_until_left, app, [host])))


def _dashboard(
    paths: Paths,
    settings: Config,
    problems: list[str],
    ascii_only: bool,
    only: str | None,
    stations: Sequence[FleetMachine],
    welcome: Callable[[KeyOf], str] | None = None,
) -> Dashboard:
    tui = replace(settings.tui, ascii=True) if ascii_only else settings.tui
    for name in ("COLUMNS", "LINES"):  # exported by some shells, and outdated after a resize
        os.environ.pop(name, None)
    signs = ASCII if tui.ascii else glyphs("utf-8" if tui.ascii is False else sys.stdout.encoding)
    app = Dashboard(
        stations,
        glyphs=signs,
        settings=tui,
        keymap=settings.keys,
        themes=theme.load(paths.config / "themes"),
        keep_theme=partial(config.set_value, paths.config_file, "tui", "theme"),
        problems=problems,
        welcome=welcome,
        only=only,
    )
    app.driver_class = ProgramDriver
    return app


async def _until_left(app: Dashboard, hosts: Sequence[CoreHost], signals: list[int]) -> int:
    """Run the app, then leave the cores; return the exit code."""
    loop = asyncio.get_running_loop()

    def end(number: int) -> None:
        if number == signal.SIGINT and app.asks:
            return  # ctrl+c cancels the question of ssh
        signals.append(number)
        app.exit()

    for number in ENDING:
        loop.add_signal_handler(number, end, number)
    await app.run_async()
    _cancel_by_signals(signals)  # leaving a core may take long, or hang
    hung_up = signal.SIGHUP in signals
    for host in hosts:
        if not hung_up or isinstance(host, DemoCore):
            words = await host.leave()
            if words and not hung_up:
                print(clean(words), file=sys.stderr)
    return 128 + signals[0] if signals else app.return_code or 0
