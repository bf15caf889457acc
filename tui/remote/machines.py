"""Which machine is meant: this one, one that `ssh` reaches, or one at a URL. Pure.

A machine is named on the command line as `@name`: a name of the configuration's `[hosts]`, else
anything that OpenSSH takes as a destination. `@all` means every machine of `[hosts]`, and `@local`
this one, `@system` a service of this machine (`modeldeck service install --system`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from modeldeck.core.errors import InvalidRequest

if TYPE_CHECKING:
    from modeldeck.core.config.config import RemoteSettings

LOCAL, ALL, SYSTEM = "local", "all", "system"
SYSTEM_SOCKET = Path("/run/modeldeck/core.sock")
"""Of a core that is a service of the system."""
LOOPBACK = ("localhost", "127.0.0.1", "::1")

_DESTINATION = re.compile(r"[A-Za-z0-9_.:/@%\[\]+~-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """One machine, by the name it has here."""

    name: str
    remote: RemoteSettings | None = None
    """How it is reached; None for this machine."""


HERE = Machine(name=LOCAL)


def from_command_line(words: Sequence[str], takes_value: Sequence[str]) -> list[str]:
    """The words with every leading `@name` as an option: `@a @b ps` is `--on a --on b ps`.

    `takes_value` are the options before the command whose value is the next word.
    """
    out: list[str] = []
    rest = list(words)
    while rest and rest[0].startswith(("@", "-")):
        word = rest.pop(0)
        out += ["--on", word] if word.startswith("@") else [word]
        if word in takes_value and rest:
            out.append(rest.pop(0))
    return out + rest


def chosen(words: Sequence[str], hosts: Mapping[str, RemoteSettings]) -> tuple[Machine, ...]:
    """Machines by name, each once, in the order given. Raises InvalidRequest."""
    names = [word.removeprefix("@") for word in words]
    if ALL in names and not hosts:
        raise InvalidRequest(
            "No machines are named in the configuration.",
            'Name them there: [hosts] and a line such as gpu1 = "me@gpu1.lan" for each.',
        )
    every = [name for word in names for name in (hosts if word == ALL else (word,))]
    return tuple(machine(name, hosts) for name in dict.fromkeys(every))


def beside(
    named: Sequence[Machine], hosts: Mapping[str, RemoteSettings]
) -> tuple[tuple[Machine, ...], tuple[str, ...]]:
    """The machines that the Fleet of one machine shows besides it, and errors of the configuration.

    They are this machine and those of `hosts`; none where there are no `hosts`, and besides several
    machines, which the person chose.
    """
    if len(named) != 1 or not hosts:
        return (), ()
    found, wrong = [HERE], []
    for name in hosts:
        try:
            found.append(machine(name, hosts))
        except InvalidRequest as error:
            wrong.append(str(error))
    return tuple(each for each in found if each not in named), tuple(wrong)


def machine(name: str, hosts: Mapping[str, RemoteSettings]) -> Machine:
    """The machine of this name. Raises InvalidRequest for a name that ssh does not take."""
    if name in hosts:
        remote = hosts[name]
        check(remote, f"hosts.{name}")
        return Machine(name=name, remote=remote)
    if name == LOCAL:
        return HERE
    from modeldeck.core.config.config import RemoteSettings  # no quick command needs it

    if name == SYSTEM:
        return Machine(name=name, remote=RemoteSettings(socket=str(SYSTEM_SOCKET)))
    check(RemoteSettings(ssh=name), f"@{name}")
    return Machine(name=name, remote=RemoteSettings(ssh=name))


def check(remote: RemoteSettings, where: str) -> None:
    """Raise InvalidRequest for an address that is malformed or unsafe.

    A destination that begins with a dash would be an option of `ssh`; and a token must not go over
    a connection that is not encrypted.
    """
    if remote.socket is not None:
        return
    if remote.ssh is not None:
        if remote.ssh.startswith("-") or not _DESTINATION.fullmatch(remote.ssh):
            raise InvalidRequest(f"{where}: {remote.ssh!r} is no destination of ssh.")
        return
    try:
        url = urlsplit(remote.url or "")
        url.port  # noqa: B018 # it is read in time to say that it is none
    except ValueError as error:
        raise InvalidRequest(
            f"{where}: this is no URL: {error}.", "Write https://host:port."
        ) from error
    if url.username is not None or url.password is not None:
        raise InvalidRequest(
            f"{where}: a URL is shown in places, so it must not hold a password.",
            "Write https://host:port, and name a file that holds the token.",
        )
    if url.scheme not in ("http", "https") or not url.hostname:
        raise InvalidRequest(f"{where}: {remote.url!r} is no URL.", "Write https://host:port.")
    if url.scheme == "http" and url.hostname not in LOOPBACK:
        raise InvalidRequest(
            f"{where}: {remote.url} would send the token, and all else, unencrypted.",
            "Use https, or reach the machine over SSH: modeldeck @host.",
        )
