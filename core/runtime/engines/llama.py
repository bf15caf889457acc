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
import os
import sys
from typing import Any

from core.errors import Cancelled, EngineFailed, EngineMissing, InvalidRequest
from core.runtime.engines.base import Emit, Flag, ShowProgress
from core.runtime.engines.llama_context import LlamaContext
from core.runtime.engines.llama_log import Log, buffers, failure
from core.runtime.messages import PROTOCOL, Done, Hello, Loaded, Planned, Vector
from core.schema import GenerateRequest, LoadOptions

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
POOLING_NONE, POOLING_RANK = 0, 4
"""`enum llama_pooling_type`, llama.h: no pooling, and the score of a reranker."""
PROGRESS_STEP = 0.01
"""Progress is told in steps of this fraction: a model has hundreds of tensors."""


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

    patience_s = 0.0

    def __init__(self, flag: Flag) -> None:
        self._flag = flag
        self._log = Log()
        self._c: Any = None
        self._model: Any = None
        self._context: Any = None
        self._embedding = False
        self._loaded: LlamaContext | None = None
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
            raise failure("llama.cpp refused the model", self._log)

    def _make_context(self, options: LoadOptions, default_context: int) -> None:
        """Make the context, without flash attention where the model cannot have it."""
        wishes = (True, False) if options.flash_attention is None else (options.flash_attention,)
        for flash in wishes:
            self._context = self._c.llama_init_from_model(
                self._model, self._context_parameters(options, default_context, flash)
            )
            if self._context:
                return
        raise failure("llama.cpp could not prepare the context", self._log)

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
        self._context = self._model = self._loaded = None

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
        self._loaded = LlamaContext(
            self._c,
            self._model,
            self._context,
            embedding=self._embedding,
            flag=self._flag,
            log=self._log,
        )
        return Loaded(context_length=self._c.llama_n_ctx(self._context), embedding=self._embedding)

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
                vocabulary=self._c.llama_vocab_n_tokens(self._c.llama_model_get_vocab(self._model)),
            )
        finally:
            self._release()

    # Work

    def generate(self, request: GenerateRequest, emit: Emit) -> Done:
        """Answer a request."""
        return self._model_in_use().generate(request, emit)

    def embed(self, text: str) -> Vector:
        """Embed a text."""
        return self._model_in_use().embed(text)

    def _model_in_use(self) -> LlamaContext:
        if self._loaded is None:
            raise InvalidRequest("No model is loaded.")
        return self._loaded
