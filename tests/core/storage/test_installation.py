"""Which installer made an environment, and whether its commands are the right ones."""

from __future__ import annotations

import shlex
import sys
import tomllib
from pathlib import Path

import pytest

from modeldeck.core.runtime import platforms
from modeldeck.core.storage.installation import Installation, find, this_installation

ROOT = Path(__file__).parents[3]

INDEX = None
FOLDER = '{"url":"file:///src/my%20deck","dir_info":{}}'
EDITABLE = '{"dir_info": {"editable": true}, "url": "file:///src/deck"}'
WHEEL = '{"url":"file:///tmp/modeldeck-0.1.0-py3-none-any.whl","archive_info":{}}'
GIT = '{"url":"https://example.com/deck","vcs_info":{"vcs":"git","commit_id":"0"}}'

# As uv 0.13.9 and pipx 1.18.4 write them, shortened.
UV_RECEIPT = """
[tool]
requirements = [
    { name = "modeldeck", extras = ["local"], directory = "/src/my deck" },
    { name = "iniconfig", specifier = ">=1" },
    { name = "mlx-lm", extras = ["cpu"], specifier = ">=0.32.2" },
]
entrypoints = [
    { name = "modeldeck", install-path = "/bin/modeldeck", from = "modeldeck" },
]
"""
PIPX_METADATA = '{"backend": "uv", "environment": "modeldeck", "injected_packages": {}}'
UV_VENV = "home = /usr/bin\nimplementation = CPython\nuv = 0.13.9\nversion_info = 3.11.7\n"


def made(
    folder: Path, files: dict[str, str], direct_url: str | None, *, has_pip: bool
) -> Installation:
    for name, text in files.items():
        (folder / name).write_text(text)
    return find(folder, "/env/bin/python", direct_url, has_pip=has_pip)


@pytest.mark.parametrize(
    ("files", "direct_url", "has_pip", "install", "update"),
    [
        (
            {}, INDEX, True,
            "/env/bin/python -m pip install 'x>=1'",
            "/env/bin/python -m pip install --upgrade modeldeck",
        ),
        (
            {}, FOLDER, True,
            "/env/bin/python -m pip install 'x>=1'",
            "git -C '/src/my deck' pull && /env/bin/python -m pip install '/src/my deck'",
        ),
        (
            {}, EDITABLE, True,
            "/env/bin/python -m pip install 'x>=1'",
            "git -C /src/deck pull && /env/bin/python -m pip install -e /src/deck",
        ),
        (
            {}, GIT, True,
            "/env/bin/python -m pip install 'x>=1'",
            "/env/bin/python -m pip install --upgrade 'modeldeck @ git+https://example.com/deck'",
        ),
        (
            {"pyvenv.cfg": UV_VENV}, INDEX, False,
            "uv pip install --python /env/bin/python 'x>=1'",
            "uv pip install --python /env/bin/python --upgrade modeldeck",
        ),
        (
            {"pyvenv.cfg": UV_VENV}, INDEX, True,
            "/env/bin/python -m pip install 'x>=1'",
            "/env/bin/python -m pip install --upgrade modeldeck",
        ),
        (
            {"pipx_metadata.json": PIPX_METADATA, "pyvenv.cfg": UV_VENV}, INDEX, False,
            "pipx inject modeldeck 'x>=1'",
            "pipx upgrade modeldeck",
        ),
        (
            {"pipx_metadata.json": PIPX_METADATA}, WHEEL, False,
            "pipx inject modeldeck 'x>=1'",
            "pipx reinstall modeldeck",
        ),
        (
            {"uv-receipt.toml": "[tool]\n", "pyvenv.cfg": UV_VENV}, INDEX, False,
            "uv tool install --with 'x>=1' modeldeck",
            "uv tool upgrade modeldeck",
        ),
        (
            {"uv-receipt.toml": UV_RECEIPT}, FOLDER, False,
            "uv tool install --with 'iniconfig>=1' --with 'mlx-lm[cpu]>=0.32.2' --with 'x>=1'"
            " '/src/my deck[local]'",
            "git -C '/src/my deck' pull && uv tool upgrade modeldeck",
        ),
        (
            {"uv-receipt.toml": "[tool]\n"}, EDITABLE, False,
            "uv tool install --with 'x>=1' --editable /src/deck",
            "git -C /src/deck pull && uv tool upgrade modeldeck",
        ),
        (
            {"uv-receipt.toml": UV_RECEIPT}, GIT, False,
            "uv tool install --with 'iniconfig>=1' --with 'mlx-lm[cpu]>=0.32.2' --with 'x>=1'"
            " 'modeldeck[local] @ git+https://example.com/deck'",
            "uv tool upgrade modeldeck",
        ),
    ],
)  # fmt: skip
def test_commands_name_the_installer_of_this_environment(
    tmp_path: Path,
    files: dict[str, str],
    direct_url: str | None,
    has_pip: bool,
    install: str,
    update: str,
) -> None:
    found = made(tmp_path, files, direct_url, has_pip=has_pip)
    assert found.install("x>=1") == install
    assert found.update() == update


