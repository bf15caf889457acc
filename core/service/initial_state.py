"""The State of a core that has just started: its host and its settings."""

from __future__ import annotations

import os
import platform
import socket

from modeldeck.core import __version__
from modeldeck.core.config.config import Config
from modeldeck.core.network.failures import shown
from modeldeck.core.schema import Host, Settings
from modeldeck.core.schema.clock import now
from modeldeck.core.schema.state import State


def initial_state(host_id: str, config: Config, notices: tuple[str, ...]) -> State:
    """Return the State before anything is known of models, memory and jobs."""
    return State(host=_host(host_id, config, notices), settings=_settings(config))


def _host(host_id: str, config: Config, notices: tuple[str, ...]) -> Host:
    return Host(
        id=host_id,
        name=socket.gethostname(),
        version=__version__,
        started_at=now(),
        pid=os.getpid(),
        platform=f"{platform.system().lower()} {platform.machine()}",
        hub=shown(config.hub.endpoint),
        notices=notices,
    )


def _settings(config: Config) -> Settings:
    return Settings(
        jobs_at_once=config.downloads.jobs_at_once,
        disk_floor_bytes=config.downloads.disk_floor_bytes,
        memory_budget_bytes=config.runtime.memory_budget_bytes,
        context_length=config.runtime.context_length,
        context_fit=config.runtime.context_fit,
        idle_ttl_s=config.runtime.idle_ttl_s,
        when_full=config.runtime.when_full,
    )
