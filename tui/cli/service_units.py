"""The core as a service of the system: what is written for systemd and launchd. Pure.

Directives are those of systemd.exec(5), systemd.service(5) and systemd.kill(5), versions 249 and
newer; keys are those of launchd.plist(5).
"""

from __future__ import annotations

import plistlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from modeldeck.tui.remote.machines import SYSTEM_SOCKET

UNIT = "modeldeck.service"
NAME = "modeldeck"
"""Of what the service says in the journal."""
LABEL = "modeldeck.core"
USER = "modeldeck"
SYSTEM_UNIT = Path("/etc/systemd/system") / UNIT
SYSUSERS = Path("/etc/sysusers.d/modeldeck.conf")
STOP_S = 90
"""For downloads to be made durable and engines to end by themselves; killing an MLX process can
leak wired memory until the next start of the machine."""

KEPT = (
    *("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_ENDPOINT", "HF_TOKEN_PATH"),
    *("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "SSL_CERT_FILE", "SSL_CERT_DIR"),
    *("http_proxy", "https_proxy", "all_proxy", "no_proxy"),
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "CUDA_VISIBLE_DEVICES"),
)
"""What of the environment the service needs, to find what this shell finds. No secrets: a unit can
be read by all users."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitFile:
    """A file that an installation writes."""

    path: Path
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallPlan:
    """Files and commands that install a service; uninstalling runs them in reverse."""

    files: tuple[UnitFile, ...]
    enable: tuple[tuple[str, ...], ...]
    disable: tuple[tuple[str, ...], ...]
    after: tuple[tuple[str, ...], ...] = ()
    """Once the files are gone."""
    look: tuple[str, ...] = ()
    """Answers how the service stands."""
    log: str = ""
    """Where its log is, as a command or a path."""
    recent: tuple[str, ...] = ()
    """Answers what the core itself said last."""
    socket: Path
    """Where its core answers."""


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables of the environment that the unit sets, so that it uses the same folders."""
    return {
        name: value
        for name, value in sorted(environ.items())
        if name in KEPT or (name.startswith("MODELDECK_") and "TOKEN" not in name)
    }


# systemd

HARDENED = """\
# One engine that the kernel kills for its memory is one model less, not the end of the core.
OOMPolicy=continue
NoNewPrivileges=yes
UMask=0077
LockPersonality=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
# Not MemoryDenyWriteExecute: CUDA and MLX compile kernels while they run.
"""

WALLED = """\
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
ProtectProc=invisible
RemoveIPC=yes
CapabilityBoundingSet=
# Not PrivateDevices: GPUs are devices. Not ProcSubset=pid: free memory is read from /proc/meminfo.
"""


def quoted(word: str) -> str:
    r"""A word as systemd reads it in ExecStart and Environment (systemd.syntax(7), "Quoting").

    >>> print(quoted('50% "off" $HOME'))
    "50%% \"off\" $HOME"
    """
    plain = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("\n", "\\n")
    return f'"{plain}"'


def _service(program: Sequence[str], environ: Mapping[str, str]) -> str:
    # A dollar sign is expanded in commands, though not in Environment.
    command = " ".join(quoted(word.replace("$", "$$")) for word in program)
    lines = [f"Environment={quoted(f'{name}={value}')}" for name, value in environ.items()]
    return "\n".join(
        [
            "[Service]",
            "# systemd counts it as started once it answers: units after it find it running.",
            "Type=notify",
            f"ExecStart={command}",
            f"SyslogIdentifier={NAME}",
            *lines,
            "Restart=on-failure",
            "RestartSec=2",
            "# A wrong configuration, or another core on the same state, pass by no retry.",
            "RestartPreventExitStatus=2 4",
            "KillMode=mixed",
            f"TimeoutStopSec={STOP_S}",
            "",
        ]
    )


_UNIT_HEAD = """\
# Written by `modeldeck service install`; `modeldeck service uninstall` removes it.
[Unit]
Description=modeldeck, a control room for local language models
StartLimitIntervalSec=60
StartLimitBurst=5
"""


def user_unit(program: Sequence[str], environ: Mapping[str, str]) -> str:
    """A unit of this person's own manager.

    What needs a mount namespace is left out: a person's manager can make one only where the kernel
    allows that to every user, and the service would not start elsewhere.
    """
    return (
        f"{_UNIT_HEAD}\n{_service(program, environ)}{HARDENED}\n"
        "[Install]\nWantedBy=default.target\n"
    )


