"""llama.cpp, through the C functions that llama-cpp-python binds.

The functions are used directly, not through `llama_cpp.Llama`: that class has no way to show
progress, to cancel, or to plan a load; it keeps the logits of a whole batch, and decodes the whole
answer again for every token. A plan and a load share their parameters here, so that what
is planned is what is loaded.

llama.cpp trusts its caller and its file, and may abort or crash on a bad one, which ends only this
process. Its log goes to stderr, which the core keeps; warnings and errors of a call that failed go
into its error as well.
"""

from __future__ import annotations

import ctypes
import importlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec

from modeldeck.core.errors import EngineFailed, EngineMissing, InvalidRequest
from modeldeck.core.runtime.engines.base import Flag, ShowProgress
from modeldeck.core.runtime.engines.heap import trim_heap
from modeldeck.core.runtime.engines.llama.adapters import adapter_bytes, apply_adapters
from modeldeck.core.runtime.engines.llama.devices import NotKnown, has_gpu
from modeldeck.core.runtime.engines.llama.draft_check import check_draft
from modeldeck.core.runtime.engines.llama.loader import LlamaLoader, draft_tokens, longest_request
from modeldeck.core.runtime.engines.llama.log import EngineLog, buffers
from modeldeck.core.runtime.engines.llama.needs import besides_bytes
from modeldeck.core.runtime.engines.llama.split import (
    Opened,
    Split,
    larger,
    measure,
    with_graph_of,
)
from modeldeck.core.runtime.platforms import llama_remedy
from modeldeck.core.runtime.process.messages import (
    PROTOCOL,
    EmbeddingVector,
    EngineHello,
    EngineReport,
    LoadModel,
    LoadPlanned,
    ModelLoaded,
    TextRanked,
    TokensRead,
)
from modeldeck.core.schema import GenerateRequest, LoadOptions, TokenQuery
from modeldeck.core.storage.installation import this_installation

if TYPE_CHECKING:
    from modeldeck.core.runtime.engines.llama.answer import SlotAnswer
    from modeldeck.core.runtime.engines.llama.context import LlamaContext
    from modeldeck.core.runtime.engines.llama.draft import DraftModel

CONTEXT_STEP = 256
"""Cells that llama.cpp makes at a time: it rounds up to a multiple of this (llama-context.cpp)."""
SAVE_S = 2.0
"""Seconds for saving conversations when the model is unloaded: less than the core waits for the end
of the process."""
METADATA_STEP = 1 << 18
"""`records_bytes` is rounded to multiples of this."""
PROGRESS_STEP = 0.01
"""Progress is reported in steps of this fraction: a model has hundreds of tensors."""

NO_ROOM_TO_PLAN = "planning it takes memory of the GPU itself, and there was too little free"


