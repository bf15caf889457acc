"""Actions of the catalog: what each key does to the rows or variants that are selected.

An action runs in a worker, on one target after the other or on each on its own; an error on one
does not stop the others. The result of each is shown as a notice.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from modeldeck.core.errors import DeckError, NotEnoughMemory
from modeldeck.core.schema import CacheSelection, LoadOptions, Model, SearchHit
from modeldeck.core.schema.state import State
from modeldeck.tui.dashboard.dialogs.custom_model import CustomForm
from modeldeck.tui.dashboard.dialogs.model_card import ModelCardScreen
from modeldeck.tui.dashboard.screens.catalog import messages as receipts
from modeldeck.tui.dashboard.screens.catalog.detail import DetailTarget, only
from modeldeck.tui.dashboard.screens.catalog.interface import CatalogInterface
from modeldeck.tui.dashboard.screens.catalog.requests import CatalogRequests
from modeldeck.tui.dashboard.screens.chat.screen import ChatView
from modeldeck.tui.dashboard.screens.delete_flow import delete
from modeldeck.tui.text import load_options, load_records

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

    @property
    def _dashboard(self) -> DashboardInterface:
        return self._view.dashboard

    # Targets

    def _targets(self) -> list[Target]:
        """The marked variants or rows, else the one under the cursor."""
        variants = self._view.detail.table
        if variants.has_focus and variants.items:
            return list(variants.marked)
        # Until the variants of an opened repository are known, the action applies to its row.
        rows = [self._view.subject()] if variants.has_focus else self._view.table.marked
        return [
            only(row) if isinstance(row, Model) else row
            for row in rows
            if isinstance(row, Model | SearchHit)
        ]

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
        how = "choose one" if here else "open its row to choose one"
        self._dashboard.say(f"{target.repo} has several variants: {how}.")
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
                self._dashboard.say(str(error), "error")
            else:
                found += [choice] if choice is not None else []
        return found

    def _each(self, action: TargetAction) -> None:
        """Run an action on each target, in a worker each."""
        for target in self._targets():
            self._view.background(partial(self._run_one, action, target), group="verbs")

    async def _run_one(self, action: TargetAction, target: Target) -> None:
        try:
            choice = await self._resolve(target)
            if choice is None or self._view.state is None:
                return
            words = await action(self._dashboard.link.client, choice, self._view.state)
        except DeckError as error:
            self._dashboard.say(str(error), "error")
        else:
            self._dashboard.say(words, "done")

    # Files

    def download(self) -> None:
        """Download the targets."""
        self._each(receipts.download)

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
        names = ", ".join(choice.unique for choice in chosen)
        title = f"Delete the files of {names}."
        what = CacheSelection(models=tuple(choice.ref for choice in chosen))
        nothing = f"{chosen[0].unique} has no files in the cache."
        if await delete(self._dashboard, what, title, nothing):
            self._view.table.unmark()

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
                self._dashboard.say(str(receipts.not_here(choice, self._view.key_of)), "error")
        if not here:
            return
        try:
            words = await receipts.verify(self._dashboard.link.client, here)
        except DeckError as error:
            self._dashboard.say(str(error), "error")
        else:
            self._dashboard.say(words)
            self._view.table.unmark()

    # Memory

    def unload(self) -> None:
        """Unload the targets."""
        self._each(partial(receipts.unload, key_of=self._view.key_of))

    def load(self) -> None:
        """Load the targets with the context length of the screen and their last options."""
        options = LoadOptions(context_length=self._requests.chosen_context)
        for target in self._targets():
            self._view.background(partial(self._load_one, target, options), group="load")

    async def _load_one(self, target: Target, options: LoadOptions) -> None:
        for choice in await self._resolve_all([target]):
            await self._load(choice, options)

    def load_with(self) -> None:
        """Ask for load options, then load the first target."""
        if targets := self._targets():
            self._view.background(partial(self._load_with, targets[0]), group="load")

    async def _load_with(self, target: Target) -> None:
        found = await self._resolve_all([target])
        if not found:
            return
        choice = found[0]
        text = load_options.written(LoadOptions(context_length=self._requests.chosen_context))
        label, hint = f"Load {choice.unique} with", load_options.hint(self._requests.context)
        while (answer := await self._dashboard.ask(label, text, hint)) is not None:
            wants_plan = answer.rstrip().endswith(load_options.SHOW_PLAN)
            try:
                options = load_options.parse(answer.rstrip().rstrip(load_options.SHOW_PLAN))
            except DeckError as error:
                label, hint, text = str(error), "", answer
                continue
            self._view.activated()  # the last question had the keys from the one before it
            if not wants_plan or await self._agrees(choice, options):
                await self._load(choice, options)
            return
        self._view.activated()

    async def _agrees(self, choice: DetailTarget, options: LoadOptions) -> bool:
        """Show the plan of a load; whether the user confirms it."""
        try:
            plan = await self._dashboard.link.client.plan_load(choice.ref, options)
        except DeckError as error:
            self._dashboard.say(str(error), "error")
            return False
        return await self._dashboard.confirm(load_records.plan(plan), "loads it")

    async def _load(self, choice: DetailTarget, options: LoadOptions) -> None:
        try:
            client = self._dashboard.link.client
            try:
                words = await receipts.load(client, choice, options, self._view.key_of, force=False)
            except NotEnoughMemory as error:
                lines = [line for line in (error.message, error.remedy, *error.details) if line]
                if not await self._dashboard.confirm(lines, "loads it anyway"):
                    return
                words = await receipts.load(client, choice, options, self._view.key_of, force=True)
        except DeckError as error:
            self._dashboard.say(str(error), "error")
        else:
            self._dashboard.say(words, "done")

    def chat(self) -> None:
        """Open Chat with the first target."""
        if targets := self._targets():
            self._view.background(partial(self._chat, targets[0]), group="chat")

    async def _chat(self, target: Target) -> None:
        for choice in await self._resolve_all([target]):
            if choice.model is None or not choice.model.downloaded:
                self._dashboard.say(str(receipts.not_here(choice, self._view.key_of)), "error")
                return
            self._dashboard.query_one(ChatView).talk_to(choice.model.id)
            self._dashboard.action_show(ChatView.NAME)

    def card(self) -> None:
        """Show the model card of the row under the cursor."""
        subject = self._view.subject()
        if subject is None:
            return
        if subject.repo is None:
            self._dashboard.say(str(receipts.no_card(subject)), "error")
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
        self._dashboard.say(str(receipts.not_custom(subject, self._view.key_of)), "error")
        return None

    def _show_custom(self, model: Model | None) -> None:
        """Show the model that the form created or changed; None if it was cancelled."""
        if model is not None:
            self._dashboard.say(f"{model.name} is in the list.", "done")
            self._view.reveal(model.id)

    async def _remove(self, model: Model) -> None:
        lines = [f"Remove {model.name} ({model.unique}) from the list.", "Its files stay."]
        if await self._dashboard.confirm(lines, "takes it off"):
            self._dashboard.perform(
                lambda client: client.delete_model(model.id),
                lambda _: f"Removed {model.name} from the list; its files stay.",
            )

    def copy(self) -> None:
        """Copy names or paths of the targets to the clipboard."""
        if texts := [receipts.copied(target) for target in self._targets()]:
            self._view.app.copy_to_clipboard("\n".join(texts))
            self._dashboard.say(f"Copied {', '.join(texts)}", "done")
