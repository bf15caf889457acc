"""Work that blocks for as long as a network does, in threads of its own.

The loop's own pool has few threads, made for short work: connections that wait in them would hold
up the rest of the core. Here there are as many as there is work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from core.concurrency import settled
from core.detached import start_detached

T = TypeVar("T")


async def in_own_thread(action: Callable[[], T], abort: Callable[[], None]) -> T:
    """Run a blocking action in a thread. `abort` must make it end soon, from outside.

    A cancellation aborts the action and waits for its end, so that nothing it uses is taken away
    under it.
    """
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[T] = loop.create_future()

    def finish(set_outcome: Callable[[], None]) -> None:
        if not outcome.done():
            set_outcome()

    def body() -> None:
        try:
            result = action()
        except BaseException as error:  # handed on to whoever waits, whatever it is
            failure = error
            loop.call_soon_threadsafe(finish, lambda: outcome.set_exception(failure))
        else:
            loop.call_soon_threadsafe(finish, lambda: outcome.set_result(result))

    start_detached(body)
    try:
        return await asyncio.shield(outcome)
    except asyncio.CancelledError:
        abort()
        try:
            await settled(outcome)
        except asyncio.CancelledError:
            pass
        raise
