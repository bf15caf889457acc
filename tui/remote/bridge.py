"""`modeldeck bridge`: what runs on the other machine while a front end is attached by `ssh`.

It finds the core of that machine, or starts one, and writes its address as one line of JSON to
standard output. Then it reads commands, one a line, and answers each with one line of JSON. It ends
with its standard input; a core that it started and that is idle ends with it, as when a dashboard
on that machine is left.

    -> (nothing)  {"modeldeck": {"version": ..., "socket": ..., ...}}  or  {"error": {...}}
    -> revive     {"answer": true}      a core that was killed was started again
    -> peer       {"answer": "/..."}    a path where `ssh -R` may put a socket; gone at the end
    -> leave      {"answer": "The core keeps running: ..."}  or null, and that is the end
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from modeldeck.core.client import daemon
from modeldeck.core.config.paths import Paths, locate
from modeldeck.core.errors import (
    Conflict,
    CoreUnreachable,
    DeckError,
    InvalidRequest,
    StorageFailed,
)
from modeldeck.core.remote.hello import BridgeHello
from modeldeck.core.schema.errors import to_info
from modeldeck.tui.remote.core_host import OwnCore

LONGEST_WORD = 1 << 12
"""Longest command line, in bytes."""


async def serve(*, start: bool) -> None:
    """Answer commands until standard input ends.

    Raises DeckError where no core can be found or started, after writing it to standard output.
    """
    paths = locate()
    own = OwnCore(paths)
    try:
        hello = await _hello(own, paths, start=start)
    except DeckError as error:
        _say({"error": to_info(error)})
        raise
    left = False
    try:
        _say({"modeldeck": hello})
        async with _folder() as folder:
            left = await _converse(own, folder)
    except OSError:
        pass  # standard output is closed, or no folder can be made
    finally:
        if not left:
            await own.leave()


async def _hello(own: OwnCore, paths: Paths, *, start: bool) -> BridgeHello:
    ready = await daemon.find(paths)
    if ready is None and not start:
        raise CoreUnreachable("No core is running there.", "`modeldeck serve` starts one.")
    if ready is None:
        ready = await own.begin()
    if ready.socket is None:
        raise Conflict(
            "The core there answers on no Unix socket, which is what ssh carries.",
            "Let it: take `api.socket = false` out of its configuration.",
        )
    return BridgeHello(
        socket=ready.socket,
        version=ready.version,
        protocol=ready.protocol,
        oldest_protocol=ready.oldest_protocol,
    )


async def _converse(own: OwnCore, folder: Path) -> bool:
    """Answer commands. Return whether the front end sent `leave`, instead of disconnecting."""
    reader = asyncio.StreamReader(limit=LONGEST_WORD)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    try:
        while line := await _line(reader):
            try:
                answer = await _answer(own, folder, line.strip())
            except DeckError as error:
                _say({"error": to_info(error)})
            except OSError as error:
                _say({"error": to_info(StorageFailed(f"It cannot be done: {error}."))})
            else:
                _say({"answer": answer})
            if line.strip() == "leave":
                return True
    finally:
        transport.close()
    return False


async def _line(reader: asyncio.StreamReader) -> str:
    try:
        return (await reader.readline()).decode(errors="replace")
    except ValueError:  # longer than any command
        return ""


async def _answer(own: OwnCore, folder: Path, word: str) -> Any:
    match word:
        case "revive":
            return await own.revive()
        case "peer":
            with tempfile.NamedTemporaryFile(dir=folder, prefix="p") as name:
                return f"{name.name}.sock"
        case "leave":
            return await own.leave()
    raise InvalidRequest(f"The bridge does not know {word[:40]!r}.")


@asynccontextmanager
async def _folder() -> AsyncIterator[Path]:
    """A folder for sockets that only this person may enter, at a path short enough for them."""
    folder = Path(tempfile.mkdtemp(prefix="md-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _say(value: Any) -> None:
    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")
    sys.stdout.flush()
