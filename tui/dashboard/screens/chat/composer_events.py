"""`ComposerEvents`: does what the user asks for while writing in the composer."""

from __future__ import annotations

from functools import partial

from modeldeck.tui.dashboard.screens.chat.interface import ChatInterface
from modeldeck.tui.dashboard.screens.chat.writing import ChatWriting
from modeldeck.tui.dashboard.widgets.composer import Composer


class ComposerEvents:
    """Hands the messages of the composer on to what they are for."""

    def __init__(self, view: ChatInterface, written: ChatWriting) -> None:
        self._view = view
        self._written = written

    def handle(self, event: Composer.Wanted) -> None:
        """Do what is wanted; what takes time runs in a worker."""
        view, written = self._view, self._written
        match event:
            case Composer.Sent():
                written.send()
            case Composer.Recalled(earlier=earlier):
                view.do(partial(written.recall, earlier=earlier))
            case Composer.Mentioned(name=name):
                view.do(partial(written.offer, name), "find")
            case Composer.FilePicked(verb=verb):
                view.do(partial(written.pick, verb))
            case Composer.PathPasted(text=text):
                view.do(partial(written.paste, text))
            case Composer.EditorWanted():
                view.do(written.in_editor)
            case Composer.Detached():
                written.remove_last()
            case Composer.KeysWanted():
                view.dashboard.action_help()
            case Composer.Turned(pages=pages):
                view.pane.turn(pages)
            case Composer.Scrolled(lines=lines):
                view.pane.move(lines)
            case Composer.Followed():
                view.pane.follow()
