"""Model cards: from the cache where the file lies there, else from the Hub."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from modeldeck.core.catalog import model_card
from modeldeck.core.catalog.hub import HubClient
from modeldeck.core.errors import HubUnavailable, StorageTimeout
from modeldeck.core.formats.hub_names import check_repo, is_commit
from modeldeck.core.schema import CachedSnapshot, Card
from modeldeck.core.storage.foreign_files import in_thread, open_regular


async def find(
    hub: HubClient, snapshots: Sequence[CachedSnapshot], repo: str, revision: str | None = None
) -> Card:
    """The model card of a repository, at a revision (its default branch if none is named).

    A Hub that cannot be reached is no hindrance where any revision in the cache has a card, and
    none was named. Raises as `HubClient.card`.
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
    """The card of this commit, where some tool fetched it."""
    for snapshot in snapshots:
        if snapshot.revision == commit and any(
            file.path == model_card.FILE for file in snapshot.files
        ):
            try:
                path = Path(snapshot.folder) / model_card.FILE
                data = await in_thread(partial(_start, path), path)
            except (OSError, StorageTimeout):  # gone, or not to be read: the Hub has it too
                return None
            return model_card.read(snapshot.repo, commit, data, from_cache=True)
    return None


def _start(path: Path) -> bytes:
    """What of a file a card may have, and a byte more, to tell one that is longer."""
    with open_regular(path) as file:
        return file.read(model_card.LIMIT + 1)
