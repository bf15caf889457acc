"""Commands about the files of models on disk: list, verify, delete."""

from __future__ import annotations

from modeldeck.core.concurrency import contained
from modeldeck.core.schema import (
    CacheListing,
    CacheSelection,
    DeletionPlan,
    DeletionReceipt,
    Verification,
)
from modeldeck.core.service.library.deletion import deletion_error
from modeldeck.core.service.wiring import ServiceParts


def _names(what: CacheSelection) -> str:
    """Return the text of a selection for the audit trail."""
    kinds = ("partials", "orphans", "detached", "prefixes")
    named = {kind: getattr(what, kind) for kind in kinds}
    words = [*what.models, *what.revisions, *what.repositories]
    return ", ".join([*words, *(name for name, is_selected in named.items() if is_selected)])


class CacheCommands:
    """The commands of `Deck.cache`."""

    def __init__(self, parts: ServiceParts) -> None:
        self._parts = parts

    async def listing(self) -> CacheListing:
        """List the content of the cache: sizes, shared files, and times of last use."""
        return await self._parts.verification.listing()

    async def verify(self, what: CacheSelection, origin: str) -> Verification:
        """Begin to verify files of the cache; an empty selection means all of it."""
        async with self._parts.audit.action(origin, "verify", _names(what)):
            return await self._parts.verification.verify(what)

    async def cancel_verification(self, key: str, origin: str) -> Verification:
        """Cancel a verification of the cache."""
        async with self._parts.audit.action(origin, "cancel", key):
            return await self._parts.verification.cancel(key)

    async def plan_deletion(self, what: CacheSelection) -> DeletionPlan:
        """Return what a deletion would remove and keep, and the bytes it would free."""
        return await self._parts.deletion.plan(what)

    async def delete(
        self, what: CacheSelection, origin: str, *, force: bool = False, whole: bool = False
    ) -> DeletionReceipt:
        """Delete files from the cache, also the models' partial files; the entries stay.

        Downloads of the models are canceled. Raises InUse if a model is loaded, unless `force`:
        then it is unloaded first. Raises StorageFailed if nothing could be deleted; failures of
        single items are in the receipt, and raised too if `whole`.
        """
        async with self._parts.audit.action(origin, "delete files", _names(what)):
            receipt = await self._parts.deletion.delete(what, force=force)
            await self._parts.verification.forget(receipt.model_ids)
            with contained("measuring the disk usage"):
                await self._parts.sampler.count_disk()
            if whole and receipt.failed:
                raise deletion_error(receipt)
            return receipt
