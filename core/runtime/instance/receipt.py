"""What unloading gave back, and what did not come back. Pure: measurements in, a receipt out."""

from __future__ import annotations

from modeldeck.core.schema import Instance, ProcessMemory, UnloadReceipt

SHARED_BYTES = 16 << 20
"""Shared pages that are not worth a word: those of Python and the C library."""
MIB = 1 << 20


def held(memory: ProcessMemory | None) -> int | None:
    """What a process holds: its share of shared pages, or its footprint, else all its pages."""
    if memory is None:
        return None
    known = (memory.pss_bytes, memory.footprint_bytes, memory.rss_bytes)
    return next(count for count in known if count is not None)


def shared(memory: ProcessMemory | None) -> int:
    """Of what a process holds, pages that others map as well, such as the weights of a model.

    0 where it is no more than what every process shares.
    """
    if memory is None or memory.pss_bytes is None or memory.private_bytes is None:
        return 0
    count = memory.pss_bytes - memory.private_bytes
    return count if count > SHARED_BYTES else 0


def receipt(
    record: Instance,
    before: ProcessMemory | None,
    after: ProcessMemory | None,
    *,
    seconds: float,
    gone: bool,
) -> UnloadReceipt:
    """The receipt for an instance whose process was told to end.

    Args:
        record: The instance.
        before: What its process held when it was told; None when that is not known.
        after: What it holds now, where it is still there.
        seconds: How long it took.
        gone: Whether the process is gone.
    """
    before_bytes, after_bytes = held(before), 0 if gone else held(after)
    stays = shared(before)
    freed = None
    if before_bytes is not None and after_bytes is not None:
        freed = max(0, before_bytes - max(after_bytes, stays))
    return UnloadReceipt(
        instance_id=record.id,
        model_id=record.model_id,
        unique=record.unique,
        before_bytes=before_bytes,
        after_bytes=after_bytes,
        freed_bytes=freed,
        seconds=seconds,
        process_gone=gone,
        mapped_bytes=None if before is None else before.mapped_bytes,
        gpu_bytes=None if before is None else before.gpu_bytes,
        not_freed=_holder(record, after_bytes, stays, gone=gone),
    )


def _holder(record: Instance, after: int | None, stays: int, *, gone: bool) -> str | None:
    if not gone:
        amount = "its memory" if after is None else f"{after / MIB:.0f} MiB"
        return (
            f"{amount} is still held by process {record.pid}, which does not end although it was"
            " killed: the system is busy for it, as with a disk that does not answer"
        )
    if stays:
        return (
            f"{stays / MIB:.0f} MiB are pages of files that another process maps as well: they"
            " come back when that ends"
        )
    return None


def nothing_held(record: Instance) -> UnloadReceipt:
    """The receipt for an instance whose process had ended already."""
    return UnloadReceipt(
        instance_id=record.id,
        model_id=record.model_id,
        unique=record.unique,
        before_bytes=0,
        after_bytes=0,
        freed_bytes=0,
        seconds=0.0,
        process_gone=True,
    )
