"""Writing questions: earlier ones, files, the editor; editing, asking again, branches."""

from __future__ import annotations

import shlex
import time
from typing import TYPE_CHECKING
from urllib.parse import unquote

from modeldeck.core.errors import DeckError
from modeldeck.tui.chats.attachments import described, kind_of, read_attachment
from modeldeck.tui.chats.chat import ChatAttachment, ChatTurn
from modeldeck.tui.chats.file_search import FileQuery, files_below, matching
from modeldeck.tui.chats.models import partners
from modeldeck.tui.chats.prompt_history import PromptHistory
from modeldeck.tui.dashboard.screens.chat import messages as words
from modeldeck.tui.dashboard.screens.chat.editor import edited
from modeldeck.tui.dashboard.widgets.composer import DETACH_KEY
from modeldeck.tui.text import format as fmt

if TYPE_CHECKING:
    from modeldeck.core.schema import Model
    from modeldeck.tui.dashboard.screens.chat.interface import ChatInterface
    from modeldeck.tui.dashboard.screens.chat.keeping import ChatKeeping

MOST_FILES = 16
"""Files of one question."""
KEPT_S = 15.0
"""Seconds that the names of files below a folder are remembered."""


class ChatWriting:
    """What goes on around the composer."""

    def __init__(self, view: ChatInterface, keeping: ChatKeeping) -> None:
        self._view = view
        self._keeping = keeping
        self._history = PromptHistory()
        self._filled = False
        self._recalled: str | None = None
        """The earlier question that the composer shows."""
        self._below: dict[str, tuple[float, list[str]]] = {}
        """Names of files by folder, and when they were read."""
        self._offered: str | None = None
        """The name that the offered files match."""
        self.editing: str | None = None
        """The question that is edited; sending makes a sibling of it."""

    @property
    def unsent(self) -> bool:
        """Whether something was written, or attached, that was not sent."""
        view = self._view
        text = view.composer.text
        return bool(view.files) or bool(text.strip() and text != self._recalled)

    # Sending

    def send(self) -> None:
        """Send what is written; it stays in the composer while an answer comes."""
        view = self._view
        text = view.composer.text.rstrip()
        if not text.strip() and not view.files:
            return
        if view.asking.talking:
            view.dashboard.say("Still answering: esc stops it. Your text stays.")
            return
        model = view.partner.model
        if model is None:
            has_models = bool(view.state and partners(view.state))
            why = words.no_model(has_models=has_models, key_of=view.dashboard.key_of)
            view.dashboard.say(why, "refused")
            return
        if view.dashboard.refuses_to_load(loaded=view.partner.live(model.id) is not None):
            return
        question = view.asking.question(text, self.editing)
        if self._is_refused(model, question):
            return
        if view.session.chat.options.model != model.unique:
            view.partner.choose(model.id)
        view.composer.clear()
        view.attach(())
        self.editing = None
        if not view.session.chat.private:
            self._history.add(text)
        self._recalled = None
        view.asking.talk(question)

    def again(self) -> None:
        """Ask the question of the marked turn again, or the last one."""
        view = self._view
        question = view.asking.question_of(view.pane.cursor)
        if view.asking.talking:
            view.dashboard.say("Still answering: esc stops it.")
            return
        model = view.partner.model
        if question is None or model is None:
            return
        if view.dashboard.refuses_to_load(loaded=view.partner.live(model.id) is not None):
            return
        if not self._is_refused(model, question):
            view.asking.talk(question)

    def _is_refused(self, model: Model, question: ChatTurn) -> bool:
        """Say why the model cannot be sent a file of the question, or of the turns before it."""
        view = self._view
        turns = (*view.session.chat.path(question.parent or ""), question)
        for file in (file for turn in turns for file in turn.attachments):
            if why := words.refuses(model, file, view.state):
                view.dashboard.say(why, "refused")
                return True
        return False

    def edit(self) -> None:
        """Put the question of the marked turn back into the composer, or the last one."""
        view = self._view
        question = view.asking.question_of(view.pane.cursor)
        if view.asking.talking:
            view.dashboard.say("Still answering: esc stops it.")
            return
        if question is None:
            return
        if view.composer.text.strip() and self.editing is None:
            view.dashboard.say("Send or empty what is written first; it would be lost.")
            return
        self.editing = question.id
        view.composer.text = question.text
        view.composer.move_cursor(view.composer.document.end)
        view.attach(question.attachments)
        view.composer.focus()
        view.dashboard.say("Editing: enter sends it as a new branch, esc leaves it as it was.")

    def cancel_edit(self) -> bool:
        """Leave the question as it was; False where none is edited."""
        if self.editing is None:
            return False
        self.editing = None
        self._view.composer.clear()
        self._view.attach(())
        self._view.pane.scroll.focus()
        return True

    async def turn_branch(self, by: int) -> None:
        """Show the branch before or after, at the marked turn or the last fork."""
        view = self._view
        session, cursor = view.session, view.pane.cursor
        if view.asking.talking:
            view.dashboard.say("Still answering: esc stops it.")
            return
        at = session.chat.branching(cursor)
        if at is None:
            view.dashboard.say("No other branch here: e or r makes one.")
            return
        turned = session.chat.turned(at, by)
        if turned.leaf == session.chat.leaf:
            place, count = session.chat.branch(at)
            view.dashboard.say(f"{'Last' if by > 0 else 'First'} branch: {place} of {count}.")
            return
        turn = turned.turn(at)
        shown = {each.id for each in turned.path()}
        siblings = turned.children(turn.parent if turn else None)
        fork = next((each.id for each in siblings if each.id in shown), None)
        view.asking.answer = None
        await session.change(turned)
        view.opened.told()
        await view.opened.show()
        if cursor is not None:
            view.pane.put_cursor(fork)

    # Earlier questions

    async def recall(self, *, earlier: bool) -> None:
        """Put the question before, or after, into the composer."""
        if not self._filled:
            self._filled = True
            self._history.fill(await self._keeping.prompts())
        composer = self._view.composer
        if composer.text != self._recalled:
            self._history.leave()
        text = self._history.earlier(composer.text) if earlier else self._history.later()
        if text is None:
            return
        self._recalled = text
        composer.text = text
        first = (0, len(text.partition("\n")[0]))  # from there `up` goes on
        composer.move_cursor(first if earlier else composer.document.end)

    async def in_editor(self) -> None:
        """Write the question in $EDITOR."""
        view = self._view
        try:
            text = await edited(view.dashboard, view.composer.text)
        except DeckError as error:
            view.dashboard.say(str(error), "error")
            return
        view.composer.text = text.rstrip("\n")
        view.composer.move_cursor(view.composer.document.end)
        view.composer.focus()

    # Files

    async def offer(self, name: str | None) -> None:
        """Offer the files that match what is written behind `@`."""
        view = self._view
        if name is None:
            self._offered = None
            view.matches.offer(None)
            view.dashboard.keys_changed()
            return
        query = FileQuery.of(name)
        now = time.monotonic()
        known = self._below.get(query.folder)
        if known is None or now - known[0] > KEPT_S:
            try:
                known = now, await files_below(query.folder)
            except DeckError as error:
                view.dashboard.say(str(error), "error")
                return
            self._below = {query.folder: known}
        model = view.partner.model
        sees = model is not None and "vision" in model.capabilities
        found = matching(query.words, known[1], pictures_first=sees)
        if view.composer.mention == name:  # not changed meanwhile
            self._offered = name
            view.matches.offer([query.folder + path for path in found])
            view.dashboard.keys_changed()

    async def pick(self, verb: str) -> None:
        """Move in the offered files, complete the name, or attach one."""
        view = self._view
        if view.composer.mention != self._offered:  # the key came before the files were read
            await self.offer(view.composer.mention)
        if view.composer.mention is None or view.composer.mention != self._offered:
            return  # given up meanwhile, or they cannot be read, which was said
        path = view.matches.current
        if verb in ("up", "down"):
            view.matches.move(1 if verb == "down" else -1)
        elif path is None:
            view.dashboard.say("No file matches; esc leaves it as text.")
        elif verb == "complete":
            view.composer.replace_mention("@" + path.replace(" ", "\\ "))
        else:
            view.composer.replace_mention("")
            await self.add(path)

    async def add(self, path: str) -> bool:
        """Attach a file; False where it cannot be."""
        view = self._view
        try:
            file = await read_attachment(path)
        except DeckError as error:
            view.dashboard.say(str(error), "error")
            return False
        if why := words.refuses(view.partner.model, file, view.state):
            view.dashboard.say(why, "refused")
            return False
        if len(view.files) >= MOST_FILES:
            view.dashboard.say(f"At most {MOST_FILES} files go with a question.", "refused")
            return False
        view.attach((*view.files, file))
        return True

    def remove_last(self) -> None:
        """Remove the file that was attached last."""
        view = self._view
        if view.files:
            view.dashboard.say(f"Removed {view.files[-1].name}.")
            view.attach(view.files[:-1])

    async def paste(self, text: str) -> None:
        """Attach a picture whose path was pasted; insert other text."""
        path = pasted_path(text)
        if kind_of(path) == "image" and await self.add(path):
            return
        self._view.composer.insert(text)

    def attached_line(self) -> str:
        """The files that go with the next question, and the key that removes one."""
        names = [_short(file) for file in self._view.files]
        return f"{'   '.join(names)}   {DETACH_KEY} removes the last"


def _short(file: ChatAttachment) -> str:
    return f"{fmt.squeeze(fmt.clean(file.name), 32)} {described(file)}"


def pasted_path(text: str) -> str:
    """The path in a text that a terminal pastes when a file is dropped on it."""
    text = text.strip()
    if text.startswith("file://"):
        return unquote(text.removeprefix("file://"))
    try:
        words_ = shlex.split(text)
    except ValueError:
        return text
    return words_[0] if len(words_) == 1 else text
