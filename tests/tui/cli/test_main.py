"""The main job in commands, on a real core, hub and llama.cpp, as a script would use it."""

from __future__ import annotations

import asyncio
import re

import pytest

from modeldeck.core.client.client import Client
from modeldeck.core.demo.hub import DemoHub
from modeldeck.core.demo.vocabulary import THOUGHT, expected
from tests.support.process import CoreProcess
from tests.tui.cli.as_script import PADDED, THINKER, TINY, Command, interrupted_pull, on_terminal


@pytest.fixture
def hub(shared_hub: DemoHub) -> DemoHub:
    """The hub of all tests here."""
    return shared_hub


@pytest.fixture
def core(tidy_core: CoreProcess) -> CoreProcess:
    """The core of all tests here, empty at the start of each."""
    return tidy_core


# The main job


def test_the_main_job_in_words(core: CoreProcess, modeldeck: Command) -> None:
    assert "deck/tiny-GGUF" in modeldeck("search", "tiny").out
    assert TINY in modeldeck("search", "deck/tiny-GGUF").out
    assert "No results for “xyzzy” on the Hub." in modeldeck("search", "xyzzy").err
    assert "No match here. `modeldeck search`" in modeldeck("ls", "xyzzy").err
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
    assert f"Unloaded {TINY}: " in modeldeck("unload", TINY).out
    assert TINY in modeldeck("ps", "--history").out
    again = modeldeck("load", TINY, "-c", "fit", "-n", "--json").json
    assert (again["origins"]["context_length"], again["verdict"]) == ("model", "fits")
    assert modeldeck("load", TINY, "-n", "--json").json["origins"]["context_length"] == "last use"
    assert "MB come back." in modeldeck("rm", "--dry-run", TINY).out
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


def test_a_loaded_model_is_loaded_anew_only_when_asked_and_options_are_saved(
    core: CoreProcess, modeldeck: Command
) -> None:
    modeldeck("pull", TINY)
    modeldeck("load", TINY, "-c", "512")
    assert modeldeck("load", TINY, "-c", "512", "--json").json["context_length"] == 512
    refused = modeldeck("load", TINY, "-c", "1k", "--save", code=4)
    assert "is loaded already with 512 context; --reload loads it anew." in refused.err
    refused = modeldeck("run", TINY, "-c", "1024", "Please count.", code=4)
    assert "`modeldeck load --reload` loads it anew." in refused.err
    assert "nothing is saved" in modeldeck("defaults", TINY).out
    plan = modeldeck("load", TINY, "-c", "1k", "--reload", "--dry-run").out
    assert f"first    unload {TINY}, which is loaded: " in plan
    done = modeldeck("load", TINY, "-c", "1k", "--reload", "--save").out
    assert "saved as its defaults" in done
    (instance,) = modeldeck("ps", "--json").json
    assert instance["context_length"] == 1024
    assert "context_length=1024" in modeldeck("defaults", TINY, "--kv-cache-type", "q8_0").out
    modeldeck("unload", "--all")
    plan = modeldeck("load", TINY, "--dry-run", "--json").json
    assert plan["origins"]["kv_cache_type"] == "saved"
    assert "nothing is saved" in modeldeck("defaults", TINY, "--forget").out


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
    hub.rate_bytes_per_s = 2_000_000  # of each connection
    lines = modeldeck("pull", PADDED).out
    assert not set(lines) & {"\r", "\x1b"}
    assert any("downloading" in line for line in lines.splitlines()), lines
    assert 2 <= len(lines.splitlines()) <= 15


def test_a_terminal_gets_one_line_that_changes(
    core: CoreProcess, hub: DemoHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELDECK_TUI_NOTIFY_AFTER_S", "0")
    hub.rate_bytes_per_s = 1_000_000  # of each connection
    code, shown = on_terminal("pull", PADDED)
    assert code == 0, shown
    drawn = re.findall(r"\r↓ deck/padded-GGUF:F16  [▇▁]{10} +\d+ %  .{1,40}?\x1b\[K", shown)
    assert len(drawn) > 1, shown
    last = shown.rsplit("\r\x1b[K", 1)[1]
    done = r"(\x1b\[32m)?✓(\x1b\[0m)? deck/padded-GGUF:F16 downloaded: .*\r\n\a"
    assert re.fullmatch(done, last), "and a bell at the end"


# ctrl-C


def test_a_download_outlives_ctrl_c(core: CoreProcess, hub: DemoHub, modeldeck: Command) -> None:
    hub.rate_bytes_per_s = 50_000  # of each connection: it takes minutes
    err = interrupted_pull(PADDED)
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
    hub.rate_bytes_per_s = 50_000  # of each connection: it takes minutes
    modeldeck("pull", "--detach", PADDED)
    cancelled = modeldeck("pull", "--cancel", PADDED, "--json").json
    assert cancelled["state"] == "canceled"
    hub.rate_bytes_per_s = None
    modeldeck("pull", PADDED)  # it may be complete already: the new core goes on by itself
    assert PADDED in modeldeck("ls", "--downloaded").out
