"""Reads libmtmd's log about a projector's memory, and estimates what it does not tell. Pure.

Measured as the peak of a process that encodes the largest image, less that of one that has no
projector; `tests/benchmarks/forecast_projectors.py` measures again and prints what is left.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isqrt

from modeldeck.core.formats.gguf_header import GgufHeader

CONTEXT_BYTES = 3_700_000
"""Of each encoder: a graph of 8192 steps, and the tables of who evaluates them (clip.cpp)."""
PIXEL_BYTES = 10.5
"""Of each pixel that libmtmd is given, until the image is cut into pieces: the decoded image,
libmtmd's own copy, the copy that it makes smaller, and that on the way."""
HEARING_BYTES = 9_900_000
"""Of an encoder for audio: its tables, and half a minute of sound."""
SECOND_BYTES = 219_000
"""Of each second of a recording: its file, its samples, and their copies."""
FLOAT = 4
MASK_BYTES = 6
"""For each pair of patches, of the mask of an encoder that looks at windows of an image: in 32
bits, and in 16."""

_MIB = 1 << 20
_WARM_IMAGE = re.compile(r"warmup with image size = (\d+) x (\d+)")
_WARM_AUDIO = re.compile(r"warmup with audio size = (\d+)")
_BUFFER = re.compile(r"reserve_compute_meta: .*compute buffer size = +([\d.]+) MiB")
_BUFFERS_END = re.compile(r"reserve_compute_meta: graph splits")
_PATCH = re.compile(r"patch_size: +(\d+)")
_MOST_PIXELS = re.compile(r"image_max_pixels: +(\d+)")
_INPUT = re.compile(r"copying image \d+/\d+ to input buffer \(nx=(\d+), ny=(\d+)\)")

