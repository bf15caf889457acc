"""One request in work: its text so far, its sampler, and the writer of its answer."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import msgspec
import numpy as np

from modeldeck.core.runtime.engines.bounds import Bounds
from modeldeck.core.runtime.engines.llama.batch import Logits, Tokens
from modeldeck.core.runtime.engines.llama.media_reader import RequestMedia
from modeldeck.core.runtime.engines.llama.media_tokens import MediaRun, text_tokens
from modeldeck.core.runtime.engines.llama.sampler import SamplerChain
from modeldeck.core.runtime.process.messages import AnswerDone
from modeldeck.core.runtime.text.answer_writer import AnswerWriter
from modeldeck.core.runtime.text.loops import WINDOW, is_due, repeated_run
from modeldeck.core.schema import GenerateRequest

PIECE_BYTES = 64
"""First guess of a piece's length."""
PIECES = 1 << 15
"""Pieces that are kept at most: some 5 MB. Most texts need fewer."""


class TokenPieces:
    """The text of each token of a vocabulary; special tokens have none."""

    def __init__(self, c: Any, vocab: Any) -> None:
        """`c` is llama.h as llama-cpp-python binds it, `vocab` a `llama_vocab *`."""
        self._c = c
        self._vocab = vocab
        self._pieces: dict[int, bytes] = {}
        self._ends: dict[int, bool] = {}

    def piece(self, token: int) -> bytes:
        """The text of a token."""
        found = self._pieces.get(token)
        if found is None:
            if len(self._pieces) >= PIECES:
                self._pieces.clear()
            found = self._pieces[token] = self._read(token, names=False)
        return found

    def named(self, token: int) -> bytes:
        """The text of a token; of a special token, its name."""
        return self._read(token, names=True)

    def _read(self, token: int, *, names: bool) -> bytes:
        room = PIECE_BYTES
        while True:
            text = ctypes.create_string_buffer(room)
            length = self._c.llama_token_to_piece(self._vocab, token, text, room, 0, names)
            if length >= 0:
                return text.raw[:length]
            room = -length

    def ends(self, token: int) -> bool:
        """Whether a token ends an answer."""
        found = self._ends.get(token)
        if found is None:
            if len(self._ends) >= PIECES:
                self._ends.clear()
            found = self._ends[token] = bool(self._c.llama_vocab_is_eog(self._vocab, token))
        return found


class SlotAnswer:
    """A request in work. It outlives its slot: it may lose it, and get another later."""

    def __init__(
        self,
        number: int,
        request: GenerateRequest,
        prompt: Sequence[int] | Tokens,
        *,
        media: RequestMedia | None = None,
        limit: int,
        guesses: int,
        stop_loops: bool,
        writer: AnswerWriter,
        sampler: SamplerChain,
        pieces: TokenPieces,
        visible: Mapping[int, bytes],
        bounds: Bounds,
    ) -> None:
        """Begin an answer.

        Args:
            number: Its command.
            request: The request.
            prompt: The tokens of its prompt.
            media: The images and recordings in it, which `close` frees.
            limit: Largest number of tokens of the answer.
            guesses: Tokens that a draft model guesses at a time.
            stop_loops: Whether the answer is cut when it repeats itself without end.
            writer: Takes the bytes of its tokens.
            sampler: Its samplers, which `close` frees.
            pieces: The text of tokens.
            visible: Special tokens that count as text in this answer, with that text.
            bounds: Told which request the next bounded work belongs to.
        """
        self.number = number
        self.private = not request.cache
        """Whether nothing of it may be kept."""
        self.alone = request.seed is not None and request.temperature != 0
        """Whether no other request may be evaluated together with it: the logits depend a little on
        what shares a batch, and the same seed must give the same text."""
        self.paused = False
        self.preempted = False
        """Whether it has lost a slot for want of cells."""
        self.waits_told = False
        """Whether the core was told that it waits for a slot."""
        self.prompt_length = len(prompt)
        self.text: Tokens = np.empty(len(prompt) + limit + guesses + 1, np.int32)
        """Prompt and answer; what is beyond `length` means nothing."""
        self.text[: len(prompt)] = prompt
        self.length = len(prompt)
        self.cached: int | None = None
        """Tokens of the prompt that were found, once that is known."""
        self._logprobs = request.logprobs is not None
        self._stop_loops = stop_loops
        self._looped = False
        self._writer = writer
        self._sampler = sampler
        self._pieces = pieces
        self._visible = visible
        self._bounds = bounds
        self._resources = ExitStack()
        self._resources.enter_context(sampler)
        sampler.accept_prompt(prompt if isinstance(prompt, Sequence) else text_tokens(prompt))
        self.media = media
        """The images and recordings in its prompt; None where there are none."""
        if media is not None:
            self._resources.callback(media.close)

    @property
    def tokens(self) -> Tokens:
        """The tokens of prompt and answer."""
        return self.text[: self.length]

    def media_at(self, place: int) -> MediaRun | None:
        """The piece of an image or a recording that begins at this place of the text, if any."""
        runs = self.media.runs if self.media is not None else ()
        return next((run for run in runs if run.start == place), None)

    def text_end(self, place: int) -> int:
        """Where the tokens of text that begin at a place end: at an image, or at the very end."""
        runs = self.media.runs if self.media is not None else ()
        return next((run.start for run in runs if run.start >= place), self.length)

    @property
    def writing(self) -> bool:
        """Whether the answer has begun."""
        return self.length > self.prompt_length

    @property
    def room(self) -> int:
        """Tokens left until the limit."""
        return self._writer.room

    def sample(self, logits: Logits, place: int) -> int | None:
        """The next token; None where the grammar leaves none.

        Args:
            logits: The logits of the last token.
            place: Where they are in the batch.
        """
        if self._sampler.likeliest:
            return int(logits.argmax())
        self._bounds.number = self.number
        return self._sampler.sample(place)

    def take(self, token: int | None, place: int) -> bool:
        """Add a token to the answer; return whether the answer goes on after it."""
        if token is None or self._pieces.ends(token):
            self._writer.end()
            return False
        self.text[self.length] = token
        self.length += 1
        logprob = self._sampler.logprob(token, self._piece, place) if self._logprobs else None
        goes_on = self._writer.take(self._piece(token), logprob)
        if self._stop_loops and is_due(self.length - self.prompt_length):
            self._looped = repeated_run(self.tokens[-WINDOW:].tolist()) > 0
        return goes_on and not self._looped

    def _piece(self, token: int) -> bytes:
        return self._visible.get(token) or self._pieces.piece(token)

    def done(self, cache_bytes: int) -> AnswerDone:
        """Emit the text that was held back, and return the counts."""
        return msgspec.structs.replace(
            self._writer.done(self.prompt_length),
            id=self.number,
            cached_tokens=self.cached,
            looped=self._looped,
            prefix_cache_bytes=cache_bytes,
        )

    def close(self) -> None:
        """Free the samplers; overwrite the text where nothing may be kept."""
        self._resources.close()
        if self.private:
            self.text.fill(0)
