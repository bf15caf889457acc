"""Records as lines of text."""

from __future__ import annotations

from dataclasses import replace

import pytest

from modeldeck.core.schema import (
    Chunk,
    DeviceBytes,
    Download,
    Fit,
    Forecast,
    Host,
    Instance,
    InstanceState,
    Memory,
    Model,
    Repository,
    Runtime,
    SearchHit,
    SearchResult,
    UnloadReceipt,
    Variant,
    model_id,
)
from modeldeck.core.schema.state import State
from modeldeck.tui.text import forecasts, machine_status, records
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text.format import ASCII, UNICODE

UNIQUE = "deck/tiny-GGUF:Q8_0"
MODEL = Model(
    id=model_id(UNIQUE), unique=UNIQUE, name="Tiny", format="gguf", source="builtin",
    parameters=0.6, size_bytes=639_000_000, context_length=40_960,
)  # fmt: skip
FORECAST = Forecast(
    total_bytes=6 << 30, weights_bytes=4 << 30, kv_bytes=1 << 30, compute_bytes=1 << 29,
    overhead_bytes=1 << 29, exact=True,
)  # fmt: skip
INSTANCE = Instance(
    id="i", model_id=MODEL.id, unique=UNIQUE, state=InstanceState.READY, engine="llama.cpp",
    pid=7, context_length=8192, forecast=FORECAST, measured_bytes=5 << 30, load_s=0.42, idle_s=12.4,
)  # fmt: skip
JOB = Download(
    id="d", model_id=MODEL.id, unique=UNIQUE, repo="deck/tiny-GGUF", revision="0" * 40,
    state="downloading", received_bytes=2_700_000_000, total_bytes=7_300_000_000,
    rate_bytes_per_s=41e6, eta_s=112,
)  # fmt: skip
STATE = State(
    host=Host(name="box", version="1.2.3", started_at="2026-01-01T00:00:00Z"),
    models={MODEL.id: MODEL},
    memory=Memory(total_bytes=64 << 30, available_bytes=46 << 30, swap_used_bytes=0),
)


def with_(*, job: Download | None = None, instance: Instance | None = None) -> State:
    return replace(
        STATE,
        downloads={job.id: job} if job else {},
        instances={instance.id: instance} if instance else {},
    )


@pytest.mark.parametrize(
    ("model", "state", "word"),
    [
        (MODEL, STATE, ""),
        (replace(MODEL, gated=True), STATE, "gated"),
        (replace(MODEL, downloaded=True), STATE, "downloaded"),
        (replace(MODEL, downloaded=True, local=True), STATE, "local"),
        (MODEL, with_(job=JOB), "downloading 36 %"),
        (MODEL, with_(job=replace(JOB, state="paused")), "paused 36 %"),
        (MODEL, with_(job=replace(JOB, state="verifying", verified_bytes=0)), "verifying 0 %"),
        (MODEL, with_(job=replace(JOB, state="failed")), ""),
        (replace(MODEL, downloaded=True), with_(instance=INSTANCE), "loaded"),
        (MODEL, with_(instance=replace(INSTANCE, state=InstanceState.STARTING)), "loading"),
        (MODEL, with_(instance=replace(INSTANCE, state=InstanceState.FAILED)), ""),
    ],
)
def test_where_a_model_stands_is_said_in_words(model: Model, state: State, word: str) -> None:
    assert records.model_state(model, state) == word


def test_models_on_this_machine_come_first_and_names_are_harmless() -> None:
    hostile = replace(MODEL, id="h", unique="evil/\x1b[2Jname\u202e:X", downloaded=True)
    lines = records.models(STATE, [MODEL, hostile], UNICODE, 80)
    assert lines == [
        "   model                params    size  context  state",
        "✓  evil/name:X            600M  639 MB      40k  downloaded",
        "   deck/tiny-GGUF:Q8_0    600M  639 MB      40k",
    ]
    assert records.models(STATE, [hostile], ASCII, 80)[1].startswith("+  evil/name:X")


