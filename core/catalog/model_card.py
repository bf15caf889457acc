"""Model cards: what the makers of a repository wrote about it. Pure."""

from __future__ import annotations

from modeldeck.core.schema import Card

FILE = "README.md"
"""Where the Hub looks for a card."""
LIMIT = 256 << 10
"""Bytes of a card that are read: a book of 40,000 words."""


def read(repo: str, commit: str, data: bytes, *, from_cache: bool) -> Card:
    """A card of the bytes of its file; of one that is too long, the beginning."""
    return Card(
        repo=repo,
        revision=commit,
        text=data[:LIMIT].decode("utf-8", errors="replace").removeprefix("\ufeff"),
        truncated=len(data) > LIMIT,
        from_cache=from_cache,
    )
