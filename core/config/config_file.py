"""The configuration file and the environment, read into the records of `config`, and written.

`load` never fails for what a person wrote: an unknown key or a bad value becomes a `Problem` that
names the line, and the default stands. `set_value` changes one key and leaves comments and order
alone (tomlkit, which is imported for that alone: the dashboard reads its settings before it draws
anything).
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from modeldeck.core.config.config import Config, RemoteSettings
from modeldeck.core.errors import InvalidRequest, NotEnoughDisk, StorageFailed
from modeldeck.core.storage.files import OWNER_ONLY, is_disk_full, locked_folder, replace_file
from modeldeck.core.storage.foreign_files import read_regular

if TYPE_CHECKING:
    from modeldeck.core.schema import LoadOptions

LONGEST = 4 << 20
"""Bytes of a configuration file; a long one has kilobytes."""

S = TypeVar("S")

_KEY_PART = re.compile(r""""[^"]*"|'[^']*'|[^.\s]+""")


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """An entry of the configuration that was ignored, and why."""

    where: str
    """`path:line`, or the environment variable."""
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


def load(path: Path, environ: Mapping[str, str] = os.environ) -> tuple[Config, tuple[Problem, ...]]:
    """The configuration in force, and what was not taken. A missing file means all defaults."""
    try:
        text = read_regular(path, LONGEST).decode("utf-8")
    except FileNotFoundError:
        text = ""
    except (OSError, UnicodeDecodeError) as error:
        text, problems = "", [Problem(where=str(path), message=f"cannot be read: {error}")]
        return _with_environment(Config(), problems, environ)
    return _with_environment(*_parsed(text, path), environ=environ)


def _parsed(text: str, path: Path) -> tuple[Config, list[Problem]]:
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        at = re.search(r"at line (\d+)", str(error))
        line = at[1] if at else len(text.splitlines())
        return Config(), [Problem(where=f"{path}:{line}", message=f"is not TOML: {error}")]
    config, problems = Config(), []
    for section, values in document.items():
        known = section in {f.name for f in fields(Config)}
        if not known or not isinstance(values, Mapping):
            where = f"{path}:{_line_of(text, section)}"
            problems.append(Problem(where=where, message=f"unknown section or key {section!r}"))
            continue
        for key, value in values.items():
            try:
                config = _assign(config, section, key, value)
            except InvalidRequest as error:
                where = f"{path}:{_line_of(text, section, key)}"
                problems.append(Problem(where=where, message=error.message))
    return config, problems


def _with_environment(
    config: Config, problems: list[Problem], environ: Mapping[str, str]
) -> tuple[Config, tuple[Problem, ...]]:
    for section, key in names():
        variable = f"MODELDECK_{section}_{key}".upper()
        if (text := environ.get(variable)) is not None:
            try:
                config = _assign(config, section, key, _from_text(section, key, text))
            except InvalidRequest as error:
                problems.append(Problem(where=variable, message=error.message))
    if endpoint := environ.get("HF_ENDPOINT"):
        config = _assign(config, "hub", "endpoint", endpoint.rstrip("/"))
    return config, tuple(problems)


def names() -> Iterator[tuple[str, str]]:
    """Every setting as section and key; the tables whose keys a person names are left out."""
    defaults = Config()
    for section in fields(Config):
        if section.name not in ("keys", "hosts", "models"):
            for key in fields(getattr(defaults, section.name)):
                yield section.name, key.name


def _assign(config: Config, section: str, key: str, value: object) -> Config:
    """The configuration with one setting changed. Raises InvalidRequest naming what is wrong."""
    if section == "keys":
        if not isinstance(value, str):
            raise InvalidRequest(f'keys are written as "{key}" = "d", with the name in quotes')
        return replace(config, keys={**config.keys, key: value})
    if section == "hosts":
        return replace(config, hosts={**config.hosts, key: _remote(key, value)})
    if section == "models":
        return replace(config, models={**config.models, key: _load_options(key, value)})
    if (section, key) not in set(names()):
        raise InvalidRequest(f"unknown key {key!r} in section [{section}]")
    record = getattr(config, section)
    try:
        taken = msgspec.convert(value, get_type_hints(type(record), include_extras=True)[key])
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"bad value for {section}.{key}: {error}") from error
    return replace(config, **{section: replace(record, **{key: taken})})


