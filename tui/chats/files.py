"""Files that front ends read and write for conversations: JSON schemas, exports."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from modeldeck.core.errors import InvalidRequest, StorageFailed
from modeldeck.core.storage.foreign_files import in_file_thread, read_regular
from modeldeck.tui.chats.sampling import schema_of

MOST_SCHEMA_BYTES = 1 << 20


async def read_schema(path: str) -> dict[str, Any] | None:
    """The JSON Schema in a file; None for an empty path. Raises DeckError."""
    if not path:
        return None

    def read() -> bytes:
        return read_regular(os.path.expanduser(path), MOST_SCHEMA_BYTES)

    try:
        return schema_of((await in_file_thread(read, path, custom=True)).decode())
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"The JSON schema {path} cannot be read: {error}.") from error


async def write_new(written: str, text: str) -> str:
    """Write a new file; return its path. Raises DeckError; a file that exists stays as it is."""

    def write() -> str:
        path = Path(os.path.abspath(os.path.expanduser(written.strip())))
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
        except FileExistsError:
            raise InvalidRequest(f"{path} exists already.", "Choose another name.") from None
        except OSError as error:
            raise StorageFailed(f"{path} cannot be written: {error.strerror}.") from error
        return str(path)

    return await in_file_thread(write, written, custom=True)
