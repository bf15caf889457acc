"""Handles keys one after the other: each after the effect of the one before.

Textual hands a key to the widget that has the focus when the key arrives. Keys that arrive together
(a fast typist, a slow line, a script) then all go to the same widget, though the first of them may
have moved the focus: of `/` and `d`, the `d` would start a download instead of being written into
the filter. Here a key waits until a message that travels behind the one before it, on the same way
up from the focused widget, has arrived.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from textual import events, on
from textual.app import App
from textual.message import Message
from textual.message_pump import MessagePump

LOOK_S = 0.1
"""Seconds between two checks that the widget that got the key still exists."""
PATIENCE_S = 5.0
"""Longest wait for a key in seconds; not for the work it starts, which runs in workers."""
WAITING = 4096
"""Most keys in the queue, for example while a long text is pasted as keys."""


class KeyProcessed(Message):
    """Follows a key through the same queues: when it arrives, the key has been handled."""

    def __init__(self, number: int, behind: MessagePump, *, again: bool) -> None:
        """`again`: post it a second time, behind the messages that the key caused."""
        super().__init__()
        self.number = number
        self.behind = behind
        self.again = again


class OrderedKeyApp(App[None]):
    """An app that handles keys one after the other."""

    key_comes: Callable[[], None] | None = None
    """Called before each key is handled."""

    def __init__(self, *, ansi_color: bool | None = None) -> None:
        super().__init__(ansi_color=ansi_color)
        self._keys: deque[events.Event] = deque(maxlen=WAITING)
        self._number = 0
        self._under_way = False

    def hold_keys(self) -> None:
        """Queue all keys until `release_keys`, also those behind the one that is handled now."""
        self._number += 1
        self._under_way = True

    def release_keys(self) -> None:
        """Handle the queued keys, and the following ones."""
        self.call_later(self._next, self._number)

    @contextmanager
    def keys_held(self) -> Iterator[None]:
        """Queue all keys while the block runs, unless another one holds them at its end."""
        self.hold_keys()
        number = self._number
        try:
            yield
        finally:
            if number == self._number:
                self.release_keys()

    async def on_event(self, event: events.Event) -> None:
        """Queue a key while another one is being handled."""
        if not isinstance(event, events.Key | events.Paste) or event.is_forwarded:
            await super().on_event(event)
        elif self._under_way:
            self._keys.append(event)
        else:
            await self._pass_on(event)

    async def _pass_on(self, event: events.Event) -> None:
        if self.key_comes is not None:
            self.key_comes()
        self._under_way = True
        self._number += 1
        await super().on_event(event)
        behind = self.focused or self.screen if event.is_forwarded else self
        behind.post_message(KeyProcessed(self._number, behind, again=True))
        self._watch(self._number, behind, PATIENCE_S)

    def _watch(self, number: int, behind: MessagePump, left_s: float) -> None:
        """Stop waiting for a key whose widget is gone, and its message with it."""
        if number == self._number and self._under_way:
            if not behind.is_running or left_s <= 0:
                self._finish(number)
            else:
                look = partial(self._watch, number, behind, left_s - LOOK_S)
                asyncio.get_running_loop().call_later(LOOK_S, look)

    @on(KeyProcessed)
    def _passed(self, message: KeyProcessed) -> None:
        """Post the message again: handling the key may have posted one that moves the focus."""
        behind = message.behind
        again = KeyProcessed(message.number, behind, again=False)
        if not (message.again and behind.is_running and behind.post_message(again)):
            self._finish(message.number)

    def _finish(self, number: int) -> None:
        """Go on to the next key; a change of focus is in this queue already."""
        if number == self._number and self._under_way:
            self._number += 1
            self.call_later(self._next, self._number)

    async def _next(self, number: int) -> None:
        """Handle the next key, unless keys were held or handled since this was asked for."""
        if number != self._number:
            return
        self._under_way = False
        if self._keys:
            await self._pass_on(self._keys.popleft())
