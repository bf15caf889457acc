"""What the parts of the Chat screen may use of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from textual.app import App
    from textual.geometry import Size
    from textual.timer import Timer
    from textual.worker import Worker

    from modeldeck.core.schema import Instance, Model
    from modeldeck.core.schema.state import State
    from modeldeck.tui.chats.chat import ChatAttachment, ChatOptions, ChatTurn
    from modeldeck.tui.chats.session import ChatSession
    from modeldeck.tui.dashboard.interface import DashboardInterface
    from modeldeck.tui.dashboard.screens.chat.chat_list import ChatList
    from modeldeck.tui.dashboard.screens.chat.conversation import ConversationPane
    from modeldeck.tui.dashboard.screens.chat.turns import AnswerTurn
    from modeldeck.tui.dashboard.widgets.composer import Composer, FileMatches


class ChatAsker(Protocol):
    """Asks the model, as the other parts see it."""

    answer: AnswerTurn | None
    """The answer that is generated, or that failed without a word."""

    def question(self, text: str, editing: str | None) -> ChatTurn:
        """A new question: below the last answer, or a sibling of the one that is edited."""

    def question_of(self, id: str | None) -> ChatTurn | None:
        """The question of a turn; by default the last one."""

    @property
    def talking(self) -> bool:
        """Whether an answer is being generated."""

    def talk(self, question: ChatTurn) -> None:
        """Ask a question."""

    def stop(self) -> bool:
        """Stop the answer; False when there is none."""


class PartnerChoice(Protocol):
    """The model that answers, as the other parts see it."""

    @property
    def model(self) -> Model | None:
        """The model that answers."""

    def live(self, model_id: str | None) -> Instance | None:
        """The live instance of a model, if any."""

    def choose(self, model_id: str) -> None:
        """Let this model answer from here on."""


class ShownChat(Protocol):
    """The chat that is open, as the other parts see it."""

    async def begin(self, session: ChatSession) -> None:
        """Show another chat."""

    async def show(self) -> None:
        """Show its turns."""

    async def set_options(self, options: ChatOptions) -> None:
        """Change how it is asked."""

    def told(self) -> None:
        """Say, once, why it is not saved; update the list."""

    async def relist(self) -> None:
        """Read the list of chats again, and make room for it."""


class ChatInterface(Protocol):
    """The Chat screen as its parts see it."""

    files: tuple[ChatAttachment, ...]
    """Files that go with the next question."""
    state: State | None

    @property
    def session(self) -> ChatSession:
        """The chat that is open, and its place in the store."""

    @property
    def standing(self) -> bool:
        """Whether its parts are there; workers still run while they are removed."""

    @property
    def dashboard(self) -> DashboardInterface:
        """The app, as screens may use it."""

    @property
    def app(self) -> App[object]:
        """The app, for its clipboard."""

    @property
    def pane(self) -> ConversationPane:
        """The turns."""

    @property
    def list(self) -> ChatList:
        """The list of chats."""

    @property
    def composer(self) -> Composer:
        """The text field."""

    @property
    def matches(self) -> FileMatches:
        """Files that match what is written behind `@`."""

    @property
    def asking(self) -> ChatAsker:
        """Questions and answers."""

    @property
    def opened(self) -> ShownChat:
        """The chat that is open."""

    @property
    def partner(self) -> PartnerChoice:
        """The model that answers."""

    @property
    def has_chats(self) -> bool:
        """Whether there is a chat to list."""

    @property
    def size(self) -> Size:
        """Its size in cells."""

    def set_class(self, add: bool, *class_names: str) -> object:
        """Set classes or take them away, for its layout."""

    def key_of(self, name: str) -> str:
        """The key of a command of this screen."""

    def describe(self) -> None:
        """Show the model and the settings again."""

    def attach(self, files: Sequence[ChatAttachment]) -> None:
        """Set the files that go with the next question."""

    def do(self, work: Callable[[], Awaitable[object]], group: str = "chats") -> Worker[object]:
        """Run a coroutine in a worker."""

    def set_interval(
        self, interval: float, callback: Callable[[], Awaitable[None]], *, pause: bool
    ) -> Timer:
        """Call a function every `interval` seconds."""
