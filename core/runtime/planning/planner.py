"""Forecasts the memory of a load by asking llama.cpp, in a child process, without loading.

llama.cpp plans a load from the header of the file alone and allocates nothing, so a model that is
not downloaded yet is planned from its first bytes, at the beginning of a sparse file of the full
size. A header can make llama.cpp abort, so the planner is its own process. The process is kept for
a while after a plan, since the catalog asks for the plans of many models in a row.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from modeldeck.core.errors import EngineFailed, ShuttingDown, StorageFailed
from modeldeck.core.runtime.process.engine_log import LogLevel
from modeldeck.core.runtime.process.engine_process import EngineProcess
from modeldeck.core.runtime.process.messages import (
    CommandFailed,
    EngineHello,
    LoadPlanned,
    PlanLoad,
)
from modeldeck.core.schema import Forecast, LoadOptions
from modeldeck.core.schema.errors import from_info
from modeldeck.core.schema.overhead import SHIPPED

PLAN_S = 30.0
"""Seconds that one plan may take: the largest models take 0.4 s, a hostile header never ends."""
WARM_S = 30.0
"""Seconds that the child is kept after its last plan; it holds about 60 MiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderFile:
    """The beginning of a GGUF file that is not on this machine."""

    name: str
    """The file name, to show."""
    key: str
    """Identifies the file, such as by its hash; a key for the caller's cache of plans."""
    data: bytes
    """At least the whole header."""
    size: int
    """Bytes of the whole file."""


Source = Path | tuple[HeaderFile, ...]
"""A file on this machine (the first part of a split one), or the headers of all parts in order."""
Projector = Path | HeaderFile
"""The model's projector on this machine, or its header."""
PROJECTOR = "mmproj.gguf"
"""Name of a sparse file of a projector."""


class Planner:
    """Plans one load at a time. Only its own task touches the child."""

    def __init__(self) -> None:
        self._process: EngineProcess | None = None
        self._turn = asyncio.Lock()
        self._closed = False
        self._last_id = 0
        self._idle: asyncio.TimerHandle | None = None
        self._ending: set[asyncio.Task[bool]] = set()
        self.overhead = SHIPPED["llama.cpp"]
        """Bytes that a process takes besides the plan."""

    async def close(self) -> None:
        """End the child."""
        self._closed = True
        async with self._turn:
            self._stop_timer()
            self._drop()
        if self._ending:
            await asyncio.wait(self._ending)

    async def hello(self) -> EngineHello:
        """Return llama.cpp's version and devices. Raises EngineMissing, or EngineFailed."""
        async with self._child() as process:
            return process.hello

    async def plan(
        self,
        source: Source,
        options: LoadOptions,
        default_context: int,
        draft: str | None = None,
        projector: Projector | None = None,
    ) -> Forecast:
        """Plan a load. Raises EngineMissing, or EngineFailed with the engine's last log lines."""
        parts = () if isinstance(source, Path) else source
        seeing = projector if isinstance(projector, HeaderFile) else None
        command = PlanLoad(
            id=0,
            path=str(source),
            options=options,
            default_context=default_context,
            draft=draft,
            projector=None if projector is None else str(projector),
        )
        if not parts and seeing is None:
            return await self._plan(command)
        try:
            folder = await asyncio.to_thread(_make_sparse, parts, seeing)
        except OSError as error:
            raise StorageFailed(
                f"No file could be made to plan with: {error}.", "Check the temporary folder."
            ) from error
        try:
            if parts:
                path = str(_part(Path(folder.name), 0, len(parts)))
                command = msgspec.structs.replace(command, path=path)
            if seeing is not None:
                path = str(Path(folder.name) / PROJECTOR)
                command = msgspec.structs.replace(command, projector=path)
            return await self._plan(command)
        finally:
            await asyncio.to_thread(folder.cleanup)

    async def _plan(self, command: PlanLoad) -> Forecast:
        async with self._child() as process:
            self._last_id += 1
            process.send(msgspec.structs.replace(command, id=self._last_id))
            try:
                async with asyncio.timeout(PLAN_S):
                    report = await process.receive()
            except TimeoutError:
                raise EngineFailed(
                    f"llama.cpp did not plan this model within {PLAN_S:g} s.",
                    "The file is damaged or no model.",
                    details=process.last_lines,
                ) from None
        if isinstance(report, CommandFailed):
            raise from_info(report.error)
        assert isinstance(report, LoadPlanned), report
        return _forecast(report, self.overhead.of(report.vocabulary, report.records_bytes))

    @asynccontextmanager
    async def _child(self) -> AsyncIterator[EngineProcess]:
        """Hold the child for one command. After an error or a cancellation it is replaced."""
        async with self._turn:
            if self._closed:
                raise ShuttingDown("The core is about to end.")
            self._stop_timer()
            if self._process is not None and self._process.gone:
                self._drop()
            if self._process is None:
                self._process = await EngineProcess.start("llama.cpp", _ignore)
            try:
                yield self._process
            except BaseException:
                self._drop()
                raise
            self._idle = asyncio.get_running_loop().call_later(WARM_S, self._drop)

    def _stop_timer(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    def _drop(self) -> None:
        """End the child in the background; the next use starts a new one."""
        if self._process is not None:
            task = asyncio.create_task(self._process.end())
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)
            self._process = None


def _ignore(_level: LogLevel, _text: str) -> None:
    """Drop a log line of the planner; the last lines come with its errors."""


def _forecast(planned: LoadPlanned, overhead_bytes: int) -> Forecast:
    return Forecast(
        total_bytes=planned.weights_bytes
        + planned.kv_bytes
        + planned.compute_bytes
        + planned.projector_bytes
        + overhead_bytes,
        weights_bytes=planned.weights_bytes,
        kv_bytes=planned.kv_bytes,
        compute_bytes=planned.compute_bytes,
        overhead_bytes=overhead_bytes,
        projector_bytes=planned.projector_bytes,
        exact=planned.exact and not planned.gpu_unknown,
        gpu_bytes=None
        if planned.gpu_unknown
        else sum(device.total_bytes for device in planned.devices),
        devices=planned.devices,
        gpu_unknown=planned.gpu_unknown,
    )


def _part(folder: Path, index: int, count: int) -> Path:
    """Path of a part, named so that llama.cpp finds the other parts of a split model."""
    return folder / (f"model-{index + 1:05d}-of-{count:05d}.gguf" if count > 1 else "model.gguf")


def _make_sparse(
    parts: tuple[HeaderFile, ...], projector: HeaderFile | None
) -> tempfile.TemporaryDirectory[str]:
    """Write the headers into sparse files as long as the real ones, which take no disk space."""
    folder = tempfile.TemporaryDirectory(prefix="modeldeck-plan-")
    files = {_part(Path(folder.name), i, len(parts)): part for i, part in enumerate(parts)}
    if projector is not None:
        files[Path(folder.name) / PROJECTOR] = projector
    for path, part in files.items():
        with path.open("wb") as file:
            file.write(part.data)
            file.truncate(max(part.size, len(part.data)))
    return folder
