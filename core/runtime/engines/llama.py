"""llama.cpp, through the C functions that llama-cpp-python binds.

The functions are used directly, not through `llama_cpp.Llama`: that class has no way to show
progress, to cancel, or to plan a load; it keeps the logits of a whole batch, and turns the whole
answer into text again for every token. A plan and a load share their parameters here, so that what
is planned is what is loaded.

llama.cpp trusts its caller and its file, and may abort or crash on a bad one. That costs this
process only. What it says goes to stderr, which the core keeps; the worst lines of a call that
failed go into its error as well.
"""

from __future__ import annotations

import ctypes
import importlib
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from core.errors import Cancelled, EngineFailed, EngineMissing, InvalidRequest
from core.runtime.engines.base import Flag, ShowProgress
from core.runtime.engines.llama_log import Log, buffers, remedy_for
from core.runtime.engines.llama_log import reason as reason_in
from core.runtime.engines.text import TextStream
from core.runtime.messages import PROTOCOL, Done, Hello, Loaded, Planned
from core.schema import GenerateRequest, LoadOptions, Message

KV_TYPES = {
    "f32": 0,
    "f16": 1,
    "q4_0": 2,
    "q4_1": 3,
    "q5_0": 6,
    "q5_1": 7,
    "q8_0": 8,
    "bf16": 30,
}
"""KV cache types as ggml numbers them (`enum ggml_type`, ggml.h)."""

BATCH = 512
"""Tokens evaluated at once, unless the options say: llama.cpp's own physical batch."""
EMBEDDING_BATCH = 2048
"""The longest text that is embedded, in tokens, unless the options say: it must fit one batch."""
PENALTY_WINDOW = 64
"""Tokens that the penalties look back at: llama.cpp's default."""
POOLING_NONE, POOLING_RANK = 0, 4
"""`enum llama_pooling_type`, llama.h: no pooling, and the score of a reranker."""
PROGRESS_STEP = 0.01
"""Progress is told in steps of this fraction: a model has hundreds of tensors."""

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Used for a model that brings no chat template, as llama.cpp's own server does."""
CHATML_STOP = "<|im_end|>"


