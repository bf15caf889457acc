"""Installing the core as a service, removing it, and saying how it stands."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from modeldeck import core
from modeldeck.core.client import daemon
from modeldeck.core.config.paths import locate
from modeldeck.core.errors import Conflict, DeckError, InvalidRequest, StorageFailed
from modeldeck.tui.cli import service_units
from modeldeck.tui.cli.output import Output
from modeldeck.tui.remote.machines import SYSTEM

if TYPE_CHECKING:
    from modeldeck.tui.cli.service_units import InstallPlan

BOOTED = Path("/run/systemd/system")
"""There where systemd runs the machine (sd_booted(3))."""
PROGRAM = (sys.executable, "-P", "-m", "modeldeck.tui.program", "serve")


def plan(*, system: bool) -> InstallPlan:
    """Plan the install for this service manager. Raises InvalidRequest, Conflict."""
    paths = locate()
    if sys.platform == "darwin":
        if system:
            raise InvalidRequest(
                "On macOS the service is a launchd agent of yours.", "Leave --system out."
            )
        return service_units.launchd(
            PROGRAM, os.environ, Path.home(), uid=os.getuid(), log=paths.core_log,
            socket=paths.socket,
        )  # fmt: skip
    if not system:
        return service_units.systemd_user(PROGRAM, os.environ, Path.home(), paths.socket)
    # An environment links to its interpreter, and may lead on to the code: each has to be readable.
    for path in (sys.executable, os.path.realpath(sys.executable), os.path.realpath(core.__file__)):
        if service_units.hidden_from_others(path):
            raise Conflict(
                f"The service's own user could not read {path}.",
                "Install modeldeck, and its Python, in a folder that all users can read:"
                " /usr/bin/python3 -m venv /opt/modeldeck, for example.",
            )
    return service_units.systemd_system(PROGRAM, os.environ)


async def install(*, system: bool, show: bool, json: bool) -> None:
    """Write the service and start it; `show`: only what would be done."""
    out, what = Output(json=json), plan(system=system)
    if show:
        _show(out, what)
        return
    _need_manager(what)
    fresh = not any(file.path.exists() for file in what.files)
    if fresh and not system and (ready := await daemon.find(locate())) is not None:
        raise Conflict(
            f"A core runs already, process {ready.pid}, and the service's could not start.",
            "End it with `modeldeck stop`, and try again. Its downloads go on in the service.",
        )
    await asyncio.to_thread(_write, what)
    started = time.time()
    for command in what.enable:
        try:
            await _call(command)
        except DeckError as error:
            error.details += await _last_words(what, started)
            raise
    out.done("modeldeck runs as a service")
    await _tell(out, what)
    if system:
        out.note(
            f"Members of the group {service_units.USER} reach it as `modeldeck @{SYSTEM}`:"
            f" `usermod -aG {service_units.USER} NAME` adds one."
        )
    elif await _ends_at_logout():
        out.note("It ends when you log out; `loginctl enable-linger` keeps it.")


async def uninstall(*, system: bool, json: bool) -> None:
    """Stop the service and remove what was written; models, settings and downloads stay."""
    out, what = Output(json=json), plan(system=system)
    there = [file for file in what.files if file.path.exists()]
    if not there:
        raise Conflict("modeldeck is not installed as a service.", "See `modeldeck service`.")
    _need_manager(what)
    for command in what.disable:
        await _call(command)
    for file in there:
        try:
            file.path.unlink()
        except OSError as error:
            raise _unwritable(file.path, error) from error
    for command in what.after:
        await _call(command)
    out.record({"removed": [str(file.path) for file in there]})
    out.done("the service is removed; models, settings and downloads stay")


async def status(*, system: bool, json: bool) -> None:
    """Say how the service stands."""
    out, what = Output(json=json), plan(system=system)
    if not any(file.path.exists() for file in what.files):
        out.record({"installed": False})
        out.line("not installed; `modeldeck service install --show` says what that would do")
        return
    _need_manager(what)
    await _tell(out, what)


async def _tell(out: Output, what: InstallPlan) -> None:
    said = await _call(what.look)
    facts = {
        "installed": True,
        "unit": str(what.files[-1].path),
        "socket": str(what.socket),
        "log": what.log,
    }
    if what.look[0] == "systemctl":
        known = service_units.standing(said)
        facts["state"] = f"{known.get('ActiveState', '?')} ({known.get('SubState', '?')})"
        facts["at start"] = known.get("UnitFileState", "?")
        facts["process"] = known.get("MainPID", "0")
    else:
        words = [line.strip() for line in said.splitlines() if line.strip().startswith("state =")]
        facts["state"] = words[0].removeprefix("state = ") if words else "?"
    out.record(facts)
    for name, value in facts.items():
        if name != "installed":
            out.line(f"  {name:<9} {value}")


def _show(out: Output, what: InstallPlan) -> None:
    """Print the install plan."""
    out.record({"files": {str(f.path): f.text for f in what.files}, "commands": what.enable})
    for file in what.files:
        out.line(out.bold(f"# {file.path}"))
        out.line(file.text)
    for command in what.enable:
        out.line(f"$ {' '.join(command)}")


def _need_manager(what: InstallPlan) -> None:
    if what.look[0] == "systemctl" and not BOOTED.is_dir():
        raise Conflict(
            "systemd does not run on this machine.",
            "`modeldeck service install --show` prints the unit; without it a core stays up in"
            " tmux, by `modeldeck serve`, and starts by itself when a front end needs it.",
        )


def _write(what: InstallPlan) -> None:
    for file in what.files:
        try:
            file.path.parent.mkdir(parents=True, exist_ok=True)
            new = file.path.with_name(f".{file.path.name}.new")
            new.write_text(file.text)
            new.replace(file.path)
        except OSError as error:
            raise _unwritable(file.path, error) from error


def _unwritable(path: Path, error: OSError) -> StorageFailed:
    remedy = "Run it by sudo." if isinstance(error, PermissionError) else "Mend what is there."
    return StorageFailed(f"{path} cannot be changed: {error.strerror}.", remedy)


async def _call(command: tuple[str, ...]) -> str:
    """Run a command and return its output. Raises DeckError with its message when it fails."""
    try:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise Conflict(f"There is no {command[0]} on this machine.") from error
    said, wrong = await process.communicate()
    if process.returncode:
        details = tuple(wrong.decode(errors="replace").strip().splitlines()[-4:])
        remedy = ""
        if any("bus" in line.lower() for line in details):
            remedy = "Log in as this user itself (not by su or sudo), or use --system."
        raise DeckError(f"`{' '.join(command)}` failed.", remedy, details=details)
    return said.decode(errors="replace")


async def _last_words(what: InstallPlan, since: float) -> tuple[str, ...]:
    """Return the last lines that the core logged, as far as they can be read."""
    try:
        said = await _call((*what.recent, f"--since=@{since:.0f}")) if what.recent else ""
    except DeckError:
        return ()
    return tuple(said.splitlines())


async def _ends_at_logout() -> bool:
    """Whether this person's services end with their last session, as far as it is known."""
    if sys.platform == "darwin":
        return False
    try:
        said = await _call(("loginctl", "show-user", str(os.getuid()), "--property", "Linger"))
    except DeckError:
        return False
    return said.strip() == "Linger=no"
