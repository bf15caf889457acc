"""The largest image that a projector is given, in tokens of the model and in pixels. Pure.

One figure for the load, which passes it to libmtmd as `image_max_tokens`, and for the forecast of
its memory: what encoding an image takes grows with its tokens, and some projectors would by
themselves take images of 16,384 (clip.cpp, `set_limit_image_tokens`).
"""

from __future__ import annotations

from dataclasses import dataclass

from modeldeck.core.formats.gguf_header import GgufHeader

IMAGE_TOKENS = 2048
"""Tokens of the largest image. For Qwen-VL that is 1.6 megapixels, a page of small print; what
llama.cpp reserves for such a projector when it loads it is about as much (2116 tokens), so that few
images need more memory than the load itself."""
IMAGE_PIXELS = 10_000_000
"""Pixels of the largest image that libmtmd is given; larger ones are made smaller first. It copies
an image several times, and no projector sees more of it (Step3: 3024 by 3024)."""

OWN_LIMITS = {
    "lfm2": 256,
    "deepseek4v": 384,
    "minimax_m3": 576,
    "pixtral": 1024,
    "kimivl": 1024,
    "gemma4v": 1120,
    "gemma4uv": 1120,
}
"""Projectors whose own limit is lower: what they were trained with (clip.cpp). They keep it, as
`image_max_tokens` would raise it."""

_BY_FILE = {"phi4": 1, "dots_ocr": 2, "dots3note_v": 2, "mimovl": 2, "paddleocr": 2} | {
    "exaone4_5": 2,
    "kimik25": 2,
    "hunyuanvl": 2,
}
"""Projectors that heed the limit in their file instead of `image_max_tokens`, and how many patches
each way become a token where the file does not say: their images are made smaller before."""
_CAUSAL_GEMMA4 = {1536, 2560}
"""Widths of the Gemma 4 models that read images token by token, as text (E2B and E4B)."""
_SEPARATORS = 16
"""Tokens that DeepSeek 4 may add to an image to fill its block."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageLimit:
    """How large the images of a projector are."""

    tokens: int = IMAGE_TOKENS
    """`image_max_tokens` for libmtmd. Projectors that make equally many tokens of every image, or
    cut it into tiles, do not heed it."""
    pixels: int = IMAGE_PIXELS
    """Pixels of the largest image that it is given."""
    whole: int = 0
    """Tokens of an image that must be evaluated in one piece, since they see each other; llama.cpp
    aborts where its batch is smaller. 0 where an image may be evaluated in parts."""


def image_limit(header: GgufHeader) -> ImageLimit:
    """The limit of a projector, from the header of its file.

    >>> image_limit(GgufHeader(version=3, array_lengths={}, tensors=(), data_offset=0, metadata={
    ...     "general.architecture": "clip", "clip.projector_type": "gemma3",
    ...     "clip.vision.image_size": 896, "clip.vision.patch_size": 14})).whole
    256
    """
    kind = header.text("clip.projector_type") or header.text("clip.vision.projector_type") or ""
    tokens = min(IMAGE_TOKENS, OWN_LIMITS.get(kind, IMAGE_TOKENS))
    pixels = IMAGE_PIXELS
    if kind in _BY_FILE:
        merged = _number(header, "spatial_merge_size", "projector.scale_factor") or _BY_FILE[kind]
        pixels = min(pixels, tokens * (merged * _patch(header)) ** 2)
    return ImageLimit(tokens=tokens, pixels=pixels, whole=_whole(kind, tokens, header))


def _whole(kind: str, tokens: int, header: GgufHeader) -> int:
    """Tokens that are evaluated in one piece (`mtmd_decode_use_non_causal`, mtmd.cpp)."""
    if kind == "gemma3":
        side = (_number(header, "image_size") or 896) // _patch(header)
        merged: int = side // (_number(header, "projector.scale_factor") or 4)
        return merged * merged
    if kind == "gemma4v" and _number(header, "projection_dim") in _CAUSAL_GEMMA4:
        return 0
    if kind in ("gemma4v", "gemma4uv"):
        return tokens
    return tokens + _SEPARATORS if kind == "deepseek4v" else 0


def _patch(header: GgufHeader) -> int:
    """Pixels of a patch each way."""
    return _number(header, "patch_size") or 14


def _number(header: GgufHeader, *keys: str) -> int:
    """The first of these numbers of the vision part that is there; else 0."""
    found = (header.number(f"vision.{key}") for key in keys)
    return max(0, next((number for number in found if number), 0))
