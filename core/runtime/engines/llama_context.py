"""A model that llama.cpp has loaded: conversations to tokens, tokens to text, texts to vectors."""

from __future__ import annotations

import ctypes
import importlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from core.errors import Cancelled, EngineFailed, InvalidRequest
from core.runtime.engines.base import CHATML, CHATML_STOP, PENALTY_WINDOW, Flag
from core.runtime.engines.llama_log import Log, failure
from core.runtime.engines.text import TextStream
from core.runtime.messages import Done, Vector
from core.schema import GenerateRequest, Message


class LlamaContext:
    """A model and its context. Whoever made them frees them."""

    def __init__(
        self, c: Any, model: Any, context: Any, *, embedding: bool, flag: Flag, log: Log
    ) -> None:
        """Take over a context.

        Args:
            c: llama.h, as llama-cpp-python binds it.
            model: `llama_model *`.
            context: `llama_context *`.
            embedding: Whether the context was made for embeddings.
            flag: Gives up what runs.
            log: What llama.cpp says.
        """
        self._c = c
        self._model = model
        self._context = context
        self._vocab = c.llama_model_get_vocab(model)
        self._embedding = embedding
        self._flag = flag
        self._log = log
        self._cached: list[int] = []
        """Tokens whose keys and values are in the cache, in order."""
        self._watch_flag()
        if not embedding and not self._template():
            log.say("warning", "the model brings no chat template; using ChatML")

    def _watch_flag(self) -> None:
        """Let the flag stop an evaluation. CPU only: on a GPU it is heard between batches."""
        strlen = ctypes.cast(ctypes.CDLL(None).strlen, self._c.ggml_abort_callback)
        self._c.llama_set_abort_callback(self._context, strlen, self._flag.address)
        self._strlen = strlen  # llama.cpp holds a pointer to it

    def _template(self) -> str:
        text = self._c.llama_model_chat_template(self._model, None)
        return text.decode("utf-8", "replace") if text else ""

    def _token_text(self, token: int) -> str:
        text = self._c.llama_vocab_get_text(self._vocab, token) if token >= 0 else None
        return text.decode("utf-8", "replace") if text else ""

    def _render(self, messages: Sequence[Message]) -> str:
        """The conversation as the model's own template writes it (sandboxed Jinja)."""
        formats = importlib.import_module("llama_cpp.llama_chat_format")
        try:
            formatter = formats.Jinja2ChatFormatter(
                template=self._template() or CHATML,
                eos_token=self._token_text(self._c.llama_vocab_eos(self._vocab)),
                bos_token=self._token_text(self._c.llama_vocab_bos(self._vocab)),
            )
            turns = [{"role": m.role, "content": m.content} for m in messages]
            return str(formatter(messages=turns).prompt)
        except Exception as error:  # a template is a program, and may fail in any way
            raise InvalidRequest(
                f"The model's chat template refuses this conversation: {error}",
                "Change the roles or their order, or send a plain prompt.",
            ) from error

    def _tokenize(self, text: str, *, special: bool) -> list[int]:
        """Tokens of a text. `special` adds what the model wants around a text (BOS)."""
        data = text.encode()
        room = len(data) + 8  # no token is shorter than a byte, and a few are added around
        tokens = (self._c.llama_token * room)()
        count = self._c.llama_tokenize(
            self._vocab, data, len(data), tokens, room, special, not special
        )
        if count < 0:
            raise EngineFailed("llama.cpp could not turn the text into tokens.")
        return list(tokens[:count])

    def _piece(self, token: int) -> bytes:
        room = 64
        while True:
            text = ctypes.create_string_buffer(room)
            length = self._c.llama_token_to_piece(self._vocab, token, text, room, 0, False)
            if length >= 0:
                return text.raw[:length]
            room = -length

    # Generation

    def generate(self, request: GenerateRequest, emit: Callable[[str], None]) -> Done:
        """Answer a request. Raises InvalidRequest when it does not fit the context."""
        if self._embedding:
            raise InvalidRequest("This model is loaded for embeddings and gives no text.")
        started = time.perf_counter()
        prompt, stops = self._prompt(request)
        room = self._c.llama_n_ctx(self._context) - len(prompt)
        if room <= 0:
            raise InvalidRequest(
                f"The request has {len(prompt)} tokens, the context {room + len(prompt)}.",
                "Send less, or load the model with a larger context length.",
            )
        limit = min(room, request.max_tokens or room)
        text, count, first = TextStream(stops), 0, None
        with self._sampler(request, prompt) as sampler:
            self._evaluate(prompt)
            while True:
                token = self._c.llama_sampler_sample(sampler, self._context, -1)
                first = first or time.perf_counter()
                if self._c.llama_vocab_is_eog(self._vocab, token):
                    reason = "stop"
                    break
                count += 1
                if piece := text.feed(self._piece(token)):
                    emit(piece)
                if text.stopped or count >= limit:
                    reason = "stop" if text.stopped else "length"
                    break
                self._decode([token])
        if rest := text.finish():
            emit(rest)
        seconds = time.perf_counter() - first
        return Done(
            reason="stop" if reason == "stop" else "length",
            prompt_tokens=len(prompt),
            completion_tokens=count,
            # The first token belongs to the prompt: what follows shows the speed.
            tokens_per_s=(count - 1) / seconds if count > 1 and seconds > 0 else None,
            time_to_first_token_s=first - started,
        )

    def _prompt(self, request: GenerateRequest) -> tuple[list[int], tuple[str, ...]]:
        """The tokens to continue, and the strings that end the answer."""
        if not request.messages:
            tokens = self._tokenize(request.prompt or "", special=True)
            return tokens or [self._c.llama_vocab_bos(self._vocab)], request.stop
        stops = request.stop if self._template() else (*request.stop, CHATML_STOP)
        return self._tokenize(self._render(request.messages), special=False), stops

    @contextmanager
    def _sampler(self, request: GenerateRequest, prompt: Sequence[int]) -> Iterator[Any]:
        """A chain of samplers, in llama.cpp's own order and with its defaults."""
        c = self._c
        chain = c.llama_sampler_chain_init(c.llama_sampler_chain_default_params())
        try:
            for sampler in self._samplers(request):
                c.llama_sampler_chain_add(chain, sampler)
            for token in prompt[-PENALTY_WINDOW:]:
                c.llama_sampler_accept(chain, token)
            yield chain
        finally:
            c.llama_sampler_free(chain)

    def _samplers(self, request: GenerateRequest) -> Iterator[Any]:
        c = self._c
        repeat = 1.0 if request.repeat_penalty is None else request.repeat_penalty
        frequency, presence = request.frequency_penalty or 0.0, request.presence_penalty or 0.0
        if (repeat, frequency, presence) != (1.0, 0.0, 0.0):
            vocabulary = c.llama_vocab_n_tokens(self._vocab)
            yield c.llama_sampler_init_penalties(
                vocabulary, PENALTY_WINDOW, repeat, frequency, presence
            )
        temperature = 0.8 if request.temperature is None else request.temperature
        if temperature == 0:
            yield c.llama_sampler_init_greedy()
            return
        yield c.llama_sampler_init_top_k(40 if request.top_k is None else request.top_k)
        yield c.llama_sampler_init_top_p(0.95 if request.top_p is None else request.top_p, 1)
        yield c.llama_sampler_init_min_p(0.05 if request.min_p is None else request.min_p, 1)
        yield c.llama_sampler_init_temp(temperature)
        seed = c.LLAMA_DEFAULT_SEED if request.seed is None else request.seed & 0xFFFFFFFF
        yield c.llama_sampler_init_dist(seed)  # the default seed means: a random one

    def _evaluate(self, prompt: list[int]) -> None:
        """Evaluate a prompt, keeping what the cache already holds of its beginning."""
        common = 0
        # The last token is always evaluated: sampling needs its logits.
        for old, new in zip(self._cached, prompt[:-1], strict=False):
            if old != new:
                break
            common += 1
        memory = self._c.llama_get_memory(self._context)
        if not self._c.llama_memory_seq_rm(memory, 0, common, -1):
            self._c.llama_memory_clear(memory, True)  # recurrent models cannot forget a part
            common = 0
        del self._cached[common:]
        batch = self._c.llama_n_batch(self._context)
        for start in range(common, len(prompt), batch):
            self._decode(prompt[start : start + batch])

    def _decode(self, tokens: list[int]) -> None:
        """Evaluate tokens after those in the cache. Raises Cancelled when the flag is set."""
        if not self._flag:
            array = (self._c.llama_token * len(tokens))(*tokens)
            result = self._c.llama_decode(
                self._context, self._c.llama_batch_get_one(array, len(tokens))
            )
            if result == 0:
                self._cached += tokens
                return
        # Part of the batch may be in the cache: forget it all, so that the next answer is right.
        self._cached.clear()
        self._c.llama_memory_clear(self._c.llama_get_memory(self._context), True)
        if self._flag:
            raise Cancelled("The request was cancelled.")
        raise failure(f"llama.cpp could not evaluate the text ({result})", self._log)

    # Embeddings

    def embed(self, text: str) -> Vector:
        """Embed a text. Raises InvalidRequest when it is longer than one batch."""
        if not self._embedding:
            raise InvalidRequest(
                "This model is loaded for text.", "Load it with the embedding option."
            )
        tokens = self._tokenize(text, special=True)
        room = self._c.llama_n_batch(self._context)
        if not 0 < len(tokens) <= room:
            raise InvalidRequest(f"A text to embed has 1 to {room} tokens, not {len(tokens)}.")
        if memory := self._c.llama_get_memory(self._context):
            self._c.llama_memory_clear(memory, True)
        array = (self._c.llama_token * len(tokens))(*tokens)
        batch = self._c.llama_batch_get_one(array, len(tokens))
        outputs = (ctypes.c_int8 * len(tokens))(*[1] * len(tokens))  # pooling needs every token
        batch.logits = outputs
        causal = self._c.llama_model_has_decoder(self._model)
        run = self._c.llama_decode if causal else self._c.llama_encode
        if run(self._context, batch) != 0:
            if self._flag:
                raise Cancelled("The request was cancelled.")
            raise failure("llama.cpp could not evaluate the text", self._log)
        values = self._c.llama_get_embeddings_seq(self._context, 0)
        if not values:
            raise failure("llama.cpp gave no embedding", self._log)
        width = self._c.llama_model_n_embd_out(self._model)
        length = math.hypot(*values[:width]) or 1.0
        return Vector(
            values=tuple(value / length for value in values[:width]), tokens=len(tokens)
        )
