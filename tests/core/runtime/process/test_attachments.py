"""The files of commands travel beside their JSON, in order, in pieces of any size."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeldeck.core.runtime.process import attachments
from modeldeck.core.runtime.process.attachments import CommandDecoder, outgoing
from modeldeck.core.runtime.process.frames import FrameError
from modeldeck.core.runtime.process.messages import CancelCommand, GenerateText, TokenizeText
from modeldeck.core.schema import GenerateRequest, Message, TokenQuery
from tests.support.pictures import image


def request(*files: bytes) -> GenerateRequest:
    half = len(files) // 2
    return GenerateRequest(
        messages=(
            Message(role="user", content="a", media=tuple(map(image, files[:half]))),
            Message(role="user", content="b", media=tuple(map(image, files[half:]))),
        )
    )


@given(st.lists(st.binary(max_size=40), max_size=5), st.integers(1, 30), st.integers(1, 17))
def test_commands_come_out_as_they_went_in(files: list[bytes], size: int, step: int) -> None:
    commands = [
        GenerateText(id=1, request=request(*files)),
        CancelCommand(id=1),
        TokenizeText(id=2, query=TokenQuery(request=request(*files))),
        TokenizeText(id=3, query=TokenQuery(text="a")),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attachments, "PIECE_BYTES", size)
        stream = b"".join(bytes(piece) for c in commands for piece in outgoing(c))
    decoder = CommandDecoder()
    found = [
        command
        for start in range(0, len(stream), step)
        for command in decoder.feed(stream[start : start + step])
    ]
    assert found == commands


def test_a_large_file_is_copied_piece_by_piece() -> None:
    file = bytes(5 << 20)
    pieces = list(outgoing(GenerateText(id=1, request=request(file))))
    assert max(map(len, pieces)) <= attachments.PIECE_BYTES
    views = [piece for piece in pieces if isinstance(piece, memoryview)]
    assert all(view.obj is file for view in views), "nothing was copied"


def test_a_text_that_is_too_long_is_refused_before_a_file_is_sent() -> None:
    command = GenerateText(
        id=1,
        request=GenerateRequest(
            messages=(Message(role="user", content="x" * (16 << 20), media=(image(b"1"),)),)
        ),
    )
    with pytest.raises(FrameError):
        next(outgoing(command))
