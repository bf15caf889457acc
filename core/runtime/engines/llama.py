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
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from core.errors import Cancelled, EngineFailed, EngineMissing, InvalidRequest
from core.runtime.engines.base import Emit, Flag, ShowProgress
from core.runtime.engines.llama_adapters import adapter_bytes, lay_over
from core.runtime.engines.llama_context import LlamaContext
from core.runtime.engines.llama_draft import TOKENS, Draft, check_draft
from core.runtime.engines.llama_log import Log, buffers, failure
from core.runtime.engines.llama_sequence import Sequence
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


def _guesses(options: LoadOptions, batch: int) -> int:
    """Tokens that a draft model guesses at a time: they and one more must fit a batch."""
    return min(options.draft_tokens or TOKENS, batch - 1)


class Llama:
    """One llama.cpp, with at most one model."""

    patience_s = 0.0

    def __init__(self, flag: Flag) -> None:
        self._flag = flag
        self._log = Log(flag)
        self._c: Any = None
        self._loaded: LlamaContext | None = None
        self._frees: list[Callable[[], None]] = []
        """What gives back what was made, in the order it was made."""
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

    def _context_parameters(
        self, model: Any, options: LoadOptions, default_context: int, *, embedding: bool
    ) -> Any:
        parameters = self._c.llama_context_default_params()
        trained = max(1, self._c.llama_model_n_ctx_train(model))
        length = options.context_length or min(default_context, trained)
        batch = min(length, options.batch_size or (EMBEDDING_BATCH if embedding else BATCH))
        parameters.n_ctx = length
        parameters.n_batch = parameters.n_ubatch = batch
        parameters.n_seq_max = 1
        # A layer with a sliding window keeps what the window shows, not the whole context.
        parameters.swa_full = False
        answering, reading = threads_for(usable_cpus())
        parameters.n_threads = options.threads or answering
        parameters.n_threads_batch = options.threads or reading
        parameters.type_k = parameters.type_v = KV_TYPES[options.kv_cache_type or "f16"]
        parameters.embeddings = embedding
        if not embedding:
            # Room for the logits of one token instead of a batch of them: with a vocabulary of
            # 150,000 tokens the compute buffer is 29 MiB instead of 298. Guesses are checked
            # together, and need one more each.
            parameters.n_outputs_max = 1 + (_guesses(options, batch) if options.draft_model else 0)
        return parameters

    def _open(self, path: str, parameters: Any) -> Any:
        """A model. It is freed by `_release`."""
        if not os.path.isfile(path):
            raise EngineFailed(f"There is no file at {path}.", "Download the model again.")
        model = self._c.llama_model_load_from_file(os.fsencode(path), parameters)
        if not model:
            if self._flag:
                raise Cancelled("The load was cancelled.")
            raise failure("llama.cpp refused the model", self._log)
        self._frees.append(partial(self._c.llama_model_free, model))
        return model

    def _make_context(self, model: Any, options: LoadOptions, parameters: Any) -> Any:
        """A context, without flash attention where the model cannot have it.

        It is freed by `_release`.
        """
        wishes = (True, False) if options.flash_attention is None else (options.flash_attention,)
        for flash in wishes:
            parameters.flash_attn_type = (
                self._c.LLAMA_FLASH_ATTN_TYPE_ENABLED
                if flash
                else self._c.LLAMA_FLASH_ATTN_TYPE_DISABLED
            )
            context = self._c.llama_init_from_model(model, parameters)
            if context:
                self._frees.append(partial(self._c.llama_free, context))
                return context
        raise failure("llama.cpp could not prepare the context", self._log)

    def _is_embedding(self, model: Any, options: LoadOptions) -> bool:
        """Whether to load for embeddings. Raises EngineFailed for what we cannot run."""
        has_decoder = self._c.llama_model_has_decoder(model)
        if has_decoder and self._c.llama_model_has_encoder(model):
            raise EngineFailed("Models with an encoder and a decoder are not supported.")
        pooling = self._pooling(model)
        if pooling == POOLING_RANK:
            raise EngineFailed("This model ranks texts; it neither answers nor embeds.")
        able = not has_decoder or pooling is not None
        if options.embedding and not able:
            raise EngineFailed(
                "This model has no embeddings: its file names no pooling.",
                "Load it without the embedding option.",
            )
        return able if options.embedding is None else options.embedding or not has_decoder

    def _pooling(self, model: Any) -> int | None:
        """The pooling type that the file names; None when it names none."""
        architecture = self._metadata(model, "general.architecture")
        text = self._metadata(model, f"{architecture}.pooling_type")
        return int(text) if text.isdigit() and int(text) != POOLING_NONE else None

    def _metadata(self, model: Any, key: str) -> str:
        """A value of the file's metadata, as text; empty when it has none."""
        text = ctypes.create_string_buffer(256)
        length = self._c.llama_model_meta_val_str(model, key.encode(), text, len(text))
        return text.value.decode("utf-8", "replace") if length >= 0 else ""

    def _release(self) -> None:
        """Give everything back; nothing happens when there is nothing."""
        self._loaded = None
        while self._frees:
            self._frees.pop()()

    # Load and plan

    def load(
        self,
        path: str,
        options: LoadOptions,
        default_context: int,
        show: ShowProgress,
        draft: str | None = None,
    ) -> Loaded:
        """Load a model and make its context."""
        self._log.begin()
        try:
            self._loaded, length = self._load(path, options, default_context, show, draft)
        except BaseException:
            self._release()
            raise
        return Loaded(context_length=length, embedding=self._loaded.embedding)

    def _load(
        self,
        path: str,
        options: LoadOptions,
        default_context: int,
        show: ShowProgress,
        draft: str | None,
    ) -> tuple[LlamaContext, int]:
        parameters = self._model_parameters(options)
        parameters.progress_callback = self._on_progress("reading weights", show)
        model = self._open(path, parameters)
        embedding = self._is_embedding(model, options)
        show("preparing context", 1.0)
        context = self._make_context(
            model,
            options,
            self._context_parameters(model, options, default_context, embedding=embedding),
        )
        if options.loras:
            show("reading adapters", None)
            self._frees.append(lay_over(self._c, model, context, options.loras, self._log))
        length = self._c.llama_n_ctx(context)
        guesser = None
        if draft is not None and not embedding:
            guesser = self._load_draft(draft, model, options, length, show)
        return LlamaContext(
            self._c,
            model,
            context,
            embedding=embedding,
            sequence=Sequence(self._c, model, context, flag=self._flag, log=self._log),
            draft=guesser,
            flag=self._flag,
            log=self._log,
        ), length

    def _on_progress(self, stage: str, show: ShowProgress) -> Any:
        """A callback for llama.cpp that shows how far a load is, and gives it up."""
        told = -1.0

        def on_progress(fraction: float, _data: object) -> bool:
            nonlocal told
            if fraction - told >= PROGRESS_STEP or fraction >= 1:
                told = fraction
                show(stage, min(fraction, 1.0))
            return not self._flag

        callback = self._c.llama_progress_callback(on_progress)
        self._kept.append(callback)
        return callback

    def _load_draft(
        self, path: str, model: Any, options: LoadOptions, length: int, show: ShowProgress
    ) -> Draft:
        """Load a model that guesses for another. Raises EngineFailed when it cannot."""
        parameters = self._model_parameters(options)
        parameters.progress_callback = self._on_progress("reading draft model", show)
        small, context = self._open_draft(path, model, parameters, options, length)
        sequence = Sequence(self._c, small, context, flag=self._flag, log=self._log)
        batch = self._c.llama_n_batch(context)
        draft = Draft(self._c, small, sequence, context, _guesses(options, batch))
        self._frees.append(draft.close)
        return draft

    def _open_draft(
        self, path: str, model: Any, parameters: Any, options: LoadOptions, length: int
    ) -> tuple[Any, Any]:
        """A draft model and its context, as long as the one it guesses for."""
        try:
            small = self._open(path, parameters)
        except EngineFailed as error:
            raise EngineFailed(
                f"The draft model: {error.message}", error.remedy, details=error.details
            ) from error
        check_draft(self._c, model, small)
        options = replace(options, context_length=length, draft_model=None)
        context = self._make_context(
            small, options, self._context_parameters(small, options, length, embedding=False)
        )
        return small, context

    def plan(
        self, path: str, options: LoadOptions, default_context: int, draft: str | None = None
    ) -> Planned:
        """Let llama.cpp plan a load: `no_alloc` reads the header only and allocates nothing.

        The file may be a sparse one that holds just the header. The sizes are read from the log,
        which is no contract; a test compares them with a real load.
        """
        self._log.begin()
        try:
            parameters = self._plan_parameters(options)
            model = self._open(path, parameters)
            embedding = self._is_embedding(model, options)
            context = self._make_context(
                model,
                options,
                self._context_parameters(model, options, default_context, embedding=embedding),
            )
            length = self._c.llama_n_ctx(context)
            models = [model]
            if draft is not None and not embedding:
                models.append(self._open_draft(draft, model, parameters, options, length)[0])
            sizes = buffers(self._log.lines)
            weights = sum(self._c.llama_model_size(m) for m in models)
            return Planned(
                weights_bytes=weights
                + sum(adapter_bytes(lora.path) for lora in options.loras or ()),
                kv_bytes=sizes.kv_bytes,
                compute_bytes=sizes.compute_bytes + sizes.output_bytes,
                context_length=length,
                gpu_bytes=sizes.gpu_bytes + round(sizes.offloaded * (weights + sizes.kv_bytes)),
                vocabulary=sum(
                    self._c.llama_vocab_n_tokens(self._c.llama_model_get_vocab(m)) for m in models
                ),
            )
        finally:
            self._release()

    def _plan_parameters(self, options: LoadOptions) -> Any:
        parameters = self._model_parameters(options)
        parameters.no_alloc = True
        parameters.load_mode = self._c.LLAMA_LOAD_MODE_NONE  # no_alloc with mmap aborts
        return parameters

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
