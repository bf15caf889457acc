"""The position of an answer in its grammar: what is chosen, when it ends, and what is too much."""

import random

import pytest
from llguidance import LLTokenizer
from llguidance._tokenizer import TokenizerWrapper

from modeldeck.core.errors import EngineMissing, InvalidRequest
from modeldeck.core.runtime.grammar import matcher as matcher_module
from modeldeck.core.runtime.grammar.answer_grammar import (
    AnswerGrammar,
    of_expression,
    of_gbnf,
    of_schema,
)
from modeldeck.core.runtime.grammar.matcher import SLICES, GrammarVocabulary
from tests.support.byte_vocabulary import END, SIGN, VOCABULARY, Bytes


class Words(Bytes):
    """Bytes, and tokens of several: in each slice, in none, and none of all that may come."""

    tokens = (
        *Bytes.tokens,
        *(b"word", b" word", b"Words", b'a", b', b'b"}', b"ne.", b"\n- ", b"\x01\x02"),
        *("é, 中".encode(), "中".encode()[:2], b"a" * 31, b"b" * 30),
    )


def of_words(slices: list[str]) -> GrammarVocabulary:
    """A vocabulary with these slices."""
    made = LLTokenizer(TokenizerWrapper(Words()), slices=slices)
    return GrammarVocabulary(lambda _guide: made)


def admitted(mask: bytes) -> set[int]:
    """The tokens whose bits are set."""
    return {n for n in range(len(mask) * 8) if mask[n >> 3] >> (n & 7) & 1}


def refused(_mask: bytes) -> int:
    """For a choice that must be admitted at once."""
    raise AssertionError("it was not admitted")


def test_a_free_choice_counts_where_it_is_admitted_and_else_one_of_those_that_are() -> None:
    matcher = VOCABULARY.matcher(of_expression("a[bc]?"))
    seen: list[set[int]] = []

    def held(mask: bytes) -> int:
        seen.append(admitted(mask))
        return min(seen[-1])

    assert matcher.choose(lambda: ord("a"), refused) == ord("a")
    assert matcher.took
    assert matcher.choose(lambda: ord("x"), held) == ord("b")
    assert seen == [{ord("b"), ord("c"), END}]
    # Nothing can follow: the answer is complete.
    assert matcher.choose(lambda: ord("x"), refused) is None
    assert not matcher.took


def test_an_answer_ends_by_a_token_only_where_the_grammar_may_end() -> None:
    matcher = VOCABULARY.matcher(of_expression("ab+"))
    for token, chosen in ((END, ord("a")), (END, ord("b")), (ord("b"), ord("b")), (END, END)):
        assert matcher.choose(lambda token=token: token, lambda mask: min(admitted(mask))) == chosen  # type: ignore[misc]
    assert not matcher.took
    assert matcher.choose(lambda: ord("b"), refused) is None


def test_tokens_beside_the_grammar_do_not_move_it() -> None:
    matcher = VOCABULARY.matcher(of_expression("ab"))
    assert matcher.choose(lambda: SIGN, refused, besides={SIGN}) == SIGN
    assert not matcher.took
    assert matcher.choose(lambda: SIGN, lambda mask: min(admitted(mask))) == ord("a")
    # A token that the vocabulary does not have: some models have more logits than tokens.
    assert matcher.choose(lambda: 10**6, lambda mask: min(admitted(mask))) == ord("b")


def test_matchers_of_one_vocabulary_and_one_grammar_do_not_know_each_other() -> None:
    grammar = of_schema({"enum": ["abc", "xyz"]})
    one, two = VOCABULARY.matcher(grammar), VOCABULARY.matcher(grammar)
    for first, second in zip('"abc"', '"xyz"', strict=True):
        assert one.choose(lambda first=first: ord(first), refused) == ord(first)  # type: ignore[misc]
        assert two.choose(lambda second=second: ord(second), refused) == ord(second)  # type: ignore[misc]
    assert one.choose(lambda: END, refused) is None
    assert two.choose(lambda: END, refused) is None


