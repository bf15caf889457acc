"""What an engine takes besides its model, measured with models of a few kilobytes."""

import doctest
import os
from dataclasses import replace
from pathlib import Path

import pytest

from modeldeck.core.errors import EngineFailed
from modeldeck.core.formats import gguf_parser
from modeldeck.core.formats.mlx_folder import read_folder
from modeldeck.core.memory import probe
from modeldeck.core.runtime.planning import calibration, calibration_models
from modeldeck.core.runtime.planning.calibration import calibrate, overhead
from modeldeck.core.schema import Engine, LoadOptions, Runtime
from modeldeck.core.schema.overhead import SHIPPED, ProcessOverhead
from modeldeck.core.service.loading.measurements import Calibrator
from modeldeck.core.storage.database import Database
from tests.support.bench import Bench

MIB = 1 << 20
SLOPE = SHIPPED["llama.cpp"].per_token_bytes


def test_the_worked_examples_hold() -> None:
    for module in (calibration, calibration_models):
        result = doctest.testmod(module)
        assert result.attempted
        assert not result.failed


@pytest.mark.parametrize(
    ("small", "large", "base", "slope"),
    [
        ((257, 1_000_000 + 257 * 200), (60_257, 1_000_000 + 60_257 * 200), 1_000_000, 200.0),
        # Slopes that make no sense, on a machine that did something else meanwhile.
        ((257, 1_000_000), (60_257, 900_000), 1_000_000 - round(257 * SLOPE), SLOPE),
        ((257, 1_000_000), (60_257, 900_000_000), 1_000_000 - round(257 * SLOPE), SLOPE),
    ],
)
def test_two_measurements_tell_base_and_slope(
    small: tuple[int, int], large: tuple[int, int], base: int, slope: float
) -> None:
    found = overhead("llama.cpp", small, large)
    assert (found.base_bytes, found.per_token_bytes, found.measured) == (base, slope, True)


def test_the_calibration_models_have_the_sizes_they_claim(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    calibration_models.write_gguf(path, 1000)
    header = gguf_parser.read(path)
    assert (header.architecture, header.vocab_size) == ("llama", 1257)
    assert header.file_size == path.stat().st_size
    assert path.stat().st_blocks * 512 < path.stat().st_size, "the weights are a hole"
    calibration_models.write_mlx(tmp_path / "b", 1000)
    assert read_folder(tmp_path / "b").config.vocab_size == 1257


@pytest.mark.parametrize("engine", ["llama.cpp", "mlx"])
async def test_an_engine_is_measured_and_forecasts_are_right_from_then_on(
    bench: Bench, tiny: Path, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(calibration, "EXTRA_TOKENS", 10_000)
    found = await calibrate(engine, bench.engines.plan, probe.process)
    assert found.measured
    assert found.base_bytes == pytest.approx(SHIPPED[engine].base_bytes, rel=0.3)
    assert os.listdir(tmp_path) == []
    if engine == "llama.cpp":
        bench.engines.set_overhead(found)
        options = LoadOptions(context_length=512)
        forecast = await bench.engines.plan(tiny, options)
        instance = await bench.loaded(tiny, options)
        await bench.answer(instance, "count " + "bla " * 100)
        await bench.engines.sample()
        peak = bench.engines.instances[instance.id].peak_bytes
        assert forecast.total_bytes == pytest.approx(peak, abs=4 * MIB)


async def test_an_engine_that_cannot_be_measured_says_why(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(calibration, "write_gguf", lambda path, _: path.write_bytes(b"no model"))
    with pytest.raises(EngineFailed, match="refused the model"):
        await calibrate("llama.cpp", bench.engines.plan, probe.process)
    assert os.listdir(tmp_path) == []
    monkeypatch.undo()
    with pytest.raises(EngineFailed, match="cannot be measured"):
        await calibrate("llama.cpp", bench.engines.plan, lambda _: None)


class Told:
    """Forecasts, as far as a calibration is concerned."""

    def __init__(self) -> None:
        self.overheads: dict[str, ProcessOverhead] = {}

    def set_overhead(self, engine: Engine, overhead: ProcessOverhead) -> None:
        self.overheads[engine] = overhead


async def test_it_is_measured_once_per_version_and_kept(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "EXTRA_TOKENS", 1000)
    store = Database(tmp_path / "state.db")
    await store.open()
    runtime = Runtime(name="llama.cpp", version="1", available=True)
    told = []
    for allowed in (False, True, False):
        forecasts = Told()
        calibrator = Calibrator(
            store=store,
            engines=bench.engines,
            forecaster=forecasts,
            measure=probe.process,
            allowed=allowed,
        )
        await calibrator.open()
        found = await calibrator.measured(runtime)
        told.append((found.overhead_bytes, forecasts.overheads.get("llama.cpp")))
        assert (await calibrator.measured(replace(runtime, available=False))).version == "1"
        assert calibrator.known(replace(runtime, version="2")).overhead_bytes is None
    await store.close()
    before, measured, after = told
    assert before == (None, None)
    assert measured == after
    assert measured[0] is not None
    assert measured[1] is not None
    assert measured[1].measured
