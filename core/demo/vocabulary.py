"""The words of the tiny models: what they answer, and the tokenizer that spells it.

The tokenizer is a byte-level BPE ("gpt2" for llama.cpp, "ByteLevel" for Hugging Face tokenizers)
with all 256 bytes as tokens, so that any prompt can be tokenized, by both engines in the same way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from string import ascii_lowercase

from modeldeck.core.runtime.text.text_streams import byte_characters

BEGIN, END, ASSISTANT = "<|begin|>", "<|end|>", "<|assistant|>"
SPECIALS = (BEGIN, END, "<|system|>", "<|user|>", ASSISTANT, "<|tool|>")

CHAT_TEMPLATE = (
    "{% if tools %}{{ '<|system|>' + (tools | tojson) + '<|end|>' }}{% endif %}"
    "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] }}"
    "{% for call in m['tool_calls'] %}"
    "{{ '<tool_call>' + (call['function'] | tojson) + '</tool_call>' }}"
    "{% endfor %}{{ '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
"""Jinja, as both engines read it."""

GAP = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")
"""Tokens before the two parts of a text with a gap, and before what fills it; llama.cpp knows them
by these names."""

OPEN_THOUGHT, CLOSE_THOUGHT = "<think>", "</think>"
THINKING_TEMPLATE = CHAT_TEMPLATE.replace(
    "+ m['content'] }}",
    "}}{% if m['reasoning_content'] and m['tool_calls'] %}"
    "{{ '<think>' + m['reasoning_content'] + '</think>' }}{% endif %}{{ m['content'] }}",
).replace(
    "{{ '<|assistant|>' }}",
    "{{ '<|assistant|>' }}{% if enable_thinking is defined and not enable_thinking %}"
    "{{ '<think></think>' }}{% endif %}",
)
"""Of a model that thinks: it can be told not to, as Qwen3's, and takes back what it thought before
a call."""
THOUGHT = ("Let", " me", " see", " what", " they", " want")
"""What a model that thinks always thinks, cut as it is tokenized."""


COLOURS = ("red", "green", "blue")
SQUARE, SQUARES = "square", "squares"
MOST_SQUARES = 9
"""What a model that sees tells of a picture: a digit, a colour, and one of these words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """One answer. No piece of it occurs twice, in this answer or in another."""

    keywords: tuple[str, ...]
    """The words in a conversation that select it; the latest one decides."""
    pieces: tuple[str, ...]
    """The answer, cut as it is tokenized; a piece that is not ASCII is one token per byte."""
    ends: bool = True
    """Whether the end token follows; else the answer starts over, for ever."""


def _letters(first: str) -> tuple[str, ...]:
    return tuple(f" {a}{b}" for a in first for b in ascii_lowercase)


CHAINS: dict[str, Chain] = {
    "default": Chain(
        keywords=(),
        pieces=(
            *("Hello", "!", " I", " am", " a", " tiny", " test", " model", ","),
            *(" and", " this", " answer", " is", " always", " the", " same", "."),
        ),
    ),
    "count": Chain(
        keywords=("count",),
        pieces=(
            *("One", " two", " three", " four", " five", " six"),
            *(" seven", " eight", " nine", " ten", ";"),
        ),
    ),
    "json": Chain(keywords=("json",), pieces=('{"', "answer", '":', ' "', "yes", '"}')),
    "llama": Chain(keywords=("llama",), pieces=("Bytes", ":", "\u2192", "\U0001f999")),
    "long": Chain(keywords=("long",), pieces=("Long", *_letters("xyz"), *_letters("jkq"))),
    "loop": Chain(keywords=("loop",), pieces=("Tick", " tock"), ends=False),
    "think": Chain(keywords=("think",), pieces=("<think>", "hmm", "</think>", "done")),
    "rain": Chain(
        keywords=("rain",),
        pieces=(
            *("<tool_call>", '{"name": "weather"', ', "arguments": '),
            *('{"city": "Paris"', "}}", "</tool_call>"),
        ),
    ),
}
"""`llama` ends in characters of several bytes each, `long` has 157 tokens, `loop` never ends.
`rain` is a call of a tool `weather`, as models of the Hermes and Qwen families write it. A model
that thinks knows no `think`: it thinks before each answer."""

