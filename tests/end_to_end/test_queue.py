"""The download queue by its API: order, limits and terms, over restarts too."""

from typing import Any
from urllib.parse import quote

import pytest

PADDED = "deck/padded-GGUF:F16"
TINY = "deck/tiny-GGUF:Q8_0"
EMBED = "deck/tiny-embed-GGUF:F16"


def start(api: Any, unique: str) -> str:
    """Start a download; its id."""
    return str(api.post(f"/deck/models/{quote(unique, safe='')}/download")["download"]["id"])


def job(state: Any, key: str) -> Any:
    return next(d for d in state["downloads"] if d["id"] == key)


def test_order_and_terms_are_changed_while_it_runs_and_survive_a_kill(api: Any) -> None:
    slow = {"jobs_at_once": 1, "rate_limit_bytes_per_s": 1_000_000}
    assert api.call("PATCH", "/deck/settings", slow)["jobs_at_once"] == 1
    big, small, other = (start(api, unique) for unique in (PADDED, TINY, EMBED))
    api.until(lambda s: job(s, big)["received_bytes"] > 1 << 20)
    terms = {"rate_limit_bytes_per_s": 200_000, "schedule": {}, "give_way": True}
    told = api.call("PATCH", "/deck/settings", terms)
    assert told["rate_in_force_bytes_per_s"] == 200_000
    assert api.post(f"/deck/downloads/{big}/limit", {"bytes_per_s": 90_000}) is not None
    api.post(f"/deck/downloads/{other}/move", {"to": "up"})
    assert api.post(f"/deck/downloads/{big}/move", {"to": "last"})["state"] == "queued"
    order = sorted(api.state()["downloads"], key=lambda d: d["position"])
    assert [d["id"] for d in order] == [other, small, big]

    def honest(job: Any) -> bool:
        """Whether a job says how fast it is, and how long that will take for the rest."""
        rate, left = job["rate_bytes_per_s"], job["total_bytes"] - job["received_bytes"]
        if rate is None:
            return False
        assert job["verified_bytes"] <= job["received_bytes"] <= job["total_bytes"]
        assert job["eta_s"] == pytest.approx(left / rate)
        return True

    flowing = api.until(lambda s: [d for d in s["downloads"] if honest(d)])
    assert [d["id"] for d in flowing] == [other]

    api.core.kill()
    api.core.start()
    state = api.state()
    assert state["settings"]["jobs_at_once"] == 1
    assert state["settings"]["give_way"]
    assert state["settings"]["rate_in_force_bytes_per_s"] == 200_000
    order = sorted(state["downloads"], key=lambda d: d["position"])
    assert [d["id"] for d in order] == [other, small, big]
    assert job(state, big)["rate_limit_bytes_per_s"] == 90_000

    api.post(f"/deck/downloads/{big}/limit", {"bytes_per_s": None})
    api.call("PATCH", "/deck/settings", {"rate_limit_bytes_per_s": None, "jobs_at_once": 3})
    for unique in (EMBED, TINY, PADDED):
        api.until(lambda s, unique=unique: api.ended(s, unique, "completed"))
    actions = [entry["action"] for entry in api.get("/deck/audit")["entries"]]
    assert {"move up", "move last", "limit", "settings"} <= set(actions)


def test_a_schedule_that_covers_the_day_is_in_force(api: Any) -> None:
    schedule = {"00:00-24:00": 123_456}
    told = api.call("PATCH", "/deck/settings", {"schedule": schedule})
    assert (told["rate_in_force_bytes_per_s"], told["rate_reason"]) == (123_456, "schedule")
    told = api.call("PATCH", "/deck/settings", {"schedule": {}})
    assert (told["rate_in_force_bytes_per_s"], told["rate_reason"]) == (None, "")
    api.core.restart()
    assert api.state()["settings"]["schedule"] == {}
