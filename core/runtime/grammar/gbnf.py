"""Checks grammars of answers, in llama.cpp's GBNF, before llama.cpp gets them. Pure.

llama.cpp follows a grammar in native code that trusts it: deeply nested brackets overflow its
stack, left recursion fills the memory, and a rule that can begin in very many ways blocks the
engine for minutes, without a check of its cancel flag. All of that shows in the grammar, and is
refused here. Some ambiguous grammars only get slow with the text; the engine limits their time.
"""

from __future__ import annotations

from dataclasses import dataclass

from modeldeck.core.errors import InvalidRequest
from modeldeck.core.runtime.grammar.gbnf_reader import Alternatives, GbnfReader, RepeatedItem

LENGTH = 1 << 18
"""Characters of a grammar; those of real clients' schemas have a tenth of it."""
ELEMENTS = 200_000
"""Elements of all rules, with repetitions expanded; each takes several times 8 bytes."""
WAYS = 5_000
"""Ways in which a rule can begin: llama.cpp keeps a stack for each."""


def check_grammar(text: str) -> dict[str, Alternatives]:
    """Return the rules of a grammar that is safe.

    Raises InvalidRequest, with the line and the reason, for another.

    >>> list(check_grammar('root ::= "yes" | "no"'))
    ['root']
    >>> check_grammar('root ::= root "a"')
    Traceback (most recent call last):
    ...
    modeldeck.core.errors.InvalidRequest: The grammar's rule root begins with itself.
    """
    if len(text) > LENGTH:
        raise InvalidRequest(f"The grammar has {len(text)} characters; the most are {LENGTH}.")
    rules = GbnfReader(text).rules()
    if "root" not in rules:
        raise InvalidRequest("The grammar has no rule named root.")
    for choice in rules.values():
        _check_names(choice, rules)
    if (total := sum(_elements(choice) for choice in rules.values())) > ELEMENTS:
        raise InvalidRequest(
            f"The grammar has {total} elements once written out; the most are {ELEMENTS}.",
            "Repeat less.",
        )
    _StartCounter(rules).check()
    return rules


def _check_names(choice: Alternatives, rules: dict[str, Alternatives]) -> None:
    for sequence in choice.sequences:
        for item in sequence:
            if isinstance(item.content, Alternatives):
                _check_names(item.content, rules)
            elif item.content is not None and item.content not in rules:
                raise InvalidRequest(f"The grammar has no rule named {item.content}.")


def _elements(choice: Alternatives) -> int:
    """About how many elements llama.cpp makes of it."""
    total = 1
    for sequence in choice.sequences:
        total += 1
        for item in sequence:
            inner = _elements(item.content) if isinstance(item.content, Alternatives) else 0
            optional = 1 if item.most is None else item.most - item.least
            total += inner + item.elements * max(1, item.least) + optional * (item.elements + 3)
    return total


class _StartCounter:
    """Counts the ways in which each rule can begin, and refuses left recursion."""

    def __init__(self, rules: dict[str, Alternatives]) -> None:
        self._rules = rules
        self._empty = _nullable(rules)
        self._ways: dict[str, int] = {}

    def check(self) -> None:
        """Raise InvalidRequest for a rule that begins with itself, or in too many ways.

        Uses an explicit stack, since chains of rules may be long.
        """
        for name in self._rules:
            entered: set[str] = set()
            todo = [name]
            while todo:
                current = todo[-1]
                if current in self._ways or current in entered:
                    todo.pop()
                    if current not in self._ways:
                        self._finish(current)
                        entered.discard(current)
                    continue
                entered.add(current)
                first = self._firsts(self._rules[current])
                if again := next((n for n in first if n in entered), None):
                    raise InvalidRequest(f"The grammar's rule {again} begins with itself.")
                todo += [n for n in first if n not in self._ways]

    def _finish(self, name: str) -> None:
        self._ways[name] = ways = self._count(self._rules[name])
        if ways > WAYS:
            raise InvalidRequest(
                f"The grammar's rule {name} can begin in {ways} ways; the most are {WAYS}.",
                "Make fewer of its first parts optional.",
            )

    def _firsts(self, choice: Alternatives) -> set[str]:
        """Names of the rules that it can begin with."""
        found: set[str] = set()
        for sequence in choice.sequences:
            for item in sequence:
                if isinstance(item.content, Alternatives):
                    found |= self._firsts(item.content)
                elif item.content is not None:
                    found.add(item.content)
                if not self._may_be_empty(item):
                    break
        return found

    def _count(self, choice: Alternatives) -> int:
        total = 0
        for sequence in choice.sequences:
            for item in sequence:
                ways = 1
                if isinstance(item.content, Alternatives):
                    ways = self._count(item.content)
                elif item.content is not None:
                    ways = self._ways[item.content]
                if self._content_may_be_empty(item) and (item.most is None or item.most > 1):
                    if item.most is None:
                        raise InvalidRequest(
                            "The grammar repeats without limit what may be empty.",
                            "Let what is repeated have at least one character.",
                        )
                    ways *= item.most
                total += ways
                if not self._may_be_empty(item):
                    break
            else:
                total += 1
        return total

    def _content_may_be_empty(self, item: RepeatedItem) -> bool:
        """Whether the content of an item can be empty."""
        return _key(item.content) in self._empty if item.content is not None else item.elements == 0

    def _may_be_empty(self, item: RepeatedItem) -> bool:
        return item.least == 0 or self._content_may_be_empty(item)


def _key(content: str | Alternatives) -> str | int:
    """Key of a rule, its name, or of a group, its identity."""
    return id(content) if isinstance(content, Alternatives) else content


def _nullable(rules: dict[str, Alternatives]) -> set[str | int]:
    """Keys of the rules and groups that can be empty.

    Linear in the size of the grammar: each sequence counts its items that are not known to be
    empty, and is visited again only when one of them becomes so.
    """
    empty: set[str | int] = set()
    todo: list[str | int] = []
    waiting: dict[str | int, list[_Sequence]] = {}

    def enter(choice: Alternatives, owner: str | int) -> None:
        for items in choice.sequences:
            sequence = _Sequence(owner)
            for item in items:
                if isinstance(item.content, Alternatives):
                    enter(item.content, _key(item.content))
                if item.least == 0 or (item.content is None and item.elements == 0):
                    continue
                sequence.left += 1
                if item.content is not None:
                    waiting.setdefault(_key(item.content), []).append(sequence)
            if not sequence.left:
                todo.append(owner)

    for name, choice in rules.items():
        enter(choice, name)
    while todo:
        key = todo.pop()
        if key in empty:
            continue
        empty.add(key)
        for sequence in waiting.get(key, ()):
            sequence.left -= 1
            if not sequence.left:
                todo.append(sequence.owner)
    return empty


@dataclass(slots=True)
class _Sequence:
    """A sequence of the rule or group with this key."""

    owner: str | int
    left: int = 0
    """Items that are not known to be empty; characters never are."""
