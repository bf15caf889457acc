"""An engine that does not answer any more is noticed, ended, and started again."""

import asyncio
import sys
import textwrap
from pathlib import Path

import pytest

from modeldeck.core.config.config import RuntimeSettings as Settings
from modeldeck.core.demo.model_writer import expected
from modeldeck.core.errors import EngineFailed, InvalidRequest
from modeldeck.core.runtime.process import engine_process
from modeldeck.core.schema import GenerateRequest, Instance, InstanceState
from tests.support.bench import PATIENCE_S, Bench, about, alive
from tests.support.signals import suspend

S = InstanceState
SILENCE_S = 5.0
"""Long enough for an engine that lives, on a busy machine: it shows that every second."""

HOOK = """
    import ctypes, importlib.abc, sys

    def hang(library):
        lock = ctypes.c_int(0)
        library.pthread_spin_init(ctypes.byref(lock), 0)
        library.pthread_spin_lock(ctypes.byref(lock))
        library.pthread_spin_lock(ctypes.byref(lock))  # for ever

    class Find(importlib.abc.MetaPathFinder):
        def find_spec(self, name, path, target=None):
            if name == "modeldeck.core.runtime.engines.llama.context":
                sys.meta_path.remove(self)
                from modeldeck.core.runtime.engines import bounds
                from modeldeck.core.runtime.text import call_grammar

                whole = call_grammar.grammar_for
                bounds.HARD_FACTOR, bounds.HARD_EXTRA_S = 0.0, 2.0

                def grammar_for(request, *shown):
                    if request.prompt == "native code":
                        hang(ctypes.CDLL(None))
                    if request.prompt == "with the lock":
                        hang(ctypes.PyDLL(None))
                    if request.prompt == "slow":
                        ctypes.CDLL(None).poll(None, 0, {slow_ms})
                    return whole(request, *shown)

                call_grammar.grammar_for = grammar_for
            return None

    if "modeldeck.core.runtime.child" in " ".join(sys.orig_argv):
        sys.meta_path.insert(0, Find())
"""
"""Hangs that a prompt brings about, in native code: with the interpreter's lock and without."""


@pytest.fixture
def settings() -> Settings:
    return Settings(context_length=2048, silence_s=SILENCE_S)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_process, "END_S", 0.2)


@pytest.fixture
def hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if sys.platform != "linux":
        pytest.skip("macOS has no spin locks")
    hook = HOOK.replace("{slow_ms}", str(round(SILENCE_S * 1500)))
    (tmp_path / "sitecustomize.py").write_text(textwrap.dedent(hook))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


async def ready_again(bench: Bench, instance: Instance, error: BaseException) -> None:
    """It was told what was done, and the model is there again."""
    assert isinstance(error, EngineFailed | InvalidRequest)
    assert "Its process is ended, and the model is loaded again." in error.remedy
    assert await bench.answer(instance, "count") == expected("count")
    again = bench.last(instance)
    assert (again.restarts, again.state in (S.READY, S.BUSY)) == (1, True)
    assert again.pid != instance.pid
    assert instance.pid is not None
    assert not alive(instance.pid)
    source = f"engine:{instance.id}"
    (said,) = [t for s, _, t in bench.lines if s == source and "loaded again" in t]
    assert error.message in said


@pytest.mark.parametrize("name", ["tiny-GGUF/tiny-F16.gguf", "tiny-mlx"])
async def test_an_engine_that_is_stopped_over_an_answer(
    bench: Bench, demo_models: Path, name: str
) -> None:
    instance = await bench.loaded(demo_models / name)
    assert instance.pid is not None
    pid = instance.pid

    async def stop_it() -> None:
        async with bench.engines.generate(instance.id, about("loop")) as chunks:
            async for _ in chunks:
                suspend(pid)

    with pytest.raises(EngineFailed, match="it gave no sign of life for 5 s") as caught:
        await asyncio.wait_for(stop_it(), PATIENCE_S)
    await ready_again(bench, instance, caught.value)


async def test_an_engine_that_is_stopped_while_idle_is_noticed_by_the_next_request(
    bench: Bench, tiny: Path
) -> None:
    instance = await bench.loaded(tiny)
    assert instance.pid is not None
    suspend(instance.pid)
    with pytest.raises(EngineFailed, match="does not answer") as caught:
        await bench.answer(instance, "count")
    await ready_again(bench, instance, caught.value)


async def test_an_engine_that_is_stopped_after_its_client_has_gone_is_noticed(
    bench: Bench, tiny: Path
) -> None:
    instance = await bench.loaded(tiny)
    assert instance.pid is not None
    async with bench.engines.generate(instance.id, about("loop")) as chunks:
        async for _ in chunks:
            suspend(instance.pid)
            break
    assert await bench.answer(instance, "count") == expected("count")
    assert bench.last(instance).restarts == 1


@pytest.mark.usefixtures("hangs")
async def test_native_code_without_an_end_costs_its_request_and_its_process(
    bench: Bench, tiny: Path
) -> None:
    instance = await bench.loaded(tiny)
    request = GenerateRequest(prompt="native code")
    with pytest.raises(InvalidRequest, match="grammar of the answer took over") as caught:
        await bench.ask(instance, request)
    await ready_again(bench, instance, caught.value)


@pytest.mark.usefixtures("hangs")
async def test_native_code_that_keeps_the_interpreter_s_lock_is_a_silence(
    bench: Bench, tiny: Path
) -> None:
    instance = await bench.loaded(tiny)
    with pytest.raises(EngineFailed, match="does not answer") as caught:
        await bench.ask(instance, GenerateRequest(prompt="with the lock"))
    await ready_again(bench, instance, caught.value)


@pytest.mark.usefixtures("hangs")
async def test_an_engine_that_is_only_slow_is_waited_for(bench: Bench, tiny: Path) -> None:
    instance = await bench.loaded(tiny)
    request = GenerateRequest(prompt="slow", max_tokens=1)
    assert (await bench.ask(instance, request))[-1].finish_reason
    assert (bench.last(instance).restarts, bench.last(instance).pid) == (0, instance.pid)
