"""GPUs for machines without one: llama.cpp's RPC backend, and devices behind it that keep count.

llama-cpp-python is installed without RPC, but its source distribution has it. One call of a
compiler makes the library, for the ggml that is installed; it is kept in pytest's cache.
"""

import importlib.metadata
import importlib.util
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from filelock import FileLock

from tests.core.runtime.devices.relay import CountingDevice

GIVE_UP_S = 200.0
PACKAGE = "llama-cpp-python"
SOURCES = "vendor/llama.cpp/ggml/"
INJECT = Path(__file__).with_name("inject")

MakeDevices = Callable[..., list[CountingDevice]]


def ggml_folder() -> Path:
    """Where the libraries of the installed llama.cpp are."""
    spec = importlib.util.find_spec("llama_cpp")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "lib"


@pytest.fixture(scope="session")
def rpc_library(pytestconfig: pytest.Config) -> Path:
    """llama.cpp's RPC backend, built for the ggml that is installed."""
    version = importlib.metadata.version(PACKAGE)
    folder = pytestconfig.cache.mkdir("rpc")
    library = folder / f"libggml-rpc-{version}.so"
    with FileLock(folder / "lock"):
        if not library.exists():
            _build(version, library, folder / "build")
    return library


def _build(version: str, library: Path, folder: Path) -> None:
    """Download the sources and compile two of them. Skips without a compiler or the registry."""
    compiler = shutil.which("g++")
    if sys.platform != "linux" or compiler is None:
        pytest.skip("llama.cpp's RPC backend cannot be built here: there is no g++")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary"]
    done = subprocess.run(
        [*download, PACKAGE, f"{PACKAGE}=={version}", "-d", folder],
        capture_output=True,
        text=True,
        timeout=GIVE_UP_S,
    )
    if done.returncode:
        pytest.skip(f"the sources of {PACKAGE} cannot be had: {done.stderr.strip()[-200:]}")
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        for member in tar:
            _, _, inner = member.name.partition("/")
            wanted = inner.startswith((SOURCES + "include/", SOURCES + "src/ggml-rpc/"))
            header = inner.startswith(SOURCES + "src/") and inner.endswith(".h")
            if wanted or header:
                tar.extract(member, folder, filter="data")
    (ggml,) = folder.glob("*/" + SOURCES)
    made, rpc = folder / "made.so", ggml / "src" / "ggml-rpc"
    defined = ("GGML_BACKEND_SHARED", "GGML_SHARED", "GGML_BACKEND_BUILD")
    command: list[str | Path] = [compiler, "-std=c++17", "-O0", "-fPIC", "-shared"]
    command += [f"-D{name}" for name in defined]
    command += [f"-I{ggml / 'include'}", f"-I{ggml / 'src'}"]
    command += [rpc / "ggml-rpc.cpp", rpc / "transport.cpp"]
    command += [f"-L{ggml_folder()}", "-l:libggml-base.so.0", "-o", made]
    subprocess.run(command, check=True, timeout=GIVE_UP_S)
    made.rename(library)
    shutil.rmtree(folder)


@pytest.fixture
def make_devices(rpc_library: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeDevices]:
    """Makes GPUs that every engine process from now on has."""
    with ExitStack() as stack:

        def make(count: int = 1, *, limit: int | None = None) -> list[CountingDevice]:
            devices = [
                CountingDevice(rpc_library, ggml_folder(), limit=limit) for _ in range(count)
            ]
            for device in devices:
                stack.callback(device.close)
            monkeypatch.setenv("PYTHONPATH", str(INJECT))
            monkeypatch.setenv("TEST_RPC_LIBRARY", str(rpc_library))
            monkeypatch.setenv("TEST_RPC_SERVERS", " ".join(d.endpoint for d in devices))
            return devices

        yield make
