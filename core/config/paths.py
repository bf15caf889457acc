"""Where configuration, state, sockets, logs and models live.

Each folder is the platform's own (platformdirs). `MODELDECK_HOME` puts all of modeldeck's under one
folder, and one variable per folder moves it alone. The models lie in the Hugging Face cache, which
has its own variables (`HF_HUB_CACHE`, `HF_HOME`) and which other tools share.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import platformdirs

APP = "modeldeck"

SOCKET_PATH_LIMIT = 100
"""Bytes. `sockaddr_un.sun_path` holds 104 on macOS and 108 on Linux, a final NUL included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Paths:
    """All folders of one installation. None of them need exist."""

    config: Path
    state: Path
    cache: Path
    """Files that can be deleted at any time: answers of the Hub, headers, plans."""
    runtime: Path
    """Sockets and the ready file; only the owner may enter.

    In the state folder, not the session's runtime folder: that one is not set over every SSH
    connection or from cron, and a front end must find the core from there as well.
    """
    log: Path
    hf_home: Path
    hf_cache: Path
    files: Path
    """Models that came from URLs: the cache that all tools share knows only the Hub's."""

    @property
    def config_file(self) -> Path:
        """The person's settings."""
        return self.config / "config.toml"

    @property
    def database(self) -> Path:
        """The store."""
        return self.state / "modeldeck.sqlite3"

    @property
    def chats(self) -> Path:
        """Conversations of the front ends: on the person's machine, also where the core is not."""
        return self.state / "chats.db"

    @property
    def prefixes(self) -> Path:
        """What engines computed for conversations; only where the person wants it kept on disk."""
        return self.state / "prefixes"

    @property
    def ready_file(self) -> Path:
        """What a running core wrote about itself: pid, addresses."""
        return self.runtime / "core.json"

    @property
    def lock_file(self) -> Path:
        """Held by the running core: there is one per state folder."""
        return self.state / "core.lock"

    @property
    def core_log(self) -> Path:
        """Log of a core that runs in the background."""
        return self.log / "core.log"

    @property
    def dashboard_log(self) -> Path:
        """Warnings and unexpected errors of dashboards."""
        return self.log / "dashboard.log"

    @property
    def socket(self) -> Path:
        """The Unix socket; moved to a short path where the runtime folder's is too long for one."""
        path = self.runtime / "core.sock"
        if len(os.fsencode(path)) <= SOCKET_PATH_LIMIT:
            return path
        import hashlib  # both are rarely needed, and a status bar has no time for them
        import tempfile

        short = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"{APP}-{os.getuid()}-{short}" / "core.sock"


def locate(environ: Mapping[str, str] = os.environ) -> Paths:
    """The folders that `environ` asks for, else the platform's own."""
    home = environ.get("MODELDECK_HOME")

    def folder(name: str, platform: Path) -> Path:
        chosen = environ.get(f"MODELDECK_{name.upper()}_DIR")
        return _absolute(chosen) if chosen else _absolute(home) / name if home else platform

    dirs = platformdirs.PlatformDirs(APP, appauthor=False)
    hf_home = _absolute(
        environ.get("HF_HOME")
        or os.path.join(environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    )
    hf_cache = environ.get("HF_HUB_CACHE") or environ.get("HUGGINGFACE_HUB_CACHE")
    return Paths(
        config=folder("config", dirs.user_config_path),
        state=folder("state", dirs.user_state_path),
        cache=folder("cache", dirs.user_cache_path),
        runtime=folder("runtime", dirs.user_state_path / "run"),
        log=folder("log", dirs.user_log_path),
        hf_home=hf_home,
        hf_cache=_absolute(hf_cache) if hf_cache else hf_home / "hub",
        files=folder("files", dirs.user_data_path / "files"),
    )


def _absolute(path: str) -> Path:
    return Path(os.path.abspath(os.path.expanduser(path)))
