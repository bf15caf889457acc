"""What the requests and the actions of the catalog use of its screen."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

if TYPE_CHECKING:
    from textual.app import App
    from textual.widget import Widget
    from textual.worker import Worker

    from modeldeck.core.schema import Model, SearchHit
    from modeldeck.core.schema.state import State
    from modeldeck.tui.dashboard.interface import DashboardInterface
    from modeldeck.tui.dashboard.screens.catalog.detail import DetailPane
    from modeldeck.tui.dashboard.screens.catalog.rows import Row, Show
    from modeldeck.tui.dashboard.screens.load_form.facts import LoadTarget
    from modeldeck.tui.dashboard.widgets.table import Table

WidgetT = TypeVar("WidgetT", bound="Widget")


class CatalogInterface(Protocol):
    """The screen of the catalog, as its parts know it."""

    NAME: ClassVar[str]

    written: str
    """The filter as it is written, without blanks around it."""

    @property
    def shown(self) -> Show:
        """The kind of models that is shown."""

    @property
    def words(self) -> str:
        """The words of the filter, without its tests."""

    @property
    def app(self) -> App[Any]:
        """The app, which shows dialogs and owns the clipboard."""

    @property
    def dashboard(self) -> DashboardInterface:
        """The dashboard around the screen."""

    @property
    def state(self) -> State | None:
        """The newest State; None before the first."""

    @property
    def table(self) -> Table[Row]:
        """The list of models and Hub results."""

    @property
    def detail(self) -> DetailPane:
        """The detail of the row under the cursor."""

    @property
    def complete(self) -> bool:
        """Whether all widgets of the screen are mounted."""

    def query_one(self, selector: type[WidgetT]) -> WidgetT:
        """The widget of this type."""

    def choose_firsts(self) -> None:
        """Choose the models at the top."""

    def subject(self) -> Model | SearchHit | None:
        """The model or Hub result under the cursor."""

    def marked_rows(self) -> Sequence[Row | None]:
        """The marked rows, also those that the filter hides; the one under the cursor for none."""

    def key_of(self, name: str) -> str:
        """The key of a command of the catalog, as the user has it."""

    def refresh_rows(self) -> None:
        """Bring the whole screen up to date."""

    def refresh_detail(self) -> None:
        """Bring the detail up to date."""

    def open(self, opened: bool) -> None:
        """Move the keys into the detail, or back to the table."""

    def reveal(self, model_id: str) -> None:
        """Put the cursor on a model as soon as it is listed, without any filter."""

    def open_load_form(self, targets: Sequence[LoadTarget], chosen: Mapping[str, Any]) -> None:
        """Open the load form; `chosen` are options to begin with."""

    def activated(self) -> None:
        """Give the focus back to the table or the variants."""

    def background(
        self, work: Callable[[], Coroutine[Any, Any, None]], *, group: str, exclusive: bool = False
    ) -> Worker[None]:
        """Run work in a worker; an exclusive one cancels the others of its group."""

    def cancel(self, group: str) -> None:
        """Cancel the workers of a group."""
