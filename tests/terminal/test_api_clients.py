"""Programs that people talk to models with in a terminal: aider and oterm, unchanged."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from modeldeck.core.demo.model_writer import expected
from tests.contract.old_clients import own_environment
from tests.support.process import CoreProcess
from tests.terminal.conftest import Terminal

pytestmark = pytest.mark.timeout(1800)  # the first test may have to wait for pip
TINY = "deck/tiny-GGUF:Q8_0"
TAG = f"hf.co/{TINY}"
PATIENCE_S = 60
COUNT = expected("count")
NOWHERE = {
    **dict.fromkeys(("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"), "http://127.0.0.1:9"),
    **dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1,localhost"),
}
"""They ask for newer versions of themselves."""


@pytest.fixture(scope="module")
def stocked(shared_core: CoreProcess) -> str:
    """The address of a core that has the tiny model, and has it loaded."""
    with httpx.Client(base_url=f"{shared_core.url}/api", timeout=PATIENCE_S) as http:
        for path in ("pull", "generate"):
            answer = http.post(f"/{path}", json={"model": TINY, "stream": False})
            assert answer.status_code == 200, answer.text
    return shared_core.url


@pytest.fixture
def pane(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    """A pane of a tmux server of its own."""
    # The first start of a program with over a hundred packages takes minutes on a machine at work.
    monkeypatch.setattr("tests.terminal.conftest.PATIENCE_S", 5.0 * PATIENCE_S)
    if shutil.which("tmux") is None:
        missing = pytest.fail if os.environ.get("CI") else pytest.skip
        missing("tmux is not installed")
    with tempfile.TemporaryDirectory(prefix="md-") as folder:  # a socket's path must be short
        terminal = Terminal(Path(folder))
        yield terminal
        terminal.close()


@pytest.mark.parametrize("model", [f"openai/{TINY}", f"ollama_chat/{TAG}"])
def test_aider_asks_about_a_file(stocked: str, tmp_path: Path, model: str) -> None:
    program = own_environment("aider", "aider-chat==0.86.2") / "bin" / "aider"
    (tmp_path / "hello.py").write_text("def hello():\n    return 1\n")
    quiet = ("--yes-always", "--no-git", "--no-gitignore", "--no-pretty", "--no-check-update",
             "--no-show-model-warnings", "--no-show-release-notes", "--no-detect-urls",
             "--analytics-disable", "--map-tokens", "0")  # fmt: skip
    done = subprocess.run(
        [program, "--model", model, "--message", "count", *quiet, "hello.py"],
        cwd=tmp_path,
        env={
            **os.environ,
            **NOWHERE,
            "HOME": str(tmp_path),
            "OPENAI_API_BASE": f"{stocked}/v1",
            "OPENAI_API_KEY": "none",
            "OLLAMA_API_BASE": stocked,
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=4 * PATIENCE_S,
    )
    assert done.returncode == 0, done.stderr
    assert COUNT in done.stdout, done.stdout + done.stderr


CLICK_S = 5
"""A click may come before the program has laid out the button, and is then lost on it."""


def clicked(pane: Terminal, words: str, wanted: str) -> None:
    """Click on words until the screen shows what is wanted."""
    late = time.monotonic() + 5 * PATIENCE_S
    screen = pane.until(lambda screen: words in screen)
    while wanted not in screen:
        assert time.monotonic() < late, f"{wanted} never came:\n{screen}"
        _click(pane, screen, words)
        screen = _shown_within(pane, wanted, CLICK_S)


def _shown_within(pane: Terminal, wanted: str, seconds: float) -> str:
    """The screen once it shows what is wanted, or after the time."""
    late = time.monotonic() + seconds
    return pane.until(lambda screen: wanted in screen or time.monotonic() > late)


def _click(pane: Terminal, screen: str, words: str) -> None:
    """Click on words, if they are still there."""
    for row, line in enumerate(screen.splitlines(), 1):
        if words in line:
            for end in "Mm":
                pane.type(f"\x1b[<0;{line.index(words) + 2};{row}{end}")
            return


def test_oterm_begins_a_chat(stocked: str, tmp_path: Path, pane: Terminal) -> None:
    program = own_environment("oterm", "oterm==0.26.1") / "bin" / "oterm"
    (tmp_path / "config.json").write_text('{"splash-screen": false}')
    own = {"HOME": str(tmp_path), "OTERM_DATA_DIR": str(tmp_path), "OLLAMA_URL": stocked}
    pane.open(120, 40, **NOWHERE, **own)
    pane.command(str(program))
    pane.until("Welcome to oterm")
    pane.press("C-n")
    clicked(pane, TAG, f"Model: {TAG}")  # it has asked what the model is
    clicked(pane, " Save ", f"chat #1 - {TAG}")
    pane.type("count")
    pane.press("Enter")
    pane.until(COUNT)
    pane.press("C-q")
