import doctest
from types import ModuleType

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeldeck.core.runtime.engines.llama import loader, log, needs
from modeldeck.core.runtime.instance import lifecycle
from modeldeck.core.runtime.process import engine_log, engine_process, frames, messages
from modeldeck.core.runtime.process.frames import MAX_BYTES, FrameDecoder, FrameError, encode
from modeldeck.core.runtime.process.messages import (
    CancelCommand,
    CommandFailed,
    EngineHello,
    GenerateText,
    LoadModel,
)
from modeldeck.core.schema import ErrorInfo, GenerateRequest, LoadOptions, Message


@pytest.mark.parametrize(
    "module", [frames, lifecycle, engine_log, engine_process, loader, log, needs]
)
def test_the_examples_in_the_documentation_hold(module: ModuleType) -> None:
    result = doctest.testmod(module)
    assert result.attempted
    assert not result.failed


@given(st.lists(st.binary(max_size=300), max_size=8), st.integers(1, 17))
def test_payloads_come_out_as_they_went_in_however_the_bytes_arrive(
    payloads: list[bytes], step: int
) -> None:
    stream = b"".join(encode(payload) for payload in payloads)
    decoder = FrameDecoder()
    found = [
        payload
        for start in range(0, len(stream), step)
        for payload in decoder.feed(stream[start : start + step])
    ]
    assert found == payloads


def test_the_largest_payload_passes_and_one_more_byte_does_not() -> None:
    assert list(FrameDecoder().feed(encode(bytes(MAX_BYTES)))) == [bytes(MAX_BYTES)]
    with pytest.raises(FrameError):
        encode(bytes(MAX_BYTES + 1))


def test_a_length_over_the_limit_is_refused_before_its_bytes_are_there() -> None:
    decoder = FrameDecoder()
    with pytest.raises(FrameError):
        list(decoder.feed(b"\xff\xff\xff\xff"))


@pytest.mark.parametrize(
    "message",
    [
        LoadModel(id=1, path="/a/ü.gguf", options=LoadOptions(threads=2), default_context=8192),
        GenerateText(id=2, request=GenerateRequest(messages=(Message(role="user", content="🦙"),))),
        CancelCommand(id=2),
    ],
)
def test_commands_survive_the_pipe(message: messages.AnyCommand) -> None:
    (payload,) = FrameDecoder().feed(messages.frame(message))
    assert messages.command(payload) == message


@pytest.mark.parametrize(
    "message",
    [
        EngineHello(protocol=1, version="1", devices=("CPU",)),
        CommandFailed(id=3, error=ErrorInfo(code="engine_failed", message="no", details=("line",))),
    ],
)
def test_reports_survive_the_pipe(message: messages.AnyReport) -> None:
    (payload,) = FrameDecoder().feed(messages.frame(message))
    assert messages.report(payload) == message


@pytest.mark.parametrize("payload", [b"", b"{}", b'{"do":"fly","id":1}', b'{"do":"load"}', b"\xff"])
def test_what_is_no_command_is_refused(payload: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        messages.command(payload)
