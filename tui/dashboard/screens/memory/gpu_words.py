"""Load, heat and power of GPUs in words. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from modeldeck.core.schema import Gpu
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text.format import Glyphs


def sensors(gpu: Gpu, glyphs: Glyphs) -> tuple[str, ...]:
    """Load, heat and power of a GPU, without those that are not known.

    >>> from modeldeck.tui.text.format import UNICODE
    >>> sensors(Gpu(index=0, name="RTX 4090", busy=0.34, celsius=61, watts=148), UNICODE)
    ('34 % busy', '61 °C', '148 W')
    """
    told = (
        None if gpu.busy is None else f"{fmt.percent(gpu.busy)} busy",
        None if gpu.celsius is None else f"{gpu.celsius} {glyphs.degrees}",
        None if gpu.watts is None else f"{gpu.watts} W",
    )
    return tuple(words for words in told if words is not None)


def about(gpus: Sequence[Gpu], glyphs: Glyphs) -> str:
    """Name and sensors of the only GPU; of several their names, then the sensors of each."""
    parts = list(dict.fromkeys(fmt.clean(gpu.name) for gpu in gpus))
    if len(gpus) == 1:
        parts += sensors(gpus[0], glyphs)
    else:
        each = ((gpu, " ".join(sensors(gpu, glyphs)).replace(" busy", "")) for gpu in gpus)
        parts += [f"GPU {gpu.index} {told}" for gpu, told in each if told]
    return f" {glyphs.dot} ".join(parts)
