"""A conversation that is going on, and its writing into the store.

A chat is never lost for a failure of the disk: it goes on unsaved, `problem` says why, and the next
write includes all that is still missing.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

from modeldeck.core.errors import DeckError
from modeldeck.tui.chats.chat import Chat, ChatOptions, ChatTurn
from modeldeck.tui.chats.store import ChatStore


class ChatSession:
    """One conversation of a front end. Every change goes through it."""

    def __init__(self, store: ChatStore, chat: Chat | None = None) -> None:
        """Begin with a stored conversation, or an empty one.

        Nothing is written of a private one, nor where the setting `[chat] keep` is off.
        """
        self.chat = chat or Chat()
        self.problem: DeckError | None = None
        """Why the last write failed; None after one that did not."""
        self.saved_at: float | None = None
        """When it was written last, in seconds since the epoch; None before that."""
        self._store = store
        self._pending: set[str] = set()
        self._writing = asyncio.Lock()

    @property
    def kept(self) -> bool:
        """Whether it is written."""
        return self._store.settings.keep and not self.chat.private

    @property
    def at_stake(self) -> bool:
        """Whether something of it is nowhere but in memory."""
        return bool(self.chat.turns) and (not self.kept or bool(self._pending))

    async def add(self, turn: ChatTurn) -> bool:
        """Add a turn, or replace it, and write it; False where writing failed."""
        self.chat = self.chat.with_turn(turn)
        self._pending.add(turn.id)
        return await self.save()

    async def change(self, chat: Chat) -> bool:
        """Take over a change of title, options or shown branch, and write it."""
        self.chat = replace(chat, number=self.chat.number)
        return await self.save()

    async def set_options(self, options: ChatOptions) -> bool:
        """Change how it is asked."""
        return await self.change(replace(self.chat, options=options))

    async def save(self) -> bool:
        """Write what is not written yet; a chat without a question is not written."""
        if not self.kept or not self.chat.turns:
            return True
        async with self._writing:
            turns = frozenset(self._pending)
            try:
                number = await self._store.save(self.chat, turns)
            except DeckError as error:
                self.problem = error
                return False
            self.chat = replace(self.chat, number=number)
            self._pending -= turns
            self.problem, self.saved_at = None, time.time()
            return True
