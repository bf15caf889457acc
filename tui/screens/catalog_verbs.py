"""The verbs of the catalog: what each key does to the rows or variants it acts on.

A verb runs beside the screen. Of several targets each is done in turn, and one that fails does not
stop the others; what comes of each is a notice.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from textual.reactive import var
from textual.worker import Worker

from core.errors import DeckError, NotEnoughMemory
from core.schema import LoadOptions, Model, SearchHit
from core.state import State
from tui import pages
from tui.screens import catalog_receipts as receipts
from tui.screens.catalog_detail import Choice, Detail
from tui.screens.catalog_rows import Row
from tui.screens.chat import Chat
from tui.screens.custom import CustomForm
from tui.screens.view import View
from tui.widgets.table import Table

if TYPE_CHECKING:
    from core.client import Client

    Doing = Callable[[Client, Choice, State], Awaitable[str]]


class CatalogVerbs(View):
    """The half of the catalog that acts."""

    chosen_context: int | None = None
    """The context length that the person chose; None where it is the setting's."""

    @property
    def table(self) -> Table[Row]:
        """The rows."""
        return self.query_one("#rows", Table)

    @property
    def detail(self) -> Detail:
        """The pane."""
        return self.query_one(Detail)

    def subject(self) -> Model | SearchHit | None:
        """The row under the cursor."""
        row = self.table.cursor_item
        return row if isinstance(row, Model | SearchHit) else None

    context: var[int] = var(0)
    """The context length that fits are told for; 0 before the first State."""

    def beside(
        self, work: Callable[[], Coroutine[Any, Any, None]], *, group: str, exclusive: bool = False
    ) -> Worker[None]:
        """Run something beside the screen; where it is exclusive, the newest of a group wins.

        It takes a function, not a coroutine: one that is called off before it began leaves nothing.
        """
        return self.run_worker(work, group=group, exclusive=exclusive)

    def reveal(self, model_id: str) -> None:
        """Bring a model into sight that is about to be listed."""
        raise NotImplementedError

    def open(self, opened: bool) -> None:
        """Go into the detail, or come back."""
        raise NotImplementedError

    def variants(self, row: Model | SearchHit) -> Sequence[Choice]:
        """What can be chosen of a row, as far as it is known."""
        raise NotImplementedError

    def targets(self) -> list[Choice]:
        """What a verb acts on: the marked variants or rows, else the one under the cursor.

        A row of the Hub has to be opened first, where it leaves a choice; then that is said.
        """
        if self.detail.table.has_focus:
            return self.detail.table.marked
        found: list[Choice] = []
        for row in self.table.marked:
            variants = self.variants(row) if isinstance(row, Model | SearchHit) else ()
            own = [choice for choice in variants if isinstance(row, Model) and choice.key == row.id]
            if own or len(variants) == 1:
                found += own or variants
            elif isinstance(row, SearchHit):
                self.dashboard.say(f"{row.repo} has several variants: choose one.")
                self.open(True)
        return found

    def _each(self, doing: Doing) -> None:
        """Do something to each target; one that fails does not stop the others."""
        if (state := self.state) is not None:
            for target in self.targets():
                self.perform(partial(_done, doing, target, state), str)

    # Files

    def action_download(self) -> None:
        """Download."""
        self._each(receipts.download)

    def action_cancel(self) -> None:
        """Cancel the downloads, or the loads."""
        self._each(receipts.cancel)

    def action_delete(self) -> None:
        """Show what deleting would do, and ask."""
        if targets := self.targets():
            self.beside(partial(self._delete, targets), group="delete")

    async def _delete(self, targets: Sequence[Choice]) -> None:
        refs = [choice.ref for choice in targets]
        try:
            client = self.dashboard.link.client
            plan = await client.plan_deletion(refs)
            if not plan.delete:
                self.dashboard.say(f"{targets[0].unique} has no files in the cache.")
                return
            lines = receipts.plan_lines(plan, [choice.unique for choice in targets])
            if await self.confirm(lines, "deletes them"):
                receipt = await client.delete_cached(refs, force=bool(plan.blocked))
                self.table.unmark()
                for words in pages.deleted(receipt):
                    self.dashboard.say(words, "error" if receipt.failed else "done")
        except DeckError as error:
            self.dashboard.say(str(error), "error")

    # Memory

    def action_unload(self) -> None:
        """Unload."""
        self._each(receipts.unload)

    def action_load(self) -> None:
        """Load, with the options of the last time."""
        for choice in self.targets():
            self.beside(partial(self._load, choice, self._options(choice)), group="load")

    def action_load_with(self) -> None:
        """Ask for the options, then load."""
        if targets := self.targets():
            self.beside(partial(self._load_with, targets[0]), group="load")

    def _options(self, choice: Choice) -> LoadOptions:
        """Those of the last time, at the context length on the screen where one was chosen."""
        last = receipts.last_options(self.state, choice.key) if self.state else None
        return receipts.at_context(last or LoadOptions(), self.chosen_context)

    async def _load_with(self, choice: Choice) -> None:
        options = self._options(choice)
        if options.context_length is None:
            options = receipts.at_context(options, self.context or None)
        text = receipts.options_text(options)
        label, hint = f"Load {choice.unique} with", " ".join(receipts.OPTIONS)
        while (answer := await self.ask(label, text, hint)) is not None:
            try:
                options = receipts.parse_options(answer)
            except DeckError as error:
                label, hint, text = str(error), "", answer
                continue
            self.activated()  # the last question had the keys from the one before it
            await self._load(choice, options)
            return
        self.activated()

    async def _load(self, choice: Choice, options: LoadOptions) -> None:
        try:
            client = self.dashboard.link.client
            try:
                words = await receipts.load(client, choice, options, force=False)
            except NotEnoughMemory as error:
                lines = [error.message, error.remedy, *error.details]
                if not await self.confirm([line for line in lines if line], "loads it anyway"):
                    return
                words = await receipts.load(client, choice, options, force=True)
        except DeckError as error:
            self.dashboard.say(str(error), "error")
        else:
            self.dashboard.say(words, "done")

    def action_chat(self) -> None:
        """Try the model in Chat."""
        if targets := self.targets():
            choice = targets[0]
            if choice.model is None or not choice.model.downloaded:
                self.dashboard.say(str(receipts.not_here(choice)), "error")
                return
            self.dashboard.query_one(Chat).talk_to(choice.model.id)
            self.dashboard.action_show(Chat.NAME)

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
        self.dashboard.say(str(receipts.not_custom(subject)), "error")
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
        if texts := [receipts.copied(choice) for choice in self.targets()]:
            self.app.copy_to_clipboard("\n".join(texts))
            self.dashboard.say(f"Copied {', '.join(texts)}", "done")


def _done(doing: Doing, target: Choice, state: State, client: Client) -> Awaitable[str]:
    return doing(client, target, state)
