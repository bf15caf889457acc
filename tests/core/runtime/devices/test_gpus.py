"""Forecasts for GPUs against what llama.cpp really asks a device for, byte for byte.

The devices are llama.cpp's own RPC servers behind a relay that counts (`conftest.py`), so this runs
on machines without a GPU. It cannot show what a GPU's driver takes besides.
"""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from msgspec import to_builtins

from modeldeck.core.config.config import Config
from modeldeck.core.config.config import RuntimeSettings as Settings
from modeldeck.core.config.paths import locate
from modeldeck.core.errors import EngineFailed
from modeldeck.core.formats import gguf_parser
from modeldeck.core.runtime.planning.planner import HeaderFile
from modeldeck.core.runtime.process.engine_process import EngineProcess
from modeldeck.core.runtime.process.messages import LoadPlanned, PlanLoad
from modeldeck.core.schema import LoadOptions, LoadWish, Lora, ModelSeed
from modeldeck.core.service.deck import Deck
from tests.core.runtime.devices.conftest import MakeDevices
from tests.core.runtime.devices.relay import CountingDevice
from tests.support.bench import Bench
from tests.support.process import CoreProcess
from tests.support.recorded import read

pytestmark = pytest.mark.timeout(480)
"""The first test builds the backend: 15 s, and minutes on a machine that is busy elsewhere."""

RECORDED = read(Path(__file__).parents[1] / "architectures.json")
ARCHITECTURES = (
    *("llama", "gemma3", "qwen3moe", "deepseek2", "jamba", "mamba", "phi3", "bert", "qwen35"),
)
"""Dense, sliding windows, experts, compressed keys, partly and wholly recurrent, reading only."""
SPLITS = {
    "all": LoadOptions(),
    "some": LoadOptions(gpu_layers=3),
    "the output": LoadOptions(gpu_layers=1),
    "none": LoadOptions(gpu_layers=0),
    "no flash": LoadOptions(gpu_layers=3, flash_attention=False),
    "small cache": LoadOptions(gpu_layers=3, kv_cache_type="q8_0"),
}
WIDTH = 256
"""Of the recorded architectures."""


class Driver:
    """An engine in a process of its own (`driver.py`)."""

    def __init__(self, folder: Path) -> None:
        root = Path(__file__).parents[4]
        with (folder / "driver.log").open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, Path(__file__).with_name("driver.py")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, "PYTHONPATH": f"{os.environ['PYTHONPATH']}:{root}"},
            )

    def plan(self, path: Path, options: LoadOptions, **asked: Any) -> dict[str, Any]:
        """What a load would take."""
        self._say(json.dumps({"path": str(path), "options": to_builtins(options), **asked}))
        return self._hear()

    def load(self) -> dict[str, Any]:
        """What the load took, by device, as llama.cpp counts it. It is there until `free`."""
        self._say("")
        return self._hear()

    def free(self) -> None:
        """Give the model back."""
        self._say("")

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def _hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        found: dict[str, Any] = json.loads(self._process.stdout.readline())
        assert "error" not in found, found
        return found

    def close(self) -> None:
        self._process.communicate(timeout=60)


@pytest.fixture
def drivers(tmp_path: Path) -> Iterator[list[Driver]]:
    started: list[Driver] = []
    yield started
    for driver in started:
        driver.close()


@dataclass
class Outcome:
    planned: list[int]
    """Bytes of each device, as forecast."""
    asked: list[int]
    """And as the devices were asked for."""
    exact: bool
    unknown: str
    machine: int
    """Bytes of the real context in the machine, as llama.cpp counts them."""


