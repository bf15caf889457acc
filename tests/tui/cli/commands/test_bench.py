"""`modeldeck bench` against a real core and model, and how its figures are told."""

from __future__ import annotations

import json
import os
import subprocess
import sysconfig
from dataclasses import replace
from pathlib import Path

import pytest

from modeldeck.core.schema import Bench, BenchRow, LoadOptions
from modeldeck.tui.text import bench as bench_text
from tests.support.process import CoreProcess

TINY = "deck/tiny-GGUF:Q8_0"

ROW = BenchRow(
    at_once=1, prompt_tokens_per_s=412.0, long_prompt_tokens_per_s=None, tokens_per_s=31.4,
    time_to_first_token_s=0.4, prompt_tokens=512, long_prompt_tokens=None, written_tokens=128,
)  # fmt: skip
NEW = Bench(
    id="b", model_id="m", unique="a/b:Q8_0", revision="1" * 40, machine="gpubox",
    engine="llama.cpp", engine_version="0.3.36", devices=("GPU",), context_length=8192,
    options=LoadOptions(kv_cache_type="f16"), at="2026-11-30T12:00:00Z", seconds=41.0, runs=3,
    rows=(ROW, replace(ROW, at_once=4, tokens_per_s=88.0)),
)  # fmt: skip
OLD = replace(
    NEW, id="a", at="2026-11-14T12:00:00Z", engine_version="0.3.35",
    rows=(replace(ROW, prompt_tokens_per_s=400.0, tokens_per_s=31.4), NEW.rows[1]),
)  # fmt: skip


def test_figures_stand_beside_those_of_the_last_same() -> None:
    lines = bench_text.figures(NEW, OLD, 120)
    assert [line.split() for line in lines[1:]] == [
        ["1", "at", "once", "412", "tok/s", "—", "31.4", "tok/s", "0.4", "s"],
        ["4", "at", "once", "412", "tok/s", "—", "88.0", "tok/s", "22.0", "each", "0.4", "s"],
        ["14", "Nov,", "same", "+3.0", "%", "—", "+0.0", "%", "llama.cpp", "0.3.35"],
    ]
    longer = replace(OLD, options=LoadOptions(kv_cache_type="q8_0"))
    assert "14 Nov, loaded otherwise" in bench_text.figures(NEW, longer, 120)[-1]
    assert "Unsteady" not in bench_text.end(NEW)
    assert "Unsteady" in bench_text.end(replace(NEW, rows=(replace(ROW, spread=0.11),)))


@pytest.mark.parametrize("words", ["14-nov", "14 Nov", "2026-11-14", "a"])
def test_a_benchmark_is_named_by_its_day_or_id(words: str) -> None:
    assert bench_text.found([NEW, OLD], words) == OLD
    assert bench_text.found([NEW], words) is None


def bench(core: CoreProcess, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    program = Path(sysconfig.get_path("scripts")) / "modeldeck"
    environ = {**os.environ, "MODELDECK_HOME": str(core.home)}
    done = subprocess.run(
        [program, *words], capture_output=True, text=True, check=False, env=environ,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    return done


def test_a_second_benchmark_compares_with_the_first(own_core: CoreProcess) -> None:
    bench(own_core, "pull", TINY)
    asked = bench(own_core, "bench", TINY, code=2)
    assert "--yes" in asked.stderr  # it would have to be loaded, and nobody can be asked
    first = json.loads(bench(own_core, "bench", TINY, "-y", "-n", "1", "--json").stdout)
    (row,) = first["bench"]["rows"]
    assert row["prompt_tokens_per_s"] > 0
    assert row["tokens_per_s"] > 0
    assert first["against"] is None
    lines = bench(own_core, "bench", TINY, "-n", "1").stdout.splitlines()
    assert any("1 at once" in line for line in lines)
    assert any("same" in line for line in lines)
    assert lines[-1].startswith("Kept. ")
    assert len(bench(own_core, "bench", "--list").stdout.splitlines()) == 3
    bench(own_core, "bench", TINY, "--against", "1-jan", code=3)
