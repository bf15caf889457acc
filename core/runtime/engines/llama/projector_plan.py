"""Plans the memory of a projector: what it takes loaded, and with the largest image that it gets.

libmtmd plans like llama.cpp: a context without allocation has every tensor and every buffer of the
encoder's graph, from the header of the file alone. libmtmd itself has such a context in
`mtmd_get_memory_usage`, for the image it reserves memory with when it loads the projector. Many
projectors take larger ones and get more memory when one comes, so the context is made here, is
given an image of the largest size, and is stopped after the first step of encoding it. The sizes
are in libmtmd's log. Where the constructor is missing, the file is loaded like any; a sparse one
has zeros.

What the log does not tell is estimated from the header (`MediaWork`): the CPU's work buffer, and
the copies of an image on its way to the encoder.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from math import isqrt
from pathlib import Path
from typing import Any

from modeldeck.core.errors import DeckError, EngineFailed
from modeldeck.core.formats import gguf_parser
from modeldeck.core.formats.gguf_header import GgufHeader
from modeldeck.core.runtime.engines.llama.log import EngineLog, failure
from modeldeck.core.runtime.engines.llama.projector_limits import ImageLimit, image_limit
from modeldeck.core.runtime.engines.llama.projector_load import projector_parameters
from modeldeck.core.runtime.engines.llama.projector_needs import (
    MediaWork,
    fits_text_model,
    has_windows,
    largest_image,
    media_of,
    reserved,
)
from modeldeck.core.runtime.media.audio_files import MOST_S
from modeldeck.core.schema import DeviceBytes, LoadOptions

MAKE = "_ZN12mtmd_contextC1EPKcPK11llama_modelRK19mtmd_context_paramsb"
"""`mtmd_context::mtmd_context(const char *, const llama_model *, const mtmd_context_params &, bool
no_alloc)`, as C++ compilers name it: with other parameters it would have another name."""
USAGE = "_Z21mtmd_get_memory_usagePKc19mtmd_context_params"
"""`mtmd_get_memory_usage(const char *, mtmd_context_params)`, which returns a `std::map`."""
LONG_S = 600.0
"""Seconds of a recording whose pieces are counted; no sound of it is needed."""
CONTEXT_BYTES = 1 << 16
"""Room for a `mtmd_context`, which has some hundred bytes."""

_Evaluate = ctypes.CFUNCTYPE(ctypes.c_bool, ctypes.c_void_p, ctypes.c_bool, ctypes.c_void_p)
"""`ggml_backend_sched_eval_callback`: asked before a step whether it is of interest, and told after
it; computing ends where it then returns false."""
_Log = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)


def _before(_tensor: int | None, before: bool, _data: int | None) -> bool:
    return before


_STOP = _Evaluate(_before)
"""Ends computing after the first step."""


class _UsageMap(ctypes.Structure):
    """A `std::map` by value, at most six words."""

    _fields_ = [("words", ctypes.c_uint64 * 6)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectorPlan:
    """Bytes that a projector takes."""

    weights_bytes: int
    compute_bytes: int
    """Of the encoder's buffers, for the largest image."""
    besides_bytes: int
    """In the machine's memory: graphs, and what an image takes on its way."""

    @property
    def total_bytes(self) -> int:
        """All of it."""
        return self.weights_bytes + self.compute_bytes + self.besides_bytes

    def on_device(self, devices: Sequence[DeviceBytes], name: str) -> tuple[DeviceBytes, ...]:
        """What a load takes of each GPU, with the projector on one of them."""
        own = {device.name: device for device in devices}
        nothing = DeviceBytes(name=name, weights_bytes=0, kv_bytes=0, compute_bytes=0)
        taken = own.get(name, nothing)
        own[name] = replace(
            taken,
            weights_bytes=taken.weights_bytes + self.weights_bytes,
            compute_bytes=taken.compute_bytes + self.compute_bytes,
        )
        return tuple(own.values())


