"""A core as a child process that can be killed and started again: what the tests attack.

It is started as a script would start it, `modeldeck serve --port 0 --ready-json`, and waited for by
the line of JSON that it prints.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sysconfig
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Self

from modeldeck.core.errors import CoreUnreachable

START_S = 60.0
"""How long a core may take to answer: under a second as a rule, more on a machine under load."""

STOP_S = 60.0
"""How long a core may take to end in good order."""

LAST_LINES = 20
"""Lines of its standard error that are shown when it does not start."""


class CoreProcess:
    """One core. Enter it to start it; leaving ends it, if it has not ended by itself."""

    def __init__(
        self,
        environ: Mapping[str, str],
        arguments: Sequence[str] = (),
        *,
        before: Sequence[str] = (),
        descriptors: int | None = None,
    ) -> None:
        """`before`: words before the command, a program that replaces itself by it.

        `descriptors`: the hard limit of open files, instead of this process's own.
        """
        self._environ = dict(environ)
        self._arguments = arguments
        limited = ("sh", "-c", f'ulimit -n {descriptors} && exec "$@"', "sh")
        self._before = (*(() if descriptors is None else limited), *before)
        self._open = ExitStack()
        self._errors: IO[bytes]
        self.process: subprocess.Popen[bytes]
        """The core's process, the latest one after a restart."""
        self.url = ""
        """Where it answers over TCP; the port changes with a restart."""
        self.socket = Path()
        """The Unix socket it answers on."""
        self.home = Path()
        """Its `MODELDECK_HOME`, or its state folder."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._open.close()

    @property
    def stderr(self) -> str:
        """What it wrote to standard error since it was started."""
        # Not by seeking: the core writes at the same file offset.
        size = os.fstat(self._errors.fileno()).st_size
        return os.pread(self._errors.fileno(), size, 0).decode(errors="replace")

    def start(self) -> None:
        """Start it and wait until it answers. Raises CoreUnreachable with its last lines."""
        self._open.close()
        errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed by the stack)
        self._errors = self._open.enter_context(errors)
        program = Path(sysconfig.get_path("scripts")) / "modeldeck"
        self.process = self._open.enter_context(
            subprocess.Popen(
                [*self._before, program, "serve", "--port", "0", "--ready-json", *self._arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env=self._environ,
                start_new_session=True,
            )
        )
        # The line comes, or the process ends and the pipe with it: reading needs no other limit.
        late = threading.Timer(START_S, self.process.kill)
        late.start()
        assert self.process.stdout is not None
        answer = self.process.stdout.readline()
        late.cancel()
        late.join()
        if not answer:
            self.process.wait()
            last_lines = self.stderr.splitlines()[-LAST_LINES:]
            self._open.close()
            raise CoreUnreachable(
                f"The core did not start: it ended with status {self.process.returncode}.",
                "Its last lines say why.",
                details=tuple(last_lines),
            )
        ready = json.loads(answer)
        self.url = ready["url"]
        self.socket, self.home = Path(ready["socket"]), Path(ready["home"])

    def kill(self) -> None:
        """End it as a crash or the OOM killer would: SIGKILL, and no word to its children."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """Ask it to end (SIGTERM), and wait; kill it with all its children when it does not."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def restart(self) -> None:
        """Start it again on the same folders, after ending it if it still runs."""
        self.stop()
        self.start()
