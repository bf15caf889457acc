"""Makes images and recordings, and requests that bring them."""

from __future__ import annotations

import io
import math
import struct
from typing import Any

from PIL import Image

from modeldeck.core.schema import GenerateRequest, Media, Message


def picture(
    colour: str | int | tuple[int, ...] = "red",
    size: tuple[int, int] = (200, 120),
    kind: str = "PNG",
    mode: str = "RGB",
    **more: Any,
) -> bytes:
    """An image of one colour, its upper left quarter blue."""
    image = Image.new(mode, size, colour)
    if mode in ("RGB", "RGBA"):
        image.paste("blue", (0, 0, size[0] // 2, size[1] // 2))
    file = io.BytesIO()
    image.save(file, kind, **more)
    return file.getvalue()


def tone(seconds: float, rate: int = 16_000, channels: int = 1) -> bytes:
    """A WAV file with a tone."""
    samples = (int(9000 * math.sin(i / 20)) for i in range(int(seconds * rate)))
    sound = b"".join(struct.pack("<h", sample) * channels for sample in samples)
    block = 2 * channels
    head = struct.pack("<4sI4s4sI", b"RIFF", 36 + len(sound), b"WAVE", b"fmt ", 16)
    head += struct.pack("<HHIIHH", 1, channels, rate, rate * block, block, 16)
    return head + struct.pack("<4sI", b"data", len(sound)) + sound


def image(data: bytes, at: int = 0, place: str = "messages[0].content[1]") -> Media:
    """An image in a message."""
    return Media(kind="image", data=data, at=at, place=place)


def recording(data: bytes, at: int = 0, place: str = "messages[0].content[1]") -> Media:
    """A recording in a message."""
    return Media(kind="audio", data=data, at=at, place=place)


def seen(text: str, *media: Media, **more: Any) -> GenerateRequest:
    """A request with images and recordings in its only message."""
    message = Message(role="user", content=text, media=media)
    return GenerateRequest(messages=(message,), **{"temperature": 0, "max_tokens": 12, **more})
