"""Opening the dashboard on a terminal, and leaving it.

The dashboard is drawn first and finds its core afterwards. What becomes of the core is settled when
the terminal is the shell's again, so that a core which takes its time to end does not hold up the
screen. A hang-up (SSH gone) leaves a person's core alone.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from core import config
from core.config import Config
from core.paths import Paths, locate
from tui import theme
from tui.app import Dashboard
from tui.format import ASCII, clean, glyphs
from tui.hosts import DemoCore, OwnCore

if TYPE_CHECKING:
    from tui.hosts import Host

ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Signals that end the dashboard without a question."""


def possible() -> bool:
    """Whether there is a terminal to draw on."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def open_own(*, ascii_only: bool = False, only: str | None = None) -> int:
    """The dashboard on the core of this user, until it is left: the exit code.

    `only` is the name of a view that stands alone.
    """
    paths = locate()
    settings, problems = config.load(paths.config_file)
    words = [str(problem) for problem in problems]
    return _show(OwnCore(paths), paths, settings, words, ascii_only, only)


def open_demo(rate_bytes_per_s: int, port: int, *, ascii_only: bool = False) -> int:
    """The dashboard on a core and hub of its own, in the person's colours: the exit code."""
    paths = locate()
    settings, _ = config.load(paths.config_file)
    return _show(DemoCore(rate_bytes_per_s, port), paths, settings, [], ascii_only)


def _show(
    host: Host,
    paths: Paths,
    settings: Config,
    problems: list[str],
    ascii_only: bool,
    only: str | None = None,
) -> int:
    tui = replace(settings.tui, ascii=True) if ascii_only else settings.tui
    signs = ASCII if tui.ascii else glyphs("utf-8" if tui.ascii is False else sys.stdout.encoding)
    app = Dashboard(
        host.attach,
        glyphs=signs,
        settings=tui,
        keymap=settings.keys,
        themes=theme.load(paths.config / "themes"),
        keep_theme=partial(config.set_value, paths.config_file, "tui", "theme"),
        revive=host.revive,
        problems=problems,
        only=only,
    )
    return asyncio.run(_until_left(app, host))


async def _until_left(app: Dashboard, host: Host) -> int:
    """Run the app, then part from the core; the exit code."""
    loop = asyncio.get_running_loop()
    signals: list[int] = []

    def end(number: int) -> None:
        signals.append(number)
        app.exit()

    for number in ENDING:
        loop.add_signal_handler(number, end, number)
    await app.run_async()
    hung_up = signal.SIGHUP in signals
    if not hung_up or isinstance(host, DemoCore):
        words = await host.leave()
        if words and not hung_up:
            print(clean(words), file=sys.stderr)
    return 128 + signals[0] if signals else app.return_code or 0
