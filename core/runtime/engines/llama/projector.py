"""A model's projector, through the C functions of libmtmd that llama-cpp-python binds.

It turns images and recordings into vectors that the model reads in place of tokens. The functions
are used directly: llama-cpp-python's own handlers clear the cache at every request, fetch any URL,
and count positions as tokens.
"""

from __future__ import annotations

import ctypes
import importlib
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from modeldeck.core.errors import DeckError, EngineFailed, InvalidRequest
from modeldeck.core.formats import gguf_parser
from modeldeck.core.runtime.engines.heap import aligned_room
from modeldeck.core.runtime.engines.llama.log import EngineLog, failure
from modeldeck.core.runtime.engines.llama.projector_faults import fault
from modeldeck.core.runtime.engines.llama.projector_limits import ImageLimit, image_limit
from modeldeck.core.runtime.media.image_files import Picture

MediaKind = Literal["image", "audio"]

WITHOUT = "or load the model without it (vision=false): then it reads text only"


class NoLibrary(Exception):
    """This llama-cpp-python was built without libmtmd."""


def load_library() -> Any:
    """libmtmd, as llama-cpp-python binds it. Raises NoLibrary with the reason."""
    try:
        return importlib.import_module("llama_cpp.mtmd_cpp")
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        raise NoLibrary(str(error)) from error


def limit_of(path: str) -> ImageLimit:
    """How large the images of a projector are.

    Raises EngineFailed for what is no projector, and for one that llama.cpp would abort over.
    """
    try:
        header = gguf_parser.read(Path(path))
    except DeckError as error:
        raise EngineFailed(
            f"The projector {path} cannot be used: {error.message}",
            f"Download the model again, {WITHOUT}.",
        ) from error
    if (why := fault(header)) is not None:
        raise EngineFailed(
            f"The projector {path} cannot be used: {why}.",
            f"Take another file of it, {WITHOUT}.",
        )
    return image_limit(header)


@dataclass(frozen=True, slots=True)
class Placeholder:
    """The size of an image or a recording, in place of it: enough to count its tokens."""

    kind: MediaKind
    width: int
    """Pixels; of a recording, samples."""
    height: int = 1


@dataclass(frozen=True, slots=True)
class Sound:
    """A recording, as a file that was checked."""

    data: bytes
    name: str
    """What errors call it, as the beginning of a sentence."""


PromptPart = str | Placeholder | Picture | Sound


@dataclass(frozen=True, slots=True)
class PromptPiece:
    """Part of a prompt as libmtmd cuts it: tokens of text, or a piece of an image or recording."""

    pointer: Any
    text: list[int] | None
    """Its tokens; None for an image or recording."""
    tokens: int
    positions: int
    part: int = -1
    """Which of the given parts it is of; -1 for text, which may be of several."""