TOPICS = tuple(CHAINS)


def expected(topic: str) -> str:
    """The whole greedy answer about `topic`; for `loop`, one round of it.

    >>> expected("count")
    'One two three four five six seven eight nine ten;'
    """
    return "".join(CHAINS[topic].pieces)


def seen(colour: str, count: int) -> str:
    """The whole greedy answer of a model that sees pictures with `count` squares of a colour.

    >>> seen("red", 3), seen("blue", 1), seen("green", 0)
    ('3 red squares', '1 blue square', '0 squares')
    """
    noun = SQUARE if count == 1 else SQUARES
    return f"{count} {colour} {noun}" if count else f"0 {noun}"


def chains(*, thinks: bool = False) -> dict[str, Chain]:
    """The answers of a model, by topic."""
    return {topic: c for topic, c in CHAINS.items() if not (thinks and topic == "think")}


def forms(keyword: str) -> tuple[str, ...]:
    """The spellings of a keyword that are one token each."""
    return keyword, f" {keyword}", keyword.capitalize(), f" {keyword.capitalize()}"


_BYTE_CHARACTERS = byte_characters()


def _spell(text: str) -> str:
    return "".join(_BYTE_CHARACTERS[byte] for byte in text.encode())


@dataclass(slots=True)
class Vocabulary:
    """Tokens in the order of their ids: bytes, words, fillers, specials."""

    extra_tokens: int = 0
    """Fillers that no text uses: they make a vocabulary of any size."""
    thinks: bool = False
    """Whether it has the words of a thought, and its markers."""
    fills: bool = False
    """Whether it has the tokens around a gap to fill."""
    sees: bool = False
    """Whether it has the words for what it sees."""
    markers: tuple[str, ...] = ()
    """Special tokens besides the usual ones."""
    tokens: list[str] = field(default_factory=lambda: list(_BYTE_CHARACTERS))
    merges: list[tuple[str, str]] = field(default_factory=list)
    index: dict[str, int] = field(default_factory=dict)
    words: int = 0
    """How many ids bytes and words take."""
    first_special: int = 0

    def __post_init__(self) -> None:
        self.index = {token: i for i, token in enumerate(self.tokens)}
        for word in _words(self.thinks, self.sees):
            self._learn(_spell(word))
        self.words = len(self.tokens)
        for number in range(self.extra_tokens):
            self._add(f"tok{number:07d}")
        self.first_special = len(self.tokens)
        for special in self.specials:
            self._add(special)

    @property
    def specials(self) -> tuple[str, ...]:
        """Tokens that a text only has by their name."""
        return (*SPECIALS, *(GAP if self.fills else ()), *self.visible, *self.markers)

    @property
    def visible(self) -> tuple[str, ...]:
        """Of `specials`, those that are text in an answer."""
        return (OPEN_THOUGHT, CLOSE_THOUGHT) if self.thinks else ()

    def _add(self, token: str) -> None:
        self.index[token] = len(self.tokens)
        self.tokens.append(token)

    def _learn(self, spelled: str) -> None:
        """Merges that join `spelled` from the left, one byte at a time."""
        for end in range(1, len(spelled)):
            if spelled[: end + 1] not in self.index:
                self.merges.append((spelled[:end], spelled[end]))
                self._add(spelled[: end + 1])

    def ids(self, piece: str) -> list[int]:
        """The token ids of a piece of an answer, of a keyword's form, or of a special token."""
        if piece in self.specials:
            return [self.index[piece]]
        spelled = _spell(piece)
        whole = self.index.get(spelled)
        return [self.index[c] for c in spelled] if whole is None else [whole]


def _words(thinks: bool, sees: bool) -> Iterator[str]:
    """What becomes a token of its own."""
    if thinks:
        yield from THOUGHT
    if sees:
        yield from (f" {word}" for word in (*COLOURS, SQUARE, SQUARES))
    for chain in chains(thinks=thinks).values():
        yield from (piece for piece in chain.pieces if piece.isascii())
        for keyword in chain.keywords:
            yield from forms(keyword)
