"""How a chat is asked: model, system prompt, sampling, thinking, and more context."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from modeldeck.core.errors import DeckError
from modeldeck.core.schema import LoadOptions
from modeldeck.tui.chats import sampling as fields
from modeldeck.tui.chats.files import read_schema
from modeldeck.tui.chats.models import can_think, partners
from modeldeck.tui.chats.sampling import FIELDS, from_texts, written
from modeldeck.tui.chats.store import ChatStore, SystemPreset
from modeldeck.tui.dashboard.commands import by_catalog
from modeldeck.tui.dashboard.questions import (
    ChoiceQuestion,
    LineQuestion,
    Question,
    QuestionItem,
)
from modeldeck.tui.dashboard.screens.chat import messages as words
from modeldeck.tui.dashboard.screens.chat.editor import edited
from modeldeck.tui.dashboard.screens.chat.interface import ChatInterface
from modeldeck.tui.dashboard.screens.chat.preset_list import PresetList, parsed
from modeldeck.tui.dashboard.screens.chat.sheet import SheetBody, SheetField, answered
from modeldeck.tui.text import format as fmt

if TYPE_CHECKING:
    from modeldeck.core.schema import Model
    from modeldeck.tui.dashboard.widgets.notice import Severity

MOST_NAME = 36
"""Most cells of the names of models to choose from."""


class ChatTuning:
    """The questions that `m`, `s`, `t`, `T` and `L` ask."""

    def __init__(self, view: ChatInterface, store: ChatStore) -> None:
        self._view = view
        self._store = store
        self._presets: list[SystemPreset] = []
        """Saved prompts, read before they are asked for: keys that follow find the question."""

    async def read_presets(self) -> None:
        """Read the saved prompts."""
        try:
            self._presets = await self._store.presets()
        except DeckError as error:
            self._view.dashboard.say(f"Saved prompts cannot be read. {error}", "error")

    async def model(self) -> None:
        """Choose the model from a list, loaded ones first."""
        view = self._view
        models = partners(view.state) if view.state else []
        if not models:
            how = by_catalog(view.dashboard.key_of, "download", "one")
            view.dashboard.say(f"No model on this machine yet. {how}")
            return
        names = [_with_quantization(model) for model in models]
        width = min(MOST_NAME, max(map(fmt.columns, names)))
        items = []
        for model, name in zip(models, names, strict=True):
            instance = view.partner.live(model.id)
            context = fmt.tokens(instance.context_length) if instance else ""
            state = f"loaded, {context} context" if instance else "loads when you send"
            sees = ", sees images" if "vision" in model.capabilities else ""
            items.append(
                QuestionItem(text=fmt.pad(fmt.squeeze(name, width), width), name=state + sees)
            )
        question = ChoiceQuestion(title="Which model answers?", word="Model", items=tuple(items))
        answer = await view.dashboard.ask_question(question)
        if answer is None:
            return
        chosen = models[int(answer) - 1]
        view.partner.choose(chosen.id)
        for file in view.files:
            if why := words.refuses(chosen, file, view.state):
                view.dashboard.say(why, "refused")
                break

    async def sampling(self) -> None:
        """Set the sampling settings in a form; a wrong value stays in its field."""
        view = self._view
        now = view.session.chat.options.sampling
        rows = tuple(
            SheetField(
                name=field.name,
                label=field.label,
                value=written(now, field.name),
                hint=field.hint,
                default="default",
            )
            for field in FIELDS
        )
        body = SheetBody(rows, _errors, view.dashboard.glyphs, verb="set")
        question = Question(
            title="Sampling   an empty field is the model's default", word="Sampling"
        )
        answer = await view.dashboard.ask_question(question, body)
        if answer is None:
            return
        chosen, _ = from_texts(answered(answer))
        options = replace(view.session.chat.options, sampling=chosen)
        await view.opened.set_options(options)
        try:
            await read_schema(chosen.schema_file)
        except DeckError as error:
            view.dashboard.say(str(error), "error")
        else:
            view.dashboard.say(f"From the next question on: {fields.described(chosen)}.", "done")

    async def thinking(self) -> None:
        """Go to the next setting of thinking."""
        view = self._view
        model, options = view.partner.model, view.session.chat.options
        if model is None or not can_think(model):
            name = model.name if model else "No model"
            view.dashboard.say(f"{name} does not think before it answers.")
            return
        chosen = words.next_thinking(options.thinking, model)
        await view.opened.set_options(replace(options, thinking=chosen))
        view.dashboard.say(f"Thinking: {chosen}, from the next question on.", "done")

    # The system prompt

    async def system(self) -> None:
        """Choose a saved prompt, write one, edit, save or delete one."""
        view, presets = self._view, self._presets
        options = view.session.chat.options
        body = PresetList(presets, options.system, view.dashboard.glyphs)
        question = Question(title="System prompt: how it shall answer", word="System prompt")
        answer = await view.dashboard.ask_question(question, body)
        if answer is None:
            return
        verb, place = parsed(answer)
        preset = presets[place] if place < len(presets) else SystemPreset(name="", text="")
        if verb == "use":
            await view.opened.set_options(replace(options, system=preset.text, preset=preset.name))
        elif verb == "none":
            await view.opened.set_options(replace(options, system="", preset=""))
        elif verb == "new":
            await self._new_system(options.system)
        elif verb == "edit":
            await self._edit(preset)
        elif verb == "save":
            await self._save(options.system)
        elif verb == "delete":
            await self._change(self._store.delete_preset(preset.name), f"Deleted “{preset.name}”.")

    async def _new_system(self, now: str) -> None:
        """Write a prompt for this chat in a line."""
        view = self._view
        question = LineQuestion(
            title="System prompt", value=" ".join(now.split()), hint="empty for none", word="System"
        )
        text = await view.dashboard.ask_question(question)
        if text is not None:
            options = replace(view.session.chat.options, system=text.strip(), preset="")
            await view.opened.set_options(options)

    async def _edit(self, preset: SystemPreset) -> None:
        """Edit a saved prompt in $EDITOR; the chat gets it where it used it."""
        view = self._view
        try:
            text = (await edited(view.dashboard, preset.text)).strip()
        except DeckError as error:
            view.dashboard.say(str(error), "error")
            return
        if text == preset.text:
            return
        saved = SystemPreset(name=preset.name, text=text)
        await self._change(self._store.save_preset(saved), f"Saved “{preset.name}”.")
        options = view.session.chat.options
        if options.preset == preset.name:
            await view.opened.set_options(replace(options, system=text))

    async def _save(self, text: str) -> None:
        """Save the prompt of this chat under a name."""
        view = self._view
        name = await view.dashboard.ask_question(
            LineQuestion(title="Name of the prompt", word="Save prompt", verb="save")
        )
        if name is None or not (name := " ".join(name.split())[:60]):
            return
        await self._change(
            self._store.save_preset(SystemPreset(name=name, text=text)), f"Saved “{name}”."
        )
        await view.opened.set_options(replace(view.session.chat.options, preset=name))

    async def _change(self, change: Awaitable[None], done: str) -> None:
        try:
            await change
        except DeckError as error:
            self._view.dashboard.say(str(error), "error")
        else:
            self._view.dashboard.say(done, "done")
        await self.read_presets()

    # Context

    def larger_context(self) -> int | None:
        """Twice the context of the loaded model, at most what it was trained for; None for none."""
        view = self._view
        model = view.partner.model
        instance = view.partner.live(model.id) if model else None
        if model is None or instance is None or not instance.context_length:
            return None
        most = model.context_length or instance.context_length
        wanted = min(2 * instance.context_length, most)
        return wanted if wanted > instance.context_length else None

    def context_warning(self, fraction: float) -> tuple[str, Severity]:
        """What to say of a context that is this full."""
        view = self._view
        new, key = view.dashboard.key_of("chat.new"), view.dashboard.key_of("chat.reload")
        larger = self.larger_context()
        more = f", or {key} reloads with {fmt.tokens(larger)}" if larger else ""
        if fraction >= 1:
            return f"The context is full: {new} begins a new chat{more}.", "error"
        return f"The context is {fmt.percent(fraction)} full: {new} begins a new chat.", "note"

    async def reload(self) -> None:
        """Reload the model with twice the context, after asking."""
        view = self._view
        model, larger = view.partner.model, self.larger_context()
        instance = view.partner.live(model.id) if model else None
        if model is None or instance is None:
            view.dashboard.say("The model is not loaded; it loads when you send.")
            return
        if larger is None:
            most = fmt.tokens(instance.context_length)
            view.dashboard.say(f"{model.name} has its largest context already: {most}.")
            return
        if view.asking.talking:
            view.dashboard.say("Still answering: esc stops it.")
            return
        size = fmt.tokens(larger)
        question = f"Reload {model.name} with {size} context?"
        if not await view.dashboard.confirm([question], "reload", "leave it as it is"):
            return
        client = view.dashboard.link.client
        try:
            await client.unload(instance.id)
            await client.load(model.id, LoadOptions(context_length=larger))
        except DeckError as error:
            view.dashboard.say(str(error), "error")
        else:
            view.dashboard.say(f"Loading {model.name}, {size} context", "done")


def _with_quantization(model: Model) -> str:
    label = model.quantization or ""
    return model.name if label in model.name else f"{model.name} {label}"


def _errors(values: Mapping[str, str]) -> dict[str, str]:
    return from_texts(values)[1]
