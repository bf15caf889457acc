"""What is written for systemd and launchd, judged by systemd itself where it is."""

from __future__ import annotations

import doctest
import os
import plistlib
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from modeldeck.tui.cli import manual, service_units
from modeldeck.tui.cli.actions import service
from modeldeck.tui.cli.main import main
from modeldeck.tui.cli.sd_notify import tell_ready

PROGRAM = (sys.executable, "-P", "-m", "modeldeck.tui.program", "serve")
ENVIRON = {
    "HOME": "/home/me", "HF_HOME": "/data/hf", "HF_TOKEN": "hf_secret", "PATH": "/bin",
    "MODELDECK_API_PORT": "5323", "MODELDECK_API_TOKEN": "secret", "https_proxy": "http://p:1",
}  # fmt: skip


def test_the_examples_hold() -> None:
    for module in (service_units, manual):
        assert doctest.testmod(module).failed == 0


def test_a_unit_takes_the_folders_along_and_no_secrets() -> None:
    plan = service_units.systemd_user(PROGRAM, ENVIRON, Path("/home/me"), Path("/s"))
    (unit,) = plan.files
    assert unit.path == Path("/home/me/.config/systemd/user/modeldeck.service")
    assert 'Environment="HF_HOME=/data/hf"' in unit.text
    assert 'Environment="MODELDECK_API_PORT=5323"' in unit.text
    assert "secret" not in unit.text
    assert "PATH=/bin" not in unit.text


def test_a_service_of_the_system_has_a_user_and_folders_of_its_own() -> None:
    person, unit = service_units.systemd_system(PROGRAM, ENVIRON).files
    assert person.text.startswith("u modeldeck ")
    for line in ("User=modeldeck", "ProtectSystem=strict", "RuntimeDirectoryMode=0750",
                 'Environment="MODELDECK_RUNTIME_DIR=/run/modeldeck"',
                 'Environment="https_proxy=http://p:1"'):  # fmt: skip
        assert line in unit.text.splitlines()
    assert "/data/hf" not in unit.text, "what is a person's stays theirs"


@pytest.mark.parametrize(
    ("word", "read"),
    [
        ("plain", '"plain"'),
        ("a b", '"a b"'),
        ('say "x"', r'"say \"x\""'),
        ("50%", '"50%%"'),
        ("back\\slash", r'"back\\slash"'),
        ("two\nlines", r'"two\nlines"'),
    ],
)
def test_words_are_quoted_as_systemd_reads_them(word: str, read: str) -> None:
    assert service_units.quoted(word) == read


@pytest.mark.parametrize("system", [False, True])
def test_systemd_finds_nothing_wrong_with_the_units(system: bool, tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        missing = pytest.fail if os.environ.get("CI") and sys.platform == "linux" else pytest.skip
        missing("systemd-analyze is not installed: apt install systemd")
    render = service_units.system_unit if system else service_units.user_unit
    unit = tmp_path / "modeldeck.service"
    unit.write_text(render(PROGRAM, service_units.environment(ENVIRON)))
    words = [analyze, "verify", "--man=no", *([] if system else ["--user"]), str(unit)]
    environ = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path)}
    done = subprocess.run(words, env=environ, capture_output=True, text=True, check=False)
    said = [line for line in done.stderr.splitlines() if "modeldeck.service" in line]
    assert said == [], done.stderr


def test_launchd_reads_the_agent() -> None:
    plan = service_units.launchd(
        PROGRAM, ENVIRON, Path("/Users/me"), uid=501, log=Path("/l/core.log"), socket=Path("/s")
    )
    (plist,) = plan.files
    assert plist.path == Path("/Users/me/Library/LaunchAgents/modeldeck.core.plist")
    read = plistlib.loads(plist.text.encode())
    assert read["ProgramArguments"] == list(PROGRAM)
    assert read["EnvironmentVariables"]["HF_HOME"] == "/data/hf"
    assert read["KeepAlive"] == {"SuccessfulExit": False}
    assert "secret" not in plist.text
    assert plan.enable == (("launchctl", "bootstrap", "gui/501", str(plist.path)),)


def test_what_would_be_done_is_shown_and_not_done(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home))
    shown = CliRunner().invoke(main, ["service", "install", "--show"])
    assert shown.exit_code == 0, shown.output
    assert "ExecStart=" in shown.output or "ProgramArguments" in shown.output
    assert not home.exists()
    status = CliRunner().invoke(main, ["service", "status", "--json"])
    assert status.output == '{"installed":false}\n'
    assert CliRunner().invoke(main, ["service", "uninstall"]).exit_code == 4


def test_where_systemd_does_not_run_it_is_said(
    home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(service, "BOOTED", tmp_path / "not")
    monkeypatch.setattr(sys, "platform", "linux")
    done = CliRunner().invoke(main, ["service", "install"])
    assert done.exit_code == 4
    assert "systemd does not run on this machine" in done.stderr
    assert "--show" in done.stderr


def test_a_program_that_its_own_user_could_not_read_is_not_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(sys, "executable", "/home/me/venv/bin/python")
    done = CliRunner().invoke(main, ["service", "install", "--system", "--show"])
    assert done.exit_code == 4
    assert "could not read /home/me/venv/bin/python" in done.stderr


def test_an_interpreter_of_a_home_is_no_more_readable_by_way_of_a_link(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    link = tmp_path / "python"
    link.symlink_to("/home/me/.local/share/uv/python/bin/python3")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(sys, "executable", str(link))
    done = CliRunner().invoke(main, ["service", "install", "--system", "--show"])
    assert done.exit_code == 4
    assert "could not read /home/me/.local/share/uv/python/bin/python3" in done.stderr


def test_a_service_that_does_not_start_is_told_with_what_it_said(
    home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    programs = {
        "systemctl": "case $* in *restart*) echo Job failed >&2; exit 1;; esac",
        "journalctl": "echo modeldeck: Port 1 cannot be used.",
    }
    for name, text in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home))
    monkeypatch.setattr(service, "BOOTED", tmp_path)
    monkeypatch.setattr(sys, "platform", "linux")
    done = CliRunner().invoke(main, ["service", "install"])
    assert done.exit_code == 1
    assert re.search(r"restart.* failed[\s\S]*Job failed[\s\S]*Port 1 cannot", done.stderr)


def test_systemd_is_told_that_the_service_answers(tmp_path: Path) -> None:
    places = {str(tmp_path / "s"): str(tmp_path / "s")}
    if sys.platform == "linux":  # nowhere else are names abstract
        places[f"@md{os.getpid()}"] = f"\0md{os.getpid()}"
    for address, place in places.items():
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
            listener.bind(place)
            environ = {"NOTIFY_SOCKET": address}
            tell_ready(environ)
            assert listener.recv(100, socket.MSG_DONTWAIT) == b"READY=1"
            assert environ == {}, "engines have nothing to say"
    tell_ready({})
    tell_ready({"NOTIFY_SOCKET": str(tmp_path / "nobody")})


def test_how_it_stands_is_read_from_what_systemd_says() -> None:
    said = "LoadState=loaded\nActiveState=active\nMainPID=7\n"
    assert service_units.standing(said)["ActiveState"] == "active"
