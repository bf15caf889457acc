"""Sends files to the clients of the demo's hub: at a limited rate, and with faults."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import Literal

from modeldeck.core.demo.answers import FileBody
from modeldeck.core.demo.faults import Fault, Faults
from modeldeck.core.demo.server import HubConnection

CHUNK = 256 << 10
"""Bytes sent at a time."""

_TRICKLE_S = 0.02

_STEPS_PER_SECOND = 20
"""Sends per second of a rate-limited transfer."""


@dataclass(slots=True, kw_only=True)
class LoggedExchange:
    """One request and its answer, as the log keeps it."""

    origin: Literal["hub", "storage"]
    method: str
    path: str
    """Path without the query, as it came."""
    range: str | None
    """The Range header."""
    authorization: bool
    """Whether an Authorization header came."""
    status: int
    file: str = ""
    """`owner/name/path` of the file that was asked for."""
    size_bytes: int = 0
    """Announced bytes of the body; 0 for HEAD."""
    bytes_sent: int = 0
    """Bytes of the body that the kernel took, or is being given."""
    fault: str | None = None
    """The fault that was injected."""

    @property
    def finished(self) -> bool:
        """Whether the whole answer went out."""
        return self.bytes_sent == self.size_bytes


class FileSender:
    """Sends files no faster than the limit, with the faults that are armed."""

    def __init__(self, faults: Faults, rate: int | None) -> None:
        self._faults = faults
        self.rate = rate
        """Bytes per second of each connection; None for no limit."""
        self._changed = asyncio.Event()

    def wake(self) -> None:
        """Let transfers that wait look again at the rate and the faults."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def send(
        self, body: FileBody, exchange: LoggedExchange, connection: HubConnection
    ) -> None:
        """Send a file, or what an armed fault leaves of it. Raises ConnectionError."""
        text = f"{exchange.path} {exchange.file}"
        fault_round, cuts = self._faults.round, self._faults.cuts
        fault = self._faults.take(text, body.start, body.stop)
        exchange.fault = fault.kind if fault else None
        halt = body.stop
        if fault is not None and fault.kind != "flip":
            halt = body.start + fault.at
        await self._send_bytes(replace(body, stop=halt), fault, exchange, connection)
        if halt == body.stop or fault is None:
            return
        if fault.kind == "stall":
            if await self._stall(fault_round, cuts, connection):
                await self._send_bytes(replace(body, start=halt), None, exchange, connection)
            else:
                connection.reset()
        elif fault.kind == "trickle":
            rest = await self._trickle(replace(body, start=halt), fault_round, exchange, connection)
            await self._send_bytes(rest, None, exchange, connection)
        elif fault.kind == "reset":
            connection.reset()
        else:
            connection.close()

    async def _send_bytes(
        self,
        body: FileBody,
        fault: Fault | None,
        exchange: LoggedExchange,
        connection: HubConnection,
    ) -> None:
        """Send bytes of a file no faster than the limit allows."""
        position, clock = body.start, asyncio.get_running_loop().time
        due = clock()
        while position < body.stop:
            rate = self.rate
            step = min(CHUNK, max(1, rate // _STEPS_PER_SECOND)) if rate else CHUNK
            size = min(step, body.stop - position)
            data = await asyncio.to_thread(body.file.read, position, size)
            if fault is not None and fault.kind == "flip":
                data = _inverted(data, fault.at - position)
            await write(data, exchange, connection)
            position += len(data)
            if rate:
                # A transfer that fell behind does not catch up with a burst.
                due = max(due, clock() - 1 / _STEPS_PER_SECOND) + len(data) / rate
                await self._wait_until(due, rate)

    async def _wait_until(self, due: float, rate: int) -> None:
        """Wait, but not on when the limit changes."""
        clock = asyncio.get_running_loop().time
        while self.rate == rate and (rest := due - clock()) > 0:
            try:
                await asyncio.wait_for(self._changed.wait(), rest)
            except TimeoutError:
                return

    async def _trickle(
        self, body: FileBody, fault_round: int, exchange: LoggedExchange, connection: HubConnection
    ) -> FileBody:
        """Send single bytes until the faults are cleared; what is left."""
        while self._faults.round == fault_round and body.start < body.stop:
            data = await asyncio.to_thread(body.file.read, body.start, 1)
            await write(data, exchange, connection)
            body = replace(body, start=body.start + 1)
            await asyncio.sleep(_TRICKLE_S)
        return body

    async def _stall(self, fault_round: int, cuts: int, connection: HubConnection) -> bool:
        """Wait until the faults are cleared; False when the connection is to be cut instead.

        Raises ConnectionError when the client leaves.
        """
        gone = asyncio.create_task(connection.gone())
        try:
            while self._faults.round == fault_round:
                if self._faults.cuts != cuts:
                    return False
                changed = asyncio.create_task(self._changed.wait())
                try:
                    await asyncio.wait((gone, changed), return_when=asyncio.FIRST_COMPLETED)
                finally:
                    changed.cancel()
                if gone.done():
                    raise ConnectionResetError("The client left.")
            return True
        finally:
            gone.cancel()
            await asyncio.wait((gone,))


async def write(data: bytes, exchange: LoggedExchange, connection: HubConnection) -> None:
    """Send bytes of a body, and count them. Raises ConnectionError."""
    # Counted first, so that a client that has all bytes finds them in the log.
    exchange.bytes_sent += len(data)
    try:
        await connection.write(data)
    except ConnectionError:
        exchange.bytes_sent -= len(data)
        raise


def _inverted(data: bytes, offset: int) -> bytes:
    """`data` with the byte at `offset` inverted, where it has one there."""
    if not 0 <= offset < len(data):
        return data
    return data[:offset] + bytes([data[offset] ^ 0xFF]) + data[offset + 1 :]
