"""Machines that `ssh` reaches: a real sshd each, on loopback, with a home and a cache of its own.

`ssh` is the system's, with a configuration of the test's. Between it and each sshd stands a line
that can be made slow, cut, and mended. Nothing of the person's is read or written.
"""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import os
import re
import shlex
import shutil
import socket
import subprocess
import sysconfig
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from modeldeck.core.client import daemon
from modeldeck.core.client.client import Client
from modeldeck.core.config.paths import Paths, locate
from modeldeck.core.demo.hub import DemoHub
from tests.support.process import CoreProcess

PATIENCE_S = 60.0
SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
PIECE_BYTES = 1024
"""What the line carries at a time: small, so that a slow one is slow all along."""


class SlowLine:
    """A TCP proxy on loopback that delays, limits, cuts and mends."""

    def __init__(self, port: int) -> None:
        self.target = port
        self._loop = asyncio.new_event_loop()
        self._writers: set[asyncio.StreamWriter] = set()
        self._is_cut = False
        self.delay_s = 0.0
        """One way."""
        self.rate_bytes_per_s: float | None = None
        self.carried_bytes = 0
        self.hold_at: int | None = None
        """Bytes carried at which it stands still until this is None."""
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=[started], daemon=True)
        self._thread.start()
        started.wait()

    def _run(self, started: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        self._server = self._loop.run_until_complete(
            asyncio.start_server(self._carry, "127.0.0.1", 0)
        )
        self.port: int = self._server.sockets[0].getsockname()[1]
        started.set()
        self._loop.run_forever()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0.05))
        self._loop.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_cut:
            writer.transport.abort()
            return
        there_reader, there = await asyncio.open_connection("127.0.0.1", self.target)
        if self._is_cut:  # meanwhile
            writer.transport.abort()
            there.transport.abort()
            return
        self._writers |= {writer, there}
        try:
            await asyncio.gather(self._pump(reader, there), self._pump(there_reader, writer))
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            for end in (writer, there):
                self._writers.discard(end)
                end.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(64)

        async def deliver() -> None:
            while (item := await queue.get())[1]:
                due, data = item
                while self.hold_at is not None and self.carried_bytes >= self.hold_at:  # noqa: ASYNC110 - set from any thread
                    await asyncio.sleep(0.01)
                await asyncio.sleep(max(0.0, due - self._loop.time()))
                if self.rate_bytes_per_s:
                    await asyncio.sleep(len(data) / self.rate_bytes_per_s)
                self.carried_bytes += len(data)
                writer.write(data)
                await writer.drain()
            writer.close()

        delivering = self._loop.create_task(deliver())
        try:
            while True:
                size = PIECE_BYTES if self.rate_bytes_per_s or self.delay_s else 1 << 16
                data = await reader.read(size)
                await queue.put((self._loop.time() + self.delay_s, data))
                if not data:
                    break
            await delivering
        finally:
            delivering.cancel()

    def _call(self, action: Callable[[], object]) -> None:
        done = threading.Event()

        def act() -> None:
            action()
            done.set()

        self._loop.call_soon_threadsafe(act)
        done.wait()

    def cut(self) -> None:
        """Break every connection, and let none be made."""

        def action() -> None:
            self._is_cut = True
            for writer in list(self._writers):
                writer.transport.abort()

        self._call(action)

    def mend(self) -> None:
        """Let connections be made again."""
        self._is_cut = False

    def close(self) -> None:
        """End it with its thread."""
        self._call(self._server.close)
        self.cut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()


