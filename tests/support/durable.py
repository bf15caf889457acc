"""What a core's database says of downloads that are under way."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec

from modeldeck.core.downloads.job_records import JournalEntry


def durable_bytes(database: Path) -> int:
    """Bytes of partial files that a core claims to be durable: what a kill cannot cost."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as reader:
        bodies = [body for (body,) in reader.execute("SELECT body FROM jobs")]
    claims = [msgspec.json.decode(body, type=JournalEntry).claim for body in bodies]
    return sum(end - start for claim in claims if claim for start, end in claim.durable)
