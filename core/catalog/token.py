"""The person's Hub token, where every tool of the Hub keeps it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from core.storage.foreign_files import read_regular

LONGEST = 64 << 10
"""Bytes of the file that are read; a token has some 40 characters."""


def stored(hf_home: Path, environ: Mapping[str, str] = os.environ) -> str | None:
    """The token in force, or None: `HF_TOKEN`, else the file that `hf auth login` writes.

    Read anew each time, so that a login takes effect at once. Source: huggingface_hub's
    `get_token` and its constants `HF_TOKEN_PATH`, `HF_HOME`.
    """
    if token := (environ.get("HF_TOKEN") or environ.get("HUGGING_FACE_HUB_TOKEN") or "").strip():
        return token
    path = Path(environ.get("HF_TOKEN_PATH") or hf_home / "token").expanduser()
    try:
        return read_regular(path, LONGEST).decode("utf-8").strip() or None
    except (OSError, UnicodeDecodeError):
        return None
