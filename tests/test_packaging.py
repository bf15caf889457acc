"""What is built: the same files from a checkout and from the sdist, and one top-level package."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import urllib.request
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def build(kind: str, source: Path, folder: Path) -> Path:
    """Build a wheel or an sdist with the build backend itself, which needs no network."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(folder)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    [made] = folder.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return made


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the sdist as an installer that finds no wheel does it."""
    folder = tmp_path_factory.mktemp("built")
    with tarfile.open(build("sdist", ROOT, folder / "sdist")) as archive:
        archive.extractall(folder / "source", filter="data")
    [source] = (folder / "source").iterdir()
    return build("wheel", source, folder / "wheel")


def kept_by_git() -> set[str]:
    """Files of the package, as git has them or would take them, by their place in the wheel."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    found = set()
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        if path.is_symlink() or not path.exists():
            continue
        if name.startswith(("core/", "tui/", "themes/")):
            found.add(f"modeldeck/{name}")
        elif name.startswith(".src/modeldeck/"):
            found.add(name.removeprefix(".src/"))
    return found


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="a checkout of git is compared with")
def test_the_wheel_of_the_sdist_has_what_git_has(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    wanted = kept_by_git()
    assert len(wanted) > 250
    assert names == wanted


def test_the_wheel_owns_one_name(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.split("/")[0] for name in archive.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"modeldeck"}


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Programs of a fresh environment with the wheel, beside packages named as our folders are."""
    folder = tmp_path_factory.mktemp("installed")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True, capture_output=True)
    python = folder / "bin/python"
    pip = [str(python), "-m", "pip", "install", "--no-deps", "--no-index", "-q", str(wheel)]
    subprocess.run(pip, check=True, capture_output=True)
    asked = "import sysconfig; print(sysconfig.get_path('purelib'))"
    done = subprocess.run([python, "-c", asked], check=True, capture_output=True, text=True)
    packages = Path(done.stdout.strip())
    for name in ("core", "tui", "themes"):
        (packages / name).mkdir()
        (packages / name / "__init__.py").write_text("raise ImportError('of somebody else')\n")
    # The dependencies are those of this environment; what stands in its own .pth files is not.
    ours = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (packages / "dependencies.pth").write_text("\n".join(ours) + "\n")
    return folder / "bin"


@pytest.fixture
def environment(home: Path) -> dict[str, str]:
    """An environment with an empty home, that no path of this checkout is in."""
    return {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}


@pytest.mark.parametrize("way", ["modeldeck", "python -m modeldeck"])
def test_the_command_and_the_module_are_the_same(
    way: str, installed: Path, environment: dict[str, str]
) -> None:
    program, *words = way.split()
    done = subprocess.run(
        [installed / program, *words, "--help"],
        capture_output=True,
        text=True,
        env=environment,
        cwd="/",
    )
    assert done.returncode == 0, done.stderr
    assert "Exit codes:" in done.stdout


def test_a_core_starts_beside_a_package_that_owns_core(
    installed: Path, environment: dict[str, str]
) -> None:
    serve = [str(installed / "modeldeck"), "serve", "--port", "0", "--ready-json"]
    with subprocess.Popen(
        serve, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd="/"
    ) as core:
        try:
            assert core.stdout is not None
            line = core.stdout.readline()
            assert line, core.communicate()[1]
            with urllib.request.urlopen(f"{json.loads(line)['url']}/health", timeout=60) as answer:
                assert answer.status == 200
            asked = "import modeldeck.core as core, modeldeck.themes; print(core.__file__)"
            where = subprocess.run(
                [installed / "python", "-c", asked], capture_output=True, text=True, check=True,
                env=environment, cwd="/",
            )  # fmt: skip
            assert str(installed.parent) in where.stdout
        finally:
            core.terminate()
        assert core.wait(60) == 0
