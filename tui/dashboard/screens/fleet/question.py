"""Asks machines how they would serve a model, and keeps what they answered."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping

from modeldeck.core.client.client import Client
from modeldeck.core.errors import CoreUnreachable, DeckError, NotFound
from modeldeck.core.schema import LoadOptions
from modeldeck.core.schema.state import State
from modeldeck.tui.dashboard.screens.fleet import ranking
from modeldeck.tui.dashboard.screens.fleet.ranking import ServingAnswer, WantedModel
from modeldeck.tui.remote.core_link import CoreLink

ANSWER_S = 10.0
"""Seconds that an answer stays, so that places do not change while one reads them."""


class ServingQuestion:
    """Which machine would serve a model, with the answers so far, by the index of the machine."""

    def __init__(self, wanted: WantedModel) -> None:
        self.wanted = wanted
        self._answers: dict[int, ServingAnswer] = {}
        self._asked_at: dict[int, float] = {}
        """When each machine was asked last, by `time.monotonic`."""
        self._took_s: dict[int, float] = {}
        self._asking: set[int] = set()
        self._unique = ""
        """The unique name, as a machine has told it; empty before."""

    def claim(self, at: int) -> bool:
        """Whether a machine is to be asked now, for the first time or again.

        Then `ask` must follow; until that has ended the machine is not claimed again.
        """
        now, asked_at = time.monotonic(), self._asked_at.get(at)
        is_old = asked_at is None or now - asked_at >= ANSWER_S
        if not is_old or at in self._asking:
            return False
        self._asking.add(at)
        self._asked_at[at] = now
        return True

    def answers(self, live: Collection[int]) -> Mapping[int, ServingAnswer]:
        """The answers of these machines; those of others count no more."""
        return {at: answer for at, answer in self._answers.items() if at in live}

    def took_s(self, live: Collection[int]) -> float | None:
        """Seconds that the slowest of these machines took for its last answer."""
        return max((took for at, took in self._took_s.items() if at in live), default=None)

    async def ask(self, at: int, link: CoreLink) -> None:
        """Ask a machine that was claimed; an error that it answers with is an answer too."""
        started = time.monotonic()
        try:
            if link.latest is None:
                raise CoreUnreachable("Nothing is known of it yet.")
            answer = await self._answer(link.client, link.latest)
        except CoreUnreachable:  # its row shows that; it is asked when it is back
            for known in (self._answers, self._asked_at, self._took_s):
                known.pop(at, None)
            return
        except DeckError as error:
            answer = ranking.refused(error)
        finally:
            self._asking.discard(at)
        self._answers[at], self._took_s[at] = answer, time.monotonic() - started
        if answer.unique and not self._unique:
            self._unique = answer.unique
            unknown = [other for other, known in self._answers.items() if not known.unique]
            for other in unknown:
                self._asked_at.pop(other, None)

    async def _answer(self, client: Client, state: State) -> ServingAnswer:
        """What one machine answers. Raises DeckError.

        A short name that it does not know may be known to another: the unique name is asked then.
        """
        try:
            return await _answer(client, state, self.wanted.name, self.wanted.context_length)
        except NotFound:
            if not self._unique:
                raise
            return await _answer(client, state, self._unique, self.wanted.context_length)


async def _answer(client: Client, state: State, name: str, length: int | None) -> ServingAnswer:
    """How a machine would serve a model, which need not be in its list. Raises DeckError."""
    options = LoadOptions(context_length=length)
    plan = await client.plan_load(name, options, make_room=True)
    instances = [each for each in state.instances.values() if each.state.live]
    instance = ranking.serving_instance(instances, plan.model_id, length)
    if instance is not None:
        return ranking.loaded(instance)
    if any(each.model_id == plan.model_id for each in instances):
        plan = await client.plan_load(name, options, make_room=True, reload=True)
    return ranking.planned(state.models.get(plan.model_id), plan, state.disk.free_bytes)
