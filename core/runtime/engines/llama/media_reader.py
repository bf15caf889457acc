"""The images and recordings of requests: checked, counted, and cut into pieces for the model.

What a request brings is decoded before it gets a slot, one image between two turns, so that a
damaged one is told at once and others wait no longer. For counting its tokens libmtmd needs its
size only. Its pixels are cut into pieces when the model comes to read them, one image at a time,
and not at all where it is held already.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict, deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import TypeVar

import numpy as np

from modeldeck.core.errors import EngineFailed, InvalidRequest
from modeldeck.core.runtime.engines.base import TOKENS_S
from modeldeck.core.runtime.engines.bounds import Bounds
from modeldeck.core.runtime.engines.heap import trim_heap
from modeldeck.core.runtime.engines.llama.batch import Tokens
from modeldeck.core.runtime.engines.llama.media_tokens import MediaRun, run_of
from modeldeck.core.runtime.engines.llama.projector import (
    Placeholder,
    Projector,
    PromptPart,
    PromptPiece,
    PromptPieces,
    Sound,
)
from modeldeck.core.runtime.media import audio_files, image_files
from modeldeck.core.runtime.media.image_files import Picture
from modeldeck.core.schema import Media

REMEMBERED = 4096
"""Images and pieces of them that are remembered, by the hash of their file."""
KEPT_BYTES = 64 << 20
"""Most bytes of decoded images that a request keeps until they are read; others are decoded again
then."""
AUDIO_S = 20.0
"""Processor seconds for decoding a recording: about two for half an hour."""

V = TypeVar("V")


class _Remembered(OrderedDict[Hashable, V]):
    """What was used last, by its key."""

    def keep(self, key: Hashable, value: V) -> V:
        """Remember a value; what was used longest ago goes."""
        self[key] = value
        self.move_to_end(key)
        if len(self) > REMEMBERED:
            self.popitem(last=False)
        return value


@dataclass(frozen=True, slots=True)
class TakenMedia:
    """An image or a recording that was checked."""

    media: Media
    digest: bytes
    """SHA-256 of the file."""
    size: Placeholder

    @property
    def name(self) -> str:
        """What errors call it, as the beginning of a sentence."""
        return name_of(self.media)


def name_of(media: Media) -> str:
    """What errors call an image or a recording, as the beginning of a sentence.

    >>> name_of(Media(kind="image", data=b"", at=0, place="messages[0].content[1]"))
    'The image at messages[0].content[1]'
    """
    what = "The image" if media.kind == "image" else "The recording"
    return f"{what} at {media.place}" if media.place else what


class MediaReader:
    """Takes in the images and recordings of requests to one model."""

    def __init__(self, projector: Projector, bounds: Bounds, batch: int) -> None:
        """Use a projector.

        Args:
            projector: The projector.
            bounds: Bound the decoding.
            batch: Tokens that the model's context evaluates in one piece at most.
        """
        self.projector = projector
        self._bounds = bounds
        self._batch = batch
        self._sizes: _Remembered[Placeholder] = _Remembered()
        self._numbers: _Remembered[int] = _Remembered()
        self._unused = count()

    def take(self, media: Sequence[Media], *, private: bool) -> RequestMedia:
        """Begin to take images and recordings in; `RequestMedia.take_one` goes on.

        Of those of a private request nothing is remembered. Raises InvalidRequest for kinds that
        the projector does not read.
        """
        for one in media:
            if one.kind not in self.projector.media:
                reads = " and ".join(_PLURALS[kind] for kind in self.projector.media)
                raise InvalidRequest(
                    f"{name_of(one)} cannot be read: this model takes {reads} only.",
                    "Leave it out, or take another model.",
                )
        return RequestMedia(self, media, private=private)

    def checked(self, media: Media, *, private: bool) -> tuple[TakenMedia, Picture | Sound | None]:
        """Check an image or a recording; also returns it, where it had to be decoded for that.

        Raises InvalidRequest for one that is damaged or too large.
        """
        digest = hashlib.sha256(media.data).digest()
        size, found = self._sizes.get(digest), None
        if size is None:
            found = self.decode(media)
            size = self._size(found)
        if not private:
            self._sizes.keep(digest, size)
        return TakenMedia(media, digest, size), found

    def _size(self, found: Picture | Sound) -> Placeholder:
        if isinstance(found, Picture):
            return Placeholder("image", found.width, found.height)
        samples = self._bounds.watch(
            found.name, partial(self.projector.samples, found), cpu_s=AUDIO_S
        )
        return Placeholder("audio", samples)

    def decode(self, media: Media) -> Picture | Sound:
        """Decode an image, or check a recording. Raises InvalidRequest."""
        name = name_of(media)
        if media.kind == "image":
            limit = self.projector.limit.pixels
            return image_files.decode(media.data, name, limit, self._bounds)
        found = self._bounds.run(
            name, partial(audio_files.checked, media.data, name), cpu_s=AUDIO_S
        )
        return Sound(found.data, name)

    def cut(self, parts: Sequence[PromptPart]) -> PromptPieces:
        """Cut a prompt into tokens and pieces, within bounds."""
        return self._bounds.run(
            "Turning the prompt into tokens", partial(self.projector.read, parts), cpu_s=TOKENS_S
        )

    def check(self, piece: PromptPiece, name: str) -> None:
        """Raise InvalidRequest for a piece that llama.cpp would abort over."""
        if not 0 < piece.positions <= piece.tokens:
            raise InvalidRequest(f"{name} is too short: nothing of it is left to read.")
        if piece.tokens > self._batch and self.projector.needs_whole(piece):
            raise InvalidRequest(
                f"{name} takes {piece.tokens} tokens, which must be read at once; the model was "
                f"loaded for {self._batch}.",
                f"Load it with a context_length and a batch_size of {piece.tokens} or more.",
            )

    def number(self, key: Hashable, *, private: bool) -> int:
        """The number of a piece: the same for the same key, unless it was forgotten."""
        known = None if private else self._numbers.get(key)
        number = next(self._unused) if known is None else known
        return number if private else self._numbers.keep(key, number)


_PLURALS = {"image": "images", "audio": "recordings"}


class RequestMedia:
    """The images and recordings of one request."""

    def __init__(self, reader: MediaReader, media: Sequence[Media], *, private: bool) -> None:
        """Begin to take them in."""
        self._reader = reader
        self._waiting = deque(media)
        self._taken: list[TakenMedia] = []
        self._kept: dict[int, Picture] = {}
        """Decoded images, by number."""
        self._room = KEPT_BYTES
        self._private = private
        self._parts: Sequence[str | int] = ()
        self._open: PromptPieces | None = None
        self._open_part = -1
        self._pieces: list[PromptPiece] = []
        self.runs: tuple[MediaRun, ...] = ()
        """The pieces in the prompt, in order."""

    @property
    def complete(self) -> bool:
        """Whether all are taken in."""
        return not self._waiting

    def take_one(self) -> None:
        """Take in what is known, and one image or recording that has to be decoded.

        Raises InvalidRequest for one that is damaged or too large.
        """
        while self._waiting:
            taken, found = self._reader.checked(self._waiting.popleft(), private=self._private)
            if isinstance(found, Picture) and len(found.rgb) <= self._room:
                self._kept[len(self._taken)] = found
                self._room -= len(found.rgb)
            self._taken.append(taken)
            if found is not None:
                return

    def prompt(self, parts: Sequence[str | int]) -> Tokens:
        """The tokens of a prompt of texts, and of the numbers of images between them."""
        self._parts = parts
        tokens: list[Tokens] = []
        runs: list[MediaRun] = []
        length = 0
        with self._reader.cut([self._stand_in(part) for part in parts]) as pieces:
            for piece in pieces.found:
                if piece.text is not None:
                    tokens.append(np.array(piece.text, np.int32))
                else:
                    same = runs[-1].piece + 1 if runs and runs[-1].source == piece.part else 0
                    runs.append(
                        MediaRun(
                            start=length,
                            tokens=piece.tokens,
                            positions=piece.positions,
                            source=piece.part,
                            piece=same,
                        )
                    )
                    tokens.append(self._numbered(runs[-1], piece))
                length += piece.tokens
        self.runs = tuple(runs)
        if runs and runs[-1].end == length:
            raise InvalidRequest(
                "The prompt ends with an image or a recording.", "Write a text after it."
            )
        return np.concatenate(tokens) if tokens else np.zeros(0, np.int32)

    def _stand_in(self, part: str | int) -> str | Placeholder:
        return part if isinstance(part, str) else self._taken[part].size

    def _of(self, run: MediaRun) -> int:
        """Which of the images a piece is of."""
        number = self._parts[run.source]
        assert isinstance(number, int)
        return number

    def _numbered(self, run: MediaRun, piece: PromptPiece) -> Tokens:
        taken = self._taken[self._of(run)]
        self._reader.check(piece, taken.name)
        key = (taken.digest, run.piece, run.tokens, run.positions)
        number = self._reader.number(key, private=self._private)
        return run_of(number, run.tokens, run.positions)

    def told(self, run: MediaRun) -> str:
        """What is read with a piece, as the end of a sentence."""
        number = self._of(run)
        what = "image" if self._taken[number].media.kind == "image" else "recording"
        of = f" {number + 1} of {len(self._taken)}" if len(self._taken) > 1 else ""
        pieces = sum(other.source == run.source for other in self.runs)
        tile = f", piece {run.piece + 1} of {pieces}" if pieces > 1 else ""
        return f"{what}{of}{tile}"

    def piece(self, run: MediaRun) -> PromptPiece:
        """A piece with its pixels or samples, until another image is asked for."""
        if self._open_part != run.source:
            self._close()
            part = run.source
            before = [self._stand_in(p) for p in self._parts[:part] if isinstance(p, int)]
            images = [one for one in before if isinstance(one, Placeholder) and one.kind == "image"]
            if not self._cut(run, images):
                # With some projectors what stands before an image adds to its pieces.
                self._close()
                if not self._cut(run, [self._stand_in(p) for p in self._parts[:part]]):
                    raise EngineFailed(f"libmtmd cut {self.told(run)} differently than before.")
            self._kept.pop(self._of(run), None)
            trim_heap()  # copies of the image, several times as large as its pieces
        return self._pieces[run.piece]

    def _cut(self, run: MediaRun, before: Sequence[PromptPart]) -> bool:
        """Cut the image of a piece; whether it has the pieces that were counted."""
        number = self._of(run)
        real = self._kept.get(number) or self._reader.decode(self._taken[number].media)
        self._open = self._reader.cut([*before, real])
        self._open_part, self._pieces = run.source, self._open.of(len(before))
        sizes = [(piece.tokens, piece.positions) for piece in self._pieces]
        counted = [r for r in self.runs if r.source == run.source]
        return sizes == [(r.tokens, r.positions) for r in counted]

    def _close(self) -> None:
        if self._open is not None:
            self._open.close()
            trim_heap()
        self._open, self._open_part, self._pieces = None, -1, []

    def close(self) -> None:
        """Free what it holds."""
        self._close()
        self._kept.clear()
