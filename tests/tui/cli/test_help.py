"""The help of every command, and what a command imports."""

from __future__ import annotations

import subprocess
import sys

import pytest
from click.testing import CliRunner

from modeldeck.tui.cli import manual
from modeldeck.tui.cli.main import main
from tests.support.process import CoreProcess


@pytest.fixture
def core(tidy_core: CoreProcess) -> CoreProcess:
    """The core of all tests here, empty at the start of each."""
    return tidy_core


COMMANDS = [path for path, _ in manual.commands(main)]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example_and_json(name: str) -> None:
    shown = CliRunner().invoke(main, [*name.split(), "--help"]).output
    assert "--json" in shown
    assert f"Example:\n    modeldeck {name}" in shown


def test_the_commands_of_the_main_job_are_there() -> None:
    wanted = "serve demo status ls search pull rm load unload ps run stop"
    assert set(wanted.split()) <= set(COMMANDS)
    shown = CliRunner().invoke(main, ["--help"]).output
    assert "Exit codes:" in shown


def test_help_costs_no_more_than_click() -> None:
    script = (
        "import sys\n"
        "from modeldeck.tui.cli.main import main\n"
        "main(['--help'], standalone_mode=False)\n"
        "print([m for m in ('textual', 'rich', 'httpx', 'asyncio', 'modeldeck.core.schema',"
        " 'modeldeck.core.config.config')"
        " if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]", done


@pytest.mark.parametrize("words", ["ps", "ls", "status", "cache ls", "downloads", "token list"])
def test_a_command_imports_only_what_it_needs(core: CoreProcess, words: str) -> None:
    """Over the core's own socket: httpx, its asyncio backend and metadata cost 0.2 s of start."""
    unwanted = (
        *("httpx", "anyio", "rich", "importlib.metadata", "websockets"),
        *("modeldeck.core.schema.generation", "modeldeck.core.schema.loading"),
        "modeldeck.core.config.config",
    )
    script = (
        "import sys\n"
        "from modeldeck.tui.cli.main import main\n"
        f"main({words.split()!r}, standalone_mode=False)\n"
        f"print([m for m in {unwanted!r} if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]", done


def test_no_command_needs_textual(core: CoreProcess) -> None:
    script = (
        "import sys\n"
        "from modeldeck.tui.cli.main import main\n"
        "main(['status'], standalone_mode=False)\n"
        "print([m for m in ('textual', 'huggingface_hub', 'numpy', 'llama_cpp')"
        " if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]", done
