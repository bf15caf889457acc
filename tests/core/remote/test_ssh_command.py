"""What `ssh` is called with, and what its failures mean."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from modeldeck.core.config.config import RemoteSettings
from modeldeck.core.errors import CoreUnreachable, DeckError, Forbidden
from modeldeck.core.remote.ssh_command import (
    MISSING,
    SshTarget,
    asks,
    check_socket,
    command,
    failure,
    is_uncompressed,
)

OWN = SshTarget(destination="me@gpu1", control=Path("/tmp/md-x/master"))
THEIRS = SshTarget(destination="me@gpu1", control=None)


def test_a_line_of_ours_is_a_master_and_asks_only_where_it_may() -> None:
    asking, silent = OWN.line("run", batch=False), OWN.line("run", batch=True)
    assert "BatchMode=no" in asking
    assert "BatchMode=yes" in silent
    assert "ControlPath=/tmp/md-x/master" in asking
    assert "ControlMaster=yes" in asking
    assert asking[-3:] == ["--", "me@gpu1", "run"]


def test_a_persons_own_master_is_used_as_it_is() -> None:
    words = " ".join(THEIRS.line("run", batch=True) + THEIRS.forward("/h", "/t"))
    assert "Control" not in words


def test_sockets_are_carried_both_ways() -> None:
    assert OWN.forward("/here", "/there")[-4:] == ["-L", "/here:/there", "--", "me@gpu1"]
    assert OWN.forward("/here", "/there", back=True)[-4:-2] == ["-R", "/there:/here"]
    assert OWN.cancel("/here", "/there")[4] == "cancel"


SHELLS = [s for s in ("sh", "bash", "dash", "zsh", "fish", "csh", "tcsh") if shutil.which(s)]
"""Those that are here; the first two are everywhere."""


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_understands_the_command(shell: str, tmp_path: Path) -> None:
    """As sshd does: the login shell is given all of it as one word."""
    program = tmp_path / ".local" / "bin" / "modeldeck"
    environ = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    words = [str(shutil.which(shell)), "-c", command(RemoteSettings(ssh="x"), start=True)]
    done = subprocess.run(words, env=environ, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == (f"{MISSING}\n", 127), done
    program.parent.mkdir(parents=True)
    program.write_text('#!/bin/sh\necho "$@"\n')
    program.chmod(0o755)
    done = subprocess.run(words, env=environ, capture_output=True, text=True, check=True)
    assert done.stdout == "bridge\n"


def test_a_command_of_the_configuration_is_taken_as_it_is() -> None:
    remote = RemoteSettings(ssh="x", command="env A=1 /opt/md/bin/modeldeck")
    assert command(remote, start=False) == "exec env A=1 /opt/md/bin/modeldeck bridge --existing"


@pytest.mark.parametrize(
    ("status", "said", "heard", "kind", "words"),
    [
        (127, "", MISSING, CoreUnreachable, "no modeldeck on gpu1"),
        (127, "sh: modeldeck: not found", "", CoreUnreachable, "no modeldeck on gpu1"),
        (2, "Error: No such command 'bridge'.", "", CoreUnreachable, "too old"),
        (255, "me@gpu1: Permission denied (publickey).", "", Forbidden, "without a question"),
        (255, "Host key verification failed.", "", Forbidden, "without a question"),
        (255, "ssh: connect to host gpu1 port 22: Connection refused", "", CoreUnreachable,
         "gpu1 cannot be reached: ssh: connect to host gpu1 port 22: Connection refused."),
        (255, "", "", CoreUnreachable, "without a word"),
        (None, "", "", CoreUnreachable, "did not answer"),
        (1, "Traceback", "", CoreUnreachable, "ended with status 1"),
    ],
)  # fmt: skip
def test_a_failure_says_what_is_the_matter(
    status: int | None, said: str, heard: str, kind: type[DeckError], words: str
) -> None:
    error = failure("gpu1", status, said, heard)
    assert type(error) is kind
    assert words in error.message


def test_who_was_asked_is_not_told_to_let_himself_be_asked() -> None:
    said = "me@gpu1: Permission denied (password)."
    assert "to be asked" in failure("gpu1", 255, said, "").remedy
    error = failure("gpu1", 255, said, "", asked=True)
    assert isinstance(error, Forbidden)
    assert error.message == "gpu1 does not let us in."
    assert error.details == (said,)


def test_only_a_question_is_worth_asking_again() -> None:
    assert asks("Permission denied (publickey,password).")
    assert not asks("Connection timed out")


@pytest.mark.parametrize(
    "path",
    [
        "/run/user/1000/modeldeck/core.sock",
        "/Users/me/Library/Application Support/modeldeck/run/core.sock",
        "/home/jürgen/core.sock",
        "/" + "a" * 106,
    ],
)
def test_the_path_of_a_socket_is_carried_as_it_is(path: str) -> None:
    check_socket(path)


@pytest.mark.parametrize(
    "path",
    [
        "", "relative", "~/core", "/a:/b", "/a:22", "/a\nb", "/a\0b", "/a\x1b[2Jb", "/a\u202eb",
        "/a\\b", "/%h/a", "/${HOME}/a", "/a/../b", "/..", "/a/./b", "//a", "/a/", "/",
        "/" + "a" * 107, "/" + "ü" * 54, None, 7, ["/a"], b"/a",
    ],
)  # fmt: skip
def test_what_ssh_would_take_for_something_else_is_no_path_of_a_socket(path: object) -> None:
    with pytest.raises(CoreUnreachable, match="ssh cannot carry the socket") as raised:
        check_socket(path)
    assert raised.value.message.isprintable()
    assert len(raised.value.message) < 400
    with pytest.raises(CoreUnreachable):
        OWN.forward("/here", path)  # type: ignore[arg-type] # as it comes from outside
    with pytest.raises(CoreUnreachable):
        OWN.forward("/here", path, back=True)  # type: ignore[arg-type] # as it comes from outside


def test_weights_go_over_a_line_without_compression() -> None:
    assert "Compression=yes" in OWN.line("run", batch=True)
    bulk = replace(OWN, compressed=False).line("run", batch=True)
    assert "Compression=no" in bulk
    assert "Compression=yes" not in bulk


@pytest.mark.parametrize(
    ("configuration", "expected"),
    [
        (("user me", "compression no", "port 22"), True),
        (("Compression No",), True),
        (("compression yes",), False),
        (("compressionlevel no",), False),
        ((), False),
    ],
)
def test_a_persons_configuration_says_whether_it_compresses(
    configuration: tuple[str, ...], expected: bool
) -> None:
    assert is_uncompressed(configuration) is expected
