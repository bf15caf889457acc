"""Declarations of commands: the source of keys, footer, go-to line, help and keymap names.

A view lists its commands once, in `COMMANDS`. `bindings` makes Textual's bindings of them; footer,
help and go-to line read the same declarations. Users change a key in the `[keys]` table of the
configuration by the full name of the command:

    [keys]
    "catalog.download" = "D,ctrl+d"
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from textual.binding import Binding

KeyOf = Callable[[str], str]
"""Returns the user's key for a command, by its full name: `catalog.download`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command that a key runs."""

    name: str
    """Unique inside its view; `download` of `catalog` is re-mapped as `catalog.download`."""
    keys: str
    """Textual's names of the keys, separated by commas: `d`, `j,down`, `question_mark`; empty for a
    command that is only called by its label."""
    label: str
    """A word or two for the footer and the go-to line."""
    help: str
    """A sentence for the help screen."""
    footer: bool = True
    """Whether the footer shows it, where there is room; the first ones have room longest."""
    marks: bool = False
    """Whether it acts on the marked rows, where some are marked."""
    action: str = ""
    """Textual's action; empty for the method `action_<name>` of the view."""
    priority: bool = False
    """Whether it takes the key before the focused widget, such as `ctrl+c` in a text field."""
    changes: bool = True
    """Whether it changes something; False only for looking, which `--readonly` allows."""
    anywhere: bool = False
    """Whether the go-to line runs it from other views too, as it acts on no row."""


def bindings(scope: str, commands: Iterable[Command]) -> list[Binding]:
    """The bindings of a view's commands; `scope` is the view's name."""
    return [
        Binding(
            command.keys,
            command.action or command.name,
            command.label,
            show=command.footer,
            tooltip=command.help,
            id=f"{scope}.{command.name}",
            priority=command.priority,
        )
        for command in commands
        if command.keys  # the others have their words only
    ]


def keymap_problems(
    scopes: Mapping[str, Sequence[Command]], keymap: Mapping[str, str]
) -> list[str]:
    """Errors of a user's keymap: unknown commands, and keys that two commands share.

    `scopes` are the commands by the name of their view; those of `app` apply in every view.
    """
    known = {f"{scope}.{c.name}": c.keys for scope, commands in scopes.items() for c in commands}
    problems = [f"[keys]: there is no command {name!r}" for name in keymap if name not in known]
    for scope in scopes:
        holders: dict[str, list[str]] = {}
        for name, keys in {**known, **{n: k for n, k in keymap.items() if n in known}}.items():
            if name.split(".")[0] in {scope, "app"}:
                for key in filter(None, keys.split(",")):
                    holders.setdefault(shown(key), []).append(name)
        for key, names in holders.items():
            if len(names) > 1 and any(name in keymap for name in names):
                problems.append(f"[keys]: {' and '.join(names)} both want {key}")
    return list(dict.fromkeys(problems))


_SHOWN = {
    "question_mark": "?",
    "slash": "/",
    "colon": ":",
    "full_stop": ".",
    "comma": ",",
    "space": "space",
    "enter": "enter",
    "escape": "esc",
    "up": "up",
    "down": "down",
    "left": "left",
    "right": "right",
    "pageup": "pgup",
    "pagedown": "pgdn",
    "minus": "-",
    "at": "@",
    "plus": "+",
    "left_square_bracket": "[",
    "right_square_bracket": "]",
}


def shown(key: str) -> str:
    """A key as it is displayed: `?` for `question_mark`, `ctrl+p` unchanged."""
    return "+".join(_SHOWN.get(part, part) for part in key.strip().split("+"))


def keys_of(command: Command, scope: str, keymap: Mapping[str, str]) -> tuple[str, ...]:
    """The keys of a command as they are displayed, from the user's keymap if it has them."""
    keys = keymap.get(f"{scope}.{command.name}", command.keys)
    return tuple(shown(key) for key in keys.split(",") if key.strip())


def first_key(name: str, scopes: Mapping[str, Sequence[Command]], keymap: Mapping[str, str]) -> str:
    """The key of a command to show in a sentence; `name` is its full name.

    Names the go-to line where the user removed its keys. Raises KeyError for an unknown command.
    """
    scope, _, own = name.partition(".")
    command = {command.name: command for command in scopes[scope]}[own]
    return next(iter(keys_of(command, scope, keymap)), f":{command.label}")


def by_catalog(key_of: KeyOf, command: str, what: str = "a model") -> str:
    """How to get what a screen lacks from the Catalog, with the user's keys, as a sentence.

    >>> by_catalog({"app.catalog": "1", "catalog.load": "l"}.__getitem__, "load")
    'Press 1, choose a model, then l.'
    """
    return f"Press {key_of('app.catalog')}, choose {what}, then {key_of(f'catalog.{command}')}."
