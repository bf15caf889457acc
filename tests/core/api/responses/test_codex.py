"""The Codex command line works on the core: it runs commands, uses namespaces, patches files.

Codex is large (400 MB), so it is used where it is installed, and not installed here.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modeldeck.core.api.http.limits import ConnectionLimits
from modeldeck.core.schema import Chunk, ToolCall
from tests.core.api.responses.scripted import ScriptedDeck

PREFIX = Path(sys.prefix) / "npm"
INSTALL = f"npm install --prefix {PREFIX} @openai/codex@0.171.0"
GIVE_UP_S = 120.0

CONFIG = """
model = "b"
model_provider = "modeldeck"
model_catalog_json = "{catalog}"
check_for_update_on_startup = false
[analytics]
enabled = false
[model_providers.modeldeck]
name = "modeldeck"
base_url = "{url}/v1"
wire_api = "responses"
request_max_retries = 0
stream_max_retries = 0
"""
CATALOG = {
    "slug": "b",
    "base_instructions": "You are a coding agent.",
    "display_name": "b",
    "supported_reasoning_levels": [{"effort": "low", "description": "low"}],
    "shell_type": "shell_command",
    "visibility": "list",
    "supported_in_api": True,
    "priority": 1,
    "support_verbosity": False,
    "truncation_policy": {"mode": "tokens", "limit": 10000},
    "experimental_supported_tools": [],
    "apply_patch_tool_type": "freeform",
    "context_window": 32768,
    "supports_parallel_tool_calls": True,
    "input_modalities": ["text"],
    "supports_reasoning_summaries": True,
    "default_reasoning_level": "low",
}
PATCH = "*** Begin Patch\n*** Add File: made.txt\n+by a patch\n*** End Patch\n"
COUNTS: dict[str, Any] = {"prompt_tokens": 10, "completion_tokens": 5}


def codex() -> str:
    """The program; skips the test where it is not installed."""
    found = shutil.which(
        "codex", path=f"{PREFIX}/node_modules/.bin{os.pathsep}{os.environ['PATH']}"
    )
    if found is None or shutil.which("node") is None:
        pytest.skip(f"CODEX IS NOT TESTED: it is not installed. {INSTALL}")
    return found


def calls(*given: tuple[str, dict[str, Any]]) -> tuple[Chunk, ...]:
    made = tuple(
        ToolCall(id=f"call_{number}", name=name, arguments=json.dumps(arguments))
        for number, (name, arguments) in enumerate(given)
    )
    thought = Chunk(thought="I make a file.")
    return thought, Chunk(finish_reason="tool_calls", tool_calls=made, **COUNTS)


async def run(folder: Path, url: str, *arguments: str) -> tuple[int | None, str, str]:
    """Run codex in a folder with a home of its own, and no way out but to this machine."""
    home, work = folder / "home", folder / "work"
    home.mkdir()
    work.mkdir()
    catalog = folder / "catalog.json"
    catalog.write_text(json.dumps({"models": [CATALOG]}))
    (home / "config.toml").write_text(CONFIG.format(url=url, catalog=catalog))
    nowhere = dict.fromkeys(("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"), "http://127.0.0.1:9")
    process = await asyncio.create_subprocess_exec(
        codex(),
        "exec",
        "--skip-git-repo-check",
        "--dangerously-bypass-approvals-and-sandbox",
        *arguments,
        cwd=work,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "CODEX_HOME": str(home),
            "NO_PROXY": "127.0.0.1,localhost",
            **nowhere,
        },
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, errors = await asyncio.wait_for(process.communicate(), GIVE_UP_S)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode, out.decode(), errors.decode()


async def test_codex_runs_a_task(serve: Callable[..., Any], tmp_path: Path) -> None:
    codex()
    deck = ScriptedDeck(
        calls(("exec_command", {"cmd": "echo by a command > ran.txt"})),
        calls(("apply_patch", {"input": PATCH}), ("multi_agent_v1__close_agent", {"target": "x"})),
        (Chunk(text="All is done."), Chunk(finish_reason="stop", **COUNTS)),
    )
    served = await serve(deck=deck, limits=ConnectionLimits())
    status, out, errors = await run(tmp_path, served.addresses.url, "Make two files.")
    await deck.close()
    assert (status, out.strip()) == (0, "All is done."), errors
    assert (tmp_path / "work" / "ran.txt").read_text() == "by a command\n"
    assert (tmp_path / "work" / "made.txt").read_text() == "by a patch\n"

    first, last = deck.asked[0], deck.asked[-1]
    assert [message.role for message in first.messages][:2] == ["system", "user"]
    assert {"exec_command", "apply_patch"} <= {tool.name for tool in first.tools}
    done = [call for message in last.messages for call in message.tool_calls]
    assert [call.name for call in done] == [
        "exec_command",
        "apply_patch",
        "multi_agent_v1__close_agent",
    ]
    assert [m.thought for m in last.messages if m.tool_calls] == ["I make a file."] * 2
    outputs = [message.content for message in last.messages if message.role == "tool"]
    assert len(outputs) == 3
    assert not any("unsupported" in output for output in outputs), outputs
