"""Runs the work of a command: signals, errors, exit codes."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from modeldeck.core.errors import DeckError


def _codes() -> tuple[tuple[type[DeckError], int], ...]:
    from modeldeck.core import errors as e

    return (
        (e.InvalidRequest, 2),
        (e.NotFound, 3),
        (e.Ambiguous, 3),
        (e.CoreUnreachable, 7),
        (e.Conflict, 4),
        (e.Cancelled, 4),
        (e.Busy, 4),
        (e.ShuttingDown, 4),
        (e.NotEnoughDisk, 5),
        (e.NotEnoughMemory, 5),
        (e.HubUnavailable, 6),
        (e.Gated, 6),
        (e.EngineMissing, 8),
        (e.TimedOut, 9),
        (e.Unauthorized, 10),
        (e.Forbidden, 10),
    )


def can_draw() -> bool:
    """Whether there is a terminal on which the dashboard can be drawn."""
    return sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def discard_output() -> None:
    """Write nothing to standard output any more, where its reader is gone.

    Flushing at the exit of Python would fail otherwise.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def exit_code(error: DeckError) -> int:
    """The exit code that stands for an error."""
    return next((code for cls, code in _codes() if isinstance(error, cls)), 1)


class AlreadyReported(Exception):
    """The error was printed already; carries the exit code."""

    def __init__(self, error: DeckError) -> None:
        super().__init__(str(error))
        self.code = exit_code(error)


def run(work: Coroutine[Any, Any, None], *, json: bool) -> None:
    """Run the work. An error is printed with its remedy and decides the exit code.

    ctrl-C, a hang-up and a kill all cancel the work, which then cleans up.
    """
    import asyncio

    from modeldeck.core.errors import DeckError

    signals: list[int] = []

    async def cancellable() -> None:
        task = asyncio.current_task()
        assert task is not None

        def end(number: int) -> None:
            signals.append(number)
            task.cancel()

        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
                asyncio.get_running_loop().add_signal_handler(number, end, number)
        await work

    try:
        asyncio.run(cancellable())
    except DeckError as error:
        sys.exit(tell(error, json=json))
    except AlreadyReported as told:
        sys.exit(told.code)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except asyncio.CancelledError:
        sys.exit(128 + (signals[0] if signals else signal.SIGINT))


def tell(error: DeckError, *, json: bool) -> int:
    """Print the error on standard error, as text or as JSON, and return its exit code."""
    from modeldeck.core.remote.printable import clean
    from modeldeck.core.schema.errors import to_info
    from modeldeck.tui.cli.output import json_line

    if json:
        click.echo(json_line({"error": to_info(error)}), err=True)
        return exit_code(error)
    click.echo(f"modeldeck: {clean(error.message)}", err=True)
    for detail in error.details:
        click.echo(f"  | {clean(detail)}", err=True)
    if error.remedy:
        click.echo(clean(error.remedy), err=True)
    return exit_code(error)
