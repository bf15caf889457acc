"""The user's token for the Hub, from where all tools of the Hub store it."""

from __future__ import annotations

import codecs
import os
from collections.abc import Mapping
from pathlib import Path

from modeldeck.core.errors import HubUnavailable
from modeldeck.core.storage.foreign_files import read_regular

_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
_LENGTH_LIMIT = 8192
"""Maximum bytes. The Hub's tokens have 37; those of other identity providers a few thousand."""


def stored(hf_home: Path, environ: Mapping[str, str] = os.environ) -> str | None:
    """Return the token from `HF_TOKEN`, else from the file that `hf auth login` writes, or None.

    Read anew each time, so that a login takes effect at once. Source: huggingface_hub's
    `get_token` and its constants `HF_TOKEN_PATH`, `HF_HOME`.

    A byte order mark at the start of the file is ignored: some editors and PowerShell write one.
    Raises HubUnavailable, naming the variable or file but never its content, for anything else than
    one line of printable ASCII.
    """
    for name in _VARIABLES:
        if value := environ.get(name, "").strip():
            return _checked(value, name)
    path = Path(environ.get("HF_TOKEN_PATH") or hf_home / "token").expanduser()
    try:
        text = _decoded(read_regular(path, 2 * _LENGTH_LIMIT))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise _refused(str(path), f"cannot be read: {error.strerror or 'it is no file'}") from error
    except UnicodeDecodeError:
        # Without a cause: this exception holds the content.
        raise _refused(str(path), "is not text") from None
    return _checked(text, str(path)) if text else None


def _decoded(data: bytes) -> str:
    """Decode the file, without a byte order mark. Raises UnicodeDecodeError."""
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return data.decode("utf-16" if wide else "utf-8-sig").strip()


def _checked(token: str, place: str) -> str:
    is_line = token.isascii() and token.isprintable() and " " not in token
    if not is_line or len(token) > _LENGTH_LIMIT:
        raise _refused(place, "is not one line of printable ASCII")
    return token


def _refused(place: str, fault: str) -> HubUnavailable:
    return HubUnavailable(
        f"The Hub is not asked: the token in {place} {fault}.",
        "Write it anew with `hf auth login`, or remove it: public repositories need none.",
    )
