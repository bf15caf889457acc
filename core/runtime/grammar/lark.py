"""Translates checked GBNF grammars into llguidance's dialect of Lark. Pure.

llguidance splits a text into lexemes before it parses, and takes the longest at each place; GBNF
has no lexemes. So a grammar is one lexeme where no rule is within itself; else each character is
its own, but for those that `character_runs` finds. What of 150,000 words may follow a lexeme is
found in a tenth of the time that it takes with single characters. In any case the grammar admits
the same texts as in llama.cpp; llguidance's own converter joins characters to longer lexemes, with
which `[a-z]+ "x"` could never end. Syntax: llguidance's docs/syntax.md; its regular expressions are
those of Rust's regex-syntax.
"""

from __future__ import annotations

from collections.abc import Mapping

from modeldeck.core.runtime.grammar.character_runs import find_runs
from modeldeck.core.runtime.grammar.flat_grammar import START, FlatGrammar, Item, flatten
from modeldeck.core.runtime.grammar.gbnf_reader import Alternatives, Characters

EXPRESSION_LENGTH = 1 << 14
"""Characters of a grammar that is written as one expression."""
EXPRESSION_DEPTH = 100
"""Rules within rules in it."""

_MARKS = {(1, 1): "", (0, None): "*", (1, None): "+", (0, 1): "?"}


def lark_of(rules: Mapping[str, Alternatives]) -> tuple[str, ...]:
    r"""Translate the rules of a grammar into llguidance's Lark.

    Returns the forms that are to be tried in turn: as one lexeme where it can be, by characters.

    >>> from modeldeck.core.runtime.grammar.gbnf import check_grammar
    >>> for form in lark_of(check_grammar('root ::= "a"* [bc] | root2\nroot2 ::= .')):
    ...     print(form)
    start: /(?:[\x{61}]*[\x{62}-\x{63}]|(?:[\x{1}-\x{d7ff}\x{e000}-\x{10ffff}]))/
    start: c0* c1 | r1
    r1: c2
    c0: /[\x{61}]/
    c1: /[\x{62}-\x{63}]/
    c2: /[\x{1}-\x{d7ff}\x{e000}-\x{10ffff}]/
    <BLANKLINE>
    """
    grammar = flatten(rules)
    try:
        expression = _ExpressionWriter(grammar).rule(START)
    except _NoExpression:
        return (_by_characters(grammar),)
    return f"start: /{expression}/", _by_characters(grammar)


def _by_characters(grammar: FlatGrammar) -> str:
    """The grammar with a lexeme for each character, or run of them."""
    runs = find_runs(grammar)
    read_at_once = set()
    written = []
    for name, alternatives in grammar.rules.items():
        found = []
        for number, items in enumerate(alternatives):
            words = [f"{item.symbol}{_mark(item)}" for item in items]
            for place in runs.get((name, number), ()):
                item = items[place]
                read_at_once.add(item.symbol)
                words[place] = f"{item.symbol}s{'' if item.least else '?'}"
            found.append(" ".join(words) or '""')
        written.append(f"{name}: {' | '.join(found)}\n")
    # A small name lets no other lexeme be made of it.
    for name, characters in grammar.classes.items():
        written.append(f"{name}: /{_expression(characters)}/\n")
        if name in read_at_once:
            written.append(f"{name}s: /{_expression(characters)}+/\n")
    return "".join(written)


class _NoExpression(Exception):
    """A rule is within itself, or the expression is too long."""


class _ExpressionWriter:
    """Writes rules as regular expressions, with the rules in them written out."""

    def __init__(self, grammar: FlatGrammar) -> None:
        self._rules = grammar.rules
        self._known = {name: _expression(found) for name, found in grammar.classes.items()}
        self._open: set[str] = set()

    def rule(self, name: str) -> str:
        """The expression of a rule or class. Raises _NoExpression."""
        if name in self._known:
            return self._known[name]
        if name in self._open or len(self._open) == EXPRESSION_DEPTH:
            raise _NoExpression
        self._open.add(name)
        found: list[str] = []
        length = 0
        for items in self._rules[name]:
            found.append("|" if found else "")
            for item in items:
                found.append(self.rule(item.symbol) + _mark(item))
                length += len(found[-1])
                if length > EXPRESSION_LENGTH:
                    raise _NoExpression
        self._open.remove(name)
        self._known[name] = f"(?:{''.join(found)})"
        return self._known[name]


def _mark(item: Item) -> str:
    """How often an item may come, in Lark and in expressions."""
    simple = _MARKS.get((item.least, item.most))
    if simple is not None:
        return simple
    if item.least == item.most:
        return f"{{{item.least}}}"
    return f"{{{item.least},{'' if item.most is None else item.most}}}"


def _expression(characters: Characters) -> str:
    """A class as an expression, which also one without characters has."""
    content = "".join(
        rf"\x{{{low:x}}}" if low == high else rf"\x{{{low:x}}}-\x{{{high:x}}}"
        for low, high in characters
    )
    return f"[{content}]" if content else r"[^\x{0}-\x{10ffff}]"
