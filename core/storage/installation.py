"""How this copy of modeldeck was installed, and the commands that fit that.

A remedy such as "install the engine" names the installer that made this environment: `uv tool` and
pipx make environments without pip, and would not know of packages that pip put there.

    installer   told by                                            packages are added with
    uv tool     `uv-receipt.toml` in the environment's folder      uv tool install --with
    pipx        `pipx_metadata.json` there                         pipx inject
    uv venv     no pip, and `uv = ` in `pyvenv.cfg`                uv pip install --python
    pip         none of these                                      python -m pip install

Where modeldeck itself came from stands in `direct_url.json` (PEP 610); without that file it came
from a package index.
"""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

Installer = Literal["pip", "uv venv", "uv tool", "pipx"]

NAME = "modeldeck"


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallationSource:
    """Where the installer took modeldeck from, when that was not a package index."""

    url: str
    folder: str | None = None
    """The source tree on this machine; None for an archive or a repository."""
    editable: bool = False
    vcs: str | None = None
    """Version control system of `url`, such as `git`."""

    @property
    def requirement(self) -> str:
        """The source as a requirement that pip and uv take (PEP 508)."""
        return f"{NAME} @ {f'{self.vcs}+' if self.vcs else ''}{self.url}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """One environment that modeldeck is installed in."""

    installer: Installer
    python: str
    """Path of the environment's interpreter."""
    source: InstallationSource | None = None
    """None where it came from a package index."""
    extras: tuple[str, ...] = ()
    """Extras of modeldeck that `uv tool` was asked for."""
    added: tuple[str, ...] = ()
    """Requirements that `uv tool` was asked to add; the next `uv tool install` drops the others."""

    def install(self, *packages: str, rebuild: bool = False) -> str:
        """The shell command that adds packages to this environment.

        Args:
            packages: Requirements such as `gguf>=0.19`.
            rebuild: Whether to install them anew, without builds that were kept from before.
        """
        words: list[str]
        match self.installer:
            case "uv tool":
                added = [word for each in (*self.added, *packages) for word in ("--with", each)]
                words = ["uv", "tool", "install", *added]
                words += ["--reinstall", "--no-cache"] if rebuild else []
                words += self._as_asked()
            case "pipx":
                words = ["pipx", "inject", *(["--force"] if rebuild else [])]
                words += ["--pip-args=--no-cache-dir"] if rebuild else []
                words += [NAME, *packages]
            case "uv venv":
                words = ["uv", "pip", "install", "--python", self.python]
                words += ["--reinstall", "--no-cache"] if rebuild else []
                words += packages
            case "pip":
                words = [self.python, "-m", "pip", "install"]
                words += ["--force-reinstall", "--no-cache-dir"] if rebuild else []
                words += packages
        return shlex.join(words)

    def update(self) -> str:
        """The shell command that installs the newest modeldeck from where this one came."""
        source = self.source
        pull = ""
        if source is not None and source.folder is not None:
            pull = shlex.join(["git", "-C", source.folder, "pull"]) + " && "
        if self.installer == "uv tool":
            return f"{pull}uv tool upgrade {NAME}"
        if self.installer == "pipx":
            return f"{pull}pipx {'upgrade' if source is None or source.vcs else 'reinstall'} {NAME}"
        tool = (
            ["uv", "pip", "install", "--python", self.python]
            if self.installer == "uv venv"
            else [self.python, "-m", "pip", "install"]
        )
        if source is None:
            return shlex.join([*tool, "--upgrade", NAME])
        if source.folder is None:
            return shlex.join([*tool, "--upgrade", source.requirement])
        return pull + shlex.join([*tool, *(["-e"] if source.editable else []), source.folder])

    def _as_asked(self) -> list[str]:
        """Arguments that name modeldeck to `uv tool install` as they did the first time."""
        extras = f"[{','.join(self.extras)}]" if self.extras else ""
        if self.source is None:
            return [f"{NAME}{extras}"]
        if self.source.folder is not None:
            editable = ["--editable"] if self.source.editable else []
            return [*editable, f"{self.source.folder}{extras}"]
        return [self.source.requirement.replace(NAME, f"{NAME}{extras}", 1)]


@cache
def this_installation() -> Installation:
    """The installation of the running program. Reads three small files of it, once."""
    from importlib import metadata, util  # takes 10 ms, and only a remedy needs it

    try:
        direct_url = metadata.distribution(NAME).read_text("direct_url.json")
    except (metadata.PackageNotFoundError, OSError, ValueError):
        direct_url = None  # a checkout that was never installed, or a file that cannot be read
    has_pip = util.find_spec("pip") is not None
    return find(Path(sys.prefix), sys.executable, direct_url, has_pip=has_pip)


def update_command() -> str:
    """The shell command that updates the running program."""
    return this_installation().update()


def find(prefix: Path, python: str, direct_url: str | None, *, has_pip: bool) -> Installation:
    """The installation in an environment's folder.

    A record that cannot be read counts as absent: what follows is a remedy, no decision.

    Args:
        prefix: Folder of the environment.
        python: Path of its interpreter.
        direct_url: Text of modeldeck's `direct_url.json`; None where there is none.
        has_pip: Whether the environment has pip.
    """
    source = _source(direct_url)
    if (prefix / "uv-receipt.toml").exists():
        extras, added = _asked_of_uv(_text(prefix / "uv-receipt.toml"))
        return Installation(
            installer="uv tool", python=python, source=source, extras=extras, added=added
        )
    installer: Installer = "pip"
    if (prefix / "pipx_metadata.json").exists():
        installer = "pipx"
    elif not has_pip and "uv = " in _text(prefix / "pyvenv.cfg"):
        installer = "uv venv"
    return Installation(installer=installer, python=python, source=source)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""


def _source(direct_url: str | None) -> InstallationSource | None:
    """What `direct_url.json` says (PEP 610); None where it says nothing of use."""
    try:
        record: Any = json.loads(direct_url or "null")
        url = str(record["url"])
        folder = unquote(urlsplit(url).path) if "dir_info" in record else None
        return InstallationSource(
            url=url,
            folder=folder,
            editable=bool(record.get("dir_info", {}).get("editable")),
            vcs=record["vcs_info"]["vcs"] if "vcs_info" in record else None,
        )
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _asked_of_uv(receipt: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Extras of modeldeck, and further requirements, that a receipt of `uv tool` holds."""
    import tomllib  # of no use but here

    extras: tuple[str, ...] = ()
    added = []
    try:
        for each in tomllib.loads(receipt)["tool"]["requirements"]:
            own = tuple(map(str, each.get("extras", ())))
            if each["name"] == NAME:
                extras = own
            else:
                marked = f"[{','.join(own)}]" if own else ""
                added.append(f"{each['name']}{marked}{each.get('specifier', '')}")
    except (ValueError, TypeError, KeyError, AttributeError):
        pass
    return extras, tuple(added)
