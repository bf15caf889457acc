"""`ChatPartner`: the model that answers, and whether the user chose it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from modeldeck.core.schema import Instance, Model
from modeldeck.core.schema.state import State
from modeldeck.tui.chats.models import partners
from modeldeck.tui.dashboard.screens.chat.interface import ChatInterface


class ChatPartner:
    """The model of the conversation: the one loaded last, until one is chosen."""

    def __init__(self, view: ChatInterface) -> None:
        self._view = view
        self.model_id: str | None = None
        """Model of the conversation; None without a model."""
        self._chosen = False
        """Whether the user chose the model."""

    @property
    def model(self) -> Model | None:
        """The model that answers."""
        state = self._view.state
        return state.models.get(self.model_id or "") if state else None

    def live(self, model_id: str | None) -> Instance | None:
        """The live instance of a model, if any."""
        state = self._view.state
        found = state.instances.values() if state else ()
        return next((i for i in found if i.model_id == model_id and i.state.live), None)

    def follow(self, state: State) -> None:
        """Use the model that was loaded last, until one was chosen."""
        free = not self._chosen and not self._view.session.chat.turns
        if self.model_id not in state.models or (free and self.live(self.model_id) is None):
            models = partners(state)
            self._use(next((model.id for model in models if self.live(model.id)), None))

    def choose(self, model_id: str) -> None:
        """Let this model answer from here on."""
        self._use(model_id)
        self._chosen = True
        if (model := self.model) is not None:
            options = replace(self._view.session.chat.options, model=model.unique)
            self._view.do(partial(self._view.opened.set_options, options))

    def resume(self) -> None:
        """Use the model that answered in the chat that was opened, where it is known."""
        chat, state = self._view.session.chat, self._view.state
        if state is not None and chat.turns:
            known = [m for m in partners(state) if m.unique == chat.options.model]
            if known:
                self._use(known[0].id)
                self._chosen = True

    def _use(self, model_id: str | None) -> None:
        if model_id != self.model_id:
            self.model_id = model_id
            self._view.describe()
