"""Model cards: the README of a repository. Pure."""

from __future__ import annotations

from modeldeck.core.schema import Card

FILE = "README.md"
"""File name of a model card on the Hub."""
LIMIT = 256 << 10
"""Maximum bytes of a card that are read: about 40,000 words."""


def read(repo: str, commit: str, data: bytes, *, from_cache: bool) -> Card:
    """Decode a card from the bytes of its file; a long one is truncated."""
    return Card(
        repo=repo,
        revision=commit,
        text=data[:LIMIT].decode("utf-8", errors="replace").removeprefix("\ufeff"),
        truncated=len(data) > LIMIT,
        from_cache=from_cache,
    )
