"""What an engine process is given, and what ends it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from modeldeck.core.errors import (
    Cancelled,
    EngineFailed,
)
from modeldeck.core.runtime.process.engine_process import EngineProcess, environment
from modeldeck.core.schema import LoadOptions
from tests.support.bench import PATIENCE_S, about, alive


def test_secrets_do_not_reach_an_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    assert not {"HF_TOKEN", "OPENAI_API_KEY"} & environment().keys()
    assert environment()["GGML_NO_BACKTRACE"] == "1"


ORPHANS = """
    import asyncio, sys
    from pathlib import Path
    from modeldeck.core.config.config import RuntimeSettings
    from modeldeck.core.memory import probe
    from modeldeck.core.runtime.engines_manager import Engines
    from tests.support.bench import model
    from modeldeck.core.schema import LoadOptions

    async def main():
        engines = Engines(settings=RuntimeSettings(), measure=probe.process,
                          on_change=lambda i: None, on_log=lambda *line: None)
        pids = []
        for path in sys.argv[1:]:
            instance = await engines.load(model(Path(path)), LoadOptions())
            pids.append((await engines.ready(instance.id)).pid)
        await engines.plan(Path(sys.argv[1]), LoadOptions())
        pids.append(engines._planner._process.pid)
        native = {"llama_cpp", "numpy", "mlx", "transformers", "gguf", "huggingface_hub"}
        print(*pids, *sorted(native & sys.modules.keys()), flush=True)
        await asyncio.Event().wait()

    asyncio.run(main())
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_engine_survives_the_core_and_the_core_imports_none(
    demo_models: Path, number: signal.Signals
) -> None:
    folder = demo_models / "tiny-GGUF"
    paths = [folder / "tiny-F16.gguf", folder / "tiny-Q8_0.gguf", demo_models / "tiny-mlx"]
    core = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(ORPHANS), *paths], stdout=subprocess.PIPE, text=True
    )
    assert core.stdout is not None
    with core, core.stdout:
        words = core.stdout.readline().split()
        core.send_signal(number)
    pids = [int(word) for word in words if word.isdigit()]
    assert len(pids) == len(words) == 4  # three engines, the planner, and no native module
    wait_for_end(pids)


def wait_for_end(pids: list[int]) -> None:
    """Wait until processes that are not our children are gone."""
    import time

    deadline = time.monotonic() + PATIENCE_S
    while any(alive(pid) and not zombie(pid) for pid in pids):
        assert time.monotonic() < deadline, "an engine survived its core"
        time.sleep(0.01)


def zombie(pid: int) -> bool:
    """Whether a process has ended and only waits for its parent to take note."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


async def test_the_end_of_its_input_ends_an_engine_in_the_middle_of_an_answer(
    tiny: Path,
) -> None:
    from modeldeck.core.runtime.process.messages import (
        GenerateText,
        LoadModel,
        ModelLoaded,
        TextPiece,
    )

    engine = await EngineProcess.start("llama.cpp", lambda *line: None)
    engine.send(LoadModel(id=1, path=str(tiny), options=LoadOptions(), default_context=4096))
    while not isinstance(await engine.receive(), ModelLoaded):
        pass
    engine.send(GenerateText(id=2, request=about("loop")))
    while not isinstance(await engine.receive(), TextPiece):
        pass
    assert await engine.end()
    assert not alive(engine.pid)
    reports = iter(engine.receive, None)
    with pytest.raises(EngineFailed, match="ended"):
        _ = [await report for report in reports]  # what was on its way still comes


async def test_a_command_cancelled_before_it_begins_never_runs(tiny: Path) -> None:
    from modeldeck.core.runtime.process.messages import (
        CancelCommand,
        CommandFailed,
        GenerateText,
        LoadModel,
        ModelLoaded,
        PromptProgress,
        TextPiece,
    )

    engine = await EngineProcess.start("llama.cpp", lambda *line: None)
    try:
        engine.send(LoadModel(id=1, path=str(tiny), options=LoadOptions(), default_context=4096))
        while not isinstance(await engine.receive(), ModelLoaded):
            pass
        engine.send(GenerateText(id=2, request=about("loop")))
        while not isinstance(await engine.receive(), TextPiece):
            pass
        engine.send(GenerateText(id=3, request=about("loop")))  # waits for the first
        engine.send(CancelCommand(id=3))
        engine.send(CancelCommand(id=2))
        ended: list[tuple[int, str]] = []
        while len(ended) < 2:
            report = await engine.receive()
            assert isinstance(report, TextPiece | PromptProgress | CommandFailed)
            if isinstance(report, CommandFailed):
                ended.append((report.id, report.error.code))
            else:
                assert report.id == 2
        assert sorted(ended) == [(2, Cancelled.code), (3, Cancelled.code)]
    finally:
        await engine.end()


async def test_a_process_that_ends_by_itself_leaves_nothing_open() -> None:
    engine = await EngineProcess.start("llama.cpp", lambda *line: None)
    pipe = engine._transport.get_pipe_transport(0)
    assert pipe is not None
    pipe.close()
    await engine.wait()
    assert (engine.gone, engine._transport.is_closing()) == (True, True)


async def test_an_end_that_is_cut_off_closes_and_kills() -> None:
    engine = await EngineProcess.start("llama.cpp", lambda *line: None)
    os.kill(engine.pid, signal.SIGSTOP)
    begun = set(asyncio.all_tasks())
    ending = asyncio.create_task(engine.end())
    await asyncio.sleep(0)  # it begins
    await asyncio.sleep(0)  # it waits
    (inner,) = asyncio.all_tasks() - begun - {ending}
    inner.cancel()  # as when the loop ends
    with pytest.raises(asyncio.CancelledError):
        await ending
    await engine.wait()
    assert engine._transport.is_closing()
