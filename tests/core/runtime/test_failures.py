"""What goes wrong in an engine costs that engine, and is told."""

import asyncio
import os
import shutil
import signal
import struct
from pathlib import Path

import pytest

from modeldeck.core.config.config import RuntimeSettings as Settings
from modeldeck.core.demo.model_writer import expected
from modeldeck.core.errors import (
    Conflict,
    EngineFailed,
    EngineMissing,
    InvalidRequest,
)
from modeldeck.core.runtime.process import engine_process
from modeldeck.core.schema import Instance, InstanceState, LoadOptions
from tests.support.before_load import stand_still_before_load
from tests.support.bench import Bench, about, alive, model
from tests.support.signals import suspend

S = InstanceState


@pytest.fixture
def settings() -> Settings:
    """A context that an answer without an end does not fill before a test goes on."""
    return Settings(context_length=16384)


def patched(source: Path, target: Path, key: bytes, value: int) -> Path:
    """A copy of a GGUF file with another number for a 32-bit key."""
    data = bytearray(source.read_bytes())
    at = data.index(key) + len(key) + 4  # after the key comes its type
    data[at : at + 4] = struct.pack("<I", value)
    target.write_bytes(data)
    return target


def bad(kind: str, tiny: Path, folder: Path) -> Path:
    """A file that is no sound model."""
    whole, path = tiny.read_bytes(), folder / f"{kind}.gguf"
    match kind:
        case "empty":
            path.write_bytes(b"")
        case "a page of HTML":
            path.write_bytes(b"<!doctype html><title>Not found</title>" * 100)
        case "bad magic":
            path.write_bytes(b"GGML" + whole[4:])
        case "unknown version":
            path.write_bytes(whole[:4] + struct.pack("<I", 99) + whole[8:])
        case "header cut off":
            path.write_bytes(whole[:5000])
        case "weights cut off":
            path.write_bytes(whole[: len(whole) // 2])
        case "absurd counts":
            path.write_bytes(whole[:8] + struct.pack("<QQ", 1 << 60, 1 << 60) + whole[24:])
        case "unknown architecture":
            path.write_bytes(
                whole.replace(b"\x05\0\0\0\0\0\0\0llama", b"\x05\0\0\0\0\0\0\0ollam", 1)
            )
        case "no layers":
            patched(tiny, path, b"llama.block_count", 0)
        case "too many layers":
            patched(tiny, path, b"llama.block_count", 100_000)
        case "wrong shape":
            patched(tiny, path, b"llama.embedding_length", 512)
        case "offsets beyond the file":
            name = b"output_norm.weight"
            at = whole.index(name) + len(name)
            (dimensions,) = struct.unpack_from("<I", whole, at)
            data = bytearray(whole)
            # After the name: the number of dimensions, each of them, the type, the offset.
            struct.pack_into("<Q", data, at + 4 + 8 * dimensions + 4, 1 << 40)
            path.write_bytes(data)
        case "no tokenizer":
            path.write_bytes(whole.replace(b"tokenizer.ggml.tokens", b"tokenizer.ggml.tokenz", 1))
        case "a folder":
            path.mkdir()
    return path


KINDS = [
    *("missing", "a folder", "empty", "a page of HTML", "bad magic", "unknown version"),
    *("header cut off", "weights cut off", "absurd counts", "unknown architecture"),
    *("no layers", "too many layers", "wrong shape", "offsets beyond the file", "no tokenizer"),
]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_bad_file_fails_with_a_reason_and_others_live_on(
    bench: Bench, tiny: Path, tmp_path: Path, kind: str
) -> None:
    good = await bench.loaded(tiny)
    path = bad(kind, tiny, tmp_path)
    failed = await bench.engines.load(model(path), LoadOptions())
    with pytest.raises(EngineFailed) as caught:
        await bench.engines.ready(failed.id)
    record = bench.engines.instances[failed.id]
    assert (record.state, record.pid) == (S.FAILED, None)
    assert record.error is not None
    assert record.error.message == caught.value.message
    assert record.error.message.rstrip(".") != "llama.cpp refused the model"
    assert record.error.remedy
    with pytest.raises(EngineFailed):
        await bench.engines.plan(path, LoadOptions())
    with pytest.raises(Conflict):
        await bench.answer(failed, "count")
    assert await bench.answer(good, "count") == expected("count")
    await bench.engines.remove(failed.id)
    assert list(bench.engines.instances) == [good.id]
    assert bench.last(failed).state is S.STOPPED


async def test_an_abort_is_told_with_the_last_lines_of_the_log(
    bench: Bench, tiny: Path, tmp_path: Path
) -> None:
    failed = await bench.engines.load(model(bad("no layers", tiny, tmp_path)), LoadOptions())
    with pytest.raises(EngineFailed, match="SIGABRT") as caught:
        await bench.engines.ready(failed.id)
    assert any("GGML_ASSERT" in line for line in caught.value.details)
    assert any("GGML_ASSERT" in line for line in bench.engines.log(failed.id))
    assert any(line[0] == f"engine:{failed.id}" and line[1] == "error" for line in bench.lines)


async def test_a_failed_model_can_be_loaded_again(bench: Bench, tiny: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"no model")
    failed = await bench.engines.load(model(path), LoadOptions())
    with pytest.raises(EngineFailed):
        await bench.engines.ready(failed.id)
    shutil.copy(tiny, path)
    again = await bench.loaded(path)
    assert list(bench.engines.instances) == [again.id]
    with pytest.raises(Conflict):
        await bench.engines.remove(again.id)


async def test_unloading_a_failed_instance_removes_it(bench: Bench, tmp_path: Path) -> None:
    failed = await bench.engines.load(model(tmp_path / "missing.gguf"), LoadOptions())
    with pytest.raises(EngineFailed):
        await bench.engines.ready(failed.id)
    receipt = await bench.engines.unload(failed.id)
    assert (receipt.process_gone, receipt.freed_bytes) == (True, 0)
    assert bench.engines.instances == {}


async def killed_over_an_answer(
    bench: Bench, instance: Instance, number: signal.Signals
) -> asyncio.Task[str]:
    """Kill an engine while it answers; a request that waited for its turn meanwhile."""
    running = asyncio.create_task(bench.ask(instance, about("loop")))
    busy = await bench.until(instance, lambda i: i.state is S.BUSY)
    waiting = asyncio.create_task(bench.answer(instance, "count"))
    await bench.until(instance, lambda i: i.requests == 2)
    assert busy.pid is not None
    os.kill(busy.pid, number)
    with pytest.raises(EngineFailed, match=number.name) as caught:
        await running
    assert caught.value.details, "with the last lines of its log"
    return waiting


async def test_a_process_that_dies_over_an_answer_is_started_again_once(
    bench: Bench, tiny: Path, demo_models: Path
) -> None:
    other = await bench.loaded(demo_models / "tiny-GGUF" / "tiny-Q8_0.gguf")
    instance = await bench.loaded(tiny, LoadOptions(context_length=8192, threads=1))
    waiting = await killed_over_an_answer(bench, instance, signal.SIGSEGV)
    assert await waiting == expected("count"), "who waited is answered by the next process"
    again = await bench.engines.ready(instance.id)
    assert (again.restarts, again.context_length, again.error) == (1, 8192, None)
    assert again.options == instance.options
    assert again.pid != instance.pid
    source = f"engine:{instance.id}"
    (said,) = [t for s, _, t in bench.lines if s == source and "loaded again" in t]
    assert "SIGSEGV" in said

    waiting = await killed_over_an_answer(bench, instance, signal.SIGKILL)
    with pytest.raises(EngineFailed, match="SIGKILL"):
        await waiting
    failed = await bench.until(instance, lambda i: i.state is S.FAILED)
    assert failed.error is not None
    assert "ran out of memory" in failed.error.message
    assert failed.error.remedy
    assert (failed.pid, failed.requests, failed.restarts) == (None, 0, 1)
    assert any(s == source and t.startswith("failed: ") for s, _, t in bench.lines)
    life = [S.STARTING, S.READY, S.BUSY]
    assert bench.states(instance) == [*life, *life, S.READY, S.BUSY, S.FAILED]
    assert await bench.answer(other, "count") == expected("count")


async def test_a_process_that_dies_again_after_a_while_is_started_again(
    bench: Bench, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modeldeck.core.runtime.instance.supervisor.RESTART_GAP_S", 0)
    instance = await bench.loaded(tiny)
    for _ in range(2):
        waiting = await killed_over_an_answer(bench, instance, signal.SIGTERM)
        assert await waiting == expected("count")
    assert bench.last(instance).restarts == 2


async def test_a_model_that_is_unloaded_while_it_starts_again_is_gone(
    bench: Bench, tiny: Path
) -> None:
    instance = await bench.loaded(tiny)
    waiting = await killed_over_an_answer(bench, instance, signal.SIGSEGV)
    await bench.until(instance, lambda i: i.restarts == 1)
    assert (await bench.engines.unload(instance.id)).process_gone
    with pytest.raises(Conflict):
        await waiting
    assert bench.last(instance).state is S.STOPPED


async def test_a_model_that_cannot_be_loaded_again_has_failed(
    bench: Bench, tiny: Path, tmp_path: Path
) -> None:
    path = tmp_path / "model.gguf"
    shutil.copy(tiny, path)
    instance = await bench.loaded(path)
    path.write_bytes(b"no model")  # a process that reads it now dies of it
    with pytest.raises(EngineFailed, match="SIGBUS"):
        await bench.answer(instance, "count")
    failed = await bench.until(instance, lambda i: i.state is S.FAILED)
    assert failed.error is not None
    assert "refused the model" in failed.error.message


async def test_a_process_that_ends_while_idle_is_noticed(bench: Bench, tiny: Path) -> None:
    instance = await bench.loaded(tiny)
    assert instance.pid is not None
    os.kill(instance.pid, signal.SIGKILL)
    failed = await bench.until(instance, lambda i: i.state is S.FAILED)
    assert failed.error is not None
    assert "memory" in failed.error.message
    await bench.engines.sample()  # a process that is gone is not measured
    assert bench.engines.instances[instance.id].state is S.FAILED


async def test_a_context_that_cannot_be_allocated_is_refused_with_what_to_try(
    bench: Bench, tiny: Path
) -> None:
    # 16,777,216 tokens of this model's cache are 8 GiB: over the limit set here.
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, hard))  # inherited by the engine
    try:
        instance = await bench.engines.load(model(tiny), LoadOptions(context_length=1 << 24))
        with pytest.raises(EngineFailed) as caught:
            await bench.engines.ready(instance.id)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    assert "smaller context" in caught.value.remedy


@pytest.mark.parametrize(
    "options", [LoadOptions(context_length=1 << 28), LoadOptions(threads=100_000)]
)
async def test_impossible_options_never_reach_an_engine(
    bench: Bench, tiny: Path, options: LoadOptions
) -> None:
    with pytest.raises(InvalidRequest):
        await bench.engines.load(model(tiny), options)
    with pytest.raises(InvalidRequest):
        await bench.engines.plan(tiny, options)
    assert bench.changes == []


@pytest.mark.parametrize("settings", [Settings(load_stall_s=0.2)])
async def test_a_load_without_progress_is_given_up(
    bench: Bench, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_still_before_load(tmp_path, monkeypatch)
    monkeypatch.setattr(engine_process, "END_S", 0.05)
    instance = await bench.engines.load(model(tiny), LoadOptions())
    held = await bench.until(instance, lambda i: i.pid is not None)
    assert held.pid is not None
    with pytest.raises(EngineFailed, match="no progress"):
        await bench.engines.ready(instance.id)
    assert not alive(held.pid)


async def test_a_process_that_does_not_listen_is_killed(
    bench: Bench, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_process, "END_S", 0.05)
    instance = await bench.loaded(tiny)
    assert instance.pid is not None
    suspend(instance.pid)
    receipt = await bench.engines.unload(instance.id)
    assert receipt.process_gone
    assert not alive(instance.pid)
    assert any("does not end by itself: kill" in text for _, _, text in bench.lines)


async def test_a_missing_engine_says_how_to_install_it(
    bench: Bench, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "llama_cpp.py").write_text("raise ImportError('not here')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    llama, mlx = await bench.engines.probe()
    assert (llama.name, llama.available, llama.formats) == ("llama.cpp", False, ("gguf",))
    assert "pip install" in (llama.why_not or "")
    assert mlx.available, "an engine that is missing costs no other"
    with pytest.raises(EngineMissing, match="pip install"):
        await bench.engines.plan(tiny, LoadOptions())
    instance = await bench.engines.load(model(tiny), LoadOptions())
    with pytest.raises(EngineMissing):
        await bench.engines.ready(instance.id)
    assert bench.engines.instances[instance.id].state is S.FAILED


async def test_an_engine_that_crashes_when_it_starts_is_told(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "import os, signal; print('starting', flush=True); os.kill(os.getpid(), signal.SIGILL)"
    (tmp_path / "llama_cpp.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    llama, _ = await bench.engines.probe()
    assert "another processor" in (llama.why_not or "")


async def test_an_engine_that_prints_to_stdout_breaks_no_frame(
    bench: Bench, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "import os; print('from Python', flush=True); os.system('echo from a shell')"
    (tmp_path / "sitecustomize.py").write_text(
        f"import atexit, sys\nif 'child' in ' '.join(sys.orig_argv):\n    HOOK = {code!r}\n"
        "    import importlib.abc\n"
        "    class Find(importlib.abc.MetaPathFinder):\n"
        "        def find_spec(self, name, path, target=None):\n"
        "            if name == 'llama_cpp':\n"
        "                exec(HOOK)\n"
        "            return None\n"
        "    sys.meta_path.insert(0, Find())\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    instance = await bench.loaded(tiny)
    assert await bench.answer(instance, "count") == expected("count")
    printed = [text for _, _, text in bench.lines]
    assert "from Python" in printed
    assert "from a shell" in printed
