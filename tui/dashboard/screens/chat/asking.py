"""Asks the model, shows the answer while it comes, stops it, and keeps what came."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial

from textual.timer import Timer
from textual.worker import Worker

from modeldeck.core.errors import DeckError
from modeldeck.core.schema import GenerateRequest
from modeldeck.tui.chats import answers
from modeldeck.tui.chats.chat import Chat, ChatTurn, next_question
from modeldeck.tui.chats.files import read_schema
from modeldeck.tui.chats.requests import request_of
from modeldeck.tui.chats.session import ChatSession
from modeldeck.tui.dashboard.screens.chat.interface import ChatInterface
from modeldeck.tui.dashboard.screens.chat.turns import PAINT_S, AnswerTurn


class ChatAsking:
    """One answer at a time."""

    def __init__(self, view: ChatInterface) -> None:
        self._view = view
        self.answer: AnswerTurn | None = None
        """The answer that is generated, or that failed without a word."""
        self._worker: Worker[object] | None = None
        """Asks the last question."""
        self._painter: Timer | None = None

    # The worker

    @property
    def talking(self) -> bool:
        """Whether an answer is being generated."""
        return self._worker is not None and self._worker.is_running

    def talk(self, question: ChatTurn) -> None:
        """Ask this question, in place of the one that is still being answered."""
        self._worker = self._view.do(partial(self._ask, question), "talk")

    def stop(self) -> bool:
        """Stop the answer; False when there is none."""
        if self._worker is None or not self._worker.is_running:
            return False
        if not self._worker.is_cancelled:  # a second cancel would interrupt the cleanup
            self._worker.cancel()
        return True

    def has_ended_in(self, worker: Worker[object]) -> bool:
        """Whether this worker asked the last question and is finished."""
        return worker is self._worker and worker.is_finished

    async def _ask(self, question: ChatTurn) -> None:
        """Ask, and paint the answer at a fixed interval, not with every chunk."""
        if self._painter is None:
            self._painter = self._view.set_interval(PAINT_S, self.paint, pause=True)
        self._painter.resume()
        try:
            await self.ask(question)
        finally:
            self._painter.pause()

    # The answer

    async def ask(self, question: ChatTurn) -> None:
        """Send the conversation up to a question, and show the answer until it ends."""
        view, session = self._view, self._view.session
        model = view.partner.model
        if model is None:
            return
        turn = ChatTurn(parent=question.id, role="assistant", model=model.name, at=time.time())
        answer = AnswerTurn(turn, view.dashboard.glyphs, view.dashboard.key_of, live=True)
        turn = replace(turn, ended="stopped")
        try:
            await self._begin(session, question, answer)
            request = await self.request(session.chat, question)
            async with view.dashboard.link.client.generate(model.id, request) as chunks:
                async for chunk in chunks:
                    answer.add(chunk)
            why = answers.why_stopped(answer.last, session.chat.options.sampling.max_tokens)
            turn = replace(turn, ended=answers.ended(answer.last), error=why)
        except DeckError as error:
            ended = answers.broken(error, answer.text)
            turn = replace(turn, ended=ended, error=answers.why_broken(error))
            view.dashboard.say(str(error), "error")
        finally:
            await self._end(session, answer, answer.turned(turn))

    async def _begin(self, session: ChatSession, question: ChatTurn, answer: AnswerTurn) -> None:
        """Keep a question, and show it with the answer below it."""
        view = self._view
        if session.chat.turn(question.id) is None:
            await session.add(question)
            view.opened.told()
        else:
            await session.change(replace(session.chat, leaf=question.id))
        self.answer = answer
        await view.pane.show(session.chat, answer)
        view.pane.put_cursor(None)
        view.pane.follow()
        view.describe()
        view.dashboard.keys_changed()

    async def request(self, chat: Chat, question: ChatTurn) -> GenerateRequest:
        """The request for an answer. Raises DeckError where the schema cannot be read."""
        path = chat.options.sampling.schema_file
        return request_of(chat, asked=question, json_schema=await read_schema(path))

    async def _end(self, session: ChatSession, answer: AnswerTurn, turn: ChatTurn) -> None:
        """Keep what came; a question without an answer stays in the chat."""
        view = self._view
        if turn.text or turn.thought:
            await session.add(turn)
            self.answer = None
        await answer.end(turn)
        if not view.standing:
            return
        if view.session is session:
            await view.pane.show(session.chat, self.answer)
            view.opened.told()
        elif self.answer is answer:
            self.answer = None
        view.describe()
        view.dashboard.keys_changed()

    async def paint(self) -> None:
        """Show what came since."""
        answer, view = self.answer, self._view
        if answer is None or answer.ended or not answer.is_mounted:
            return
        model, state = view.partner.model, view.state
        client = view.dashboard.link.client.client_id if state else ""
        request = answers.own_request(state.requests.values(), client) if state else None
        await answer.paint(answers.waiting(view.partner.live(model.id if model else None), request))

    def question(self, text: str, editing: str | None) -> ChatTurn:
        """A new question: below the last answer, or a sibling of the one that is edited."""
        view = self._view
        return next_question(view.session.chat, text, view.files, editing)

    def question_of(self, id: str | None) -> ChatTurn | None:
        """The question of a turn: itself, or the one it answers; by default the last one."""
        chat = self._view.session.chat
        turn = chat.turn(id)
        if turn is not None and turn.role == "assistant":
            turn = chat.turn(turn.parent)
        return turn or chat.last("user")
