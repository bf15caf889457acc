import doctest
from dataclasses import replace
from pathlib import Path

import pytest

from modeldeck.core.schema import Engine, Forecast, LoadRecord, model_id
from modeldeck.core.service.loading import measurements
from modeldeck.core.service.loading.measurements import (
    FULL,
    KEPT,
    LoadHistory,
    LoadStatistics,
    corrected,
    learn,
    uncorrected,
)
from modeldeck.core.storage.database import Database

PLAIN = Forecast(
    total_bytes=200,
    weights_bytes=100,
    kv_bytes=50,
    compute_bytes=30,
    overhead_bytes=20,
    exact=True,
)


SEEING = replace(PLAIN, total_bytes=300, projector_bytes=100)


def load(
    peak: int, *, used: int | None = 1000, engine: Engine = "llama.cpp", architecture: str = "llama"
) -> LoadRecord:
    return LoadRecord(
        at="2026-01-01T00:00:00Z",
        unique="a/b:Q8_0",
        engine=engine,
        architecture=architecture,
        context_length=1000,
        used_tokens=used,
        forecast=PLAIN,
        peak_bytes=peak,
    )


@pytest.mark.parametrize(
    ("records", "total", "samples"),
    [
        ([], 200, 0),
        ([load(210)], 210, 1),
        ([load(190)], 190, 1),
        # One strange load among good ones teaches nothing.
        ([load(210), load(212), load(390)], 212, 3),
        ([load(208), load(212)], 210, 2),
        # What is absurd does not count at all: another program's memory, a file that was cut.
        ([load(100_000), load(40), load(204)], 204, 1),
        # Used a little, it did not take what it would have: only more than the forecast counts.
        ([load(190, used=100)], 200, 0),
        ([load(190, used=None)], 200, 0),
        ([load(210, used=100)], 210, 1),
        ([load(190, used=int(1000 * FULL))], 190, 1),
        # Loads of the same architecture come first, then those of the same engine.
        ([load(230, architecture="gemma"), load(206)], 206, 1),
        ([load(230, architecture="gemma")], 230, 1),
        ([load(230, engine="mlx")], 200, 0),
        # What its prefix cache held was not forecast.
        ([replace(load(310), prefix_cache_bytes=100)], 210, 1),
        # What its projector did not take only a large image would have taken.
        ([replace(load(190), forecast=SEEING)], 200, 0),
        ([replace(load(310), forecast=SEEING)], 210, 1),
        # The newest count.
        ([load(250)] * 100 + [load(220)] * 15, 220, 15),
    ],
)
def test_the_next_forecast_is_corrected_by_the_median(
    records: list[LoadRecord], total: int, samples: int
) -> None:
    lesson = learn(records, "llama.cpp", "llama")
    found = corrected(PLAIN, lesson)
    assert (found.total_bytes, found.samples) == (total, samples)
    assert found.correction_bytes == total - 200
    assert uncorrected(found) == PLAIN


def test_what_is_learned_is_no_matter_of_the_weights() -> None:
    large = replace(PLAIN, weights_bytes=10_000, total_bytes=10_100)
    assert corrected(large, learn([load(210)], "llama.cpp", "llama")).correction_bytes == 10


def test_a_corrected_forecast_teaches_as_the_plain_one_would() -> None:
    once = replace(load(210), forecast=corrected(PLAIN, LoadStatistics(share=0.5, samples=9)))
    assert learn([once], "llama.cpp", "llama") == learn([load(210)], "llama.cpp", "llama")


def test_what_is_on_the_gpu_is_not_expected_in_the_memory_of_the_machine() -> None:
    split = replace(load(120), forecast=replace(PLAIN, gpu_bytes=90))
    assert learn([split], "llama.cpp", "llama").share == pytest.approx(0.1)
    unknown = replace(split, forecast=replace(PLAIN, gpu_bytes=None, gpu_unknown="not told"))
    assert learn([unknown], "llama.cpp", "llama") == LoadStatistics(), (
        "nothing is learned from a guess"
    )


async def test_it_is_kept_and_the_oldest_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measurements, "KEPT", 3)
    store = Database(tmp_path / "state.db")
    await store.open()
    first = LoadHistory(store)
    await first.open()
    for peak in range(201, 206):
        await first.add(load(peak))
    assert first.last_used == {model_id("a/b:Q8_0"): "2026-01-01T00:00:00Z"}
    await first.add(replace(load(206), used_at="2026-01-01T00:00:09Z"))
    second = LoadHistory(store)
    await second.open()
    await store.close()
    assert [record.peak_bytes for record in second.records] == [204, 205, 206]
    assert second.correct(PLAIN, "llama.cpp", "llama").correction_bytes == 5
    assert second.last_used == {model_id("a/b:Q8_0"): "2026-01-01T00:00:09Z"}
    assert KEPT > 100


def test_the_worked_example_holds() -> None:
    result = doctest.testmod(measurements)
    assert result.attempted
    assert not result.failed
