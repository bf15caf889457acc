"""What is said with `modeldeck bridge` on another machine, one line each way (see `remote.bridge`).

The bridge answers words in the order in which they came, so each answer belongs to the oldest word
without one, also after its caller has given up. Other lines are noise of the machine's shell; there
is a limit to them. Pure: no I/O here.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

import msgspec

from modeldeck.core.errors import CoreUnreachable, DeckError
from modeldeck.core.remote.hello import BridgeHello
from modeldeck.core.remote.ssh_process import KEPT_LINES, Text
from modeldeck.core.schema import ErrorInfo
from modeldeck.core.schema.errors import from_info

NOISE_BYTES = 1 << 18
"""That the other machine may write without any of it being modeldeck's: a shell's greeting, and
what its profile prints. Counted from the last line that was understood."""
UNANSWERED = 16
"""Words that may wait for their answers."""


class Conversation:
    """The words of one line to one machine. `heard` takes what that machine writes."""

    def __init__(self, name: str) -> None:
        """`name` is that of the machine, for errors."""
        self._name = name
        loop = asyncio.get_running_loop()
        self.greeting: asyncio.Future[BridgeHello] = loop.create_future()
        """What the bridge says first. Fails with what it could not do, or when too much came."""
        self.noise: deque[str] = deque(maxlen=KEPT_LINES)
        """The last lines that were not modeldeck's."""
        self.overrun: asyncio.Future[None] = loop.create_future()
        """Done when more came than there is any use for."""
        self._noise_bytes = 0
        self._unanswered: deque[asyncio.Future[Any]] = deque()

    def heard(self, line: Text) -> None:
        """Take a line of the other machine."""
        if self.overrun.done():
            return
        value = _object(line)
        if value is not None and (self._greeted(value) or self._answered(value)):
            self._noise_bytes = 0
        else:
            self.noise.append(line.text)
            self._noise_bytes += len(line.text) + 1
            if self._noise_bytes > NOISE_BYTES:
                self.overrun.set_result(None)
                self.close(self._too_much())

    def _greeted(self, value: dict[str, Any]) -> bool:
        if self.greeting.done():
            return False
        try:
            if "modeldeck" in value:
                self.greeting.set_result(msgspec.convert(value["modeldeck"], BridgeHello))
                return True
            if "error" in value:
                error = from_info(msgspec.convert(value["error"], ErrorInfo))
                self.greeting.set_exception(error)
                return True
        except msgspec.ValidationError:
            pass
        return False

    def _answered(self, value: dict[str, Any]) -> bool:
        if not self._unanswered or not value.keys() & {"answer", "error"}:
            return False
        waiting = self._unanswered.popleft()
        if waiting.done():  # its caller has given up; the answer is still its own
            return True
        if "error" not in value:
            waiting.set_result(value["answer"])
            return True
        try:
            waiting.set_exception(from_info(msgspec.convert(value["error"], ErrorInfo)))
        except msgspec.ValidationError as error:
            waiting.set_exception(CoreUnreachable(f"{self._name} answered nonsense: {error}."))
        return True

    def asked(self) -> asyncio.Future[Any]:
        """A word was sent: the answer that it gets. Raises CoreUnreachable: too many wait."""
        if len(self._unanswered) >= UNANSWERED:
            raise CoreUnreachable(f"modeldeck on {self._name} has stopped answering.")
        waiting: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._unanswered.append(waiting)
        return waiting

    def close(self, why: DeckError) -> None:
        """Nothing will be heard any more: everything that waits fails."""
        for waiting in (self.greeting, *self._unanswered):
            if not waiting.done():
                waiting.set_exception(why)
            if not waiting.cancelled():
                waiting.exception()  # marks it as retrieved: its caller may have given up
        self._unanswered.clear()

    def _too_much(self) -> DeckError:
        return CoreUnreachable(
            f"{self._name} writes on and on, and none of it is modeldeck's.",
            "Its shell must be quiet where there is no terminal: see what"
            f" `ssh {self._name} true` prints.",
        )


def _object(line: Text) -> dict[str, Any] | None:
    """The JSON object in a line; None where it is something else."""
    if not line.whole or not line.text.startswith("{"):
        return None
    try:
        return msgspec.json.decode(line.text, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        return None