class LlamaEngine:
    """The llama.cpp of this process, with at most one model."""

    def __init__(self, flag: Flag) -> None:
        self._flag = flag
        self._log = EngineLog(flag)
        self._c: Any = None
        self._version = ""
        self._loaded: LlamaContext | None = None
        self._loader = LlamaLoader(None, flag, self._log)
        self._callbacks: list[object] = []
        """Callbacks that llama.cpp has pointers to: they must not be freed."""

    @property
    def cancel_limit_s(self) -> float:
        """Seconds that it may take to end: conversations may have to be saved."""
        loaded = self._loaded
        saves = loaded is not None and not loaded.embedding and loaded.turns.memory.cache.files
        return SAVE_S if saves else 0.0

    def hello(self) -> EngineHello:
        """Import llama-cpp-python. Raises EngineMissing with the command that installs it."""
        try:
            package = importlib.import_module("llama_cpp")
            self._c = importlib.import_module("llama_cpp.llama_cpp")
        except ImportError as error:
            raise EngineMissing(
                "llama.cpp is not installed.",
                llama_remedy(this_installation()),
                details=(str(error),),
            ) from error
        except (OSError, RuntimeError) as error:  # a shared library that does not load
            raise EngineMissing(
                f"llama.cpp is installed but does not start: {error}.",
                llama_remedy(this_installation(), rebuild=True),
            ) from error
        callback = self._c.llama_log_callback(self._log.take)
        self._callbacks.append(callback)
        self._c.llama_log_set(callback, None)
        self._c.llama_backend_init()
        self._loader = LlamaLoader(self._c, self._flag, self._log)
        self._version = str(package.__version__)
        return EngineHello(
            protocol=PROTOCOL,
            version=self._version,
            devices=("CPU", "GPU") if has_gpu(self._c) else ("CPU",),
        )

    # Load and plan

    def load(self, command: LoadModel, show: ShowProgress) -> ModelLoaded:
        """Load a model and make its context."""
        self._log.begin()
        try:
            loaded, cells = self._load(command, show)
        except BaseException:
            self._release()
            raise
        self._loaded = loaded
        trim_heap()
        embedding = loaded.embedding
        return ModelLoaded(
            context_length=loaded.length,
            embedding=embedding,
            parallel=1 if embedding else len(loaded.turns.memory.slots),
            cache_tokens=None if embedding else cells,
        )

    def _release(self) -> None:
        self._loaded = None
        self._loader.release()

    def _load(self, command: LoadModel, show: ShowProgress) -> tuple[LlamaContext, int]:
        """Load a model; also returns the cells of its context."""
        path, default_context, draft = command.path, command.default_context, command.draft
        loader = self._loader
        show("reading header", None)
        options = loader.choose_mmap(path, command.options)
        parameters = loader.model_parameters(options)
        parameters.progress_callback = self._on_progress("reading weights", show)
        model = loader.open(path, parameters)
        embedding = loader.is_embedding(model, options)
        show("preparing context", 1.0)
        wanted = loader.context_parameters(model, options, default_context, embedding=embedding)
        context, flash = loader.make_context(model, options, wanted)
        if options.loras:
            show("reading adapters", None)
            loader.on_release(apply_adapters(self._c, model, context, options.loras, self._log))
        cells = self._c.llama_n_ctx(context)
        draft_model = None
        if draft is not None and not embedding:
            draft_model = self._load_draft(draft, model, options, cells, show)
        # These need numpy, which comes with llama-cpp-python: `hello` tells where that is missing.
        from modeldeck.core.runtime.engines.llama.context import LlamaContext
        from modeldeck.core.runtime.engines.llama.prefix_files import open_prefix_files
        from modeldeck.core.runtime.engines.llama.turns import Turns

        opened = (self._c, model, context, command, self._flag, self._log)
        turns = None
        if not embedding:
            files = open_prefix_files(command, engine=self._version, flash=flash, cells=cells)
            turns = Turns(*opened, files=files, draft=draft_model)
        length = self._reach(model, options, default_context, cells)
        loaded = LlamaContext(*opened, length=length, turns=turns)
        return loaded, cells

    def _reach(self, model: Any, options: LoadOptions, default_context: int, cells: int) -> int:
        """Tokens that one request may reach: in steps of llama.cpp's cells, as they are made."""
        trained = self._c.llama_model_n_ctx_train(model)
        length = longest_request(options, default_context, trained)
        return min(cells, -(-length // CONTEXT_STEP) * CONTEXT_STEP)

    def _on_progress(self, stage: str, show: ShowProgress) -> Any:
        """A callback for llama.cpp that reports the progress of a load, and cancels it."""
        reported = -1.0

        def on_progress(fraction: float, _data: object) -> bool:
            nonlocal reported
            if fraction - reported >= PROGRESS_STEP or fraction >= 1:
                reported = fraction
                show(stage, min(fraction, 1.0))
            return not self._flag

        callback = self._c.llama_progress_callback(on_progress)
        self._callbacks.append(callback)
        return callback

    def _load_draft(
        self, path: str, model: Any, options: LoadOptions, cells: int, show: ShowProgress
    ) -> DraftModel:
        """Load a draft model. Raises EngineFailed when it does not fit the model."""
        parameters = self._loader.model_parameters(options)
        parameters.progress_callback = self._on_progress("reading draft model", show)
        small, context, _ = self._open_draft(path, model, parameters, options, cells)
        from modeldeck.core.runtime.engines.llama.draft import DraftModel

        tokens = draft_tokens(options, self._c.llama_n_batch(context))
        return DraftModel(self._c, small, context, tokens=tokens, flag=self._flag)

    def _open_draft(
        self, path: str, model: Any, parameters: Any, options: LoadOptions, cells: int
    ) -> tuple[Any, Any, bool]:
        """Open a draft model with a context of `cells`; also returns whether it has flash."""
        try:
            small = self._loader.open(path, parameters)
        except EngineFailed as error:
            raise EngineFailed(
                f"The draft model: {error.message}", error.remedy, details=error.details
            ) from error
        check_draft(self._c, model, small)
        options = replace(options, context_length=cells, cache_tokens=None, draft_model=None)
        wanted = self._loader.context_parameters(small, options, cells, embedding=False)
        return small, *self._loader.make_context(small, options, wanted)

    def plan(
        self, path: str, options: LoadOptions, default_context: int, draft: str | None = None
    ) -> LoadPlanned:
        """Let llama.cpp plan a load: `no_alloc` reads the header only and allocates nothing.

        The file may be a sparse one that holds just the header. The sizes are read from the log,
        which is no contract; a test compares them with a real load.
        """
        try:
            planned = self._plan_with_devices(path, options, default_context, draft)
        finally:
            self._release()
        records = self._loader.records_bytes
        if records is not None:
            # The count varies by some hundred bytes; the same file must get the same plan.
            records = round(records / METADATA_STEP) * METADATA_STEP
        return msgspec.structs.replace(planned, records_bytes=records)

    def _plan_with_devices(
        self, path: str, options: LoadOptions, default_context: int, draft: str | None
    ) -> LoadPlanned:
        """Plan a load; without the GPU where planning needs more memory than it has free.

        llama.cpp allocates the state of recurrent layers while it plans
        (`llama_memory_recurrent`, llama-memory-recurrent.cpp).
        """
        self._log.begin()
        try:
            return self._plan(path, options, default_context, draft)
        except EngineFailed:
            if not has_gpu(self._c) or not any(
                "failed to allocate" in t for t in self._log.worst()
            ):
                raise
        self._release()
        self._log.begin()
        planned = self._plan(path, options, default_context, draft, on_devices=False)
        return msgspec.structs.replace(planned, gpu_unknown=NO_ROOM_TO_PLAN)

    def _plan(
        self,
        path: str,
        options: LoadOptions,
        default_context: int,
        draft: str | None,
        *,
        on_devices: bool = True,
    ) -> LoadPlanned:
        loader = self._loader
        parameters = loader.plan_parameters(options)
        no_devices = (ctypes.c_void_p * 1)(None)  # read while llama.cpp opens the model
        if not on_devices:
            parameters.devices = ctypes.cast(no_devices, ctypes.c_void_p)
        model = loader.open(path, parameters)
        embedding = loader.is_embedding(model, options)
        wanted = loader.context_parameters(model, options, default_context, embedding=embedding)
        context, flash = loader.make_context(model, options, wanted)
        parts = [self._opened(model, context, options, flash=flash)]
        cells = self._c.llama_n_ctx(context)
        if draft is not None and not embedding:
            begun = len(self._log.lines)
            without = replace(options, draft_model=None)
            small, context, flash = self._open_draft(draft, model, parameters, options, cells)
            parts.append(self._opened(small, context, without, flash=flash, begun=begun))
        alone = self._opened_alone(parts[0], options, wanted)
        split, unknown = self._split(parts, alone, options)
        if alone is not None:
            parts[0] = with_graph_of(parts[0], alone)
        weights, kv, compute = self._sums(parts, options, split)
        return LoadPlanned(
            weights_bytes=weights,
            kv_bytes=kv,
            compute_bytes=compute,
            context_length=self._reach(model, options, default_context, cells),
            devices=split.devices if split else (),
            gpu_unknown=unknown,
            exact=split is None or split.exact,
            vocabulary=sum(
                self._c.llama_vocab_n_tokens(self._c.llama_model_get_vocab(part.model))
                for part in parts
            ),
        )

    def _opened(
        self, model: Any, context: Any, options: LoadOptions, *, flash: bool, begun: int = 0
    ) -> Opened:
        """A planned model; its log begins at line number `begun`."""
        logged = buffers(self._log.lines[begun:])
        figures = self._loader.evaluation_shape(
            model, context, options, flash=flash, cells=logged.cells
        )
        return Opened(model=model, context=context, logged=logged, figures=figures)

    def _opened_alone(self, part: Opened, options: LoadOptions, wanted: Any) -> Opened | None:
        """A second plan of a model that answers several requests, as if it answered one.

        None where it is not needed. Recurrent layers are evaluated with equally many tokens of each
        sequence. Some need a larger graph and buffer for all tokens of a batch in one sequence than
        in several, for which llama.cpp reserves: it makes the buffer anew then, and of two
        architectures it knows but does not plan so (`llama_context::sched_reserve`).
        """
        if wanted.n_seq_max == 1 or not self._loader.is_recurrent(part.model):
            return None
        begun = len(self._log.lines)
        wanted.n_seq_max = 1
        context, flash = self._loader.make_context(part.model, options, wanted)
        alone = self._opened(part.model, context, options, flash=flash, begun=begun)
        found = alone.logged
        # What the log says of the model it said when it was opened.
        logged = replace(part.logged, kv_bytes=found.kv_bytes, compute_bytes=found.compute_bytes)
        return replace(alone, logged=logged)

    def _split(
        self, parts: list[Opened], alone: Opened | None, options: LoadOptions
    ) -> tuple[Split | None, str]:
        """How the planned models are split among devices, or why that is not known."""
        try:
            split = measure(self._c, parts, adapters=bool(options.loras))
            other = (
                None
                if split is None or alone is None
                else measure(self._c, [alone], adapters=False)
            )
        except NotKnown as why:
            return None, str(why)
        return (larger(split, other) if split is not None and other is not None else split), ""

    def _sums(
        self, parts: list[Opened], options: LoadOptions, split: Split | None
    ) -> tuple[int, int, int]:
        """Bytes of weights, KV cache and the rest, in the machine's memory and the GPUs'."""
        weights = sum(self._c.llama_model_size(part.model) for part in parts)
        kv = sum(part.logged.kv_bytes for part in parts)
        compute = sum(part.logged.compute_bytes for part in parts)
        in_machine = weights
        if split is not None and split.devices:  # some weights are in both
            places = (split.machine, *split.devices)
            weights = sum(place.weights_bytes for place in places)
            kv = sum(place.kv_bytes for place in places)
            compute = sum(place.compute_bytes for place in places)
            in_machine = split.machine.weights_bytes
        if options.mmap and any(part.logged.repacked for part in parts):
            # They are there twice: repacked, and in the file, which stays mapped up to the last
            # tensor that is not repacked, a norm of the last layer.
            layers = max(1, self._c.llama_model_n_layer(parts[0].model))
            weights += in_machine - in_machine // layers
        besides = sum(part.logged.output_bytes + besides_bytes(part.figures) for part in parts)
        weights += sum(adapter_bytes(lora.path) for lora in options.loras or ())
        return weights, kv, compute + besides

    # Work

    def embed(self, text: str, *, truncate: bool = False) -> EmbeddingVector:
        """Embed a text."""
        return self._model_in_use().embed(text, truncate=truncate)

    def rank(self, query: str, text: str) -> TextRanked:
        """Tell how well a text answers a query."""
        return self._model_in_use().rank(query, text)

    def tokenize(self, query: TokenQuery) -> TokensRead:
        """Return a text and its tokens."""
        return self._model_in_use().tokenize(query)

    def begin(self, number: int, request: GenerateRequest) -> None:
        """Take a request in."""
        loaded = self._model_in_use()
        if not loaded.turns.answers:
            self._log.begin()
        loaded.begin(number, request)

    def cancel(self, number: int) -> None:
        """Forget a request."""
        if answer := self._find(number):
            self._model_in_use().turns.cancel(answer)

    def pause(self, number: int) -> None:
        """Give a request no further tokens."""
        if answer := self._find(number):
            answer.paused = True

    def resume(self, number: int) -> None:
        """Go on with a request."""
        if answer := self._find(number):
            answer.paused = False

    def _find(self, number: int) -> SlotAnswer | None:
        loaded = self._loaded
        return None if loaded is None or loaded.embedding else loaded.turns.find(number)

    @property
    def working(self) -> bool:
        """Whether a request is in work that is not paused."""
        loaded = self._loaded
        return loaded is not None and not loaded.embedding and loaded.turns.working

    def step(self) -> list[EngineReport]:
        """Do a turn for all requests."""
        return self._model_in_use().turns.step()

    def close(self) -> None:
        """Save conversations, where that is wanted."""
        if self.cancel_limit_s and self._loaded is not None:
            self._loaded.turns.memory.save_all()

    def reset(self) -> None:
        """Forget all requests, and everything that was read."""
        self._model_in_use().turns.reset()

    def _model_in_use(self) -> LlamaContext:
        if self._loaded is None:
            raise InvalidRequest("No model is loaded.")
        return self._loaded