def run(
    driver: Driver, devices: list[CountingDevice], path: Path, options: LoadOptions, **asked: Any
) -> Outcome:
    """Plan and load a model."""
    plan = driver.plan(path, options, **asked)
    for device in devices:
        assert device.emptied(), "what a plan takes is given back"
        device.forget()
    counted = driver.load()
    held = [device.held for device in devices]
    peaks = [device.peak for device in devices]
    driver.free()
    assert peaks == held, "nothing more is taken later"
    by_name = {
        one["name"]: one["weights_bytes"] + one["kv_bytes"] + one["compute_bytes"]
        for one in plan.get("devices", ())
    }
    return Outcome(
        planned=[by_name.get(f"RPC{n}", 0) for n in range(len(devices))],
        asked=held,
        exact=plan.get("exact", True),
        unknown=plan.get("gpu_unknown", ""),
        machine=counted[""],
    )


def written(architecture: str, folder: Path) -> Path:
    return RECORDED[architecture].recipe(architecture).write(folder / f"{architecture}.gguf")


def test_a_device_is_asked_for_what_was_forecast_to_the_byte(
    make_devices: MakeDevices, drivers: list[Driver], tmp_path: Path
) -> None:
    devices = make_devices()
    drivers.append(driver := Driver(tmp_path))
    off, seen = {}, set()
    for architecture in ARCHITECTURES:
        path = written(architecture, tmp_path)
        for name, options in SPLITS.items():
            found = run(driver, devices, path, options)
            assert (found.exact, found.unknown) == (True, ""), (architecture, name)
            seen.add((architecture, found.planned[0]))
            if found.planned != found.asked:
                off[architecture, name] = found
    assert off == {}
    assert len(seen) > 4 * len(ARCHITECTURES), "the splits differ"


def test_a_full_context_and_a_draft_model_take_no_more(
    make_devices: MakeDevices, drivers: list[Driver], demo_models: Path, tmp_path: Path
) -> None:
    devices = make_devices()
    drivers.append(driver := Driver(tmp_path))
    tiny, small = (demo_models / "tiny-GGUF" / f"tiny-{kind}.gguf" for kind in ("F16", "Q8_0"))
    for layers in (None, 2):
        options = LoadOptions(gpu_layers=layers, context_length=512)
        alone = run(driver, devices, tiny, options, fill=True)
        assert alone.planned == alone.asked
        with_draft = LoadOptions(gpu_layers=layers, context_length=512, draft_model="small")
        both = run(driver, devices, tiny, with_draft, draft=str(small), fill=True)
        assert both.planned == both.asked
        assert both.planned[0] > alone.planned[0]


@pytest.mark.parametrize("architecture", ["llama", "bert"])
def test_all_layers_on_two_devices_never_take_more_than_was_forecast(
    make_devices: MakeDevices, drivers: list[Driver], tmp_path: Path, architecture: str
) -> None:
    """And a partial split is exact. llama.cpp plans four activations too many for the second device
    of a llama; once this fails because it does not any more, `llama_split` can be simpler.
    """
    devices = make_devices(2)
    drivers.append(driver := Driver(tmp_path))
    path = written(architecture, tmp_path)
    some = run(driver, devices, path, LoadOptions(gpu_layers=3))
    assert (some.exact, some.planned) == (True, some.asked)
    all_ = run(driver, devices, path, LoadOptions())
    activation = 4 * 512 * WIDTH
    beyond = [plan - asked for plan, asked in zip(all_.planned, all_.asked, strict=True)]
    assert not all_.exact
    assert beyond == [0, 4 * activation if architecture == "llama" else 0]


def header(path: Path) -> HeaderFile:
    """What is known of a file that is not downloaded."""
    data = path.read_bytes()
    start = data[: gguf_parser.read(path).data_offset]
    return HeaderFile(name=path.name, key=path.name, data=start, size=len(data))


@pytest.fixture
async def bench(make_devices: MakeDevices) -> AsyncIterator[Bench]:
    """Engines; what devices they have is up to the test, before it asks them anything."""
    bench = Bench(Settings(context_length=512))
    yield bench
    await bench.engines.close()


