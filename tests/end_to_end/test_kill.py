"""What a kill -9 of the core costs: nothing that was durable, and no engine outlives it."""

from typing import Any
from urllib.parse import quote

import psutil

from modeldeck.core.demo.hub import DemoHub
from modeldeck.core.demo.vocabulary import expected

PADDED = "deck/padded-GGUF:F16"
TINY = "deck/tiny-GGUF:Q8_0"


def test_a_download_goes_on_where_it_was_after_a_kill(api: Any, hub: DemoHub) -> None:
    hub.rate_bytes_per_s = 1 << 20  # of each connection
    api.post(f"/deck/models/{quote(PADDED, safe='')}/download")
    half = api.until(
        lambda s: next(
            (d for d in s["downloads"] if d["received_bytes"] > d["total_bytes"] // 2), None
        )
    )
    api.core.kill()
    sent_before = sum(e.bytes_sent for e in hub.log if e.origin == "storage")
    hub.rate_bytes_per_s = None
    api.core.start()

    job = api.until(lambda s: api.ended(s, PADDED, "completed"))
    assert job["id"] == half["id"]
    assert job["verified_bytes"] == job["total_bytes"]
    again = sum(e.bytes_sent for e in hub.log if e.origin == "storage") - sent_before
    assert 0 < again < job["total_bytes"] * 3 // 4, "what was durable was not fetched again"
    assert api.load(PADDED)["state"] == "ready"
    assert api.ask(PADDED, "Please count") == expected("count")


def test_no_engine_outlives_a_killed_core(api: Any) -> None:
    api.pull(TINY)
    instance = api.load(TINY)
    engine = psutil.Process(instance["pid"])
    api.core.kill()
    psutil.wait_procs([engine], timeout=60)
    assert not engine.is_running()
    api.core.start()
    assert api.state()["instances"] == []
    assert api.model(TINY)["downloaded"]
    assert api.load(TINY)["state"] == "ready"
