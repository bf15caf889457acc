"""Git LFS pointers: small text files that git stores instead of large files.

A model file is one if its repository was cloned without git-lfs, or the pointer was uploaded.
Source: git-lfs, docs/spec.md.
"""

from __future__ import annotations

from modeldeck.core.errors import Corrupt

_START = b"version https://git-lfs.github.com/spec/"


def refuse_pointer(data: bytes | bytearray, what: str = "This") -> None:
    """Raise Corrupt if the start of a file is that of an LFS pointer."""
    if data[: len(_START)] == _START:
        raise Corrupt(
            f"{what} is a Git LFS pointer and not the model itself.",
            "Fetch the real file with `git lfs pull` in the folder it was cloned to, or with"
            " `modeldeck pull owner/repo`.",
        )
