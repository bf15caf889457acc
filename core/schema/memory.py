"""Memory and disk: what there is, what a process holds, what a load would take."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from modeldeck.core.schema.errors import ErrorInfo

Verdict = Literal["fits", "tight", "too large", "refused", "unknown"]
"""`refused`: no memory helps, since the model's own files stand against loading it here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One graphics processor with memory of its own."""

    index: int
    name: str
    total_bytes: int | None = None
    used_bytes: int | None = None
    free_bytes: int | None = None
    busy: float | None = None
    """Fraction of the last moments in which it worked; None where its driver does not tell."""
    celsius: int | None = None
    """Its temperature; None where its driver does not tell."""
    watts: int | None = None
    """The power that it draws; None where its driver does not tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """System memory, as the operating system tells it."""

    total_bytes: int | None = None
    available_bytes: int | None = None
    """What can be taken without swapping: `MemAvailable` on Linux, free plus inactive on macOS."""
    budget_bytes: int | None = None
    """What models may take together: what is available, plus what they hold, less the reserve;
    never more than the budget that a person set."""
    swap_used_bytes: int | None = None
    gpus: tuple[Gpu, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessMemory:
    """What one process holds, as the operating system tells it."""

    rss_bytes: int
    """Resident pages, shared ones counted in full."""
    pss_bytes: int | None = None
    """Resident pages, each shared one divided by those who share it; Linux only."""
    private_bytes: int | None = None
    """Pages that no other process holds (USS): freed when the process ends."""
    mapped_bytes: int | None = None
    """Of the resident pages, those of files; Linux only."""
    footprint_bytes: int | None = None
    """What the kernel charges to the process, its memory on the GPU included; macOS only."""
    gpu_bytes: int | None = None
    """Memory of GPUs with memory of their own; None where there is none, or it is not told."""
    peak_bytes: int | None = None
    """The largest resident size so far; on macOS the largest footprint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """The file system that holds the cache."""

    path: str = ""
    free_bytes: int | None = None
    cache_bytes: int | None = None
    """Bytes of all blobs in the Hugging Face cache, partial files included."""
    partial_bytes: int | None = None
    """Bytes of partial files that no running job owns or will resume, plus those of jobs."""
    prefix_cache_bytes: int | None = None
    """Bytes of conversations that engines saved (`runtime.prefix_cache_disk_bytes`); they lie in
    the state folder, which may be on another disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceBytes:
    """What the engine plans to take of the own memory of one GPU.

    Not what its driver takes besides, which is several hundred MB for CUDA.
    """

    name: str
    """As the engine names it: `CUDA0`."""
    weights_bytes: int
    kv_bytes: int
    compute_bytes: int

    @property
    def total_bytes(self) -> int:
        """All of it."""
        return self.weights_bytes + self.kv_bytes + self.compute_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What a load would take, item by item."""

    total_bytes: int
    weights_bytes: int
    kv_bytes: int
    compute_bytes: int
    overhead_bytes: int
    exact: bool
    """True when the engine itself planned the load to the byte. False for the formula, where parts
    of the plan are not known, and where the engine's plan is a little too large."""
    gpu_bytes: int | None = 0
    """Of the total, what goes into GPUs with memory of their own; None where it is not known."""
    projector_bytes: int = 0
    """Of the total, what the projector takes: its weights, and its buffers with the largest image
    or recording that it is given."""
    correction_bytes: int = 0
    """Of the total, what earlier loads on this machine teach: measured less forecast."""
    samples: int = 0
    """How many earlier loads teach it; 0 is an uncorrected forecast."""
    devices: tuple[DeviceBytes, ...] = ()
    """`gpu_bytes` for each of those GPUs, in the engine's order."""
    gpu_unknown: str = ""
    """Why `gpu_bytes` is not known, as the end of a sentence; empty where it is."""
    prefix_cache_bytes: int = 0
    """Beside the total, the most that the state of conversations takes which no request holds: it
    grows with them, up to this limit."""

    @property
    def machine_bytes(self) -> int | None:
        """Of the total, what goes into the machine's memory; None where it is not known."""
        return None if self.gpu_bytes is None else self.total_bytes - self.gpu_bytes

    def with_weights(self, weights_bytes: int) -> Forecast:
        """An estimate for a smaller or larger variant: its weights are split in the same way.

        >>> gpu = DeviceBytes(name="CUDA0", weights_bytes=60, kv_bytes=4, compute_bytes=1)
        >>> whole = Forecast(total_bytes=120, weights_bytes=100, kv_bytes=10, compute_bytes=5,
        ...                  overhead_bytes=5, exact=True, gpu_bytes=65, devices=(gpu,))
        >>> half = whole.with_weights(50)
        >>> half.total_bytes, half.gpu_bytes, half.machine_bytes, half.exact
        (70, 35, 35, False)
        """
        share = weights_bytes / max(1, self.weights_bytes)
        devices = tuple(
            replace(device, weights_bytes=round(share * device.weights_bytes))
            for device in self.devices
        )
        on_gpu = sum(device.total_bytes for device in devices)
        return replace(
            self,
            total_bytes=self.total_bytes - self.weights_bytes + weights_bytes,
            weights_bytes=weights_bytes,
            exact=False,
            gpu_bytes=None if self.gpu_bytes is None else on_gpu,
            devices=devices,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """Whether a model fits this machine now, at a context length."""

    verdict: Verdict
    forecast: Forecast | None
    available_bytes: int | None
    exact: bool
    context_length: int | None = None
    parallel: int | None = None
    """Requests at once that the forecast is for; None where that is not known, or there is one."""
    cache_tokens: int | None = None
    """Tokens that all of them share; None for as many as `context_length`."""
    reason: str | None = None
    """Why it is refused or unknown, or what is missing; None when there is nothing to say."""
    over_budget: bool = False
    """Whether it is too large for the memory budget only: the machine itself has the room."""
    error: ErrorInfo | None = None
    """The error behind `refused` and `unknown`."""
