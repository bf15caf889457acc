"""The conversation of the line mode: chat, model, attached files. It writes to no terminal."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from modeldeck.core.client.client import Client
from modeldeck.core.errors import Ambiguous, Conflict, InvalidRequest, NotDownloaded, NotFound
from modeldeck.core.schema import Instance, LoadOptions, Media, Model, media_support
from modeldeck.core.schema.state import State
from modeldeck.tui.chats.attachments import read_attachment
from modeldeck.tui.chats.chat import Chat, ChatAttachment, ChatOptions, ChatTurn, next_question
from modeldeck.tui.chats.context import ContextUse, context_use
from modeldeck.tui.chats.export import ExportFormat, exported, file_name
from modeldeck.tui.chats.files import read_schema, write_new
from modeldeck.tui.chats.models import partners
from modeldeck.tui.chats.sampling import with_field
from modeldeck.tui.chats.session import ChatSession
from modeldeck.tui.chats.store import ChatStore
from modeldeck.tui.text import records

NAMED = 8
"""Models that an error names at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LineStart:
    """How a conversation begins."""

    model: str | None = None
    """As it was written; None for one that is loaded, or that the chat was held with."""
    open: int | None = None
    """Number of a kept chat to go on with."""
    newest: bool = False
    """Whether to go on with the chat that changed last."""
    private: bool = False
    options: ChatOptions = field(default_factory=ChatOptions)
    """How a new chat is asked."""
    load: LoadOptions = field(default_factory=LoadOptions)
    """How the model is loaded where it is not."""
    files: tuple[str, ...] = ()
    """Paths of files for the first question."""


