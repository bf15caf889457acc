"""Opening the dashboard on a terminal, and leaving it.

The dashboard is drawn first and finds its core afterwards. What becomes of the core is settled when
the terminal is the shell's again, so that a core which takes its time to end does not hold up the
screen. A hang-up (SSH gone) leaves a person's core alone.
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
"""Signals that end the dashboard without a question."""


def welcome(key_of: KeyOf) -> str:
    """What the demo greets with."""
    find, fetch = key_of("catalog.filter"), key_of("catalog.download")
    return f"The demo's hub has tiny real models: {find} deck finds them, enter {fetch} downloads."


def possible() -> bool:
    """Whether there is a terminal to draw on."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def open_on(
    machines: Sequence[Machine] = (HERE,), *, ascii_only: bool = False, only: str | None = None
) -> int:
    """The dashboard on the cores of these machines, until it is left: the exit code.

    `only` is the name of a view that stands alone. Raises DeckError where the only machine cannot
    be reached; of several each says so for itself.
    """
    paths = locate()
    settings, problems = config.load(paths.config_file)
    words = [str(problem) for problem in problems]
    show = partial(_dashboard, paths, settings, words, ascii_only, only)
    return asyncio.run(_ended_by_signals(partial(_on, machines, paths, show)))


async def _ended_by_signals(work: Callable[[list[int]], Awaitable[int]]) -> int:
    """Do the work; each signal that ends the program cancels it. The exit code.

    The work is given the list in which the signals that came are noted.
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
    """From now on a signal that ends the program cancels this task, as often as one comes."""
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
    """Reach the machines, with the questions that `ssh` has, then show the dashboard."""
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
    """The dashboard on a core and hub of its own, in the person's colours: the exit code."""
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
    for name in ("COLUMNS", "LINES"):  # of a shell that exported them: how large it was once
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
    """Run the app, then part from the cores; the exit code."""
    loop = asyncio.get_running_loop()

    def end(number: int) -> None:
        if number == signal.SIGINT and app.asks:
            return  # it ends the question
        signals.append(number)
        app.exit()

    for number in ENDING:
        loop.add_signal_handler(number, end, number)
    await app.run_async()
    _cancel_by_signals(signals)  # a core takes its time to end, and one may not answer
    hung_up = signal.SIGHUP in signals
    for host in hosts:
        if not hung_up or isinstance(host, DemoCore):
            words = await host.leave()
            if words and not hung_up:
                print(clean(words), file=sys.stderr)
    return 128 + signals[0] if signals else app.return_code or 0
