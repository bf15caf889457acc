"""The configuration: a TOML file and the environment, read into frozen records.

Every setting has its default and the reason for it here. `load` never fails for what a person
wrote: an unknown key or a bad value becomes a `Problem` that names the line, and the default
stands. `set_value` changes one key and leaves comments and order alone (tomlkit, which is imported
for that alone: the dashboard reads its settings before it draws anything).

The environment wins over the file: `MODELDECK_<SECTION>_<KEY>`, such as `MODELDECK_API_PORT=5323`.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    TypeVar,
    get_args,
    get_origin,
    get_type_hints,
)

import msgspec

from modeldeck.core.config.schedule import Rate, Window
from modeldeck.core.errors import InvalidRequest, NotEnoughDisk, StorageFailed
from modeldeck.core.storage.files import OWNER_ONLY, is_disk_full, locked_folder, replace_file
from modeldeck.core.storage.foreign_files import read_regular

if TYPE_CHECKING:
    from modeldeck.core.schema import LoadOptions

Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Bytes = Annotated[int, msgspec.Meta(ge=0)]
Seconds = Annotated[float, msgspec.Meta(ge=0)]
Count = Annotated[int, msgspec.Meta(ge=1)]
Address = Annotated[str, msgspec.Meta(pattern=r"^$|^(\[[0-9A-Fa-f:.]+\]|[^:\s/]+):[0-9]{1,5}$")]
"""Host and port; an empty one, as an environment variable may give it, is none."""
Parallel = Annotated[int, msgspec.Meta(ge=1, le=16)]
ContextLength = Annotated[int, msgspec.Meta(ge=16, le=1 << 24)]
"""Tokens. No model exists above 2^24, and llama.cpp given 2^28 fills the machine with its cache."""

LONGEST = 4 << 20
"""Bytes of a configuration file; a long one has kilobytes."""

DOCUMENTED_PORTS = (1000, 5323, *range(39300, 39334))
"""Ports that the documented API's clients look on, in the order they are tried."""


S = TypeVar("S")

