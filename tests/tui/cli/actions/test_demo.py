"""`modeldeck demo`: the main job before a person's eyes, and a demo that serves."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sysconfig
import tempfile
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from modeldeck.core.demo.repository import DemoRepo
from modeldeck.core.demo.session import environment, session
from modeldeck.core.demo.vocabulary import expected, seen
from modeldeck.core.errors import DeckError
from modeldeck.tui.cli.actions.demo import MODEL, PICTURE, SEEING, steps

SHOWN = Path(PICTURE)
"""In place of the picture's file, whose folder has another name on every run."""
PROGRAM = str(Path(sysconfig.get_path("scripts")) / "modeldeck")


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder for temporary files of the demo, short enough for a socket in it."""
    with tempfile.TemporaryDirectory(prefix="md-") as folder:
        monkeypatch.setenv("TMPDIR", folder)
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)


def all_gone(pids: set[int]) -> bool:
    alive = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
    return not psutil.wait_procs(alive, timeout=60)[1]


def test_it_runs_the_main_job_and_leaves_nothing(temporary: Path) -> None:
    done = subprocess.run([PROGRAM, "demo"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done
    assert done.stderr == ""
    for step in steps(SHOWN):
        assert f"$ modeldeck {step.command}\n" in done.stdout
    assert f"   {seen('red', 3)}\n" in done.stdout
    assert f"   {expected('count')}\n" in done.stdout
    for measured in (
        r"fits: \d+ MiB of [\d.]+ GiB free now, at 4k context",
        r"downloaded: 66\.\d MB in .+, 1 file verified",
        r"forecast   weights .+ = \d+\.\d MiB",
        r"measured   \d+ MiB now",
        r"11 tokens, \d+ tokens/s, first after",
        r"Unloaded .*: \d+ MiB freed in ",
        r"Deleted .*: 66\.\d MB freed",
        r"The main job, end to end, in",
    ):
        assert re.search(measured, done.stdout), measured
    assert max(map(len, done.stdout.splitlines())) <= 100
    assert not set(done.stdout) & {"\r", "\x1b"}
    assert list(temporary.iterdir()) == []


def test_it_tells_a_program_what_was_measured(temporary: Path) -> None:
    done = subprocess.run([PROGRAM, "demo", "--json"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(records) == len(steps(SHOWN))
    assert {"model": MODEL, "text": expected("count")}.items() <= records[6].items()
    assert records[8]["process_gone"]
    assert records[9]["freed_bytes"] > 60_000_000
    assert {"model": SEEING, "text": seen("red", 3)}.items() <= records[-1].items()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_demo_cleans_up(temporary: Path, number: signal.Signals) -> None:
    with subprocess.Popen(
        [PROGRAM, "demo"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as demo:
        assert demo.stdout is not None
        assert any("$ modeldeck pull" in line for line in demo.stdout)
        children = {child.pid for child in psutil.Process(demo.pid).children(recursive=True)}
        assert children
        demo.send_signal(number)
        _, err = demo.communicate()
    assert demo.returncode == 128 + number
    assert "Traceback" not in err
    assert all_gone(children)
    assert list(temporary.iterdir()) == []


def test_a_headless_demo_serves_until_a_signal(temporary: Path) -> None:
    with subprocess.Popen(
        [PROGRAM, "demo", "--headless", "--port", "0", "--ready-json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as demo:  # fmt: skip
        assert demo.stdout is not None
        ready = json.loads(demo.stdout.readline())
        assert ready["ready"] is True
        assert Path(ready["socket"]).is_socket()
        assert Path(ready["home"]).is_relative_to(temporary)
        with urllib.request.urlopen(f"{ready['url']}/deck/state") as answer:
            state = json.load(answer)
        assert state["host"]["hub"] == ready["hub"]
        assert state["models"][0]["unique"] == "deck/tiny-GGUF:Q8_0", "its own come first"
        with urllib.request.urlopen(f"{ready['url']}/models") as answer:
            assert json.load(answer)["iterable"][0]["unique"] == "deck/tiny-GGUF:Q8_0"
        with urllib.request.urlopen(f"{ready['hub']}/api/models?search=tiny") as answer:
            assert json.load(answer)
        demo.terminate()
        rest, err = demo.communicate()
    assert (rest, err) == ("", "")
    assert demo.returncode == 143
    assert list(temporary.iterdir()) == []


def test_a_headless_demo_whose_core_dies_says_so(temporary: Path) -> None:
    with subprocess.Popen(
        [PROGRAM, "demo", "--headless", "--port", "0", "--ready-json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as demo:  # fmt: skip
        assert demo.stdout is not None
        ready = json.loads(demo.stdout.readline())
        os.kill(ready["pid"], signal.SIGKILL)
        _, err = demo.communicate()
    assert demo.returncode == 7
    assert "ended by itself" in json.loads(err)["error"]["message"]
    assert list(temporary.iterdir()) == []


def test_nothing_of_the_persons_reaches_the_demo() -> None:
    theirs = {
        "PATH": "/bin", "HF_TOKEN": "secret", "HF_HUB_CACHE": "/theirs", "HF_HUB_OFFLINE": "1",
        "HUGGING_FACE_HUB_TOKEN": "secret", "MODELDECK_STATE_DIR": "/theirs",
        "https_proxy": "http://proxy", "HTTP_PROXY": "http://proxy",
    }  # fmt: skip
    inside = environment(Path("/demo"), "http://127.0.0.1:1", 0, theirs)
    assert inside["PATH"] == "/bin"
    assert not any(word in str(inside) for word in ("secret", "theirs", "proxy", "OFFLINE"))
    assert inside["HF_ENDPOINT"] == "http://127.0.0.1:1"


async def test_a_session_that_is_cancelled_while_it_starts_leaves_nothing(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    building, go_on = threading.Event(), threading.Event()

    def slow_build(folder: Path, padded_bytes: int) -> tuple[DemoRepo, ...]:
        building.set()
        go_on.wait()
        folder.mkdir()
        return ()

    monkeypatch.setattr("modeldeck.core.demo.session.build", slow_build)
    starting = asyncio.create_task(session(0).__aenter__())
    await asyncio.to_thread(building.wait)
    starting.cancel()
    asyncio.get_running_loop().call_soon(go_on.set)
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert os.listdir(temporary) == []


async def test_a_session_whose_core_cannot_start_leaves_nothing(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (temporary / "broken").mkdir()
    (temporary / "broken" / "httptools.py").write_text("raise RuntimeError('made to fail')\n")
    monkeypatch.setenv("PYTHONPATH", str(temporary / "broken"))
    with pytest.raises(DeckError, match="did not start") as caught:
        async with session(0, padded_bytes=4 << 20):
            raise AssertionError("it started")
    assert any("made to fail" in line for line in caught.value.details)
    assert os.listdir(temporary) == ["broken"]
