"""One run of the demo: a hub, a core that knows no other, and folders that vanish afterwards.

The hub runs in this process, the core in a process of its own, which ends with this one in any
case. The user's cache, settings, token and proxy are neither read nor written.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from modeldeck.core.client import daemon
from modeldeck.core.client.daemon import CoreReady
from modeldeck.core.config.paths import Paths, locate
from modeldeck.core.demo.catalog import write_catalog
from modeldeck.core.demo.hub import DemoHub
from modeldeck.core.demo.repositories import OWNER, PADDED_BYTES, build
from modeldeck.core.demo.repository import DemoRepo

CATALOG = "catalog.toml"
"""The file in the demo's folder that lists the models of its hub."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A demo that runs."""

    hub: DemoHub
    ready: CoreReady
    """Its core."""
    paths: Paths
    folder: Path
    """Holds everything of it, and is removed at the end."""
    ended: asyncio.Event
    """Set when the core ended by itself."""


@asynccontextmanager
async def session(
    port: int | None = None,
    *,
    padded_bytes: int = PADDED_BYTES,
    rate_bytes_per_s: int | None = None,
    environ: Mapping[str, str] = os.environ,
) -> AsyncIterator[Session]:
    """A demo for as long as the block runs. Raises what hub or core cannot start for.

    `port` is the core's, as `api.port` has it; `rate_bytes_per_s` the hub's speed.
    """
    folder = Path(tempfile.mkdtemp(prefix="modeldeck-demo-"))
    try:
        repositories = await _built(folder / "hub", padded_bytes)
        await asyncio.to_thread(write_catalog, folder / CATALOG, OWNER, repositories)
        async with DemoHub(repositories, rate_bytes_per_s=rate_bytes_per_s) as hub:
            inside = environment(folder, hub.url, port, environ)
            async with daemon.child(inside) as (ready, ended):
                yield Session(
                    hub=hub, ready=ready, paths=locate(inside), folder=folder, ended=ended
                )
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


async def _built(folder: Path, padded_bytes: int) -> tuple[DemoRepo, ...]:
    """The repositories; when this is cancelled, nothing writes into the folder any more."""
    building = asyncio.create_task(asyncio.to_thread(build, folder, padded_bytes))
    try:
        return await asyncio.shield(building)
    finally:
        await asyncio.wait([building])


def environment(
    folder: Path, hub_url: str, port: int | None, environ: Mapping[str, str]
) -> dict[str, str]:
    """The environment of the demo's core: the person's, without what would lead out of `folder`."""
    inside = {
        name: value
        for name, value in environ.items()
        if not name.upper().startswith(("HF_", "HUGGING", "MODELDECK_"))
        and not name.upper().endswith("_PROXY")
    }
    inside |= {
        "MODELDECK_HOME": str(folder / "home"),
        "HF_HOME": str(folder / "hf"),
        "HF_ENDPOINT": hub_url,
        "MODELDECK_HUB_CATALOG": str(folder / CATALOG),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "MODELDECK_DOWNLOADS_DISK_FLOOR_BYTES": "0",
        "MODELDECK_CATALOG_ALSO_FROM": "",  # the person's own models are no part of the demo
        "MODELDECK_RUNTIME_CALIBRATE": "false",  # it would be forgotten with the folder
    }
    if port is not None:
        inside["MODELDECK_API_PORT"] = str(port)
    return inside
