"""Copies a turn, the chat, or a block of code into the clipboard."""

from __future__ import annotations

from modeldeck.tui.chats.export import as_text
from modeldeck.tui.dashboard.questions import ChoiceQuestion, QuestionItem
from modeldeck.tui.dashboard.screens.chat.interface import ChatInterface
from modeldeck.tui.dashboard.widgets.markdown import code_blocks
from modeldeck.tui.text import format as fmt


class ChatCopying:
    """What `y`, `Y` and `b` copy."""

    def __init__(self, view: ChatInterface) -> None:
        self._view = view

    def turn(self) -> None:
        """Copy the turn that is marked, or the last answer."""
        chat = self._view.session.chat
        turn = chat.turn(self._view.pane.cursor) or chat.last("assistant")
        kind = "question" if turn and turn.role == "user" else "answer"
        self._copy(turn.text if turn else "", f"The {kind} is in the clipboard.")

    def chat(self) -> None:
        """Copy the whole chat, as it is shown."""
        self._copy(as_text(self._view.session.chat.path()), "The chat is in the clipboard.")

    async def block(self) -> None:
        """Copy the block of code of an answer; of several, ask which."""
        view = self._view
        chat = view.session.chat
        turn = chat.turn(view.pane.cursor) or chat.last("assistant")
        blocks = code_blocks(turn.text) if turn else []
        if not blocks:
            view.dashboard.say("No block of code in this answer.")
            return
        place = 1
        if len(blocks) > 1:
            items = tuple(
                QuestionItem(
                    text=fmt.pad(language or "code", 12),
                    name=fmt.cut(code.strip().partition("\n")[0], 60),
                )
                for language, code in blocks
            )
            question = ChoiceQuestion(title="Copy which block?", word="Copy", items=items)
            answer = await view.dashboard.ask_question(question)
            if answer is None:
                return
            place = int(answer)
        self._copy(blocks[place - 1][1], "The code is in the clipboard.")

    def _copy(self, text: str, done: str) -> None:
        """Put a text into the clipboard."""
        if not text:
            self._view.dashboard.say("Nothing to copy yet.")
            return
        self._view.app.copy_to_clipboard(text)
        self._view.dashboard.say(done, "done")
