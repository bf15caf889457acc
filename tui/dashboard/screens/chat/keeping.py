"""The chats that are kept: list, search, open, new, delete and back, rename, export."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from modeldeck.core.errors import DeckError
from modeldeck.tui.chats.chat import Chat
from modeldeck.tui.chats.export import ExportFormat, exported, file_name
from modeldeck.tui.chats.files import write_new
from modeldeck.tui.chats.session import ChatSession
from modeldeck.tui.chats.store import ChatStore, ChatSummary
from modeldeck.tui.dashboard.questions import LineQuestion, Question
from modeldeck.tui.dashboard.screens.chat.interface import ChatInterface
from modeldeck.tui.dashboard.screens.chat.sheet import SheetBody, SheetField, answered
from modeldeck.tui.text import format as fmt

FORMATS: Mapping[str, ExportFormat] = {"Markdown": "markdown", "JSON": "json"}


class ChatKeeping:
    """Actions on the chats of the store."""

    def __init__(self, view: ChatInterface, store: ChatStore) -> None:
        self._view = view
        self._store = store
        self._error = ""
        self.known = 0
        """Number of kept chats, when it was asked last."""

    async def refresh(self) -> list[ChatSummary]:
        """Read the list of chats again."""
        view = self._view
        if not view.standing:
            return []
        try:
            summaries = await self._store.summaries(view.list.words)
        except DeckError as error:
            summaries = []
            self._tell(error)
        else:
            self._error = ""
        if not view.standing:
            return summaries
        if not view.list.words:
            self.known = len(summaries)
        chat = view.session.chat
        private = chat.private and bool(chat.turns)
        models = view.state.models if view.state is not None else {}
        view.list.show(summaries, models, private=private, open_now=chat.number, error=self._error)
        return summaries

    def _tell(self, error: DeckError) -> None:
        """Say an error of the store once, until another one comes."""
        if str(error) != self._error:
            self._error = str(error)
            self._view.dashboard.say(f"Chats cannot be read. {error}", "error")

    async def tidy(self) -> None:
        """Remove what is too old; a failure is told by whatever needs the store next."""
        try:
            await self._store.purge()
        except DeckError:
            pass

    async def prompts(self) -> list[str]:
        """Earlier questions of all chats."""
        try:
            return await self._store.prompts()
        except DeckError as error:
            self._tell(error)
            return []

    # Opening

    async def may_leave(self) -> bool:
        """Ask where the open chat would be lost."""
        session = self._view.session
        if not session.at_stake:
            return True
        why = "This chat is private: it is gone once you leave it."
        if not session.chat.private:
            why = "This chat is not saved: it is gone once you leave it."
        return await self._view.dashboard.confirm(
            [why], "leave it", "stay in it", cancelled="Cancelled: the chat stays."
        )

    async def open(self, number: int, *, if_empty: bool = False) -> None:
        """Open a chat of the store; with `if_empty` only while nothing is said in the open one."""
        view = self._view
        if number == view.session.chat.number or not await self.may_leave():
            return
        try:
            chat = await self._store.load(number)
        except DeckError as error:
            view.dashboard.say(str(error), "error")
            return
        if if_empty and (view.session.chat.turns or view.asking.talking):
            return  # a question was sent meanwhile
        await view.opened.begin(ChatSession(self._store, chat))

    async def new(self, *, private: bool = False) -> None:
        """Begin another chat, asked as this one is, and go to the composer.

        Nothing after the first `await` moves the focus unless a question had it: the next key may
        have moved it meanwhile.
        """
        asks = self._view.session.at_stake
        if not asks:
            self._view.composer.focus()
        elif not await self.may_leave():
            return
        options = self._view.session.chat.options
        await self._view.opened.begin(
            ChatSession(self._store, Chat(options=options, private=private))
        )
        if asks:
            self._view.composer.focus()
        if private:
            self._view.dashboard.say("Private: nothing of this chat is written.")

    # Deleting

    async def delete(self) -> None:
        """Delete the marked chats of the list, or the open one, without asking."""
        view = self._view
        chosen = [(chat.number, chat.title) for chat in view.list.marked]
        if not view.list.table.has_focus:
            chat = view.session.chat
            chosen = [(chat.number, chat.title)] if chat.number is not None else []
        if not chosen:
            view.dashboard.say("Only kept chats can be deleted; a private one goes with n.")
            return
        try:
            for number, _ in chosen:
                await self._store.delete(number)
        except DeckError as error:
            view.dashboard.say(str(error), "error")
            return
        view.list.table.unmark()
        if view.session.chat.number in [number for number, _ in chosen]:
            view.asking.stop()
            options = view.session.chat.options
            await view.opened.begin(ChatSession(self._store, Chat(options=options)))
        await self.refresh()
        what = f"“{fmt.cut(chosen[0][1], 32)}”" if len(chosen) == 1 else f"{len(chosen)} chats"
        again = "z brings it back." if len(chosen) == 1 else "z brings them back, one by one."
        key = view.dashboard.key_of("app.undo")
        view.dashboard.say(f"Deleted {what}. {again.replace('z', key, 1)}", "done")

    async def restore(self) -> bool:
        """Bring back the chat that was deleted last; False where the bin is empty."""
        try:
            chat = await self._store.restore()
        except DeckError as error:
            self._view.dashboard.say(str(error), "error")
            return True
        if chat is None:
            return False
        await self.refresh()
        self._view.dashboard.say(f"“{fmt.cut(chat.title, 32)}” is back.", "done")
        if not self._view.session.chat.turns:
            await self._view.opened.begin(ChatSession(self._store, chat))
        return True

    # Names and files

    async def rename(self) -> None:
        """Rename the chat under the cursor of the list, or the open one."""
        view = self._view
        chosen = view.list.current if view.list.table.has_focus else None
        session = view.session
        if chosen is not None and chosen.number != session.chat.number:
            try:
                session = ChatSession(self._store, await self._store.load(chosen.number))
            except DeckError as error:
                view.dashboard.say(str(error), "error")
                return
        elif not session.chat.turns:
            view.dashboard.say("A chat gets its name with the first question.")
            return
        question = LineQuestion(
            title="Name of the chat", value=session.chat.title, word="Rename", verb="rename"
        )
        name = await view.dashboard.ask_question(question)
        if name is None or not (name := " ".join(name.split())):
            return
        if not await session.change(replace(session.chat, title=name[:200], named=True)):
            view.dashboard.say(str(session.problem), "error")
        await self.refresh()

    async def export(self) -> None:
        """Ask for form and place of a file, and write the chat to it."""
        view, chat = self._view, self._view.session.chat
        if not chat.turns:
            view.dashboard.say("Nothing to export yet.")
            return
        fields = (
            SheetField(
                name="form",
                label="export as",
                value="Markdown",
                choices=tuple(FORMATS),
                hint="JSON has all branches",
            ),
            SheetField(name="path", label="to", value=f"~/{file_name(chat, 'markdown')}"),
        )
        body = SheetBody(
            fields,
            _path_problem,
            view.dashboard.glyphs,
            verb="write the file",
            changed=lambda values, _: {"path": _renamed(values["path"], values["form"])},
        )
        body.add_class("paths")
        question = Question(title=f"Export “{fmt.cut(chat.title, 40)}”", word="Export")
        answer = await view.dashboard.ask_question(question, body)
        if answer is None:
            return
        values = answered(answer)
        try:
            path = await write_new(values["path"], exported(chat, FORMATS[values["form"]]))
        except DeckError as error:
            view.dashboard.say(str(error), "error")
        else:
            view.dashboard.say(f"Wrote {path}.", "done")


def _path_problem(values: Mapping[str, str]) -> dict[str, str]:
    return {} if values["path"].strip() else {"path": "a path, such as ~/chat.md"}


def _renamed(path: str, form: str) -> str:
    """The path with the ending of the form, where it has that of another one."""
    stem, dot, ending = path.rpartition(".")
    endings = {"Markdown": "md", "JSON": "json"}
    return f"{stem}.{endings[form]}" if dot and ending in endings.values() else path
