"""Keeps llama.cpp's log, passes it on to stderr, and parses it. Parsing is pure."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

from modeldeck.core.errors import EngineFailed
from modeldeck.core.formats import image_generators
from modeldeck.core.runtime.engines.base import MARKS, Flag, Level

LEVELS: dict[int, Level] = {2: "debug", 3: "warning", 4: "error"}
"""`enum ggml_log_level`, ggml.h: info, warning, error. The details of a load (info) count as
debugging. Level 1, llama.cpp's own debugging, is dropped; 5 continues the line before."""
CONTINUED = 5
LINES = 2000
"""Lines kept of one call. A load writes about 200, and one more per tensor of a bad file."""
WORST = 8
"""Lines that go into an error."""


_EXPECTED = re.compile(
    rb"failed to find a memory slot|available cells in kv cache|failed to restore kv cache"
    rb"|non-consecutive token position"
    rb"|Qwen-VL models require|image-min-tokens|llama.cpp/issues/16842"
    rb"|compute_async failed with error 1\b|compute status: 1\b|failed to decode, ret = 2\b"
    rb"|removing memory module entries"
)
"""What llama.cpp says in the course of things: when all cells of the KV cache are taken, and some
are freed then; after images that take fewer positions than tokens; of options of its own programs;
and when an evaluation is given up (`GGML_STATUS_ABORTED`, ggml.h)."""


class EngineLog:
    """The log of one call at a time; all of it goes to stderr as well.

    llama.cpp logs errors when work is cancelled, or when cells run out; they are logged as
    debugging.
    """

    def __init__(self, flag: Flag) -> None:
        """`flag` is set while work is being cancelled."""
        self._flag = flag
        self.lines: list[tuple[Level, str]] = []
        self._open = False
        self._level: Level = "debug"

    def begin(self) -> None:
        """Clear the log for a new call."""
        self.lines.clear()

    def take(self, level: int, text: bytes, _data: object) -> None:
        """Take a piece of text, as llama.cpp's log callback gives it."""
        if level != CONTINUED:
            known = LEVELS.get(level)
            if known is None:
                return
            expected = bool(self._flag) or _EXPECTED.search(text) is not None
            self._level = "debug" if expected else known
        for part in text.splitlines(keepends=True):
            start = b"" if self._open else MARKS[self._level]
            os.write(2, start + part)
            self._add(part.decode("utf-8", "replace").rstrip("\r\n"))
            self._open = not part.endswith((b"\n", b"\r"))

    def say(self, level: Level, text: str) -> None:
        """Log a line of modeldeck."""
        self._level, self._open = level, False
        os.write(2, MARKS[level] + text.encode() + b"\n")
        self._add(text)

    def _add(self, text: str) -> None:
        if self._open and self.lines:
            level, before = self.lines[-1]
            self.lines[-1] = (level, before + text)
        elif len(self.lines) < LINES:
            self.lines.append((self._level, text))

    def worst(self) -> tuple[str, ...]:
        """The last lines that are warnings or errors."""
        return tuple(t for level, t in self.lines if level in ("warning", "error") and t)[-WORST:]


@dataclass(frozen=True, slots=True, kw_only=True)
class Buffers:
    """Buffer sizes in llama.cpp's log, in bytes."""

    kv_bytes: int
    compute_bytes: int
    output_bytes: int
    all_offloaded: bool = False
    """Whether all layers are on devices, the output layer included."""
    pipelined: bool = False
    """Whether several devices work on several batches at the same time."""
    unused_bytes: int = 0
    """Bytes of tensors in the file that are not loaded."""
    cells: tuple[tuple[int, int], ...] = ()
    """Tokens and layers of each KV cache; those of sliding windows hold few tokens."""
    repacked: bool = False
    """Whether weights are repacked for this processor, in another order than in the file."""