def system_unit(program: Sequence[str], environ: Mapping[str, str]) -> str:
    """A unit of the system, with a user and folders of its own."""
    own = {name: value for name, value in environ.items() if name.lower().endswith("_proxy")}
    folders = {
        "MODELDECK_CONFIG_DIR": "/etc/modeldeck",
        "MODELDECK_STATE_DIR": "/var/lib/modeldeck",
        "MODELDECK_CACHE_DIR": "/var/cache/modeldeck",
        "MODELDECK_LOG_DIR": "/var/log/modeldeck",
        "MODELDECK_RUNTIME_DIR": str(SYSTEM_SOCKET.parent),
        "MODELDECK_API_SOCKET_GROUP": "true",
        "HF_HOME": "/var/lib/modeldeck/huggingface",
    }
    return (
        f"{_UNIT_HEAD}After=network-online.target\nWants=network-online.target\n\n"
        f"{_service(program, {**own, **folders})}"
        f"User={USER}\nGroup={USER}\n"
        "ConfigurationDirectory=modeldeck\nStateDirectory=modeldeck\nStateDirectoryMode=0700\n"
        "CacheDirectory=modeldeck\nCacheDirectoryMode=0700\nLogsDirectory=modeldeck\n"
        "LogsDirectoryMode=0700\nRuntimeDirectory=modeldeck\nRuntimeDirectoryMode=0750\n"
        f"LimitMEMLOCK=infinity\n{HARDENED}{WALLED}\n"
        "[Install]\nWantedBy=multi-user.target\n"
    )


def systemd_user(
    program: Sequence[str], environ: Mapping[str, str], home: Path, socket: Path
) -> InstallPlan:
    """The plan for a person's own systemd."""
    folder = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    unit = folder / "systemd" / "user" / UNIT
    call = ("systemctl", "--user")
    return InstallPlan(
        files=(UnitFile(path=unit, text=user_unit(program, environment(environ))),),
        enable=((*call, "daemon-reload"), (*call, "enable", UNIT), (*call, "restart", UNIT)),
        disable=((*call, "disable", "--now", UNIT),),
        after=((*call, "daemon-reload"),),
        look=(*call, "show", UNIT, "--property", SHOWN),
        log=f"journalctl --user -u {UNIT}",
        recent=("journalctl", "--user", "-u", UNIT, *SAID),
        socket=socket,
    )


SHOWN = "LoadState,ActiveState,SubState,UnitFileState,MainPID,NRestarts"
SAID = ("-t", NAME, "-n", "6", "-o", "cat", "-q", "--no-pager")


def systemd_system(program: Sequence[str], environ: Mapping[str, str]) -> InstallPlan:
    """The plan for the system's systemd."""
    person = f'u {USER} - "modeldeck" /var/lib/modeldeck\n'
    return InstallPlan(
        files=(
            UnitFile(path=SYSUSERS, text=person),
            UnitFile(path=SYSTEM_UNIT, text=system_unit(program, environment(environ))),
        ),
        enable=(
            ("systemd-sysusers", str(SYSUSERS)),
            ("systemctl", "daemon-reload"),
            ("systemctl", "enable", UNIT),
            ("systemctl", "restart", UNIT),
        ),
        disable=(("systemctl", "disable", "--now", UNIT),),
        after=(("systemctl", "daemon-reload"),),
        look=("systemctl", "show", UNIT, "--property", SHOWN),
        log=f"journalctl -u {UNIT}",
        recent=("journalctl", "-u", UNIT, *SAID),
        socket=SYSTEM_SOCKET,
    )


# launchd


def agent(program: Sequence[str], environ: Mapping[str, str], log: Path) -> bytes:
    """A launchd agent of this person."""
    return plistlib.dumps(
        {
            "Label": LABEL,
            "ProgramArguments": list(program),
            "EnvironmentVariables": dict(environ),
            "RunAtLoad": True,
            "KeepAlive": {"SuccessfulExit": False},
            "ThrottleInterval": 10,
            "ExitTimeOut": STOP_S,
            "ProcessType": "Standard",
            "Umask": 0o077,
            "StandardOutPath": str(log),
            "StandardErrorPath": str(log),
        }
    )


def launchd(
    program: Sequence[str],
    environ: Mapping[str, str],
    home: Path,
    *,
    uid: int,
    log: Path,
    socket: Path,
) -> InstallPlan:
    """The plan for launchd."""
    plist = home / "Library" / "LaunchAgents" / f"{LABEL}.plist"
    domain = f"gui/{uid}"
    text = agent(program, environment(environ), log).decode()
    return InstallPlan(
        files=(UnitFile(path=plist, text=text),),
        enable=(("launchctl", "bootstrap", domain, str(plist)),),
        disable=(("launchctl", "bootout", f"{domain}/{LABEL}"),),
        look=("launchctl", "print", f"{domain}/{LABEL}"),
        log=str(log),
        socket=socket,
    )


def hidden_from_others(path: str) -> bool:
    """Whether a path lies where another user, walled off from homes, cannot read it.

    >>> hidden_from_others("/home/me/.local/bin/python"), hidden_from_others("/opt/x/bin/python")
    (True, False)
    """
    return PurePosixPath(path).parts[:2] in {("/", "home"), ("/", "root"), ("/", "run")}


def standing(shown: str) -> dict[str, str]:
    """Parse the output of `systemctl show` into properties by name."""
    return dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
