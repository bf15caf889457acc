"""Names of repositories, revisions, files and blobs of the Hub, validated.

Names come from people, other programs and the Hub, and end up in URLs and in paths on disk. So each
kind has one grammar, the strictest of all places where the name is used: a file path must be
harmless under POSIX and Windows rules on every platform, because a cache moves between machines
(CVE-2026-15717: an absolute or UNC file name escaped its folder). Each `check_*` returns the name
unchanged, or raises InvalidRequest with the fault.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from modeldeck.core.errors import InvalidRequest

PATH_LIMIT = 1024
"""Maximum bytes of a file path in a repository; more than any real one, less than PATH_MAX."""
SEGMENT_LIMIT = 255
"""Maximum bytes of one segment: NAME_MAX on Linux and macOS."""

_REPO_PART = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?")
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*(?:/[A-Za-z0-9_][A-Za-z0-9._+-]*)*")
_LABEL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,127}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_BLOB = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")

_FORBIDDEN = frozenset('<>:"|?*\\')
"""Forbidden in file names by Windows; backslash and colon also allow to escape a folder."""
_DEVICES = frozenset(
    ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"]
    + [f"{port}{digit}" for port in ("COM", "LPT") for digit in "123456789¹²³"]
)
"""Names that Windows takes for devices, in any folder and with any extension.

Source: Microsoft, "Naming Files, Paths, and Namespaces".
"""

WEB_OWNER = "_web"
"""Owner of the pseudo-repositories for URLs. No name on the Hub begins with `_`."""


def is_web(repo: str) -> bool:
    """Whether this is the pseudo-repository of a URL."""
    return repo.startswith(f"{WEB_OWNER}/")


def check_repo(text: str) -> str:
    """Check a repository id, `owner/repo` or (for the Hub's oldest ones) `repo`.

    The rules are those of huggingface_hub's `validate_repo_id`: ASCII letters, digits, `-`, `_` and
    `.`, no `--` or `..`, not ending in `.git`, at most 96 characters per part.
    """
    parts = text.split("/")
    good = len(parts) <= 2 and all(_REPO_PART.fullmatch(part) for part in parts)
    if not good or "--" in text or ".." in text or text.lower().endswith(".git"):
        raise InvalidRequest(
            f"{text!r} is not a repository of the Hub.",
            "Write owner/repo, in letters, digits, '-', '_' and '.'.",
        )
    return text


def is_repo(text: str) -> bool:
    """Whether `check_repo` accepts a text."""
    try:
        check_repo(text)
    except InvalidRequest:
        return False
    return True


def check_revision(text: str) -> str:
    """Check a revision: 40 hexadecimal digits, or the name of a branch, tag or `refs/pr/N`.

    Stricter than git's `check-ref-format`, since a ref is also a file in the cache.
    """
    if not _REVISION.fullmatch(text) or ".." in text or text.endswith((".lock", ".")):
        raise InvalidRequest(
            f"{text!r} is not a revision.", "Write a commit, or the name of a branch or tag."
        )
    return check_path(text)


def is_commit(text: str) -> bool:
    """Whether a text is a full commit id: 40 lower-case hexadecimal digits."""
    return _COMMIT.fullmatch(text) is not None


def check_blob(text: str) -> str:
    """Check the name of a blob: a SHA-256 (64 digits) or a git blob SHA-1 (40).

    A looser rule allowed a digest to escape its folder (CVE-2026-7020).
    """
    if not _BLOB.fullmatch(text):
        raise InvalidRequest(f"{text!r} is not the hash of a file.")
    return text


def check_path(text: str) -> str:
    """Check a path in a repository: relative, with forward slashes, safe on every platform."""
    if reason := _path_fault(text):
        raise InvalidRequest(f"{text!r} cannot be the name of a file here: {reason}.")
    return text


def is_path(text: str) -> bool:
    """Whether `check_path` accepts a text."""
    return _path_fault(text) is None


def check_paths(paths: Iterable[str]) -> tuple[str, ...]:
    """Check paths in one folder: each as by `check_path`, and no two may differ only by case.

    On case-insensitive systems (macOS, Windows) the second would overwrite the first.
    """
    seen: dict[str, str] = {}
    for path in paths:
        other = seen.setdefault(check_path(path).casefold(), path)
        if other != path:
            raise InvalidRequest(f"{other!r} and {path!r} would be the same file on some systems.")
    return tuple(seen.values())


def check_label(text: str) -> str:
    """Check the label of a variant, such as `Q4_K_M`."""
    if not _LABEL.fullmatch(text):
        raise InvalidRequest(f"{text!r} is not the label of a variant.", "It looks like Q4_K_M.")
    return text


def _path_fault(text: str) -> str | None:
    if not text or len(text) > PATH_LIMIT or len(text.encode("utf-8", "replace")) > PATH_LIMIT:
        return "it is empty" if not text else "it is too long"
    if any(unicodedata.category(char) in ("Cc", "Cs") for char in text):
        return "it has control characters"
    if bad := _FORBIDDEN.intersection(text):
        return f"it has {''.join(sorted(bad))!r}"
    if unicodedata.normalize("NFC", text) != text:
        return "it is not in Unicode's composed form (NFC)"
    return next(filter(None, map(_segment_fault, text.split("/"))), None)


def _segment_fault(segment: str) -> str | None:
    if segment in ("", ".", ".."):
        return "it is absolute or leaves its folder"
    if segment.endswith((" ", ".")) or segment.startswith(" "):
        return "a part of it starts or ends with a space, or ends with a dot"
    if len(segment.encode()) > SEGMENT_LIMIT:
        return "a part of it is too long"
    if segment.split(".")[0].rstrip(" ").upper() in _DEVICES:
        return f"{segment!r} is a device on Windows"
    return None
