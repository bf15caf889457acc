"""Plans loads of llama.cpp: what a load would allocate, from the header alone."""

from __future__ import annotations

import ctypes
from dataclasses import replace
from typing import Any

import msgspec

from modeldeck.core.errors import EngineFailed
from modeldeck.core.runtime.engines.llama.adapters import adapter_bytes
from modeldeck.core.runtime.engines.llama.devices import NotKnown, first_gpu, has_gpu
from modeldeck.core.runtime.engines.llama.loader import LlamaLoader
from modeldeck.core.runtime.engines.llama.log import EngineLog, buffers
from modeldeck.core.runtime.engines.llama.needs import besides_bytes
from modeldeck.core.runtime.engines.llama.projector import NoLibrary, limit_of, load_library
from modeldeck.core.runtime.engines.llama.projector_plan import ProjectorPlan, ProjectorPlanner
from modeldeck.core.runtime.engines.llama.split import (
    Opened,
    Split,
    larger,
    measure,
    with_graph_of,
)
from modeldeck.core.runtime.process.messages import LoadPlanned, PlanLoad
from modeldeck.core.schema import LoadOptions

METADATA_STEP = 1 << 18
"""`records_bytes` is rounded to multiples of this."""
NO_ROOM_TO_PLAN = "planning it takes memory of the GPU itself, and there was too little free"


class LlamaPlanner:
    """Plans loads with the parameters of `LlamaLoader`."""

    def __init__(self, c: Any, loader: LlamaLoader, log: EngineLog) -> None:
        """Make a planner.

        Args:
            c: llama.h, as llama-cpp-python binds it.
            loader: Opens models; a plan releases all that it holds.
            log: The log of llama.cpp.
        """
        self._c = c
        self._loader = loader
        self._log = log
        self._projectors: ProjectorPlanner | None = None

    def plan(self, command: PlanLoad) -> LoadPlanned:
        """Let llama.cpp plan a load: `no_alloc` reads the header only and allocates nothing.

        The files may be sparse ones that hold just their headers. The sizes are read from the log,
        which is no contract; a test compares them with a real load.
        """
        try:
            planned = self._plan_with_devices(command)
        finally:
            self._loader.release()
        records = self._loader.records_bytes
        if records is not None:
            # The count varies by some hundred bytes; the same file must get the same plan.
            records = round(records / METADATA_STEP) * METADATA_STEP
        return msgspec.structs.replace(planned, records_bytes=records)

    def _plan_with_devices(self, command: PlanLoad) -> LoadPlanned:
        """Plan a load; without the GPU where planning needs more memory than it has free.

        llama.cpp allocates the state of recurrent layers while it plans
        (`llama_memory_recurrent`, llama-memory-recurrent.cpp).
        """
        self._log.begin()
        try:
            return self._plan(command)
        except EngineFailed:
            if not has_gpu(self._c) or not any(
                "failed to allocate" in t for t in self._log.worst()
            ):
                raise
        self._loader.release()
        self._log.begin()
        planned = self._plan(command, on_devices=False)
        return msgspec.structs.replace(planned, gpu_unknown=NO_ROOM_TO_PLAN)

    def _plan(self, command: PlanLoad, *, on_devices: bool = True) -> LoadPlanned:
        options, default_context, draft = command.options, command.default_context, command.draft
        loader = self._loader
        parameters = loader.plan_parameters(options)
        no_devices = (ctypes.c_void_p * 1)(None)  # read while llama.cpp opens the model
        if not on_devices:
            parameters.devices = ctypes.cast(no_devices, ctypes.c_void_p)
        model = loader.open(command.path, parameters)
        embedding = loader.is_embedding(model, options)
        projector = None if embedding else self._seen(command)
        whole = 0 if projector is None else limit_of(projector).whole
        wanted = loader.context_parameters(
            model, options, default_context, embedding=embedding, whole=whole
        )
        context, flash = loader.make_context(model, options, wanted)
        parts = [self._opened(model, context, options, flash=flash)]
        cells = self._c.llama_n_ctx(context)
        if draft is not None and not embedding:
            begun = len(self._log.lines)
            without = replace(options, draft_model=None)
            small, context, flash = loader.open_draft(draft, model, parameters, options, cells)
            parts.append(self._opened(small, context, without, flash=flash, begun=begun))
        alone = self._opened_alone(parts[0], options, wanted)
        split, unknown = self._split(parts, alone, options)
        if alone is not None:
            parts[0] = with_graph_of(parts[0], alone)
        weights, kv, compute = self._sums(parts, options, split)
        devices = split.devices if split else ()
        seeing = None
        if projector is not None:
            seeing = self._plan_projector(model, projector, options, cells)
        on_gpu = seeing is not None and options.gpu_layers != 0 and first_gpu(self._c)
        if seeing is not None and on_gpu:
            devices = seeing.on_device(devices, on_gpu)
        return LoadPlanned(
            weights_bytes=weights,
            kv_bytes=kv,
            compute_bytes=compute,
            context_length=loader.reach(model, options, default_context, cells),
            projector_bytes=0 if seeing is None else seeing.total_bytes,
            devices=devices,
            gpu_unknown=unknown,
            exact=(split is None or split.exact) and not on_gpu,
            vocabulary=sum(
                self._c.llama_vocab_n_tokens(self._c.llama_model_get_vocab(part.model))
                for part in parts
            ),
        )

    def _seen(self, command: PlanLoad) -> str | None:
        """The projector that would be loaded; None where this llama.cpp reads no images."""
        if command.projector is None or command.options.vision is False:
            return None
        try:
            self._projectors = self._projectors or ProjectorPlanner(load_library(), self._log)
        except NoLibrary:
            return None
        return command.projector

    def _plan_projector(
        self, model: Any, path: str, options: LoadOptions, cells: int
    ) -> ProjectorPlan:
        assert self._projectors is not None
        width = self._c.llama_model_n_embd_inp(model)
        return self._projectors.plan(model, width, path, options, cells=cells)

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
