"""What each command of the line mode does. Each raises DeckError with what to do instead."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

from modeldeck.core.errors import Conflict, InvalidRequest
from modeldeck.core.schema import LoadOptions
from modeldeck.tui.chats.attachments import described
from modeldeck.tui.chats.chat import ChatTurn
from modeldeck.tui.chats.models import can_think
from modeldeck.tui.chats.sampling import described as sampling_words
from modeldeck.tui.chats.session import ChatSession
from modeldeck.tui.cli.actions.models import wait_until_ready
from modeldeck.tui.cli.line_mode import commands, messages
from modeldeck.tui.cli.line_mode.answering import LineAnswer
from modeldeck.tui.cli.line_mode.commands import SlashCommand
from modeldeck.tui.cli.line_mode.conversation import LineConversation
from modeldeck.tui.cli.line_mode.core import LineCore
from modeldeck.tui.cli.output import Output
from modeldeck.tui.text import format as fmt

Confirm = Callable[[str], Awaitable[bool]]
"""Asks the person for a yes. Raises EOFError for ctrl-D."""

MOST_COPIED_BYTES = 100_000
"""Of an answer: terminals and tmux take no longer sequence for the clipboard."""


class LineActions:
    """Carries out commands and questions on one conversation."""

    def __init__(
        self, conversation: LineConversation, core: LineCore, out: Output, confirm: Confirm
    ) -> None:
        self.conversation = conversation
        self._core = core
        self._out = out
        self._confirm = confirm
        self._by_name: Mapping[str, Callable[[str], Awaitable[None]]] = {
            "help": self._help,
            "system": self._system,
            "set": self._set,
            "load": self._load,
            "model": self._model,
            "save": self._save,
            "chats": self._chats,
            "open": self._open,
            "new": self._new,
            "private": self._private,
            "image": self._image,
            "file": self._file,
            "think": self._think,
            "retry": self._retry,
            "edit": self._edit,
            "context": self._context,
            "copy": self._copy,
            "quit": self._quit,
        }
        self.draft = ""
        """Text for the next prompt."""
        self._told: ChatSession | None = None
        """The chat whose number was told."""
        self.left = False
        """Whether the person wants to leave."""

    async def carry_out(self, line: SlashCommand | str) -> None:
        """Do what a line asks for. Raises DeckError."""
        if isinstance(line, SlashCommand):
            await self._by_name[line.name](line.rest)
        elif line or (self.conversation.files and self.conversation.editing is None):
            await self.ask(line)
        else:
            self.stop_editing()

    def stop_editing(self) -> bool:
        """Leave the question that is edited as it was; False where none is."""
        if self.conversation.editing is None:
            return False
        self.conversation.editing, self.conversation.files = None, ()
        self._out.line("The question stays as it is.")
        return True

    async def ask(self, text: str) -> None:
        """Ask a question, with the attached files."""
        await self._core.ensure()
        await self._answer(await self.conversation.question(text))

    async def _answer(self, question: ChatTurn) -> None:
        session = self.conversation.session
        try:
            answered = await LineAnswer(self.conversation, self._out).ask(question)
        finally:
            if session.chat.number is not None and session is not self._told:
                self._told = session
                self._out.line(self._out.dim(f"[saved as chat {session.chat.number}]"))
        if not answered:
            await self.recover()

    async def recover(self) -> None:
        """Wait for a core that was lost. Raises DeckError where it cannot be started again."""
        await self._core.recover()

    async def leave(self) -> bool:
        """Whether the chat may be left: asks where it would be lost. Raises EOFError."""
        session = self.conversation.session
        if not session.at_stake:
            return True
        why = "private" if session.chat.private else "not saved"
        return await self._confirm(f"This chat is {why}: it is gone once you leave it. Leave it?")

    async def _agreed(self, question: str) -> bool:
        try:
            return await self._confirm(question)
        except EOFError:
            return False

    # Models

    async def start(self, ref: str | None, options: LoadOptions) -> None:
        """Choose the model and load it, where it is not; show the progress."""
        talk = self.conversation
        model = await talk.choose(ref)
        options, limited = commands.within_trained(options, model)
        if limited:
            self._out.line(limited)
        instance = talk.instance
        if instance is not None and options.context_length not in (None, instance.context_length):
            question = (
                f"{model.name} is loaded with {fmt.tokens(instance.context_length)} context."
                f" Reload it with {fmt.tokens(options.context_length)}?"
            )
            if await self._agreed(question):
                await talk.client.unload(instance.id)
                instance = None
        if instance is None:
            instance = await talk.client.load(model.id, options)
            await wait_until_ready(talk.client, self._out, instance)
        await talk.refresh()

    def banner(self) -> str:
        """The line about model and chat."""
        talk = self.conversation
        self._told = talk.session if talk.chat.number is not None else None
        assert talk.model is not None  # `start` has chosen one
        context = talk.instance.context_length if talk.instance else None
        name = messages.name(talk.model, talk.state)
        return messages.banner(name, context, talk.session, self._out.width)

    async def _load(self, rest: str) -> None:
        ref, options = commands.load_arguments(rest)
        await self._core.ensure()
        await self.start(ref, options)
        talk = self.conversation
        assert talk.model is not None  # `start` has chosen one
        self._lines(messages.model_lines(talk.state, talk.model, talk.instance)[:1])

    async def _model(self, _: str) -> None:
        await self._core.ensure()
        talk = self.conversation
        await talk.refresh()
        assert talk.model is not None  # one is chosen before a line is read
        self._lines(messages.model_lines(talk.state, talk.model, talk.instance))

    async def _context(self, _: str) -> None:
        await self._core.ensure()
        await self.conversation.refresh()
        self._out.line(messages.context_line(self.conversation.use()))

    # How it is asked

    async def _system(self, rest: str) -> None:
        options = self.conversation.chat.options
        if not rest:
            self._out.line(options.system or "No system prompt.")
            return
        text = commands.unquoted(rest)
        options = replace(options, system=text, preset="")
        await self.conversation.session.set_options(options)
        self._out.line("System prompt changed." if text else "System prompt removed.")

    async def _set(self, rest: str) -> None:
        if rest:
            await self.conversation.set_option(*commands.setting(rest))
        self._out.line(sampling_words(self.conversation.chat.options.sampling))

    async def _think(self, rest: str) -> None:
        talk = self.conversation
        wanted = commands.thinking(rest)
        if wanted is None:
            thought = talk.last_answer().thought.strip()
            self._out.line(thought or "The last answer came without a thought.")
            return
        model = talk.model
        if not can_think(model):
            raise Conflict(f"{model.name if model else 'This model'} has no thoughts to set.")
        if wanted == "off" and model is not None and "always_thinking" in model.capabilities:
            raise Conflict(f"{model.name} always thinks first.")
        await talk.session.set_options(replace(talk.chat.options, thinking=wanted))
        self._out.line(f"Thinking: {'on' if wanted == 'auto' else wanted}.")

    # Questions and answers

    async def _image(self, rest: str) -> None:
        await self._attach("image", rest)

    async def _file(self, rest: str) -> None:
        await self._attach("file", rest)

    async def _attach(self, name: str, rest: str) -> None:
        path, text = commands.path_and_text(name, rest)
        file = await self.conversation.attach(path, text=name == "file")
        self._out.line(self._out.dim(f"[{fmt.clean(file.name)}, {described(file)}]"))
        if text:
            await self.ask(text)

    async def _retry(self, _: str) -> None:
        question = self.conversation.last_question()
        await self._core.ensure()
        await self._answer(question)

    async def _edit(self, _: str) -> None:
        question = self.conversation.last_question()
        self.conversation.editing, self.draft = question.id, question.text
        self.conversation.files = question.attachments

    async def _copy(self, _: str) -> None:
        text = self.conversation.last_answer().text.encode()
        if len(text) > MOST_COPIED_BYTES:
            raise InvalidRequest(
                f"The answer is too long for the clipboard of a terminal: {fmt.size(len(text))}.",
                "/save writes it to a file.",
            )
        self._out.copy(text)
        self._out.line(f"Copied {fmt.number(len(text), 'byte')}, where the terminal allows it.")

    # Chats

    async def _save(self, rest: str) -> None:
        path = commands.path_and_text("save", rest)[0] if rest else ""
        self._out.line(f"Wrote {await self.conversation.export(path)}.")

    async def _chats(self, rest: str) -> None:
        found = await self.conversation.store.summaries(rest)
        if not found:
            self._out.line("No chat has these words." if rest else "No chat is kept yet.")
        open_now = self.conversation.chat.number
        self._lines(messages.chat_lines(found, open_now, self._out.room))

    async def _open(self, rest: str) -> None:
        number = commands.chat_number(rest)
        if not await self.leave():
            return
        talk = self.conversation
        await talk.open(number)
        self._told = talk.session
        self._lines(messages.opened(talk.chat))
        model = talk.model
        if model is not None and talk.chat.options.model not in ("", model.unique):
            self._out.note(
                f"It was held with {talk.chat.options.model}; {model.unique} answers now."
                f" /load {talk.chat.options.model} changes that."
            )

    async def _new(self, _: str) -> None:
        await self._begin(private=False)

    async def _private(self, _: str) -> None:
        await self._begin(private=True)

    async def _begin(self, *, private: bool) -> None:
        if await self.leave():
            self.conversation.new(private=private)
            self._out.line(f"A new chat. {messages.keeping(self.conversation.session)}")

    async def _quit(self, _: str) -> None:
        self.left = await self.leave()

    async def _help(self, _: str) -> None:
        self._lines(messages.help_lines(self._out.width))

    def _lines(self, lines: list[str]) -> None:
        for line in lines:
            self._out.line(line)
