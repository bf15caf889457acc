"""Turns the bytes of tokens into text: decodes UTF-8, and ends it at stop strings. Pure."""

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


class Utf8Stream:
    """Decodes the bytes of tokens; a character that is spread over several is returned whole."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, data: bytes) -> str:
        """Take the bytes of a token and return the characters that are complete."""
        return self._decoder.decode(data)

    def finish(self) -> str:
        """End the text: a character that was never finished is replaced by U+FFFD."""
        return self._decoder.decode(b"", final=True)


class StopStream:
    """Stream filter: ends a text at the first stop string.

    Text that could be the beginning of a stop string is held back until that is known; the stop
    string is never returned.
    """

    def __init__(self, stops: Sequence[str] = ()) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.stop_text: str | None = None
        """The stop string that was found; no text is returned after it."""

    @property
    def stopped(self) -> bool:
        """Whether a stop string was found."""
        return self.stop_text is not None

    def feed(self, text: str) -> str:
        """Take a piece of text and return what is certain now; it may be empty."""
        if self.stopped:
            return ""
        text = self._held + text
        found = [(at, stop) for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            at, self.stop_text = min(found)
            self._held = ""
            return text[:at]
        keep = max((overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def finish(self) -> str:
        """End the text: return what was held back."""
        held, self._held = self._held, ""
        return held


def overlap(text: str, stop: str) -> int:
    """How many characters at the end of `text` could begin `stop`.

    >>> overlap("one two", "two three")
    3
    """
    return next(
        (n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0
    )
