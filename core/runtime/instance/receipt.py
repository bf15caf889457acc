"""Receipt of an unload: memory freed and memory that stays taken. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from modeldeck.core.schema import Engine, Instance, ProcessMemory, UnloadReceipt

LIBRARY_BYTES: dict[Engine, int] = {"llama.cpp": 16 << 20, "mlx": 48 << 20}
"""Shared pages below this are those of Python and the engine's libraries, and are not reported: of
two MLX engines, each counts 18 MiB of them. MLX reads its weights, so it shares none of those."""
MIB = 1 << 20


def held(memory: ProcessMemory | None) -> int | None:
    """Bytes that a process holds: the first known of PSS, footprint and RSS."""
    if memory is None:
        return None
    known = (memory.pss_bytes, memory.footprint_bytes, memory.rss_bytes)
    return next(count for count in known if count is not None)


def shared(memory: ProcessMemory | None, engine: Engine) -> int:
    """Bytes of an engine's process that others map as well, such as the weights of a model.

    0 where they are no more than the libraries that all processes share.
    """
    if memory is None or memory.pss_bytes is None or memory.private_bytes is None:
        return 0
    count = memory.pss_bytes - memory.private_bytes
    return count if count > LIBRARY_BYTES[engine] else 0


def measured_fields(record: Instance, memory: ProcessMemory) -> dict[str, Any]:
    """Fields of the record that tell what its process takes, by name."""
    return {
        "measured_bytes": held(memory),
        "private_bytes": memory.private_bytes,
        "mapped_bytes": memory.mapped_bytes,
        "gpu_bytes": memory.gpu_bytes,
        "peak_bytes": max(memory.peak_bytes or memory.rss_bytes, record.peak_bytes or 0),
    }


def receipt(
    record: Instance,
    before: ProcessMemory | None,
    after: ProcessMemory | None,
    *,
    seconds: float,
    gone: bool,
) -> UnloadReceipt:
    """Return the receipt for an instance whose process was ended.

    Args:
        record: The instance.
        before: Memory of its process before the end; None when that is not known.
        after: Memory of its process now, if it still runs.
        seconds: Time that ending it took.
        gone: Whether the process is gone.
    """
    before_bytes, after_bytes = held(before), 0 if gone else held(after)
    shared_bytes = shared(before, record.engine)
    freed = None
    if before_bytes is not None and after_bytes is not None:
        freed = max(0, before_bytes - max(after_bytes, shared_bytes))
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
        not_freed=_reason_not_freed(record, after_bytes, shared_bytes, gone=gone),
    )


def _reason_not_freed(
    record: Instance, after: int | None, shared_bytes: int, *, gone: bool
) -> str | None:
    """Why memory stays taken, as the end of a sentence; None where it does not."""
    if not gone:
        amount = "its memory" if after is None else f"{after / MIB:.0f} MiB"
        return (
            f"{amount} is still held by process {record.pid}, which does not end although it was"
            " killed: it waits in the system, as for a disk that does not answer"
        )
    if shared_bytes:
        return (
            f"{shared_bytes / MIB:.0f} MiB are pages of files that another process maps as well:"
            " they come back when that ends"
        )
    return None


def unknown_receipt(record: Instance, *, gone: bool) -> UnloadReceipt:
    """Return the receipt for an end that failed before the memory could be measured."""
    return replace(
        nothing_held(record),
        before_bytes=None,
        after_bytes=None,
        freed_bytes=None,
        process_gone=gone,
    )


def nothing_held(record: Instance) -> UnloadReceipt:
    """Return the receipt for an instance whose process had ended before."""
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