@dataclass(slots=True)
class ProjectorPlanner:
    """Plans projectors with the libmtmd of this process."""

    library: Any
    """As llama-cpp-python binds it."""
    log: EngineLog
    _lines: list[str] = field(default_factory=list)
    _callback: Any = None

    def __post_init__(self) -> None:
        """Take libmtmd's log, its debugging lines included."""
        self._callback = _Log(self._take)
        native = self.library._libmtmd
        for name in ("mtmd_log_set", "mtmd_helper_log_set"):
            set_log = native[name]  # a new object: other users' signatures stay as they are
            set_log.restype, set_log.argtypes = None, (_Log, ctypes.c_void_p)
            set_log(self._callback, None)

    def _take(self, level: int, text: bytes, data: int | None) -> None:
        self._lines += text.decode("utf-8", "replace").splitlines()
        self.log.take(level, text, data)

    def plan(
        self, model: Any, width: int, path: str, options: LoadOptions, *, cells: int
    ) -> ProjectorPlan:
        """Plan a projector beside a text model that was opened to plan with.

        Args:
            model: `llama_model *`.
            width: Of its input (`llama_model_n_embd_inp`).
            path: The projector, or a sparse file with its header.
            options: The options of the load.
            cells: Tokens that its context holds: no recording is longer.

        Raises EngineFailed for what is no projector, or one that libmtmd refuses.
        """
        header = _header(path)
        limit = image_limit(header)
        self._check(path, header, width, limit, options)
        with self._context(path, model, limit, options, warm=True) as context:
            found = reserved(self._lines)
            media = media_of(header)
            tiles = self._tiles(context, limit) if media.sees else []
            seconds = self._longest(context, cells) if media.hears else 0.0
        if found.image_pixels >= found.most_pixels > 0:
            found = found.smaller(windows=has_windows(header))
        elif found.most_pixels or len(set(tiles)) > 1:
            size = (isqrt(limit.pixels), isqrt(limit.pixels))
            if found.most_pixels:
                size = largest_image(limit.tokens, found.most_pixels)
            with self._context(path, model, limit, options, warm=False) as context:
                self._encode(context, size)
                found = found.with_image(reserved(self._lines))
        work = MediaWork.of(header, found, tiles, width, seconds)
        return ProjectorPlan(
            weights_bytes=header.weights_bytes,
            compute_bytes=found.compute_bytes,
            besides_bytes=work.bytes(limit.pixels),
        )

    def parameters(self, limit: ImageLimit, options: LoadOptions, *, warm: bool) -> Any:
        """Parameters of a context; nothing is put on a GPU, where that would take its memory."""
        parameters = projector_parameters(self.library, limit, options)
        parameters.use_gpu = False
        parameters.warmup = warm
        parameters.cb_eval = ctypes.cast(_STOP, type(parameters.cb_eval))
        return parameters

    def _check(
        self, path: str, header: GgufHeader, width: int, limit: ImageLimit, options: LoadOptions
    ) -> None:
        """Raise EngineFailed where the constructor would, which ends the process."""
        self.log.begin()
        refused = not fits_text_model(header, width)
        if not refused and hasattr(self.library._libmtmd, USAGE):
            usage = self.library._libmtmd[USAGE]
            parameters = self.parameters(limit, options, warm=False)
            usage.restype, usage.argtypes = _UsageMap, (ctypes.c_char_p, type(parameters))
            usage(os.fsencode(path), parameters)  # logs the errors that it catches
            refused = bool(self.log.worst())
        if not refused:
            return
        self.log.begin()
        context = self.library.mtmd_init_from_file(  # tells why
            os.fsencode(path), None, self.parameters(limit, options, warm=False)
        )
        if context:
            self.library.mtmd_free(context)
            raise EngineFailed(
                f"The projector is of another model: this one's input has {width} numbers.",
                "Download the model again, or load it with vision off.",
            )
        raise failure("llama.cpp refused the projector", self.log)

    @contextmanager
    def _context(
        self, path: str, model: Any, limit: ImageLimit, options: LoadOptions, *, warm: bool
    ) -> Iterator[Any]:
        """A context of libmtmd without memory, where there is one. Raises EngineFailed."""
        self._lines.clear()
        parameters = self.parameters(limit, options, warm=warm)
        native = self.library._libmtmd
        if hasattr(native, MAKE):
            make, allocate = native[MAKE], ctypes.CDLL(None)["calloc"]
            make.restype, allocate.restype = None, ctypes.c_void_p
            make.argtypes = (*[ctypes.c_void_p] * 4, ctypes.c_bool)
            allocate.argtypes = (ctypes.c_size_t, ctypes.c_size_t)
            pointer = allocate(1, CONTEXT_BYTES)  # `mtmd_free` gives it back
            name = ctypes.c_char_p(os.fsencode(path))
            make(pointer, ctypes.cast(name, ctypes.c_void_p), model, ctypes.byref(parameters), True)
        else:
            pointer = self.library.mtmd_init_from_file(os.fsencode(path), model, parameters)
        if not pointer:
            raise failure("llama.cpp refused the projector", self.log)
        try:
            yield pointer
        finally:
            self.library.mtmd_free(pointer)

    def _tiles(self, context: Any, limit: ImageLimit) -> list[int]:
        """Tokens of each piece that the largest image is cut into; no pixel of it is needed."""
        side = isqrt(limit.pixels)
        m = self.library
        with self._cut(context, m.mtmd_bitmap_init(side, side, None)) as chunks:
            return [m.mtmd_input_chunk_get_n_tokens(chunk) for chunk in chunks]

    def _longest(self, context: Any, cells: int) -> float:
        """Seconds of the longest recording that is let in: it must fit the model's context."""
        m = self.library
        samples = int(LONG_S * max(1, m.mtmd_get_audio_sample_rate(context)))
        with self._cut(context, m.mtmd_bitmap_init_from_audio(samples, None)) as chunks:
            pieces = [m.mtmd_input_chunk_get_n_tokens(chunk) for chunk in chunks]
        fit: float = cells / max(1, *pieces)  # most projectors hear half a minute at a time
        return min(MOST_S, (int(fit) or fit) * LONG_S / max(1, len(pieces)))

    def _encode(self, context: Any, size: tuple[int, int]) -> None:
        """Have libmtmd reserve what a black image takes, and stop before it is encoded."""
        width, height = size
        pixels = (ctypes.c_uint8 * (3 * width * height))()
        bitmap = self.library.mtmd_bitmap_init(width, height, pixels)
        with self._cut(context, bitmap) as chunks:
            largest = max(chunks, key=self.library.mtmd_input_chunk_get_n_tokens)
            if self.library.mtmd_encode_chunk(context, largest):
                raise failure("llama.cpp cannot plan the largest image", self.log)

    @contextmanager
    def _cut(self, context: Any, bitmap: Any) -> Iterator[Sequence[Any]]:
        """The pieces of an image or a recording, which is freed."""
        m = self.library
        marker = m.mtmd_default_marker()
        chunks = m.mtmd_input_chunks_init()
        try:
            text = m.mtmd_input_text(marker, len(marker), False, True)
            bitmaps = (m.mtmd_bitmap_p_ctypes * 1)(bitmap)
            if m.mtmd_tokenize(context, chunks, ctypes.byref(text), bitmaps, 1):
                raise failure("llama.cpp cannot plan the largest image", self.log)
            found = (
                m.mtmd_input_chunks_get(chunks, i) for i in range(m.mtmd_input_chunks_size(chunks))
            )
            text_type = m.MTMD_INPUT_CHUNK_TYPE_TEXT
            yield [c for c in found if m.mtmd_input_chunk_get_type(c) != text_type]
        finally:
            m.mtmd_input_chunks_free(chunks)
            m.mtmd_bitmap_free(bitmap)


def _header(path: str) -> GgufHeader:
    """The header of a projector. Raises EngineFailed."""
    try:
        header = gguf_parser.read(Path(path))
    except (DeckError, OSError) as error:
        raise EngineFailed(f"The projector cannot be read: {error}.") from error
    if header.architecture != "clip":
        raise EngineFailed(
            f"The projector is none: its architecture is {header.architecture}.",
            "Load the model with vision off.",
        )
    return header
