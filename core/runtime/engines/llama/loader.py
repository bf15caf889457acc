"""Models and contexts of llama.cpp: made with our parameters, and given back.

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
from modeldeck.core.runtime.engines.llama.draft import TOKENS
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
"""KV cache types as ggml numbers them (`enum ggml_type`, ggml.h)."""

BATCH = 512
"""Tokens evaluated at once, unless the options say: llama.cpp's own physical batch."""
EMBEDDING_BATCH = 2048
"""The longest text that is embedded, in tokens, unless the options say: it must fit one batch.
Not so where the last token stands for the text, as in the embedding models made of decoders: what
came before it may be evaluated before. Theirs are the large vocabularies, too, and llama.cpp has
room for the scores of all tokens of a batch: 1.2 GB for 150,000 of them and this batch."""
READERS = {"gemma-embedding", "llama-embed"}
"""Architectures that read texts and write none, besides those of BERT."""
NO_FLASH = {"plm"}
"""Architectures that llama.cpp aborts for with flash attention: their values have two dimensions
instead of the three that its cache takes apart then (plm.cpp; cpy_v in llama-kv-cache.cpp)."""
POOLING_NONE, POOLING_MEAN, POOLING_LAST, POOLING_RANK = 0, 1, 3, 4
"""`enum llama_pooling_type`, llama.h: no pooling, the mean, the last token, a reranker's score."""


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


def guesses(options: LoadOptions, batch: int) -> int:
    """Tokens that a draft model guesses at a time: they and one more must fit a batch."""
    return min(options.draft_tokens or TOKENS, batch - 1)


class LlamaLoader:
    """Makes models and contexts, and gives all of them back."""

    def __init__(self, c: Any, flag: Flag, log: EngineLog) -> None:
        """Make a loader.

        Args:
            c: llama.h, as llama-cpp-python binds it.
            flag: Gives up a load.
            log: What llama.cpp says.
        """
        self._c = c
        self._flag = flag
        self._log = log
        self._frees: list[Callable[[], None]] = []
        self.records_bytes: int | None = None
        """What the records of models took in the heap that were given back; None if not known."""

    def later(self, free: Callable[[], None]) -> None:
        """Have something given back by `release`, before what was there earlier."""
        self._frees.append(free)

    def release(self) -> None:
        """Give everything back, the last first."""
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
        """What a model is loaded with."""
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
        """What a model is opened with whose header only is read."""
        parameters = self.model_parameters(options)
        parameters.no_alloc = True
        parameters.load_mode = self._c.LLAMA_LOAD_MODE_NONE  # no_alloc with mmap aborts
        return parameters

    def reading(self, path: str, options: LoadOptions) -> LoadOptions:
        """The options with the better way to read the weights, where nobody chose.

        Weights that are put in another order for this processor are copied from the file, so
        mapping it would hold them twice. Whether they are, llama.cpp decides tensor by tensor.
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
        self, model: Any, options: LoadOptions, default_context: int, *, embedding: bool
    ) -> Any:
        """What a context is made with."""
        parameters = self._c.llama_context_default_params()
        trained = max(1, self._c.llama_model_n_ctx_train(model))
        length = options.context_length or min(default_context, trained)
        whole = embedding and self._pooling(model) != POOLING_LAST
        batch = min(length, options.batch_size or (EMBEDDING_BATCH if whole else BATCH))
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
        if embedding and self._pooling(model) is None:
            parameters.pooling_type = POOLING_MEAN
        if not embedding:
            # Room for the logits of one token instead of a batch of them: with a vocabulary of
            # 150,000 tokens the compute buffer is 29 MiB instead of 298. Guesses are checked
            # together, and need one more each.
            parameters.n_outputs_max = 1 + (guesses(options, batch) if options.draft_model else 0)
        return parameters

    def open(self, path: str, parameters: Any) -> Any:
        """A model. It is freed by `release`."""
        check_files(path)
        model = self._c.llama_model_load_from_file(os.fsencode(path), parameters)
        if not model:
            if self._flag:
                raise Cancelled("The load was cancelled.")
            raise failure("llama.cpp refused the model", self._log)
        self.later(partial(self._free_model, model))
        return model

    def make_context(self, model: Any, options: LoadOptions, parameters: Any) -> tuple[Any, bool]:
        """A context, and whether it has flash attention, which is left out where it cannot be.

        It is freed by `release`.
        """
        wishes = (True, False) if options.flash_attention is None else (options.flash_attention,)
        if self._metadata(model, "general.architecture") in NO_FLASH:
            wishes = (False,)
        for flash in wishes:
            parameters.flash_attn_type = (
                self._c.LLAMA_FLASH_ATTN_TYPE_ENABLED
                if flash
                else self._c.LLAMA_FLASH_ATTN_TYPE_DISABLED
            )
            context = self._c.llama_init_from_model(model, parameters)
            if context:
                self.later(partial(self._c.llama_free, context))
                return context, flash
        raise failure("llama.cpp could not prepare the context", self._log)

    def is_embedding(self, model: Any, options: LoadOptions) -> bool:
        """Whether to load for embeddings. Raises EngineFailed for what we cannot run."""
        has_decoder = self._c.llama_model_has_decoder(model)
        if has_decoder and self._c.llama_model_has_encoder(model):
            raise EngineFailed("Models with an encoder and a decoder are not supported.")
        if self._c.llama_model_is_diffusion(model):
            raise EngineFailed("Models that write by diffusion are not supported.")
        has_decoder = has_decoder and not self._reads_only(model)
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

    def _reads_only(self, model: Any) -> bool:
        """Whether a model reads texts and writes none."""
        architecture = self._metadata(model, "general.architecture")
        causal = self._metadata(model, f"{architecture}.attention.causal")
        return causal == "false" or "bert" in architecture or architecture in READERS

    def figures(
        self,
        model: Any,
        context: Any,
        options: LoadOptions,
        *,
        flash: bool,
        cells: tuple[tuple[int, int], ...],
    ) -> EvaluationShape:
        """What the needs of an evaluation depend on, besides the buffers."""
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
        outputs = guesses(options, batch) if options.draft_model else 0
        if self.is_embedding(model, options):
            outputs = batch
        vocabulary = c.llama_vocab_n_tokens(c.llama_model_get_vocab(model))
        return EvaluationShape(
            cells=cells,
            batch=batch,
            heads=heads,
            outputs=outputs,
            # An embedding model has no scores, but the room for them is made, and zeroed, all the
            # same (llama_context::output_reserve).
            output_width=c.llama_model_n_embd_out(model) + vocabulary,
            widest=max(widths),
            weight_bits=8 * c.llama_model_size(model) / max(1, c.llama_model_n_params(model)),
            flash=flash,
            cache_wide=options.kv_cache_type == "f32",
            by_position=number("attention.indexer.block_size") > 0,
            graph=graph_of(c, context, max(1, outputs)),
        )

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
