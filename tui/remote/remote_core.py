"""Cores on other machines, reached over SSH, at a URL or on a socket (`core_host.CoreHost`).

An SSH connection is kept for as long as the front end runs: when it breaks, or the machine slept,
it is reopened with growing waits and without prompting. A core at a URL needs none.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from modeldeck.core.config.config import RemoteSettings
from modeldeck.core.errors import Conflict, DeckError, Forbidden, InvalidRequest, StorageFailed
from modeldeck.core.remote.outage import ConnectionLost
from modeldeck.core.remote.printable import clean
from modeldeck.core.storage.foreign_files import open_regular
from modeldeck.core.storage.installation import update_command
from modeldeck.tui.remote.core_host import Carrier
from modeldeck.tui.remote.machines import Machine

if TYPE_CHECKING:
    from modeldeck.core.client.client import Client
    from modeldeck.core.schema.protocol import ProtocolRange

PING_S = 5.0
"""Seconds between two measurements of the round trip."""
TOKEN_BYTES = 1 << 16
"""Longest token file, in bytes."""
LONGEST_PARTING = 500
"""Longest farewell line that is shown, in characters."""


class SshCore:
    """The core of this person on a machine that `ssh` reaches."""

    def __init__(
        self, name: str, remote: RemoteSettings, *, start: bool = True, compressed: bool = True
    ) -> None:
        """`compressed` as `SshConnection` takes it. Raises StorageFailed."""
        from modeldeck.core.remote.ssh_connection import SshConnection
        from modeldeck.core.remote.ssh_keeper import Keeper

        self.name = name
        self._remote = remote
        self._folder = _private_folder()
        self.line = SshConnection(name, remote, self._folder, start=start, compressed=compressed)
        self._keeper = Keeper(self.line)
        self._left = False

    async def reach(self, *, batch: bool) -> None:
        """Connect for the first time; without `batch` ssh may ask on the terminal."""
        await self.line.open(batch=batch)

    async def ask(self) -> None:
        """Reconnect, and let `ssh` ask on the terminal, which the dashboard must have released."""
        await self._keeper.make(batch=False)

    @asynccontextmanager
    async def attach(self) -> AsyncIterator[Client]:
        """A client of the core over there; the line is kept up for as long as the block runs."""
        from modeldeck.core.client.client import Client

        async with (
            self._kept(),
            Client(socket=self.line.socket, where=self.name, ping_s=PING_S) as client,
        ):
            yield client

    @asynccontextmanager
    async def _kept(self) -> AsyncIterator[None]:
        keeping = asyncio.create_task(self._keeper.run())
        try:
            yield
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)

    def outage(self) -> ConnectionLost | None:
        """Why the line is down, and when it is tried again; None while it is up."""
        return self._keeper.outage

    @asynccontextmanager
    async def bulk(self) -> AsyncIterator[Carrier]:
        """A line for weights, which compression makes seven times slower, and no smaller.

        It is another one where that of `attach` is compressed, and is made without a question.
        Raises DeckError.
        """
        if not self.line.is_compressed:
            yield self
            return
        other = SshCore(self.name, self._remote, start=False, compressed=False)
        try:
            try:
                await other.reach(batch=True)
            except Forbidden as error:
                raise Forbidden(
                    f"{self.name} has a question before it takes a second line, for the copy.",
                    "`modeldeck copy MODEL @FROM @TO` in a shell lets ssh ask it.",
                    details=error.details,
                ) from error
            async with other._kept():
                yield other
        finally:
            await other.close()

    @property
    def here(self) -> str:
        """The socket that the line carries to this machine."""
        return str(self.line.socket)

    @asynccontextmanager
    async def lent(self, socket: str) -> AsyncIterator[str]:
        """A path where the other machine finds a socket of this one. Raises DeckError."""
        there = await self.line.lend(socket)
        try:
            yield there
        finally:
            if self.line.is_up:
                await self.line.take_back(socket, there)

    async def revive(self) -> bool:
        """Have the core over there started again, where the line is up and the core was killed."""
        return bool(await self.line.ask("revive")) if self.line.is_up else False

    async def leave(self) -> str | None:
        """Detach from the core there. Return a line to print, or None."""
        if self._left:
            return None
        self._left = True
        words: object = None
        try:
            if self.line.is_up:
                words = await self.line.ask("leave")
        except DeckError:
            pass  # the line is gone, and the other side has noticed the same
        finally:
            await self.close()
        return f"{self.name}: {clean(str(words))[:LONGEST_PARTING]}" if words else None

    async def close(self) -> None:
        """End the line, without a word to the core."""
        try:
            await self.line.drop()
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)


def _private_folder() -> Path:
    """A folder for sockets that only this person may enter, at a path short enough for them."""
    try:
        return Path(tempfile.mkdtemp(prefix="md-"))
    except OSError as error:
        raise StorageFailed(
            f"No folder for the sockets of ssh can be made: {error}.",
            "Make room there, or name another place with TMPDIR.",
        ) from error


class FixedCore:
    """A core that answers at a URL, or on a socket of this machine: there is no line to keep."""

    def __init__(self, name: str, remote: RemoteSettings) -> None:
        self.name = name
        self._remote = remote

    def outage(self) -> ConnectionLost | None:
        """Return None: the core is reached without ssh."""
        return None

    async def ask(self) -> None:
        """Do nothing: the core is reached without ssh."""

    async def reach(self, *, batch: bool) -> None:
        """See whether it answers, and whether it is understood."""
        async with self.attach():
            pass

    @asynccontextmanager
    async def attach(self) -> AsyncIterator[Client]:
        """A client of the core. Raises CoreUnreachable, Incompatible, Unauthorized."""
        from modeldeck.core.client.client import Client
        from modeldeck.core.schema.protocol import check, ours

        remote = self._remote
        token = await asyncio.to_thread(token_in, remote.token_file)
        async with Client(
            socket=Path(remote.socket) if remote.socket else None,
            url=remote.url,
            token=token,
            ca_file=remote.ca_file,
            ping_s=PING_S,
        ) as client:
            check(ours(), await _spoken(client), self.name, update_command)
            yield client

    @asynccontextmanager
    async def bulk(self) -> AsyncIterator[Carrier]:
        """Itself: there is no line that compresses."""
        yield self

    @property
    def here(self) -> str:
        """The socket, where it answers on one. Raises Conflict."""
        if self._remote.socket is None:
            raise Conflict(f"{self.name} is not reached by ssh.", "A copy goes over ssh alone.")
        return self._remote.socket

    @asynccontextmanager
    async def lent(self, socket: str) -> AsyncIterator[str]:
        """The same path, where it is on this machine. Raises Conflict."""
        if self.here:
            yield socket

    async def revive(self) -> bool:
        """Return False: it cannot be restarted from here."""
        return False

    async def leave(self) -> str | None:
        """Return None: a core at a fixed address is not ended from here."""
        return None


async def _spoken(client: Client) -> ProtocolRange:
    from modeldeck.core.errors import NotFound
    from modeldeck.core.schema.protocol import ProtocolRange

    try:
        said = await client.summary()
    except NotFound:
        return ProtocolRange(version="of an older kind")
    return ProtocolRange(
        version=said.version, protocol=said.protocol, oldest_protocol=said.oldest_protocol
    )


def token_in(file: str | None) -> str | None:
    """Read the token from a file that only its owner may read. Raises InvalidRequest, Forbidden."""
    if file is None:
        return None
    path = Path(file).expanduser()
    try:
        mode, token = _read_small(path)
    except (OSError, ValueError) as error:
        raise InvalidRequest(f"The token in {path} cannot be read: {error}.") from error
    if mode & 0o077:
        raise Forbidden(f"Others may read the token in {path}.", f"Run `chmod 600 {path}`.")
    if not token or not token.isascii() or not token.isprintable():
        raise InvalidRequest(f"{path} holds no token.")
    return token


def _read_small(path: Path) -> tuple[int, str]:
    """The mode of a file and its text. Raises OSError, and ValueError for what is no text."""
    with open_regular(path) as file:
        return os.fstat(file.fileno()).st_mode, file.read(TOKEN_BYTES).decode().strip()


def core_of(
    machine: Machine, *, start: bool = True, compressed: bool = True
) -> SshCore | FixedCore:
    """The core of another machine; nothing is asked of it yet. Raises StorageFailed.

    `compressed`: what goes over a line of `ssh` to it is.
    """
    assert machine.remote is not None
    if machine.remote.ssh is not None:
        return SshCore(machine.name, machine.remote, start=start, compressed=compressed)
    return FixedCore(machine.name, machine.remote)


async def reach_all(cores: list[SshCore | FixedCore]) -> dict[str, DeckError]:
    """Connect to all machines at once, then to those that have to prompt one after the other.

    Returns the errors by machine name.
    """
    alone = len(cores) == 1
    results = await asyncio.gather(
        *(core.reach(batch=not alone) for core in cores), return_exceptions=True
    )
    failed: dict[str, DeckError] = {}
    for core, result in zip(cores, results, strict=True):
        error = result
        if isinstance(error, Forbidden) and not alone:
            try:
                await core.reach(batch=False)
                continue
            except DeckError as again:
                error = again
        if isinstance(error, DeckError):
            failed[core.name] = error
        elif isinstance(error, BaseException):
            raise error
    return failed
