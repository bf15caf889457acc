"""The settings, each with its default and the reason for it. `config_file` reads and writes them.

The environment wins over the file: `MODELDECK_<SECTION>_<KEY>`, such as `MODELDECK_API_PORT=5323`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from modeldeck.core.config.schedule import Rate, Window

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

DOCUMENTED_PORTS = (1000, 5323, *range(39300, 39334))
"""Ports that the documented API's clients look on, in the order they are tried."""


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
    fetch_images: bool = False
    """Whether images and recordings at http and https URLs in a request are fetched, 20 MiB each;
    hosts in a private network, and this machine, only where `downloads.trusted_hosts` names them.
    Off, because a request could then make this machine ask any server."""
    access_log: bool = False
    """Whether each request is written to the log of the core, with its id (in the foreground with
    `--verbose`); off, for it grows."""
    load_on_demand: bool = True
    """Whether a request for a model that is downloaded and not loaded loads it: what clients of the
    OpenAI and Ollama APIs expect. Off, such a request is refused."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Names that stand for models, for programs that ask by names of their own, such as
    `"claude-haiku-*" = "qwen3-4b"`; a `*` at the end stands for anything. A model's own name
    wins."""
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
    catalog: str | None = None
    """A TOML file in the form of `core/catalog/builtin.toml`: models that are listed before the
    built-in ones."""
    check_updates: bool = False
    """Whether the Hub is asked once a day for newer files of the models that came from it. Off:
    the Hub is asked only when a person or a client does, such as by `modeldeck outdated`."""
    timeout_s: Seconds = 10
    """For one question about metadata; the Hub answers in well under a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogSettings:
    """The list of models."""

    also_from: tuple[Literal["ollama", "lm studio"], ...] = ("ollama", "lm studio")
    """Tools whose models on this machine are listed and loaded where they lie; their files are only
    read. On, since a model that is here already need not be downloaded again."""


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
    """Hosts that a URL of a model, or of an image (`api.fetch_images`), may lead to although they
    are in a private network, or without TLS, such as `nas.local`. None by default: a URL from a
    client must not reach what only this machine can."""
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
    """Memory that each loaded model may take for the state of conversations that no request holds,
    so that they need not be read again; 0 for none. Unset: 512 MiB, and at most a tenth of the
    machine's memory. Where memory is short a model gets less, or none."""
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
    glyphs: Literal["unicode", "console", "ascii"] | None = None
    """Signs to draw with. Unset: ASCII where the locale is not UTF-8, those of the Linux console
    there, else Unicode's."""
    readonly: bool = False
    """Only look: nothing is downloaded, loaded or deleted from the dashboard. The core decides by
    its tokens; this spares accidents."""
    low_bandwidth: bool | None = None
    """Draw seldom and without animation. Unset: over SSH, and where the core is far away."""
    notify: Literal["off", "bell", "osc9"] = "bell"
    """How the terminal is told that a long job has ended: by the bell, which every terminal and
    tmux know, or by OSC 9, a notification of the desktop, which some know."""
    notify_after_s: Seconds = 30
    """What took less is not worth a notification: the person is still looking."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatSettings:
    """Conversations with models, which the front ends keep."""

    keep: bool = True
    """Whether conversations are written to `chats.db` in the state folder, for their owner alone;
    off, they are gone when the dashboard ends, as private ones are."""
    keep_days: Annotated[int, msgspec.Meta(ge=0, le=36500)] = 0
    """Days after its last change that a conversation is kept; 0 for ever, since only its owner
    knows when it is of no more use."""


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
    prefer: Annotated[int, msgspec.Meta(ge=-100, le=100)] = 0
    """Of machines that would serve a model equally well, the one with the most comes first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All settings, by section of the file."""

    api: Api = field(default_factory=Api)
    hub: HubSettings = field(default_factory=HubSettings)
    catalog: CatalogSettings = field(default_factory=CatalogSettings)
    downloads: DownloadSettings = field(default_factory=DownloadSettings)
    runtime: RuntimeSettings = field(default_factory=RuntimeSettings)
    tui: Tui = field(default_factory=Tui)
    chat: ChatSettings = field(default_factory=ChatSettings)
    keys: Mapping[str, str] = field(default_factory=dict)
    """Keys of the dashboard by the command's full name: `"catalog.download" = "D"`."""
    hosts: Mapping[str, RemoteSettings] = field(default_factory=dict)
    """Other machines by the name they are called here: `gpu1 = "me@gpu1.lan"`, or a table."""
    models: Mapping[str, LoadOptions] = field(default_factory=dict)
    """How single models are loaded, by unique name or repository:
    `[models."Qwen/Qwen3-8B-GGUF:Q4_K_M"]` with any of the load options."""
