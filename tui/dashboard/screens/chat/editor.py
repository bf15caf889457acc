"""Writes a text in the user's editor, while the dashboard gives the terminal away."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from textual.app import SuspendNotSupported

from modeldeck.core.concurrency import in_thread
from modeldeck.core.errors import InvalidRequest

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

MOST_BYTES = 4 << 20


class SuspendableApp(Protocol):
    """The app, as far as its terminal can be given away."""

    def suspend(self) -> AbstractContextManager[None]:
        """Give the terminal away."""

    def batch_update(self) -> AbstractContextManager[None]:
        """Draw nothing."""


def editor_command(environ: Mapping[str, str] = os.environ) -> list[str]:
    """The editor as words: VISUAL, EDITOR, else vi. Raises InvalidRequest."""
    chosen = environ.get("VISUAL") or environ.get("EDITOR") or "vi"
    try:
        words = shlex.split(chosen)
    except ValueError as error:
        raise InvalidRequest(f"EDITOR cannot be read: {error}.", "Set EDITOR.") from None
    if not words or shutil.which(words[0]) is None:
        raise InvalidRequest(f"There is no editor {chosen!r}.", "Set EDITOR, such as EDITOR=nano.")
    return words


async def edited(app: SuspendableApp, text: str) -> str:
    """Open the editor on a text; return what it left. Raises InvalidRequest.

    The text lies in a private folder of the system's temporary files for as long, and is removed
    afterwards.
    """
    command = editor_command()
    folder = await in_thread(lambda: Path(tempfile.mkdtemp(prefix="modeldeck-")))
    try:
        file = folder / "text.md"
        await in_thread(lambda: file.write_text(text, encoding="utf-8"))
        try:
            with app.batch_update(), app.suspend():  # nothing may be drawn over the editor
                process = await asyncio.create_subprocess_exec(*command, str(file))
                code = await process.wait()
        except SuspendNotSupported as error:
            raise InvalidRequest("This terminal cannot be given to an editor.") from error
        if code != 0:
            raise InvalidRequest(f"The editor ended with code {code}; the text stays as it was.")
        return await in_thread(lambda: _read(file))
    finally:
        await in_thread(lambda: shutil.rmtree(folder, ignore_errors=True))


def _read(file: Path) -> str:
    try:
        if file.stat().st_size > MOST_BYTES:
            raise InvalidRequest("The text is too long; it stays as it was.")
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"The text cannot be read: {error}.") from error