async def test_a_load_takes_of_the_gpu_what_was_forecast(
    make_devices: MakeDevices, bench: Bench, tiny: Path
) -> None:
    (device,) = make_devices()
    await bench.engines.open()
    options = LoadOptions(gpu_layers=2, mmap=False)
    forecast = await bench.engines.plan(tiny, options)
    assert [d.name for d in forecast.devices] == ["RPC0"]
    whole = await bench.engines.plan(tiny, LoadOptions(gpu_layers=-1))
    assert forecast.gpu_bytes == forecast.devices[0].total_bytes > 0
    assert (whole.gpu_bytes or 0) > forecast.gpu_bytes
    assert await bench.engines.plan((header(tiny),), options) == forecast, (
        "before the download as well"
    )
    instance = await bench.loaded(tiny, options)
    assert device.held == forecast.gpu_bytes
    await bench.fill(instance)
    assert device.peak == forecast.gpu_bytes
    await bench.engines.unload(instance.id)
    assert await asyncio.to_thread(device.emptied)


async def test_a_device_of_exactly_that_size_is_enough_and_one_byte_less_is_told(
    make_devices: MakeDevices, bench: Bench, tiny: Path
) -> None:
    (device,) = make_devices()
    await bench.engines.open()
    options = LoadOptions(gpu_layers=2)
    device.limit = (await bench.engines.plan(tiny, options)).gpu_bytes
    instance = await bench.loaded(tiny, options)
    await bench.fill(instance)
    await bench.engines.unload(instance.id)
    assert await asyncio.to_thread(device.emptied)
    assert device.limit is not None
    device.limit -= 1
    with pytest.raises(EngineFailed, match="failed to allocate"):
        await bench.loaded(tiny, options)
    assert len(device.refused) > 0


async def test_a_plan_that_itself_needs_memory_of_a_full_gpu_is_not_known(
    make_devices: MakeDevices, bench: Bench, tmp_path: Path
) -> None:
    """llama.cpp allocates the state of recurrent layers while it plans."""
    (device,) = make_devices()
    await bench.engines.open()
    path = written("mamba", tmp_path)
    known = await bench.engines.plan(path, LoadOptions())
    assert known.gpu_bytes
    device.limit = 1 << 12
    forecast = await bench.engines.plan(path, LoadOptions())
    assert device.refused
    assert (forecast.gpu_bytes, forecast.devices, forecast.exact) == (None, (), False)
    assert "too little free" in forecast.gpu_unknown
    assert 0.9 * known.weights_bytes < forecast.weights_bytes < known.weights_bytes
    device.limit = None
    assert await bench.engines.plan(path, LoadOptions()) == known


@pytest.mark.parametrize("count", [0, 1])
async def test_a_gpu_is_one_that_is_there_not_one_that_could_be(
    make_devices: MakeDevices, tiny: Path, count: int
) -> None:
    """`llama_supports_gpu_offload` is true for every llama.cpp that was built with RPC."""
    make_devices(count)
    process = await EngineProcess.start("llama.cpp", lambda *_: None)
    assert process.hello.devices == (("CPU", "GPU") if count else ("CPU",))
    process.send(PlanLoad(id=1, path=str(tiny), options=LoadOptions(), default_context=512))
    planned = await process.receive()
    await process.end()
    assert isinstance(planned, LoadPlanned)
    assert (len(planned.devices), planned.gpu_unknown) == (count, "")


@pytest.mark.parametrize(
    ("options", "older", "why"),
    [
        (LoadOptions(gpu_layers=2, batch_size=16), False, "fewer than 32 tokens"),
        (LoadOptions(gpu_layers=2), True, "this llama.cpp does not tell it"),
        (LoadOptions(gpu_layers=0), True, "this llama.cpp does not tell it"),
        (LoadOptions(gpu_layers=2, loras=(Lora(path=__file__),)), False, "LoRA adapters"),
    ],
)
async def test_what_cannot_be_told_is_not_known(
    make_devices: MakeDevices,
    bench: Bench,
    tiny: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: LoadOptions,
    older: bool,
    why: str,
) -> None:
    make_devices()
    if older:
        monkeypatch.setenv("TEST_RPC_OLDER", "1")
    await bench.engines.open()
    forecast = await bench.engines.plan(tiny, options)
    assert (forecast.gpu_bytes, forecast.devices, forecast.exact) == (None, (), False)
    assert why in forecast.gpu_unknown


