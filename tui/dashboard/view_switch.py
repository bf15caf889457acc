"""`ViewSwitch`: the views of the dashboard, and which of them is in front."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from textual.widgets import ContentSwitcher

from modeldeck.tui.dashboard import screens
from modeldeck.tui.dashboard.frame import DashboardFrame
from modeldeck.tui.dashboard.screens.view import View


class ViewSwitch:
    """Creates the views in the frame's switcher, removes them, and brings one to the front."""

    def __init__(
        self,
        frame: DashboardFrame,
        *,
        only: str | None,
        several: bool,
        fleet_first: bool,
        bind: Callable[[View], View],
    ) -> None:
        """Choose the views; none is created yet.

        Args:
            frame: Where they are shown.
            only: Name of the only one; None for all.
            several: Whether there are several machines, which have a view of their own.
            fleet_first: Whether to start with that view.
            bind: Binds a new view to the state of the app.
        """
        self._frame = frame
        self._bind = bind
        self.numbered = tuple(view for view in screens.VIEWS if only in (None, view.name))
        """Those with a number in the footer."""
        self.numbered += (screens.FLEET,) if several and only is None else ()
        above = [known.name for known in self.numbered]
        self.unnumbered = tuple(view for view in screens.ALL if view.under in above)
        """Those that are opened from another view."""
        self.first = self.numbered[-1 if fleet_first else 0].name
        """Name of the view to start with."""

    @property
    def all(self) -> tuple[screens.LazyScreen, ...]:
        """The views, those with a number first."""
        return (*self.numbered, *self.unnumbered)

    def has(self, name: str) -> bool:
        """Whether there is a view of this name in this dashboard."""
        return name in [view.name for view in self.all]

    def number_of(self, name: str) -> int:
        """Index of a view among those with a number, or of the view it is opened from."""
        above = {view.name: view.under for view in self.unnumbered}
        return [view.name for view in self.numbered].index(above.get(name, name))

    def beside(self, name: str, by: int) -> str:
        """Name of the view that is `by` further than this one, in a circle."""
        return self.numbered[(self.number_of(name) + by) % len(self.numbered)].name

    @property
    def _switcher(self) -> ContentSwitcher:
        return self._frame.screen.query_one(ContentSwitcher)

    @property
    def front(self) -> View:
        """The view in front."""
        return self._frame.screen.query_one(f"#{self._switcher.current}", View)

    def at_stake(self, *, but: str = "") -> list[str]:
        """What would be lost without the views, but for one, a sentence each."""
        kinds = (view for view in self.existing if view.id != but)
        return [words for view in kinds if (words := view.at_stake())]

    @property
    def existing(self) -> Iterable[View]:
        """The views that are created."""
        return self._frame.parts(View)

    def created(self, name: str) -> View | None:
        """The view of this name; None where it is not created."""
        return next(iter(self._frame.screen.query(f"#{name}").results(View)), None)

    def show(self, name: str) -> None:
        """Bring a view to the front that is created."""
        self._switcher.current = name

    async def create(self) -> frozenset[str]:
        """Create the views that do not exist yet; returns the names of those that did."""
        there = frozenset(view.id or "" for view in self._switcher.query(View))
        made = [
            self._bind(view.load()(id=view.name)) for view in self.all if view.name not in there
        ]
        for view in made:
            view.display = False
        await self._switcher.mount_all(made)
        return there

    async def remove(self, views: Iterable[View]) -> None:
        """Remove views; none is in front afterwards, so that a new one of that name comes there."""
        switcher = self._switcher
        for view in views:
            # First what waits for an answer: it would draw on parts that are gone.
            for worker in list(view.workers):
                if view in worker.node.ancestors_with_self:
                    worker.cancel()
            await view.remove()
        switcher.current = None
