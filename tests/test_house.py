"""The shape of the code: where modules lie, no imports in a circle, unique class names."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parent.parent
TOPS = ("core", "tui", "themes")
LOOSE = {"core": 3, "tui": 2}
"""Modules that may lie directly in a top-level folder; all others belong to a folder of theirs."""

TWICE: Mapping[str, str] = {
    "Answer": (
        "core/api/ollama/schema, "
        "core/demo/answers, "
        "core/downloads/http/connection, "
        "core/remote/ssh_process, "
        "core/runtime/instance/request, "
        "tui/cli/actions/models, "
        "tui/dashboard/widgets/chat_turns"
    ),
    "Answers": ("core/api/http/responder, core/catalog/response_cache"),
    "Body": ("core/demo/answers, core/downloads/http/source"),
    "Catalog": ("core/api/pieces/routes, tui/dashboard/screens/catalog/screen"),
    "Choice": ("core/api/openai/chat_schema, tui/dashboard/screens/catalog/detail"),
    "Chosen": (
        "core/service/library/deletion, tui/dashboard/widgets/footer, tui/dashboard/widgets/table"
    ),
    "Column": ("tui/dashboard/widgets/columns, tui/text/format"),
    "Command": ("core/runtime/process/messages, tui/dashboard/commands"),
    "Config": ("core/config/config, core/formats/safetensors"),
    "Connection": ("core/api/http/connection, core/client/connection, core/demo/server"),
    "Content": ("core/api/http/compression, core/service/library/copying"),
    "Context": ("core/api/pieces/client_routes, tui/cli/commands/load"),
    "Deck": ("core/service/deck, tui/cli/main"),
    "Decoder": ("core/network/encoding, core/runtime/process/frames"),
    "Disk": ("core/schema/memory, tui/dashboard/screens/disk/screen"),
    "Downloads": (
        "core/config/config, core/downloads/queue, tui/dashboard/screens/downloads/screen"
    ),
    "Entry": ("core/downloads/job_records, tui/dashboard/screens/log/rows"),
    "Exchange": ("core/api/http/request_parser, core/demo/hub"),
    "Facts": ("core/service/library/entries, tui/dashboard/screens/catalog/detail"),
    "Follower": (
        "core/api/pieces/progress, "
        "core/downloads/transfer/written_ranges, "
        "core/runtime/engines/mlx/grammar"
    ),
    "Health": ("core/api/pieces/client_routes, core/storage/health"),
    "Hello": ("core/remote/hello, core/runtime/process/messages"),
    "Host": ("core/schema/service, tui/remote/core_host"),
    "Hub": ("core/catalog/hub, core/config/config"),
    "Job": ("core/downloads/job_records, core/runtime/instance/request"),
    "Journal": ("core/api/http/access_log, core/downloads/journal"),
    "Ledger": ("core/downloads/transfer/written_ranges, core/service/loading/history"),
    "Limiter": ("core/api/http/rate_limit, core/downloads/transfer/rate_limit"),
    "Limits": ("core/api/http/limits, core/downloads/transfer/rate_limit"),
    "Line": (
        "core/downloads/http/connection, core/remote/ssh_connection, tui/dashboard/widgets/table"
    ),
    "Lines": ("core/api/native/bodies, core/remote/ssh_process, tui/dashboard/widgets/bars"),
    "Listener": ("core/api/listener, core/service/bandwidth"),
    "Loading": ("core/api/ollama/schema, core/service/loading/loader"),
    "Log": ("core/runtime/engines/llama/log, core/storage/log, tui/dashboard/screens/log/screen"),
    "Memory": ("core/schema/memory, tui/dashboard/screens/memory/screen"),
    "Message": (
        "core/api/http/websocket_frames, core/schema/generation, tui/dashboard/widgets/notice"
    ),
    "Mlx": ("core/catalog/builtin, core/runtime/engines/mlx/engine"),
    "Part": (
        "core/api/openai/chat_schema, "
        "core/downloads/transfer/written_ranges, "
        "core/runtime/engines/llama/split, "
        "tui/dashboard/widgets/status_bar"
    ),
    "Place": ("core/downloads/http/responses, tui/dashboard/screens/__init__"),
    "Plan": ("core/runtime/process/messages, tui/cli/service_units"),
    "Planned": ("core/runtime/process/messages, core/service/loading/planner"),
    "Progress": (
        "core/api/pieces/progress, "
        "core/downloads/job_records, "
        "core/runtime/process/messages, "
        "tui/cli/output"
    ),
    "Question": ("core/api/ollama/generate, tui/dashboard/widgets/chat_turns"),
    "Receiver": ("core/api/http/request_parser, core/downloads/transfer/connections"),
    "Remote": ("core/catalog/range_reader, core/config/config"),
    "Request": ("core/api/http/messages, core/demo/server"),
    "Room": ("core/downloads/disk_space, core/runtime/planning/placement"),
    "Route": ("core/api/http/router, core/downloads/http/source"),
    "Row": (
        "core/catalog/builtin, "
        "tui/dashboard/screens/disk/rows, "
        "tui/dashboard/screens/downloads/rows, "
        "tui/dashboard/screens/fleet/rows"
    ),
    "Running": ("core/api/ollama/model_schema, core/downloads/runner"),
    "Runtime": ("core/config/config, core/schema/runtime"),
    "Shown": ("core/api/ollama/model_schema, tui/dashboard/diff_renderer"),
    "Sort": ("tui/dashboard/screens/catalog/rows, tui/dashboard/screens/disk/rows"),
    "Text": ("core/remote/ssh_process, core/runtime/process/messages"),
    "_Reader": ("core/demo/server, core/runtime/grammar/gbnf, core/runtime/grammar/regex"),
}
"""Class names that are defined more than once, and why each of them may be."""


def sources(*folders: str) -> Iterator[Path]:
    for folder in folders:
        yield from sorted((ROOT / folder).rglob("*.py"))


def module_of(path: Path) -> str:
    """Import name of a file."""
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    if parts[-1] == "__init__":
        parts.pop()
    return ".".join(("modeldeck", *parts))


def graph() -> dict[str, set[str]]:
    """What each module imports of the house, at any place and for type checkers as well."""
    trees = {module_of(path): ast.parse(path.read_text()) for path in sources(*TOPS)}
    found: dict[str, set[str]] = {}
    for module, tree in trees.items():
        names = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                for alias in node.names:
                    whole = f"{node.module}.{alias.name}"
                    names.add(whole if whole in trees else node.module)
            elif isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
        found[module] = (names & trees.keys()) - {module}
    return found


def circles(imports: Mapping[str, set[str]]) -> list[list[str]]:
    """Strongly connected components of more than one module (Tarjan's algorithm)."""
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(module: str) -> None:
        number[module] = low[module] = len(number)
        stack.append(module)
        for other in sorted(imports[module]):
            if other not in number:
                visit(other)
                low[module] = min(low[module], low[other])
            elif other in stack:
                low[module] = min(low[module], number[other])
        if low[module] == number[module]:
            at = stack.index(module)
            if len(stack) - at > 1:
                found.append(sorted(stack[at:]))
            del stack[at:]

    for module in imports:
        if module not in number:
            visit(module)
    return found


def test_a_circle_is_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == [["b", "c"]]
    assert circles({"a": {"b"}, "b": set(), "c": {"a", "b"}}) == []


def test_modules_lie_in_folders_that_name_their_concern() -> None:
    for top, most in LOOSE.items():
        loose = {path.stem for path in (ROOT / top).glob("*.py")} - {"__init__"}
        assert len(loose) <= most, f"{top}: {sorted(loose)}"


def test_no_imports_run_in_a_circle() -> None:
    imports = graph()
    assert len(imports) > 200
    assert circles(imports) == []


def test_nothing_is_imported_by_the_name_of_its_folder() -> None:
    """Where the folders are on the path, `import core` works, and makes every module anew."""
    wrong = []
    for path in sources(*TOPS, "tests"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            else:
                continue
            if any(name.split(".")[0] in TOPS for name in names):
                wrong.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert wrong == []


def test_a_class_name_means_one_thing() -> None:
    where = defaultdict(list)
    for path in sources(*TOPS):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                where[node.name].append(f"{path.relative_to(ROOT)}:{node.lineno}")
    twice = {name: found for name, found in where.items() if len(found) > 1}
    unexplained = {name: found for name, found in twice.items() if name not in TWICE}
    assert unexplained == {}
    assert TWICE.keys() - twice.keys() == set(), "These are defined once by now: take them out."
    assert all(TWICE.values())


def test_tests_mirror_the_code() -> None:
    """A folder of unit tests belongs to a folder of the code, or is a topic inside one."""
    for top in ("core", "tui"):
        for path in (ROOT / "tests" / top).rglob("test_*.py"):
            folder = path.parent.relative_to(ROOT / "tests")
            mirrored = [(ROOT / each).is_dir() for each in (folder, folder.parent)]
            assert any(mirrored), f"{folder} is no folder of the code"
