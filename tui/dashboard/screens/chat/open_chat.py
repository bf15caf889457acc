"""`OpenChat`: the chat that is open: shows it, another one, and whether it is saved."""

from __future__ import annotations

from modeldeck.tui.chats.chat import ChatOptions
from modeldeck.tui.chats.models import partners
from modeldeck.tui.chats.session import ChatSession
from modeldeck.tui.dashboard.screens.chat import messages as words
from modeldeck.tui.dashboard.screens.chat.head_line import ChatHeadLine
from modeldeck.tui.dashboard.screens.chat.interface import ChatInterface
from modeldeck.tui.dashboard.screens.chat.keeping import ChatKeeping
from modeldeck.tui.dashboard.screens.chat.list_place import ListPlace
from modeldeck.tui.dashboard.screens.chat.partner import ChatPartner
from modeldeck.tui.dashboard.screens.chat.writing import ChatWriting


class OpenChat:
    """The conversation on the screen."""

    def __init__(
        self,
        view: ChatInterface,
        session: ChatSession,
        *,
        head: ChatHeadLine,
        keeping: ChatKeeping,
        partner: ChatPartner,
        place: ListPlace,
        written: ChatWriting,
    ) -> None:
        self._view = view
        self.session = session
        """The chat, and its place in the store."""
        self._head = head
        self._keeping = keeping
        self._partner = partner
        self._place = place
        self._written = written
        self._told = ""
        """Why the chat was not saved, as it was said last."""

    async def begin_with_last(self) -> None:
        """Show the chat that was changed last, unless another one was begun meanwhile."""
        view = self._view
        await self._keeping.tidy()
        summaries = await self._keeping.refresh()
        if not view.standing:
            return
        self._place.lay_out()
        if summaries and not self.session.chat.turns and not view.asking.talking:
            await self._keeping.open(summaries[0].number, if_empty=True)
        await self.show()

    async def begin(self, session: ChatSession) -> None:
        """Show another chat."""
        view = self._view
        view.asking.stop()
        self.session, self._told = session, ""
        self._head.restart()
        view.asking.answer = None
        self._written.editing = None
        self._partner.resume()
        self._place.leave()
        self._place.lay_out()
        await self.show()
        view.pane.put_cursor(None)
        view.pane.follow()
        view.describe()
        await self._keeping.refresh()
        self._place.lay_out()
        view.dashboard.keys_changed()

    async def show(self) -> None:
        """Show the turns, or what can be done in an empty chat."""
        view = self._view
        await view.pane.show(self.session.chat, view.asking.answer, self._hint())

    def _hint(self) -> str:
        view = self._view
        return words.empty_hint(
            has_models=bool(view.state is None or partners(view.state)),
            has_model=self._partner.model is not None,
            kept=self.session.kept,
            private=self.session.chat.private,
            key_of=view.dashboard.key_of,
        )

    async def set_options(self, options: ChatOptions) -> None:
        """Change how the chat is asked."""
        await self.session.set_options(options)
        self.told()
        self._view.describe()

    def told(self) -> None:
        """Say, once, why the chat is not saved; update the list."""
        view, problem = self._view, self.session.problem
        if not view.standing:
            return
        if problem is not None and str(problem) != self._told:
            view.dashboard.say(f"This chat goes on, but it is not saved. {problem}", "error")
        self._told = str(problem or "")
        view.describe()
        view.do(self.relist, "find")

    async def relist(self) -> None:
        """Read the list of chats again, and make room for it."""
        await self._keeping.refresh()
        if self._view.standing:
            self._place.lay_out()
