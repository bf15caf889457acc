"""Every command against a real core, hub and llama.cpp, as a script would use it."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import signal
import subprocess
import sys
import sysconfig
import termios
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from modeldeck.core import errors
from modeldeck.core.client import daemon
from modeldeck.core.client.client import Client
from modeldeck.core.config.paths import locate
from modeldeck.core.demo.hub import DemoHub
from modeldeck.core.demo.vocabulary import THOUGHT, expected
from modeldeck.tui.cli import manual
from modeldeck.tui.cli.actions import models
from modeldeck.tui.cli.main import main
from modeldeck.tui.cli.output import Output
from modeldeck.tui.cli.runner import exit_code
from tests.support.process import CoreProcess

TINY = "deck/tiny-GGUF:Q8_0"
THINKER = "deck/tiny-think-GGUF:F16"
PADDED = "deck/padded-GGUF:F16"

COMMANDS = [path for path, _ in manual.commands(main)]

PROGRAM = str(Path(sysconfig.get_path("scripts")) / "modeldeck")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one document on standard output."""
        (line,) = self.out.splitlines()
        return json.loads(line)


Command = Callable[..., Run]


@pytest.fixture
def hub(shared_hub: DemoHub) -> DemoHub:
    """The hub of all tests here."""
    return shared_hub


@pytest.fixture
def core(tidy_core: CoreProcess) -> CoreProcess:
    """The core of all tests here, empty at the start of each."""
    return tidy_core


@pytest.fixture
def modeldeck() -> Command:
    """Runs `modeldeck` with words, in this process, as a script would: there is no terminal."""

    def command(*words: str, code: int = 0, given: str | None = None) -> Run:
        done = CliRunner().invoke(main, words, input=given)
        run = Run(code=done.exit_code, out=done.stdout, err=done.stderr)
        assert run.code == code, (run, done.exception)
        return run

    return command


