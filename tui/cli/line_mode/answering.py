"""Asks the model, and shows the answer as it comes."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

from modeldeck.core.errors import CoreUnreachable, DeckError
from modeldeck.core.schema.state import State
from modeldeck.tui.chats import answers
from modeldeck.tui.chats.answers import AnswerRecorder
from modeldeck.tui.chats.chat import ChatTurn
from modeldeck.tui.chats.files import read_schema
from modeldeck.tui.chats.requests import request_of
from modeldeck.tui.cli.line_mode import messages
from modeldeck.tui.cli.line_mode.conversation import LineConversation
from modeldeck.tui.cli.output import Output

REDRAW_S = 0.25
"""Between two looks of the line that stands while nothing came."""


class LineAnswer:
    """One answer: from its question to the line of figures."""

    def __init__(self, conversation: LineConversation, out: Output) -> None:
        self._conversation = conversation
        self._out = out
        self._parts = AnswerRecorder()
        self._waiting = ""
        self._shown = ""
        self._remedy = ""
        """What can be done about the error that it ended with."""
        self._begun = False
        """Whether text of the answer is on the terminal."""

    async def ask(self, question: ChatTurn) -> bool:
        """Ask a question of the chat and show the answer; False where the core was lost.

        What came is kept also where this is cancelled. Raises DeckError for a question that cannot
        be asked; one that fails on the way is told below what came.
        """
        talk = self._conversation
        model = talk.model
        assert model is not None  # one is chosen before a line is read
        if talk.chat.leaf != question.id:
            await talk.session.change(replace(talk.chat, leaf=question.id))
        schema = await read_schema(talk.chat.options.sampling.schema_file)
        request = request_of(talk.chat, asked=question, json_schema=schema)
        turn = ChatTurn(parent=question.id, role="assistant", model=model.name, at=time.time())
        turn = replace(turn, ended="stopped")
        lost = False
        looking = asyncio.create_task(self._look())
        try:
            async with talk.client.generate(model.id, request) as chunks:
                async for chunk in chunks:
                    self._show(self._parts.add(chunk))
            last = self._parts.last
            why = answers.why_stopped(last, talk.chat.options.sampling.max_tokens)
            turn = replace(turn, ended=answers.ended(last), error=why)
        except DeckError as error:
            lost = isinstance(error, CoreUnreachable)
            ended = answers.broken(error, self._parts.text)
            turn = replace(turn, ended=ended, error=answers.why_broken(error))
            self._remedy = "" if lost else error.remedy
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)
            await self._end(self._parts.turned(turn), lost=lost)
        return not lost

    # While it comes

    def _show(self, text: str) -> None:
        if text and not self._begun:
            self._redraw("")
            if self._parts.thought:
                self._say_thought()
            self._begun = True
        self._out.piece(text)

    def _say_thought(self) -> None:
        figures = self._parts.turned(ChatTurn(role="assistant")).figures
        self._out.line(self._out.dim(messages.thought(figures)))

    async def _look(self) -> None:
        """Redraw the one line while nothing came."""
        await asyncio.sleep(REDRAW_S)
        following = asyncio.create_task(self._follow())
        try:
            while not self._begun:
                parts = self._parts
                if parts.thought:
                    self._redraw(messages.thinking(parts.thought_s, parts.thought_tokens))
                elif self._waiting:
                    self._redraw(f"… {self._waiting}")
                await asyncio.sleep(REDRAW_S)
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    async def _follow(self) -> None:
        """Follow what the core does with the request."""
        client = self._conversation.client
        async with client.feed.states(max_hz=1 / REDRAW_S) as states:
            async for state in states:
                self._conversation.know(state)
                self._waiting = self._words(state)

    def _words(self, state: State) -> str:
        request = answers.own_request(state.requests.values(), self._conversation.client.client_id)
        return answers.waiting(self._conversation.instance, request)

    def _redraw(self, text: str) -> None:
        if self._out.terminal and text != self._shown and not self._begun:
            self._out.redraw(text)
            self._shown = text

    # Its end

    async def _end(self, turn: ChatTurn, *, lost: bool) -> None:
        """Keep what came, and show how it ended."""
        talk, out = self._conversation, self._out
        if not self._begun:
            self._redraw("")
            if turn.thought:
                self._say_thought()
        self._begun = True
        saved = True
        if turn.text or turn.thought:
            saved = await talk.session.add(turn)
        if turn.text and not turn.text.endswith("\n"):
            out.line()
        if not lost and turn.ended != "stopped":
            try:
                await talk.refresh()
            except DeckError:
                pass  # the next question tells
        if line := messages.figures(turn, talk.use()):
            out.line(out.dim(line))
        if self._remedy:
            out.note(self._remedy)
        if not saved or talk.session.problem is not None:
            out.note(f"This chat is not saved. {talk.session.problem}")
