"""Other programs of the terminal, to measure beside the dashboard: those that are on PATH.

Each gets a home of its own, and something to move in where it would come up empty, so that what is
measured does not depend on who runs it and nothing of theirs is read or written.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

REQUESTS = 30
"""In posting's collection: more than one screen of them at 60x15."""
NOBODY = "http://127.0.0.1:9"
"""In place of the Ollama that parllama would look for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """One program, and how it is started for this."""

    name: str
    words: Callable[[Path], Sequence[str]] = lambda _: ()
    """Its arguments, given its home."""
    environ: Mapping[str, str] = field(default_factory=dict)


def _collection(home: Path) -> Sequence[str]:
    folder = home / "requests"
    folder.mkdir(parents=True)
    for number in range(REQUESTS):
        name = f"request {number:02}"
        (folder / f"r{number:02}.posting.yaml").write_text(f"name: {name}\nurl: {NOBODY}\n")
    return ("default", "--collection", str(folder))


def _known(home: Path) -> Sequence[str]:
    """It covers its screen with a greeting at the first start."""
    (home / "settings.json").write_text('{"show_first_run": false}')
    quiet = ("--no-save", "--no-chat-save", "--use-last-tab-on-startup", "0")
    return ("--data-dir", str(home), *quiet, "--ollama-url", NOBODY, "-s", "options")


PEERS = (
    Peer(name="htop"),
    Peer(name="btop"),
    Peer(
        name="posting",
        words=_collection,
        environ={"POSTING_FOCUS__ON_STARTUP": "collection"},
    ),
    Peer(
        name="parllama",
        words=_known,
        environ={"LITELLM_LOCAL_MODEL_COST_MAP": "True"},  # else it asks the internet for prices
    ),
)


def path_of(peer: Peer) -> str | None:
    """Where it is; None where it is not installed."""
    return shutil.which(peer.name)


def version(path: str) -> str:
    """What it calls its version; empty where it tells none."""
    said = _answer(path, "--version")
    if found := re.search(r"\d+(\.\d+)+", said):
        return found[0]
    with Path(path).open("rb") as program:
        first = program.readline().decode(errors="replace").strip()
    if not first.startswith("#!") or "python" not in first:
        return ""
    asked = f"from importlib.metadata import version; print(version({Path(path).name!r}))"
    return _answer(first.removeprefix("#!"), "-c", asked).strip()


def _answer(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    return done.stdout if done.returncode == 0 else ""
