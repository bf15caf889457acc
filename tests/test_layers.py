"""The layers of the code, checked on the imports as written and again as they happen."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

HEAVY = {"llama_cpp", "llguidance", "mlx", "mlx_lm", "transformers", "numpy", "gguf", "torch"}
DRAWING = {"textual"}
"""Not rich and click: httpx brings both in, for a command of its own, where they are installed."""


def imported_by(module: str) -> set[str]:
    """Top-level packages that importing a module brings in, in a process of its own."""
    code = f"import sys, {module}; print(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return set(done.stdout.split())


def test_no_part_imports_what_stands_above_it() -> None:
    tool = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([tool, "--no-cache"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("module", "never"),
    [
        ("modeldeck.core.service.deck", HEAVY | DRAWING | {"huggingface_hub"}),
        ("modeldeck.core.api.listener", HEAVY | DRAWING | {"huggingface_hub"}),
        ("modeldeck.core.client.daemon", HEAVY | DRAWING | {"huggingface_hub"}),
        (
            "modeldeck.core.client.client",
            HEAVY | DRAWING | {"huggingface_hub", "httptools", "sqlite3"},
        ),
        (
            "modeldeck.tui.cli.main",
            HEAVY | DRAWING | {"huggingface_hub", "httpx", "websockets", "sqlite3"},
        ),
    ],
)
def test_a_module_brings_in_only_what_it_needs(module: str, never: set[str]) -> None:
    assert not imported_by(module) & never


def test_the_code_is_checked_and_formatted() -> None:
    ruff = shutil.which("ruff", path=str(Path(sys.executable).parent))
    assert ruff is not None, "ruff is missing: pip install -e '.[test]'"
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run([ruff, *command], capture_output=True, text=True, cwd=ROOT)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_code_is_typed() -> None:
    done = subprocess.run([sys.executable, "-m", "mypy"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