class PromptPieces:
    """A prompt as libmtmd cuts it. Use as a context manager, which frees it."""

    def __init__(self, library: Any) -> None:
        self._library = library
        self.pointer = library.mtmd_input_chunks_init()
        self.found: list[PromptPiece] = []

    def read(self) -> None:
        """List the pieces."""
        m = self._library
        for i in range(m.mtmd_input_chunks_size(self.pointer)):
            self.found.append(self._piece(m.mtmd_input_chunks_get(self.pointer, i)))

    def _piece(self, chunk: Any) -> PromptPiece:
        m = self._library
        count = m.mtmd_input_chunk_get_n_tokens(chunk)
        if m.mtmd_input_chunk_get_type(chunk) == m.MTMD_INPUT_CHUNK_TYPE_TEXT:
            length = ctypes.c_size_t()
            tokens = m.mtmd_input_chunk_get_tokens_text(chunk, ctypes.byref(length))
            return PromptPiece(chunk, tokens[: length.value], count, count)
        positions = m.mtmd_input_chunk_get_n_pos(chunk)
        part = int(m.mtmd_input_chunk_get_id(chunk) or b"-1")
        return PromptPiece(chunk, None, count, positions, part)

    def of(self, part: int) -> list[PromptPiece]:
        """The pieces of an image or a recording."""
        return [piece for piece in self.found if piece.part == part]

    def __enter__(self) -> PromptPieces:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free it; what was found must not be used any more."""
        if self.pointer is not None:
            self._library.mtmd_input_chunks_free(self.pointer)
        self.pointer, self.found = None, []


class Projector:
    """A loaded projector, which the caller frees."""

    def __init__(self, library: Any, pointer: Any, limit: ImageLimit, log: EngineLog) -> None:
        """Use a projector.

        Args:
            library: libmtmd.
            pointer: `mtmd_context *`.
            limit: How large its images are.
            log: The log of llama.cpp and libmtmd.
        """
        self._library = library
        self._pointer = pointer
        self._log = log
        self.limit = limit
        sees = library.mtmd_support_vision(pointer)
        hears = library.mtmd_support_audio(pointer)
        kinds: tuple[MediaKind, ...] = (
            *(("image",) if sees else ()),
            *(("audio",) if hears else ()),
        )
        self.media = kinds
        """What it takes."""
        self._encoded: object = None
        """What was encoded last."""
        self._most_tokens = 0
        """Of the largest piece so far."""

    def read(self, parts: Sequence[PromptPart]) -> PromptPieces:
        """Cut a prompt into tokens and pieces. Raises EngineFailed, and InvalidRequest.

        The names of special tokens in texts become those tokens; libmtmd puts the tokens around
        images that the model expects.
        """
        m = self._library
        pieces = PromptPieces(m)
        try:
            with ExitStack() as bitmaps:
                made = [self._part(part, number, bitmaps) for number, part in enumerate(parts)]
                array = (ctypes.POINTER(m.mtmd_input_part) * len(made))(*map(ctypes.pointer, made))
                if m.mtmd_tokenize_from_parts(
                    self._pointer, pieces.pointer, array, len(made), False
                ):
                    raise failure("libmtmd could not read an image or a recording", self._log)
            pieces.read()
        except BaseException:
            pieces.close()
            raise
        return pieces

    def _part(self, part: PromptPart, number: int, bitmaps: ExitStack) -> Any:
        """A part as libmtmd wants it; its pieces have its number as their id."""
        m = self._library
        if isinstance(part, str):
            data = part.encode()
            text = m.mtmd_input_text(data, len(data), False, True)
            return m.mtmd_input_part(ctypes.pointer(text), None)
        bitmap = self._bitmap(part)
        bitmaps.callback(m.mtmd_bitmap_free, bitmap)
        m.mtmd_bitmap_set_id(bitmap, b"%d" % number)
        return m.mtmd_input_part(None, bitmap)

    def _bitmap(self, part: Placeholder | Picture | Sound) -> Any:
        """A `mtmd_bitmap *`, which the caller frees."""
        m = self._library
        match part:
            case Placeholder(kind="image", width=width, height=height):
                return m.mtmd_bitmap_init(width, height, None)
            case Placeholder(width=samples):
                return m.mtmd_bitmap_init_from_audio(samples, None)
            case Picture(width=width, height=height, rgb=rgb):
                return m.mtmd_bitmap_init(width, height, _bytes(rgb))
            case Sound(data=data, name=name):
                found = m.mtmd_helper_bitmap_init_from_buf(
                    self._pointer, _bytes(data), len(data), False
                )
                if not found:
                    raise InvalidRequest(
                        f"{name} cannot be decoded.", "Save it anew, as WAV if need be."
                    )
                return found

    def samples(self, sound: Sound) -> int:
        """The samples of a recording at the rate that the projector takes."""
        bitmap = self._bitmap(sound)
        try:
            return int(self._library.mtmd_bitmap_get_nx(bitmap))
        finally:
            self._library.mtmd_bitmap_free(bitmap)

    def needs_whole(self, piece: PromptPiece) -> bool:
        """Whether a piece must be evaluated in one batch."""
        return bool(self._library.mtmd_decode_use_non_causal(self._pointer, piece.pointer))

    def encode(self, piece: PromptPiece, number: int) -> None:
        """Encode a piece, which cannot be interrupted. Raises EngineFailed.

        What was encoded last is kept: a piece with the same number is not encoded again.
        """
        if self._encoded == number:
            return
        self._encoded = None
        larger = piece.tokens > self._most_tokens
        self._most_tokens = max(piece.tokens, self._most_tokens)
        with aligned_room() if larger else nullcontext():  # its buffer grows with the pieces
            failed = self._library.mtmd_encode_chunk(self._pointer, piece.pointer)
        if failed:
            raise failure("libmtmd could not encode an image or a recording", self._log)
        self._encoded = number

    def evaluate(
        self, piece: PromptPiece, context: Any, *, position: int, sequence: int, batch: int
    ) -> int:
        """Have the model read the piece that was encoded last; returns what `llama_decode` does.

        Args:
            piece: The piece.
            context: `llama_context *`.
            position: Of its first token.
            sequence: The sequence that it is added to.
            batch: Tokens that are evaluated at once, unless it needs to be whole.
        """
        m, after = self._library, ctypes.c_int32()
        return int(
            m.mtmd_helper_decode_image_chunk(
                *(self._pointer, context, piece.pointer, m.mtmd_get_output_embd(self._pointer)),
                *(position, sequence, batch, ctypes.byref(after)),
                *(m.mtmd_helper_post_decode_callback(), None),
            )
        )

    def forget(self) -> None:
        """Encode anew what comes next."""
        self._encoded = None


def _bytes(data: bytes) -> Any:
    """A pointer to bytes, which must live as long as it is used."""
    return ctypes.cast(ctypes.c_char_p(data), ctypes.POINTER(ctypes.c_uint8))
