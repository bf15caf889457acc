"""What README says of the files, checked against the files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
TOPS = ("core/", "tui/", "themes/", "tests/", ".src", ".ci/", "LICENSE", "pyproject.toml")
WIDTH = 100


def expanded(path: str) -> list[str]:
    """A path of a shell, with one `{a,b}` at most, as paths."""
    if not (braces := re.search(r"\{([^}]*)\}", path)):
        return [path]
    before, after = path[: braces.start()], path[braces.end() :]
    return [f"{before}{choice}{after}" for choice in braces[1].split(",")]


def named() -> set[str]:
    """Paths that README names in code, in its commands and in its links."""
    words = re.findall(r"`([^`\s]+)`", README)
    words += re.findall(r"\]\(([^)\s]+)\)", README)
    for block in re.findall(r"^```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL):
        words += block.split()
    return {each for word in words for each in expanded(word) if each.startswith(TOPS)}


def test_every_path_exists() -> None:
    paths = named()
    assert len(paths) > 60
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []


def test_every_folder_of_the_core_and_the_front_ends_is_on_the_map() -> None:
    found = re.search(r"^## How it is built$.*?^```\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    assert found is not None
    folders = [
        path.name
        for top in ("core", "tui")
        for path in (ROOT / top).iterdir()
        if (path / "__init__.py").exists()
    ]
    assert len(folders) > 15
    assert [name for name in folders if f"{name}/" not in found[1]] == []


@pytest.mark.parametrize("command", re.findall(r"python -m\s+(tests\.[\w.]+)", README))
def test_every_program_that_is_to_be_run_exists(command: str) -> None:
    path = ROOT / command.replace(".", "/")
    assert path.with_suffix(".py").exists() or (path / "__main__.py").exists()


def test_lines_are_short_where_they_can_be() -> None:
    """Tables, pictures, HTML and the two commands to copy are lines by their nature."""
    long = [
        line
        for line in README.splitlines()
        if len(line) > WIDTH and not line.startswith(("|", "!", "<", "python3 "))
    ]
    assert long == []


def test_the_tests_need_one_installation() -> None:
    [command] = re.findall(r"<!-- tests -->\n```sh\n(.*)\n```", README)
    assert command.count("pip install") == 1
    assert "'.[test]'" in command
