"""What a kill -9 of the core costs: nothing that was durable, and no engine outlives it."""

from typing import Any
from urllib.parse import quote

import psutil

from modeldeck.core.config.paths import locate
from modeldeck.core.demo.hub import DemoHub
from modeldeck.core.demo.vocabulary import expected
from tests.conftest import PADDED_BYTES
from tests.support.durable import durable_bytes

PADDED = "deck/padded-GGUF:F16"
TINY = "deck/tiny-GGUF:Q8_0"


def durable() -> int:
    return durable_bytes(locate().database)


def test_a_download_goes_on_where_it_was_after_a_kill(api: Any, hub: DemoHub) -> None:
    hub.rate_bytes_per_s = 1 << 18  # of each connection
    api.post(f"/deck/models/{quote(PADDED, safe='')}/download")
    part = api.until(lambda s: s["downloads"][0] if durable() >= PADDED_BYTES // 4 else None)
    api.core.kill()
    kept = durable()
    asked = len(hub.log)
    hub.rate_bytes_per_s = None
    api.core.start()

    job = api.until(lambda s: api.ended(s, PADDED, "completed"))
    assert job["id"] == part["id"]
    assert job["verified_bytes"] == job["total_bytes"]
    again = sum(e.bytes_sent for e in hub.log[asked:] if e.origin == "storage")
    # Half of it, as sockets hold some of what is sent to connections that are closed again.
    assert 0 < again < job["total_bytes"] - kept // 2, "what was durable was not fetched again"
    assert api.load(PADDED)["state"] == "ready"
    assert api.ask(PADDED, "Please count") == expected("count")


def test_no_engine_outlives_a_killed_core(api: Any) -> None:
    api.pull(TINY)
    instance = api.load(TINY)
    engine = psutil.Process(instance["pid"])
    api.core.kill()
    psutil.wait_procs([engine], timeout=30)
    assert not engine.is_running()
    api.core.start()
    assert api.state()["instances"] == []
    assert api.model(TINY)["downloaded"]
    assert api.load(TINY)["state"] == "ready"
