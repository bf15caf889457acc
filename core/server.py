"""Run a core: the process that `modeldeck serve` and `modeldeck.core.client.daemon` start.

One core per state folder: it holds a lock for as long as it lives. Once it answers it writes the
ready file, and writes the same record to standard output. The first signal ends it in order;
the second at once, which loses nothing that was durable.

A core that a front end starts is this module run as a program: `python -P -m
modeldeck.core.server`.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import msgspec

from modeldeck.core.client.daemon import ATTACHED, CoreReady, CoreRefused, line, read_ready
from modeldeck.core.concurrency import end_of_input
from modeldeck.core.config import config_file
from modeldeck.core.config.config import Config
from modeldeck.core.config.config_file import Problem
from modeldeck.core.config.paths import Paths, locate
from modeldeck.core.errors import AlreadyRunning, DeckError, NotEnoughDisk, StorageFailed
from modeldeck.core.network.failures import shown
from modeldeck.core.schema.errors import to_info
from modeldeck.core.schema.protocol import OLDEST, PROTOCOL
from modeldeck.core.storage.files import is_disk_full, make_private, replace_file
from modeldeck.core.storage.log import CountingHandler, LineFormatter
from modeldeck.core.storage.log_file import rotate

if TYPE_CHECKING:
    from modeldeck.core.api.listener import Addresses
    from modeldeck.core.service.deck import Deck

SWITCH_S = 0.001
"""How long a thread may keep the interpreter from the loop. Python's own 5 ms, times the threads of
a few downloads, is what a person notices."""

LOOK_EVERY = 100
"""Records of the log between two looks at how long its file is."""

LOCK_S = 1.0
"""To get the lock: another process may test it, and a core that ends releases it last."""


async def serve(
    paths: Paths,
    settings: Config,
    problems: Sequence[Problem],
    announce: Callable[[CoreReady], None],
    *,
    until: asyncio.Event | None = None,
) -> None:
    """Run a core until a signal, a request to stop, or `until`.

    `announce` is called once it answers. Raises AlreadyRunning when a core runs on this state,
    StorageFailed when a folder cannot be made, and what the listener raises when it cannot listen.
    """
    from modeldeck.core.api.http.descriptors import raise_limit
    from modeldeck.core.service.deck import Deck

    sys.setswitchinterval(SWITCH_S)
    raise_limit()
    with _only_one(paths, group=settings.api.socket_group), _signals() as signalled:
        async with Deck(paths, settings, problems) as deck:
            await _answer(deck, announce, signalled, until)


async def _answer(
    deck: Deck, announce: Callable[[CoreReady], None], *ends: asyncio.Event | None
) -> None:
    """Listen, say so, and go on until one of `ends` is set or the deck was asked to stop."""
    from modeldeck.core.api.http.descriptors import connections_for, for_downloads, limit
    from modeldeck.core.api.http.limits import ConnectionLimits
    from modeldeck.core.api.listener import Listener

    terms = deck.config.downloads
    downloads = for_downloads(terms.jobs_at_once, terms.connections)
    limits = ConnectionLimits(connections=connections_for(limit(), downloads))
    listener = Listener(deck, deck.config.api, deck.paths, limits=limits)
    addresses = await listener.start()
    try:
        deck.announce(addresses.urls, addresses.socket)
        ready = _ready(deck.config, deck.paths, addresses)
        freeze_loaded_modules()
        with _ready_file(deck.paths, ready):
            announce(ready)
            await _any(deck, *ends)
    finally:
        await listener.stop()


def _ready(settings: Config, paths: Paths, addresses: Addresses) -> CoreReady:
    return CoreReady(
        pid=os.getpid(),
        url=addresses.url,
        url_v6=addresses.url_v6,
        socket=addresses.socket,
        outside=addresses.outside,
        hub=shown(settings.hub.endpoint),
        home=os.environ.get("MODELDECK_HOME") or str(paths.state),
        protocol=PROTOCOL,
        oldest_protocol=OLDEST,
    )


async def _any(deck: Deck, *events: asyncio.Event | None) -> None:
    """Return when one of the events is set, or the deck was asked to stop."""
    waits: list[asyncio.Task[Any]] = [asyncio.create_task(deck.stopped())]
    waits += [asyncio.create_task(event.wait()) for event in events if event]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)


@contextmanager
def _only_one(paths: Paths, *, group: bool) -> Iterator[None]:
    """Hold the lock of the state folder. Raises AlreadyRunning when another core holds it."""
    from filelock import FileLock, Timeout

    lock = FileLock(paths.lock_file, timeout=LOCK_S)
    try:
        make_private(paths.state)
        for folder in (paths.runtime, paths.socket.parent):
            make_private(folder, group=group)
        lock.acquire()
    except Timeout as error:
        other = read_ready(paths)
        pid = f", process {other.pid}" if other else ""
        raise AlreadyRunning(
            f"A core runs on {paths.state} already{pid}.",
            "Use that one, end it with `modeldeck stop`, or give this one a MODELDECK_HOME.",
        ) from error
    except OSError as error:
        raise StorageFailed(
            f"A folder of the core cannot be used: {error}.",
            "Mend its permissions, or move it with MODELDECK_HOME.",
        ) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _signals() -> Iterator[asyncio.Event]:
    """An event that the first signal to end sets; the second one ends the process by itself."""
    loop = asyncio.get_running_loop()
    event = asyncio.Event()
    taken = [
        number
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) is not signal.SIG_IGN  # as under nohup
    ]

    def first() -> None:
        event.set()
        for number in taken:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)

    before = {number: signal.getsignal(number) for number in taken}
    for number in taken:
        loop.add_signal_handler(number, first)
    try:
        yield event
    finally:
        for number in taken:
            loop.remove_signal_handler(number)
            signal.signal(number, before[number])


@contextmanager
def _ready_file(paths: Paths, ready: CoreReady) -> Iterator[None]:
    """The ready file, for as long as the core answers. Raises StorageFailed, NotEnoughDisk."""
    try:
        replace_file(paths.ready_file, line(ready).encode())
    except OSError as error:
        failed = NotEnoughDisk if is_disk_full(error) else StorageFailed
        raise failed(
            f"{paths.ready_file} cannot be written: {error.strerror}.",
            "Check the disk and the permissions; MODELDECK_RUNTIME_DIR moves it.",
        ) from error
    try:
        yield
    finally:
        with suppress(OSError):  # its process is gone then, which is looked at as well
            paths.ready_file.unlink(missing_ok=True)


def freeze_loaded_modules() -> None:
    """Leave everything that is alive now out of further garbage collections.

    A full collection looks at every object with the interpreter's lock held: some 40 ms once the
    modules of the Hub are loaded. Modules are never garbage.
    """
    gc.freeze()


def main() -> None:
    """Run a core; print the ready record, or why it cannot start, to standard output."""
    attached = ATTACHED in sys.argv
    if not attached and os.fork():
        os._exit(0)  # init becomes the parent of the core, so no process has to wait for it
    log_to_stderr(logging.INFO, locate().core_log)
    try:
        asyncio.run(_serve_starter(attached))
    except DeckError as error:
        print(msgspec.json.encode(CoreRefused(error=to_info(error))).decode(), flush=True)
        sys.exit(1)


async def _serve_starter(attached: bool) -> None:
    """Serve; end with standard input when attached, else only while starting."""
    gone = asyncio.Event()

    def announce(ready: CoreReady) -> None:
        try:
            print(line(ready), flush=True)
        except BrokenPipeError:
            gone.set()
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # the pipe closes: all is said

    paths = locate()
    settings, problems = config_file.load(paths.config_file)
    async with end_of_input(gone) if attached else nullcontext():
        await serve(paths, settings, problems, announce, until=gone)


class StderrHandler(logging.StreamHandler[TextIO]):
    """Writes to standard error; where that is the core's log file, it is rotated while it runs."""

    def __init__(self, log_file: Path | None) -> None:
        super().__init__(sys.stderr)
        self._log_file = log_file
        self._records = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record, and now and then look how long the file is."""
        super().emit(record)
        self._records += 1
        if self._log_file is None or self._records % LOOK_EVERY:
            return
        try:
            rotate(self._log_file, (sys.stdout.fileno(), sys.stderr.fileno()))
        except (OSError, ValueError):  # it goes on in the file that it has
            self._log_file = None


def log_to_stderr(level: int, log_file: Path | None = None) -> None:
    """Send log records from `level` up to standard error, with time and place.

    `log_file` is the core's own, rotated where standard error leads there.
    """
    handler = StderrHandler(log_file)
    handler.setLevel(level)
    handler.setFormatter(LineFormatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[CountingHandler(handler)])
    logging.getLogger("modeldeck.core").setLevel(logging.INFO)


if __name__ == "__main__":
    main()
