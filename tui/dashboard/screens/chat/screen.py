"""Chat screen: conversations with models, which are kept on this machine.

Text goes to the composer at the bottom; `esc` stops an answer, then leaves the composer, so that
letters are keys. The parts: `head` the line at the top, `conversation` the turns, `chat_list` the
list, `open_chat` the chat that is open, `partner` the model, `asking` questions and answers,
`composer_events` what is wanted while writing, `keeping` the store, `settings` how the chat is
asked.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.widgets import Static
from textual.worker import Worker

from modeldeck.core.schema.state import State
from modeldeck.tui.chats.chat import ChatAttachment
from modeldeck.tui.chats.session import ChatSession
from modeldeck.tui.dashboard.commands import Command, bindings
from modeldeck.tui.dashboard.dialogs.help_screen import Part
from modeldeck.tui.dashboard.screens.chat.asking import ChatAsking
from modeldeck.tui.dashboard.screens.chat.chat_list import ChatList
from modeldeck.tui.dashboard.screens.chat.commands import COMMANDS, LIST_COMMANDS
from modeldeck.tui.dashboard.screens.chat.composer_events import ComposerEvents
from modeldeck.tui.dashboard.screens.chat.conversation import ConversationPane
from modeldeck.tui.dashboard.screens.chat.copying import ChatCopying
from modeldeck.tui.dashboard.screens.chat.head_line import ChatHeadLine
from modeldeck.tui.dashboard.screens.chat.keeping import ChatKeeping
from modeldeck.tui.dashboard.screens.chat.list_place import ListPlace
from modeldeck.tui.dashboard.screens.chat.open_chat import OpenChat
from modeldeck.tui.dashboard.screens.chat.partner import ChatPartner
from modeldeck.tui.dashboard.screens.chat.settings import ChatTuning
from modeldeck.tui.dashboard.screens.chat.turns import TurnWidget
from modeldeck.tui.dashboard.screens.chat.writing import ChatWriting
from modeldeck.tui.dashboard.screens.view import View
from modeldeck.tui.dashboard.widgets import composer
from modeldeck.tui.dashboard.widgets.composer import Composer, FileMatches
from modeldeck.tui.dashboard.widgets.footer import Entry

EXCLUSIVE = frozenset({"find", "talk"})
"""Groups of workers in which a new one cancels the one before."""


class ChatView(View):
    """Conversations, one of which is open."""

    NAME = "chat"
    TITLE = "Chat"
    COMMANDS: ClassVar[tuple[Command, ...]] = COMMANDS
    MORE: ClassVar[tuple[Part, ...]] = (("While writing", composer.SCOPE, composer.COMMANDS),)
    BINDINGS = bindings(NAME, COMMANDS)  # type: ignore[assignment] # a list of one kind of what Textual takes

    DEFAULT_CSS = """
    ChatView #about { height: 1; padding: 0 1; }
    ChatView #body { height: 1fr; }
    ChatView #attached { height: auto; padding: 0 1; color: $text-muted; display: none; }
    ChatView.listed {
        #attached { padding: 0 2; }
        TurnScroll { padding: 1 1 0 0; }
        TurnHead { padding: 0 0 0 1; }
        FollowLine, Composer { padding: 0 1 0 2; }
        #nothing { padding: 0 2; }
    }
    ChatView .tall {
        AnswerTurn.thinks .thought, AnswerMarkdown { margin: 0 0 1 0; }
        AnswerTurn.thinks.opened .thought { margin: 0; }
    }
    """

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self.files: tuple[ChatAttachment, ...] = ()
        self._visited = False

    def compose(self) -> ComposeResult:
        """The model, list and turns, files, and the composer."""
        glyphs, key_of = self.dashboard.glyphs, self.dashboard.key_of
        self.keeping = ChatKeeping(self, self.dashboard.chats)
        self.tuning = ChatTuning(self, self.dashboard.chats)
        self.written = ChatWriting(self, self.keeping)
        self.asking = ChatAsking(self)
        self.partner = ChatPartner(self)
        self.copying = ChatCopying(self)
        self._composer_events = ComposerEvents(self, self.written)
        self._place = ListPlace(self)
        about = Static(id="about", markup=False)
        self._head = ChatHeadLine(self, self.tuning, about)
        self.opened = OpenChat(
            self,
            ChatSession(self.dashboard.chats),
            head=self._head,
            keeping=self.keeping,
            partner=self.partner,
            place=self._place,
            written=self.written,
        )
        yield about
        with Horizontal(id="body"):
            yield ChatList(glyphs, key_of)
            yield ConversationPane(glyphs, key_of)
        yield FileMatches(glyphs)
        yield Static(id="attached", markup=False)
        yield Composer()

    def on_mount(self) -> None:
        """Show the line at the top, also in the colours of another theme."""
        self.dashboard.theme_changed_signal.subscribe(self, lambda _: self.describe())
        self.describe()

    # Parts

    @property
    def session(self) -> ChatSession:
        """The chat that is open, and its place in the store."""
        return self.opened.session

    @property
    def pane(self) -> ConversationPane:
        """The turns."""
        return self.query_one(ConversationPane)

    @property
    def list(self) -> ChatList:
        """The list of chats."""
        return self.query_one(ChatList)

    @property
    def composer(self) -> Composer:
        """The text field."""
        return self.query_one(Composer)

    @property
    def matches(self) -> FileMatches:
        """Files that match what is written behind `@`."""
        return self.query_one(FileMatches)

    @property
    def standing(self) -> bool:
        """Whether its parts are there; workers still run while they are removed."""
        parts = (ChatList, ConversationPane, Composer, FileMatches)
        return self.is_attached and all(self.query(part) for part in parts)

    def do(self, work: Callable[[], Awaitable[object]], group: str = "chats") -> Worker[object]:
        """Run a coroutine in a worker; some groups cancel the one before."""
        return self.run_worker(work(), group=group, exclusive=group in EXCLUSIVE)

    # Model

    def watch_state(self, state: State | None) -> None:
        """Follow which models are loaded."""
        if state is not None:
            self.partner.follow(state)
            self.describe()

    def talk_to(self, model_id: str) -> None:
        """Use this model (key `t` of the Catalog)."""
        self._visited = True  # a new chat, not the last one
        if model_id != self.partner.model_id and self.session.chat.turns:
            self.do(self.keeping.new)
        self.partner.choose(model_id)

    # The line at the top

    def describe(self) -> None:
        """Show model, context and settings; draws only a change."""
        if self.standing:
            self._head.draw()

    def on_resize(self) -> None:
        """Lay out for this width."""
        self._place.resized()
        self.describe()

    @property
    def has_chats(self) -> bool:
        """Whether there is a chat to list."""
        return bool(self.keeping.known)

    # Asking

    def attach(self, files: Sequence[ChatAttachment]) -> None:
        """Set the files that go with the next question."""
        self.files = tuple(files)
        self.composer.has_files = bool(files)
        shown = self.query_one("#attached", Static)
        shown.display = bool(files)
        shown.update(self.written.attached_line())
        self.describe()

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        """Show the keys that apply once an answer has ended."""
        if self.asking.has_ended_in(event.worker) and self.standing:
            self.dashboard.keys_changed()

    # Keys

    @property
    def writing(self) -> bool:
        """Whether a text field has the focus."""
        return self.composer.has_focus or self.list.finding

    def keys_shown(self) -> Sequence[Entry]:
        """Keys of what has the focus."""
        if self.list.finding:
            return []
        if self.list.table.has_focus:
            return [(self.NAME, command) for command in LIST_COMMANDS]
        if not self.composer.has_focus:
            return super().keys_shown()
        field = self.composer
        return composer.keys_shown(
            talking=self.asking.talking, picking=field.mention is not None, empty=not field.text
        )

    def on_descendant_focus(self) -> None:
        """Update the keys that are named: others apply."""
        self.dashboard.keys_changed()
        for pane in self.query(ConversationPane):  # none while the dashboard ends
            pane.show_below()

    on_descendant_blur = on_descendant_focus

    def at_stake(self) -> str:
        """A private or unsaved chat, or unsent text."""
        if self.session.at_stake:
            kind = "private" if self.session.chat.private else "not saved"
            return f"The open chat is {kind}: it is gone once you leave."
        if self.written.unsent:
            return "What is written in Chat was not sent."
        return ""

    def activated(self) -> None:
        """Give the focus to the composer; open the last chat at the first visit."""
        if not self._visited:
            self._visited = True
            self.do(self._first_visit)
        elif not self.session.chat.turns:
            self.do(self.opened.show)
        self.composer.focus()

    async def _first_visit(self) -> None:
        await self.opened.begin_with_last()
        if self.standing:
            await self.tuning.read_presets()

    def dismiss(self) -> bool:
        """Go back one step: file, search, answer, edit, list, composer, turn cursor."""
        if self.composer.has_focus and self.composer.end_mention():
            return True
        if self.list.finding:
            self.list.end_search(keep=False)
            return True
        if self.asking.stop() or self.written.cancel_edit():
            return True
        if self.list.table.has_focus:
            if not self.list.table.unmark():
                self.action_chats()
            return True
        if self.composer.has_focus:
            (self.pane.scroll if self.pane.display else self.list.table).focus()
            return True
        if self.pane.cursor is not None:
            self.pane.put_cursor(None)
            return True
        return False

    def take_back(self) -> bool:
        """Bring back the chat that was deleted last (`z`)."""
        self.do(self._take_back)
        return True

    async def _take_back(self) -> None:
        if not await self.keeping.restore():
            self.dashboard.undo_in_core()

    # Events of the parts

    @on(Composer.Wanted)
    def _wanted(self, event: Composer.Wanted) -> None:
        self._composer_events.handle(event)

    @on(Composer.Changed)
    def _text_changed(self) -> None:
        self.describe()
        self.dashboard.keys_changed()

    @on(ChatList.Searched)
    def _searched(self) -> None:
        self.do(self.keeping.refresh, "find")

    @on(ChatList.ChatPicked)
    def _picked(self, event: ChatList.ChatPicked) -> None:
        if event.summary is not None:
            self.do(partial(self.keeping.open, event.summary.number))
        self._place.close()

    @on(TurnWidget.Clicked)
    def _turn_clicked(self, event: TurnWidget.Clicked) -> None:
        self.pane.put_cursor(event.turn_id)

    # Actions

    def action_write(self) -> None:
        """Move the focus to the composer."""
        self.composer.focus()

    def action_chats(self) -> None:
        """Show the list and go to it; hide it where one is in it."""
        self._place.toggle()

    def action_find(self) -> None:
        """Search the chats."""
        if not self.list.table.has_focus:
            self._place.toggle()
        self.list.find()

    def action_new(self) -> None:
        """Begin a new chat."""
        self.do(self.keeping.new)

    def action_private(self) -> None:
        """Begin a private chat."""
        self.do(partial(self.keeping.new, private=True))

    def action_delete(self) -> None:
        """Delete a chat."""
        self.do(self.keeping.delete)

    def action_rename(self) -> None:
        """Rename a chat."""
        self.do(self.keeping.rename)

    def action_export(self) -> None:
        """Write the chat to a file."""
        self.do(self.keeping.export)

    def action_model(self) -> None:
        """Choose the model."""
        self.do(self.tuning.model)

    def action_system(self) -> None:
        """Choose or write the system prompt."""
        self.do(self.tuning.system)

    def action_sampling(self) -> None:
        """Set how tokens are chosen."""
        self.do(self.tuning.sampling)

    def action_thinking(self) -> None:
        """Set how much the model thinks."""
        self.do(self.tuning.thinking)

    def action_reload(self) -> None:
        """Reload the model with more context."""
        self.do(self.tuning.reload)

    def action_again(self) -> None:
        """Ask the question again."""
        self.written.again()

    def action_edit(self) -> None:
        """Edit the question."""
        self.written.edit()

    def action_previous_branch(self) -> None:
        """Show the branch before."""
        self.do(partial(self.written.turn_branch, -1))

    def action_next_branch(self) -> None:
        """Show the next branch."""
        self.do(partial(self.written.turn_branch, 1))

    def action_copy(self) -> None:
        """Copy the turn that is marked, or the last answer."""
        self.copying.turn()

    def action_copy_all(self) -> None:
        """Copy the chat."""
        self.copying.chat()

    def action_copy_block(self) -> None:
        """Copy a block of code."""
        self.do(self.copying.block)

    def action_thought(self) -> None:
        """Open or fold a thought."""
        self.pane.fold(self.pane.cursor)

    def action_thoughts(self) -> None:
        """Open or fold all thoughts."""
        self.pane.fold_all()

    def action_turn_cursor(self, by: int) -> None:
        """Mark another turn."""
        self.pane.move_cursor(by)

    def action_scroll(self, lines: int) -> None:
        """Scroll by a number of lines."""
        self.pane.move(lines)

    def action_turn(self, pages: float) -> None:
        """Scroll by a number of pages."""
        self.pane.turn(pages)

    def action_first(self) -> None:
        """Go to the top."""
        self.do(self.pane.first)

    def action_last(self) -> None:
        """Go to the bottom, and follow new text."""
        self.pane.put_cursor(None)
        self.pane.follow()
