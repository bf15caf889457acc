"""The two caches: that of the Hub, and one for files from URLs.

Both have the same layout, so listing, verifying and deleting work on either. Files from URLs are
not in the Hub's cache, which all tools share: `hf` would take them for a repository.
"""

from __future__ import annotations

from pathlib import Path

from modeldeck.core.formats.hub_names import is_web
from modeldeck.core.hub_cache.layout import BlobLock, HubCache
from modeldeck.core.schema import RepoFile


class CacheStores:
    """Routes each repository, by its name, to the Hub's cache or to the one for URLs."""

    def __init__(self, hub: Path, web: Path) -> None:
        self.hub = HubCache(hub)
        self.web = HubCache(web)

    @property
    def roots(self) -> tuple[Path, ...]:
        """The root folders of both caches."""
        return self.hub.root, self.web.root

    def of(self, repo: str) -> HubCache:
        """Return the cache of a repository."""
        return self.web if is_web(repo) else self.hub

    def partial(self, repo: str, blob: str) -> Path:
        """As `HubCache.partial`."""
        return self.of(repo).partial(repo, blob)

    def blob(self, repo: str, blob: str) -> Path:
        """As `HubCache.blob`."""
        return self.of(repo).blob(repo, blob)

    def present(self, repo: str, revision: str, file: RepoFile) -> Path | None:
        """As `HubCache.present`."""
        return self.of(repo).present(repo, revision, file)

    def lock(self, repo: str, blob: str) -> BlobLock:
        """As `HubCache.lock`."""
        return self.of(repo).lock(repo, blob)

    def prepare(self, repo: str) -> None:
        """As `HubCache.prepare`."""
        self.of(repo).prepare(repo)

    def publish(
        self, repo: str, revision: str, file: RepoFile, *, fresh: bool, content: str = ""
    ) -> Path:
        """As `HubCache.publish`."""
        cache = self.of(repo)
        return cache.publish(repo, revision, file, fresh=fresh, content=content)

    def set_ref(self, repo: str, ref: str, revision: str) -> None:
        """As `HubCache.set_ref`."""
        self.of(repo).set_ref(repo, ref, revision)

    def discard(self, repo: str, blob: str) -> None:
        """As `HubCache.discard`."""
        self.of(repo).discard(repo, blob)