def _remote(name: str, value: object) -> RemoteSettings:
    """The machine that an entry of `hosts` describes. Raises InvalidRequest."""
    try:
        remote = msgspec.convert(
            {"ssh": value} if isinstance(value, str) else value, RemoteSettings
        )
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"bad value for hosts.{name}: {error}") from error
    if sum(map(bool, (remote.ssh, remote.url, remote.socket))) != 1:
        raise InvalidRequest(f"hosts.{name} needs one of ssh, url and socket")
    return remote


def _load_options(name: str, value: object) -> LoadOptions:
    """The options that an entry of `models` describes. Raises InvalidRequest."""
    if not isinstance(value, Mapping):
        raise InvalidRequest(f'load options are written as a table: [models."{name}"]')
    from modeldeck.core.config import (
        load_options,  # the records of loading are wanted where there are such entries
    )

    try:
        return load_options.from_table(value)
    except InvalidRequest as error:
        raise InvalidRequest(f"models.{name}: {error.message}", error.remedy) from error


def _from_text(section: str, key: str, text: str) -> object:
    """A setting's value as an environment variable spells it: TOML, or a bare string."""
    hint = get_type_hints(type(getattr(Config(), section)), include_extras=True)[key]
    if get_origin(hint) is tuple or any(get_origin(a) is tuple for a in get_args(hint)):
        return [part.strip() for part in text.split(",") if part.strip()]
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _line_of(text: str, section: str, key: str | None = None) -> int:
    """The line, from 1, where a section or a key of it stands; the first line when not found."""
    inside = False
    for number, line in enumerate(text.splitlines(), 1):
        bare = line.strip()
        if bare.startswith("["):
            inside = bare.lstrip("[").split("]")[0].strip().split(".")[0] == section
            names = _dotted(bare.strip("[] "))
            if inside and key in (None, *names[1:]):
                return number
        parts = _dotted(bare) if inside else _dotted(bare)[1:]
        if (inside or _dotted(bare)[0] == section) and key in (None, *parts):
            return number
    return 1


def _dotted(line: str) -> list[str]:
    """The parts of the key that a line of TOML begins with; a quoted one may have dots in it."""
    return [part.strip("\"'") for part in _KEY_PART.findall(line.split("=")[0])] or [""]


def changed(record: S, section: str, changes: Mapping[str, object]) -> S:
    """A section with some settings changed. Raises InvalidRequest naming what is wrong."""
    sections: dict[str, Any] = {section: record}
    whole = replace(Config(), **sections)
    for key, value in changes.items():
        whole = _assign(whole, section, key, value)
    taken: S = getattr(whole, section)
    return taken


def set_value(path: Path, section: str, key: str, value: Any) -> None:
    """Write one setting into the file; as `set_values`."""
    set_values(path, section, {key: value})


def set_values(path: Path, section: str, values: Mapping[str, Any]) -> None:
    """Write settings into the file, keeping its comments and order; None removes one.

    Raises InvalidRequest for an unknown key or a bad value, StorageFailed when the file cannot be
    read or written, NotEnoughDisk. The file is replaced in one step, so a crash leaves the old or
    the new one; a link to it stays a link, and it keeps its mode. Other programs and threads that
    write settings wait, so none of them loses what another one wrote.
    """
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    for key, value in values.items():
        if value is not None:
            _assign(Config(), section, key, value)
    try:
        target = Path(os.path.realpath(path, strict=False))
        target.parent.mkdir(parents=True, exist_ok=True)
        with locked_folder(target.parent):
            text = read_regular(target, LONGEST).decode("utf-8") if target.exists() else ""
            document = tomlkit.parse(text)
            table = document.setdefault(section, tomlkit.table())
            if not isinstance(table, MutableMapping):
                raise InvalidRequest(f"{path} has a value where section [{section}] should be.")
            for key, value in values.items():
                if value is None:
                    table.pop(key, None)
                else:
                    table[key] = list(value) if isinstance(value, tuple) else value
            data = tomlkit.dumps(document).encode()
            replace_file(target, data, prefix=".config-", mode=OWNER_ONLY)
    except (OSError, UnicodeDecodeError, TOMLKitError) as error:
        raise _unchangeable(path, error) from error


def _unchangeable(path: Path, error: Exception) -> StorageFailed:
    if is_disk_full(error):
        return NotEnoughDisk(f"The disk is full: {path} cannot be changed.", "Make room.")
    if isinstance(error, TimeoutError):
        return StorageFailed(
            f"{path} cannot be changed: another program holds its folder.", "Try it again."
        )
    return StorageFailed(f"{path} cannot be changed: {error}.", "Mend the file or its permissions.")
