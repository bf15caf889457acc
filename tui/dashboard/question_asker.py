"""`QuestionAsker`: asks questions in the prompt, and cancels them when the user turns elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from textual.app import App
from textual.errors import NoWidget

from modeldeck.tui.dashboard.dialogs.help_screen import HelpScreen
from modeldeck.tui.dashboard.questions import (
    NOTHING_CHANGED,
    LineQuestion,
    Question,
    QuestionItem,
    QuestionWarning,
    YesNoQuestion,
    question_help,
)
from modeldeck.tui.dashboard.widgets.footer import Footer

if TYPE_CHECKING:
    from modeldeck.core.schema.state import State
    from modeldeck.tui.dashboard.frame import DashboardFrame
    from modeldeck.tui.dashboard.widgets.prompt import QuestionBody

WARNING = "! "
"""Beginning of a line that never scrolls away."""


class QuestionAsker:
    """Asks one question at a time in the prompt of the frame."""

    def __init__(
        self,
        app: App[None],
        frame: DashboardFrame,
        *,
        say: Callable[[str], None],
        ended: Callable[[], None],
    ) -> None:
        """`say` shows that a question was cancelled; `ended` is called after each question."""
        self._app = app
        self._frame = frame
        self._say = say
        self._ended = ended

    async def confirm(
        self,
        lines: Sequence[str],
        verb: str,
        keep: str,
        *,
        cancelled: str = NOTHING_CHANGED,
        subject: Callable[[State], bool] | None = None,
    ) -> bool:
        """Ask yes or no; True when the user says `verb`.

        Args:
            lines: The title, then lines of a list; those that begin with `! ` never scroll away.
            verb: What `y` does.
            keep: What `n` does.
            cancelled: Said when something else than a key cancels the question.
            subject: Whether what it is about still exists; the question is cancelled once not.
        """
        title, *rest = lines
        warnings = (line.removeprefix(WARNING) for line in rest if line.startswith(WARNING))
        items = (line.removeprefix("  ") for line in rest if not line.startswith(WARNING))
        question = YesNoQuestion(
            title=title,
            warnings=tuple(QuestionWarning(text=text) for text in warnings),
            items=tuple(QuestionItem(text=text) for text in items),
            verb=verb,
            keep=keep,
            cancelled=cancelled,
            subject=subject,
        )
        return await self.ask(question) is not None

    async def ask_line(self, label: str, value: str = "", hint: str = "") -> str | None:
        """Ask for one line of text; None when cancelled."""
        return await self.ask(LineQuestion(title=label, value=value, hint=hint))

    async def ask(self, question: Question, body: QuestionBody | None = None) -> str | None:
        """Ask a question of any kind; None when cancelled, or when another one is shown."""
        prompt = self._frame.prompt
        if prompt is None:
            return None
        answer = await prompt.ask(question, body)
        self._ended()
        return answer

    @property
    def shown(self) -> Question | None:
        """The question that is shown; None without one."""
        prompt = self._frame.prompt
        return prompt.question if prompt is not None else None

    def call_off(self) -> bool:
        """Cancel the question and say so; False when there is none."""
        prompt = self._frame.prompt
        question = prompt.call_off() if prompt is not None else None
        if question is not None and question.cancelled:
            self._say(question.cancelled)
        return question is not None

    def dismiss(self) -> bool:
        """Cancel the question as `esc` does; False when there is none."""
        prompt = self._frame.prompt
        return prompt is not None and prompt.call_off() is not None

    def dropped(self, question: Question) -> None:
        """Say that a question that waited is not asked any more."""
        if question.dropped:
            self._say(question.dropped)

    def check_subject(self, state: State) -> None:
        """Cancel the question once what it is about is gone."""
        question = self.shown
        if question is not None and question.subject and not question.subject(state):
            self.call_off()

    def show_help(self) -> bool:
        """Show the keys of the question; False when there is none."""
        question = self.shown
        if question is not None:
            self._app.push_screen(HelpScreen([question_help(question)], {}))
        return question is not None

    def clicked(self, x: int, y: int) -> None:
        """Cancel the question where a cell outside it was clicked, by column and line."""
        if self.shown is None or self._frame.is_covered:
            return
        try:
            widget, _ = self._app.get_widget_at(x, y)
        except NoWidget:
            return
        prompt = self._frame.prompt
        if not isinstance(widget, Footer) and prompt is not None and not prompt.contains(widget):
            self.call_off()

    def key_clicked(self, key: str) -> None:
        """Handle a click in the key line of the question; empty where it was beside all keys."""
        prompt = self._frame.prompt
        if not key:
            self.call_off()
        elif prompt is not None:
            prompt.press(key)

    def draw(self) -> None:
        """Lay the question out again, after a change of size."""
        if (prompt := self._frame.prompt) is not None:
            prompt.draw()
