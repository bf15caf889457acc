"""Creates models and contexts of llama.cpp with modeldeck's parameters, and frees them.

A plan and a load share their parameters here, so that what is planned is what is loaded.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from modeldeck.core.errors import Cancelled, EngineFailed
from modeldeck.core.runtime.engines.base import Flag
from modeldeck.core.runtime.engines.heap import heap_bytes
from modeldeck.core.runtime.engines.llama.draft_check import TOKENS, check_draft
from modeldeck.core.runtime.engines.llama.files import check_files
from modeldeck.core.runtime.engines.llama.graph import graph_of
from modeldeck.core.runtime.engines.llama.log import EngineLog, buffers, failure
from modeldeck.core.runtime.engines.llama.needs import EvaluationShape
from modeldeck.core.schema import LoadOptions

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
"""KV cache types by ggml's numbers (`enum ggml_type`, ggml.h)."""

BATCH = 512
"""Tokens evaluated at once by default: llama.cpp's own physical batch."""
EMBEDDING_BATCH = 2048
"""The longest text to embed by default, in tokens: it must fit one batch. An exception are models
that pool by the last token, such as embedding models made of decoders: earlier tokens may be in
earlier batches. Those models also have large vocabularies, and llama.cpp allocates the scores of
all tokens of a batch: 1.2 GB for a vocabulary of 150,000 and this batch."""
CONTEXT_STEP = 256
"""Cells that llama.cpp makes at a time: it rounds up to a multiple of this (llama-context.cpp)."""
TEXTS_AT_ONCE = 16
"""Texts to embed or rank that are read at once: short ones fill a batch of 512 tokens then."""
READERS = {"gemma-embedding", "llama-embed"}
"""Architectures that only embed texts, besides those of BERT."""
NO_FLASH = {"plm"}
"""Architectures with which flash attention makes llama.cpp abort: their values have two dimensions
where its cache expects three (plm.cpp; cpy_v in llama-kv-cache.cpp)."""
POOLING_NONE, POOLING_MEAN, POOLING_LAST, POOLING_RANK = 0, 1, 3, 4
"""`enum llama_pooling_type`, llama.h: no pooling, the mean, the last token, a reranker's score."""