class Host:
    """One machine: an sshd, what is set on logging in there, and the line to it."""

    def __init__(self, name: str, folder: Path, key: Path, hub: str) -> None:
        self.name = name
        self._core: CoreProcess | None = None
        self._folder = folder / name
        self._folder.mkdir()
        programs = self._folder / "bin"
        programs.mkdir()
        self.program = programs / "modeldeck"
        """What `modeldeck` is there; a test may take it away."""
        self.program.symlink_to(Path(sysconfig.get_path("scripts")) / "modeldeck")
        self.environ = {
            "MODELDECK_HOME": str(self._folder / "home"),
            "HF_HOME": str(self._folder / "hf"),
            "HF_ENDPOINT": hub,
            "MODELDECK_API_PORT": "0",
            "MODELDECK_DOWNLOADS_DISK_FLOOR_BYTES": "0",
            "PATH": f"{programs}:/usr/bin:/bin",
            **({"PYTHONPATH": path} if (path := os.environ.get("PYTHONPATH")) else {}),
        }
        self.authorized = self._folder / "authorized_keys"
        """Whose key is let in."""
        self.authorized.write_text(key.with_suffix(".pub").read_text())
        self._alias = folder / "config.d" / name
        self._calls = folder / "calls"
        self._start("")
        self.line = SlowLine(self._port)
        self._entry = (
            f"Host {name}\n  HostName 127.0.0.1\n  Port {self.line.port}\n"
            f"  User {getpass.getuser()}\n  IdentityFile {key}\n  IdentitiesOnly yes\n"
            f"  UserKnownHostsFile {folder / 'known_hosts'}\n  StrictHostKeyChecking yes\n"
        )
        self.configure()

    def configure(self, *lines: str) -> None:
        """Have `ssh` know the machine, with further lines of a person's configuration."""
        self._alias.parent.mkdir(exist_ok=True)
        self._alias.write_text(self._entry + "".join(f"  {line}\n" for line in lines))

    def unknown(self) -> None:
        """Have `ssh` ask whether this is the right machine, as the first time."""
        known = self._folder / "known_hosts"
        words = self._entry.replace(str(self._folder.parent / "known_hosts"), str(known))
        self._alias.write_text(words.replace("Checking yes", "Checking ask"))

    def lock(self, passphrase: str) -> None:
        """Have `ssh` ask for a passphrase: the machine lets in another key, which has one."""
        key = self._folder / "locked"
        keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-a", "1", "-N", passphrase, "-f", str(key)]
        subprocess.run(keygen, check=True)
        self.authorized.write_text(key.with_suffix(".pub").read_text())
        words = re.sub(r"IdentityFile .*", f"IdentityFile {key}", self._entry)
        self._alias.write_text(words)

    def restart(self, further: str) -> None:
        """Start sshd anew, with further lines of configuration."""
        self._stop()
        self._start(further)
        self.line.target = self._port

    def _start(self, further: str) -> None:
        assert SSHD is not None
        host_key = self._folder / "host_key"
        if not host_key.exists():
            keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(host_key)]
            subprocess.run(keygen, check=True)
        self.public = host_key.with_suffix(".pub").read_text().strip()
        values = " ".join(f'"{name}={value}"' for name, value in self.environ.items())
        self._config = (
            f"HostKey {host_key}\nPidFile none\n"
            f"AuthorizedKeysFile {self.authorized}\nStrictModes no\nUsePAM no\n"
            "PermitRootLogin yes\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
            f"SetEnv {values}\n{further}"
        )
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        while not self._listens():
            pass

    def _listens(self) -> bool:
        """Start sshd on a free port: False where another program took the port meanwhile."""
        assert SSHD is not None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port: int = free.getsockname()[1]
        config = self._folder / "sshd_config"
        config.write_text(f"ListenAddress 127.0.0.1:{self._port}\n{self._config}")
        before = len(self.log) if self._log_file.exists() else 0
        self._log = self._log_file.open("ab")
        self._sshd = subprocess.Popen(
            [SSHD, "-D", "-e", "-f", str(config)], stderr=self._log, start_new_session=True
        )
        deadline = time.monotonic() + PATIENCE_S
        # Not by a connection: the one to another program's port would be taken for it.
        while f"Server listening on 127.0.0.1 port {self._port}" not in self.log[before:]:
            if self._sshd.poll() is not None:
                said = self.log[before:]
                self._log.close()
                assert "Address already in use" in said, said
                return False
            assert time.monotonic() < deadline, self.log
            time.sleep(0.02)
        return True

    @property
    def calls(self) -> list[str]:
        """The words that `ssh` was called with for this machine, a line for each call."""
        lines = self._calls.read_text().splitlines() if self._calls.exists() else []
        return [line for line in lines if f" -- {self.name}" in line]

    @property
    def _log_file(self) -> Path:
        return self._folder / "sshd.log"

    @property
    def log(self) -> str:
        """What sshd said."""
        return self._log_file.read_text(errors="replace")

    @property
    def paths(self) -> Paths:
        """The folders of modeldeck over there."""
        return locate(self.environ)

    def start_core(self) -> CoreProcess:
        """A core over there that runs to the end of the test, as that of a service."""
        self._core = CoreProcess({**os.environ, **self.environ})
        self._core.start()
        return self._core

    @property
    def sessions(self) -> list[psutil.Process]:
        """The processes of those who are logged in."""
        return psutil.Process(self._sshd.pid).children()

    def end_sessions(self) -> None:
        """Kill the processes of those who are logged in; some may be about to end by themselves."""
        for session in self.sessions:
            with contextlib.suppress(psutil.NoSuchProcess):
                session.kill()

    def fetch(self, model: str) -> None:
        """Have its core download a model from the hub."""

        async def fetch() -> None:
            async with Client(socket=self.paths.socket) as client:
                _, job = await client.download(model)
                assert job is not None
                await client.feed.until(lambda state: state.downloads[job.id].state == "completed")

        asyncio.run(fetch())

    @property
    def core_runs(self) -> bool:
        """Whether a core answers over there."""
        return asyncio.run(daemon.find(self.paths)) is not None

    def close(self) -> None:
        """End the core, sshd and every session."""
        self.line.close()
        if self._core is not None:
            self._core.__exit__()
        asyncio.run(daemon.stop(self.paths))
        self._stop()

    def _stop(self) -> None:
        self.end_sessions()
        self._sshd.terminate()
        self._sshd.wait()
        self._log.close()


