"""llama.cpp, through the C functions that llama-cpp-python binds.

The functions are used directly, not through `llama_cpp.Llama`: that class has no way to show
progress, to cancel, or to plan a load; it keeps the logits of a whole batch, and decodes the whole
answer again for every token.

llama.cpp trusts its caller and its file, and may abort or crash on a bad one, which ends only this
process. Its log goes to stderr, which the core keeps; warnings and errors of a call that failed go
into its error as well.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from modeldeck.core.errors import EngineMissing, InvalidRequest
from modeldeck.core.runtime.engines.base import Flag, ShowProgress
from modeldeck.core.runtime.engines.heap import trim_heap
from modeldeck.core.runtime.engines.llama.adapters import apply_adapters
from modeldeck.core.runtime.engines.llama.devices import has_gpu
from modeldeck.core.runtime.engines.llama.load_planner import LlamaPlanner
from modeldeck.core.runtime.engines.llama.loader import LlamaLoader, draft_tokens
from modeldeck.core.runtime.engines.llama.log import EngineLog
from modeldeck.core.runtime.engines.llama.projector_load import OpenedProjector, open_for
from modeldeck.core.runtime.platforms import llama_remedy
from modeldeck.core.runtime.process.messages import (
    PROTOCOL,
    EmbedTexts,
    EngineHello,
    EngineReport,
    LoadModel,
    LoadPlanned,
    ModelLoaded,
    PlanLoad,
    RankTexts,
    TokensRead,
)
from modeldeck.core.schema import GenerateRequest, LoadOptions, TokenQuery
from modeldeck.core.storage.installation import this_installation

if TYPE_CHECKING:
    from modeldeck.core.runtime.engines.llama.context import LlamaContext
    from modeldeck.core.runtime.engines.llama.draft import DraftModel

SAVE_S = 2.0
"""Seconds for saving conversations when the model is unloaded: less than the core waits for the end
of the process."""
PROGRESS_STEP = 0.01
"""Progress is reported in steps of this fraction: a model has hundreds of tensors."""


class LlamaEngine:
    """The llama.cpp of this process, with at most one model."""

    def __init__(self, flag: Flag) -> None:
        self._flag = flag
        self._log = EngineLog(flag)
        self._c: Any = None
        self._version = ""
        self._loaded: LlamaContext | None = None
        self._loader = LlamaLoader(None, flag, self._log)
        self._planner = LlamaPlanner(None, self._loader, self._log)
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
        self._planner = LlamaPlanner(self._c, self._loader, self._log)
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
            loaded, cells, opened = self._load(command, show)
        except BaseException:
            self._release()
            raise
        self._loaded = loaded
        trim_heap()
        embedding = loaded.embedding
        return ModelLoaded(
            context_length=loaded.length,
            embedding=embedding,
            parallel=loaded.parallel,
            cache_tokens=None if embedding else cells,
            media=opened.projector.media if opened.projector else (),
            warnings=opened.warnings,
        )

    def _release(self) -> None:
        self._loaded = None
        self._loader.release()

    def _load(
        self, command: LoadModel, show: ShowProgress
    ) -> tuple[LlamaContext, int, OpenedProjector]:
        """Load a model; also returns the cells of its context, and its projector."""
        path, default_context, draft = command.path, command.default_context, command.draft
        loader = self._loader
        show("reading header", None)
        options = loader.choose_mmap(path, command.options)
        parameters = loader.model_parameters(options)
        parameters.progress_callback = self._on_progress("reading weights", show)
        model = loader.open(path, parameters)
        embedding = loader.is_embedding(model, options)
        seen = OpenedProjector()
        if not embedding:
            progress = self._on_progress("reading projector", show)
            seen = open_for(command, model, progress, self._callbacks[0], self._flag, self._log)
            loader.on_release(seen.free)
        show("preparing context", 1.0)
        wanted = loader.context_parameters(
            model, options, default_context, embedding=embedding, whole=seen.whole
        )
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
        from modeldeck.core.runtime.engines.llama.prefix_disk_cache import open_prefix_files
        from modeldeck.core.runtime.engines.llama.turns import Turns
        from modeldeck.core.runtime.engines.llama.work_buffer import allocate_work_buffer

        opened = (self._c, model, context, command, self._flag, self._log)
        turns = None
        if not embedding:
            allocate_work_buffer(self._c, context, self._log)
            files = open_prefix_files(command, engine=self._version, flash=flash, cells=cells)
            turns = Turns(*opened, files=files, draft=draft_model, projector=seen.projector)
        length = loader.reach(model, options, default_context, cells)
        loaded = LlamaContext(
            *opened,
            length=length,
            turns=turns,
            projector=seen.projector,
            no_media=seen.why,
        )
        return loaded, cells, seen

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
        small, context, _ = self._loader.open_draft(path, model, parameters, options, cells)
        from modeldeck.core.runtime.engines.llama.draft import DraftModel
        from modeldeck.core.runtime.engines.llama.work_buffer import allocate_work_buffer

        allocate_work_buffer(self._c, context, self._log)
        tokens = draft_tokens(options, self._c.llama_n_batch(context))
        return DraftModel(self._c, small, context, tokens=tokens, flag=self._flag)

    def plan(self, command: PlanLoad) -> LoadPlanned:
        """Plan a load without allocating it."""
        return self._planner.plan(command)

    # Work

    def begin_texts(self, number: int, command: EmbedTexts | RankTexts) -> None:
        """Take in a request for vectors or scores."""
        loaded = self._model_in_use()
        if loaded.idle:
            self._log.begin()
        loaded.begin_texts(number, command)

    def tokenize(self, number: int, query: TokenQuery) -> TokensRead | None:
        """Return a text and its tokens; None where images have to be taken in first."""
        return self._model_in_use().tokenize(number, query)

    def begin(self, number: int, request: GenerateRequest) -> None:
        """Take a request in."""
        loaded = self._model_in_use()
        if loaded.idle:
            self._log.begin()
        loaded.begin(number, request)

    def cancel(self, number: int) -> None:
        """Forget a request."""
        if (loaded := self._loaded) is not None:
            loaded.cancel(number)

    def pause(self, number: int) -> None:
        """Give a request no further tokens."""
        if (loaded := self._loaded) is not None:
            loaded.set_paused(number, True)

    def shrink_cache(self, keep_bytes: int, *, stays: bool) -> None:
        """Drop stored conversations until at most `keep_bytes` are left."""
        if self._loaded is not None and not self._loaded.embedding:
            self._loaded.turns.memory.cache.shrink(keep_bytes, stays=stays)

    def resume(self, number: int) -> None:
        """Go on with a request."""
        if (loaded := self._loaded) is not None:
            loaded.set_paused(number, False)

    @property
    def working(self) -> bool:
        """Whether a request is in work that is not paused."""
        loaded = self._loaded
        return loaded is not None and loaded.working

    def step(self) -> list[EngineReport]:
        """Do a turn for all requests."""
        return self._model_in_use().step()

    def close(self) -> None:
        """Save conversations, where that is wanted."""
        if self.cancel_limit_s and self._loaded is not None:
            self._loaded.turns.memory.save_all()

    def reset(self) -> None:
        """Forget all requests, and everything that was read."""
        self._model_in_use().reset()

    def _model_in_use(self) -> LlamaContext:
        if self._loaded is None:
            raise InvalidRequest("No model is loaded.")
        return self._loaded