def usable_cpus() -> int:
    """Processors that this process may run on."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def threads_for(cpus: int) -> tuple[int, int]:
    """Threads for generating, and for reading a prompt.

    Never all processors: llama.cpp's threads wait for each other at every step, spinning, so one
    that shares its processor, if only with the core, holds up all of them. On two processors with
    other work, two threads were 10 times slower than one. Generating is bound by memory bandwidth
    rather than by arithmetic; half the processors is llama-cpp-python's default too.

    >>> threads_for(1), threads_for(2), threads_for(16)
    ((1, 1), (1, 1), (8, 15))
    """
    return max(1, cpus // 2), max(1, cpus - 1)


def slots(options: LoadOptions, *, embedding: bool, recurrent: bool = False) -> int:
    """Requests, or texts to embed, that are read at the same time, each a sequence of the context.

    A model with a state of each sequence reads texts to embed one after another.
    """
    if not embedding:
        return options.parallel or 1
    return 1 if recurrent else TEXTS_AT_ONCE


def longest_request(options: LoadOptions, default_context: int, trained: int) -> int:
    """Tokens that one request may reach, its answer included."""
    return options.context_length or min(default_context, max(1, trained))


def draft_tokens(options: LoadOptions, batch: int) -> int:
    """Tokens that a draft model guesses at a time: they and one more must fit a batch."""
    return min(options.draft_tokens or TOKENS, batch - 1)


class LlamaLoader:
    """Creates models and contexts, and frees all of them with `release`."""

    def __init__(self, c: Any, flag: Flag, log: EngineLog) -> None:
        """Make a loader.

        Args:
            c: llama.h, as llama-cpp-python binds it.
            flag: Cancels a load.
            log: The log of llama.cpp.
        """
        self._c = c
        self._flag = flag
        self._log = log
        self._frees: list[Callable[[], None]] = []
        self.records_bytes: int | None = None
        """Heap bytes of the metadata of the models freed last; None if not known."""

    def on_release(self, free: Callable[[], None]) -> None:
        """Call `free` in `release`, before those added earlier."""
        self._frees.append(free)

    def release(self) -> None:
        """Free everything, the newest first."""
        self.records_bytes = None
        while self._frees:
            self._frees.pop()()

    def _free_model(self, model: Any) -> None:
        before = heap_bytes()
        self._c.llama_model_free(model)
        after = heap_bytes()
        if before is not None and after is not None:
            self.records_bytes = (self.records_bytes or 0) + before - after

    def model_parameters(self, options: LoadOptions) -> Any:
        """Parameters for loading a model."""
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

    def plan_parameters(self, options: LoadOptions) -> Any:
        """Parameters for opening a model by its header alone."""
        parameters = self.model_parameters(options)
        parameters.no_alloc = True
        parameters.load_mode = self._c.LLAMA_LOAD_MODE_NONE  # no_alloc with mmap aborts
        return parameters

    def choose_mmap(self, path: str, options: LoadOptions) -> LoadOptions:
        """Return the options with `mmap` set, where it is not set yet.

        llama.cpp repacks the weights of some tensors for this processor, which copies them, so
        mapping the file would hold them twice. A plan shows whether it will.
        """
        if options.mmap is not None:
            return options
        try:
            self.open(path, self.plan_parameters(options))
            repacked = buffers(self._log.lines).repacked
        finally:
            self.release()
            self._log.begin()
        return replace(options, mmap=not repacked)

    def context_parameters(
        self,
        model: Any,
        options: LoadOptions,
        default_context: int,
        *,
        embedding: bool,
        whole: int = 0,
    ) -> Any:
        """Parameters for making a context, whose batch has room for `whole` tokens at least."""
        parameters = self._c.llama_context_default_params()
        trained = self._c.llama_model_n_ctx_train(model)
        length = longest_request(options, default_context, trained)
        # Texts to embed share the cells of the longest one.
        cells = length if embedding else max(length, options.cache_tokens or 0)
        in_one = embedding and self._pooling(model) != POOLING_LAST
        batch = options.batch_size or (EMBEDDING_BATCH if in_one else BATCH)
        batch = min(cells, max(batch, whole))
        parameters.n_ctx = cells
        parameters.n_batch = parameters.n_ubatch = batch
        recurrent = self.is_recurrent(model)
        sequences = slots(options, embedding=embedding, recurrent=recurrent)
        parameters.n_seq_max = sequences
        # All sequences share the cells: one may fill them all, and two with the same beginning
        # hold it once. Otherwise each would have an equal part for itself.
        parameters.kv_unified = True
        # A layer with a sliding window keeps the window only, not the whole context.
        parameters.swa_full = False
        generating, reading = threads_for(usable_cpus())
        parameters.n_threads = options.threads or generating
        parameters.n_threads_batch = options.threads or reading
        parameters.type_k = parameters.type_v = KV_TYPES[options.kv_cache_type or "f16"]
        parameters.embeddings = embedding
        if embedding and self._pooling(model) is None:
            parameters.pooling_type = POOLING_MEAN
        if not embedding:
            # Room for the logits of one token per request instead of a batch of them: with a
            # vocabulary of 150,000 tokens the compute buffer is 29 MiB instead of 298. Guesses are
            # checked together, and need one more each.
            outputs = 1 + (draft_tokens(options, batch) if options.draft_model else 0)
            parameters.n_outputs_max_per_seq = outputs
            parameters.n_outputs_max = min(batch, sequences * outputs)
        return parameters

    def open(self, path: str, parameters: Any) -> Any:
        """Open a model, which `release` frees. Raises EngineFailed, and Cancelled."""
        check_files(path)
        model = self._c.llama_model_load_from_file(os.fsencode(path), parameters)
        if not model:
            if self._flag:
                raise Cancelled("The load was cancelled.")
            raise failure("llama.cpp refused the model", self._log)
        self.on_release(partial(self._free_model, model))
        return model

    def make_context(self, model: Any, options: LoadOptions, parameters: Any) -> tuple[Any, bool]:
        """Make a context; return it and whether it has flash attention, used where possible.

        `release` frees it.
        """
        choices = (True, False) if options.flash_attention is None else (options.flash_attention,)
        if self._metadata(model, "general.architecture") in NO_FLASH:
            choices = (False,)
        for flash in choices:
            parameters.flash_attn_type = (
                self._c.LLAMA_FLASH_ATTN_TYPE_ENABLED
                if flash
                else self._c.LLAMA_FLASH_ATTN_TYPE_DISABLED
            )
            context = self._c.llama_init_from_model(model, parameters)
            if context:
                self.on_release(partial(self._c.llama_free, context))
                return context, flash
        raise failure("llama.cpp could not prepare the context", self._log)

    def reach(self, model: Any, options: LoadOptions, default_context: int, cells: int) -> int:
        """Tokens that one request may reach: in steps of llama.cpp's cells, as they are made."""
        trained = self._c.llama_model_n_ctx_train(model)
        length = longest_request(options, default_context, trained)
        return min(cells, -(-length // CONTEXT_STEP) * CONTEXT_STEP)

    def open_draft(
        self, path: str, model: Any, parameters: Any, options: LoadOptions, cells: int
    ) -> tuple[Any, Any, bool]:
        """Open a draft model with a context of `cells`; also returns whether it has flash."""
        try:
            small = self.open(path, parameters)
        except EngineFailed as error:
            raise EngineFailed(
                f"The draft model: {error.message}", error.remedy, details=error.details
            ) from error
        check_draft(self._c, model, small)
        options = replace(options, context_length=cells, cache_tokens=None, draft_model=None)
        wanted = self.context_parameters(small, options, cells, embedding=False)
        return small, *self.make_context(small, options, wanted)

    def is_recurrent(self, model: Any) -> bool:
        """Whether some layers have a state instead of a KV cache."""
        return bool(self._c.llama_model_is_recurrent(model) or self._c.llama_model_is_hybrid(model))

    def is_embedding(self, model: Any, options: LoadOptions) -> bool:
        """Whether to load for vectors or scores of texts.

        Raises EngineFailed for what we cannot run.
        """
        has_decoder = self._c.llama_model_has_decoder(model)
        if has_decoder and self._c.llama_model_has_encoder(model):
            raise EngineFailed("Models with an encoder and a decoder are not supported.")
        if self._c.llama_model_is_diffusion(model):
            raise EngineFailed("Models that write by diffusion are not supported.")
        has_decoder = has_decoder and not self._reads_only(model)
        pooling = self._pooling(model)
        if pooling == POOLING_RANK:
            return True
        able = not has_decoder or pooling is not None
        if options.embedding and not able:
            raise EngineFailed(
                "This model has no embeddings: its file names no pooling.",
                "Load it without the embedding option.",
            )
        return able if options.embedding is None else options.embedding or not has_decoder

    def _reads_only(self, model: Any) -> bool:
        """Whether a model only embeds texts."""
        architecture = self._metadata(model, "general.architecture")
        causal = self._metadata(model, f"{architecture}.attention.causal")
        return causal == "false" or "bert" in architecture or architecture in READERS

    def evaluation_shape(
        self,
        model: Any,
        context: Any,
        options: LoadOptions,
        *,
        flash: bool,
        cells: tuple[tuple[int, int], ...],
    ) -> EvaluationShape:
        """Return the sizes that the memory of an evaluation depends on."""
        c = self._c
        architecture = self._metadata(model, "general.architecture")

        def number(key: str) -> int:
            text = self._metadata(model, f"{architecture}.{key}")
            return int(text) if text.isdigit() else 0

        heads = max(1, c.llama_model_n_head(model))
        widths = (
            c.llama_model_n_embd(model),
            number("feed_forward_length"),
            number("expert_used_count") * number("expert_feed_forward_length"),
            number("ssm.inner_size"),
            heads * number("attention.value_length"),
        )
        batch = c.llama_n_ubatch(context)
        logged = c.llama_n_seq_max(context)  # the output buffer that the log tells of
        most = logged * (1 + (draft_tokens(options, batch) if options.draft_model else 0))
        embedding = self.is_embedding(model, options)
        if embedding:
            most = max(batch, logged)
        vocabulary = c.llama_vocab_n_tokens(c.llama_model_get_vocab(model))
        return EvaluationShape(
            cells=cells,
            batch=batch,
            heads=heads,
            outputs=most - logged,
            # An embedding model has no scores, but the buffer for them is made and zeroed all the
            # same (llama_context::output_reserve).
            output_width=c.llama_model_n_embd_out(model) + vocabulary,
            vocabulary=vocabulary,
            sequences=1 if embedding else logged,  # only those draw tokens
            widest=max(widths),
            weight_bits=8 * c.llama_model_size(model) / max(1, c.llama_model_n_params(model)),
            flash=flash,
            cache_wide=options.kv_cache_type == "f32",
            by_position=number("attention.indexer.block_size") > 0 and logged == 1,
            graph=graph_of(c, context, most, logged),
            cut_by_sequence=logged > 1 and self.is_recurrent(model),
        )

    def _pooling(self, model: Any) -> int | None:
        """The pooling type in the file; None when it has none."""
        architecture = self._metadata(model, "general.architecture")
        text = self._metadata(model, f"{architecture}.pooling_type")
        return int(text) if text.isdigit() and int(text) != POOLING_NONE else None

    def _metadata(self, model: Any, key: str) -> str:
        """A value of the file's metadata, as text; empty when it has none."""
        text = ctypes.create_string_buffer(256)
        length = self._c.llama_model_meta_val_str(model, key.encode(), text, len(text))
        return text.value.decode("utf-8", "replace") if length >= 0 else ""