@pytest.mark.parametrize(
    ("files", "command"),
    [
        ({}, "/env/bin/python -m pip install --force-reinstall --no-cache-dir x"),
        (
            {"pipx_metadata.json": PIPX_METADATA},
            "pipx inject --force --pip-args=--no-cache-dir modeldeck x",
        ),
        (
            {"uv-receipt.toml": "[tool]\n"},
            "uv tool install --with x --reinstall --no-cache modeldeck",
        ),
        (
            {"pyvenv.cfg": UV_VENV},
            "uv pip install --python /env/bin/python --reinstall --no-cache x",
        ),
    ],
)
def test_a_rebuild_takes_no_build_from_a_cache(
    tmp_path: Path, files: dict[str, str], command: str
) -> None:
    found = made(tmp_path, files, INDEX, has_pip=not files)
    assert found.install("x", rebuild=True) == command


@pytest.mark.parametrize(
    ("receipt", "direct_url"),
    [
        ("", ""),
        ("tool = 1", "null"),
        ("[tool]\nrequirements = [1]", "[]"),
        ("no toml", "{"),
        ("[tool]\nrequirements = [{ name = 1 }]", '{"url": 1, "dir_info": 2}'),
        ("\x00", '{"url":"https://x/y","vcs_info":{}}'),
    ],
)
def test_a_damaged_record_costs_no_remedy(tmp_path: Path, receipt: str, direct_url: str) -> None:
    found = made(tmp_path, {"uv-receipt.toml": receipt}, direct_url, has_pip=False)
    assert found.install("x").startswith("uv tool install --with ")
    assert found.update() == "uv tool upgrade modeldeck"


def test_what_runs_here_is_found() -> None:
    found = this_installation()
    assert shlex.split(found.install("x"))[0] in (sys.executable, "uv", "pipx")


def test_engines_are_asked_for_with_the_bounds_of_the_extras() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        extras = tomllib.load(file)["project"]["optional-dependencies"]
    known = {line.split(";")[0].strip() for line in (*extras["local"], *extras["mlx"])}
    pip = Installation(installer="pip", python="python")
    words = [
        word
        for remedy in (
            platforms.llama_remedy(pip),
            platforms.mlx_remedy("linux", "x86_64", pip),
            platforms.mlx_remedy("darwin", "arm64", pip),
        )
        for word in shlex.split(remedy.partition(": ")[2])[4:]
    ]
    assert len(words) == 5
    assert set(words) <= known


def test_no_text_names_an_installer_by_itself() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{number}"
        for top in ("core", "tui")
        for path in sorted((ROOT / top).rglob("*.py"))
        if path.name != "installation.py"
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if "pip install" in line
    ]
    assert wrong == [], "Use modeldeck.core.storage.installation: uv tool and pipx have no pip."
