"""Splits the plan of a model into the machine's memory and that of each GPU. Mostly pure.

llama.cpp's counts (`modeldeck.core.runtime.engines.llama.devices`) are compared with its log and
with the size of the model, and corrected for known differences of plan and load: a plan uses
`ggml_backend_sched_reserve_size` (ggml-backend.cpp), which ignores on which device llama.cpp puts
the norms of a layer (`llama_context::graph_get_cb`, llama-context.cpp), and a load does not. With
llama.cpp of llama-cpp-python 0.3.36 the plan equalled the allocations of all loads, with these
exceptions:

- a KV cache that is not where its layers are (`offload_kqv` off), which modeldeck never asks for;
- batches of fewer than 32 tokens, with some layers on the GPU: not known here;
- all layers, on more than one GPU: each but the first may take one or two activations more than
  planned, which are added here, or, where they work at the same time, four less, which stay in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from modeldeck.core.runtime.engines.llama.devices import Count, Devices, NotKnown, has_gpu
from modeldeck.core.runtime.engines.llama.log import Buffers
from modeldeck.core.runtime.engines.llama.needs import EvaluationShape
from modeldeck.core.schema import DeviceBytes

SMALL_BATCH = 32
"""Tokens; below, llama.cpp says where norms belong also where not all layers are on GPUs."""
ACTIVATIONS = 2
"""That a later device takes at most beyond its plan, with all layers on several devices: hidden
states of one batch. None or one for all architectures but modern-bert
and neo-bert, which take two."""
LOGGED_BYTES = 1 << 14
"""Sizes in the log are told in hundredths of a MiB: how far one may be off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A model and a context that llama.cpp made to plan with."""

    model: Any
    """`llama_model *`."""
    context: Any
    """`llama_context *`."""
    logged: Buffers
    """What the log says of both."""
    figures: EvaluationShape


def with_graph_of(one: Opened, other: Opened) -> Opened:
    """A plan of a model with the graph of another plan, and the larger buffer of the two. Pure."""
    most = max(one.logged.compute_bytes, other.logged.compute_bytes)
    return replace(
        one,
        logged=replace(one.logged, compute_bytes=most),
        figures=replace(one.figures, graph=other.figures.graph),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A model and its context, as llama.cpp plans them."""

    counts: tuple[tuple[str | None, Count], ...]
    """Counts, each with the name of the GPU; None is the machine."""
    order: tuple[str, ...]
    """GPUs with memory of their own, in llama.cpp's order."""
    logged: Buffers
    model_bytes: int
    """Of all tensors in the file."""
    batch: int
    """Tokens evaluated at once."""
    width: int
    """Elements of the hidden state, which have 32 bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """A plan, split by device."""

    machine: DeviceBytes
    """The part in the machine's memory."""
    devices: tuple[DeviceBytes, ...] = ()
    """The part in each GPU that has its own memory; without GPUs that take nothing."""
    exact: bool = True


def measure(c: Any, parts: Sequence[Opened], *, adapters: bool) -> Split | None:
    """How planned models are split; None where there is no GPU with memory of its own.

    Args:
        c: llama.h, as llama-cpp-python binds it.
        parts: The models that will be in the process.
        adapters: Whether LoRA adapters will be laid over them, which are not planned.

    Raises NotKnown where the split is not known.
    """
    if not has_gpu(c):
        return None
    devices = Devices(c)
    gpus = tuple(device.name for device in devices.all() if device.place != "machine")
    if not gpus:  # they have the machine's memory
        return None
    found = together([split(_part(c, devices, gpus, part)) for part in parts])
    if adapters and found.devices:
        raise NotKnown("llama.cpp does not plan LoRA adapters")
    return found


def _part(c: Any, devices: Devices, gpus: tuple[str, ...], opened: Opened) -> Part:
    counts = []
    for count in devices.counts(opened.context):
        if not (count.weights or count.kv or count.compute):
            continue  # without a byte
        device = devices.device_of(count.buffer_type)
        counts.append((None if device is None else device.name, count))
    return Part(
        counts=tuple(counts),
        order=gpus,
        logged=opened.logged,
        model_bytes=c.llama_model_size(opened.model),
        batch=c.llama_n_ubatch(opened.context),
        width=c.llama_model_n_embd(opened.model),
    )


def split(part: Part) -> Split:
    """Split a plan into the machine and each GPU. Pure.

    Raises NotKnown where the counts contradict the log, or where llama.cpp is known to plan
    differently than it loads.
    """
    _check(part)
    found = [device for name in part.order if (device := _sum(part, name)).total_bytes]
    whole = part.logged.all_offloaded
    if found and part.batch < SMALL_BATCH and not whole:
        raise NotKnown(f"llama.cpp plans batches of fewer than {SMALL_BATCH} tokens otherwise")
    several = whole and len(found) > 1
    if several and not part.logged.pipelined:
        more = ACTIVATIONS * 4 * part.batch * part.width
        found[1:] = [replace(d, compute_bytes=d.compute_bytes + more) for d in found[1:]]
    return Split(machine=_sum(part, None), devices=tuple(found), exact=not several)


def _sum(part: Part, owner: str | None) -> DeviceBytes:
    counts = [count for name, count in part.counts if name == owner]
    return DeviceBytes(
        name=owner or "",
        weights_bytes=sum(count.weights for count in counts),
        kv_bytes=sum(count.kv for count in counts),
        compute_bytes=sum(count.compute for count in counts),
    )


def _check(part: Part) -> None:
    """Raises NotKnown where the counts are not those of this model and this context.

    Weights may take more than the file has, as some are on two devices and rows are padded; they
    never take less than all tensors that are used.
    """
    counts, logged = [count for _, count in part.counts], part.logged
    slack = LOGGED_BYTES * (1 + len(counts))
    weights = sum(count.weights for count in counts)
    if not part.model_bytes - logged.unused_bytes <= weights <= 3 * part.model_bytes + slack:
        raise NotKnown("what llama.cpp tells of the weights does not fit the size of the model")
    if abs(sum(count.kv for count in counts) - logged.kv_bytes) > slack:
        raise NotKnown("what llama.cpp tells of the KV cache is not what it logs")
    if abs(sum(count.compute for count in counts) - logged.compute_bytes) > slack:
        raise NotKnown("what llama.cpp tells of its work buffers is not what it logs")


def together(parts: Sequence[Split]) -> Split:
    """Add up the splits of several models in one process. Pure."""
    sums: dict[str, DeviceBytes] = {}
    for part in parts:
        for device in (part.machine, *part.devices):
            known = sums.get(device.name)
            sums[device.name] = device if known is None else _add(known, device)
    machine = sums.pop("")
    return Split(
        machine=machine, devices=tuple(sums.values()), exact=all(part.exact for part in parts)
    )


def larger(one: Split, other: Split) -> Split:
    """The split with the larger compute buffers of two plans of one model, by device. Pure."""
    others = {device.name: device.compute_bytes for device in (other.machine, *other.devices)}

    def most(device: DeviceBytes) -> DeviceBytes:
        compute = max(device.compute_bytes, others.get(device.name, 0))
        return replace(device, compute_bytes=compute)

    return Split(
        machine=most(one.machine),
        devices=tuple(most(device) for device in one.devices),
        exact=one.exact and other.exact,
    )


def _add(one: DeviceBytes, other: DeviceBytes) -> DeviceBytes:
    return DeviceBytes(
        name=one.name,
        weights_bytes=one.weights_bytes + other.weights_bytes,
        kv_bytes=one.kv_bytes + other.kv_bytes,
        compute_bytes=one.compute_bytes + other.compute_bytes,
    )
