"""What the catalog adds to the go-to line: its models, and commands on one of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from modeldeck.core.schema import Model
from modeldeck.core.schema.state import State
from modeldeck.tui.dashboard.go_to.entries import GoToEntry, Rank
from modeldeck.tui.dashboard.screens.catalog.actions import CatalogActions
from modeldeck.tui.dashboard.screens.catalog.interface import CatalogInterface
from modeldeck.tui.text import records
from modeldeck.tui.text.model_names import plain_name, title

LISTED = {"chat": "try", "load": "load", "unload": "unload"}
"""Words that are listed with every model they apply to, and the catalog's commands for them."""

WORDS = LISTED | {
    "run": "try",
    "start": "load",
    "stop": "unload",
    "kill": "unload",
    "download": "download",
    "pull": "download",
    "delete": "delete",
    "rm": "delete",
    "verify": "verify",
}
"""All words that may stand before a model."""


def short_names(models: Mapping[str, Model]) -> dict[str, str]:
    """A name to write for each model, by its id: `qwen3-8b`; the unique name where it is shared."""
    plain = {key: _slug(plain_name(model)) for key, model in models.items()}
    whole = {key: _slug(title(key, model.unique, models)) for key, model in models.items()}
    shared, twice = Counter(plain.values()), Counter(whole.values())
    return {
        key: plain[key]
        if shared[plain[key]] == 1
        else whole[key]
        if twice[whole[key]] == 1
        else model.unique
        for key, model in models.items()
    }


def _slug(name: str) -> str:
    """A name in one word.

    >>> _slug("Qwen3 8B")
    'qwen3-8b'
    """
    return "-".join(name.casefold().split())


def entries(
    state: State,
    names: Mapping[str, str],
    written: str,
    *,
    run: Callable[[str, Model], object],
    reveal: Callable[[Model], object],
    key_of: Callable[[str], str],
) -> Iterator[GoToEntry]:
    """The models, and the commands that apply to each.

    Args:
        state: The newest State.
        names: A name to write for each model, by its id.
        written: What is written on the line.
        run: Runs a command of the catalog on a model.
        reveal: Puts the cursor on a model.
        key_of: Returns the key of a command of the catalog.
    """
    loaded = {instance.model_id for instance in records.live(state)}
    begun = written.strip().casefold().partition(" ")[0]
    words = LISTED | ({begun: WORDS[begun]} if begun in WORDS else {})
    for word, command in words.items():
        for key, model in state.models.items():
            if _applies(command, model, is_loaded=key in loaded):
                talks = command == "try"
                yield GoToEntry(
                    kind="chat" if talks else "verb",
                    words=f"{word} {names[key]}",
                    sentence=_sentence(command, model, is_loaded=key in loaded),
                    rank=Rank.MODEL,
                    key="" if talks and word == "chat" else key_of(command),
                    command=f"catalog.{command}",
                    run=partial(run, command, model),
                )
    for key, model in state.models.items():
        yield GoToEntry(
            kind="model",
            words=names[key],
            sentence=f"{model.unique}  ({_state(model, is_loaded=key in loaded)})",
            rank=Rank.MODEL,
            run=partial(reveal, model),
        )


def _applies(command: str, model: Model, *, is_loaded: bool) -> bool:
    if command == "unload":
        return is_loaded
    if command == "download":
        return not model.downloaded
    return model.downloaded or is_loaded


def _state(model: Model, *, is_loaded: bool) -> str:
    return "loaded" if is_loaded else "downloaded" if model.downloaded else "not downloaded"


def _sentence(command: str, model: Model, *, is_loaded: bool) -> str:
    name = plain_name(model)
    if command == "try":
        return f"talk to {name}  ({'loaded' if is_loaded else 'loads when you send'})"
    verb = {"delete": "delete the files of", "verify": "check the files of"}.get(command, command)
    return f"{verb} {title(model.id, model.unique, {model.id: model})}"


class CatalogGoTo:
    """What the catalog offers in the go-to line."""

    def __init__(self, view: CatalogInterface, actions: CatalogActions) -> None:
        self._view = view
        self._actions = actions

    def offered(self, written: str) -> Sequence[GoToEntry]:
        """Models, and commands on one of them, for what is written."""
        state = self._view.state
        if state is None:
            return ()
        return tuple(
            entries(
                state,
                short_names(state.models),
                written,
                run=self._run_on,
                reveal=self._go_to_model,
                key_of=self._view.key_of,
            )
        )

    def _go_to_model(self, model: Model) -> None:
        """Bring the catalog to the front, with the cursor on a model."""
        self._view.dashboard.action_show(self._view.NAME)
        self._view.reveal(model.id)

    def _run_on(self, command: str, model: Model) -> None:
        """Run a command on a model, and show its row."""
        if command == "try":
            self._actions.on(model, self._actions.chat)
        else:
            self._go_to_model(model)
            self._actions.on(model, getattr(self._actions, command))
