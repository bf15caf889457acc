"""The native API of a real core, with the demo hub and real engines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from modeldeck.core.api.native.bodies import DefaultsBody, LoadBody
from modeldeck.core.api.native.feed import FeedFrames
from modeldeck.core.demo.hub import DemoHub
from modeldeck.core.schema import Disk, Host, LoadOptions, LoadWish
from modeldeck.core.schema.state import DiskChanged, State, item_from_frame
from tests.support.process import CoreProcess

TINY = "deck/tiny-GGUF:Q8_0"
PATIENCE_S = 60

Ask = Callable[..., Awaitable[Any]]


@pytest.fixture
async def http(core: CoreProcess) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=core.url, timeout=PATIENCE_S) as client:
        yield client


@pytest.fixture
def ask(http: httpx.AsyncClient) -> Ask:
    """Asks the core, expects a status, and gives the answer's JSON."""

    async def send(method: str, path: str, body: Any = None, status: int = 200) -> Any:
        content = {} if body is None else {"json": body}
        answer = await http.request(method, f"/deck/{path}", **content)
        assert answer.status_code == status, answer.text
        return answer.json() if answer.content else None

    return send


async def downloaded(ask: Ask, name: str = TINY) -> dict[str, Any]:
    """The model, fetched from the demo hub."""
    accepted = await ask("POST", f"models/{quote(name, safe='')}/download")
    async with asyncio.timeout(PATIENCE_S):
        while True:
            jobs = (await ask("GET", "state"))["downloads"]
            job = next(job for job in jobs if job["id"] == accepted["download"]["id"])
            if job["state"] == "completed":
                model: dict[str, Any] = await ask("GET", f"models/{accepted['model']['id']}")
                return model
            assert job["state"] in ("queued", "downloading", "verifying"), job
            await asyncio.sleep(0.02)


async def test_a_model_s_whole_life(ask: Ask, http: httpx.AsyncClient) -> None:
    hits = (await ask("GET", "search?query=tiny&limit=5"))["hits"]
    assert "deck/tiny-GGUF" in [hit["repo"] for hit in hits]
    variants = (await ask("GET", "repositories/deck%2Ftiny-GGUF"))["variants"]
    assert TINY in [variant["unique"] for variant in variants]
    fit = await ask("GET", f"models/{quote(TINY, safe='')}/fit?context_length=256")
    assert (fit["exact"], fit["context_length"]) == (True, 256)

    model = await downloaded(ask)
    assert model["downloaded"]
    again = await ask("POST", f"models/{model['id']}/download")
    assert again["download"] is None

    body = {"context_length": 256, "wait": True}
    instance = await ask("POST", f"models/{model['id']}/load", body)
    assert (instance["state"], instance["context_length"]) == ("ready", 256)
    refused = await ask("POST", "cache/delete", {"models": [model["id"]]}, status=409)
    assert refused["error"]["code"] == "in_use"
    receipt = await ask("POST", f"instances/{instance['id']}/unload")
    assert receipt["process_gone"]
    assert await ask("POST", "instances/unload") == {"receipts": []}

    plan = await ask("POST", "cache/plan", {"models": [TINY]})
    assert plan["freed_bytes"] == model["size_bytes"]
    deleted = await ask("POST", "cache/delete", {"models": [TINY]})
    assert deleted["freed_bytes"] == plan["freed_bytes"]
    entries = (await ask("GET", "audit?limit=10"))["entries"]
    assert {entry["outcome"] for entry in entries} == {"done", "in_use"}
    assert all(entry["origin"].startswith("127.0.0.1:") for entry in entries)


async def test_a_download_is_held_resumed_canceled_and_forgotten(ask: Ask, hub: DemoHub) -> None:
    hub.faults.stall(1 << 20, times=1000, path=".gguf")  # it cannot be complete meanwhile
    accepted = await ask("POST", "models/deck%2Fpadded-GGUF/download")
    key = accepted["download"]["id"]
    assert (await ask("POST", f"downloads/{key}/pause"))["state"] == "paused"
    assert (await ask("POST", f"downloads/{key}/resume"))["state"] in ("queued", "downloading")
    await ask("DELETE", f"downloads/{key}", status=409)
    assert (await ask("POST", f"downloads/{key}/cancel", {"discard": True}))["state"] == "canceled"
    await ask("DELETE", f"downloads/{key}", status=204)
    assert (await ask("GET", "state"))["downloads"] == []