def on_terminal(*words: str, given: str = "") -> tuple[int, str]:
    """Run `modeldeck` on a terminal of 80 columns: its exit code, and all that was shown."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    environ = {**os.environ, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8"}
    os.write(ours, given.encode())
    with subprocess.Popen(
        [PROGRAM, *words], stdin=theirs, stdout=theirs, stderr=theirs, env=environ
    ) as process:
        os.close(theirs)
        shown = b""
        try:
            while piece := os.read(ours, 65536):
                shown += piece
        except OSError:  # Linux says so when the last one has closed the other side
            pass
    os.close(ours)
    return process.returncode, shown.decode()


# Help


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


# The main job


def test_the_main_job_in_words(core: CoreProcess, modeldeck: Command) -> None:
    assert "deck/tiny-GGUF" in modeldeck("search", "tiny").out
    assert TINY in modeldeck("search", "deck/tiny-GGUF").out
    assert "fits: " in modeldeck("fit", TINY, "-c", "512").out
    pulled = modeldeck("pull", TINY).out
    assert f"{TINY} downloaded" in pulled
    assert "is downloaded already" in modeldeck("pull", TINY).out
    assert modeldeck("ls", "-d").out.splitlines()[1].endswith("downloaded")
    plan = modeldeck("load", TINY, "-c", "512", "--idle-ttl", "never", "--dry-run").out
    assert f"{TINY}: fits, with llama.cpp, at 512 context" in plan
    assert "context_length 512 (request)" in plan
    assert "not yet calibrated on this machine" in plan
    assert modeldeck("ps").out == ""
    loaded = modeldeck("load", TINY, "-c", "512").out
    assert "forecast   weights" in loaded
    assert "MiB now" in loaded
    assert TINY in modeldeck("ps").out
    asked = modeldeck("run", TINY, "--temperature", "0", "Please count.")
    assert asked.out == expected("count") + "\n"
    assert "its process is gone" in modeldeck("unload", TINY).out
    assert TINY in modeldeck("ps", "--history").out
    again = modeldeck("load", TINY, "-c", "fit", "-n", "--json").json
    assert (again["origins"]["context_length"], again["verdict"]) == ("model", "fits")
    assert modeldeck("load", TINY, "-n", "--json").json["origins"]["context_length"] == "last use"
    assert "Deleting gives back" in modeldeck("rm", "--dry-run", TINY).out
    assert "freed" in modeldeck("rm", "--yes", TINY).out
    assert TINY not in modeldeck("ls", "-d").out


def test_the_main_job_in_json(core: CoreProcess, modeldeck: Command) -> None:
    assert modeldeck("search", "tiny", "--json").json["hits"]
    fit = modeldeck("fit", TINY, "-c", "512", "--json").json
    assert (fit["verdict"], fit["exact"]) == ("fits", True)
    pulled = modeldeck("pull", TINY, "--json").json
    assert pulled["download"]["state"] == "completed"
    assert pulled["model"]["unique"] == TINY
    (listed,) = modeldeck("ls", "--downloaded", "--json").json
    assert listed["unique"] == TINY
    loaded = modeldeck("load", TINY, "-c", "512", "--json").json
    assert loaded["state"] == "ready"
    assert loaded["measured_bytes"] > 0
    (instance,) = modeldeck("ps", "--json").json
    assert instance["id"] == loaded["id"]
    asked = modeldeck("run", TINY, "--temperature", "0", "--json", "Please count.").json
    assert asked["text"] == expected("count")
    assert asked["finish_reason"] == "stop"
    assert asked["tokens_per_s"] > 0
    assert modeldeck("unload", "--all", "--json").json["process_gone"]
    assert modeldeck("rm", "-n", TINY, "--json").json["freed_bytes"] > 0
    assert modeldeck("rm", "-y", TINY, "--json").json["freed_bytes"] > 0
    status = modeldeck("status", "--json").json
    assert status["running"]
    assert status["host"]["pid"] == core.process.pid


def test_a_question_loads_the_model_and_may_come_through_a_pipe(
    core: CoreProcess, modeldeck: Command
) -> None:
    modeldeck("pull", TINY)
    words = ("run", TINY, "--temperature", "0", "-c", "512", "--system", "Say json.")
    assert modeldeck(*words, given="What now?\n").out.endswith(expected("json") + "\n")
    assert len(modeldeck("ps", "--json").json) == 1


def test_a_thought_is_no_part_of_the_answer(core: CoreProcess, modeldeck: Command) -> None:
    modeldeck("pull", THINKER)
    words = ("run", THINKER, "--temperature", "0", "Please count.")
    assert modeldeck(*words).out.endswith(expected("count") + "\n")
    assert "".join(THOUGHT) not in modeldeck(*words).out
    asked = modeldeck(*words, "--json").json
    assert (asked["text"], asked["thought"]) == (expected("count"), "".join(THOUGHT))
    assert asked["thought_tokens"] == len(THOUGHT) + 2
    assert modeldeck(*words, "--no-think", "--json").json["thought"] == ""
    code, drawn = on_terminal(*words)
    assert code == 0, drawn
    assert "thinking: Let me see" in drawn
    last = drawn.rsplit("\r\x1b[K", 1)[1]
    assert "thought for" in last
    assert f"{expected('count')}\r\n" in last
    assert "8 of them thought" in last


def test_a_pipe_gets_plain_lines(core: CoreProcess, hub: DemoHub, modeldeck: Command) -> None:
    hub.rate_bytes_per_s = 40_000_000
    lines = modeldeck("pull", PADDED).out
    assert not set(lines) & {"\r", "\x1b"}
    assert any("downloading" in line for line in lines.splitlines()), lines
    assert 2 <= len(lines.splitlines()) <= 15


def test_a_terminal_gets_one_line_that_changes(
    core: CoreProcess, hub: DemoHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELDECK_TUI_NOTIFY_AFTER_S", "0")
    hub.rate_bytes_per_s = 20_000_000
    code, shown = on_terminal("pull", PADDED)
    assert code == 0, shown
    drawn = re.findall(r"\r↓ deck/padded-GGUF:F16  [▇▁]{10} +\d+ %  .{1,40}?\x1b\[K", shown)
    assert len(drawn) > 1, shown
    last = shown.rsplit("\r\x1b[K", 1)[1]
    done = r"(\x1b\[32m)?✓(\x1b\[0m)? deck/padded-GGUF:F16 downloaded: .*\r\n\a"
    assert re.fullmatch(done, last), "and a bell at the end"


# Errors and exit codes


def test_every_error_has_one_exit_code() -> None:
    codes = {
        "error": 1,
        "invalid_request": 2,
        "not_found": 3,
        "ambiguous": 3,
        "conflict": 4,
        "in_use": 4,
        "not_downloaded": 4,
        "already_running": 4,
        "cancelled": 4,
        "busy": 4,
        "not_enough_disk": 5,
        "not_enough_memory": 5,
        "hub_unavailable": 6,
        "gated": 6,
        "core_unreachable": 7,
        "engine_missing": 8,
        "engine_failed": 1,
        "corrupt": 1,
        "timed_out": 9,
        "incompatible": 7,
        "unauthorized": 10,
        "forbidden": 10,
    }
    for code, number in codes.items():
        assert exit_code(errors.BY_CODE[code]("It happened.")) == number, code


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["load", "nobody/nothing-GGUF:X"], 3),
        (["unload", "bartowski/SmolLM2-135M-Instruct-GGUF:Q4_K_M"], 4),
        (["run", "bartowski/SmolLM2-135M-Instruct-GGUF:Q4_K_M", "hello"], 4),
        (["rm", "--yes", "bartowski/SmolLM2-135M-Instruct-GGUF:Q4_K_M"], 4),
        (["pull", "--cancel", "bartowski/SmolLM2-135M-Instruct-GGUF:Q4_K_M"], 4),
        (["pull", "deck/nothing-GGUF:X"], 3),
        (["unload"], 2),
        (["pull", "--discard", "x"], 2),
        (["load"], 2),
        (["no-such-command"], 2),
    ],
)
def test_what_cannot_be_done_is_said_on_standard_error(
    core: CoreProcess, modeldeck: Command, words: list[str], code: int
) -> None:
    done = modeldeck(*words, code=code)
    assert done.out == ""
    assert done.err.strip()
    assert "Traceback" not in done.err


def test_an_error_in_json_is_the_apis_own(core: CoreProcess, modeldeck: Command) -> None:
    done = modeldeck("load", "nobody/nothing-GGUF:X", "--json", code=3)
    error = json.loads(done.err)["error"]
    assert error["code"] == "not_found"
    assert error["remedy"]


def test_a_gated_repository_names_the_way_in(core: CoreProcess, modeldeck: Command) -> None:
    assert "deck/gated-GGUF" in modeldeck("pull", "deck/gated-GGUF", code=6).err


def test_a_corrupt_file_fails_with_its_reason(core: CoreProcess, modeldeck: Command) -> None:
    names = modeldeck("search", "deck/corrupt-GGUF", "--json").json["variants"]
    done = modeldeck("pull", names[0]["unique"], code=1)
    assert "sha" in done.err.casefold() or "hash" in done.err.casefold()


def test_nothing_is_deleted_without_a_yes(core: CoreProcess, modeldeck: Command) -> None:
    modeldeck("pull", TINY)
    refused = modeldeck("rm", TINY, code=2)
    assert "--yes" in refused.err
    assert TINY in modeldeck("ls", "-d").out
    code, shown = on_terminal("rm", TINY, given="n\n")
    assert code == 4
    assert shown.index("Deleting gives back") < shown.index("Delete?")
    assert "Nothing was deleted" in shown
    assert TINY in modeldeck("ls", "-d").out
    assert on_terminal("rm", TINY, given="y\n")[0] == 0
    assert TINY not in modeldeck("ls", "-d").out


def test_a_loaded_model_is_deleted_only_by_force(core: CoreProcess, modeldeck: Command) -> None:
    modeldeck("pull", TINY)
    modeldeck("load", TINY, "-c", "512")
    refused = modeldeck("rm", "--yes", TINY, code=4)
    assert "loaded" in refused.err
    modeldeck("rm", "--yes", "--force", TINY)


# ctrl-C


def test_a_download_outlives_ctrl_c(core: CoreProcess, hub: DemoHub, modeldeck: Command) -> None:
    hub.rate_bytes_per_s = 200_000  # of each connection
    with subprocess.Popen(
        [PROGRAM, "pull", PADDED], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as pull:
        assert pull.stdout is not None
        assert PADDED in pull.stdout.readline()
        pull.send_signal(signal.SIGINT)
        _, err = pull.communicate()
    assert pull.returncode == 130
    assert f"modeldeck pull --cancel {PADDED}" in err
    assert "Traceback" not in err
    hub.rate_bytes_per_s = None

    async def finished() -> None:
        async with Client(socket=core.socket) as client:
            await client.feed.until(
                lambda s: any(d.state == "completed" for d in s.downloads.values())
            )

    asyncio.run(finished())
    assert PADDED in modeldeck("ls", "-d").out


def test_a_download_is_cancelled_and_goes_on_later(
    core: CoreProcess, hub: DemoHub, modeldeck: Command
) -> None:
    hub.rate_bytes_per_s = 200_000  # of each connection
    modeldeck("pull", "--detach", PADDED)
    cancelled = modeldeck("pull", "--cancel", PADDED, "--json").json
    assert cancelled["state"] == "canceled"
    hub.rate_bytes_per_s = None
    modeldeck("pull", PADDED)  # it may be complete already: the new core goes on by itself
    assert PADDED in modeldeck("ls", "--downloaded").out


# A core of its own


@pytest.fixture
def alone(home: Path, hub: DemoHub, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home where no core runs, and a hub for the one that will."""
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("MODELDECK_API_PORT", "0")
    return home