def test_a_download_keeps_its_facts_in_their_places() -> None:
    early = replace(JOB, received_bytes=0, rate_bytes_per_s=None, eta_s=None)
    late = replace(JOB, received_bytes=JOB.total_bytes, state="verifying", rate_bytes_per_s=None)
    lines = [records.download(job, UNICODE, 80) for job in (early, JOB, late)]
    assert lines[1] == "↓ deck/tiny-GGUF:Q8_0  ▇▇▇▇▁▁▁▁▁▁   36 %    2.7/7.3 GB   41.0 MB/s   1m52s"
    assert [line.index("/7.3 GB") for line in lines] == [lines[1].index("/7.3 GB")] * 3
    assert max(map(fmt.columns, lines)) < 80
    assert "verifying" in lines[2]
    long = replace(JOB, unique="owner/" + "x" * 90 + ":Q8_0")
    assert fmt.columns(records.download(long, UNICODE, 80)) < 80
    assert ":Q8_0" in records.download(long, UNICODE, 80)


def test_a_log_gets_a_line_for_every_tenth_of_a_download() -> None:
    keys = [
        records.download_words(replace(JOB, received_bytes=JOB.total_bytes * n // 1000))[1]
        for n in range(1001)
    ]
    assert len(set(keys)) == 11
    words, _ = records.download_words(JOB)
    assert words == f"{UNIQUE}  downloading  36 % of 7.3 GB  41.0 MB/s  1m52s left"


def test_a_download_that_is_done_says_what_it_was() -> None:
    job = replace(JOB, state="completed", seconds=124.0)
    assert records.downloaded(job) == (
        f"{UNIQUE} downloaded: 7.3 GB in 2m04s, 58.9 MB/s, files verified"
    )


def test_a_fit_shows_its_items_and_what_it_rests_on() -> None:
    answer = Fit(
        verdict="fits", forecast=FORECAST, available_bytes=46 << 30, exact=True, context_length=8192
    )
    assert forecasts.fit(answer) == [
        "fits: 6.0 GiB of 46.0 GiB free now, at 8k context",
        "  weights 4.0 + KV 1.0 + compute 0.5 + overhead 0.5 = 6.0 GiB",
        "  exact: asked llama.cpp; not yet calibrated on this machine",
    ]
    seeing = replace(FORECAST, total_bytes=13 << 29, projector_bytes=1 << 29)
    assert forecasts.items(seeing) == (
        "weights 4.0 + KV 1.0 + compute 0.5 + projector 0.5 + overhead 0.5 = 6.5 GiB"
    )
    unknown = Fit(
        verdict="unknown", forecast=None, available_bytes=None, exact=False, reason="No header."
    )
    assert forecasts.fit(unknown) == ["unknown: No header."]
    guess = replace(answer, forecast=replace(FORECAST, exact=False))
    assert "estimate: the engine gives no exact plan" in forecasts.fit(guess)[2]
    lost = replace(FORECAST, exact=False, gpu_bytes=None, gpu_unknown="it is not told")
    lines = forecasts.fit(replace(answer, verdict="unknown", forecast=lost, reason="As said."))
    assert lines[0].startswith("unknown: ")
    assert "free now" not in lines[0]
    assert lines[2] == "  how much of it goes to the GPU is not known: it is not told"
    assert forecasts.error(replace(INSTANCE, forecast=lost, peak_bytes=9 << 30)) == "—"
    assert lines[2].strip() in "\n".join(records.loaded(replace(INSTANCE, forecast=lost)))
    split = (DeviceBytes(name="CUDA0", weights_bytes=2 << 30, kv_bytes=0, compute_bytes=0),)
    there = replace(FORECAST, exact=False, gpu_bytes=2 << 30, devices=split)
    lines = forecasts.fit(replace(answer, forecast=there))
    assert lines[2] == "  of it 2.0 GiB on CUDA0, and what its driver takes besides"
    assert "a little too high" in lines[3]
    assert f"{(there.total_bytes >> 30) - 2}." in lines[0], "the machine's memory is judged"


@pytest.mark.parametrize(
    ("used", "peak_gib", "words"),
    [
        (None, 5, "—"),  # nothing was asked yet
        (100, 5, "—"),  # little was asked: the rest of the context may take more
        (8000, 5, "+20.0 %"),
        (100, 8, "-25.0 %"),  # more than forecast even so
        (8000, None, "—"),
    ],
)
def test_a_forecast_is_judged_by_a_context_that_was_filled(
    used: int | None, peak_gib: int | None, words: str
) -> None:
    peak = None if peak_gib is None else peak_gib << 30
    assert forecasts.error(replace(INSTANCE, context_used=used, peak_bytes=peak)) == words
    assert forecasts.error(replace(INSTANCE, forecast=None)) == "—"


def test_what_is_loaded_stands_beside_what_was_forecast() -> None:
    assert records.instances(with_(instance=INSTANCE), 80) == [
        "model                engine     ctx  forecast  measured  error  state",
        f"{UNIQUE}  llama.cpp   8k   6.0 GiB   5.0 GiB      —  idle 12 s",
    ]
    first, forecast, measured = records.loaded(INSTANCE)
    assert first == f"{UNIQUE} ready in 0.42 s  (llama.cpp, 8k context, pid 7)"
    assert "6.0 GiB" in forecast
    assert "5.0 GiB" in measured
    starting = replace(INSTANCE, state=InstanceState.STARTING, progress=0.61, stage="loading")
    assert "61 %" in records.loading(starting, UNICODE)
    assert records.instances(with_(instance=starting), 80)[1].endswith("loading 61 %")


def test_an_unload_says_what_came_back() -> None:
    receipt = UnloadReceipt(
        instance_id="i", model_id="m", unique=UNIQUE, before_bytes=5 << 30, after_bytes=0,
        freed_bytes=5 << 30, seconds=0.4, process_gone=True,
    )  # fmt: skip
    assert records.unloaded(receipt) == f"Unloaded {UNIQUE}: 5.0 GiB freed in 0.40 s"
    assert "still there" in records.unloaded(replace(receipt, process_gone=False))


def test_search_results_and_variants_are_tables() -> None:
    hit = SearchHit(repo="deck/tiny-GGUF", downloads=4200, likes=42, gated=True, formats=("gguf",))
    lines = records.search(SearchResult(query="x", hits=(hit,)), 80)
    assert lines[1].split() == ["deck/tiny-GGUF", "gguf", "—", "4.2k", "42", "—", "gated"]
    variant = Variant(
        unique=UNIQUE, label="Q8_0", format="gguf", quantization="Q8_0", files=(), size_bytes=10,
        projector="mmproj.gguf",
    )  # fmt: skip
    lines = records.variants(Repository(repo="r", revision="c", variants=(variant,)), 80)
    assert lines[1].split() == [UNIQUE, "Q8_0", "10", "B", "0", "vision"]


def test_the_status_page_says_what_is_missing_and_what_runs() -> None:
    runtimes = (
        Runtime(name="llama.cpp", version="0.3.36", available=True),
        Runtime(name="mlx", why_not="not installed: pip install 'modeldeck[mlx]'"),
    )
    host = replace(STATE.host, notices=("config.toml:3: unknown key",), urls=("http://x:1",))
    state = replace(with_(job=JOB, instance=INSTANCE), runtimes=runtimes, host=host)
    text = "\n".join(machine_status.page(state, 7500, UNICODE))
    for words in ("box  up 2h05m", "http://x:1", "18.0 GiB of 64.0 GiB", "llama.cpp 0.3.36",
                  "pip install", "0 downloaded of 1", "5.0 GiB  ready", "36 % of 7.3 GB",
                  "config.toml:3"):  # fmt: skip
        assert words in text


def test_an_answer_is_counted() -> None:
    last = Chunk(finish_reason="length", prompt_tokens=3, completion_tokens=11, tokens_per_s=31.4)
    assert (
        records.answered(last, 0.5) == "11 tokens, 31 tokens/s, 0.50 s in all, cut off at its limit"
    )
    assert records.counts(last)["completion_tokens"] == 11
    assert "text" not in records.counts(last)