async def test_a_loaded_model_is_loaded_anew_only_when_asked_and_defaults_are_saved(
    ask: Ask,
) -> None:
    model = await downloaded(ask)
    path = f"models/{model['id']}"
    load = {"context_length": 512, "wait": True}
    first = await ask("POST", f"{path}/load", load)
    assert (await ask("POST", f"{path}/load", load))["id"] == first["id"]
    other = {"context_length": 256, "wait": True}
    refused = (await ask("POST", f"{path}/load", other, status=409))["error"]
    assert refused["code"] == "loaded_already"
    assert "`reload: true`" in refused["remedy"]
    plan = await ask("POST", f"{path}/load/plan", {"context_length": 256, "reload": True})
    assert plan["replaces"]["instance_id"] == first["id"]
    second = await ask("POST", f"{path}/load", {**other, "reload": True})
    assert (second["id"] != first["id"], second["context_length"]) == (True, 256)
    await ask("POST", f"instances/{second['id']}/unload")

    saved = await ask("PATCH", f"{path}/defaults", {"context_length": 1024, "threads": 1})
    assert (saved["context_length"], saved["threads"], saved["mmap"]) == (1024, 1, None)
    await ask("PATCH", f"{path}/defaults", {}, status=400)
    await ask("PATCH", f"{path}/defaults", {"threads": None})
    settings = (await ask("GET", "state"))["settings"]
    assert settings["load_defaults"][model["id"]] == {**saved, "threads": None}
    assert (await ask("POST", f"{path}/load/plan"))["origins"]["context_length"] == "saved"
    await ask("DELETE", f"{path}/defaults", status=204)
    assert (await ask("GET", "state"))["settings"]["load_defaults"] == {}


async def test_an_instance_is_pinned_and_its_idle_time_changed(ask: Ask) -> None:
    model = await downloaded(ask)
    load = {"context_length": 256, "wait": True}
    instance = await ask("POST", f"models/{model['id']}/load", load)
    path = f"instances/{instance['id']}"
    changed = await ask("PATCH", path, {"pinned": True, "idle_ttl_s": 600})
    assert (changed["options"]["pinned"], changed["options"]["idle_ttl_s"]) == (True, 600)
    assert (await ask("GET", "state"))["instances"][0]["options"] == changed["options"]
    assert await ask("POST", "instances/unload") == {"receipts": []}
    await ask("PATCH", path, {"idle_ttl_s": 400 * 86_400}, status=400)
    changed = await ask("PATCH", path, {"pinned": False})
    assert (changed["options"]["pinned"], changed["options"]["idle_ttl_s"]) == (False, 600)
    newest = (await ask("GET", "audit?limit=1"))["entries"][0]
    assert (newest["action"], newest["outcome"]) == ("change pinned False", "done")
    assert len((await ask("POST", "instances/unload"))["receipts"]) == 1


async def test_the_memory_budget_caps_what_models_may_take_together(ask: Ask) -> None:
    model = await downloaded(ask)
    path, body = f"models/{model['id']}", {"context_length": 256, "parallel": 4, "wait": True}
    needs = (await ask("GET", f"{path}/fit?context_length=256"))["forecast"]["total_bytes"]
    told = await ask("PATCH", "settings", {"memory_budget_bytes": needs - 1, "jobs_at_once": 3})
    assert (told["memory_budget_bytes"], told["jobs_at_once"]) == (needs - 1, 3)
    assert (await ask("GET", "state"))["memory"]["budget_bytes"] == needs - 1
    fit = await ask("GET", f"{path}/fit?context_length=256")
    assert (fit["verdict"], fit["available_bytes"]) == ("too large", needs - 1)
    assert "memory budget" in fit["reason"]
    plan = await ask("POST", f"{path}/load/plan", body)
    assert (plan["verdict"], plan["budget_left_bytes"]) == ("too large", needs - 1)
    assert plan["refusal"]["code"] == "not_enough_memory"
    assert plan["origins"]["context_length"] == "request"
    error = (await ask("POST", f"{path}/load", body, status=507))["error"]
    assert error["remedy"] == plan["refusal"]["remedy"]
    assert error["code"] == "not_enough_memory"
    assert "models may take" in error["message"]

    await ask("PATCH", "settings", {"memory_budget_bytes": needs})
    await ask("POST", f"{path}/load", body)
    other = await downloaded(ask, "deck/tiny-GGUF:F16")
    fits = (await ask("GET", "fits?context_length=256"))["fits"]
    assert fits[other["id"]]["verdict"] == "too large"  # what is loaded counts
    await ask("POST", f"models/{other['id']}/load", {**body, "force": True})
    await ask("PATCH", "settings", {"memory_budget_bytes": None})
    fits = (await ask("GET", "fits?context_length=256"))["fits"]
    assert fits[other["id"]]["verdict"] == "fits"
    assert (await ask("GET", "state"))["memory"]["budget_bytes"] > needs


