"""The gauges of Memory: whose memory each cell stands for."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from textual.theme import BUILTIN_THEMES

from modeldeck.core.schema import (
    DeviceBytes,
    Forecast,
    Gpu,
    Host,
    Instance,
    InstanceState,
    Memory,
    Model,
    RequestInfo,
    Settings,
)
from modeldeck.core.schema.state import State
from modeldeck.tui.dashboard.screens.memory import gauge, request_strip
from modeldeck.tui.dashboard.screens.memory.gauge import DeviceUse, ModelPart, shares
from modeldeck.tui.dashboard.theme import ink
from modeldeck.tui.text.format import ASCII, UNICODE, Glyphs

G = 1 << 30
INKS = ink(BUILTIN_THEMES["nord"].to_color_system().generate())
HOST = Host(name="gpubox", version="1", started_at="2026-01-01T00:00:00Z")
NOW = datetime(2026, 1, 1, 16, 30, tzinfo=UTC)


def forecast(weights: float, kv: float, other: float, gpu: str = "") -> Forecast:
    held, cells = int(weights * G), int(kv * G)
    total = int((weights + kv + other) * G)
    device = DeviceBytes(name=gpu, weights_bytes=held, kv_bytes=cells, compute_bytes=0)
    return Forecast(
        total_bytes=total, weights_bytes=held, kv_bytes=cells, compute_bytes=int(other * G),
        overhead_bytes=0, exact=True, gpu_bytes=device.total_bytes if gpu else 0,
        devices=(device,) if gpu else (),
    )  # fmt: skip


def instance(key: str, held: float | None, **more: Any) -> Instance:
    return Instance(
        **{
            **{"id": key, "model_id": f"m{key}", "unique": f"o/{key}", "engine": "llama.cpp"},
            **{"state": InstanceState.READY, "load_s": 1.0, "forecast": forecast(6, 2, 1)},
            **{"measured_bytes": None if held is None else int(held * G), **more},
        }
    )


def state(*instances: Instance, free: float = 40, gpus: tuple[Gpu, ...] = (), **more: Any) -> State:
    held = sum(i.measured_bytes or 0 for i in instances)
    memory = Memory(
        total_bytes=64 * G, available_bytes=int(free * G),
        budget_bytes=int((free - 1) * G) + held, gpus=gpus,
    )  # fmt: skip
    models = {
        i.model_id: Model(
            id=i.model_id, unique=i.unique, name=f"Model {i.id}", format="gguf", source="builtin"
        )
        for i in instances
    }
    return State(
        host=HOST, models=models, instances={i.id: i for i in instances}, memory=memory, **more
    )


def drawn(what: State, width: int, glyphs: Any = UNICODE, *, low: bool = False) -> list[str]:
    return [line.plain for line in gauge.lines(what, width, "m", glyphs, INKS, low=low)]


@given(st.lists(st.integers(0, 1 << 40), max_size=12), st.integers(0, 100))
def test_shares_sum_to_the_cells(sizes: list[int], cells: int) -> None:
    found = shares(sizes, cells)
    assert sum(found) == (cells if any(sizes) else 0)
    assert all(count >= 0 for count in found)
    if cells >= len(sizes):
        assert all((count > 0) == (size > 0) for count, size in zip(found, sizes, strict=True))


@given(
    st.lists(st.tuples(*[st.integers(0, 8 * G)] * 4), max_size=6),
    st.integers(0, 64 * G),
    st.integers(0, 64 * G),
    st.integers(20, 200),
)
def test_a_gauge_has_exactly_its_cells(
    sizes: list[tuple[int, int, int, int]], others: int, kept: int, cells: int
) -> None:
    parts = tuple(
        ModelPart(number=str(at), name="x", weights=w, kv=k, other=o, planned=p)
        for at, (w, k, o, p) in enumerate(sizes, 1)
    )
    use = DeviceUse(name="RAM", total=64 * G, others=others, parts=parts, kept=kept)
    found = gauge.gauge(use, cells, UNICODE, INKS)
    assert len(found.line) == cells
    assert len(found.places) == len(parts)
    for part, (_, width) in zip(parts, found.places, strict=True):
        assert width > 0 or not part.held + min(part.planned, use.free)


def test_each_model_has_its_number_and_its_part() -> None:
    above, ram, legend = drawn(state(instance("a", 0.7), instance("b", 9.8)), 120)
    assert " ".join(above.split()) == (
        "others 13.5 1 0.7 · 2 Model b 9.8 free 40.0, of it 1.0 stays with the system [m]"
    )
    cells = ram[8:96]
    others, small, large, free = cells.split("│")
    assert set(others) == {"░"}
    assert small == "█"
    assert (large.count("█"), large.count("▓"), large.count("▒")) == (9, 3, 1)
    assert set(free) == {"▁", "┊"}
    assert ram.endswith("24.0 of 64.0 GiB")
    assert legend.endswith("█ weights  ▓ KV cache  ▒ compute, projector  ░ others")


def test_a_load_is_outlined_until_it_is_measured() -> None:
    loading = instance("a", None, state=InstanceState.STARTING, load_s=None)
    (_, ram, _) = drawn(state(loading), 120)
    assert ram.count("╌") == 12
    assert ram.endswith("24.0 of 64.0 GiB"), "what is planned is not in use"


def test_a_budget_that_was_set_is_what_is_left() -> None:
    whole = state(instance("a", 4))
    memory = Memory(total_bytes=64 * G, available_bytes=40 * G, budget_bytes=10 * G)
    settings = Settings(memory_budget_bytes=10 * G)
    whole = State(
        host=HOST, models=whole.models, instances=whole.instances, memory=memory, settings=settings
    )
    above, ram, _ = drawn(whole, 120)
    assert above.endswith("free 40.0, budget leaves 6.0 GiB [m]")
    assert ram.index("┊") < ram.rindex("▁") - 30


def test_a_gpu_shows_what_is_on_it() -> None:
    gpu = Gpu(index=0, name="RTX 4090", total_bytes=24 * G, used_bytes=9 * G)
    on_gpu = instance("a", 0.5, gpu_bytes=8 * G, forecast=forecast(6, 2, 0.5, "CUDA0"))
    lines = drawn(state(on_gpu, gpus=(gpu,)), 120)
    assert lines[2].startswith("  GPU 0 ░░")
    assert "│█" in lines[2]
    assert lines[2].endswith(" 9.0 of 24.0 GiB")
    assert lines[3].strip().startswith("RTX 4090")
    assert drawn(state(on_gpu, gpus=(gpu,)), 60, low=True)[1].startswith("  GPU ░")


def test_a_gpu_tells_its_load_heat_and_power_where_they_are_known() -> None:
    gpu = Gpu(index=0, name="RTX 4090", total_bytes=24 * G, used_bytes=9 * G)
    told = replace(gpu, busy=0.34, celsius=61, watts=148)

    def about(*gpus: Gpu, glyphs: Glyphs = UNICODE) -> str:
        lines = drawn(state(instance("a", 4), gpus=gpus), 120, glyphs)
        return lines[-1].split("█ weights")[0].split("# weights")[0].strip()

    assert about(told) == "RTX 4090 · 34 % busy · 61 °C · 148 W"
    assert about(replace(told, watts=None)) == "RTX 4090 · 34 % busy · 61 °C"
    assert about(gpu) == "RTX 4090", "what is not known is not told"
    assert about(told, glyphs=ASCII) == "RTX 4090 - 34 % busy - 61 C - 148 W"
    second = replace(gpu, index=1, celsius=55)
    assert about(told, second) == "RTX 4090 · GPU 0 34 % 61 °C 148 W · GPU 1 55 °C"
    assert about(gpu, replace(gpu, index=1)) == "RTX 4090"


def test_more_than_six_models_join_the_smallest() -> None:
    many = state(*(instance(str(n), 0.1 * (n + 1)) for n in range(10)))
    above, ram, _ = drawn(many, 120)
    assert "… 5 more 1.5" in above
    assert ram.count("│") == 7
    found = state(*(instance(str(n), 0.01) for n in range(300)))
    assert all(len(line) <= 80 for line in drawn(found, 80))


@pytest.mark.parametrize("width", [120, 80, 60])
def test_ascii_and_every_width(width: int) -> None:
    lines = drawn(state(instance("a", 4), instance("b", 9)), width, ASCII, low=width == 60)
    assert all(len(line) <= width for line in lines)
    assert "".join(lines).isascii()


def request(key: str, of: str, word: Any, **more: Any) -> RequestInfo:
    return RequestInfo(
        **{
            **{"id": key, "model_id": "m", "unique": "o/m", "who": key, "dialect": "openai"},
            **{"since": "2026-01-01T16:29:50Z", "state": word, "instance_id": of, **more},
        }
    )


def test_the_strip_has_the_live_ones_and_the_last_that_ended() -> None:
    asked = [
        request("old", "a", "done", ended_at="2026-01-01T16:00:00Z"),
        request("new", "a", "done", ended_at="2026-01-01T16:20:00Z", completion_tokens=402),
        request("laptop", "b", "writing", completion_tokens=212, tokens_per_s=31.2),
        request("cron", "b", "waiting", place=1),
    ]
    whole = state(instance("a", 1), instance("b", 2), requests={r.id: r for r in asked})

    def strip(most: int, width: int = 120) -> list[str]:
        lines = request_strip.lines(whole, "", "r", NOW, width, most, UNICODE, INKS)
        return [line.plain for line in lines]

    head, writing, waiting, ended = strip(9)
    assert head == "  Requests  1 answering · 1 waiting [r all]"
    assert " ".join(writing.split()) == "◐ laptop 2 writing 212 tokens 31.2 tok/s 10 s"
    assert " ".join(waiting.split()) == "· cron 2 waiting, next — 10 s"
    assert "new" in ended
    assert "402 tokens" in ended
    assert len(strip(3)) == 3
    assert strip(1) == []
    assert all(len(line) <= width for width in (60, 80, 120) for line in strip(9, width))
    fast = request("f", "a", "done", ended_at="2026", completion_tokens=17, tokens_per_s=2238.6)
    whole = state(instance("a", 1), requests={"f": fast})
    assert "17 tok  2239 tok/s" in strip(9, 60)[1]
    whole = state(instance("a", 1), requests={"p": request("python 12345", "a", "writing")})
    assert "python 12345 " in strip(9, 60)[1]
    many = {str(n): request(str(n), "a", "writing") for n in range(9)}
    whole = state(instance("a", 1), requests=many)
    assert len(strip(20)) == 6
    assert "4 more" in strip(20)[0]