async def test_a_share_that_is_known_is_judged_by_what_is_free_on_the_gpu(
    make_devices: MakeDevices, home: Path, tiny: Path
) -> None:
    make_devices()
    async with Deck(locate(), Config(runtime=Settings(calibrate=False))) as deck:
        model = await deck.models.create(ModelSeed(unique=str(tiny)), "test")
        plan = await deck.instances.plan(model.id, LoadWish(options=LoadOptions(gpu_layers=2)))
        fit = await deck.models.fit(model.id, 1024)
        for forecast in (plan.forecast, fit.forecast):
            assert forecast is not None
            assert [device.name for device in forecast.devices] == ["RPC0"]
        # Nothing here tells how much memory the other end of RPC has free.
        assert (plan.verdict, plan.notes) == ("unknown", (fit.reason,))
        assert (fit.verdict, fit.reason) == ("unknown", "The free memory of the GPU is not known.")


async def test_a_share_that_is_not_known_neither_allows_nor_refuses(
    make_devices: MakeDevices, home: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_devices()
    monkeypatch.setenv("TEST_RPC_OLDER", "1")
    async with Deck(locate(), Config(runtime=Settings(calibrate=False))) as deck:
        model = await deck.models.create(ModelSeed(unique=str(tiny)), "test")
        wish = LoadWish(options=LoadOptions(context_length=1024, context_fit=True))
        plan = await deck.instances.plan(model.id, wish)
        assert (plan.verdict, plan.refusal, plan.options.context_length) == ("unknown", None, 1024)
        kept, unknown = plan.notes
        assert "what fits the GPU is not known" in kept
        assert "How much of it goes to the GPU is not known" in unknown
        assert (await deck.models.fit(model.id, 1024)).verdict == "unknown"
        # What all of it takes is known, at least: a budget holds.
        await deck.change_settings({"memory_budget_bytes": 1 << 20}, "test")
        plan = await deck.instances.plan(
            model.id, LoadWish(options=LoadOptions(context_length=1024))
        )
        assert plan.verdict == "too large"
        assert plan.refusal is not None
        assert plan.alternatives == (), "nothing is promised that is not known to fit"


def command(*words: str | Path, code: int = 0) -> str:
    """What `modeldeck` prints."""
    program = Path(sys.executable).with_name("modeldeck")
    done = subprocess.run([program, *words], capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done.stderr
    return done.stdout


def test_a_share_that_is_not_known_is_called_so_in_every_place(
    make_devices: MakeDevices, home: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_devices()
    monkeypatch.setenv("TEST_RPC_OLDER", "1")
    words = "how much of it goes to the GPU is not known: this llama.cpp does not tell it"
    with CoreProcess(os.environ) as core, httpx.Client(base_url=core.url, timeout=60) as http:
        made = http.post("/deck/models", json={"unique": str(tiny)}).raise_for_status().json()
        dry = command("load", tiny, "--dry-run", "--gpu-layers", "2")
        assert words in dry
        assert "unknown, with llama.cpp" in dry
        assert words in command("fit", tiny, code=4)
        http.post(f"/model/{made['id']}/load").raise_for_status()
        (instance,) = http.get("/deck/state").json()["instances"]
        forecast = instance["forecast"]
        assert (forecast["gpu_bytes"], forecast["devices"]) == (None, [])
        assert forecast["gpu_unknown"] in words
        assert any(words[1:] in note for note in instance["warnings"])
