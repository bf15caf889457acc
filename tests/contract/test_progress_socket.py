from __future__ import annotations

import time
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin

from modeldeck.core.demo.hub import DemoHub
from tests.contract.conftest import WAIT_S
from tests.support.process import CoreProcess

if TYPE_CHECKING:
    from tests.contract.conftest import Listen, Sdk

PADDED = "deck/padded-GGUF:F16"
SLOW = 1_000_000
"""Bytes a second of each connection: the padded model then takes some two seconds."""
HELD = 100_000
"""The same where it must not end by itself."""


def rising(numbers: list[float]) -> bool:
    """Whether they rise by a tenth at least, and stay in what a percentage can be."""
    steps = pairwise(numbers)
    return all(b - a > 0.099 for a, b in steps) and all(0 <= n < 100 for n in numbers)


def test_a_socket_that_was_there_first_hears_everything(
    sdk: Sdk, hub: DemoHub, listen: Listen
) -> None:
    hub.rate_bytes_per_s = SLOW
    model = sdk.create("Padded", PADDED)
    one, two = listen(model.id), listen(model.id)
    began = time.monotonic()
    assert sdk.model.model_specific_model_download_progress(model=model.id).status is None
    assert sdk.model.model_specific_model_download(model=model.id).downloading
    for ear in (one, two):
        ear.until("COMPLETED")
        assert ear.statuses == ["INITIALIZED", "IN-PROGRESS", "COMPLETED"]
        assert ear.frames[-1]["percentage"] == 100
        assert rising(ear.percentages)
        assert len(ear.percentages) > 3
        # Not between the frames as they came: on a busy machine they are read together.
        assert len(ear.frames) <= 5 * (time.monotonic() - began) + 4
    assert sdk.get(model.id).downloaded


def test_initialized_is_there_before_the_operation_is_answered(
    sdk: Sdk, hub: DemoHub, listen: Listen
) -> None:
    hub.rate_bytes_per_s = HELD
    model = sdk.create("Padded", PADDED)
    ear = listen(model.id)
    sdk.model.model_specific_model_download(model=model.id)
    # It was written before the answer was, so it is here, or on its way through the loopback.
    first = ear.until("INITIALIZED", "IN-PROGRESS")[0]
    assert first == {"status": "INITIALIZED"}


def test_a_socket_that_comes_in_the_middle_hears_how_it_goes_on(
    sdk: Sdk, hub: DemoHub, listen: Listen
) -> None:
    hub.rate_bytes_per_s = HELD
    model = sdk.create("Padded", PADDED)
    sdk.model.model_specific_model_download(model=model.id)
    ear = listen(model.id)
    asked = sdk.model.model_specific_model_download_progress(model=model.id)
    assert asked.status == "IN-PROGRESS"
    assert 0 <= asked.percentage < 100
    hub.rate_bytes_per_s = None
    ear.until("COMPLETED")
    assert ear.statuses == ["IN-PROGRESS", "COMPLETED"]
    assert rising(ear.percentages)


def test_a_socket_that_comes_afterwards_hears_how_it_stands(sdk: Sdk, listen: Listen) -> None:
    model = sdk.fetched(sdk.create("Tiny", "deck/tiny-GGUF:Q8_0").id)
    ear = listen(model.id)
    assert ear.until("COMPLETED") == [{"status": "COMPLETED", "percentage": 100}]
    # Nothing is transferred and nothing told for what is here already.
    assert sdk.model.model_specific_model_download(model=model.id).downloaded
    sdk.models.models_delete_specific_model_cache(model=model.id)
    assert ear.until("RESET") == [{"status": "COMPLETED", "percentage": 100}, {"status": "RESET"}]


def test_one_socket_serves_several_downloads(sdk: Sdk, hub: DemoHub, listen: Listen) -> None:
    hub.rate_bytes_per_s = HELD
    model = sdk.create("Padded", PADDED)
    ear = listen(model.id)
    sdk.model.model_specific_model_download(model=model.id)
    ear.until("IN-PROGRESS")
    canceled = sdk.model.model_specific_model_download_cancel(model=model.id)
    assert not canceled.downloading
    ear.until("CANCELED")
    late = listen(model.id)
    assert late.until("CANCELED") == [{"status": "CANCELED"}]
    hub.rate_bytes_per_s = None
    sdk.model.model_specific_model_download(model=model.id)
    for listener in (ear, late):
        listener.until("COMPLETED")
    run = ["INITIALIZED", "IN-PROGRESS", "COMPLETED"]
    assert late.statuses == ["CANCELED", *run]
    assert ear.statuses == ["INITIALIZED", "IN-PROGRESS", "CANCELED", *run]


def test_removing_a_partial_download_resets(sdk: Sdk, hub: DemoHub, listen: Listen) -> None:
    hub.rate_bytes_per_s = HELD
    model = sdk.create("Padded", PADDED)
    ear = listen(model.id)
    sdk.model.model_specific_model_download(model=model.id)
    while not ear.percentages or ear.percentages[-1] < 10:
        ear.until("IN-PROGRESS")
    sdk.models.models_delete_specific_model_cache(model=model.id)
    ear.until("RESET")
    assert ear.statuses == ["INITIALIZED", "IN-PROGRESS", "CANCELED", "RESET"]


def test_a_download_that_fails_says_so_once(sdk: Sdk, listen: Listen) -> None:
    model = sdk.create("Corrupt", "deck/corrupt-GGUF:Q8_0")
    ear = listen(model.id)
    assert sdk.model.model_specific_model_download(model=model.id).downloading
    ear.until("FAILED")
    late = listen(model.id)
    assert late.until("FAILED") == [{"status": "FAILED"}]
    assert [f["status"] for f in ear.frames].count("FAILED") == 1
    assert ear.statuses[0] == "INITIALIZED"
    assert (sdk.get(model.id).downloading, sdk.get(model.id).downloaded) == (False, False)


def test_a_socket_outlives_nothing_but_its_model(sdk: Sdk, listen: Listen) -> None:
    model = sdk.fetched(sdk.create("Tiny", "deck/tiny-GGUF:Q8_0").id)
    ear = listen(model.id)
    ear.until("COMPLETED")
    sdk.models.models_delete_specific_model(model=model.id)
    ear.until_closed()
    assert ear.statuses == ["COMPLETED", "RESET"]


@pytest.mark.parametrize("key", ["00000000-0000-0000-0000-000000000000", "$%7Bmodel.id%7D"])
def test_a_socket_for_an_unknown_model_is_refused(core: CoreProcess, key: str) -> None:
    with pytest.raises(InvalidStatus) as caught:
        connect(f"ws{core.url[4:]}/model/{key}/download/progress", proxy=None, open_timeout=WAIT_S)
    assert caught.value.response.status_code == 410
    assert b"There is no model" in caught.value.response.body
    assert "Traceback" not in core.stderr


def test_origin_of_the_server_itself_is_welcome(core: CoreProcess, sdk: Sdk) -> None:
    model = sdk.create("Tiny", "deck/tiny-GGUF:Q8_0")
    url = f"ws{core.url[4:]}/model/{model.id}/download/progress"
    with connect(url, origin=Origin(core.url), proxy=None, open_timeout=WAIT_S) as socket:
        socket.send("anything at all")
        socket.ping().wait()
