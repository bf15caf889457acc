"""The filter language: what is a word, what a test, and what each of them lets through."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from modeldeck.tui.text.filter_language import BINARY, DECIMAL, Language, Measure, sized, spans


class Thing(NamedTuple):
    name: str
    params: float | None = None
    size: float | None = None
    ctx: float | None = None
    loaded: bool = False
    quant: str = ""


THINGS = (
    Thing("qwen3 0.6b", 0.752, 639e6, 40960, True, "Q8_0"),
    Thing("qwen3 8b", 8.2, 5.0e9, 40960, False, "Q4_K_M"),
    Thing("gemma 27b mlx", 27.4, 16e9, 131072, False, "4bit"),
    Thing("unknown"),
)

LANGUAGE: Language[Thing] = Language(
    text=lambda thing: thing.name,
    measures={
        "params": Measure(lambda thing: thing.params, {"": 1, "m": 1e-3}),
        "size": Measure(lambda thing: thing.size, sized(DECIMAL, "g")),
        "ctx": Measure(lambda thing: thing.ctx, BINARY),
        "tok/s": Measure(lambda thing: None),
    },
    flags={"loaded": lambda thing: thing.loaded},
    fields={"quant": lambda thing: thing.quant},
    offers=("params<", "size<", "loaded", "quant:"),
)


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("", "0123"),
        ("  ", "0123"),
        ("qwen3", "01"),
        ("QWEN3 8", "1"),
        ("8b qwen3", "1"),
        ("params<8", "0"),
        ("params<=8.2", "01"),
        ("params>8", "12"),
        ("params>=8.2", "12"),
        ("params=8", "1"),
        ("params=0.75", "0"),
        ("params<800m", "0"),
        ("size<5G", "0"),
        ("size<5.1", "01"),
        ("size<700mb", "0"),
        ("ctx>40k", "2"),
        ("ctx>=40k", "012"),
        ("ctx>=40000", "012"),
        ("tok/s>0", ""),
        ("loaded", "0"),
        ("-loaded", "123"),
        ("quant:q4", "1"),
        ("quant:4", "12"),
        ("-quant:q8_0 -mlx", "13"),
        ("-params<8", "123"),
        ("qwen3 -8b", "0"),
        ("params<10 -loaded", "1"),
        ("-", ""),
        # still being written: nothing goes away for it
        ("params<", "0123"),
        ("params>= qwen3", "01"),
        ("quant:", "0123"),
        ("-quant:", "0123"),
        # no tests of this language: words
        ("foo:bar", ""),
        ("params<x", ""),
        ("params<8q", ""),
        ("fits", ""),
        ("<8", ""),
        ("params<<8", ""),
    ],
)
def test_what_passes(text: str, places: str) -> None:
    found = LANGUAGE.parse(text)
    assert "".join(str(i) for i, thing in enumerate(THINGS) if found.matches(thing)) == places


def test_words_are_those_that_must_be_there() -> None:
    found = LANGUAGE.parse("Qwen3 params<8 -mlx loaded foo:bar")
    assert found.words == ("qwen3", "foo:bar")
    assert found.passes(THINGS[0])
    assert not found.matches(THINGS[0])


@pytest.mark.parametrize(
    ("text", "offers", "completed"),
    [
        ("", ("params<", "size<", "loaded", "quant:"), "params<"),
        ("p", ("params<",), "params<"),
        ("qwen l", ("loaded",), "qwen loaded "),
        ("-q", ("quant:",), "-quant:"),
        ("loaded ", ("params<", "size<", "quant:"), "loaded params<"),
        ("loaded", (), "loaded"),
        ("qwen", (), "qwen"),
    ],
)
def test_tests_are_offered_and_completed(
    text: str, offers: tuple[str, ...], completed: str
) -> None:
    assert LANGUAGE.offered(text) == offers
    assert LANGUAGE.completed(text) == completed


@pytest.mark.parametrize(
    ("text", "words", "places"),
    [
        ("Qwen3 Qwen", ("qwen",), [(0, 4), (6, 10)]),
        ("Gemma", (), []),
        ("Gemma", ("",), []),
        ("STRASSE ẞ", ("strasse",), [(0, 7)]),
        ("aaa", ("aa",), [(0, 2)]),
    ],
)
def test_places_of_words(text: str, words: tuple[str, ...], places: list[tuple[int, int]]) -> None:
    assert spans(text, words) == places