def test_a_core_is_started_when_needed_and_ends_when_idle(alone: Path, modeldeck: Command) -> None:
    listed = modeldeck("ls", "--json")
    assert len(listed.json) > 40
    assert listed.err == ""
    assert not locate().socket.exists()
    assert modeldeck("status", "--json", code=7).json == {"running": False}
    assert "modeldeck serve" in modeldeck("status", code=7).err
    assert modeldeck("stop").out == "No core was running.\n"


def test_a_core_that_has_something_to_do_stays(alone: Path, modeldeck: Command) -> None:
    modeldeck("pull", TINY)
    loaded = modeldeck("load", TINY, "-c", "512")
    assert "`modeldeck stop` ends it" in loaded.err
    try:
        assert "1 loaded" in modeldeck("status", "--line").out
        assert "modeldeck" in modeldeck("status").out
    finally:
        assert modeldeck("stop", "--json").json == {"stopped": True}
    assert asyncio.run(daemon.find(locate())) is None


def test_ctrl_c_in_a_pull_that_started_the_core_names_both_ways_out(
    alone: Path, hub: DemoHub, modeldeck: Command
) -> None:
    hub.rate_bytes_per_s = 200_000  # of each connection
    with subprocess.Popen(
        [PROGRAM, "pull", PADDED], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as pull:
        assert pull.stdout is not None
        assert PADDED in pull.stdout.readline()
        pull.send_signal(signal.SIGINT)
        _, err = pull.communicate()
    assert pull.returncode == 130
    assert "pull --cancel" in err
    assert "The core keeps running: a download is running. `modeldeck stop` ends it." in err
    assert f"download   {PADDED}" in modeldeck("status").out
    modeldeck("stop")
    hub.rate_bytes_per_s = None
    assert modeldeck("pull", PADDED, "--json").json["download"]["state"] == "completed"


def test_a_core_that_dies_in_mid_pull_is_said(
    core: CoreProcess,
    hub: DemoHub,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    hub.rate_bytes_per_s = 200_000  # of each connection
    monkeypatch.setattr(models, "PATIENCE_S", 0.0)

    async def pull() -> None:
        async with Client(socket=core.socket) as client:
            await models.pull(client, Output(), [PADDED], detach=False)

    async def killed() -> None:
        pulling = asyncio.create_task(pull())
        async with Client(socket=core.socket) as client:
            await client.feed.until(lambda s: any(d.received_bytes for d in s.downloads.values()))
        core.kill()
        with pytest.raises(errors.CoreUnreachable, match="went away"):
            await pulling

    asyncio.run(killed())
    assert PADDED in capfd.readouterr().out
    core.start()


def test_serve_prints_one_line_of_json_when_it_answers(alone: Path) -> None:
    with subprocess.Popen(
        [PROGRAM, "serve", "--port", "0", "--ready-json"], stdout=subprocess.PIPE, text=True
    ) as core:
        assert core.stdout is not None
        ready = json.loads(core.stdout.readline())
        assert ready["ready"] is True
        assert ready["home"] == os.environ["MODELDECK_HOME"]
        assert ready["hub"] == os.environ["HF_ENDPOINT"]
        assert Path(ready["socket"]).is_socket()
        assert ready["url"].startswith("http://127.0.0.1:")
        core.terminate()
        assert core.stdout.read() == ""
    assert core.returncode == 0


def test_bad_lines_of_the_configuration_are_named_and_do_not_stop_it(
    alone: Path, modeldeck: Command
) -> None:
    locate().config.mkdir(parents=True)
    locate().config_file.write_text("[api]\nprot = 1\n")
    with subprocess.Popen(
        [PROGRAM, "serve", "--port", "0"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as core:  # fmt: skip
        assert core.stdout is not None
        assert core.stderr is not None
        assert "answers on" in core.stdout.readline()
        assert "config.toml:2" in core.stderr.readline()
        assert "config.toml:2" in modeldeck("status").out
        core.terminate()
    assert core.returncode == 0
