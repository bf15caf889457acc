"""Checks recordings that came from anywhere, and writes them anew: WAV, MP3 and FLAC. Pure.

libmtmd decodes them (miniaudio), and first takes as much memory as a file says that it needs: 44
bytes can claim a day, and where there is no memory for it, the process aborts. So the length is
counted here, and the decoder gets a file that says nothing else: a plain header and the sound, or
the frames of an MP3 alone, without the notes and lengths that stood before them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

from modeldeck.core.errors import InvalidRequest
from modeldeck.core.formats.media_files import FORMATS, media_type

MOST_S = 1800.0
"""Seconds of the longest recording. Half an hour is about as long as models were trained for, and
takes 110 MiB at 16,000 samples a second."""
LEAST_S = 0.05
"""Seconds of the shortest one: of less, no piece is left to hear."""
RATES = (4000, 384_000)
"""Lowest and highest sample rate."""
CHANNELS = 8
MOST_STEPS = 100_000
"""Places where parts of a file may seem to begin, besides frames of its sound: a fraction of a
second in all. Others wait meanwhile, and a file may have 20 million of them."""

_PCM, _FLOAT, _ALAW, _ULAW, _EXTENSIBLE = 1, 3, 6, 7, 0xFFFE
_BITS = {_PCM: {8, 16, 24, 32}, _FLOAT: {32, 64}, _ALAW: {8}, _ULAW: {8}}
"""Bits of a sample for each format of a WAV file (mmreg.h)."""


@dataclass(frozen=True, slots=True)
class AudioFile:
    """A recording that is safe to decode."""

    data: bytes
    """The file, written anew."""
    seconds: float


def checked(data: bytes, name: str) -> AudioFile:
    """Check a recording. Raises InvalidRequest for what is none, is damaged, or too long.

    `name` is what errors call it, as the beginning of a sentence.
    """
    try:
        match media_type(data):
            case "audio/wav":
                found = _wav(data)
            case "audio/flac":
                found = _flac(data)
            case "audio/mpeg":
                found = _mp3(data)
            case _:
                raise InvalidRequest(f"{name} is none.", f"These are read: {FORMATS['audio']}.")
    except (struct.error, IndexError, ValueError) as error:
        reason = error if isinstance(error, ValueError) else "its header ends early"
        raise InvalidRequest(
            f"{name} is damaged or cut off: {reason}.", "Save it anew, as WAV if need be."
        ) from error
    if found.seconds > MOST_S:
        raise InvalidRequest(
            f"{name} is {found.seconds:.0f} s long; {MOST_S:g} s are the most.",
            "Cut it into parts.",
        )
    if found.seconds < LEAST_S:
        raise InvalidRequest(f"{name} is only {found.seconds:.3g} s long.", "Send a longer one.")
    return found


def _wav(data: bytes) -> AudioFile:
    """A WAV file with its format and its samples alone."""
    form, at = None, 12
    for step in count(1):
        _check_steps(step)
        name, size = struct.unpack_from("<4sI", data, at)
        at += 8
        if name == b"data":
            break
        if name == b"fmt ":
            form = struct.unpack_from("<HHIIHH", data, at)
            if form[0] == _EXTENSIBLE:
                form = (*struct.unpack_from("<H", data, at + 24), *form[1:])
        at += size + size % 2
    if form is None:
        raise ValueError("it does not say its format")
    tag, channels, rate, _, _, bits = form
    if bits not in _BITS.get(tag, ()):
        raise ValueError(f"samples of {bits} bits in format {tag} are not read")
    _check(rate, channels)
    block = channels * bits // 8
    samples = min(size, len(data) - at) // block  # one that was written to a pipe claims 4 GiB
    sound = data[at : at + samples * block]
    head = struct.pack(
        *("<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + len(sound), b"WAVE", b"fmt ", 16, tag, channels),
        *(rate, rate * block, block, bits, b"data", len(sound)),
    )
    return AudioFile(head + sound, samples / rate)


def _check_steps(steps: int) -> None:
    if steps > MOST_STEPS:
        raise ValueError("it has too much that is no sound")


def _check(rate: int, channels: int) -> None:
    if not RATES[0] <= rate <= RATES[1]:
        raise ValueError(f"{rate} samples a second are not read")
    if not 1 <= channels <= CHANNELS:
        raise ValueError(f"{channels} channels are not read")


def _flac(data: bytes) -> AudioFile:
    """A FLAC file with its first block and its frames alone (RFC 9639, section 8)."""
    kind, length = data[4] & 0x7F, int.from_bytes(data[5:8])
    info = data[8:42]
    if kind or length != 34 or len(info) != 34:
        raise ValueError("it does not begin with what it holds")
    least, most = struct.unpack_from(">HH", info)
    packed = int.from_bytes(info[10:18])
    rate, channels, bits = packed >> 44, 1 + (packed >> 41 & 7), 1 + (packed >> 36 & 31)
    samples = packed & (1 << 36) - 1
    if not 16 <= least <= most or bits < 4:
        raise ValueError("its blocks have no possible size")
    _check(rate, channels)
    if not samples:
        raise ValueError("it does not say how long it is")
    at, last, step = 42, data[4] & 0x80, 0
    while not last:
        _check_steps(step := step + 1)
        last, at = data[at] & 0x80, at + 4 + int.from_bytes(data[at + 1 : at + 4])
    if at >= len(data):
        raise ValueError("it has no frames")
    return AudioFile(b"fLaC\x80\x00\x00\x22" + info + data[at:], samples / rate)


_MP3_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
"""Samples a second for each version of MPEG (ISO 11172-3 and 13818-3)."""
_KBITS = {
    3: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    2: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_KBITS[0] = _KBITS[2]
_SAME = (0xFF, 0xFE, 0x0C)
"""Bits of the first three bytes that all frames of a recording have in common."""


def _frame(data: bytes, at: int) -> tuple[int, int, int] | None:
    """Bytes, samples and rate of the MP3 frame here; None where there is none.

    Frames that do not say how long they are ("free format") count as none.
    """
    if at + 4 > len(data) or data[at] != 0xFF or data[at + 1] & 0xE6 != 0xE2:
        return None
    version, rate, bits = data[at + 1] >> 3 & 3, data[at + 2] >> 2 & 3, data[at + 2] >> 4
    if version == 1 or rate == 3 or not 0 < bits < 15:
        return None
    hertz, samples = _MP3_RATES[version][rate], 1152 if version == 3 else 576
    size = samples // 8 * 1000 * _KBITS[version][bits - 1] // hertz + (data[at + 2] >> 1 & 1)
    return size, samples, hertz


def _frames(data: bytes, at: int) -> Iterator[tuple[bytes, int, int]]:
    """The frames of a recording: bytes, samples and rate of each. What is between them is left."""
    first: bytes | None = None
    misses = 0
    while (at := data.find(b"\xff", at)) >= 0:
        found = _frame(data, at)
        own = bytes(a & b for a, b in zip(data[at : at + 3], _SAME, strict=False))
        if found is None or at + found[0] > len(data) or first not in (None, own):
            at, misses = at + 1, misses + 1
            _check_steps(misses)
            continue
        size, samples, hertz = found
        if first is None:
            if at + size < len(data) and _frame(data, at + size) is None:
                at, misses = at + 1, misses + 1
                _check_steps(misses)
                continue
            first = own
        yield data[at : at + size], samples, hertz
        at += size


def _mp3(data: bytes) -> AudioFile:
    """The frames of an MP3 alone, without the first where it only tells of the others."""
    at = 0
    if data[:3] == b"ID3":
        sizes = data[6:10]
        at = 10 + (sizes[0] << 21 | sizes[1] << 14 | sizes[2] << 7 | sizes[3])
    found: list[bytes] = []
    total, hertz = 0, 1
    for frame, samples, rate in _frames(data, at):
        if not found and any(sign in frame[:64] for sign in (b"Xing", b"Info", b"VBRI")):
            continue
        found.append(frame)
        total, hertz = total + samples, rate
        if total > MOST_S * hertz:
            break
    if not found:
        raise ValueError("it has no frames")
    return AudioFile(b"".join(found), total / hertz)
