"""Keys one after the other: each is heard when the one before has done what it does.

Textual hands a key to the widget that has the focus when the key arrives. Keys that arrive together
(a fast typist, a slow line, a script) then all go to the same widget, though the first of them may
have moved the focus: of `/` and `d`, the `d` would start a download instead of being written into
the filter. Here a key waits until a message that travels behind the one before it, on the same way
up from the focused widget, has arrived.
"""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial

from textual import events, on
from textual.app import App
from textual.message import Message
from textual.message_pump import MessagePump

LOOK_S = 0.1
"""Between two looks whether the widget that had the key is still there to pass it on."""
PATIENCE_S = 5.0
"""For a key to pass at all; what a key starts is done beside the screen and takes no time here."""
WAITING = 4096
"""Keys that may wait, for example while a long text is pasted as keys."""


class KeyProcessed(Message):
    """Travels behind a key: when it arrives, whoever wanted the key has had it."""

    def __init__(self, number: int, behind: MessagePump, *, again: bool) -> None:
        """`again`: it is to go the way a second time, behind what the key gave rise to."""
        super().__init__()
        self.number = number
        self.behind = behind
        self.again = again


class OrderedKeyApp(App[None]):
    """An app that hears keys one after the other."""

    def __init__(self, *, ansi_color: bool | None = None) -> None:
        super().__init__(ansi_color=ansi_color)
        self._keys: deque[events.Event] = deque(maxlen=WAITING)
        self._number = 0
        self._under_way = False

    def hold_keys(self) -> None:
        """Let keys wait, until `release_keys`, for what will hear them."""
        self._under_way = True

    def release_keys(self) -> None:
        """What hears keys is there."""
        self.call_later(self._next)

    async def on_event(self, event: events.Event) -> None:
        """Hold a key while another is under way."""
        if not isinstance(event, events.Key | events.Paste) or event.is_forwarded:
            await super().on_event(event)
        elif self._under_way:
            self._keys.append(event)
        else:
            await self._pass_on(event)

    async def _pass_on(self, event: events.Event) -> None:
        self._under_way = True
        self._number += 1
        await super().on_event(event)
        behind = self.focused or self.screen if event.is_forwarded else self
        behind.post_message(KeyProcessed(self._number, behind, again=True))
        self._watch(self._number, behind, PATIENCE_S)

    def _watch(self, number: int, behind: MessagePump, left_s: float) -> None:
        """Wait no longer where the widget is gone, and the message behind the key with it."""
        if number == self._number and self._under_way:
            if not behind.is_running or left_s <= 0:
                self._settled(number)
            else:
                look = partial(self._watch, number, behind, left_s - LOOK_S)
                asyncio.get_running_loop().call_later(LOOK_S, look)

    @on(KeyProcessed)
    def _passed(self, message: KeyProcessed) -> None:
        """What heard the key may have told of it (a line was sent) and so move the focus."""
        behind = message.behind
        again = KeyProcessed(message.number, behind, again=False)
        if not (message.again and behind.is_running and behind.post_message(again)):
            self._settled(message.number)

    def _settled(self, number: int) -> None:
        """The key is done with. A focus that it moved is on its way to this queue already."""
        if number == self._number and self._under_way:
            self._number += 1
            self.call_later(self._next)

    async def _next(self) -> None:
        self._under_way = False
        if self._keys:
            await self._pass_on(self._keys.popleft())
