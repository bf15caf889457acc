"""What `CoreConnection` needs of HTTP: one request, and its answer as a stream.

Two modules provide it. `unix_transport` is for the core's Unix socket, on this machine or at this
end of an ssh tunnel. `url_transport` is for a URL and uses httpx, which a command over the socket
does not import: that took a third of the time of a quick command.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

CONNECT_S = 5.0
"""For a connection to be made: the core is near, and accepts at once when it runs."""
KEEP_ALIVE_S = 4.0
"""An idle connection is given up before the core does so (10 s and more), which avoids a race."""


class TransportFailed(Exception):
    """The connection could not be made, broke, or did not carry HTTP."""


class AnswerTimeout(TransportFailed):
    """The core accepted the request and sent nothing for too long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CoreResponse:
    """The head of an answer, and its decoded body as it arrives."""

    status: int
    reason: str
    """The reason phrase (RFC 9112, section 4); may be empty."""
    body: AsyncIterator[bytes]

    @property
    def is_error(self) -> bool:
        """Whether the status is 400 or above."""
        return self.status >= 400


class Transport(Protocol):
    """Sends requests to one core."""

    def stream(
        self, method: str, path: str, content: bytes | None, timeout_s: float | None
    ) -> AbstractAsyncContextManager[CoreResponse]:
        """Send a request, with `content` as JSON; leaving the block ends the answer.

        `timeout_s` limits each wait for bytes; None waits without limit. Raises TransportFailed,
        also from the iteration over the body.
        """

    async def close(self) -> None:
        """Close the idle connections."""
