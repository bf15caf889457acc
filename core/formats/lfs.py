"""Git LFS pointers: the small text that git keeps in place of a large file.

They are found where a repository was cloned without git-lfs, or a pointer was uploaded as the file.
Source: git-lfs, docs/spec.md.
"""

from __future__ import annotations

from modeldeck.core.errors import Corrupt

_START = b"version https://git-lfs.github.com/spec/"


def refuse_pointer(data: bytes | bytearray, what: str = "This") -> None:
    """Raise Corrupt where the bytes that a file begins with are those of a pointer."""
    if data[: len(_START)] == _START:
        raise Corrupt(
            f"{what} is a Git LFS pointer and not the model itself.",
            "Fetch the real file with `git lfs pull` in the folder it was cloned to, or with"
            " `modeldeck pull owner/repo`.",
        )
