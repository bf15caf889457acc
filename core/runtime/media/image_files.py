"""Decodes images that came from anywhere: PNG, JPEG, WebP, BMP, and the first frame of a GIF.

Pillow does it, in the engine's process and within `modeldeck.core.runtime.engines.bounds`: the core
parses no foreign file; a decoder that fails badly ends only a process that is started again; what
it takes counts as the engine's memory; and the pixels are where libmtmd needs them. Its own
decoders (stb_image) are not used: they look at no size before they decode, and know no WebP, EXIF
or transparency.

The first bytes say which of these five decoders is asked, no other one sees the file. The size is
read from the header and checked before anything is decoded.
"""

from __future__ import annotations

import io
import math
import struct
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modeldeck.core.errors import EngineMissing, InvalidRequest
from modeldeck.core.formats.media_files import FORMATS, LARGEST_BYTES, media_type
from modeldeck.core.runtime.engines.bounds import Bounds
from modeldeck.core.runtime.platforms import llama_remedy
from modeldeck.core.storage.installation import this_installation

if TYPE_CHECKING:
    from PIL import Image as pillow

MOST_PIXELS = 50_000_000
"""Pixels of the largest image: what telephones take at their best."""
STRETCH = 100
"""How many times longer than wide an image may be: projectors make small sides larger, and such an
image would get more tokens than any other."""
DECODE_S = 10.0
"""Processor seconds for an image: about one for the largest."""
DECODE_BYTES = 768 << 20
"""Memory that decoding may take meanwhile: the largest image with transparency takes 0.6 GB."""

_KINDS = {
    "image/png": "PNG",
    "image/jpeg": "JPEG",
    "image/webp": "WEBP",
    "image/gif": "GIF",
    "image/bmp": "BMP",
}
"""Pillow's names of the formats that are decoded."""
_ALPHA = {"RGBA", "LA", "PA", "La", "RGBa"}
_ORIENTATION = 0x0112
"""The tag of EXIF that says how a camera was held."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded image."""

    width: int
    height: int
    rgb: bytes
    """Three bytes for each pixel, by rows from the top."""


def decode(data: bytes, name: str, pixels: int, bounds: Bounds) -> Picture:
    """Decode an image: upright, on white where it is transparent, and made smaller if need be.

    Args:
        data: The file.
        name: What errors call it, as the beginning of a sentence.
        pixels: The most pixels of the result.
        bounds: Bound time and memory.

    Raises InvalidRequest for what is no image of these kinds, is too large, or damaged.
    """
    return bounds.run(
        name,
        lambda: _decode(data, name, pixels),
        cpu_s=DECODE_S,
        memory_bytes=DECODE_BYTES,
    )


def kind_of(data: bytes) -> str | None:
    """The format of a file by its first bytes, as Pillow names it; None for any other.

    >>> kind_of(b"GIF89a..."), kind_of(b"<svg>")
    ('GIF', None)
    """
    return _KINDS.get(media_type(data) or "")


def _decode(data: bytes, name: str, pixels: int) -> Picture:
    kind = kind_of(data)
    if kind is None:
        raise InvalidRequest(f"{name} is none.", f"These are read: {FORMATS['image']}.")
    if len(data) > LARGEST_BYTES:
        raise InvalidRequest(
            f"{name} has {len(data) >> 20} MiB; {LARGEST_BYTES >> 20} are the most.",
            "Send a smaller one.",
        )
    try:
        if kind == "WEBP":  # its decoder takes memory for all pixels when it is opened
            check_size(*_webp_size(data), name)
        with warnings.catch_warnings(action="ignore"):  # of odd notes in a file
            image = _opened(data, kind)
            check_size(*image.size, name)
            return _finished(image, kind, pixels)
    except (InvalidRequest, EngineMissing, MemoryError):
        raise
    except Exception as error:  # Pillow raises errors of many kinds for damaged files
        raise _refused(error, name) from error


