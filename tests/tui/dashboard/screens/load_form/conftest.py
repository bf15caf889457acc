"""What the load form knows in its tests: a model, a machine, and plans that are made by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from modeldeck.core.schema import (
    Eviction,
    Forecast,
    Host,
    Instance,
    InstanceState,
    LoadAlternative,
    LoadOptions,
    LoadPlan,
    Memory,
    Model,
    Runtime,
    model_id,
)
from modeldeck.core.schema.errors import ErrorInfo
from modeldeck.core.schema.state import State
from modeldeck.tui.dashboard.screens.load_form.facts import Forecasts, FormFacts, LoadTarget

GIB = 1 << 30
UNIQUE = "Qwen/Qwen3-8B-GGUF:Q4_K_M"
MODEL = Model(
    id=model_id(UNIQUE),
    unique=UNIQUE,
    name="Qwen3 8B",
    format="gguf",
    source="hub",
    quantization="Q4_K_M",
    downloaded=True,
    context_length=40960,
)
FORECAST = Forecast(
    total_bytes=7 * GIB,
    weights_bytes=5 * GIB,
    kv_bytes=GIB,
    compute_bytes=GIB // 2,
    overhead_bytes=GIB // 2,
    exact=True,
)
PLAN = LoadPlan(
    model_id=MODEL.id,
    unique=UNIQUE,
    engine="llama.cpp",
    options=LoadOptions(context_length=8192, parallel=4, idle_ttl_s=0.0),
    origins={"context_length": "default", "parallel": "config"},
    verdict="fits",
    forecast=FORECAST,
    available_bytes=24 * GIB,
    reserve_bytes=GIB,
    layers=36,
    kv_cache_types=("f32", "f16", "bf16", "q8_0", "q4_0"),
    own_cells_bytes=3 * GIB,
)
TOO_LARGE = replace(
    PLAN,
    verdict="too large",
    forecast=replace(FORECAST, total_bytes=61 * GIB, weights_bytes=59 * GIB),
    alternatives=(
        LoadAlternative(
            what="context 4096",
            unique=UNIQUE,
            context_length=4096,
            total_bytes=20 * GIB,
            exact=True,
        ),
        LoadAlternative(
            what="Q2_K",
            unique="Qwen/Qwen3-8B-GGUF:Q2_K",
            context_length=8192,
            total_bytes=19 * GIB,
            exact=False,
        ),
    ),
    refusal=ErrorInfo(code="not_enough_memory", message="Qwen3 8B needs 61 GiB.", remedy=""),
)


def state(**changes: Any) -> State:
    """A machine with one GPU-less engine."""
    known: dict[str, Any] = {
        "host": Host(name="box", version="1", started_at=""),
        "models": {MODEL.id: MODEL},
        "memory": Memory(total_bytes=64 * GIB, available_bytes=24 * GIB, budget_bytes=23 * GIB),
        "runtimes": (
            Runtime(
                name="llama.cpp",
                version="0.3.36",
                available=True,
                formats=("gguf",),
                devices=("CPU",),
            ),
        ),
    }
    return State(**{**known, **changes})


def facts(plan: LoadPlan | None = PLAN, model: Model = MODEL, **changes: Any) -> FormFacts:
    """What the form knows; `changes` are fields of the State or of the forecasts."""
    ours = {k: changes.pop(k) for k in list(changes) if k in Forecasts.__dataclass_fields__}
    forecasts = Forecasts(plans=() if plan is None else (plan,), **ours)
    target = LoadTarget(
        ref=model.id, key=model.id, title=f"{model.name} Q4_K_M", name=model.name, model=model
    )
    return FormFacts(targets=(target,), state=state(**changes), forecasts=forecasts)


def loaded(**options: Any) -> Instance:
    """The model as it is loaded."""
    return Instance(
        id="one",
        model_id=MODEL.id,
        unique=UNIQUE,
        state=InstanceState.READY,
        engine="llama.cpp",
        context_length=8192,
        forecast=FORECAST,
        measured_bytes=7 * GIB,
        load_s=1.0,
        idle_s=720.0,
        options=LoadOptions(**{"context_length": 8192, "parallel": 4, **options}),
    )


def reloading(*who: str) -> FormFacts:
    """What the form knows of a loaded model, which answers these clients."""
    gone = Eviction(instance_id="one", unique=UNIQUE, bytes=7 * GIB, answers=who)
    return facts(replace(PLAN, replaces=gone), instances={"one": loaded()})


@pytest.fixture
def gpu() -> Runtime:
    """An engine with a GPU."""
    return Runtime(name="llama.cpp", available=True, formats=("gguf",), devices=("CPU", "CUDA0"))
