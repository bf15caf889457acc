"""Reads the file of an image or a recording that goes into a question."""

from __future__ import annotations

import errno
import os

from modeldeck.core.errors import InvalidRequest
from modeldeck.core.formats.media_files import FORMATS, LARGEST_BYTES, media_type
from modeldeck.core.schema import Media, MediaKind
from modeldeck.core.storage.foreign_files import read_regular

_WORDS = {"image": "an image", "audio": "a recording"}


def read_media_file(path: str | os.PathLike[str], kind: MediaKind, *, at: int = 0) -> Media:
    """A file as a part of a message. Blocks. Raises InvalidRequest, which names the file.

    Args:
        path: Of a regular file of `LARGEST_BYTES` at most.
        kind: What it must be, by its first bytes.
        at: Where in the text of the message it stands.
    """
    name = os.fspath(path)
    try:
        data = read_regular(path, LARGEST_BYTES)
    except FileNotFoundError:
        raise InvalidRequest(f"There is no file {name}.", "Check the path.") from None
    except OSError as error:
        if error.errno == errno.EFBIG:
            raise InvalidRequest(
                f"{name} has more than {LARGEST_BYTES >> 20} MiB.", "Make it smaller first."
            ) from None
        raise InvalidRequest(
            f"{name} cannot be read: {error.strerror or error}.", "Give a file that you may read."
        ) from error
    found = media_type(data)
    if found is None or not found.startswith(kind):
        kind_found = f"is {found}" if found else "is of another kind, or empty"
        raise InvalidRequest(
            f"{name} is no file of {_WORDS[kind]} that can be read: it {kind_found}.",
            f"{FORMATS[kind]} can be read.",
        )
    return Media(kind=kind, data=data, at=at)
