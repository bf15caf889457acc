"""The table of routes in README, each with a line of curl: made from the table that routes.

python -m tests.api_table           prints it
python -m tests.api_table --write   puts it into README.md, between its two marks
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from modeldeck.core.api.examples import BODIES, HEADERS, QUERIES, SEGMENTS
from modeldeck.core.api.http.router import Route, split
from modeldeck.core.api.route_table import ROUTES

README = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- routes -->", "<!-- /routes -->"
HOST = "localhost:5323"

LONGEST = 300
"""Characters of a body that is shown whole."""

GROUPS = {
    "The documented API": ("Model", "Models"),
    "Its own programs (`api.pieces_clients = true`)": ("pieces clients",),
    "The native API": ("state", "feed", "models", "fits", "hub", "downloads", "instances", "cache"),
    "OpenAI's API": ("openai",),
    "Anthropic's API": ("anthropic",),
    "Ollama's API": ("ollama",),
    "What llama-server has besides": ("llama-server",),
    "The core": ("core", "machines"),
}
"""Headings, and the tags below each."""


def curl(route: Route) -> str:
    """A line that asks for the route."""
    words = ["curl"]
    if route.header is not None:
        words.append(f"-H '{route.header}: {HEADERS[route.header]}'")
    if route.method != "GET" and (route.method != "POST" or route.body is None):
        words.append(f"-X {route.method}")
    host = HOST
    if route.needs == "owner":
        words.append("--unix-socket SOCKET")
        host = "localhost"
    query = QUERIES.get(route.operation_id, {})
    url = ("" if route.handler else "ws://") + host + path_of(route)
    words.append(f"'{url}?{urlencode(query)}'" if query else url)
    if route.body is not None:
        body = json.dumps(body_of(route), separators=(",", ":"), ensure_ascii=False)
        words.append(f"--json '{body}'")
    return " ".join(words)


def body_of(route: Route) -> Any:
    """The example of a body; only the outermost names of one that is not written by hand."""
    body = BODIES[route.operation_id]
    return body if len(str(body)) < LONGEST else dict.fromkeys(body, "...")


def path_of(route: Route) -> str:
    """The path with its variable parts filled in."""
    documented = route.tag in ("Model", "Models", "pieces clients")
    parts = [
        part
        if not part.startswith("{")
        else "MODEL_ID"
        if documented
        else SEGMENTS[part.strip("{}")]
        for part in split(route.template)
    ]
    return "/" + "/".join(parts)


def lines() -> Iterator[str]:
    """The table, in Markdown."""
    for heading, tags in GROUPS.items():
        yield from (f"**{heading}**", "", "| what | for example |", "| --- | --- |")
        for route in ROUTES:
            if route.tag in tags:
                yield f"| {route.summary} | `{curl(route)}` |"
        yield ""


def table() -> str:
    """All of it."""
    return "\n".join(lines()).rstrip() + "\n"


def written(text: str) -> str:
    """README with the table between its marks. Raises ValueError where they are missing."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"README.md has no {BEGIN} and {END} around its table of routes")
    return f"{before}{BEGIN}\n{table()}{END}{after}"


if __name__ == "__main__":
    if "--write" in sys.argv:
        README.write_text(written(README.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        print(table(), end="")
