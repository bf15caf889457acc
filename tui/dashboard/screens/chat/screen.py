"""Chat screen: a conversation with a model, to see that it works.

Text goes to the composer at the bottom; `esc` stops an answer, then leaves the composer, so that
letters are keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.reactive import var
from textual.widgets import Static
from textual.worker import Worker

from modeldeck.core.errors import DeckError
from modeldeck.core.schema import GenerateRequest, Instance, Message, Model
from modeldeck.core.schema.state import State
from modeldeck.tui.dashboard.commands import Command, bindings
from modeldeck.tui.dashboard.dialogs.help_screen import Part
from modeldeck.tui.dashboard.screens.chat import messages as words
from modeldeck.tui.dashboard.screens.chat.messages import COMMANDS
from modeldeck.tui.dashboard.screens.view import View
from modeldeck.tui.dashboard.theme import ink
from modeldeck.tui.dashboard.widgets import composer
from modeldeck.tui.dashboard.widgets.chat_turns import PAINT_S, AnswerTurn, QuestionTurn
from modeldeck.tui.dashboard.widgets.composer import Composer
from modeldeck.tui.dashboard.widgets.footer import Entry
from modeldeck.tui.text import format as fmt


class ChatView(View):
    """A conversation with one model."""

    NAME = "chat"
    TITLE = "Chat"
    COMMANDS: ClassVar[tuple[Command, ...]] = COMMANDS
    MORE: ClassVar[tuple[Part, ...]] = (("While writing", composer.SCOPE, composer.COMMANDS),)
    BINDINGS = bindings(NAME, COMMANDS)  # type: ignore[assignment] # a list of one kind of what Textual takes

    DEFAULT_CSS = """
    ChatView #about { height: 1; padding: 0 1; }
    ChatView #turns { height: 1fr; scrollbar-size-vertical: 1; padding: 1 0 0 0; }
    ChatView #turns:focus { background-tint: $foreground 2%; }
    ChatView #turns:ansi { background-tint: transparent 0%; }
    ChatView #nothing { padding: 0 1; color: $text-muted; height: auto; }
    ChatView .talked #nothing { display: none; }
    """

    model_id: var[str | None] = var(None)
    """Model of the conversation; None without a model."""
    temperature: var[float | None] = var(None)
    """Sampling temperature; None: the default of the engine."""
    system: var[str] = var("")

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self._said: list[Message] = []
        self._asked = ""
        """The last question."""
        self._chosen = False
        """Whether the user chose the model."""
        self._about: Text | None = None
        self._hint = ""
        self._answer: AnswerTurn | None = None
        self._talk: Worker[None] | None = None

    def compose(self) -> ComposeResult:
        """The model, the turns, and the composer."""
        yield Static(id="about", markup=False)
        with VerticalScroll(id="turns") as turns:
            turns.can_focus = True
            yield Static(id="nothing", markup=False)
        yield Composer()

    def on_mount(self) -> None:
        """Paint answers at a fixed interval, not with every chunk."""
        self.query_one("#turns", VerticalScroll).anchor()
        self._painter = self.set_interval(PAINT_S, self._paint, pause=True)
        self._describe()

    # Model and settings

    def watch_state(self, state: State | None) -> None:
        """Use the model that was loaded last, until the user chooses one."""
        if state is None:
            return
        free = not self._chosen and not self._said
        if self.model_id not in state.models or (free and self._live(self.model_id) is None):
            models = words.partners(state)
            self.model_id = next((model.id for model in models if self._live(model.id)), None)
        self._describe()

    def watch_model_id(self) -> None:
        """Show the model."""
        self._describe()

    watch_temperature = watch_system = watch_model_id

    def _live(self, model_id: str | None) -> Instance | None:
        """The live instance of a model, if any."""
        found = self.state.instances.values() if self.state else ()
        return next((i for i in found if i.model_id == model_id and i.state.live), None)

    @property
    def _model(self) -> Model | None:
        return self.state.models.get(self.model_id or "") if self.state else None

    def talk_to(self, model_id: str) -> None:
        """Use this model (key `t` of the Catalog)."""
        if model_id != self.model_id and self._said:
            self.action_new()
        self.model_id, self._chosen = model_id, True

    def _describe(self) -> None:
        """Show the model and the settings; draws only a change."""
        line, hint = self._words()
        if self.is_mounted and (line != self._about or hint != self._hint):
            self._about, self._hint = line, hint
            self.query_one("#about", Static).update(line)
            self.query_one("#nothing", Static).update(hint)

    def _words(self) -> tuple[Text, str]:
        glyphs, inks = self.dashboard.glyphs, ink(self.app.theme_variables)
        hint = "" if self._said else "Nothing is said yet. What is said stays in memory only."
        model = self._model
        if model is None:
            hint = (
                "Load a model in the Catalog (esc, 1, then l), or choose one that is downloaded"
                " (esc, then m)."
            )
            return Text("No model is loaded.", inks.muted), hint
        instance = self._live(model.id)
        sign, word = words.standing(instance, glyphs)
        line = Text.assemble((sign, inks.success if instance else inks.muted), " ")
        line.append(fmt.clean(model.name), "bold").append(f"  {word}", inks.muted)
        temperature = "own" if self.temperature is None else f"{self.temperature:g}"
        line.append(f"   temperature {temperature}", inks.muted)
        line.append(f"   system {fmt.clean(self.system) or 'none'}", inks.muted)
        line.no_wrap, line.overflow = True, "ellipsis"
        return line, hint

    # Conversation

    @on(Composer.Sent)
    def _sent(self) -> None:
        """Send the text; it stays in the composer while an answer is generated."""
        composer = self.query_one(Composer)
        if not composer.text.strip():
            return
        if self.talking:
            self.dashboard.say("Still answering: esc stops it. Your text stays.")
            return
        if self._model is None:
            self.dashboard.say("No model is loaded: load one in the Catalog first.", "error")
            return
        text = composer.text.rstrip()
        composer.clear()
        self._ask(text)

    @property
    def talking(self) -> bool:
        """Whether an answer is being generated."""
        return self._talk is not None and self._talk.is_running

    def _ask(self, text: str) -> None:
        self._asked = text
        self._said.append(Message(role="user", content=text))
        self._talk = self._talk_now(text)

    @work(group="chat", exclusive=True)
    async def _talk_now(self, text: str) -> None:
        """Send the conversation, and show the answer until it ends or is stopped."""
        model = self._model
        if model is None:
            return
        turns = self.query_one("#turns", VerticalScroll)
        answer = AnswerTurn(model.name, self.dashboard.glyphs)
        self._describe()
        await turns.mount(QuestionTurn(text), answer)
        turns.anchor()
        self._answer = answer
        self._painter.resume()
        self.dashboard.keys_changed()
        last, why = None, "stopped"
        try:
            async with self.dashboard.link.client.generate(model.id, self._request()) as chunks:
                async for chunk in chunks:
                    answer.add(chunk)
                    last = chunk if chunk.finish_reason or chunk.tokens_per_s else last
            why = words.why(last)
        except DeckError as error:
            why = f"{self.dashboard.glyphs.failed} {fmt.clean(str(error))}"
            self.dashboard.say(str(error), "error")
        finally:
            self._answer = None
            self._painter.pause()
            self._remember(answer)
            await answer.end(last, why)
            self.dashboard.keys_changed()

    def _remember(self, answer: AnswerTurn) -> None:
        """Keep the answer; a question without an answer is dropped from the conversation."""
        if answer.text:
            message = Message(role="assistant", content=answer.text, thought=answer.thought)
            self._said.append(message)
        elif self._said and self._said[-1].role == "user":
            self._said.pop()

    def _request(self) -> GenerateRequest:
        system = [Message(role="system", content=self.system)] if self.system else []
        return GenerateRequest(messages=(*system, *self._said), temperature=self.temperature)

    async def _paint(self) -> None:
        if self._answer is not None and self._answer.is_mounted:
            instance = self._live(self.model_id)
            await self._answer.paint(words.waiting(instance))

    def stop(self) -> bool:
        """Stop the answer; False when there is none."""
        if self._talk is None or not self._talk.is_running:
            return False
        if not self._talk.is_cancelled:  # a second cancel would interrupt the cleanup
            self._talk.cancel()
        return True

    # Actions

    @property
    def writing(self) -> bool:
        """Whether the composer has the focus."""
        return self.query_one(Composer).has_focus

    def keys_shown(self) -> Sequence[Entry]:
        """Keys of the composer while it has the focus, else those of the view."""
        if not self.writing:
            return super().keys_shown()
        return composer.keys_shown(talking=self._answer is not None)

    def on_descendant_focus(self) -> None:
        """Update the footer: other keys apply."""
        self.dashboard.keys_changed()

    on_descendant_blur = on_descendant_focus

    @on(Composer.Turned)
    def _turned(self, event: Composer.Turned) -> None:
        self.action_turn(event.pages)

    def at_stake(self) -> str:
        """A running answer, or unsent text."""
        if self.talking:
            return "Still answering; leaving ends the answer."
        if self.query_one(Composer).text.strip():
            return "What is written in Chat was not sent."
        return ""

    def activated(self) -> None:
        """Give the focus to the composer."""
        self.query_one(Composer).focus()

    def dismiss(self) -> bool:
        """Stop the answer, else leave the composer."""
        if self.stop():
            return True
        turns, composer = self.query_one("#turns"), self.query_one(Composer)
        if composer.has_focus:
            turns.focus()
            return True
        return False

    def action_write(self) -> None:
        """Move the focus to the composer."""
        self.query_one(Composer).focus()

    def action_model(self) -> None:
        """Go to the next model."""
        ids = [model.id for model in words.partners(self.state)] if self.state else []
        if not ids:
            self.dashboard.say("No model is downloaded yet: d in the Catalog fetches one.")
            return
        at = ids.index(self.model_id) if self.model_id in ids else -1
        self.model_id, self._chosen = ids[(at + 1) % len(ids)], True
        if len(ids) == 1:
            self.dashboard.say("It is the only model that is downloaded.")

    def action_copy(self) -> None:
        """Copy the last answer."""
        answers = [message.content for message in self._said if message.role == "assistant"]
        self._copy(answers[-1:], "The answer is in the clipboard.")

    def action_copy_all(self) -> None:
        """Copy the conversation."""
        lines = [f"{message.role}: {message.content}" for message in self._said]
        self._copy(lines, "The conversation is in the clipboard.")

    def _copy(self, texts: Sequence[str], done: str) -> None:
        if not texts:
            self.dashboard.say("There is nothing to copy yet.")
            return
        self.app.copy_to_clipboard("\n\n".join(texts))
        self.dashboard.say(done, "done")

    @work(group="ask", exclusive=True)
    async def action_system(self) -> None:
        """Ask for the system prompt."""
        text = await self.ask("System prompt", self.system, "empty for none")
        if text is not None:
            self.system = text.strip()

    @work(group="ask", exclusive=True)
    async def action_temperature(self) -> None:
        """Ask for the temperature."""
        now = "" if self.temperature is None else f"{self.temperature:g}"
        text = await self.ask("Temperature", now, "0 to 2; empty: the model's default")
        if text is None:
            return
        try:
            self.temperature = words.temperature(text)
        except ValueError:
            self.dashboard.say(f"{text!r} is not a temperature: say a number from 0 to 2.", "error")

    def action_new(self) -> None:
        """Start a new conversation."""
        self.stop()
        self._said = []
        for turn in self.query("QuestionTurn, AnswerTurn"):
            turn.remove()
        self._describe()
        self.query_one(Composer).focus()

    def action_again(self) -> None:
        """Ask the last question again, without its answer."""
        if self.talking or not self._asked or self._model is None:
            return
        if self._said and self._said[-1].role == "assistant":
            del self._said[-2:]
        self._ask(self._asked)

    def action_scroll(self, lines: int) -> None:
        """Scroll by a number of lines."""
        self._scroll(lines)

    def action_turn(self, pages: float) -> None:
        """Scroll by a number of pages."""
        self._scroll(round(pages * self.query_one("#turns").size.height))

    def _scroll(self, lines: int) -> None:
        turns = self.query_one("#turns", VerticalScroll)
        turns.release_anchor()
        turns.scroll_relative(y=lines, animate=False)

    def action_first(self) -> None:
        """Go to the top."""
        turns = self.query_one("#turns", VerticalScroll)
        turns.release_anchor()
        turns.scroll_home(animate=False)

    def action_last(self) -> None:
        """Go to the bottom, and follow new text."""
        self.query_one("#turns", VerticalScroll).anchor()