_KEY_PART = re.compile(r""""[^"]*"|'[^']*'|[^.\s]+""")


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """The listener."""

    port: Port | None = None
    """TCP port on 127.0.0.1 and ::1; 0 for any free one. Unset: the first free one of
    `DOCUMENTED_PORTS`, because the documented API's clients look on those."""
    socket: bool = True
    """Whether to answer on the Unix socket as well: front ends use it, and SSH can carry it."""
    socket_group: bool = False
    """Whether the group of the core's user may use the Unix socket: for a core that runs as a
    service with a user of its own. Off, since a process that reaches the socket may do
    everything."""
    allowed_hosts: tuple[str, ...] = ()
    """Names accepted in `Host` besides the loopback ones; each more is one a page can rebind."""
    allowed_origins: tuple[str, ...] = ()
    """Origins of web pages that may call, such as `http://localhost:3000`; none by default, since a
    page must not start a download unasked."""
    outside: Address | None = None
    """An address beyond this machine to answer on as well, such as `0.0.0.0:8443`; needs a token
    (`modeldeck token create`), and should have a certificate. Unset: this machine only."""
    tls_certificate: str | None = None
    """PEM file with the certificate of `outside`, and those that vouch for it."""
    tls_key: str | None = None
    """PEM file with its key, if that is not in the certificate's."""
    require_token: bool = False
    """Whether TCP on loopback needs a token as well: for a machine that has several users. The
    documented API's clients cannot send one."""
    requests_per_s: Count = 100
    """For each token, and each address beyond this machine; a dashboard asks 2 times a second."""
    requests_burst: Count = 200
    """How many may come at once after a pause: a script that begins with a list."""
    requests_at_once: Count = 32
    """Under way for each of them, open sockets and streams included."""
    connections_per_address: Count = 64
    """From each address beyond this machine; a browser opens 6."""
    body_limit_bytes: Annotated[int, msgspec.Meta(ge=1 << 16, le=1 << 30)] = 64 << 20
    """The longest body of a request to a model, which may hold images; Anthropic's own limit is
    32 MB. All bodies together may take four times as much, and 256 MiB at least."""
    access_log: bool = False
    """Whether each request is written to the log of the core, with its id (in the foreground with
    `--verbose`); off, for it grows."""
    load_on_demand: bool = True
    """Whether a request for a model that is downloaded and not loaded loads it: what clients of the
    OpenAI and Ollama APIs expect. Off, such a request is refused."""
    pieces_clients: bool = False
    """Whether to serve what the documented API's own programs need besides its operations
    (`PiecesClient`, pieces-cli). Off, because it lists two placeholders for cloud models."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HubSettings:
    """The Hub that models come from."""

    endpoint: str = "https://huggingface.co"
    """Base URL; `HF_ENDPOINT` wins, as in every tool that uses the Hub."""
    search_limit: Count = 30
    """Repositories in one answer: about a screen."""
    timeout_s: Seconds = 10
    """For one question about metadata; the Hub answers in well under a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadSettings:
    """The download queue."""

    jobs_at_once: Count = 2
    """Two keep a fast line full while one of them verifies."""
    rate_limit_bytes_per_s: Count | None = None
    """For all downloads together. Unset: as fast as the line is."""
    schedule: Mapping[Window, Rate] = field(default_factory=dict)
    """Other limits at parts of the day, such as `"01:00-07:00" = "none"`: local time, in bytes per
    second; where several fit the first counts."""
    give_way: bool = False
    """Hold back while an attached dashboard waits in line: off, because only a person knows whether
    the line is shared."""
    connections: Count = 16
    """The most for one file. It begins with one; more come while each brings speed."""
    disk_floor_bytes: Bytes = 2 << 30
    """Free disk that downloads never touch: a full system disk stops more than downloads."""
    stall_s: Seconds = 30
    """A connection that brings nothing for this long is given up and made anew."""
    retries: Count = 5
    """Answers in a row that make no sense, without one new byte, before a job fails. A network
    that is down or a server that is busy never ends one."""
    trusted_hosts: tuple[str, ...] = ()
    """Hosts that a URL of a model may lead to although they are in a private network, or without
    TLS, such as `nas.local`. None by default: a URL from a client must not reach what only this
    machine can."""
    retry_wait_s: Seconds = 1
    """Before the second try; doubles with each further one, up to half a minute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeSettings:
    """Loading and running models."""

    context_length: ContextLength = 8192
    """Asked for when nothing else says; never more than the model was trained for. Enough for a
    long conversation, and its cache is small beside the weights of most models."""
    context_fit: bool = True
    """Take less where `context_length` does not fit the memory that is free; off: it is refused."""
    when_full: Literal["refuse", "unload_idle"] = "refuse"
    """What a load does when memory is short and it does not say itself: other tools must not lose a
    model."""
    memory_reserve_bytes: Bytes = 1 << 30
    """Left to the system when judging whether a model fits."""
    memory_budget_bytes: Count | None = None
    """What models may take together. Unset: what the machine has, less the reserve."""
    idle_ttl_s: Seconds = 0
    """Unload after this long without a request; 0 keeps it until it is unloaded."""
    load_stall_s: Seconds = 120
    """A load that makes no progress for this long is given up; a slow disk still moves."""
    silence_s: Seconds = 60
    """An engine that gives no sign of life for this long over a request is ended, and the model is
    loaded again; 0 waits for ever. It gives one every second, also while it reads a long prompt."""
    unload_grace_s: Seconds = 10
    """How long a running answer may go on when its model is unloaded."""
    parallel: Parallel = 4
    """Requests that one model answers at the same time; fewer where memory is short. They share the
    cells of one KV cache, so more of them do not multiply it. On a CPU two gain nothing, four
    nearly double the tokens per second."""
    turn_s: Seconds = 0.5
    """How long prompts are read for at most before running answers get their next token."""
    prefix_cache_bytes: Bytes | None = None
    """Memory for the state of conversations that no request holds, so that they need not be read
    again; 0 for none. Unset: 512 MiB, and at most a tenth of the machine's memory."""
    prefix_cache_disk_bytes: Bytes = 0
    """The same on disk, where it outlives the model's unloading; 0 keeps nothing on disk, since it
    holds what people wrote."""
    stop_loops: bool = True
    """Cut an answer whose last 1,024 tokens are one run of at most 128, again and again; one that a
    grammar rules may repeat as it likes."""
    queue_length: Count = 32
    """Requests that may wait for one instance; the next is refused as busy."""
    calibrate: bool = True
    """Measure once what an engine takes besides its model, on models of a few kilobytes, when an
    engine is new or was updated: some seconds of one processor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tui:
    """The dashboard."""

    theme: str = "deck-dark"
    """A theme that comes with modeldeck, or one of your own in the `themes` folder beside this
    file; dark, because most terminals are."""
    ascii: bool | None = None
    """Draw with ASCII signs only. Unset: where the locale is not UTF-8."""
    low_bandwidth: bool | None = None
    """Draw seldom and without animation. Unset: over SSH, and where the core is far away."""
    notify: Literal["off", "bell", "osc9"] = "bell"
    """How the terminal is told that a long job has ended: by the bell, which every terminal and
    tmux know, or by OSC 9, a notification of the desktop, which some know."""
    notify_after_s: Seconds = 30
    """What took less is not worth a notification: the person is still looking."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteSettings:
    """Another core: on a machine that `ssh` reaches, at a URL, or on a socket of this machine."""

    ssh: str | None = None
    """Anything that OpenSSH takes as a destination: `gpu1`, `me@gpu1.lan`, an alias."""
    socket: str | None = None
    """The Unix socket of another core on this machine, such as that of a service."""
    command: str | None = None
    """What starts modeldeck there, as its shell reads it. Unset: it is looked for."""
    url: str | None = None
    """Where it answers over HTTPS, or over HTTP on this machine."""
    token_file: str | None = None
    """With `url`: the file that holds the token."""
    ca_file: str | None = None
    """With `url`: the certificates that are trusted, instead of the usual ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All settings, by section of the file."""

    api: Api = field(default_factory=Api)
    hub: HubSettings = field(default_factory=HubSettings)
    downloads: DownloadSettings = field(default_factory=DownloadSettings)
    runtime: RuntimeSettings = field(default_factory=RuntimeSettings)
    tui: Tui = field(default_factory=Tui)
    keys: Mapping[str, str] = field(default_factory=dict)
    """Keys of the dashboard by the command's full name: `"catalog.download" = "D"`."""
    hosts: Mapping[str, RemoteSettings] = field(default_factory=dict)
    """Other machines by the name they are called here: `gpu1 = "me@gpu1.lan"`, or a table."""
    models: Mapping[str, LoadOptions] = field(default_factory=dict)
    """How single models are loaded, by unique name or repository:
    `[models."Qwen/Qwen3-8B-GGUF:Q4_K_M"]` with any of the load options."""


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
