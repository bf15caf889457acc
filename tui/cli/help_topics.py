"""Texts of `modeldeck help TOPIC`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from modeldeck.tui.cli.status_line import FORMAT, NAMES


@dataclass(frozen=True, slots=True)
class Topic:
    """One thing worth a page."""

    summary: str
    text: str
    """Paragraphs; lines that begin with blanks stand as they are."""


_NAMES = "\n".join(f"    {{{name}}}{'':{12 - len(name)}}{words}" for name, words in NAMES.items())

TOPICS: Mapping[str, Topic] = {
    "remote": Topic(
        "other machines: ssh, URLs, fleets",
        """\
`modeldeck @gpu1` shows the dashboard here, of the core there. The system's own ssh carries the Unix
socket of that core, so aliases, jump hosts, agents, keys and ControlMaster work as they do for ssh,
and no port is opened on either side. Where ssh has a question (a password, a new host key) it asks
it before the dashboard starts. A line that breaks is made again by itself, without a question:
where it needs one (a password, and no key in an agent) it says so, and `ctrl+r` lets it ask.

modeldeck must be installed over there; the core is started when none runs. Every command works
there as it does here:

    modeldeck @gpu1 pull Qwen/Qwen3-0.6B-GGUF:Q8_0
    modeldeck --on @gpu1 --on @gpu2 ps
    modeldeck @all fit qwen3-8b --json

Fleet (`6`) has a line for this machine and each that the configuration names. They are connected
to when it is first opened; one that needs a password says so, and `r` lets ssh ask. `f` asks which
of them would serve a model: where it is loaded, fits now, fits after idle ones are unloaded, or is
downloaded first. `enter` goes into a machine, `ctrl+o` to the next. `modeldeck @a @b @c` opens at
Fleet, with a line for each of these. Of several machines, JSON lines are
{"machine": NAME, "answer": ...}, and errors {"machine": NAME, "error": ...}.

Machines can be named in config.toml; `@all` means all of these, `@local` this one, and `@system`
the service of this machine. `prefer` puts one before others that would serve a model equally well:

    [hosts]
    gpu1 = "me@gpu1.lan"
    studio = { ssh = "studio", command = "/opt/homebrew/bin/modeldeck", prefer = 1 }
    cloud = { url = "https://cloud.example:5323", token_file = "~/.config/cloud.token" }

`modeldeck --url https://host:port --token-file FILE` needs no ssh. The file must be readable by
no other user (chmod 600); `--ca-file` names the certificates to trust.

`modeldeck copy MODEL @from @to` copies a model that one machine has to another, checks its hashes
there, and goes on where it stopped. In Fleet `c` does so, to the machine under the cursor.""",
    ),
    "status-line": Topic(
        "one line for tmux, a prompt or a panel",
        f"""\
`modeldeck status --line` answers in well under 0.1 s and never starts a core; without one it says
"no core", with exit code 7. `--format` says what the line has:

{_NAMES}

A part in round brackets is left out where all that it names is nothing. ((, )), {{{{ and }}}} write
the sign itself. Without --format it is

    {FORMAT}

In ~/.tmux.conf:

    set -g status-interval 5
    set -g status-right '#(modeldeck status --line) | %H:%M'""",
    ),
    "completion": Topic(
        "completion of commands and model names in bash, zsh and fish",
        """\
    bash    source <(modeldeck completion bash)           in ~/.bashrc
    zsh     source <(modeldeck completion zsh)            in ~/.zshrc, after compinit
    fish    modeldeck completion fish | source            in ~/.config/fish/config.fish

Names are those of the core that runs; without one, those of the built-in catalog.""",
    ),
    "files": Topic(
        "where everything lies, and what moves it",
        """\
    MODELDECK_HOME          configuration, state, sockets and logs under one folder
    MODELDECK_CONFIG_DIR    config.toml, themes (~/.config/modeldeck)
    MODELDECK_STATE_DIR     the journal and what was measured (~/.local/state/modeldeck)
    MODELDECK_RUNTIME_DIR   the socket (run, in the state folder)
    MODELDECK_CACHE_DIR     answers of the Hub (~/.cache/modeldeck)
    MODELDECK_LOG_DIR       core.log
    HF_HOME, HF_HUB_CACHE   models: the standard cache of the Hub's tools

Those in brackets are of Linux; macOS has its own. Every setting of config.toml can be given as
MODELDECK_<SECTION>_<KEY> as well, such as MODELDECK_DOWNLOADS_JOBS_AT_ONCE=3.""",
    ),
    "terminal": Topic(
        "what the dashboard needs of a terminal, and slow lines",
        """\
It works at 80x24, at 60x15 and in one line; in 256 and 16 colours and without (NO_COLOR); in ASCII
(--ascii, tui.glyphs); in tmux 3.2 and newer and in screen; without a mouse. Nothing that changes is
told by colour alone.

On a slow line it draws once a second, and nothing moves or blinks: over SSH, and where the core is
more than 150 ms away. tui.low_bandwidth = true or false decides otherwise.

When a download or load that took more than 30 s ends, the terminal is told: tui.notify is "bell",
"osc9" for a notification of the desktop, or "off"; tui.notify_after_s is how long is long. In tmux,
OSC 9 needs `set -g allow-passthrough on`.""",
    ),
}
"""By the name that `modeldeck help NAME` takes."""
