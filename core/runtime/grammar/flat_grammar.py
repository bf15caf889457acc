"""The rules of a GBNF without groups: each is alternatives of rules and classes. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from modeldeck.core.runtime.grammar.gbnf_reader import Alternatives, Characters, RepeatedItem

START = "start"


@dataclass(frozen=True, slots=True)
class Item:
    """A rule or class in a sequence, and how often it may come."""

    symbol: str
    least: int = 1
    most: int | None = 1

    @property
    def is_endless(self) -> bool:
        """Whether any number may come, from none or from one on."""
        return self.most is None and self.least <= 1


@dataclass(frozen=True, slots=True)
class FlatGrammar:
    """Rules with their alternatives, of which `START` is what the whole answer is."""

    rules: dict[str, list[list[Item]]] = field(default_factory=dict)
    classes: dict[str, Characters] = field(default_factory=dict)


def flatten(rules: Mapping[str, Alternatives]) -> FlatGrammar:
    """Make a rule of each group, as llguidance limits nested brackets. Names are new and small."""
    flattener = _Flattener()
    for name, choice in {"root": rules["root"], **rules}.items():
        flattener.write(flattener.name(name), choice)
    return FlatGrammar(flattener.rules, {name: c for c, name in flattener.classes.items()})


class _Flattener:
    """Writes rule after rule, and those of groups in between."""

    def __init__(self) -> None:
        self.rules: dict[str, list[list[Item]]] = {}
        self.classes: dict[Characters, str] = {}
        self._names = {"root": START}

    def name(self, name: str) -> str:
        """The new name of a rule: llguidance's have small letters and no dash."""
        return self._names.setdefault(name, f"r{len(self._names)}")

    def write(self, name: str, choice: Alternatives) -> None:
        """Write a rule, and those of the groups in it."""
        found = self.rules[name] = []
        found += (
            [item for repeated in sequence for item in self._items(repeated)]
            for sequence in choice.sequences
        )

    def _items(self, repeated: RepeatedItem) -> list[Item]:
        if isinstance(repeated.content, str):
            items = [Item(self.name(repeated.content))]
        elif repeated.content is not None:
            items = [Item(self._group())]
            self.write(items[0].symbol, repeated.content)
        else:
            items = [Item(self._class(characters)) for characters in repeated.characters]
        if (repeated.least, repeated.most) == (1, 1):
            return items
        if len(items) != 1:
            group = self._group()
            self.rules[group] = [items]
            items = [Item(group)]
        return [Item(items[0].symbol, repeated.least, repeated.most)]

    def _group(self) -> str:
        name = f"g{len(self.rules)}"
        self.rules[name] = []
        return name

    def _class(self, characters: Characters) -> str:
        return self.classes.setdefault(characters, f"c{len(self.classes)}")
