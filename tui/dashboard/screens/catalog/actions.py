"""The verbs of the catalog: what each key does to the rows or variants it acts on.

A verb runs beside the screen. Of several targets each is done in turn, and one that fails does not
stop the others; what comes of each is a notice.
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
from modeldeck.tui.dashboard.screens.catalog.requests import CatalogRequests
from modeldeck.tui.dashboard.screens.chat.screen import ChatView
from modeldeck.tui.dashboard.screens.delete_flow import delete
from modeldeck.tui.text import load_options, load_records

if TYPE_CHECKING:
    from modeldeck.core.client.client import Client

    Doing = Callable[[Client, DetailTarget, State], Awaitable[str]]

Target = DetailTarget | SearchHit
"""What a key was pressed on; of a row of the Hub it may take a question what that means."""


class CatalogActions(CatalogRequests):
    """The part of the catalog that acts."""

    def reveal(self, model_id: str) -> None:
        """Bring a model into sight that is about to be listed."""
        raise NotImplementedError

    def open(self, opened: bool) -> None:
        """Go into the detail, or come back."""
        raise NotImplementedError

    # What a verb acts on

    def targets(self) -> list[Target]:
        """The marked variants or rows, else the one under the cursor."""
        variants = self.detail.table
        if variants.has_focus and variants.items:
            return list(variants.marked)
        # While the Hub is asked what an opened repository holds, its row is what is meant.
        rows = [self.subject()] if variants.has_focus else self.table.marked
        return [
            only(row) if isinstance(row, Model) else row
            for row in rows
            if isinstance(row, Model | SearchHit)
        ]

    async def settle(self, target: Target) -> DetailTarget | None:
        """The one thing that a row of the Hub can mean; None where the person has to choose.

        Raises DeckError where the Hub does not tell what the repository holds.
        """
        if isinstance(target, DetailTarget):
            return target
        if not self.variants(target):
            self.dashboard.say(f"Asking the Hub what {target.repo} holds.")
            await self.learn(target.repo)
        match self.variants(target):
            case [only_one]:
                return only_one
            case []:
                raise receipts.nothing_in(target.repo)
        here = self.subject() == target and self.dashboard.current == self.NAME
        how = "choose one" if here else "open its row to choose one"
        self.dashboard.say(f"{target.repo} has several variants: {how}.")
        if here:
            self.open(True)
        return None

    async def settled(self, targets: Sequence[Target]) -> list[DetailTarget]:
        """What the targets mean; says of each that means nothing why."""
        found = []
        for target in targets:
            try:
                choice = await self.settle(target)
            except DeckError as error:
                self.dashboard.say(str(error), "error")
            else:
                found += [choice] if choice is not None else []
        return found

    def _each(self, doing: Doing) -> None:
        """Do something to each target; one that fails does not stop the others."""
        for target in self.targets():
            self.beside(partial(self._one, doing, target), group="verbs")

    async def _one(self, doing: Doing, target: Target) -> None:
        try:
            choice = await self.settle(target)
            if choice is None or self.state is None:
                return
            words = await doing(self.dashboard.link.client, choice, self.state)
        except DeckError as error:
            self.dashboard.say(str(error), "error")
        else:
            self.dashboard.say(words, "done")

    # Files

    def action_download(self) -> None:
        """Download."""
        self._each(receipts.download)

    def action_cancel(self) -> None:
        """Cancel the downloads, or the loads."""
        self._each(partial(receipts.cancel, key_of=self.key_of))

    def action_delete(self) -> None:
        """Show what deleting would do, and ask."""
        if targets := self.targets():
            self.beside(partial(self._delete, targets), group="delete")

    async def _delete(self, targets: Sequence[Target]) -> None:
        chosen = await self.settled(targets)
        if not chosen:
            return
        names = ", ".join(choice.unique for choice in chosen)
        title = f"Delete the files of {names}."
        what = CacheSelection(models=tuple(choice.ref for choice in chosen))
        if await delete(self, what, title, f"{chosen[0].unique} has no files in the cache."):
            self.table.unmark()

    def action_verify(self) -> None:
        """Check files against their hashes."""
        if targets := self.targets():
            self.beside(partial(self._verify, targets), group="verify")

    async def _verify(self, targets: Sequence[Target]) -> None:
        here = []
        for choice in await self.settled(targets):
            if choice.model is not None and choice.model.downloaded:
                here.append(choice)
            else:
                self.dashboard.say(str(receipts.not_here(choice, self.key_of)), "error")
        if not here:
            return
        try:
            words = await receipts.verify(self.dashboard.link.client, here)
        except DeckError as error:
            self.dashboard.say(str(error), "error")
        else:
            self.dashboard.say(words)
            self.table.unmark()

    # Memory

    def action_unload(self) -> None:
        """Unload."""
        self._each(partial(receipts.unload, key_of=self.key_of))

    def action_load(self) -> None:
        """Load, with what was chosen on the screen; the rest is as the last time."""
        options = LoadOptions(context_length=self.chosen_context)
        for target in self.targets():
            self.beside(partial(self._load_one, target, options), group="load")

    async def _load_one(self, target: Target, options: LoadOptions) -> None:
        for choice in await self.settled([target]):
            await self._load(choice, options)

    def action_load_with(self) -> None:
        """Ask for the options, then load."""
        if targets := self.targets():
            self.beside(partial(self._load_with, targets[0]), group="load")

    async def _load_with(self, target: Target) -> None:
        found = await self.settled([target])
        if not found:
            return
        choice = found[0]
        text = load_options.written(LoadOptions(context_length=self.chosen_context))
        label, hint = f"Load {choice.unique} with", load_options.hint(self.context)
        while (answer := await self.ask(label, text, hint)) is not None:
            wants_plan = answer.rstrip().endswith(load_options.SHOW_PLAN)
            try:
                options = load_options.parse(answer.rstrip().rstrip(load_options.SHOW_PLAN))
            except DeckError as error:
                label, hint, text = str(error), "", answer
                continue
            self.activated()  # the last question had the keys from the one before it
            if not wants_plan or await self._agrees(choice, options):
                await self._load(choice, options)
            return
        self.activated()

    async def _agrees(self, choice: DetailTarget, options: LoadOptions) -> bool:
        """Show what a load would do, and ask whether it is to be done."""
        try:
            plan = await self.dashboard.link.client.plan_load(choice.ref, options)
        except DeckError as error:
            self.dashboard.say(str(error), "error")
            return False
        return await self.confirm(load_records.plan(plan), "loads it")

    async def _load(self, choice: DetailTarget, options: LoadOptions) -> None:
        try:
            client = self.dashboard.link.client
            try:
                words = await receipts.load(client, choice, options, self.key_of, force=False)
            except NotEnoughMemory as error:
                lines = [error.message, error.remedy, *error.details]
                if not await self.confirm([line for line in lines if line], "loads it anyway"):
                    return
                words = await receipts.load(client, choice, options, self.key_of, force=True)
        except DeckError as error:
            self.dashboard.say(str(error), "error")
        else:
            self.dashboard.say(words, "done")

    def action_chat(self) -> None:
        """Try the model in Chat."""
        if targets := self.targets():
            self.beside(partial(self._chat, targets[0]), group="chat")

    async def _chat(self, target: Target) -> None:
        for choice in await self.settled([target]):
            if choice.model is None or not choice.model.downloaded:
                self.dashboard.say(str(receipts.not_here(choice, self.key_of)), "error")
                return
            self.dashboard.query_one(ChatView).talk_to(choice.model.id)
            self.dashboard.action_show(ChatView.NAME)

    def action_card(self) -> None:
        """Read the model card."""
        subject = self.subject()
        if subject is None:
            return
        if subject.repo is None:
            self.dashboard.say(str(receipts.no_card(subject)), "error")
            return
        known = self.repository(subject.repo)
        self.app.push_screen(
            ModelCardScreen(self.dashboard, subject.repo, known.revision if known else None)
        )

    # The list itself

    def action_new(self) -> None:
        """A form for a custom model."""
        self.app.push_screen(CustomForm(self.dashboard), self._made)

    def action_edit(self) -> None:
        """A form for the custom model under the cursor."""
        if (model := self._custom()) is not None:
            self.app.push_screen(CustomForm(self.dashboard, model), self._made)

    def action_remove(self) -> None:
        """Take a custom model off the list."""
        if (model := self._custom()) is not None:
            self.beside(partial(self._remove, model), group="delete")

    def _custom(self) -> Model | None:
        """The custom model under the cursor; says so where it is none."""
        subject = self.subject()
        if isinstance(subject, Model) and subject.custom:
            return subject
        self.dashboard.say(str(receipts.not_custom(subject, self.key_of)), "error")
        return None

    def _made(self, model: Model | None) -> None:
        """The form is closed: show what it made."""
        if model is not None:
            self.dashboard.say(f"{model.name} is in the list.", "done")
            self.reveal(model.id)

    async def _remove(self, model: Model) -> None:
        lines = [f"Take {model.name} ({model.unique}) off the list.", "Its files stay."]
        if await self.confirm(lines, "takes it off"):
            self.perform(
                lambda client: client.delete_model(model.id),
                lambda _: f"{model.name} is off the list; its files stay.",
            )

    def action_copy(self) -> None:
        """Copy names or paths."""
        if texts := [receipts.copied(target) for target in self.targets()]:
            self.app.copy_to_clipboard("\n".join(texts))
            self.dashboard.say(f"Copied {', '.join(texts)}", "done")
