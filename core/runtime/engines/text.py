"""From the bytes of tokens to pieces of text: UTF-8 put together, stop strings cut off. Pure."""

from __future__ import annotations

import codecs
from collections.abc import Sequence


def byte_characters() -> tuple[str, ...]:
    """The printable character that stands for each byte in a byte-level vocabulary.

    The table of GPT-2: printable Latin-1 stands for itself, other bytes are numbered from U+0100.
    """
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return tuple(chr(byte) if byte in printable else chr(next(others)) for byte in range(256))


_BYTES = {character: byte for byte, character in enumerate(byte_characters())}


def bytes_of(token: str) -> bytes:
    r"""The bytes that a token of a byte-level vocabulary stands for.

    >>> bytes_of("Ġtwo"), bytes_of("ðŁ")
    (b' two', b'ð')
    """
    if all(character in _BYTES for character in token):
        return bytes(_BYTES[character] for character in token)
    return token.encode()  # a token that was added as text


class TextStream:
    """Text of one answer, as it may be shown.

    A character that is spread over several tokens comes out whole. Text that could be the beginning
    of a stop string is held back until it is known; the stop string itself never comes out.
    """

    def __init__(self, stops: Sequence[str] = ()) -> None:
        self._stops = tuple(stops)
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""
        self.stopped = False
        """Whether a stop string was met; nothing comes out after it."""

    def feed(self, data: bytes) -> str:
        """Take the bytes of a token and give the text that is certain now; it may be empty."""
        return self._take(self._utf8.decode(data))

    def finish(self) -> str:
        """Give what was held back: the answer is over, so it begins no stop string any more."""
        text = self._take(self._utf8.decode(b"", final=True))
        held, self._held = self._held, ""
        return text if self.stopped else text + held

    def _take(self, text: str) -> str:
        if self.stopped:
            return ""
        text = self._held + text
        found = [at for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            self.stopped = True
            self._held = ""
            return text[: min(found)]
        keep = max((overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]


def overlap(text: str, stop: str) -> int:
    """How many characters at the end of `text` could begin `stop`.

    >>> overlap("one two", "two three")
    3
    """
    return next(
        (n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0
    )
