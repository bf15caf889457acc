"""Fixtures for every test: the demo hub, its models, a home of one's own, and a real core.

Nothing here reaches beyond 127.0.0.1, except pip, where a test needs what this environment cannot
hold: the environment names a Hub that does not answer, until a test asks for the demo's own.
"""

from __future__ import annotations

import asyncio.constants
import gc
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx._config
import pytest
from hypothesis import HealthCheck, settings

from modeldeck.core.demo.hub import DemoHub
from modeldeck.core.demo.repositories import build
from modeldeck.core.demo.repository import DemoRepo
from tests.support.process import CoreProcess

PADDED_BYTES = 32 << 20
"""Size of the padded model: several times what the sockets between two processes buffer."""

NOBODY = "http://127.0.0.1:9"
"""An endpoint without a server: the discard port, which no system of today serves."""

_BANISHED = (
    *("HF_TOKEN", "HF_TOKEN_PATH", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_CACHE"),
    *("HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE", "HF_HUB_DISABLE_XET", "XDG_CACHE_HOME"),
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"),
)
"""What the person at this machine may have set, and no test may depend on."""

PATIENCE_S = 60.0
"""Seconds that clients of the tests wait for an answer, where a test says nothing else."""

_BUILT: dict[Path, tuple[DemoRepo, ...]] = {}
"""The demo repositories by their folder."""


def pytest_configure(config: pytest.Config) -> None:
    """Set the environment before anything is imported that reads it once."""
    # How long an example takes depends on what else the machine does.
    settings.register_profile(
        "busy machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    settings.load_profile("busy machine")
    # The debug mode of asyncio notes for every callback who asked for it: ten frames of it take a
    # third of the time of a test of the dashboard, and the innermost ones tell.
    vars(asyncio.constants)["DEBUG_STACK_DEPTH"] = 3
    for name in ("https_proxy", "HTTPS_PROXY"):
        if os.environ.get(name):
            os.environ.setdefault("PIP_PROXY", os.environ[name])  # pip still needs it
    for name in (*_BANISHED, *(name for name in os.environ if name.startswith("MODELDECK_"))):
        os.environ.pop(name, None)
    # Their own 5 and 10 s are soon over on a machine under load.
    limits = dict.fromkeys(("connect", "read", "write", "pool"), PATIENCE_S)
    vars(httpx._config.DEFAULT_TIMEOUT_CONFIG).update(limits)
    for name in ("HF_HUB_ETAG_TIMEOUT", "HF_HUB_DOWNLOAD_TIMEOUT"):
        os.environ[name] = str(round(PATIENCE_S))
    # Every worker would rewrite every assert, and every core and engine compile our sources anew.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    # The items of all tests are on the heap of each worker: a look through it takes half a second.
    gc.set_threshold(10_000, 20, 10)
    for number in (signal.SIGINT, signal.SIGHUP):
        # Ignored in a job in the background or under nohup, and children inherit that.
        if signal.getsignal(number) is signal.SIG_IGN:
            is_int = number == signal.SIGINT
            signal.signal(number, signal.default_int_handler if is_int else signal.SIG_DFL)
    folder = tempfile.mkdtemp(prefix="md-")
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
    os.environ["HF_HOME"] = os.path.join(folder, "hf")
    os.environ["MODELDECK_HOME"] = os.path.join(folder, "home")
    os.environ["HF_ENDPOINT"] = NOBODY
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["HF_HUB_DISABLE_UPDATE_CHECK"] = "1"
    os.environ["MODELDECK_CATALOG_ALSO_FROM"] = ""  # what other tools have on this machine
    os.environ["MODELDECK_RUNTIME_CALIBRATE"] = "false"  # seconds for each core with a new home
    os.environ["MODELDECK_RUNTIME_STOP_LOOPS"] = "false"  # the tiny models repeat what is asked for
    os.environ["MLX_DISABLE_COMPILE"] = "1"  # else mlx compiles kernels for seconds, per process


def pytest_collection_finish() -> None:
    """Leave what was collected out of every later collection of garbage: it stays to the end."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def same_environment() -> Iterator[None]:
    """The environment as it was before each module: an engine in the same process sets some."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="session")
def demo_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the demo repositories' files, such as `tiny-GGUF/tiny-Q8_0.gguf`."""
    folder = tmp_path_factory.mktemp("demo")
    _BUILT[folder] = build(folder, PADDED_BYTES)
    return folder


@pytest.fixture(scope="session")
def demo_repositories(demo_models: Path) -> tuple[DemoRepo, ...]:
    """The demo repositories, whose files `demo_models` holds."""
    return _BUILT[demo_models]


@pytest.fixture
def hub(demo_repositories: tuple[DemoRepo, ...]) -> Iterator[DemoHub]:
    """A hub in a thread of its own, with all demo repositories."""
    with DemoHub.in_thread(demo_repositories) as hub:
        yield hub


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty MODELDECK_HOME, with HF_HOME in it, at a path short enough for a Unix socket."""
    folder = Path(tempfile.mkdtemp(prefix="md-"))
    monkeypatch.setenv("MODELDECK_HOME", str(folder / "home"))
    monkeypatch.setenv("HF_HOME", str(folder / "hf"))
    yield folder / "home"
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def core(own_core: CoreProcess) -> CoreProcess:
    """A real core; where a folder's tests share one, a test that ends it asks for `own_core`."""
    return own_core


@pytest.fixture
def own_core(home: Path, hub: DemoHub) -> Iterator[CoreProcess]:
    """A real core in a process of its own, that knows the demo hub and starts empty."""
    with CoreProcess({**os.environ, "HF_ENDPOINT": hub.url}) as core:
        yield core


@pytest.fixture(scope="module")
def shared_hub(demo_repositories: tuple[DemoRepo, ...]) -> Iterator[DemoHub]:
    """As `hub`, for all tests of a module."""
    with DemoHub.in_thread(demo_repositories) as hub:
        yield hub


@pytest.fixture(scope="module")
def shared_core(shared_hub: DemoHub) -> Iterator[CoreProcess]:
    """As `core`, for all tests of a module, with a home of its own."""
    with tempfile.TemporaryDirectory(prefix="md-") as folder:
        own = {"MODELDECK_HOME": f"{folder}/home", "HF_HOME": f"{folder}/hf"}
        with CoreProcess({**os.environ, **own, "HF_ENDPOINT": shared_hub.url}) as core:
            yield core