_MIB = 1 << 20
_KV = re.compile(
    r"^llama_(?:(?:kv_cache|memory_recurrent)\w*: +|dsv4_comp_state: .*, )size = +([\d.]+) MiB"
)
_CELLS = re.compile(r"^llama_kv_cache\w*: +size = +[\d.]+ MiB +\( *(\d+) cells, +(\d+) layers")
_COMPUTE = re.compile(r"compute buffer size = +([\d.]+) MiB")
_OUTPUT = re.compile(r"output buffer size = +([\d.]+) MiB")
_REPACKED = re.compile(r"CPU_(?:REPACK|AARCH64)|AMX")
_OFFLOADED = re.compile(r"offloaded (\d+)/(\d+) layers to GPU")
_UNUSED = re.compile(r"unused tensor .* \(size = (\d+) bytes\)")


def buffers(lines: Sequence[tuple[Level, str]]) -> Buffers:
    """Parse the buffer sizes in the log of a context's creation.

    Format: `llama_kv_cache: size = 1.00 MiB (...)`, `... compute buffer size = 72.01 MiB` and
    `... output buffer size = 0.12 MiB`, per device (llama-kv-cache.cpp, llama-context.cpp).
    """

    def total(pattern: re.Pattern[str]) -> int:
        found = (pattern.search(text) for _, text in lines)
        return round(sum(float(match[1]) for match in found if match) * _MIB)

    return Buffers(
        kv_bytes=total(_KV),
        compute_bytes=total(_COMPUTE),
        output_bytes=total(_OUTPUT),
        all_offloaded=any(
            match[1] == match[2] for _, text in lines if (match := _OFFLOADED.search(text))
        ),
        pipelined=any("pipeline parallelism enabled" in text for _, text in lines),
        unused_bytes=sum(int(match[1]) for _, text in lines if (match := _UNUSED.search(text))),
        cells=tuple(
            (int(match[1]), int(match[2])) for _, text in lines if (match := _CELLS.search(text))
        ),
        repacked=any("model buffer" in text and _REPACKED.search(text) for _, text in lines),
    )


def reason(lines: Sequence[str]) -> str:
    """The line with the reason, without names of functions; empty when there is none.

    >>> reason(["llama_model_load: error loading model: unknown model architecture: 'x'",
    ...         "llama_model_load_from_file_impl: failed to load model"])
    "unknown model architecture: 'x'"
    """
    for line in lines:
        if "error loading model: " in line:
            return line.split("error loading model: ", 1)[1].strip().rstrip(".")
    for line in lines:
        if re.search(r"fail|error|invalid|unable|cannot", line, re.IGNORECASE):
            return re.sub(r"^\w+: ", "", line).strip().rstrip(".")
    return ""


_REMEDIES = (
    (r"unknown (model )?architecture|unknown pre-tokenizer", "Update llama-cpp-python."),
    (
        r"failed to allocate|alloc.*failed|out of memory|bad_alloc",
        "Take a smaller context length, a quantized KV cache, or a smaller quantization.",
    ),
    (
        r"within the file bounds|corrupt|incomplete|magic|failed to read|wrong shape|invalid"
        r"|missing|cannot find|duplicate",
        "The file is damaged or no model: delete it and download it again.",
    ),
)


def remedy_for(lines: Sequence[str]) -> str:
    """The remedy for logged errors; empty where none is known."""
    text = "\n".join(lines).lower()
    return next((remedy for pattern, remedy in _REMEDIES if re.search(pattern, text)), "")


def failure(what: str, log: EngineLog) -> EngineFailed:
    """The error for a failed call, with the reason that the log has."""
    worst = log.worst()
    why = reason(worst)
    unknown = re.search(r"unknown model architecture: '(\w+)'", why)
    if unknown and (refusal := image_generators.refusal(unknown[1])) is not None:
        return EngineFailed(refusal.message, refusal.remedy, details=worst)
    return EngineFailed(f"{what}: {why}." if why else f"{what}.", remedy_for(worst), details=worst)
