"""Images from anywhere are decoded, or refused in words that name the part of the request."""

from __future__ import annotations

import random
import struct
import zlib

import pytest
from PIL import Image

from modeldeck.core.errors import Cancelled, InvalidRequest
from modeldeck.core.formats.media_files import LARGEST_BYTES
from modeldeck.core.runtime.engines.base import Flag
from modeldeck.core.runtime.media import image_files
from modeldeck.core.runtime.media.image_files import Picture, decode
from tests.support.pictures import picture

NAME = "The image at messages[0].content[1]"
RED, BLUE = (255, 0, 0), (0, 0, 255)


def decoded(data: bytes, pixels: int = 1_000_000) -> Picture:
    return decode(data, NAME, pixels, Flag().bounds)


def corners(found: Picture) -> list[str]:
    """The colours of the four corners, by rows: the largest of red, green and blue."""
    width, height, rgb = found.width, found.height, found.rgb
    assert len(rgb) == 3 * width * height
    starts = (0, width - 1, width * (height - 1), width * height - 1)
    pixels = [rgb[3 * start : 3 * start + 3] for start in starts]
    return ["".join(name for name, v in zip("rgb", p, strict=True) if v > 200) for p in pixels]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_all_kinds_are_decoded(kind: str) -> None:
    found = decoded(picture("red", (60, 40), kind))
    assert (found.width, found.height) == (60, 40)
    assert corners(found) == ["b", "r", "r", "r"]


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "PNG"])
def test_an_image_is_turned_upright(kind: str) -> None:
    notes = Image.Exif()
    notes[0x0112] = 6  # the camera was held a quarter to the left
    found = decoded(picture("red", (60, 40), kind, exif=notes))
    assert (found.width, found.height) == (40, 60)
    assert corners(found) == ["r", "b", "r", "r"]


def test_transparency_is_white() -> None:
    found = decoded(picture((255, 0, 0, 0), mode="RGBA"))
    assert corners(found) == ["b", "rgb", "rgb", "rgb"]
    palette = picture(0, mode="P", transparency=0)
    assert corners(decoded(palette)) == ["rgb"] * 4


def test_sixteen_bits_are_scaled_and_a_palette_is_coloured() -> None:
    deep = Image.new("I;16", (8, 8), 0x8000)
    found = decoded(_saved(deep))
    assert set(found.rgb) == {0x80}
    assert set(decoded(picture(1, mode="1")).rgb) == {255}


def _saved(image: Image.Image) -> bytes:
    import io

    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def test_the_first_frame_of_a_gif_is_taken() -> None:
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("green", "red")]
    found = decoded(picture("red", (20, 20), "GIF", save_all=True, append_images=frames))
    assert corners(found) == ["b", "r", "r", "r"]


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_large_image_is_made_smaller(kind: str) -> None:
    found = decoded(picture("red", (1600, 800), kind), pixels=20_000)
    assert found.width * found.height <= 20_000
    assert found.width == 2 * found.height
    assert corners(found)[1:] == ["r", "r", "r"]


def _claiming(width: int, height: int) -> bytes:
    """A PNG of these sizes without a pixel."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"<svg></svg>", "is none. These are read: PNG, JPEG"),
        (b"\x89PNG\r\n\x1a\n", "is damaged or cut off"),
        (picture()[:200], "is damaged or cut off"),
        (picture(kind="JPEG")[:400], "is damaged or cut off"),
        (picture(kind="WEBP")[:60], "is damaged or cut off"),
        (_claiming(30_000, 30_000), "has too many pixels; 50 million"),
        (_claiming(10_000, 10_000), "has 10000 x 10000 pixels; 50 million"),
        (_claiming(4, 4000), "at most 100 times longer than wide"),
        (b"RIFF\0\0\0\0WEBPVP8X\0\0\0\0\0\0\0\0\xff\x3f\0\xff\x3f\0", "has 16384 x 16384 pixels"),
        (b"BM" + bytes(LARGEST_BYTES), "has 20 MiB; 20 are the most"),
    ],
    ids=range(10),
)
def test_what_is_no_image_or_too_large_is_refused_before_it_is_decoded(
    data: bytes, why: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decoded(data)
    assert why in str(caught.value)
    assert str(caught.value).startswith(NAME)


def test_decoding_ends_when_the_request_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    flag = Flag()

    def endless(*_: object) -> None:
        flag.set()
        while True:
            pass

    monkeypatch.setattr(image_files, "_finished", endless)
    with pytest.raises(Cancelled):
        decode(picture(), NAME, 1000, flag.bounds)


def test_a_thousand_damaged_images_are_decoded_or_refused() -> None:
    """In the process that runs this test, under the bounds of an engine's."""
    chance = random.Random(16)
    notes = Image.Exif()
    notes[0x0112] = 6
    whole = [picture("red", (60, 40), kind) for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP")]
    whole += [
        picture((255, 0, 0, 90), (60, 40), "PNG", "RGBA"),
        picture("red", (60, 40), "JPEG", exif=notes, progressive=True),
        picture("red", (60, 40), "WEBP", exif=notes, lossless=True),
    ]
    bounds = Flag().bounds
    told = {True: 0, False: 0}
    for _ in range(1000):
        data = _damaged(chance.choice(whole), chance)
        try:
            found = decode(data, NAME, 100_000, bounds)
        except InvalidRequest:
            told[False] += 1
        else:
            assert len(found.rgb) == 3 * found.width * found.height <= 300_000
            told[True] += 1
    assert min(told.values()) > 100


def _damaged(data: bytes, chance: random.Random) -> bytes:
    found = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 8, 64))):
        place, dice = chance.randrange(len(found)), chance.random()
        if dice < 0.6:
            found[place] = chance.randrange(256)
        elif dice < 0.8:
            del found[max(1, place) :]
        else:
            found[place:place] = chance.randbytes(chance.randrange(20))
    return bytes(found)
