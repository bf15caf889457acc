"""Actions of the catalog: what each key does to the rows or variants that are selected.

An action runs in a worker, on one target after the other or on each on its own; an error on one
does not stop the others. The result of each is shown as a notice.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from modeldeck.core.concurrency import together
from modeldeck.core.errors import DeckError, NotEnoughMemory
from modeldeck.core.schema import CacheSelection, LoadOptions, Model, SearchHit
from modeldeck.core.schema.state import State
from modeldeck.tui.dashboard.dialogs.custom_model import CustomForm
from modeldeck.tui.dashboard.dialogs.model_card import ModelCardScreen
from modeldeck.tui.dashboard.messages import severity_of
from modeldeck.tui.dashboard.questions import QuestionItem, YesNoQuestion
from modeldeck.tui.dashboard.screens.catalog import messages as receipts
from modeldeck.tui.dashboard.screens.catalog.interface import CatalogInterface
from modeldeck.tui.dashboard.screens.catalog.requests import CatalogRequests
from modeldeck.tui.dashboard.screens.catalog.rows import busy, elsewhere, key
from modeldeck.tui.dashboard.screens.catalog.targets import DetailTarget, only
from modeldeck.tui.dashboard.screens.chat.screen import ChatView
from modeldeck.tui.dashboard.screens.delete_flow import delete
from modeldeck.tui.dashboard.screens.load_form.facts import LoadTarget
from modeldeck.tui.text import records
from modeldeck.tui.text.model_names import title

if TYPE_CHECKING:
    from modeldeck.core.client.client import Client
    from modeldeck.tui.dashboard.interface import DashboardInterface

    TargetAction = Callable[[Client, DetailTarget, State], Awaitable[str]]
    """Does one thing to one variant, and words the receipt. Raises DeckError."""

Target = DetailTarget | SearchHit
"""A selected variant, or a Hub result whose variants may not be known yet."""


class CatalogActions:
    """Runs the actions on what is selected in the view."""

    def __init__(self, view: CatalogInterface, requests: CatalogRequests) -> None:
        self._view = view
        self._requests = requests
        self._given: list[Target] | None = None
        """The target of the command that runs now, where it is not what is selected."""

    @property
    def _dashboard(self) -> DashboardInterface:
        return self._view.dashboard

    @property
    def _state(self) -> State:
        """The newest State. There is one as soon as there are rows."""
        assert self._view.state is not None
        return self._view.state

    # Targets

    def _targets(self) -> list[Target]:
        """The marked variants or rows, else the one under the cursor."""
        if self._given is not None:
            return self._given
        variants = self._view.detail.table
        if variants.has_focus and variants.items:
            return list(variants.marked)
        # Until the variants of an opened repository are known, the action applies to its row.
        rows = [self._view.subject()] if variants.has_focus else self._view.marked_rows()
        return [
            only(row) if isinstance(row, Model) else row
            for row in rows
            if isinstance(row, Model | SearchHit)
        ]

    def on(self, model: Model, act: Callable[[], None]) -> None:
        """Run one of the actions on a model, whatever is selected."""
        self._given = [only(model)]
        try:
            act()
        finally:
            self._given = None

    def _unmark(self, targets: Sequence[Target]) -> None:
        """Take the marks of targets away: an action was done on them."""
        keys = {t.key if isinstance(t, DetailTarget) else key(t) for t in targets}
        self._view.table.unmark(keys)
        self._view.detail.table.unmark(keys)
        self._view.refresh_rows()

    async def _resolve(self, target: Target) -> DetailTarget | None:
        """The only variant of a Hub result; None, with a notice, where the user has to choose.

        Raises DeckError where the contents of the repository cannot be had.
        """
        if isinstance(target, DetailTarget):
            return target
        if not self._requests.variants(target):
            self._dashboard.say(f"Asking the Hub what {target.repo} holds.")
            await self._requests.fetch_repository(target.repo)
        match self._requests.variants(target):
            case [only_one]:
                return only_one
            case []:
                raise receipts.nothing_in(target.repo)
        here = self._view.subject() == target and self._dashboard.current == self._view.NAME
        count, key_of = len(self._requests.variants(target)), self._view.key_of
        self._dashboard.say(receipts.several_variants(target.repo, count, key_of, here=here))
        if here:
            self._view.open(True)
        return None

    async def _resolve_all(self, targets: Sequence[Target]) -> list[DetailTarget]:
        """Resolve each target, and show the error of each that cannot be resolved."""
        found = []
        for target in targets:
            try:
                choice = await self._resolve(target)
            except DeckError as error:
                self._dashboard.say(str(error), severity_of(error))
            else:
                found += [choice] if choice is not None else []
        return found

    def _each(self, action: TargetAction, targets: Sequence[Target] | None = None) -> None:
        """Run an action on all targets at once; one receipt for those that it was done on."""
        if targets := self._targets() if targets is None else targets:
            self._view.background(partial(self._run_all, action, targets), group="verbs")

    async def _run_all(self, action: TargetAction, targets: Sequence[Target]) -> None:
        words = await together(self._run_one(action, target) for target in targets)
        done = [words for words in words if words]
        self._unmark([target for target, words in zip(targets, words, strict=True) if words])
        if done:
            self._dashboard.say(receipts.several(done), "done")

    async def _run_one(self, action: TargetAction, target: Target) -> str:
        """Run an action; its receipt, or nothing where it failed, which is said."""
        try:
            choice = await self._resolve(target)
            if choice is None or self._view.state is None:
                return ""
            return await action(self._dashboard.link.client, choice, self._view.state)
        except DeckError as error:
            self._dashboard.say(str(error), severity_of(error))
            return ""

    # Files

    def download(self) -> None:
        """Download the targets."""
        targets = self._targets()
        if self._dashboard.is_demo:
            there = [t for t in targets if not self._is_off_demo(t)]
            if len(there) < len(targets):
                self._dashboard.say(receipts.OFF_DEMO)
            targets = there
        self._each(receipts.download, targets)

    def _is_off_demo(self, target: Target) -> bool:
        """Whether the demo's hub does not have a target."""
        model = target.model if isinstance(target, DetailTarget) else None
        return model is not None and elsewhere(model)

    def cancel(self) -> None:
        """Cancel the downloads or loads of the targets."""
        self._each(partial(receipts.cancel, key_of=self._view.key_of))

    def delete(self) -> None:
        """Delete the files of the targets, after showing the plan and asking."""
        if targets := self._targets():
            self._view.background(partial(self._delete, targets), group="delete")

    async def _delete(self, targets: Sequence[Target]) -> None:
        chosen = await self._resolve_all(targets)
        if not chosen:
            return
        first = receipts.named(chosen[0], self._state)
        names = first if len(chosen) == 1 else f"{len(chosen)} marked models"
        title = f"Delete the files of {names}."
        what = CacheSelection(models=tuple(choice.ref for choice in chosen))
        nothing = f"No files of {names} are in the cache."
        if await delete(self._dashboard, what, title, nothing):
            self._unmark([*targets, *chosen])

    def check_updates(self) -> None:
        """Ask the Hub for newer files of the models on this machine."""
        self._dashboard.say("Asking the Hub for newer files.")
        self._dashboard.perform(lambda client: client.check_updates(), records.updates)

    def verify(self) -> None:
        """Check the files of the targets against their hashes."""
        if targets := self._targets():
            self._view.background(partial(self._verify, targets), group="verify")

    async def _verify(self, targets: Sequence[Target]) -> None:
        here = []
        for choice in await self._resolve_all(targets):
            if choice.model is not None and choice.model.downloaded:
                here.append(choice)
            else:
                self._say_not_here(choice)
        if not here:
            return
        try:
            words = await receipts.verify(self._dashboard.link.client, here, self._state)
        except DeckError as error:
            self._dashboard.say(str(error), severity_of(error))
        else:
            self._dashboard.say(words)
            self._unmark(here)

    # Memory

    def bench(self) -> None:
        """Measure how fast the first target is, after asking where it must be loaded for that."""
        if targets := self._targets():
            self._view.background(partial(self._bench, targets[0]), group="bench")

    async def _bench(self, target: Target) -> None:
        for choice in await self._resolve_all([target]):
            if choice.model is None or not choice.model.downloaded:
                self._say_not_here(choice)
                return
            name, loaded = receipts.named(choice, self._state), busy(self._state, choice.key)
            lines = [f"{name} is not loaded. Load it for the benchmark?"]
            if loaded is None and not await self._dashboard.confirm(
                lines, "load and measure it", "leave it unloaded"
            ):
                return
            self._dashboard.perform(
                partial(receipts.bench, choice=choice, name=name, load=loaded is None), str
            )

    def unload(self) -> None:
        """Unload the targets."""
        self._each(partial(receipts.unload, key_of=self._view.key_of))

    def load(self) -> None:
        """Load the targets, with the context length that is shown and their last options."""
        for target in self._targets():
            self._view.background(partial(self._load_one, target), group="load")

    async def _load_one(self, target: Target) -> None:
        for choice in await self._resolve_all([target]):
            if (instance := busy(self._state, choice.key)) is not None:
                name = receipts.named(choice, self._state)
                self._dashboard.say(
                    receipts.loaded_already(name, instance, self._view.key_of), "refused"
                )
                self._unmark([target, choice])
                continue
            options = LoadOptions(context_length=self._requests.requested(choice))
            if await self._load(choice, options):
                self._unmark([target, choice])

    def _say_not_here(self, choice: DetailTarget) -> None:
        error = receipts.not_here(choice, self._state, self._view.key_of)
        self._dashboard.say(str(error), severity_of(error))

    def load_with(self) -> None:
        """Open the load form for the targets."""
        if targets := self._targets():
            self._view.background(partial(self._load_with, targets), group="load")

    async def _load_with(self, targets: Sequence[Target]) -> None:
        choices = await self._resolve_all(targets)
        chosen = {self._requests.requested(choice) for choice in choices}
        length = chosen.pop() if len(chosen) == 1 else None
        self._view.open_load_form(
            [self._form_target(choice) for choice in choices],
            {} if length is None else {"context_length": length},
        )

    def forget_defaults(self) -> None:
        """Forget the load options that are saved for the targets."""
        self._each(receipts.forget_defaults)

    def _form_target(self, choice: DetailTarget) -> LoadTarget:
        return LoadTarget(
            ref=choice.ref,
            key=choice.key,
            title=title(choice.key, choice.unique, self._state.models),
            name=receipts.named(choice, self._state),
            model=choice.model,
        )

    async def _load(self, choice: DetailTarget, options: LoadOptions) -> bool:
        """Load a model, after asking where it does not fit; whether it is being loaded."""
        client, state, key_of = self._dashboard.link.client, self._state, self._view.key_of
        load = partial(receipts.load, client, choice, options, state, key_of)
        try:
            try:
                words = await load(force=False)
            except NotEnoughMemory as error:
                if not await self._wants_it_anyway(choice, error):
                    return False
                words = await load(force=True)
        except DeckError as error:
            self._dashboard.say(str(error), severity_of(error))
            return False
        self._dashboard.say(words, "done")
        return True

    async def _wants_it_anyway(self, choice: DetailTarget, error: NotEnoughMemory) -> bool:
        """Ask whether to load a model for which there is not enough memory."""

        def is_in_view() -> bool:
            rows = self._view.table.items
            listed = any(isinstance(row, Model) and row.id == choice.key for row in rows)
            return self._dashboard.current == self._view.NAME and listed

        question = YesNoQuestion(
            title=error.message,
            items=tuple(QuestionItem(text=x) for x in (error.remedy, *error.details) if x),
            verb="load it anyway",
            keep="leave it",
            cancelled="Cancelled: nothing was loaded.",
            from_core=True,
            is_in_view=is_in_view,
            dropped=f"{receipts.named(choice, self._state)} was not loaded: {error.message}",
        )
        return await self._dashboard.ask_question(question) is not None

    def chat(self) -> None:
        """Open Chat with the first target."""
        if targets := self._targets():
            self._view.background(partial(self._chat, targets[0]), group="chat")

    async def _chat(self, target: Target) -> None:
        for choice in await self._resolve_all([target]):
            if choice.model is None or not choice.model.downloaded:
                self._say_not_here(choice)
                return
            self._dashboard.query_one(ChatView).talk_to(choice.model.id)
            self._dashboard.action_show(ChatView.NAME)

    def card(self) -> None:
        """Show the model card of the row under the cursor."""
        subject = self._view.subject()
        if subject is None:
            return
        if subject.repo is None:
            self._dashboard.say(str(receipts.no_card(subject)), "refused")
            return
        known = self._requests.repository(subject.repo)
        self._view.app.push_screen(
            ModelCardScreen(self._dashboard, subject.repo, known.revision if known else None)
        )

    # The list itself

    def new(self) -> None:
        """Open the form for a new custom model."""
        self._view.app.push_screen(CustomForm(self._dashboard), self._show_custom)

    def edit(self) -> None:
        """Open the form for the custom model under the cursor."""
        if (model := self._custom()) is not None:
            self._view.app.push_screen(CustomForm(self._dashboard, model), self._show_custom)

    def remove(self) -> None:
        """Remove the custom model under the cursor from the list, after asking."""
        if (model := self._custom()) is not None:
            self._view.background(partial(self._remove, model), group="delete")

    def _custom(self) -> Model | None:
        """The custom model under the cursor; None, with a notice, where it is another row."""
        subject = self._view.subject()
        if isinstance(subject, Model) and subject.custom:
            return subject
        self._dashboard.say(str(receipts.not_custom(self._view.key_of)), "refused")
        return None

    def _show_custom(self, model: Model | None) -> None:
        """Show the model that the form created or changed; None if it was cancelled."""
        if model is not None:
            self._dashboard.say(f"{model.name} is in the list.", "done")
            self._view.reveal(model.id)

    async def _remove(self, model: Model) -> None:
        lines = [f"Remove {model.name} ({model.unique}) from the list.", "Its files stay."]
        if await self._dashboard.confirm(lines, "remove it", "keep it"):
            self._dashboard.perform(
                lambda client: client.delete_model(model.id),
                lambda _: f"Removed {model.name} from the list; its files stay.",
            )

    def copy(self) -> None:
        """Copy names or paths of the targets to the clipboard."""
        targets = self._targets()
        if texts := [receipts.copied(target) for target in targets]:
            self._view.app.copy_to_clipboard("\n".join(texts))
            what = texts[0] if len(texts) == 1 else f"{len(texts)} names"
            self._dashboard.say(f"Copied {what}", "done")
            self._unmark(targets)