def test_the_first_form_that_is_sound_counts() -> None:
    forms = ('start: "a', 'start: %json {"not": {}}', 'start: "a"', 'start: "b"')
    matcher = VOCABULARY.matcher(AnswerGrammar(forms, "grammar"))
    assert matcher.choose(lambda: ord("a"), refused) == ord("a")
    with pytest.raises(InvalidRequest, match="No answer can be held to the grammar"):
        VOCABULARY.matcher(AnswerGrammar(forms[:2], "grammar"))


@pytest.mark.parametrize(
    ("grammar", "words"),
    [
        (of_gbnf('root ::= [z-a] "b"'), "The grammar admits no answer"),
        (of_expression("[^\\x00-\\U0010ffff]"), "The regular expression admits no answer"),
        (of_schema({"const": 1, "enum": [2]}), "No answer can be held to the JSON schema"),
    ],
)
def test_what_has_no_answer_is_refused_before_the_first_token(
    grammar: AnswerGrammar, words: str
) -> None:
    with pytest.raises(InvalidRequest, match=words):
        VOCABULARY.matcher(grammar)


def test_an_answer_that_cannot_go_on_ends() -> None:
    matcher = VOCABULARY.matcher(of_gbnf('root ::= "a" [z-a] "b" | "c" "d"'))
    assert matcher.choose(lambda: ord("c"), refused) == ord("c")
    matcher = VOCABULARY.matcher(of_gbnf('root ::= "a"{3}'))
    for _ in range(3):
        assert matcher.choose(lambda: ord("b"), lambda mask: min(admitted(mask))) == ord("a")
    assert matcher.choose(lambda: ord("b"), refused) is None


def go_on(grammar: AnswerGrammar) -> None:
    """Follow a grammar by one and the same letter."""
    matcher = VOCABULARY.matcher(grammar)
    while True:
        matcher.choose(lambda: ord("a"), refused)


def test_a_grammar_that_takes_too_much_is_given_up_in_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # llguidance looks for what is certain to follow, which here never ends.
    with pytest.raises(InvalidRequest, match=r"The grammar cannot be followed: .*limit"):
        go_on(of_gbnf('root ::= "a" root'))
    # Each "a" may be read in ever more ways, all of which are kept.
    ambiguous = of_gbnf('root ::= s\ns ::= "a" s s s | "a" s s | "a" | "a" s "b"')
    monkeypatch.setattr(matcher_module, "GRAMMAR_S", 0.05)
    monkeypatch.setattr(matcher_module, "TOKEN_S", 0.0001)
    with pytest.raises(InvalidRequest, match=r"The grammar is too ambiguous: it takes over 0.05 s"):
        go_on(ambiguous)


@pytest.mark.parametrize(
    ("grammar", "text"),
    [
        (of_schema({"properties": {"n": {"type": "string"}}, "required": ["n"]}), '{"n": "a, b"}'),
        (of_expression("[a-z]+( [a-zA-Z]+)*[.]"), "some Words."),
        (of_gbnf('root ::= "- " [^\n]+ "\n" root?'), "- a\n- b\n"),
    ],
)
def test_slices_change_nothing_of_what_is_admitted(grammar: AnswerGrammar, text: str) -> None:
    sliced, plain = (of_words(slices).matcher(grammar) for slices in (SLICES, []))
    for byte in text.encode():
        found = [m._matcher.compute_bitmask() for m in (sliced, plain)]
        assert found[0] == found[1]
        assert all(m._matcher.consume_token(byte) for m in (sliced, plain))


def test_the_choice_by_chance_is_the_same_for_the_same_seed() -> None:
    grammar = of_expression("[a-z]{20}")

    def told(seed: int) -> list[int]:
        chance, matcher = random.Random(seed), VOCABULARY.matcher(grammar)
        return [
            matcher.choose(lambda: SIGN, lambda mask: chance.choice(sorted(admitted(mask)))) or 0
            for _ in range(20)
        ]

    assert told(1) == told(1)
    assert told(1) != told(2)


def test_without_llguidance_a_grammar_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "llguidance", None)
    with pytest.raises(EngineMissing, match=r"llguidance.*not installed.*llguidance>=1"):
        GrammarVocabulary(lambda guide: guide).matcher(of_gbnf('root ::= "a"'))
