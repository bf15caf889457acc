"""What a client of the documented API has: the published SDK, and a progress socket of its own."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import httpx
import pytest
from pieces_os_client.api.model_api import ModelApi
from pieces_os_client.api.models_api import ModelsApi
from pieces_os_client.api_client import ApiClient
from pieces_os_client.configuration import Configuration
from pieces_os_client.models.seeded_model import SeededModel
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from modeldeck.core.demo.hub import DemoHub
from tests.contract.old_clients import installed
from tests.support.process import CoreProcess

WAIT_S = 60.0
"""How long anything may take; on a machine under load a second can become ten."""


class Sdk:
    """Both APIs of the published SDK, and plain HTTP beside them.

    Its models are `Any` here: it types nearly every field as one that may be missing.
    """

    def __init__(self, url: str, client: ApiClient, http: httpx.Client) -> None:
        self.url = url
        self.http = http
        self.model: Any = ModelApi(client)
        self.models: Any = ModelsApi(client)

    def create(self, name: str, unique: str | None = None, **fields: Any) -> Any:
        """Add a custom model."""
        body = {
            "name": name,
            "version": "1",
            "created": {"value": "2026-01-02T03:04:05Z"},
            "cloud": False,
            "type": "SPEED",
            "usage": "CODE_CONVERSATION",
            **({} if unique is None else {"unique": unique}),
            **fields,
        }
        return self.models.models_create_new_model(seeded_model=SeededModel.from_dict(body))

    def get(self, key: str) -> Any:
        """One model."""
        return self.model.models_specific_model_snapshot(model=key)

    def until(self, key: str, condition: Callable[[Any], object]) -> Any:
        """One model, asked for again and again until the condition holds."""
        deadline = time.monotonic() + WAIT_S
        while not condition(found := self.get(key)):
            assert time.monotonic() < deadline, f"still {found}"
            time.sleep(0.02)
        return found

    def fetched(self, key: str) -> Any:
        """One model, downloaded."""
        self.model.model_specific_model_download(model=key)
        return self.until(key, lambda model: model.downloaded)


@pytest.fixture
def hub(shared_hub: DemoHub) -> Iterator[DemoHub]:
    """The hub of this module, as fast as it can be when a test begins."""
    yield shared_hub
    shared_hub.rate_bytes_per_s = None


@pytest.fixture
def core(shared_core: CoreProcess, hub: DemoHub) -> Iterator[CoreProcess]:
    """The core of this module, empty when a test begins."""
    yield shared_core
    with httpx.Client(base_url=shared_core.url, timeout=WAIT_S, trust_env=False) as http:
        state = http.get("/deck/state").json()
        for model in state["models"]:
            if model["custom"]:
                http.post(f"/models/{model['id']}/delete").raise_for_status()
        http.post("/deck/instances/unload").raise_for_status()
        for job in http.get("/deck/state").json()["downloads"]:
            http.delete(f"/deck/downloads/{job['id']}").raise_for_status()


@pytest.fixture
def sdk(core: CoreProcess) -> Iterator[Sdk]:
    """The newest SDK, on a core that knows the demo hub."""
    with (
        httpx.Client(base_url=core.url, timeout=WAIT_S, trust_env=False) as http,
        ApiClient(Configuration(host=core.url)) as client,
    ):
        yield Sdk(core.url, client, http)
        client.rest_client.pool_manager.clear()


@pytest.fixture(scope="session")
def pieces4() -> Path:
    """The SDK of the documented API's older programs, with the pydantic that it needs."""
    return installed("pieces4", "--no-deps", "pieces_os_client==4.4.1", "pydantic<2")


@pytest.fixture(scope="session")
def pieces_cli() -> Path:
    """pieces-cli with its own dependencies."""
    return installed("piecescli", "pieces-cli==1.20.1")


@pytest.fixture(params=["5.0.", "4.4."])
def sdk_version(request: pytest.FixtureRequest) -> tuple[str, Path | None]:
    """How an SDK's version begins, and its folder; None for the one of this environment."""
    folder = request.getfixturevalue("pieces4") if request.param == "4.4." else None
    return request.param, folder


class Ear:
    """A progress socket, read by a thread: the frames so far."""

    def __init__(self, url: str) -> None:
        self._open = ExitStack()
        address = url.replace("http:", "ws:", 1)
        self._socket = self._open.enter_context(connect(address, proxy=None, open_timeout=WAIT_S))
        self._news = threading.Condition()
        self._frames: list[dict[str, Any]] = []
        self.closed = False
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        try:
            for frame in self._socket:
                assert isinstance(frame, str), "documented frames are text"
                with self._news:
                    self._frames.append(json.loads(frame))
                    self._news.notify_all()
        except ConnectionClosed:
            pass
        with self._news:
            self.closed = True
            self._news.notify_all()

    @property
    def frames(self) -> list[dict[str, Any]]:
        """What came so far."""
        with self._news:
            return list(self._frames)

    @property
    def statuses(self) -> list[str]:
        """The statuses so far, a row of equal ones once."""
        row = [frame["status"] for frame in self.frames]
        return [status for n, status in enumerate(row) if n == 0 or row[n - 1] != status]

    @property
    def percentages(self) -> list[float]:
        """The numbers of the IN-PROGRESS frames so far."""
        return [f["percentage"] for f in self.frames if f["status"] == "IN-PROGRESS"]

    def until(self, *statuses: str) -> list[dict[str, Any]]:
        """The frames, once the last of them has one of these statuses."""
        with self._news:
            came = self._news.wait_for(
                lambda: self._frames and self._frames[-1]["status"] in statuses, WAIT_S
            )
            assert came, f"no {statuses} after {self._frames[-5:]}"
            return list(self._frames)

    def until_closed(self) -> None:
        """Return once the server closed the socket."""
        with self._news:
            assert self._news.wait_for(lambda: self.closed, WAIT_S)

    def close(self) -> None:
        """Close it from this side."""
        self._open.close()
        self._thread.join()


class Listen(Protocol):
    """Opens the progress socket of a model."""

    def __call__(self, key: str) -> Ear: ...


@pytest.fixture
def listen(sdk: Sdk) -> Iterator[Listen]:
    """Progress sockets that are closed at the end."""
    with ExitStack() as ears:

        def opened(key: str) -> Ear:
            ear = Ear(f"{sdk.url}/model/{key}/download/progress")
            ears.callback(ear.close)
            return ear

        yield opened