def _refused(error: Exception, name: str) -> InvalidRequest:
    """The error for one of Pillow's."""
    kind = type(error).__name__
    if kind == "DecompressionBombError":  # more pixels than Pillow itself lets in
        return _too_many(f"{name} has too many pixels")
    unknown = kind == "UnidentifiedImageError" or not str(error)
    reason = "its header is wrong" if unknown else str(error).rstrip(".")
    return InvalidRequest(
        f"{name} is damaged or cut off: {reason}.", "Send the whole file, or save it anew."
    )


def _too_many(what: str) -> InvalidRequest:
    most = MOST_PIXELS // 1_000_000
    return InvalidRequest(f"{what}; {most} million are the most.", "Send a smaller one.")


def check_size(width: int, height: int, name: str) -> None:
    """Raise InvalidRequest for an image that is too large, or far longer than wide."""
    if min(width, height) < 1:
        raise InvalidRequest(f"{name} has no pixels.")
    if width * height > MOST_PIXELS:
        raise _too_many(f"{name} has {width} x {height} pixels")
    if max(width, height) > STRETCH * min(width, height):
        raise InvalidRequest(
            f"{name} has {width} x {height} pixels: it may be at most {STRETCH} times longer than "
            "wide.",
            "Cut it into parts.",
        )


def _webp_size(data: bytes) -> tuple[int, int]:
    """Width and height in the header of a WebP file (RFC 9649, sections 2.5 to 2.7)."""
    first = data[12:16]
    if first == b"VP8X":
        wide, high = data[24:27], data[27:30]
        return 1 + int.from_bytes(wide, "little"), 1 + int.from_bytes(high, "little")
    if first == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if first == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    raise ValueError("its header is of no known kind")


def _opened(data: bytes, kind: str) -> pillow.Image:
    try:
        # The plugins by name: otherwise Pillow loads all of them to find one.
        from PIL import (  # noqa: F401  # importing them registers them
            BmpImagePlugin,
            GifImagePlugin,
            Image,
            JpegImagePlugin,
            PngImagePlugin,
            WebPImagePlugin,
        )
    except ImportError as error:
        raise EngineMissing(
            "Images are decoded by Pillow, which is not installed.",
            llama_remedy(this_installation()),
            details=(str(error),),
        ) from error
    return Image.open(io.BytesIO(data), formats=(kind,))


def _finished(image: pillow.Image, kind: str, pixels: int) -> Picture:
    """Load the pixels, and bring them into the form that is wanted."""
    from PIL import Image, ImageOps

    scale = math.sqrt(min(1.0, pixels / (image.width * image.height)))
    size = max(1, int(image.width * scale)), max(1, int(image.height * scale))
    if kind == "JPEG":
        image.draft(None, size)  # decodes it at a half, a quarter or an eighth
    image.load()
    if image.mode.startswith("I"):  # 16 bits
        image = image.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    transparent = image.mode in _ALPHA or "transparency" in image.info
    form = "RGBA" if transparent else "RGB"
    turned = _orientation(image)
    if image.mode != form:
        image = image.convert(form)
    if image.width * image.height > pixels:
        image.thumbnail(size, Image.Resampling.BICUBIC, reducing_gap=2.0)
    if transparent:
        ground = Image.new("RGB", image.size, "white")
        ground.paste(image, mask=image.getchannel("A"))
        image = ground
    if turned is not None:
        image.getexif()[_ORIENTATION] = turned
        image = ImageOps.exif_transpose(image)
    return Picture(image.width, image.height, image.tobytes())


def _orientation(image: pillow.Image) -> int | None:
    """How the camera was held; None where that is not known, or upright."""
    try:
        found = image.getexif().get(_ORIENTATION)
    except Exception:  # damaged notes about an image do not damage the image
        return None
    return found if isinstance(found, int) and 2 <= found <= 8 else None
