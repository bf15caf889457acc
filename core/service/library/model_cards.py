"""Model cards, from the cache if the file is there, else from the Hub."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from modeldeck.core.catalog import model_card
from modeldeck.core.catalog.hub import HubClient
from modeldeck.core.errors import HubUnavailable, StorageTimeout
from modeldeck.core.formats.hub_names import check_repo, is_commit
from modeldeck.core.schema import CachedSnapshot, Card
from modeldeck.core.storage.foreign_files import in_file_thread, open_regular


async def find(
    hub: HubClient, snapshots: Sequence[CachedSnapshot], repo: str, revision: str | None = None
) -> Card:
    """Return the model card of a repository at a revision (its default branch if None).

    When the Hub cannot be reached and no revision was named, a card of any cached revision is
    returned. Raises as `HubClient.card`.
    """
    mine = [s for s in snapshots if s.repo.casefold() == check_repo(repo).casefold()]
    if revision is not None and is_commit(revision):
        return await _local(mine, revision) or await hub.card(repo, revision)
    try:
        commit = (await hub.repository(repo, revision)).revision
        return await _local(mine, commit) or await hub.card(repo, commit)
    except HubUnavailable:
        for snapshot in mine if revision is None else ():
            if found := await _local([snapshot], snapshot.revision):
                return found
        raise


async def _local(snapshots: Sequence[CachedSnapshot], commit: str) -> Card | None:
    """Return the cached card of this commit, if any tool has downloaded it."""
    for snapshot in snapshots:
        if snapshot.revision == commit and any(
            file.path == model_card.FILE for file in snapshot.files
        ):
            try:
                path = Path(snapshot.folder) / model_card.FILE
                data = await in_file_thread(partial(_read_limited, path), path)
            except (OSError, StorageTimeout):  # deleted or unreadable: the Hub has it too
                return None
            return model_card.read(snapshot.repo, commit, data, from_cache=True)
    return None


def _read_limited(path: Path) -> bytes:
    """Read up to one byte more than the limit of a card, to detect a longer one."""
    with open_regular(path) as file:
        return file.read(model_card.LIMIT + 1)
