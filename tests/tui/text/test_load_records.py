from dataclasses import replace

import pytest

from modeldeck.core.schema import (
    DeviceBytes,
    ErrorInfo,
    Eviction,
    Forecast,
    Instance,
    InstanceState,
    LoadOptions,
    LoadPlan,
    LoadRecord,
    Lora,
    UnloadReceipt,
)
from modeldeck.tui.cli.commands.load import ContextParam, options_of
from modeldeck.tui.text import load_records, records

GIB, MIB = 1 << 30, 1 << 20
FORECAST = Forecast(
    total_bytes=6 * GIB,
    weights_bytes=4 * GIB,
    kv_bytes=GIB,
    compute_bytes=GIB // 2,
    overhead_bytes=GIB // 2,
    exact=True,
)
PLAN = LoadPlan(
    model_id="m",
    unique="a/b:Q4_K_M",
    engine="llama.cpp",
    options=LoadOptions(context_length=8192, mmap=False, idle_ttl_s=600.0),
    origins={"context_length": "default", "mmap": "last use", "idle_ttl_s": "config"},
    verdict="fits",
    forecast=FORECAST,
    available_bytes=46 * GIB,
    reserve_bytes=GIB,
)


def test_a_plan_says_what_is_needed_what_is_free_and_who_chose_what() -> None:
    assert load_records.plan(PLAN) == [
        "a/b:Q4_K_M: fits, with llama.cpp, at 8k context",
        "  needs    weights 4.0 + KV 1.0 + compute 0.5 + overhead 0.5 = 6.0 GiB",
        "           exact: asked llama.cpp; not yet calibrated on this machine",
        "  free     46.0 GiB, of which 1.0 GiB stay with the system",
        "  options  context_length 8192 (default)",
        "           mmap off (last use)",
        "           idle_ttl_s 600 (config)",
    ]


def test_a_plan_says_what_requests_at_once_share_and_what_more_would_take() -> None:
    options = replace(PLAN.options, parallel=4)
    forecast = replace(FORECAST, prefix_cache_bytes=512 * MIB)
    lines = load_records.plan(
        replace(PLAN, options=options, forecast=forecast, own_cells_bytes=3 * GIB)
    )
    assert lines[3:5] == [
        "           prefix cache up to 512 MiB more",
        "  at once  4 requests share 8,192 tokens; 8k each: 3.0 GiB more",
    ]
    own = replace(options, cache_tokens=32_768)
    lines = load_records.plan(replace(PLAN, options=own))
    assert lines[3] == "  at once  8,192 tokens for each of 4 requests"
    alone = load_records.plan(replace(PLAN, options=replace(options, parallel=1)))
    assert not any("at once" in line for line in alone)


def test_a_plan_says_what_goes_first_what_to_know_and_why_it_is_refused() -> None:
    corrected = replace(
        FORECAST, correction_bytes=GIB // 4, samples=3, total_bytes=25 * GIB // 4, gpu_bytes=GIB
    )
    plan = replace(
        PLAN,
        verdict="too large",
        forecast=corrected,
        budget_left_bytes=2 * GIB,
        gpu_available_bytes=3 * GIB,
        evictions=(Eviction(instance_id="i", unique="c/d", bytes=GIB, gpu_bytes=GIB),),
        notes=("context 4096 chosen",),
        warnings=("beware",),
        refusal=ErrorInfo(code="not_enough_memory", message="No room.", remedy="Try less."),
    )
    text = "\n".join(load_records.plan(plan))
    for words in (
        "learned 0.2",
        "+256 MiB learned from 3 earlier loads",
        "of it 1.0 GiB on the GPU",
        "; 3.0 GiB on the GPU; the budget leaves 2.0 GiB",
        "  first    unload c/d: 1.0 GiB and 1.0 GiB of the GPU come back",
        "  note     context 4096 chosen",
        "  warning  beware",
        "  refused  No room.",
        "           Try less.",
    ):
        assert words in text
    split = (DeviceBytes(name="CUDA0", weights_bytes=GIB, kv_bytes=GIB, compute_bytes=0),)
    told = replace(PLAN, forecast=replace(FORECAST, gpu_bytes=2 * GIB, devices=split))
    assert "           of it 2.0 GiB on CUDA0, and what its driver takes besides" in (
        load_records.plan(told)
    )
    unknown = replace(FORECAST, exact=False, gpu_bytes=None, gpu_unknown="it is not told")
    lines = load_records.plan(replace(PLAN, verdict="unknown", forecast=unknown))
    assert "           how much of it goes to the GPU is not known: it is not told" in lines
    assert any("exact but for the GPU: asked llama.cpp" in line for line in lines)
    assert "unknown" in load_records.plan(replace(PLAN, verdict="unknown", forecast=None))[0]


