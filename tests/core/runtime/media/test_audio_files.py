"""Recordings from anywhere are written anew with lengths that are true, or refused in words."""

from __future__ import annotations

import random
import struct

import pytest

from modeldeck.core.errors import InvalidRequest
from modeldeck.core.runtime.media import audio_files
from modeldeck.core.runtime.media.audio_files import checked
from tests.support.pictures import tone

NAME = "The recording at messages[0].content[0]"


def test_a_wav_keeps_its_format_and_its_samples_alone() -> None:
    plain = tone(0.5, rate=8000, channels=2)
    assert checked(plain, NAME).data == plain
    assert checked(plain, NAME).seconds == pytest.approx(0.5)
    notes = b"LIST" + struct.pack("<I", 7) + b"INFO..." + b"\0"
    noted = plain[:12] + notes + plain[12:] + notes
    assert checked(noted, NAME).data == plain
    # One that was written to a pipe, or whose end is missing, claims more than there is.
    claims = plain[:40] + b"\xff\xff\xff\xff" + plain[44:]
    assert checked(claims, NAME).data == plain
    extensible = struct.pack("<IHHIIHHHHIH", 40, 0xFFFE, 2, 8000, 32000, 4, 16, 22, 16, 3, 1)
    found = plain[:16] + extensible + bytes(14) + plain[36:]
    assert checked(found, NAME).data == plain


def flac(samples: int, *, rate: int = 16_000, least: int = 4096) -> bytes:
    """A FLAC file up to its first frame, with notes that say nothing of its length."""
    packed = rate << 44 | 0 << 41 | 15 << 36 | samples
    info = struct.pack(">HH", least, 4096) + bytes(6) + packed.to_bytes(8) + bytes(16)
    return b"fLaC\0\0\0\x22" + info + b"\x84\0\0\4note" + b"\xff\xf8frames"


def test_a_flac_keeps_its_first_block_and_its_frames_alone() -> None:
    found = checked(flac(32_000), NAME)
    assert found.seconds == 2
    assert found.data == b"fLaC\x80" + flac(32_000)[5:42] + b"\xff\xf8frames"


def frame(kbits: int = 9, *, head: bytes = b"\xff\xfb", body: int = 0) -> bytes:
    """A frame of an MP3 at 44,100 samples a second: 128 kbit/s by default, 417 bytes."""
    size = 144_000 * (32, 40, 48, 56, 64, 80, 96, 112, 128)[kbits - 1] // 44_100
    return head + bytes((kbits << 4, 0)) + bytes([body]) * (size - 4)


def test_an_mp3_keeps_its_frames_alone() -> None:
    lies = frame()[:36] + b"Xing\0\0\0\1\x7f\xff\xff\xff" + frame()[48:]
    notes = b"ID3\4\0\0\0\0\0\x0a" + b"\xff\xfb\x90\0notes."
    frames = frame(body=1) + frame(5, body=2) + frame(body=3)
    found = checked(
        notes + lies + frames[:417] + b"junk" + frames[417:] + b"TAG" + bytes(125), NAME
    )
    assert found.data == frames
    assert found.seconds == pytest.approx(3 * 1152 / 44_100)


def test_frames_that_do_not_say_their_length_are_left_out() -> None:
    """A decoder makes 576 samples of each, however few bytes they have."""
    bare = b"\xff\xfb\x00\x00"
    found = checked(frame(body=1) * 3 + bare * 1000 + frame(body=2), NAME)
    assert found.data == frame(body=1) * 3 + frame(body=2)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"OggS" + bytes(60), "is none. These are read: WAV, MP3 and FLAC."),
        (b"RIFF\0\0\0\0WAVE", "its header ends early"),
        (tone(0.01), "is only 0.01 s long"),
        (tone(0.5, rate=100), "100 samples a second are not read"),
        (tone(0.5)[:34] + b"\x0c\0" + tone(0.5)[36:], "samples of 12 bits in format 1"),
        (flac(1 << 35), "s long; 1800 s are the most"),
        (flac(0), "does not say how long"),
        (flac(32_000, least=3), "its blocks have no possible size"),
        (flac(32_000)[:43], "it has no frames"),
        (b"ID3", "its header ends early"),
        (b"\xff\xfb" + bytes(500), "it has no frames"),
        (frame() * 68_907, "s long; 1800 s are the most"),
    ],
    ids=range(12),
)
def test_what_is_no_recording_or_too_long_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        checked(data, NAME)
    assert why in str(caught.value)
    assert str(caught.value).startswith(NAME)


@pytest.mark.parametrize(
    "data",
    [
        b"ID3" + bytes(7) + b"\xff" * 100_100,
        b"ID3" + bytes(7) + frame()[:4] * 100_100,
        frame(body=1) * 3 + b"\xff" * 100_100,
        b"RIFF\0\0\0\0WAVE" + b"junk\0\0\0\0" * 100_100 + tone(0.1)[12:],
        flac(32_000)[:42] + b"\4\0\0\0" * 100_100 + flac(32_000)[42:],
    ],
    ids=range(5),
)
def test_no_time_is_spent_on_a_file_of_much_that_is_no_sound(data: bytes) -> None:
    """20 MiB of it would hold up all requests for 24 seconds."""
    with pytest.raises(InvalidRequest, match="it has too much that is no sound"):
        checked(data, NAME)


def test_damaged_recordings_are_checked_or_refused() -> None:
    chance = random.Random(16)
    whole = [tone(0.1), flac(32_000), frame() * 8]
    for _ in range(1000):
        data = bytearray(chance.choice(whole))
        for _ in range(chance.choice((1, 4, 16))):
            data[chance.randrange(min(60, len(data)))] = chance.randrange(256)
        try:
            found = checked(bytes(data), NAME)
        except InvalidRequest:
            continue
        assert audio_files.LEAST_S <= found.seconds <= audio_files.MOST_S