class LineConversation:
    """One conversation at a time, with one model."""

    def __init__(self, store: ChatStore, client: Client) -> None:
        self.store = store
        self.client = client
        self.session = ChatSession(store)
        self._state: State | None = None
        self.model: Model | None = None
        """The model that is asked; None before one was chosen."""
        self.files: tuple[ChatAttachment, ...] = ()
        """Attached to the next question."""
        self.editing: str | None = None
        """Id of the question that the next one replaces."""

    @property
    def chat(self) -> Chat:
        """The chat."""
        return self.session.chat

    @property
    def state(self) -> State:
        """The state of the core as it was read last; `choose` reads it first."""
        assert self._state is not None
        return self._state

    def know(self, state: State) -> None:
        """Take over a state of the core."""
        self._state = state
        if self.model is not None:
            self.model = state.models.get(self.model.id, self.model)

    async def refresh(self) -> None:
        """Read the state of the core again. Raises CoreUnreachable."""
        self.know(await self.client.state())

    @property
    def instance(self) -> Instance | None:
        """The model as it is loaded; None where it is not."""
        id = self.model.id if self.model else ""
        return next((i for i in records.live(self.state) if i.model_id == id), None)

    def use(self) -> ContextUse:
        """How much of the context the next question would send."""
        instance = self.instance
        total = instance.context_length if instance else None
        return context_use(self.chat, files=self.files, total=total)

    # Models

    async def choose(self, ref: str | None) -> Model:
        """Take a model by its name, else that of the chat, else one that is obvious.

        Raises DeckError: there is none, the name fits none or several, it is not downloaded.
        """
        await self.refresh()
        if ref is None and self.chat.options.model:
            ref = self.chat.options.model
        model = await (self._named(ref) if ref is not None else self._obvious())
        if not model.downloaded:
            raise NotDownloaded(
                f"{model.unique} is not on this machine.",
                f"`modeldeck pull {model.unique}` gets it.",
            )
        if "embedding" in model.usage:
            raise InvalidRequest(
                f"{model.unique} is for embeddings: it answers no questions.",
                "`modeldeck ls -d` lists what is here.",
            )
        self.model = model
        if self.chat.options.model != model.unique:
            await self.session.set_options(replace(self.chat.options, model=model.unique))
        return model

    async def _named(self, ref: str) -> Model:
        """The model that a name fits, of all models, else of those on this machine."""
        try:
            return await self.client.model(ref)
        except (Ambiguous, NotFound) as error:
            if ref.startswith("/") and isinstance(error, NotFound):
                # a path has nothing to fetch: it is put on the list
                return (await self.client.download(ref))[0]
            wanted = ref.casefold()
            here = partners(self.state)
            found = [m for m in here if wanted in f"{m.unique} {m.name}".casefold()]
            live = {instance.model_id for instance in records.live(self.state)}
            for few in (found, [m for m in found if m.id in live]):
                if len(few) == 1:
                    return few[0]
            if not found:
                raise
            raise Ambiguous(
                f"{ref} could be any of {len(found)} models on this machine.",
                f"Say which: {_names(found)}.",
            ) from error

    async def _obvious(self) -> Model:
        """The model that was loaded last, the only one, or that of the newest chat."""
        here = partners(self.state)
        if not here:
            raise NotDownloaded(
                "No model on this machine yet.",
                "`modeldeck search WORDS` finds one, `modeldeck pull MODEL` gets it.",
            )
        if len(here) == 1 or any(i.model_id == here[0].id for i in records.live(self.state)):
            return here[0]
        by_name = {model.unique: model for model in here}
        for summary in await self.store.summaries():
            if summary.model in by_name:
                return by_name[summary.model]
        raise InvalidRequest(
            f"{len(here)} models are on this machine: say which.",
            f"`modeldeck chat MODEL`: {_names(here)}.",
        )

    # Chats

    async def begin(self, start: LineStart) -> None:
        """Open the chat that a conversation begins with, or a new one. Raises DeckError."""
        if start.open is not None:
            await self.open(start.open)
        elif start.newest:
            newest = await self.store.summaries()
            if not newest:
                raise NotFound(
                    "No chat is kept on this machine yet.", "`modeldeck chat MODEL` begins one."
                )
            await self.open(newest[0].number)
        else:
            chat = Chat(options=start.options, private=start.private)
            self.session = ChatSession(self.store, chat)
        if start.options.system != self.chat.options.system and start.options.system:
            options = replace(self.chat.options, system=start.options.system, preset="")
            await self.session.set_options(options)

    async def open(self, number: int) -> None:
        """Go on with a kept chat. Raises NotFound, StorageFailed."""
        self._leave(ChatSession(self.store, await self.store.load(number)))

    def new(self, *, private: bool = False) -> None:
        """Begin another chat, asked as this one is."""
        self._leave(ChatSession(self.store, Chat(options=self.chat.options, private=private)))

    def _leave(self, session: ChatSession) -> None:
        self.session, self.files, self.editing = session, (), None

    # Questions and their files

    async def attach(self, path: str, *, text: bool) -> ChatAttachment:
        """Attach a file to the next question; `text` for one that is no picture or recording.

        Raises DeckError: also where the model cannot see or hear it.
        """
        file = await read_attachment(path)
        if (file.kind == "text") != text:
            other, kind = ("image", "no text") if text else ("file", "a text")
            raise InvalidRequest(f"{file.name} is {kind}.", f"/{other} attaches it.")
        taken = media_support.taken(self.model, self.instance) if self.model else frozenset()
        if self.model is not None and file.kind != "text" and file.kind not in taken:
            media = Media(kind=file.kind, data=b"", at=0)
            models = self.state.models.values()
            raise media_support.refusal(media, self.model, self.instance, models)
        self.files = (*self.files, file)
        return file

    async def question(self, text: str) -> ChatTurn:
        """Add a question with the attached files, and keep it."""
        turn = next_question(self.chat, text, self.files, self.editing)
        self.files, self.editing = (), None
        await self.session.add(turn)
        return turn

    def last_question(self) -> ChatTurn:
        """The last question. Raises Conflict where there is none."""
        turn = self.chat.last("user")
        if turn is None:
            raise Conflict("Nothing was asked in this chat yet.")
        return turn

    def last_answer(self) -> ChatTurn:
        """The last answer. Raises Conflict where there is none."""
        turn = self.chat.last("assistant")
        if turn is None:
            raise Conflict("Nothing was answered in this chat yet.")
        return turn

    # Options

    async def set_option(self, name: str, value: str) -> None:
        """Change a sampling setting; an empty value is the model's default."""
        options = self.chat.options
        try:
            sampling = with_field(options.sampling, name, value)
        except InvalidRequest as error:
            raise InvalidRequest(f"{name}: {error.message}", error.remedy) from error
        if name == "schema_file":
            await read_schema(value)
        await self.session.set_options(replace(options, sampling=sampling))

    async def export(self, path: str) -> str:
        """Write the chat to a new file; return its path. Raises DeckError."""
        if not self.chat.turns:
            raise Conflict("Nothing to save yet.")
        form: ExportFormat = "json" if path.lower().endswith(".json") else "markdown"
        path = path or os.path.join(os.curdir, file_name(self.chat, "markdown"))
        return await write_new(path, exported(self.chat, form))


def _names(models: Sequence[Model]) -> str:
    names = [model.unique for model in models[:NAMED]]
    more = len(models) - len(names)
    return ", ".join(names) + (f" and {more} more" if more else "")
