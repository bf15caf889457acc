"""Command lines for `ssh`, and errors from its exit status and output. Pure.

One `ssh` process stands for a machine. It is the master of a connection of its own (ssh_config(5),
ControlMaster), asks what it has to on the terminal (it reads `/dev/tty`), runs `modeldeck bridge`
there, and lives as long as the front end. A second, short one then has the core's Unix socket
carried (`-O forward`). Where the person has a master for that machine already, that one is used
instead, and nothing is asked.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from modeldeck.core.config.config import RemoteSettings
from modeldeck.core.errors import CoreUnreachable, DeckError, Forbidden

ALIVE_S = 5
ALIVE_COUNT = 3
"""A connection that is silent for 15 s is dead: soon enough for a person, and late enough for a
300 ms line under load."""
CONNECT_S = 20
"""For TCP and the key exchange, on a slow line."""

SOCKET_BYTES = 107
"""Of a path in `sockaddr_un` (unix(7)): 108 with its end on Linux, four less on macOS."""
_MEANINGFUL = frozenset(":\\%$\"'")

MISSING = "modeldeck-is-missing"
"""Printed by the other machine's shell where modeldeck is not installed."""
PLACES = ("$HOME/.local/bin", "/opt/homebrew/bin", "/usr/local/bin")
"""Where installers put programs, and what a shell that is not a login shell does not look at."""

OPTIONS = (
    "BatchMode={batch}",
    "ControlMaster=yes",
    "ControlPersist=no",
    "ServerAliveInterval={alive}",
    "ServerAliveCountMax={count}",
    "ConnectTimeout={connect}",
    "Compression={compression}",
    "ClearAllForwardings=yes",
    "ExitOnForwardFailure=yes",
    "ForwardAgent=no",
    "ForwardX11=no",
    "PermitLocalCommand=no",
    "RequestTTY=no",
    "RemoteCommand=none",
)
"""Options that override the user's ssh_config; those about logins are left to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SshTarget:
    """How one machine is called."""

    destination: str
    control: Path | None
    """The socket of a master of our own; None to use the person's."""
    program: str = "ssh"
    compressed: bool = True
    """Compression helps a slow line with the text of a feed; weights only get slower by it."""

    @property
    def _control(self) -> list[str]:
        return [] if self.control is None else ["-o", f"ControlPath={self.control}"]

    def line(self, command: str, *, batch: bool) -> list[str]:
        """The process that stands for the machine; with `batch` it never asks anything."""
        values = {
            "batch": "yes" if batch else "no",
            "alive": ALIVE_S,
            "count": ALIVE_COUNT,
            "connect": CONNECT_S,
            "compression": "yes" if self.compressed else "no",
        }
        own = [word.format(**values) for word in OPTIONS]
        if self.control is None:
            own = [word for word in own if not word.startswith("Control")]
        options = [part for word in own for part in ("-o", word)]
        return [self.program, *options, *self._control, "-T", "--", self.destination, command]

    def ask_master(self) -> list[str]:
        """Whether the person has a master for this machine that lives: status 0."""
        return [self.program, "-O", "check", "--", self.destination]

    def configured(self) -> list[str]:
        """What the person's configuration says about this machine, one `name value` a line."""
        return [self.program, "-G", "--", self.destination]

    def forward(self, here: str, there: str, *, back: bool = False) -> list[str]:
        """Carry a Unix socket: `here` leads to `there`; with `back`, `there` leads to `here`.

        Raises CoreUnreachable for a path that `ssh` would take for something else.
        """
        for path in (here, there):
            check_socket(path)
        way = ["-R", f"{there}:{here}"] if back else ["-L", f"{here}:{there}"]
        return [self.program, *self._control, "-O", "forward", *way, "--", self.destination]

    def cancel(self, here: str, there: str, *, back: bool = False) -> list[str]:
        """Carry it no more: what the person's master would otherwise go on with."""
        return ["cancel" if w == "forward" else w for w in self.forward(here, there, back=back)]


def check_socket(path: object) -> None:
    """Raise CoreUnreachable unless `ssh -L` and `ssh -R` take this for the path of one socket.

    One of the two paths comes from the other machine. In what `ssh` is given, a colon ends a path,
    a backslash is dropped, and `%` and `$` stand for other text (ssh(1), ssh_config(5), TOKENS and
    ENVIRONMENT VARIABLES).
    """
    wrong = ""
    if not isinstance(path, str) or not path.startswith("/"):
        wrong = "is not absolute"
    elif not path.isprintable() or not _MEANINGFUL.isdisjoint(path):
        wrong = "has characters that ssh would take for something else"
    elif {"", ".", ".."} & set(path[1:].split("/")):
        wrong = "does not lead straight to a file"
    elif len(path.encode()) > SOCKET_BYTES:
        wrong = f"is longer than the {SOCKET_BYTES} bytes of a socket's path"
    if wrong:
        raise CoreUnreachable(f"ssh cannot carry the socket {str(path)[:200]!r}: its path {wrong}.")


def is_uncompressed(configuration: Sequence[str]) -> bool:
    """Whether `ssh -G` says that connections to the machine are not compressed."""
    return "compression no" in (line.strip().lower() for line in configuration)


def command(remote: RemoteSettings, *, start: bool) -> str:
    """What the other machine's shell is told: plain enough for sh, bash, zsh, fish and csh."""
    bridge = "bridge" if start else "bridge --existing"
    if remote.command:
        return f"exec {remote.command} {bridge}"
    return (
        f"exec sh -c 'PATH=$PATH:{':'.join(PLACES)};"
        f" command -v modeldeck >/dev/null 2>&1 || {{ echo {MISSING}; exit 127; }};"
        f" exec modeldeck {bridge}'"
    )


_ASKS = re.compile(
    r"Permission denied|Host key verification failed|authentication fail|passphrase|"
    r"Too many authentication failures",
    re.IGNORECASE,
)


def asks(said: str) -> bool:
    """Whether `ssh` failed because it could not prompt for a login."""
    return bool(_ASKS.search(said))


def failure(
    name: str, status: int | None, said: str, heard: str, *, asked: bool = False
) -> DeckError:
    """Why there is no core at the other end, from what `ssh` said and what the machine said.

    ssh(1) exits with the status of the remote command, or with 255 for an error of its own.
    `asked`: it could ask what it had to, on a terminal.
    """
    words = tuple(line.strip() for line in said.splitlines() if line.strip())[-4:]
    if MISSING in heard or status == 127:
        return CoreUnreachable(
            f"There is no modeldeck on {name}.",
            f"Install it there, or say where it is: [hosts.{name}] command = ...",
            details=words,
        )
    if "No such command 'bridge'" in said:
        return CoreUnreachable(
            f"modeldeck on {name} is too old to be reached over ssh.", "Update it there."
        )
    if status == 255 and asks(said):
        if asked:
            return Forbidden(
                f"{name} does not let us in.", f"See what `ssh {name}` says.", details=words
            )
        return Forbidden(
            f"{name} does not let us in without a question.",
            "Try again on a terminal to be asked. A key that ssh's agent holds (`ssh-add`)"
            " needs no question.",
            details=words,
        )
    if status == 255:
        return CoreUnreachable(f"{name} cannot be reached: {_last(words)}", details=words[:-1])
    what = f"ended with status {status}" if status is not None else "did not answer"
    return CoreUnreachable(
        f"modeldeck on {name} {what}.", f"See `ssh {name} modeldeck status`.", details=words
    )


def _last(words: tuple[str, ...]) -> str:
    return (words[-1].rstrip(".") if words else "ssh ended without a word") + "."
