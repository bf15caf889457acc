"""`ListPlace`: whether the list of chats is shown, beside the turns or in their place."""

from __future__ import annotations

from modeldeck.tui.dashboard.screens.chat.chat_list import BESIDE_FROM
from modeldeck.tui.dashboard.screens.chat.interface import ChatInterface


class ListPlace:
    """Lays out the list and the turns for the width of the screen."""

    def __init__(self, view: ChatInterface) -> None:
        self._view = view
        self._is_open: bool | None = None
        """Whether the list is shown; None for beside the chat where there is room."""

    @property
    def _has_room(self) -> bool:
        return self._view.size.width >= BESIDE_FROM

    def lay_out(self) -> None:
        """Show the list and the turns where they have room."""
        view, beside = self._view, self._has_room
        is_open = self._is_open if self._is_open is not None else beside and view.has_chats
        view.set_class(bool(is_open) and beside, "listed")
        view.list.display = bool(is_open)
        view.list.set_class(not beside, "whole")
        view.pane.display = beside or not is_open

    def resized(self) -> None:
        """Lay out for another width; on a narrow one the list covers the turns only in use."""
        if not self._has_room and self._is_open and not self._is_used:
            self._is_open = None
        self.lay_out()

    @property
    def _is_used(self) -> bool:
        """Whether the list or its search has the focus."""
        return self._view.list.table.has_focus or self._view.list.finding

    def leave(self) -> None:
        """Show the turns again, where the list took their place."""
        if not self._has_room:
            self._is_open = None
            self.lay_out()

    def close(self) -> None:
        """Go back to the turns."""
        self.leave()
        self._view.pane.scroll.focus()
        self._view.dashboard.keys_changed()

    def toggle(self) -> None:
        """Show the list and go to it; hide it where it has the focus."""
        view = self._view
        hide = view.list.display and view.list.table.has_focus
        self._is_open = not hide
        self.lay_out()
        (view.pane.scroll if hide else view.list.table).focus()
        if not hide:
            view.do(view.opened.relist, "find")
        view.dashboard.keys_changed()
