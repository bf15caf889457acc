"""What an engine process takes besides what its engine plans: Python, libraries, the vocabulary.

It stands apart because the planner (`modeldeck.core.runtime`) and the formula
(`modeldeck.core.memory`) need it both. The figures here are what other machines said; each machine
measures its own (`modeldeck.core.runtime.planning.calibration`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from modeldeck.core.schema import Engine


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessOverhead:
    """Memory of a process besides the plan: a constant, and bytes per token of the vocabulary."""

    base_bytes: int
    per_token_bytes: float
    measured: bool = False
    """Whether it was measured on this machine."""

    def of(self, vocabulary: int, records_bytes: int | None = None) -> int:
        """Bytes for a vocabulary of this many tokens, or for records whose size was counted.

        >>> ProcessOverhead(base_bytes=1 << 20, per_token_bytes=2.5).of(1000) - (1 << 20)
        2500
        """
        if records_bytes is not None:
            return self.base_bytes + records_bytes
        return self.base_bytes + round(self.per_token_bytes * vocabulary)


SHIPPED: Mapping[Engine, ProcessOverhead] = {
    # Python, llama-cpp-python with numpy, and the heap. Linux x86-64 with the CPU build: the peak
    # of the process after a long prompt, less what it plans and the model's records, was 54 to 55
    # MiB; the slope with 257 and 60,257 tokens, as a machine measures it.
    "llama.cpp": ProcessOverhead(base_bytes=(54 << 20) + (512 << 10), per_token_bytes=274),
    # Python with mlx, mlx-lm and transformers, and what they load to answer: the peak of the
    # process on Linux x86-64, less what mlx counts itself, was 82 to 92 MiB for models of 3 and 32
    # MB; the slope with its merge, with 257 and 60,257 tokens.
    "mlx": ProcessOverhead(base_bytes=86 << 20, per_token_bytes=1297),
}
"""Until a machine has measured its own."""
