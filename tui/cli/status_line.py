"""`modeldeck status --line`: one line for tmux's status bar, a prompt, or a panel.

It is asked for every few seconds, so it imports next to nothing: one plain HTTP request over the
core's own socket, without asyncio, httpx or click.

A format is text with names in braces. A part in round brackets is left out where all that it names
is nothing: `{loaded} loaded( v {rate})` has no rate while nothing is downloaded. `((`, `))`, `{{`
and `}}` stand for the sign itself.
"""

from __future__ import annotations

import json
import re
import socket
import sys
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from modeldeck.core.config.paths import Paths, locate
from modeldeck.tui.text import format as fmt

FORMAT = "RAM {used}/{total}(  {down} {rate} (({downloads})))  {loads} loaded"
"""The default format."""
NO_CORE = "no core"
PATIENCE_S = 2.0
"""To wait for a core that hangs: a status bar must not hang."""
WRONG, UNREACHABLE = 2, 7
"""Exit codes, as all commands have them."""
LARGEST = 64 << 20
"""Bytes of an answer; a summary has a few hundred, a State of 10,000 models about 8 MiB."""

NAMES: Mapping[str, str] = {
    "downloads": "how many run",
    "queued": "how many wait",
    "rate": "of all downloads",
    "percent": "of all that is being downloaded",
    "eta": "until the last one is done",
    "loaded": "how many models are loaded",
    "loads": "the same, 0 included",
    "loading": "how many are being loaded",
    "models": "the loaded ones by name",
    "used": "memory that is taken",
    "total": "memory there is",
    "free": "memory that is free",
    "disk": "room on the disk of the cache",
    "name": "of the machine",
    "version": "of modeldeck",
    "down": "an arrow",
}
"""The names that a format may contain."""

_TOKEN = re.compile(r"\(\(|\)\)|\{\{|\}\}|\{(\w*)\}|[()]|[^(){}]+|[{}]")


class BadFormat(Exception):
    """A format that cannot be understood; its text says why."""


def values(summary: Mapping[str, Any], signs: fmt.Glyphs) -> dict[str, str]:
    """Return the text for each name; empty for zero and unknown."""
    total, free = summary["memory_total_bytes"], summary["memory_available_bytes"]
    taken = total - free if total is not None and free is not None else None
    used, whole = fmt.memory(taken), fmt.memory(total)
    share = summary["received_bytes"] / summary["total_bytes"] if summary["total_bytes"] else None
    loaded = summary["loaded"]

    def number(count: int) -> str:
        return str(count) if count else ""

    return {
        "downloads": number(summary["downloads"]),
        "queued": number(summary["queued"]),
        "rate": fmt.rate(summary["rate_bytes_per_s"]) if summary["downloads"] else "",
        "percent": fmt.percent(share) if share is not None else "",
        "eta": fmt.span(summary["eta_s"]) if summary["eta_s"] is not None else "",
        "loaded": number(len(loaded)),
        "loads": str(len(loaded)),
        "loading": number(summary["loading"]),
        "models": ", ".join(fmt.clean(unique).rpartition("/")[2] for unique in loaded),
        "used": used.split(" ")[0] if used[-3:] == whole[-3:] else used,
        "total": whole,
        "free": fmt.memory(free),
        "disk": fmt.size(summary["disk_free_bytes"]),
        "name": fmt.clean(summary["name"]),
        "version": summary["version"],
        "down": signs.down,
    }


def filled(form: str, known: Mapping[str, str]) -> str:
    """The format with its names replaced. Raises BadFormat.

    >>> filled("{a}( and {b})", {"a": "1", "b": ""}), filled("(({a}))", {"a": "1"})
    ('1', '(1)')
    """
    out, part, says = "", None, False
    for token in _TOKEN.finditer(form):
        text = token[0]
        if token[1] is not None:
            if token[1] not in known:
                raise BadFormat(f"{text} is not known; there is {', '.join(known)}.")
            says = says or bool(known[token[1]] and token[1] != "down")
            text = known[token[1]]
        elif text in ("((", "))", "{{", "}}"):
            text = text[0]
        elif text == "(" and part is None:
            part, says = "", False
            continue
        elif text == ")" and part is not None:
            out, part = out + (part if says else ""), None
            continue
        elif text in "(){}":
            raise BadFormat(
                f"{text} at {token.start() + 1} has no other half; {text * 2} writes it."
            )
        if part is None:
            out += text
        else:
            part += text
    if part is not None:
        raise BadFormat("A ( is not closed; (( writes one.")
    return out


def ask(paths: Paths, path: str = "/deck/summary") -> dict[str, Any] | None:
    """Request the summary from the core of these folders; None where none answers."""
    try:
        ready = json.loads(paths.ready_file.read_bytes())
        with _connection(ready) as line:
            line.settimeout(PATIENCE_S)
            # HTTP/1.0: the answer ends with the connection, and comes in one piece (RFC 1945).
            line.sendall(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
            answer = bytearray()
            while len(answer) < LARGEST and (piece := line.recv(65536)):
                answer += piece
        head, _, body = answer.partition(b"\r\n\r\n")
        summary = json.loads(body) if head.split(b" ", 2)[1:2] == [b"200"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return summary if isinstance(summary, dict) else None


def _connection(ready: Mapping[str, Any]) -> socket.socket:
    if ready["socket"]:
        line = socket.socket(socket.AF_UNIX)
        try:
            line.settimeout(PATIENCE_S)
            line.connect(ready["socket"])
        except BaseException:
            line.close()
            raise
        return line
    url = urlsplit(ready["url"])
    return socket.create_connection((url.hostname, url.port), PATIENCE_S)


def show(form: str | None = None) -> int:
    """Print the line: the exit code. Where no core runs it says so in two words."""
    signs = fmt.glyphs(sys.stdout.encoding)
    summary = ask(locate())
    if summary is None:
        print(NO_CORE)
        return UNREACHABLE
    try:
        text = filled(FORMAT if form is None else form, values(summary, signs))
    except BadFormat as error:
        print(f"modeldeck: --format: {error}", file=sys.stderr)
        return WRONG
    except (KeyError, TypeError, AttributeError):
        print("modeldeck: the core is of another version.", file=sys.stderr)
        return UNREACHABLE
    if signs is fmt.ASCII:
        text = text.translate({ord("—"): "-"})
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr] # standard output is text
    print(text)
    return 0


def asked_for(words: Sequence[str]) -> tuple[str | None] | None:
    """The format in a command line that asks for one line and nothing besides; else None.

    >>> asked_for(["status", "--line"]), asked_for(["status", "--line", "--format", "x"])
    ((None,), ('x',))
    >>> asked_for(["status", "--json", "--line"]) is None
    True
    """
    match list(words):
        case ["status", "--line"]:
            return (None,)
        case ["status", "--line", "--format", form]:
            return (form,)
        case ["status", "--format", form, "--line"]:
            return (form,)
        case ["status", "--line", given] if given.startswith("--format="):
            return (given.partition("=")[2],)
    return None