def usable_cpus() -> int:
    """Processors that this process may run on."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def threads_for(cpus: int) -> tuple[int, int]:
    """Threads to answer with, and to read a prompt with.

    Never all: llama.cpp's threads wait for each other at every step, spinning, so one that has to
    share its processor, if only with the core that passes the tokens on, holds up all of them. On
    two processors with other work, two threads were 10 times slower than one. An answer is bound by
    memory rather than by arithmetic; half the processors is llama-cpp-python's own choice.

    >>> threads_for(1), threads_for(2), threads_for(16)
    ((1, 1), (1, 1), (8, 15))
    """
    return max(1, cpus // 2), max(1, cpus - 1)


class Llama:
    """One llama.cpp, with at most one model."""

    def __init__(self, flag: Flag) -> None:
        self._flag = flag
        self._log = Log()
        self._c: Any = None
        self._model: Any = None
        self._context: Any = None
        self._vocab: Any = None
        self._embedding = False
        self._cached: list[int] = []
        """Tokens whose keys and values are in the cache, in order."""
        self._kept: list[object] = []
        """Callbacks that llama.cpp holds pointers to."""

    def hello(self) -> Hello:
        """Import llama-cpp-python. Raises EngineMissing with the command that installs it."""
        install = f"{sys.executable} -m pip install 'llama-cpp-python>=0.3.36'"
        try:
            package = importlib.import_module("llama_cpp")
            self._c = importlib.import_module("llama_cpp.llama_cpp")
        except ImportError as error:
            raise EngineMissing(
                "llama.cpp is not installed.", f"Install it: {install}", details=(str(error),)
            ) from error
        except (OSError, RuntimeError) as error:  # a shared library that does not load
            raise EngineMissing(
                f"llama.cpp is installed but does not start: {error}.",
                f"Build it again for this machine: {install} --force-reinstall --no-cache-dir",
            ) from error
        callback = self._c.llama_log_callback(self._log.take)
        self._kept.append(callback)
        self._c.llama_log_set(callback, None)
        self._c.llama_backend_init()
        return Hello(
            protocol=PROTOCOL,
            version=str(package.__version__),
            devices=("CPU", "GPU") if self._c.llama_supports_gpu_offload() else ("CPU",),
        )

    # Parameters, shared by plan and load

    def _model_parameters(self, options: LoadOptions) -> Any:
        parameters = self._c.llama_model_default_params()
        if options.gpu_layers is not None:
            parameters.n_gpu_layers = options.gpu_layers
        mmap, mlock = options.mmap is not False, bool(options.mlock)
        parameters.load_mode = {
            (True, True): self._c.LLAMA_LOAD_MODE_MMAP_MLOCK,
            (True, False): self._c.LLAMA_LOAD_MODE_MMAP,
            (False, True): self._c.LLAMA_LOAD_MODE_MLOCK,
            (False, False): self._c.LLAMA_LOAD_MODE_NONE,
        }[mmap, mlock]
        return parameters

    def _context_parameters(self, options: LoadOptions, default_context: int, flash: bool) -> Any:
        parameters = self._c.llama_context_default_params()
        trained = max(1, self._c.llama_model_n_ctx_train(self._model))
        length = options.context_length or min(default_context, trained)
        batch = min(length, options.batch_size or (EMBEDDING_BATCH if self._embedding else BATCH))
        parameters.n_ctx = length
        parameters.n_batch = parameters.n_ubatch = batch
        parameters.n_seq_max = 1
        answering, reading = threads_for(usable_cpus())
        parameters.n_threads = options.threads or answering
        parameters.n_threads_batch = options.threads or reading
        parameters.flash_attn_type = (
            self._c.LLAMA_FLASH_ATTN_TYPE_ENABLED
            if flash
            else self._c.LLAMA_FLASH_ATTN_TYPE_DISABLED
        )
        parameters.type_k = parameters.type_v = KV_TYPES[options.kv_cache_type or "f16"]
        parameters.embeddings = self._embedding
        if not self._embedding:
            # Room for the logits of one token instead of a batch of them: with a vocabulary of
            # 150,000 tokens the compute buffer is 29 MiB instead of 298.
            parameters.n_outputs_max = 1
        return parameters

    def _open(self, path: str, parameters: Any) -> None:
        if not os.path.isfile(path):
            raise EngineFailed(f"There is no file at {path}.", "Download the model again.")
        self._model = self._c.llama_model_load_from_file(os.fsencode(path), parameters)
        if not self._model:
            if self._flag:
                raise Cancelled("The load was cancelled.")
            raise self._failure("llama.cpp refused the model")
        self._vocab = self._c.llama_model_get_vocab(self._model)

    def _make_context(self, options: LoadOptions, default_context: int) -> None:
        """Make the context, without flash attention where the model cannot have it."""
        wishes = (True, False) if options.flash_attention is None else (options.flash_attention,)
        for flash in wishes:
            self._context = self._c.llama_init_from_model(
                self._model, self._context_parameters(options, default_context, flash)
            )
            if self._context:
                return
        raise self._failure("llama.cpp could not prepare the context")

    def _failure(self, what: str) -> EngineFailed:
        worst = self._log.worst()
        why = reason_in(worst)
        return EngineFailed(
            f"{what}: {why}." if why else f"{what}.", remedy_for(worst), details=worst
        )

    def _is_embedding(self, options: LoadOptions) -> bool:
        """Whether to load for embeddings. Raises EngineFailed for what we cannot run."""
        has_decoder = self._c.llama_model_has_decoder(self._model)
        if has_decoder and self._c.llama_model_has_encoder(self._model):
            raise EngineFailed("Models with an encoder and a decoder are not supported.")
        pooling = self._pooling()
        if pooling == POOLING_RANK:
            raise EngineFailed("This model ranks texts; it neither answers nor embeds.")
        able = not has_decoder or pooling is not None
        if options.embedding and not able:
            raise EngineFailed(
                "This model has no embeddings: its file names no pooling.",
                "Load it without the embedding option.",
            )
        return able if options.embedding is None else options.embedding or not has_decoder

    def _pooling(self) -> int | None:
        """The pooling type that the file names; None when it names none."""
        architecture = self._metadata("general.architecture")
        text = self._metadata(f"{architecture}.pooling_type")
        return int(text) if text.isdigit() and int(text) != POOLING_NONE else None

    def _metadata(self, key: str) -> str:
        """A value of the file's metadata, as text; empty when it has none."""
        text = ctypes.create_string_buffer(256)
        length = self._c.llama_model_meta_val_str(self._model, key.encode(), text, len(text))
        return text.value.decode("utf-8", "replace") if length >= 0 else ""

    def _release(self) -> None:
        """Give model and context back; nothing happens when there are none."""
        if self._context:
            self._c.llama_free(self._context)
        if self._model:
            self._c.llama_model_free(self._model)
        self._context = self._model = self._vocab = None

    # Load and plan

    def load(
        self, path: str, options: LoadOptions, default_context: int, show: ShowProgress
    ) -> Loaded:
        """Load a model and make its context."""
        told = -1.0

        def on_progress(fraction: float, _data: object) -> bool:
            nonlocal told
            if fraction - told >= PROGRESS_STEP or fraction >= 1:
                told = fraction
                show("reading weights", min(fraction, 1.0))
            return not self._flag

        parameters = self._model_parameters(options)
        parameters.progress_callback = self._c.llama_progress_callback(on_progress)
        self._log.begin()
        try:
            self._open(path, parameters)
            self._embedding = self._is_embedding(options)
            show("preparing context", 1.0)
            self._make_context(options, default_context)
        except BaseException:
            self._release()
            raise
        self._watch_flag()
        if not self._embedding and not self._template():
            self._log.say("warning", "the model brings no chat template; using ChatML")
        return Loaded(context_length=self._c.llama_n_ctx(self._context), embedding=self._embedding)

    def _watch_flag(self) -> None:
        """Let the flag stop an evaluation. CPU only: on a GPU it is heard between batches."""
        strlen = ctypes.cast(ctypes.CDLL(None).strlen, self._c.ggml_abort_callback)
        self._kept.append(strlen)
        self._c.llama_set_abort_callback(self._context, strlen, self._flag.address)

    def plan(self, path: str, options: LoadOptions, default_context: int) -> Planned:
        """Let llama.cpp plan a load: `no_alloc` reads the header only and allocates nothing.

        The file may be a sparse one that holds just the header. The sizes are read from the log,
        which is no contract; a test compares them with a real load.
        """
        parameters = self._model_parameters(options)
        parameters.no_alloc = True
        parameters.load_mode = self._c.LLAMA_LOAD_MODE_NONE  # no_alloc with mmap aborts
        self._log.begin()
        try:
            self._open(path, parameters)
            self._embedding = self._is_embedding(options)
            self._make_context(options, default_context)
            sizes = buffers(self._log.lines)
            return Planned(
                weights_bytes=self._c.llama_model_size(self._model),
                kv_bytes=sizes.kv_bytes,
                compute_bytes=sizes.compute_bytes + sizes.output_bytes,
                context_length=self._c.llama_n_ctx(self._context),
                vocabulary=self._c.llama_vocab_n_tokens(self._vocab),
            )
        finally:
            self._release()

    # Text

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
        raise self._failure(f"llama.cpp could not evaluate the text (llama_decode: {result})")

    # Embeddings

    def embed(self, text: str) -> tuple[float, ...]:
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
            raise self._failure("llama.cpp could not evaluate the text")
        values = self._c.llama_get_embeddings_seq(self._context, 0)
        if not values:
            raise self._failure("llama.cpp gave no embedding")
        width = self._c.llama_model_n_embd_out(self._model)
        length = math.hypot(*values[:width]) or 1.0
        return tuple(value / length for value in values[:width])
