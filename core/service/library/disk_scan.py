"""Scans of the disk for models: the cache, custom models, and the folders of other tools."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path

from modeldeck.core.concurrency import together
from modeldeck.core.errors import StorageTimeout
from modeldeck.core.service.library import custom_files
from modeldeck.core.service.library.local_files import LocalFiles, signature
from modeldeck.core.service.library.other_tools import OtherTools, ToolFolder
from modeldeck.core.storage.foreign_files import in_file_thread

logger = logging.getLogger(__name__)

CHECK_S = 5.0
"""Time limit in seconds for checking whether a custom model still exists."""


class DiskScan:
    """What the last scan of each folder found, and the next scan."""

    def __init__(self, roots: Sequence[Path], other_tools: Sequence[ToolFolder]) -> None:
        self.local_files = LocalFiles(roots)
        self.other_tools = OtherTools(other_tools)
        self._signatures: dict[Path, object] = {}

    async def look(self, customs: Collection[str], *, force: bool, limit_s: float) -> bool:
        """Read the folders that changed, all of them if `force`. Returns whether anything changed.

        `customs` are the paths of custom models. A folder that does not answer within `limit_s`
        seconds keeps its models as last seen.
        """
        changed = await together(
            (
                *(self._scan_folder(root, force, limit_s) for root in self.local_files.roots),
                *(self._check_custom(path) for path in customs),
                *(self._read_tool(folder, limit_s) for folder in self.other_tools.folders),
            )
        )
        return any(changed)

    async def _scan_folder(self, root: Path, force: bool, limit_s: float) -> bool:
        """Read a folder of models if its signature changed. Returns whether it was read."""
        try:
            found = await in_file_thread(partial(signature, root), root, limit_s=limit_s)
            if not force and found == self._signatures.get(root):
                return False
            scan = await in_file_thread(partial(self.local_files.read, root), root, limit_s=limit_s)
        except StorageTimeout as error:
            logger.warning("The models in %s are not read: %s", root, error)
            return False
        self._signatures[root] = found
        self.local_files.set_scan(root, scan)
        return True

    async def _read_tool(self, folder: ToolFolder, limit_s: float) -> bool:
        """Read a folder of another tool. Returns whether its models changed."""
        try:
            found = await in_file_thread(
                partial(self.other_tools.read, folder), folder.path, custom=True, limit_s=limit_s
            )
        except StorageTimeout as error:
            logger.warning("The models in %s are not read: %s", folder.path, error)
            return False
        return self.other_tools.set_found(folder, found)

    async def _check_custom(self, path: str) -> bool:
        """Check whether a custom model exists, and its projector. Returns whether that changed.

        One that does not answer stays as it was; loading it reports the error.
        """
        before = self.local_files.custom(path)
        try:
            found = await in_file_thread(
                partial(custom_files.look_at, path, before), path, custom=True, limit_s=CHECK_S
            )
        except StorageTimeout as error:
            logger.warning("A custom model is not checked: %s", error)
            return False
        return self.local_files.set_custom(path, found)
