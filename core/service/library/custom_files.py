"""Custom models at a path of their own: whether they are there, and the projector beside them.

A projector lies in the folder of its model, with `mmproj` in front of its name, as in a repository
of the Hub. It is taken where it is the only one there that fits the model.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from modeldeck.core.errors import DeckError, StorageTimeout
from modeldeck.core.formats import gguf_parser
from modeldeck.core.formats.gguf_header import GgufHeader
from modeldeck.core.runtime.engines.llama.projector_needs import fits_text_model
from modeldeck.core.schema import Model
from modeldeck.core.storage.foreign_files import entries, in_file_thread

_MOST = 16
"""Projectors of one folder whose headers are read."""
_TAKEN = ("vision", "audio")
"""Capabilities of a model that come from its projector."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomFile:
    """What lies at the path of a custom model."""

    exists: bool
    """Whether a file or a folder is there."""
    projectors: tuple[str, ...] = ()
    """Paths of the projectors beside it that fit it."""
    takes: tuple[str, ...] = ()
    """What the only one of them takes: `vision`, `audio`."""
    key: tuple[tuple[str, int, int], ...] = ()
    """Path, size and time of the file, and of those beside it that are named as projectors."""

    @property
    def projector(self) -> str | None:
        """The projector that the model is loaded with."""
        return self.projectors[0] if len(self.projectors) == 1 else None

    @property
    def size_bytes(self) -> int | None:
        """Size of the file and its projector; None where nothing is there, and for a folder."""
        if not self.key:
            return None
        own = (self.key[0][0], self.projector)
        return sum(size for path, size, _ in self.key if path in own)


def look_at(path: str, before: CustomFile | None = None) -> CustomFile:
    """Look at the path of a custom model. Blocks.

    `before` is what was there the last time: headers of files that did not change are not read
    again.
    """
    try:
        mode = os.stat(path).st_mode
        if not stat.S_ISREG(mode):
            return CustomFile(exists=stat.S_ISDIR(mode))
        beside, key = _keys(path)
    except (OSError, ValueError):
        return CustomFile(exists=False)
    if before is not None and before.exists and before.key == key:
        return before
    own = _header(path) if beside else None
    width = own.embedding_length if own is not None else None
    read = [(each, _header(each)) for each in beside]
    fitting = [
        (each, header)
        for each, header in read
        if header is not None and header.encoders and width and fits_text_model(header, width)
    ]
    return CustomFile(
        exists=True,
        projectors=tuple(each for each, _ in fitting),
        takes=fitting[0][1].encoders if len(fitting) == 1 else (),
        key=key,
    )


def _beside(path: Path) -> list[str]:
    """The files beside a model that are named as projectors, at most `_MOST`."""
    found = [
        str(each)
        for each, is_folder in entries(path.parent)
        if not is_folder
        and each != path
        and each.name.lower().startswith("mmproj")
        and each.suffix.lower() == ".gguf"
    ]
    return found[:_MOST] if not path.name.lower().startswith("mmproj") else []


def _keys(path: str) -> tuple[list[str], tuple[tuple[str, int, int], ...]]:
    """The files beside a model that may be its projectors; the keys of the model and of these.

    A link that leads nowhere, and a file that went meanwhile, are none of them. Raises OSError
    where the model itself is gone.
    """
    keys = [_key(path)]
    for each in _beside(Path(path)):
        with suppress(OSError):
            keys.append(_key(each))
    return [each for each, _, _ in keys[1:]], tuple(keys)


def _key(path: str) -> tuple[str, int, int]:
    status = os.stat(path)
    return path, status.st_size, status.st_mtime_ns


def _header(path: str) -> GgufHeader | None:
    """The header of a file; None where it cannot be read: loading it tells why."""
    try:
        return gguf_parser.read(Path(path))
    except (DeckError, OSError):
        return None


def with_projector(model: Model, found: CustomFile) -> Model:
    """A custom model with what lies at its path, and the projector beside it.

    Its size is that of both files, as that of any model with a projector.
    """
    own = tuple(word for word in model.capabilities if word not in _TAKEN)
    usage = tuple(word for word in model.usage if word != "vision")
    if usage == ("chat",) and "vision" in found.takes:
        usage = ("chat", "vision")
    return replace(
        model,
        downloaded=found.exists,
        projector=found.projector,
        size_bytes=model.size_bytes if found.size_bytes is None else found.size_bytes,
        size_exact=model.size_exact or found.size_bytes is not None,
        capabilities=(*own, *found.takes),
        usage=usage if usage[:1] == ("chat",) else model.usage,
    )


def several(found: CustomFile) -> str | None:
    """What a person should know where several projectors could be taken; None elsewhere.

    >>> several(CustomFile(exists=True, projectors=("/m/mmproj-F16.gguf", "/m/mmproj-F32.gguf")))
    ... # doctest: +ELLIPSIS
    'it reads text only: mmproj-F16.gguf and mmproj-F32.gguf lie beside it, and either could be ...'
    """
    if len(found.projectors) < 2:
        return None
    *first, last = (Path(each).name for each in found.projectors)
    which = "either" if len(first) == 1 else "any"
    return (
        f"it reads text only: {', '.join(first)} and {last} lie beside it, and {which} could be "
        "its projector; leave the one to use in its folder and move the others elsewhere"
    )


async def warning(model: Model) -> str | None:
    """What to tell of a model that is about to be loaded, as `several` has it."""
    if not (model.custom and model.local and model.format == "gguf"):
        return None
    if model.path is None or model.projector is not None:
        return None
    try:
        look = partial(look_at, model.path)
        return several(await in_file_thread(look, model.path, custom=True))
    except StorageTimeout:  # loading it tells that
        return None
