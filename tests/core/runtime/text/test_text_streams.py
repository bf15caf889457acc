from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeldeck.core.runtime.text.text_streams import StopStream, Utf8Stream


class TextStream:
    """Both filters, as an answer without thoughts has them."""

    def __init__(self, stops: Sequence[str] = ()) -> None:
        self._utf8, self._stops = Utf8Stream(), StopStream(stops)

    @property
    def stopped(self) -> bool:
        return self._stops.stopped

    def feed(self, data: bytes) -> str:
        return self._stops.feed(self._utf8.feed(data))

    def finish(self) -> str:
        return self._stops.feed(self._utf8.finish()) + self._stops.finish()


@pytest.mark.parametrize(
    ("pieces", "stops", "out", "stopped"),
    [
        ([b"one", b" two"], (), ["one", " two"], False),
        ([b"\xf0\x9f", b"\xa6", b"\x99!"], (), ["", "", "🦙!"], False),
        ([b"one <", b"end", b"> two"], ("<end>",), ["one ", "", ""], True),
        ([b"one <", b"else"], ("<end>",), ["one ", "<else"], False),
        ([b"stop"], ("stop",), [""], True),
        ([b"ab", b"abc"], ("abc",), ["", "ab"], True),
        ([b"x END y STOP"], ("STOP", "END"), ["x "], True),
        ([b"\xff\xfe"], (), ["\ufffd\ufffd"], False),
    ],
)
def test_text_comes_out_when_it_is_certain(
    pieces: list[bytes], stops: tuple[str, ...], out: list[str], stopped: bool
) -> None:
    stream = TextStream(stops)
    assert [stream.feed(piece) for piece in pieces] == out
    assert stream.stopped is stopped


def test_what_was_held_back_comes_out_at_the_end() -> None:
    stream = TextStream(("<end>",))
    assert stream.feed(b"one <en") == "one "
    assert stream.finish() == "<en"


def test_a_character_that_is_never_finished_is_replaced() -> None:
    stream = TextStream()
    assert stream.feed(b"a\xf0\x9f") == "a"
    assert stream.finish() == "\ufffd"


def test_nothing_comes_out_after_a_stop() -> None:
    stream = TextStream(("x",))
    assert stream.feed(b"axb") == "a"
    assert stream.feed(b"more") == ""
    assert stream.finish() == ""


@given(
    st.text(alphabet="ab🦙é", max_size=40),
    st.lists(st.text(alphabet="ab🦙", min_size=1, max_size=4), max_size=3),
    st.integers(1, 5),
)
def test_the_text_ends_before_the_first_stop_however_it_is_cut(
    text: str, stops: list[str], step: int
) -> None:
    data = text.encode()
    stream = TextStream(stops)
    out = "".join(stream.feed(data[i : i + step]) for i in range(0, len(data), step))
    out += stream.finish()
    ends = [text.find(stop) + len(stop) for stop in stops if stop in text]
    if not ends:
        assert out == text
        return
    # The stop that is complete first wins, whichever token completes it; it never comes out.
    assert stream.stopped
    assert text.startswith(out)
    assert any(text[len(out) :].startswith(stop) for stop in stops)
    assert not any(stop in out for stop in stops)
