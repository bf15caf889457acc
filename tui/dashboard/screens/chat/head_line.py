"""`ChatHeadLine`: keeps the line at the top of the Chat screen up to date."""

from __future__ import annotations

from dataclasses import replace

from rich.text import Text
from textual.widgets import Static

from modeldeck.tui.chats.context import WARNING, context_use
from modeldeck.tui.chats.models import can_think
from modeldeck.tui.chats.sampling import described
from modeldeck.tui.dashboard.screens.chat import messages as words
from modeldeck.tui.dashboard.screens.chat.head import ChatHead, Saved, head_line
from modeldeck.tui.dashboard.screens.chat.interface import ChatInterface
from modeldeck.tui.dashboard.screens.chat.settings import ChatTuning
from modeldeck.tui.dashboard.theme import ink
from modeldeck.tui.dashboard.widgets.bars import alike
from modeldeck.tui.text import format as fmt

PRESET_CELLS = 24
"""Cells of the system prompt in the line at the top."""


class ChatHeadLine:
    """Shows model, context and settings, and warns once of a context that is nearly full."""

    def __init__(self, view: ChatInterface, tuning: ChatTuning, line: Static) -> None:
        self._view = view
        self._tuning = tuning
        self._widget = line
        self._shown: Text | None = None
        self._warned = 0.0
        """How full the context was when that was said last."""

    def restart(self) -> None:
        """Warn again where needed: another chat is open."""
        self._warned = 0.0

    def draw(self) -> None:
        """Show the line; draws only a change."""
        line = self._line()
        if self._shown is None or not alike(line, self._shown):
            self._shown = line
            self._widget.update(line)

    def _line(self) -> Text:
        view, glyphs = self._view, self._view.dashboard.glyphs
        model, options = view.partner.model, view.session.chat.options
        instance = view.partner.live(model.id) if model else None
        total = instance.context_length if instance else None
        use = context_use(view.session.chat, view.composer.text, view.files, total)
        if view.asking.answer is not None:
            use = replace(use, tokens=use.tokens + view.asking.answer.pieces)
        self._warn(use.fraction)
        saved, at = self._saved()
        system = options.preset or " ".join(fmt.clean(options.system).split())
        head = ChatHead(
            sign=words.sign(instance, glyphs) if model else glyphs.dot,
            live=instance is not None,
            name=model.name if model else "no model",
            standing=words.standing(instance) if model else "",
            use=use,
            system=fmt.cut(system, PRESET_CELLS),
            sampling=described(options.sampling),
            thinking=options.thinking if can_think(model) else "",
            saved=saved,
            saved_at=at,
            keys=tuple(map(view.key_of, ("model", "system", "sampling", "thinking"))),  # type: ignore[arg-type] # four
        )
        width = max(20, view.size.width - 2)
        return head_line(head, width, glyphs, ink(view.dashboard.theme_variables))

    def _saved(self) -> tuple[Saved, str]:
        session = self._view.session
        if session.chat.private:
            return "private", ""
        if not session.kept:
            return "off", ""
        if session.problem is not None:
            return "unsaved", ""
        at = session.saved_at or session.chat.changed
        if not session.chat.turns or session.chat.number is None:
            return "", ""
        return "saved", fmt.time_of_day(at)

    def _warn(self, fraction: float | None) -> None:
        """Say once that the context is nearly full, and that it is full."""
        if fraction is None or fraction < WARNING:
            self._warned = 0.0
            return
        if self._warned < WARNING or (fraction >= 1 > self._warned):
            self._warned = fraction
            text, severity = self._tuning.context_warning(fraction)
            self._widget.call_after_refresh(self._view.dashboard.say, text, severity)
