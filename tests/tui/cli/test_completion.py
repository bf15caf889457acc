"""Completion, in the shells themselves, and the manual."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pexpect  # type: ignore[import-untyped] # it has no types
import pytest
from click.testing import CliRunner

from modeldeck.tui.cli.completion import candidates, script
from modeldeck.tui.cli.help_topics import TOPICS
from modeldeck.tui.cli.main import main
from tests.support.process import CoreProcess

SMOLLM = "bartowski/SmolLM2-135M-Instruct-GGUF:Q4_K_M"
PROGRAMS = sysconfig.get_path("scripts")


def offered(*words: str) -> list[str]:
    return [value for value, _ in candidates(main, words)]


def test_commands_options_and_choices_are_offered(home: Path) -> None:
    assert {"pull", "ps", "pause"} <= set(offered("p"))
    assert offered("completion", "") == ["bash", "zsh", "fish"]
    assert "--detach" in offered("pull", "--")
    assert offered("wait", SMOLLM, "l") == ["loaded"]
    assert "bridge" not in offered(""), "what is no person's is not offered"


def test_models_are_offered_of_the_catalog_without_a_core(home: Path) -> None:
    assert offered("pull", "BARTOWSKI/smollm2") == [SMOLLM]
    assert SMOLLM in offered("@gpu1", "load", "bart")


def test_models_are_offered_of_the_core_that_runs(core: CoreProcess) -> None:
    assert SMOLLM in offered("fit", "bartowski/")
    assert SMOLLM.partition("/")[2] in offered("fit", "smollm2-135"), "without the owner"
    assert offered("unload", "") == [], "nothing is loaded"
    assert offered("rm", "") == [], "nothing is downloaded"


def test_machines_are_offered_by_their_names(home: Path) -> None:
    (home / "config").mkdir(parents=True)
    (home / "config" / "config.toml").write_text('[hosts]\ngpu1 = "a"\ngpu2 = "b"\n')
    assert offered("@g") == ["@gpu1", "@gpu2"]
    assert offered("copy", "m", "@") == ["@gpu1", "@gpu2", "@local", "@all"]


def environ() -> dict[str, str]:
    return {
        **os.environ,
        "PATH": f"{PROGRAMS}:{os.environ['PATH']}",
        "LC_ALL": "C.UTF-8",
        "TERM": "dumb",
    }


def in_bash(words: str) -> str:
    script = (
        f'eval "$(modeldeck completion bash)"; COMP_LINE="{words}"; COMP_POINT=${{#COMP_LINE}}; '
        "COMP_WORDBREAKS=$' \\t\\n:'; _modeldeck; "
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    return run("bash", "--norc", "-c", script)


def in_fish(words: str) -> str:
    said = run("fish", "-c", f'modeldeck completion fish | source; complete -C "{words}"')
    return said.split("\t")[0]


def run(*words: str) -> str:
    done = subprocess.run(words, env=environ(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def in_zsh(words: str) -> str:
    """It completes on a terminal alone, by the tab key."""
    zsh = pexpect.spawn(
        "zsh", ["-f", "-i"], env=environ(), encoding="utf-8", dimensions=(24, 200), timeout=90
    )
    load = "autoload -U compinit; compinit -u -D"
    zsh.sendline(f"PS1='ready$ '; {load}; eval \"$(modeldeck completion zsh)\"; echo s''et")
    zsh.expect("\r\nset\r\n")
    zsh.send(f"{words}\t")
    zsh.expect(re.escape(SMOLLM) + " ")
    zsh.close(force=True)
    return SMOLLM


@pytest.mark.parametrize(
    ("shell", "complete", "wanted"),
    [("bash", in_bash, "Q4_K_M"), ("zsh", in_zsh, SMOLLM), ("fish", in_fish, SMOLLM)],
)
def test_a_shell_completes_names_with_colons(
    shell: str, complete: Callable[[str], str], wanted: str, home: Path
) -> None:
    if shutil.which(shell) is None:
        missing = pytest.fail if os.environ.get("CI") else pytest.skip
        missing(f"{shell} is not installed")
    assert complete(f"modeldeck pull {SMOLLM[:-2]}") == wanted


def test_every_script_asks_the_same_command() -> None:
    for shell in ("bash", "zsh", "fish"):
        assert "modeldeck complete -- " in script(shell)


# Help


def test_help_lists_and_explains_topics_and_commands() -> None:
    listed = CliRunner().invoke(main, ["help"]).output
    for name in (*TOPICS, "cache verify", "service install", "copy"):
        assert f"  {name} " in listed
    for name, topic in TOPICS.items():
        assert CliRunner().invoke(main, ["help", name]).output == f"{topic.text}\n"
    assert "Usage: modeldeck cache rm" in CliRunner().invoke(main, ["help", "cache", "rm"]).output
    assert CliRunner().invoke(main, ["help", "nothing"]).exit_code == 2


def test_the_man_page_has_all_of_it() -> None:
    page = CliRunner().invoke(main, ["help", "--man"]).output
    assert page.startswith('.TH MODELDECK 1 "" "modeldeck ')
    for name in ("cache verify", "service install", "wait"):
        assert f'.SS "modeldeck {name} ' in page
    assert "\\-\\-timeout" in page
    assert '.SH "EXIT STATUS"' in page
    starts = {".TH", ".SH", ".SS", ".TP", ".PP", ".B", ".nf", ".fi", ".RS", ".RE"}
    requests = [line.split(" ")[0] for line in page.splitlines() if line.startswith((".", "'"))]
    assert set(requests) <= starts, "no text is taken for a request"
