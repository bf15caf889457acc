"""What an engine process takes besides what its engine plans: Python, libraries, the vocabulary.

It stands apart because both the planner (`core.runtime`) and the formula (`core.memory`) need it.
"""

from __future__ import annotations

BASE_BYTES = 52 << 20
"""Python, llama-cpp-python with numpy, and the heap. Measured on Linux x86-64 with the CPU build:
the peak of the process after a long prompt, less llama.cpp's own plan, was 49 to 57 MiB."""
PER_TOKEN_BYTES = 160
"""Per token of the vocabulary; measured in the same way, with 31,616 and 150,616 tokens."""


def engine_overhead(vocabulary: int) -> int:
    """Bytes that an engine process takes besides the plan, for a vocabulary of so many tokens.

    >>> engine_overhead(150_000) >> 20
    74
    """
    return BASE_BYTES + PER_TOKEN_BYTES * vocabulary
