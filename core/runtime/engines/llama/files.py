"""Checks the files of a GGUF model before llama.cpp opens them: it would block on a pipe."""

from __future__ import annotations

import re

from modeldeck.core.errors import EngineFailed
from modeldeck.core.storage.foreign_files import stat_regular

MOST_PARTS = 1000
"""Parts that are checked; the largest known models have about fifty."""

_FIRST = re.compile(r"(?P<stem>.+)-00001-of-(?P<total>\d{5})\.gguf", re.DOTALL)


def parts_of(path: str) -> tuple[str, ...]:
    """The file, and further parts of a split one as llama.cpp names them (llama_split_path)."""
    first = _FIRST.fullmatch(path)
    if first is None:
        return (path,)
    total = first["total"]
    last = min(int(total), MOST_PARTS)
    further = (f"{first['stem']}-{number:05d}-of-{total}.gguf" for number in range(2, last + 1))
    return (path, *further)


def check_files(path: str) -> None:
    """Raise EngineFailed unless the file is there and all its parts that are there are files."""
    for part in parts_of(path):
        try:
            stat_regular(part)
        except FileNotFoundError as error:
            if part == path:
                raise EngineFailed(
                    f"There is no file at {path}.", "Download the model again."
                ) from error
        except OSError as error:
            raise EngineFailed(
                f"{part} cannot be read: {error.strerror}.", "Download the model again."
            ) from error
