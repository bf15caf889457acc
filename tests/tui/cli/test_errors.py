"""What a command says when it cannot do its work, and its exit code; deletions ask first."""

from __future__ import annotations

import json

import pytest

from modeldeck.core import errors
from modeldeck.core.demo.hub import DemoHub
from modeldeck.tui.cli.runner import exit_code
from tests.support.process import CoreProcess
from tests.tui.cli.as_script import TINY, Command, on_terminal


@pytest.fixture
def hub(shared_hub: DemoHub) -> DemoHub:
    """The hub of all tests here."""
    return shared_hub


@pytest.fixture
def core(tidy_core: CoreProcess) -> CoreProcess:
    """The core of all tests here, empty at the start of each."""
    return tidy_core


def test_every_error_has_one_exit_code() -> None:
    codes = {
        "error": 1,
        "invalid_request": 2,
        "not_found": 3,
        "ambiguous": 3,
        "conflict": 4,
        "in_use": 4,
        "loaded_already": 4,
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
    assert shown.index("come back.") < shown.index("Delete?")
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