async def test_a_custom_model_is_made_changed_and_removed(ask: Ask) -> None:
    made = await ask("POST", "models", {"unique": TINY, "name": "mine"})
    assert (made["custom"], made["name"]) == (True, "mine")
    clash = await ask("POST", "models", {"unique": TINY}, status=409)
    assert made["id"] in clash["error"]["message"]
    changed = await ask("PATCH", "models/mine", {"description": "changed"})
    assert changed["description"] == "changed"
    await ask("PATCH", "models/mine", {"downloaded": True}, status=400)
    await ask("DELETE", "models/mine", status=204)
    await ask("GET", "models/mine", status=404)


BAD: list[tuple[str, str, Any, int]] = [
    ("GET", "models/none", None, 404),
    ("GET", "models/%00%0d%0aX", None, 404),
    ("GET", "models/none/fit", None, 404),
    ("GET", f"models/{quote(TINY, safe='')}/fit?context_length=1", None, 400),
    ("GET", f"models/{quote(TINY, safe='')}/fit?context_length=x", None, 400),
    ("POST", "models/none/load", None, 404),
    ("POST", "models/none/load", {"context_length": "long"}, 400),
    ("POST", "models/none/load", {"context_length": 1 << 40}, 400),
    ("POST", "models/none/load", {"kv_cache_type": "q9"}, 400),
    ("POST", "models/none/load", {"idle_ttl_s": -1}, 400),
    ("POST", "models/none/load", [], 400),
    ("POST", "models", {}, 400),
    ("POST", "models", {"unique": 5}, 400),
    ("POST", "models", {"unique": "../../etc/passwd"}, 400),
    ("PATCH", "models/none", [1], 400),
    ("DELETE", "models/none", None, 404),
    ("GET", "repositories/..%2F..", None, 400),
    ("GET", "repositories/deck%2Fnone", None, 404),
    ("GET", "search?limit=0", None, 400),
    ("GET", "search?limit=1.5", None, 400),
    ("GET", "search?query=" + "a" * 300, None, 400),
    ("POST", "downloads/none/cancel", {"discard": "yes"}, 400),
    ("POST", "downloads/none/cancel", None, 404),
    ("POST", "downloads/none/pause", None, 404),
    ("POST", "downloads/none/resume", None, 404),
    ("DELETE", "downloads/none", None, 404),
    ("POST", "downloads/none/move", {"to": "up"}, 404),
    ("POST", "downloads/none/move", {"to": "away"}, 400),
    ("POST", "downloads/none/limit", {"bytes_per_s": 1}, 404),
    ("POST", "downloads/none/limit", {"bytes_per_s": 0}, 400),
    ("POST", "downloads/none/limit", {}, 400),
    ("PATCH", "settings", {"jobs_at_once": 0}, 400),
    ("PATCH", "settings", {"jobs_at_once": None}, 400),
    ("PATCH", "settings", {"rate_limit_bytes_per_s": -1}, 400),
    ("PATCH", "settings", {"schedule": {"noon": "none"}}, 400),
    ("PATCH", "settings", {"schedule": {"01:00-02:00": "fast"}}, 400),
    ("PATCH", "settings", [], 400),
    ("PATCH", "settings", {"memory_budget_bytes": 0}, 400),
    ("PATCH", "instances/none", {"pinned": True}, 404),
    ("PATCH", "instances/none", {"pinned": None}, 400),
    ("PATCH", "instances/none", {"idle_ttl_s": -1}, 400),
    ("POST", "instances/none/unload", None, 404),
    ("POST", "cache/plan", {"models": "all"}, 400),
    ("POST", "cache/plan", {"models": []}, 400),
    ("POST", "cache/plan", {"every_revision": True}, 400),
    ("POST", "cache/plan", {"revisions": ["deck/tiny-GGUF"]}, 400),
    ("POST", "cache/plan", {"repositories": ["../.."]}, 404),
    ("POST", "cache/verify", {"models": ["none"]}, 404),
    ("POST", "cache/verify", {}, 404),
    ("POST", "cache/verify/none/cancel", None, 404),
    ("POST", "cache/delete", {"models": ["none"], "force": 1}, 400),
    ("POST", "cache/delete", {"models": ["none"]}, 404),
    ("GET", "log?limit=0", None, 400),
    ("GET", "log?after=now", None, 400),
    ("GET", "audit?limit=100000", None, 400),
    ("GET", "feed", None, 426),
    ("GET", "nothing", None, 404),
    ("PUT", "state", None, 405),
]


