"""Recordings in a llama.cpp context, decoded by libmtmd itself."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator

import pytest

from modeldeck.core.errors import InvalidRequest
from modeldeck.core.runtime.engines.llama.media_reader import MediaReader
from modeldeck.core.runtime.media.audio_files import MOST_S
from modeldeck.core.schema import GenerateRequest, LoadOptions
from tests.support.engine_turns import EngineTurns, Told
from tests.support.pictures import image, picture, recording, seen, tone
from tests.support.projectors import write_seeing_model

LONG = "The cat sat on the mat and looked at the moon for a long while. " * 2
RATE = 16_000


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineTurns]:
    model = write_seeing_model(tmp_path_factory.mktemp("models"), "ultravox")
    options = LoadOptions(context_length=4096, threads=1)
    engine = EngineTurns(model.path, options, projector=model.projector)
    yield engine
    engine.close()


@pytest.fixture
def reader(engine: EngineTurns) -> MediaReader:
    assert engine.engine._loaded is not None
    found = engine.engine._loaded._prompts.media
    assert found is not None
    return found


def seconds(reader: MediaReader, data: bytes) -> float:
    """How long a recording is once it is decoded."""
    taken, _ = reader.checked(recording(data), private=True)
    return taken.size.width / RATE


def _check_sum(data: bytes, polynomial: int, bits: int) -> bytes:
    found = 0
    for byte in data:
        found ^= byte << (bits - 8)
        for _ in range(8):
            found = found << 1 ^ (polynomial if found >> (bits - 1) else 0)
            found &= (1 << bits) - 1
    return found.to_bytes(bits // 8)


def flac(blocks: int) -> bytes:
    """Silence in blocks of 4,096 samples (RFC 9639, section 9: constant subframes)."""
    packed = RATE << 44 | 15 << 36 | blocks * 4096
    found = b"fLaC\x80\0\0\x22" + struct.pack(">HH", 4096, 4096) + bytes(6)
    found += packed.to_bytes(8) + bytes(16)
    for number in range(blocks):
        head = b"\xff\xf8\xc5\x08" + bytes([number])
        frame = head + _check_sum(head, 0x07, 8) + b"\0\0\0"
        found += frame + _check_sum(frame, 0x8005, 16)
    return found


def mp3(frames: int) -> bytes:
    """Silence in frames of 1,152 samples, 44,100 a second."""
    return (b"\xff\xfb\x90\0" + bytes(413)) * frames


def one(engine: EngineTurns, request: GenerateRequest) -> Told:
    (told,) = engine.together([request])
    return told


def test_recordings_are_heard_and_held(engine: EngineTurns) -> None:
    assert engine.loaded.media == ("audio",)
    asked = seen(LONG, recording(tone(1.0), 5))
    more = seen(LONG + "What was it?", recording(tone(1.0), 5))
    other = seen(LONG, recording(tone(35.0), 5))  # in two pieces
    told = [one(engine, request) for request in (asked, more, other)]
    assert [one.error for one in told] == [None] * 3
    heard = [[p.media for p in one.progress if p.media] for one in told]
    assert heard == [["recording"], [], ["recording, piece 1 of 2", "recording, piece 2 of 2"]]
    with pytest.raises(InvalidRequest, match=r"The image at messages\[0\].* recordings only"):
        engine.begin(seen("a", image(picture())))
    assert "is damaged" in engine.refused(seen("a", recording(tone(1.0)[:20])))


@pytest.mark.parametrize(
    ("data", "length"),
    [(flac(20), 5.12), (mp3(100), 2.61), (tone(1.0, 44_100, 2), 1.0)],
    ids=["flac", "mp3", "wav"],
)
def test_all_kinds_are_decoded(reader: MediaReader, data: bytes, length: float) -> None:
    assert seconds(reader, data) == pytest.approx(length, abs=0.01)


def test_damaged_recordings_are_decoded_or_refused(reader: MediaReader) -> None:
    """In the process that runs this test, which libmtmd would end over a length that is a lie."""
    chance = random.Random(16)
    whole = [flac(8), mp3(12), tone(0.1), tone(0.1, 44_100, 2)]
    told = {True: 0, False: 0}
    for _ in range(1000):
        data = bytearray(chance.choice(whole))
        for _ in range(chance.choice((1, 2, 8, 64))):
            place = 4 + chance.randrange(min(len(data) - 4, chance.choice((60, 2000))))
            data[place] = chance.randrange(256)
        try:
            assert seconds(reader, bytes(data)) <= MOST_S
        except InvalidRequest:
            told[False] += 1
        else:
            told[True] += 1
    assert min(told.values()) > 100