_F16, _F32, _BF16 = 1, 0, 30
"""`enum ggml_type`, ggml.h."""
_BLOCK = 36 / 32
"""Bytes of a number that is multiplied with quantized weights: blocks of 32 and a scale (Q8_0)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserved:
    """What libmtmd's log tells of a projector."""

    image_bytes: int = 0
    """Of the buffers for an image."""
    audio_bytes: int = 0
    """Of the buffers for a piece of a recording."""
    image_pixels: int = 0
    """Of the largest image that it reserved memory for."""
    most_pixels: int = 0
    """Of the largest one that it encodes in one piece; 0 where all have the size above."""
    patch_pixels: int = 1
    """Of a patch of an image."""
    audio_steps: int = 0
    """Of the piece of a recording that it reserved memory for: columns of its spectrum."""

    @property
    def compute_bytes(self) -> int:
        """Of all buffers."""
        return self.image_bytes + self.audio_bytes

    def smaller(self, *, windows: bool) -> Reserved:
        """For the largest image, where that is smaller than the one that memory is reserved for.

        All buffers but the mask of windows grow with the pixels.
        """
        share = self.most_pixels / self.image_pixels
        mask = MASK_BYTES * (self.image_pixels // self.patch_pixels) ** 2 if windows else 0
        taken = (self.image_bytes - mask) * share + mask * share**2
        return replace(self, image_bytes=round(taken), image_pixels=self.most_pixels)

    def with_image(self, other: Reserved) -> Reserved:
        """With the image of another log, where that takes more."""
        return replace(
            self,
            image_bytes=max(self.image_bytes, other.image_bytes),
            image_pixels=max(self.image_pixels, other.image_pixels),
        )


def reserved(lines: Sequence[str]) -> Reserved:
    """Parse the log of a context that was made, and perhaps encoded an image (clip.cpp).

    >>> reserved(["get_dummy_batch: warmup with image size = 56 x 56",
    ...           "reserve_compute_meta:        CPU compute buffer size =     0.50 MiB",
    ...           "reserve_compute_meta: graph splits = 1, nodes = 70"])
    ... # doctest: +ELLIPSIS
    Reserved(image_bytes=524288, audio_bytes=0, image_pixels=3136, ...)
    """
    found, summed, hears = Reserved(), 0, False
    for line in lines:
        if match := _WARM_IMAGE.search(line) or _INPUT.search(line):
            pixels = int(match[1]) * int(match[2])
            found = replace(found, image_pixels=max(found.image_pixels, pixels))
            hears = False
        elif match := _WARM_AUDIO.search(line):
            found, hears = replace(found, audio_steps=int(match[1])), True
        elif match := _PATCH.search(line):
            found = replace(found, patch_pixels=max(1, int(match[1])) ** 2)
        elif match := _MOST_PIXELS.search(line):
            found = replace(found, most_pixels=int(match[1]))
        elif match := _BUFFER.search(line):
            summed += round(float(match[1]) * _MIB)
        elif _BUFFERS_END.search(line):
            found = replace(found, **{"audio_bytes" if hears else "image_bytes": summed})
            summed = 0
    return found


@dataclass(frozen=True, slots=True)
class ProjectorInputs:
    """What a projector takes."""

    sees: bool
    hears: bool


def media_of(header: GgufHeader) -> ProjectorInputs:
    """What a projector takes, by its header (`clip.has_vision_encoder`)."""
    has = {kind: bool(header.metadata.get(f"clip.has_{kind}_encoder")) for kind in _KINDS}
    return ProjectorInputs(sees=has["vision"], hears=has["audio"])


_KINDS = ("vision", "audio")


def fits_text_model(header: GgufHeader, width: int) -> bool:
    """Whether a projector may be of a text model whose input has `width` numbers.

    Its last matrix has as many rows; which one that is depends on the kind. Some make several
    vectors, for the states of as many layers (Qwen3-VL, Granite 4).
    """
    own = [t for t in header.tensors if not re.match(r"[va]\.blk\.", t.name)]
    widths = {size for tensor in own for size in tensor.shape}
    several = any(word in t.name for t in own for word in ("deepstack", "proj_blk"))
    return any(size == width or (several and size > 1 and width % size == 0) for size in widths)


def largest_image(tokens: int, pixels: int) -> tuple[int, int]:
    """Width and height of an image with this many pixels that becomes the most tokens.

    An image is cut into squares of equal size, so the sides are in the proportion of two numbers
    whose product is `tokens`, as equal as can be.

    >>> largest_image(2048, 2048 * 28 * 28)
    (1792, 896)
    """
    rows = next(n for n in range(isqrt(tokens), 0, -1) if tokens % n == 0)
    square = isqrt(pixels // tokens)
    return tokens // rows * square, rows * square


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaWork:
    """The sizes that the memory of an image or a recording depends on, besides its buffers."""

    encoders: int
    work_bytes: int
    """Of the CPU's work buffers: the right operand of the largest product, converted."""
    pieces: int
    """That the largest image is cut into; 0 where none are taken."""
    pixels: int
    """Of the largest piece."""
    output_bytes: int
    """Of the vectors that come of a piece."""
    mask_bytes: int
    """Of the mask of an encoder that looks at windows of an image, before it is copied."""
    seconds: float
    """Of the longest recording; 0 where none are taken."""

    @classmethod
    def of(
        cls,
        header: GgufHeader,
        found: Reserved,
        tiles: Sequence[int],
        width: int,
        seconds: float,
    ) -> MediaWork:
        """The sizes of a projector.

        Args:
            header: Of its file.
            found: What it reserves.
            tiles: Tokens of each piece of the largest image.
            width: Of the input of the text model.
            seconds: Of the longest recording.
        """
        media = media_of(header)
        patches = found.image_pixels // found.patch_pixels
        tokens = max(tiles, default=0)
        work = _widest(header, "v.", patches, tokens) if media.sees else 0
        if media.hears:
            work += _widest(header, "a.", found.audio_steps // 2, found.audio_steps // 2)
        return cls(
            encoders=media.sees + media.hears,
            work_bytes=work,
            pieces=len(tiles),
            pixels=found.image_pixels,
            output_bytes=FLOAT * tokens * width,
            mask_bytes=FLOAT * patches**2 if has_windows(header) else 0,
            seconds=seconds if media.hears else 0.0,
        )

    def bytes(self, given_pixels: int) -> int:
        """Estimated bytes, for an image of `given_pixels` or the longest recording.

        An image is being cut into pieces, or these are being encoded: their numbers are held, and
        those of one are copied in the order of the graph.
        """
        seen = heard = 0.0
        if self.pieces:
            cut = PIXEL_BYTES * given_pixels
            encoded = 3 * FLOAT * self.pixels + self.mask_bytes
            held = 3 * FLOAT * self.pieces * self.pixels + self.output_bytes
            seen = held + max(cut, encoded)
        if self.seconds:
            heard = HEARING_BYTES + SECOND_BYTES * self.seconds
        return int(CONTEXT_BYTES * self.encoders + self.work_bytes + max(seen, heard))


def has_windows(header: GgufHeader) -> bool:
    """Whether an encoder looks at windows of an image."""
    keys = ("n_wa_pattern", "wa_layer_indexes", "wa_pattern_mode")
    return any(f"clip.vision.{key}" in header.metadata for key in keys)


def _widest(header: GgufHeader, prefix: str, patches: int, tokens: int) -> int:
    """Bytes of the CPU's work buffer of an encoder (`ggml_graph_plan`, ggml-cpu.c)."""
    most = 0.0
    for tensor in header.tensors:
        if len(tensor.shape) != 2 or tensor.name.endswith(".bias"):
            continue
        inside = tensor.name.startswith(prefix)
        if not inside and tensor.name.startswith(("v.", "a.")):
            continue
        rows = patches + 1 if inside else tokens
        most = max(most, rows * tensor.shape[0] * _converted(tensor.type))
    return int(most)


def _converted(type_: int) -> float:
    """Bytes of a number of the right operand, once converted for weights of a type."""
    if type_ == _F32:
        return 0.0
    return 2.0 if type_ in (_F16, _BF16) else _BLOCK
