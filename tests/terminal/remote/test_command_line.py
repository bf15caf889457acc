"""Commands on other machines, over a real ssh."""

from __future__ import annotations

import json
import subprocess
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pexpect  # type: ignore[import-untyped] # it has no types
import pytest

from modeldeck.core.client import daemon
from modeldeck.core.config.paths import locate
from modeldeck.core.demo.vocabulary import expected

if TYPE_CHECKING:
    from tests.terminal.remote.conftest import Host, Machines

PROGRAM = str(Path(sysconfig.get_path("scripts")) / "modeldeck")
TINY = "deck/tiny-GGUF:Q8_0"


def run(*words: str, code: int = 0) -> tuple[str, str]:
    """What a command says, on standard output and on standard error."""
    done = subprocess.run(
        [PROGRAM, *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, (done.stdout, done.stderr)
    return done.stdout, done.stderr


def told(*words: str) -> list[Any]:
    """The documents that a command answers."""
    return [json.loads(line) for line in run(*words, "--json")[0].splitlines()]


def test_a_model_is_fetched_and_used_over_there(machines: Machines) -> None:
    """The core is started there, stays while it has something to do, and is told to end."""
    (gpu,) = machines("gpu1")
    run("@gpu1", "pull", TINY)
    assert daemon.read_ready(gpu.paths) is None, "an idle core that was started here has ended"
    said = run("@gpu1", "load", TINY, "-c", "512")[1]
    assert "gpu1: The core keeps running: a model is loaded." in said
    (state,) = told("@gpu1", "status")
    assert [i["unique"] for i in state["instances"]] == [TINY]
    assert state["host"]["socket"] == str(gpu.paths.socket)
    run("@gpu1", "stop")
    out, err = run("@gpu1", "status", "--json", code=7)
    assert json.loads(out) == {"running": False}
    assert "No core is running there" in err


def test_a_conversation_over_there_is_kept_here(machines: Machines) -> None:
    """ctrl-C stops the answer alone, not the line of ssh that runs in the same terminal."""
    (gpu,) = machines("gpu1", cores=True)
    gpu.fetch(TINY)
    run("@gpu1", "load", TINY, "-c", "65536")
    chat = pexpect.spawn(PROGRAM, ["@gpu1", "chat", TINY], encoding="utf-8", timeout=60)
    chat.expect_exact("Saved on this machine")
    chat.send("loop\r")
    chat.expect_exact("Tick tock")
    chat.send("\x03")
    chat.expect_exact("[stopped]")
    chat.send("/new\rPlease count.\r")
    chat.expect_exact(expected("count"))
    chat.expect_exact("[saved as chat 2]")
    logins = gpu.log.count("Accepted publickey")
    gpu.line.cut()
    chat.send("And again?\r")
    chat.expect_exact("Waiting for it; ctrl-C ends the wait.")
    gpu.line.mend()
    chat.expect_exact("The core is back; /retry asks again.")
    chat.send("/retry\r\x04")
    chat.expect_exact(expected("count"))
    chat.expect(pexpect.EOF)
    chat.close()
    assert chat.exitstatus == 0
    assert gpu.log.count("Accepted publickey") > logins
    assert locate().chats.exists()
    assert not gpu.paths.chats.exists()


def test_several_machines_answer_each_for_itself(machines: Machines, home: Path) -> None:
    machines("gpu1", "gpu2", cores=True)
    (home / "config").mkdir(parents=True)
    (home / "config" / "config.toml").write_text(
        '[hosts]\ngpu1 = "gpu1"\nsecond = { ssh = "gpu2" }\ngone = "nobody.invalid"\n'
    )
    out, err = run("@all", "ps", "--json", code=7)
    answers = [json.loads(line) for line in out.splitlines()]
    assert answers == [{"machine": name, "answer": []} for name in ("gpu1", "second")]
    (failed,) = [json.loads(line) for line in err.splitlines() if line.startswith("{")]
    assert failed["machine"] == "gone"
    assert failed["error"]["code"] == "core_unreachable"
    out, err = run("@gpu1", "@second", "fit", TINY, "-c", "512")
    assert out.splitlines()[0] == "gpu1"
    assert out.count("fits: ") == 2


def changed(host: Host, **fields: Any) -> None:
    """Have the core of a machine say something else of itself."""
    said = msgspec.json.decode(host.paths.ready_file.read_bytes())
    host.paths.ready_file.write_bytes(msgspec.json.encode(said | fields))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"version": "9.9", "protocol": 99, "oldest_protocol": 98}, "9.9 on gpu1 is too new"),
        ({"version": "0.0.1", "protocol": 0}, "0.0.1 on gpu1 is too old"),
    ],
)
def test_a_core_that_is_not_understood_is_told_with_both_versions(
    machines: Machines, fields: dict[str, Any], words: str
) -> None:
    (gpu,) = machines("gpu1", cores=True)
    changed(gpu, **fields)
    said = run("@gpu1", "ps", code=7)[1]
    assert words in said
    assert "Update modeldeck" in said


def test_what_is_missing_over_there_is_said(machines: Machines) -> None:
    (gpu,) = machines("gpu1")
    gpu.program.unlink()
    assert "There is no modeldeck on gpu1." in run("@gpu1", "ps", code=7)[1]
    gpu.program.write_text("#!/bin/sh\necho \"Error: No such command 'bridge'.\" >&2\nexit 2\n")
    gpu.program.chmod(0o755)
    assert "too old to be reached over ssh" in run("@gpu1", "ps", code=7)[1]


def test_who_is_not_let_in_is_told_what_to_do(machines: Machines) -> None:
    (gpu,) = machines("gpu1")
    gpu.authorized.write_text("")
    said = run("@gpu1", "ps", code=10)[1]
    assert "gpu1 does not let us in without a question" in said
    assert "`ssh-add`" in said
    assert "Permission denied" in said


def test_an_sshd_that_carries_no_sockets_is_named(machines: Machines) -> None:
    (gpu,) = machines("gpu1", cores=True)
    gpu.restart("AllowStreamLocalForwarding no\n")
    assert "AllowStreamLocalForwarding" in run("@gpu1", "ps", code=4)[1]


def test_a_persons_own_master_is_used_and_left_as_it_was(machines: Machines, home: Path) -> None:
    (gpu,) = machines("gpu1", cores=True)
    control = ("-o", f"ControlPath={home.parent}/own", "gpu1")
    gpu.configure(f"ControlPath {home.parent}/own")
    subprocess.run(["ssh", "-M", "-f", "-N", *control], check=True, stderr=subprocess.DEVNULL)
    try:
        logins = len(gpu.sessions)
        assert told("@gpu1", "ps") == [[]]
        assert gpu.log.count("Accepted publickey") == 1
        assert len(gpu.sessions) == logins
    finally:
        subprocess.run(["ssh", "-O", "exit", *control], check=True, stderr=subprocess.DEVNULL)