def test_earlier_loads_are_listed_with_what_they_taught() -> None:
    record = LoadRecord(
        at="2026-01-02T03:04:05.678Z",
        unique="a/b:Q4_K_M",
        engine="llama.cpp",
        context_length=8192,
        used_tokens=7000,
        forecast=replace(FORECAST, correction_bytes=64 * MIB, samples=2),
        peak_bytes=6 * GIB,
    )
    first = replace(record, forecast=FORECAST, used_tokens=None)
    head, line, other = load_records.history([record, first], 80)
    assert head.split() == ["ended", "model", "ctx", "forecast", "peak", "error", "learned"]
    assert line.split()[0:3] == ["01-02", "03:04", "a/b:Q4_K_M"]
    assert line.endswith("+64 MiB")
    assert "+0.0 %" in line
    assert other.endswith("—")
    on_gpu = replace(record, forecast=replace(FORECAST, gpu_bytes=3 * GIB), peak_bytes=3 * GIB)
    unknown = replace(record, forecast=replace(FORECAST, gpu_bytes=None, gpu_unknown="so"))
    _, line, other = load_records.history([on_gpu, unknown], 80)
    assert "+0.0 %" in line, "the peak is the machine's memory"
    assert "%" not in other


def test_an_unload_says_what_did_not_come_back() -> None:
    receipt = UnloadReceipt(
        instance_id="i", model_id="m", unique="a/b", before_bytes=5 * GIB, after_bytes=GIB,
        freed_bytes=4 * GIB, seconds=0.4, process_gone=False, not_freed="1.0 GiB is held",
    )  # fmt: skip
    assert records.unloaded(receipt).endswith("still there; not freed: 1.0 GiB is held")


def test_what_is_loaded_tells_its_own_memory_from_pages_of_files() -> None:
    instance = Instance(
        id="i", model_id="m", unique="a/b", state=InstanceState.READY, engine="llama.cpp",
        measured_bytes=5 * GIB, private_bytes=GIB, mapped_bytes=4 * GIB, peak_bytes=6 * GIB,
        warnings=("context 4096 chosen",),
    )  # fmt: skip
    from modeldeck.core.schema import Host
    from modeldeck.core.schema.state import State

    state = State(host=Host(name="", version="", started_at=""), instances={"i": instance})
    assert records.instances(state, 100)[2] == (
        "  private 1.0 GiB  file cache 4.0 GiB  peak 6.0 GiB"
    )
    assert records.loaded(instance)[-1] == "  note       context 4096 chosen"


@pytest.mark.parametrize(
    ("given", "options"),
    [
        ({"context_length": 512}, LoadOptions(context_length=512)),
        ({"context_length": ContextParam.FIT}, LoadOptions(context_fit=True)),
        ({"loras": ()}, LoadOptions()),
        ({"parallel": 8, "cache_tokens": 32768}, LoadOptions(parallel=8, cache_tokens=32768)),
        (
            {"loras": ("/a/b.gguf:0.5", "/c.gguf", "/d:e.gguf")},
            LoadOptions(
                loras=(
                    Lora(path="/a/b.gguf", scale=0.5),
                    Lora(path="/c.gguf"),
                    Lora(path="/d:e.gguf"),
                )
            ),
        ),
    ],
)
def test_words_become_options(given: dict[str, object], options: LoadOptions) -> None:
    assert options_of(given) == options
