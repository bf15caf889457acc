"""A thought ends at its budget, and the grammar of an answer waits for its end."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from modeldeck.core.runtime.text.chat_prompt import ChatPrompt
from modeldeck.core.runtime.text.harmony import HarmonyStream
from modeldeck.core.runtime.text.thought_guide import ENOUGH, ThoughtGuide, guide_for
from modeldeck.core.runtime.text.thoughts import THINK, Splitter, ThoughtStream
from modeldeck.core.schema import GenerateRequest

WHOLE = ("<think>", "</think>", "<|channel|>", "<|message|>", "<|start|>", "<|end|>")


def tokenize(text: str, whole: tuple[str, ...] = WHOLE) -> list[int]:
    """Tokens of a vocabulary of characters, and of some markers."""
    found: list[int] = []
    while text:
        sign = next((sign for sign in whole if text.startswith(sign)), text[0])
        found.append(0x200000 + WHOLE.index(sign) if sign in WHOLE else ord(sign))
        text = text[len(sign) :]
    return found


def piece(token: int) -> bytes:
    return (WHOLE[token - 0x200000] if token >= 0x200000 else chr(token)).encode()


Admits = Callable[[str], bool]


class Model:
    """Writes a text, unless a token is forced or the grammar takes another."""

    def __init__(
        self, splitter: Splitter, *, budget: int | None = None, held: bool = False
    ) -> None:
        self.guide = ThoughtGuide(
            splitter, budget=budget, held=held, tokenize=tokenize, piece=piece
        )
        self.by_grammar = ""
        """What the grammar took."""

    def write(self, text: str, grammar: Admits = lambda _: True) -> str:
        """The answer of a model that wants to write this text."""
        out, wanted = "", tokenize(text)
        while True:
            token, taken = self.guide.forced(), False
            if token is None:
                if not wanted:
                    return out
                token = wanted.pop(0)
                if self.guide.free:
                    token = self.guide.instead(token)
                elif grammar(self.by_grammar + piece(token).decode()):
                    taken = True
                elif token not in self.guide.openings:
                    return out + "!"
            if taken:
                self.by_grammar += piece(token).decode()
            self.guide.took(token, by_grammar=taken)
            out += piece(token).decode()


def test_a_thought_ends_at_its_budget() -> None:
    assert Model(ThoughtStream([THINK]), budget=4).write("<think>abcdefgh") == (
        f"<think>abcd{ENOUGH}</think>efgh"
    )
    assert Model(ThoughtStream([THINK]), budget=9).write("<think>ab</think>c") == (
        "<think>ab</think>c"
    )
    assert Model(ThoughtStream([THINK], THINK), budget=0).write("abc") == "</think>abc"
    assert Model(ThoughtStream([THINK]), budget=0).write("abc") == "abc"


def test_an_end_that_has_begun_is_only_completed() -> None:
    model = Model(ThoughtStream([THINK]), budget=4)
    assert model.write("<think>ab</x") == "<think>ab</think>x"


def yes(text: str) -> bool:
    return "yes".startswith(text)


def test_a_grammar_waits_for_the_end_of_the_thought() -> None:
    model = Model(ThoughtStream([THINK]), held=True)
    assert model.write("<think>no</think>yes", yes) == "<think>no</think>yes"
    assert model.by_grammar == "yes"
    model = Model(ThoughtStream([THINK], THINK), held=True)
    assert model.write("no</think>yesno", yes) == "no</think>yes!"
    model = Model(ThoughtStream([THINK]), held=True)
    assert model.write("yes", yes) == "yes"
    model = Model(ThoughtStream([THINK]), held=True)
    assert model.write("maybe", yes) == "!"


def test_a_grammar_that_describes_the_thought_holds_from_the_beginning() -> None:
    text = "<think>ab</think>c"
    model = Model(ThoughtStream([THINK]), held=True)
    assert model.write(text + "d", text.startswith) == text + "!"
    assert model.by_grammar == text


def test_a_token_cannot_take_the_answer_along_with_the_end_of_the_thought(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = Model(ThoughtStream([THINK], THINK), held=True)
    spilling = 0x10FFFF
    plain = piece

    def with_spill(token: int) -> bytes:
        return b"k>no" if token == spilling else plain(token)

    monkeypatch.setattr(model.guide, "_piece", with_spill)
    for token in tokenize("a</thin", ()):
        model.guide.took(token, by_grammar=False)
    first = model.guide.instead(spilling)
    assert chr(first) == "k"
    model.guide.took(first, by_grammar=False)
    assert model.guide.forced() == ord(">")


def test_a_marker_of_several_tokens_is_completed() -> None:
    guide = ThoughtGuide(
        ThoughtStream([THINK]),
        budget=None,
        held=True,
        tokenize=lambda text: tokenize(text, ()),
        piece=piece,
    )
    assert guide.openings == {ord("<")}
    assert not guide.free
    guide.took(ord("<"), by_grammar=False)
    rest = ""
    while (token := guide.forced()) is not None:
        guide.took(token, by_grammar=False)
        rest += chr(token)
    assert rest == "think>"
    assert guide.free


def test_harmony_goes_on_with_the_answer() -> None:
    thought = "<|channel|>analysis<|message|>abc"
    final = "<|start|>assistant<|channel|>final<|message|>"
    model = Model(HarmonyStream(), held=True)
    assert model.write(f"{thought}<|end|>yes", yes) == f"{thought}<|end|>{final}yes"
    model = Model(HarmonyStream(), budget=3)
    assert model.write(f"{thought}de") == f"{thought}{ENOUGH}<|end|><|start|>assistantde"
    model = Model(HarmonyStream(), held=True)
    assert model.write("yes", yes) == "yes"


def test_only_answers_that_may_think_have_a_guide() -> None:
    request = GenerateRequest(prompt="x", thinking_budget=3)
    thinks = ChatPrompt(text="", may_think=True)
    for prompt, budget, held, guided in (
        (None, 3, True, False),
        (thinks, None, False, False),
        (thinks, 3, False, True),
        (thinks, None, True, True),
        (ChatPrompt(text=""), None, True, False),
        (ChatPrompt(text=""), 3, False, True),
    ):
        asked = request if budget else GenerateRequest(prompt="x")
        found = guide_for(prompt, asked, held=held, tokenize=tokenize, piece=piece)
        assert (found is not None) is guided