async def test_bad_requests_are_refused_in_words(ask: Ask, core: CoreProcess) -> None:
    for method, path, body, status in BAD:
        error = (await ask(method, path, body, status=status))["error"]
        assert error["message"], path
        assert "inside modeldeck" not in error["message"], path
    assert "Traceback" not in core.stderr + str(await ask("GET", "log?limit=5000"))


async def test_the_feed_tells_a_state_and_then_what_changes(ask: Ask, core: CoreProcess) -> None:
    url = core.url.replace("http", "ws") + "/deck/feed"
    # Without a limit to its queue: a client that leaves frames unread closes only after a timeout.
    options: dict[str, Any] = {"max_queue": None, "max_size": None}
    async with connect(url, **options) as socket, connect(f"{url}?max_hz=4", **options) as slow:
        first = item_from_frame(await socket.recv())
        assert isinstance(first, State)
        assert isinstance(item_from_frame(await slow.recv()), State)
        await ask("POST", "models", {"unique": TINY, "name": "mine"})
        async with asyncio.timeout(PATIENCE_S):
            for follower in (socket, slow):
                names = []
                while "mine" not in names:
                    item = item_from_frame(await follower.recv())
                    names.append(getattr(getattr(item, "model", None), "name", None))


@pytest.mark.parametrize("rate", ["0", "-1", "nan", "inf", "61", "x"])
async def test_a_feed_at_an_impossible_rate_is_refused(served_feed: str, rate: str) -> None:
    with pytest.raises(InvalidStatus) as caught:
        await connect(f"{served_feed}?max_hz={rate}")
    assert caught.value.response.status_code == 400


@pytest.fixture
async def served_feed(serve: Callable[..., Any]) -> str:
    """The feed of a listener whose service is never asked."""
    served = await serve()
    return f"ws://127.0.0.1:{served.addresses.port}/deck/feed"


async def test_stop_is_answered_and_then_done(ask: Ask, core: CoreProcess) -> None:
    assert await ask("POST", "stop") == {"stopping": True}
    assert await asyncio.to_thread(core.process.wait, PATIENCE_S) == 0


def test_a_load_s_body_has_every_option_and_no_other_name_for_it() -> None:
    options = set(LoadOptions.__dataclass_fields__)
    actions = {"force", "fresh", "make_room", "wait", "reload", "end_answers"}
    assert set(LoadBody.__dataclass_fields__) == options | actions
    assert set(DefaultsBody.__dataclass_fields__) == options
    wish = LoadWish(options=LoadOptions(threads=3), force=True)
    assert LoadBody(threads=3, force=True).wish() == wish


def test_a_frame_is_encoded_once_however_many_follow() -> None:
    frames = FeedFrames()
    state = State(host=Host(name="a", version="1", started_at=""))
    event = DiskChanged(seq=1, disk=Disk(free_bytes=1))
    assert frames.of(state) is frames.of(state)
    assert frames.of(event) is frames.of(event)
    others = [DiskChanged(seq=seq, disk=Disk()) for seq in range(2, 200)]
    for other in others:
        assert item_from_frame(frames.of(other).text) == other
    assert item_from_frame(frames.of(event).text) == event
