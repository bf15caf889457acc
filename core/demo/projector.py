"""Writes the projector of the demo's model that sees, and pictures for it.

A real projector of LLaVA's kind, made by hand: its encoder has no block that counts, and takes the
mean colour of each cell of a picture; its two matrices tell by how much a cell is red, green or
blue, and turn that into a direction that the text model knows (`modeldeck.core.demo.sight`).

    write_projector(folder / "mmproj-tiny-see-F32.gguf")
    picture("red", 3)         # asked about it, the model answers "3 red squares"

Writing it needs numpy and gguf, and drawing pictures Pillow, as reading them does.
"""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from modeldeck.core.demo.model_writer import make, missing_package
from modeldeck.core.demo.vocabulary import COLOURS, MOST_SQUARES
from modeldeck.core.errors import DeckError
from modeldeck.core.storage.installation import this_installation

if TYPE_CHECKING:
    import numpy.typing as npt

Colour = Literal["red", "green", "blue"]

SIDE = 4
"""Cells of a picture each way."""
CELL = 48
"""Pixels of a cell of a picture that is drawn here; it may have any other size."""
QUESTION = "What do you see?"
"""Any question does."""

_PATCH = 16
"""Pixels of a cell once the projector has made the picture smaller."""
_SHADES = {"red": (222, 42, 48), "green": (36, 168, 72), "blue": (44, 84, 224)}
_CLEAR, _LEAST = 40.0, 0.25
"""How far a cell is from being told as a colour: its excess over the mean of the others, of -1 to
1, less the least that counts, times this."""
_FAR, _CONSTANT = 200.0, 10.0
"""How much a colour outweighs what all cells have; and that, before the last matrix."""


def picture(colour: Colour, count: int, *, cell: int = CELL, seed: int = 0) -> bytes:
    """Draw squares of a colour on white: a PNG file that the demo's model answers for.

    `modeldeck.core.demo.vocabulary.seen(colour, count)` is the answer. Of several pictures in a
    conversation the squares are counted together.

    Args:
        colour: The colour of all squares.
        count: How many, at most nine.
        cell: Pixels of each of the 4 by 4 cells that a square may be in.
        seed: Which cells: another number, another picture.

    Raises DeckError where Pillow is not installed.
    """
    try:
        from PIL import Image, ImageDraw
    except ImportError as error:
        raise DeckError(
            "Pictures cannot be drawn: Pillow is not installed.",
            f"Install what reads them, too: {this_installation().install('pillow>=12')}.",
        ) from error
    assert 0 <= count <= MOST_SQUARES
    image = Image.new("RGB", (SIDE * cell, SIDE * cell), "white")
    draw = ImageDraw.Draw(image)
    places = random.Random(f"{seed} {colour} {count}").sample(range(SIDE * SIDE), count)  # noqa: S311 - not a secret
    margin = cell // 8
    for place in places:
        left, top = place % SIDE * cell + margin, place // SIDE * cell + margin
        size = cell - 2 * margin - 1
        draw.rectangle((left, top, left + size, top + size), fill=_SHADES[colour])
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def write_projector(path: Path) -> None:
    """Write the projector in GGUF. Raises DeckError where numpy or gguf is not installed."""
    try:
        import gguf
        import numpy as np
    except ImportError as error:
        raise missing_package(error) from error
    tensors = _tensors()
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(str(path), "clip")
    writer.add_name("tiny-see")
    writer.add_type("mmproj")
    writer.add_bool("clip.has_vision_encoder", True)
    writer.add_string("clip.projector_type", "mlp")
    writer.add_bool("clip.use_gelu", True)
    width = tensors["v.position_embd.weight"].shape[1]
    sizes = {
        "image_size": SIDE * _PATCH,
        "patch_size": _PATCH,
        "embedding_length": width,
        "feed_forward_length": 2 * width,
        "block_count": 1,
        "projection_dim": width,
        "attention.head_count": 1,
    }
    for name, size in sizes.items():
        writer.add_uint32(f"clip.vision.{name}", size)
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", 1e-5)
    writer.add_array("clip.vision.image_mean", [0.5, 0.5, 0.5])
    writer.add_array("clip.vision.image_std", [0.5, 0.5, 0.5])
    writer.add_file_type(0)
    for name, tensor in tensors.items():
        writer.add_tensor(name, np.ascontiguousarray(tensor, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _tensors() -> dict[str, npt.NDArray[Any]]:
    """Every tensor by its name, rows being outputs."""
    import numpy as np

    model = make(sees=True)
    width = 32  # of the encoder: three channels, and zeros
    patch = np.zeros((width, 3, _PATCH, _PATCH), np.float32)
    for channel in range(3):
        patch[channel, channel] = 1 / _PATCH**2
    excess = np.zeros((width, width), np.float32)
    at_least = np.zeros(width, np.float32)
    direction = np.zeros((model.hidden, width), np.float32)
    for number, colour in enumerate(COLOURS):
        excess[number, :3] = -_CLEAR / 2
        excess[number, number] = _CLEAR
        at_least[number] = -_CLEAR * _LEAST
        direction[model.sight.cell(colour), number] = _FAR
    at_least[len(COLOURS)] = _CONSTANT
    direction[model.sight.cell("nothing"), len(COLOURS)] = 1 / _CONSTANT
    return {
        "v.patch_embd.weight": patch,
        "v.position_embd.weight": np.zeros((SIDE * SIDE, width), np.float32),
        **_idle_block(width),
        "mm.0.weight": excess,
        "mm.0.bias": at_least,
        "mm.2.weight": direction,
        "mm.2.bias": np.zeros(model.hidden, np.float32),
    }


def _idle_block(width: int) -> dict[str, npt.NDArray[Any]]:
    """The last block of the encoder, which LLaVA's projectors leave out."""
    import numpy as np

    own = "v.blk.0"
    square = np.zeros((width, width), np.float32)
    tensors: dict[str, npt.NDArray[Any]]
    tensors = {f"{own}.attn_{name}.weight": square for name in ("q", "k", "v", "out")}
    tensors[f"{own}.ffn_up.weight"] = np.zeros((2 * width, width), np.float32)
    tensors[f"{own}.ffn_down.weight"] = np.zeros((width, 2 * width), np.float32)
    for norm in ("ln1", "ln2"):
        tensors[f"{own}.{norm}.weight"] = np.ones(width, np.float32)
        tensors[f"{own}.{norm}.bias"] = np.zeros(width, np.float32)
    return tensors
