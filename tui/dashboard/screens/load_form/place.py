"""Where a view shows the load form, and what the form's keys do: load, save, ask for adapters."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from textual import events

from modeldeck.core.errors import (
    CoreUnreachable,
    DeckError,
    InUse,
    LoadedAlready,
    NotEnoughMemory,
)
from modeldeck.core.schema.state import State
from modeldeck.tui.dashboard.messages import severity_of
from modeldeck.tui.dashboard.questions import LineQuestion, QuestionWarning, YesNoQuestion
from modeldeck.tui.dashboard.screens.load_form import adapters, fields, wording
from modeldeck.tui.dashboard.screens.load_form.facts import NO_MEMORY, LoadTarget
from modeldeck.tui.dashboard.screens.load_form.form import LoadForm
from modeldeck.tui.dashboard.screens.load_form.form_state import Act, FormState
from modeldeck.tui.dashboard.screens.load_form.ways import ways
from modeldeck.tui.text import format as fmt

if TYPE_CHECKING:
    from textual.widget import Widget
    from textual.worker import Worker

    from modeldeck.tui.dashboard.screens.view import View
    from modeldeck.tui.dashboard.widgets.notice import Severity

OPEN = "load-form"
"""Class of a view in which the form is open."""
ALONE = "load-form-alone"
"""Class of a view in which the form is open in place of everything."""


class FormPlace:
    """The place of the load form in a view; at most one is open."""

    def __init__(
        self, view: View, parent: Callable[[], Widget], reveal: Callable[[str], None] | None = None
    ) -> None:
        """Make a place without a form.

        Args:
            view: The view.
            parent: Returns the widget that the form is mounted in.
            reveal: Goes to another model, by its unique name; None where the view has none.
        """
        self._view = view
        self._parent = parent
        self._reveal = reveal
        self._form: LoadForm | None = None
        self._work: Worker[None] | None = None
        """What a key asked for last."""
        self._kept: dict[tuple[str, ...], FormState] = {}
        """What the user did in earlier forms, by the ids of their models."""

    @property
    def form(self) -> LoadForm | None:
        """The form that is open."""
        return self._form

    def open(
        self, targets: Sequence[LoadTarget], *, beside: bool, chosen: Mapping[str, Any] = {}
    ) -> None:
        """Open the form; `beside` something else, or in place of everything.

        `chosen` are options to begin with, where none were kept for these models.
        """
        state = self._view.state
        if state is None or not targets:
            return
        self.close(focus=False)
        kept = self._kept.get(tuple(target.key for target in targets))
        kept = kept or FormState(chosen=dict(chosen))
        self._form = LoadForm(targets, state, self._act, self.close, kept)
        self._view.add_class(OPEN)
        self.resized(beside=beside)
        self._parent().mount(self._form)

    def close(self, *, focus: bool = True, forget: bool = False) -> None:
        """Close the form; its values wait for the next one for these models, unless `forget`."""
        form, self._form = self._form, None
        if form is None:
            return
        form.closing = True
        key = tuple(target.key for target in form.facts.targets)
        if forget:
            self._kept.pop(key, None)
        else:
            self._kept[key] = replace(form.choice, typed="", note="", faulty=False)
        self._view.remove_class(OPEN, ALONE)
        if self._view.is_attached:
            form.hide_keys()
            form.remove()
            if focus and self._view.dashboard.current == self._view.NAME:
                self._view.activated()

    def new_state(self, state: State | None) -> None:
        """Hand a new State to the form."""
        if self._form is not None and state is not None:
            self._form.new_state(state)

    def resized(self, *, beside: bool) -> None:
        """Show the form beside the rest, or in place of it."""
        if self._form is not None:
            self._form.set_class(beside, "beside")
            self._view.set_class(not beside, ALONE)

    def clicked(self, event: events.MouseDown) -> None:
        """Close the form after a click beside it."""
        if self._form is not None and not self._form.region.contains(
            event.screen_x, event.screen_y
        ):
            self.close()

    def _say(self, text: str, severity: Severity = "note") -> None:
        """Show a message, also where the form uses its line."""
        if self._form is not None:
            self._form.hush()
        self._view.dashboard.say(text, severity)

    # What the keys do

    def _act(self, act: Act) -> None:
        form = self._form
        if form is None:
            return
        match act:
            case "leave":
                self.close()
            case "lora":
                self._start(partial(self._ask_adapters, form))
            case "save":
                self._start(partial(self._save, form))
            case "model":
                self._go_to_model(form)
            case "load" | "force":
                self._start(partial(self._load, form, force=act == "force"))

    def _start(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run work in a worker, one at a time: a second `enter` must not load twice."""
        if self._work is None or self._work.is_finished:
            self._work = self._view.run_worker(work, group="load-form")

    def _go_to_model(self, form: LoadForm) -> None:
        found = ways(form.facts)
        way = found[min(form.choice.way, len(found) - 1)]
        if not way.unique:
            return
        self.close()
        if self._reveal is not None:
            self._reveal(way.unique)
        else:
            self._say(f"{way.unique} is in the Catalog.")

    async def _ask_adapters(self, form: LoadForm) -> None:
        now = form.choice.chosen.get("loras")
        if now is None and form.facts.plan is not None:
            now = form.facts.plan.options.loras
        question = LineQuestion(
            title=f"LoRA adapters of {form.facts.title}",
            word="LoRA",
            value=adapters.written(now or ()),
            hint="paths on the core's machine; a strength after a colon: /a.gguf:0.5, /b.gguf",
            problem=adapters.problem,
        )
        answer = await self._view.dashboard.ask_question(question)
        if answer is not None and form is self._form:
            form.choose({"loras": adapters.read(answer)})

    async def _save(self, form: LoadForm) -> None:
        """Save what the user chose, and what is as the last time, as the model's defaults."""
        facts = form.facts
        last = {}
        if facts.plan is not None and facts.single:
            names = [name for name, who in facts.plan.origins.items() if who == "last use"]
            last = {name: getattr(facts.plan.options, name) for name in names}
        options = {**last, **form.choice.chosen}
        if not options:
            self._say("Nothing is changed: there is nothing to save.")
            return
        words = ", ".join(fields.said(name, value) for name, value in options.items())
        client = self._view.dashboard.link.client
        try:
            for target in facts.targets:
                await client.save_defaults(target.ref, **options)
        except DeckError as error:
            self._say(_spoken(error), severity_of(error))
            return
        if form is self._form:
            if facts.loaded is None:
                form.choice = replace(form.choice, chosen={})
            form.ask(rest_s=0.0)
        who = f"{facts.targets[0].name} loads" if facts.single else f"{facts.title} load"
        self._say(f"Saved: {fmt.clean(who)} with {words}.", "done")

    async def _load(self, form: LoadForm, *, force: bool) -> None:
        facts, dashboard = form.facts, self._view.dashboard
        if (why := _in_the_way(form)) is not None:
            self._say(why, "refused")
            return
        how = {**form.how, "force": force}
        if facts.loaded is not None:
            changed = wording.changed(facts, form.choice.chosen)
            if not changed:
                self.close(forget=True)
                self._say(f"Nothing changed; {facts.targets[0].name} stays loaded.")
                return
            if set(changed) <= {"idle_ttl_s", "pinned"}:
                how["reload"] = False
            elif not await self._may_end_answers(form, how):
                return
        options = form.choice.options()
        loaded = []
        for target in facts.targets:
            try:
                instance = await dashboard.link.client.load(target.ref, options, **how)
            except NotEnoughMemory as error:
                self._say(f"{target.name} does not fit any more.", "error")
                form.ask(rest_s=0.0)
                if facts.single or not isinstance(error, NotEnoughMemory):
                    return
            except DeckError as error:
                self._say(_spoken(error), severity_of(error))
                if facts.single:
                    return
            else:
                loaded.append((target, instance))
        if not loaded:
            return
        if form is self._form:
            self.close(forget=True)
        if len(loaded) > 1:
            self._say(f"Loading {fmt.number(len(loaded), 'model')}", "done")
            return
        target, instance = loaded[0]
        if how.get("reload") is False:
            self._say(f"{target.name} changed in place.", "done")
            return
        length = fmt.tokens(instance.options.context_length)
        self._say(f"Loading {target.name}, {length} context", "done")

    async def _may_end_answers(self, form: LoadForm, how: dict[str, bool]) -> bool:
        """Whether a reload may end the answers that run; asks where there are some."""
        plan = form.facts.plan
        own = plan.replaces if plan is not None else None
        if own is None or not own.answers:
            return True
        name = form.facts.targets[0].name
        count = fmt.number(len(own.answers), "answer")
        question = YesNoQuestion(
            title=f"End {count} and reload {fmt.clean(name)}?",
            word="Reload?",
            warnings=(QuestionWarning(text=f"{wording.answers(own)} ends now."),),
            verb=f"end {count} and reload",
            short_verb="reload",
            keep="keep answering",
            cancelled="Cancelled: nothing was unloaded.",
        )
        if await self._view.dashboard.ask_question(question) is None:
            return False
        how["end_answers"] = True
        return True


def _in_the_way(form: LoadForm) -> str | None:
    """Why nothing can be loaded now, as a sentence; None where it can."""
    found = form.facts.forecasts
    if found.failure:
        return f"{found.failure[:1].upper()}{found.failure[1:]}."
    for target, plan in zip(form.facts.targets, found.plans, strict=False):
        if plan is None or plan.refusal is None:
            continue
        if plan.refusal.code == "not_downloaded":
            key = form.dashboard.key_of("catalog.download")
            return f"{target.name} is not downloaded: {key} downloads it."
        if plan.refusal.code != NO_MEMORY:
            return fmt.clean(f"{plan.refusal.message} {plan.refusal.remedy}".strip())
    return None


def _spoken(error: DeckError) -> str:
    """An error without the words of the API."""
    if isinstance(error, CoreUnreachable):
        return "The core does not answer: nothing was loaded."
    if isinstance(error, LoadedAlready):
        return "It was loaded meanwhile, with other options: enter reloads it."
    if isinstance(error, InUse):
        return "It began to answer meanwhile: enter asks again."
    return str(error)
