from __future__ import annotations

import zlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from modeldeck.core.api.http.websocket_frames import LARGE_BYTES, FragmentAssembler, TextFrame


@pytest.mark.parametrize(
    ("size", "head"),
    [
        (0, b"\x81\x00"),
        (125, b"\x81\x7d"),
        (126, b"\x81\x7e\x00\x7e"),
        (65535, b"\x81\x7e\xff\xff"),
        (65536, b"\x81\x7f\x00\x00\x00\x00\x00\x01\x00\x00"),
    ],
)
def test_a_length_is_written_in_as_few_bytes_as_it_needs(size: int, head: bytes) -> None:
    assert TextFrame(b"x" * size).plain == head + b"x" * size


def test_frames_are_made_once() -> None:
    message = TextFrame('{"a": 1}' * 100)
    assert message.plain is message.plain
    assert message.deflated is message.deflated
    assert message.deflated[0] == 0xC1
    assert len(message.deflated) < len(message.plain) / 2


@pytest.mark.parametrize("text", [b"", b"x" * 255, bytes(range(32, 127)) * 2 + b"0123456789" * 7])
def test_what_deflating_does_not_shorten_is_sent_as_it_is(text: bytes) -> None:
    message = TextFrame(text)
    assert (message.deflated is message.plain) or len(message.deflated) < len(message.plain)


def test_a_deflated_message_needs_nothing_but_itself() -> None:
    text = b'{"event": "download_changed"}' * 40
    frame = TextFrame(text).deflated
    payload = frame[4:] if frame[1] == 126 else frame[2:]
    assert zlib.decompressobj(-15).decompress(payload + b"\x00\x00\xff\xff") == text


def test_a_long_message_is_slow_until_it_is_deflated() -> None:
    assert not TextFrame(b"x" * 1000).is_slow
    message = TextFrame(b"x" * (LARGE_BYTES + 1))
    assert message.is_slow
    assert message.deflated
    assert not message.is_slow


@given(text=st.text(max_size=60), cuts=st.lists(st.integers(0, 200), max_size=6))
def test_text_is_put_together_wherever_it_was_cut(text: str, cuts: list[int]) -> None:
    data = text.encode()
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces = [data[a:b] for a, b in pairwise(edges)]
    assembler = FragmentAssembler()
    for number, piece in enumerate(pieces):
        opcode = Opcode.CONT if number else Opcode.TEXT
        is_last = number == len(pieces) - 1
        message = assembler.take(Frame(opcode, piece, fin=is_last))
        assert message == (text if is_last else None)
        assert assembler.take(Frame(Opcode.PING, b"in between")) is None
    assert assembler.take(Frame(Opcode.BINARY, b"a", fin=False)) is None
    assert assembler.take(Frame(Opcode.CONT, b"b")) == b"ab"


@pytest.mark.parametrize(
    "pieces",
    [
        [b"\xff"],
        [b"\xce"],
        [b"\xed\xa0\x80"],
        [b"\xf4\x90\x80\x80"],
        [b"good", b"\xc0\x80", b"good"],
        [b"\xce", b"x"],
        [b"ok", b"\xe2\x82"],
    ],
)
def test_text_that_is_not_utf_8_is_found_with_the_piece_that_breaks_it(
    pieces: list[bytes],
) -> None:
    assembler = FragmentAssembler()

    def feed() -> None:
        for number, piece in enumerate(pieces):
            opcode = Opcode.CONT if number else Opcode.TEXT
            assembler.take(Frame(opcode, piece, fin=number == len(pieces) - 1))

    with pytest.raises(UnicodeDecodeError):
        feed()
