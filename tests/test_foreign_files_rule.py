"""The rule about files that others chose, checked on the source.

Whatever opens or reads a file of the core goes through `modeldeck.core.storage.foreign_files`, and
whatever waits for one in a thread uses `in_file_thread` there. The exceptions are named here with
their reasons.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

READS = {
    "core/catalog/response_cache.py": "our own folder of answers of the Hub",
    "core/catalog/builtin.py": "a file of this package",
    "core/api/pieces/schema.py": "a file of this package",
    "core/client/daemon.py": "our own log and ready file",
    "core/storage/foreign_files.py": "the one way",
    "core/storage/files.py": "our own files, replaced in one step, and locks on folders",
    "core/storage/installation.py": "what the installer wrote about this environment",
    "core/storage/log_file.py": "our own log",
    "core/api/http/server_state.py": "/proc, which the kernel answers",
    "core/memory/amd.py": "/sys, which the kernel answers",
    "core/memory/probe.py": "/proc and /sys, which the kernel answers",
    "core/runtime/instance/load_watchdog.py": "/proc, which the kernel answers",
    "core/runtime/planning/calibration_models.py": "files that it makes itself",
    "core/runtime/planning/planner.py": "files that it makes itself",
    "core/runtime/engines/bounds.py": "/proc, which the kernel answers",
    "core/runtime/engines/llama/prefix_disk_cache.py": "our own files, in a folder of the state",
    "core/runtime/engines/mlx/types.py": "a file of an installed package",
}
"""Modules that may open files themselves, and which ones."""

THREADS = {
    "core/api/http/decoding.py": "decodes bodies",
    "core/api/http/responses.py": "compresses responses",
    "core/api/http/websocket.py": "compresses messages",
    "core/api/route_table.py": "makes the OpenAPI document",
    "core/api/listener.py": "looks a host name up, before anything is served",
    "core/formats/gguf_parser.py": "parses bytes",
    "core/catalog/hub.py": "our own folder of answers of the Hub",
    "core/service/loading/options.py": "a file of this package",
    "core/service/loading/fit.py": "asks the kernel for memory",
    "core/service/sampler.py": "asks the kernel for memory",
    "core/runtime/planning/calibration.py": "files that it makes itself, and /proc",
    "core/runtime/planning/planner.py": "files that it makes itself",
    "core/service/loading/forecast.py": "looks an installed package up",
    "core/runtime/registry.py": "looks an installed package up",
    "core/runtime/engines_manager.py": "asks the kernel for memory",
}
"""Modules that may use asyncio's own threads, and what for."""

MODES = set("rwxab+t")


def sources() -> Iterator[tuple[str, ast.Module]]:
    """Every module of the core but the demo's, which serves files of its own."""
    for path in sorted((ROOT / "core").rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        if not name.startswith("core/demo/"):
            yield name, ast.parse(path.read_text(encoding="utf-8"))


def opens(node: ast.AST) -> bool:
    """Whether this is a call that opens or reads a file."""
    if not isinstance(node, ast.Call):
        return False
    call = node.func
    if isinstance(call, ast.Name):
        return call.id == "open"
    if not isinstance(call, ast.Attribute):
        return False
    if call.attr in ("read_bytes", "read_text"):
        return True
    if call.attr != "open":
        return False
    if isinstance(call.value, ast.Name) and call.value.id in ("os", "io"):
        return True
    mode = node.args[0] if node.args else None
    return isinstance(mode, ast.Constant) and MODES.issuperset(str(mode.value))


def uses_default_threads(node: ast.AST) -> bool:
    """Whether this is `asyncio.to_thread`, or `run_in_executor(None, ...)`."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return False
    if node.func.attr == "run_in_executor":
        return isinstance(node.args[0], ast.Constant)
    return node.func.attr == "to_thread"


@pytest.mark.parametrize(
    ("found", "allowed"), [(opens, READS), (uses_default_threads, THREADS)], ids=["open", "thread"]
)
def test_files_of_others_are_opened_in_one_place(found: object, allowed: dict[str, str]) -> None:
    assert callable(found)
    using = {
        name: [getattr(node, "lineno", 0) for node in ast.walk(tree) if found(node)]
        for name, tree in sources()
    }
    wrong = {name: lines for name, lines in using.items() if lines and name not in allowed}
    assert not wrong, f"use modeldeck.core.storage.foreign_files, or name the reason here: {wrong}"
    gone = {name for name in allowed if not using.get(name)}
    assert not gone, f"these need no exception any more: {gone}"


@pytest.mark.parametrize(
    ("code", "is_found"),
    [
        ("open(p)", True),
        ("p.open('rb')", True),
        ("os.open(p, 0)", True),
        ("p.read_text()", True),
        ("Path(x).read_bytes()", True),
        ("store.open()", False),
        ("self._loader.open(path, parameters)", False),
        ("open_regular(p)", False),
    ],
)
def test_the_check_sees_what_opens(code: str, is_found: bool) -> None:
    assert any(map(opens, ast.walk(ast.parse(code)))) is is_found
