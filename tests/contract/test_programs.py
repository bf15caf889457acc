"""Clients that people use, unchanged: those for Node, and litellm, against a real core.

`.ci/run` installs the ones for Node into this environment; litellm is installed by the first test
that needs it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from modeldeck.core.demo.model_writer import expected
from tests.contract.old_clients import installed
from tests.support.process import CoreProcess

pytestmark = pytest.mark.timeout(480)  # the first test may have to wait for pip
HERE = Path(__file__).parent
MODULES = Path(sys.prefix) / "npm" / "node_modules"
PACKAGES = "openai@7.59.0 @anthropic-ai/sdk@1.14.0 ollama@0.6.4 zod@4.6.7"
INSTALL = f"npm install --prefix {MODULES.parent} {PACKAGES}"
LITELLM = (
    *("litellm==1.110.2", "tiktoken", "fastuuid", "importlib_metadata<8.8", "zipp"),
    *("aiohttp", "aiohappyeyeballs", "aiosignal", "attrs", "frozenlist", "multidict"),
    *("propcache", "yarl"),
)
HTTP2 = ("h2", "hpack", "hyperframe")
"""What litellm needs besides, and is not in this environment; the rest of it is for its own server
and for clouds, and took a minute and a half to install."""
TINY = "deck/tiny-GGUF:Q8_0"
VECTORS = "deck/tiny-embed-GGUF:F16"
TAG = "hf.co/deck/tiny-GGUF:Q8_0"
PATIENCE_S = 60
COUNT = expected("count")


@pytest.fixture(scope="module")
def stocked(shared_core: CoreProcess) -> str:
    """The address of a core that has the tiny model."""
    with httpx.Client(base_url=f"{shared_core.url}/api", timeout=PATIENCE_S) as http:
        answer = http.post("/pull", json={"model": TINY, "stream": False})
        assert answer.json() == {"status": "success"}
    return shared_core.url


def told_by(command: list[str | Path], **environ: str) -> dict[str, Any]:
    """What a program prints, with no way out but to this machine."""
    nowhere = dict.fromkeys(("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"), "http://127.0.0.1:9")
    local = {"NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost"}
    done = subprocess.run(
        command,
        env={**os.environ, **nowhere, **local, **environ},
        capture_output=True,
        text=True,
        timeout=3 * PATIENCE_S,
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def node(program: str, folder: Path, *arguments: str) -> dict[str, Any]:
    """Run a program of Node beside the packages; skips the test where they are not installed."""
    missing = [name for name in ("openai", "@anthropic-ai/sdk", "ollama", "zod")
               if not (MODULES / name).is_dir()]  # fmt: skip
    found = shutil.which("node")
    if found is None or missing:
        pytest.skip(f"CLIENTS FOR NODE ARE NOT TESTED: they are not installed. {INSTALL}")
    # Node looks for packages beside the program.
    (folder / "node_modules").symlink_to(MODULES)
    shutil.copy(HERE / program, folder)
    return told_by([found, folder / program, *arguments])


def test_openai_s_client_for_node(stocked: str, tmp_path: Path) -> None:
    told = node("openai_round.mjs", tmp_path, stocked, TINY)
    assert {told.pop("parsed"), told.pop("strict")} <= {"Oslo", "Bergen"}
    assert TINY in told.pop("models")
    assert told == {
        "text": COUNT,
        "streamed": [COUNT, COUNT],
        "ends": ["response.created", "response.completed"],
        "round": COUNT,
        "forced": ["function_call"],
        "cut": "incomplete",
        "kept": COUNT,
        "items": 1,
        "chat": COUNT,
        "several": [[index, COUNT] for index in range(3)],
        "errors": [
            ["NotFoundError", "model_not_found"],
            ["BadRequestError", "context_length_exceeded"],
        ],
    }


def test_anthropic_s_client_for_node(stocked: str, tmp_path: Path) -> None:
    told = node("anthropic_round.mjs", tmp_path, stocked, TINY)
    assert told.pop("forced") in ("Oslo", "Bergen")
    assert TINY in told.pop("models")
    assert told == {
        "text": COUNT,
        "streamed": [COUNT, COUNT, "end_turn"],
        "thought": [["thinking", "hmm"], ["text", "done"]],
        "round": [1, COUNT],
        "counted": 4,
        "errors": [["NotFoundError", 404], ["BadRequestError", 400]],
    }


def test_ollama_s_client_for_node(stocked: str, tmp_path: Path) -> None:
    told = node("ollama_round.mjs", tmp_path, stocked, TAG, VECTORS)
    assert TAG in told.pop("models")
    assert {"completion", "tools"} <= set(told.pop("capabilities"))
    assert told == {
        "pulled": "success",
        "text": COUNT,
        "streamed": COUNT,
        "generated": COUNT,
        "thought": ["hmm", "done"],
        "form": {"city": "Oslo"},
        "call": ["weather", {"city": "Paris"}],
        "round": COUNT,
        "vectors": 2,
        "running": 2,
        "error": ["ResponseError", 404],
    }


def test_litellm_s_providers(stocked: str) -> None:
    folder = installed("litellm", "--no-deps", *LITELLM, *HTTP2)
    told = told_by(
        [sys.executable, "-W", "ignore", HERE / "litellm_round.py", stocked, TINY],
        PYTHONPATH=str(folder),
    )
    assert told.pop("responses") == COUNT
    plain = {"text": COUNT, "streamed": COUNT, "thought": ["hmm", "done"]}
    calls = {"call": ["weather", {"city": "Paris"}], "round": COUNT}
    full = {"full": ["ContextWindowExceededError", True]}
    # It has no class of its own for a full context of Ollama.
    wrong = {"full": ["BadRequestError", True]}
    assert told == {
        "openai": {**plain, **calls, **full},
        "anthropic": {**plain, **calls, **full},
        "ollama": {**plain, **wrong},
        "ollama_chat": {**plain, **calls, **wrong},
    }