Machines = Callable[..., list[Host]]


@pytest.fixture
def machines(
    home: Path, hub: DemoHub, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., list[Host]]]:
    """Makes machines by their names, which `ssh` then knows; with `cores`, one runs on each."""
    if SSHD is None or shutil.which("ssh") is None:
        missing = pytest.fail if os.environ.get("CI") else pytest.skip
        missing("sshd is not installed: apt install openssh-server")
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("MODELDECK_API_PORT", "0")
    monkeypatch.setenv("MODELDECK_DOWNLOADS_DISK_FLOOR_BYTES", "0")
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    folder = Path(tempfile.mkdtemp(prefix="md-ssh-"))
    key = folder / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    config, known = folder / "config", folder / "known_hosts"
    config.write_text(f"Include {folder}/config.d/*\nConnectTimeout 20\n")
    (folder / "bin").mkdir()
    program = folder / "bin" / "ssh"
    ssh = shlex.quote(str(shutil.which("ssh")))
    calls = folder / "calls"
    program.write_text(f'#!/bin/sh\necho "$*" >>{calls}\nexec {ssh} -F {config} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")
    hosts: list[Host] = []

    def make(*names: str, cores: bool = False) -> list[Host]:
        made = [Host(name, folder, key, hub.url) for name in names]
        hosts.extend(made)
        if cores:
            with ThreadPoolExecutor() as pool:
                list(pool.map(Host.start_core, made))
        with known.open("a") as keys:
            for host in made:
                kind, value = host.public.split()[:2]
                keys.write(f"[127.0.0.1]:{host.line.port} {kind} {value}\n")
        return made

    yield make
    for host in hosts:
        host.close()
    asyncio.run(daemon.stop(locate()))
    shutil.rmtree(folder, ignore_errors=True)
