"""The main job on real models: find, see whether it fits, download, load, ask, unload, delete."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import psutil
import pytest
from huggingface_hub import scan_cache_dir

from modeldeck.core.demo.hub import DemoHub
from modeldeck.core.demo.vocabulary import expected

TINY = "deck/tiny-GGUF:Q8_0"
SIBLING = "deck/tiny-GGUF:F16"
SPLIT = "deck/tiny-split-GGUF:F16"
SEEING = "deck/tiny-see-GGUF:F16"


def encoded(unique: str) -> str:
    return quote(unique, safe="")


def forecast(api: Any, unique: str, context_length: int) -> Any:
    answer = api.get(f"/deck/models/{encoded(unique)}/fit?context_length={context_length}")
    assert answer["verdict"] == "fits"
    assert answer["exact"]
    return answer["forecast"]


@pytest.mark.parametrize("unique", [TINY, SPLIT, SEEING])
def test_the_main_job(api: Any, hub: DemoHub, unique: str) -> None:
    hits = api.get("/deck/search?query=tiny")["hits"]
    repo = unique.split(":")[0]
    assert repo in [hit["repo"] for hit in hits]
    before = forecast(api, unique, 1024)
    assert bool(before["projector_bytes"]) == (unique == SEEING)

    job = api.pull(unique)
    assert job["verified_bytes"] == job["received_bytes"] == job["total_bytes"] > 0
    model = api.model(unique)
    assert model["downloaded"]
    assert model["size_bytes"] == job["total_bytes"]
    assert forecast(api, unique, 1024) == before, "the forecast was exact before the download"

    instance = api.load(unique, context_length=1024)
    assert instance["state"] == "ready"
    limit = instance["forecast"]["prefix_cache_bytes"]
    assert instance["forecast"] == {**before, "prefix_cache_bytes": limit}, "all but a limit"
    assert api.ask(unique, "Please count for me") == expected("count")
    measured = api.until(lambda s: next((i for i in s["instances"] if i["measured_bytes"]), None))
    assert measured["peak_bytes"] >= before["weights_bytes"]
    process = psutil.Process(measured["pid"])

    receipt = api.post(f"/deck/instances/{instance['id']}/unload")
    assert receipt["process_gone"]
    assert receipt["freed_bytes"] == receipt["before_bytes"] > 0
    assert not process.is_running()
    assert api.state()["instances"] == []

    plan = api.post("/deck/cache/plan", {"models": [unique]})
    assert plan["freed_bytes"] == job["total_bytes"]
    deleted = api.post("/deck/cache/delete", {"models": [unique]})
    assert deleted["freed_bytes"] == job["total_bytes"]
    assert not api.model(unique)["downloaded"]
    assert api.until(lambda s: s["disk"])["cache_bytes"] == 0


def test_a_streamed_answer_is_the_whole_answer(api: Any) -> None:
    api.pull(TINY)
    body = {
        "model": TINY,
        "stream": True,
        "messages": [{"role": "user", "content": "Please count, will you?"}],
    }
    pieces = []
    with httpx.stream(
        "POST", f"{api.core.url}/v1/chat/completions", json=body, timeout=60, trust_env=False
    ) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            if line.startswith("data: {"):
                delta = json.loads(line[6:])["choices"][0]["delta"]
                pieces.append(delta.get("content") or "")
    assert "".join(pieces) == expected("count")
    assert len([p for p in pieces if p]) > 3, "it came in pieces"


def test_deleting_one_quantization_leaves_the_other_alone(api: Any) -> None:
    api.pull(TINY)
    sibling = api.pull(SIBLING)
    api.post("/deck/cache/delete", {"models": [TINY]})
    assert api.model(SIBLING)["downloaded"]
    assert not api.model(TINY)["downloaded"]
    assert api.load(SIBLING)["state"] == "ready"
    assert api.state()["disk"]["cache_bytes"] == sibling["total_bytes"]


def test_a_cancelled_download_keeps_its_bytes_until_they_are_deleted(
    api: Any, hub: DemoHub
) -> None:
    unique = "deck/padded-GGUF:F16"
    hub.rate_bytes_per_s = 1 << 17  # of each connection: the whole takes half a minute
    job = api.post(f"/deck/models/{encoded(unique)}/download")["download"]
    api.until(lambda s: s["downloads"][0]["received_bytes"] > 4 << 20)
    canceled = api.post(f"/deck/downloads/{job['id']}/cancel", {})
    assert canceled["state"] == "canceled"
    kept = canceled["received_bytes"]
    assert kept > 4 << 20

    hub.rate_bytes_per_s = None
    hub.clear_log()
    assert api.pull(unique)["id"] == job["id"]
    assert (
        sum(e.bytes_sent for e in hub.log if e.origin == "storage") < job["total_bytes"] - kept // 2
    )

    api.post("/deck/cache/delete", {"models": [unique]})
    hub.rate_bytes_per_s = 1 << 17
    again = api.post(f"/deck/models/{encoded(unique)}/download")["download"]
    api.until(lambda s: any(0 < d["received_bytes"] < d["total_bytes"] for d in s["downloads"]))
    api.post(f"/deck/downloads/{again['id']}/cancel", {})
    api.post("/deck/cache/delete", {"models": [unique]})
    disk = api.until(lambda s: s["disk"]["partial_bytes"] == 0 and s["disk"])
    assert disk["cache_bytes"] == 0


def test_a_loaded_model_is_not_deleted_unless_forced(api: Any) -> None:
    api.pull(TINY)
    api.load(TINY)
    refusal = api.post("/deck/cache/delete", {"models": [TINY]}, status=409)
    assert refusal["error"]["code"] == "in_use"
    assert api.ask(TINY, "Please count") == expected("count")
    api.post("/deck/cache/delete", {"models": [TINY], "force": True})
    assert api.state()["instances"] == []
    assert not api.model(TINY)["downloaded"]


def test_bad_files_fail_with_a_reason_and_cost_nobody_else(api: Any, hub: DemoHub) -> None:
    api.pull(TINY)
    api.load(TINY)
    for unique in ("deck/broken-GGUF:F16", "deck/broken-GGUF:Q8_0"):
        refusal = api.post(f"/deck/models/{encoded(unique)}/download", {}, status=502)["error"]
        assert "could not be loaded: This is not a sound GGUF file" in refusal["message"]
        assert "--force" in refusal["remedy"]
        api.pull(unique, force=True)
        path = f"/deck/models/{encoded(unique)}/load"
        error = api.post(path, {"wait": True}, status=500)["error"]
        assert error["code"] == "engine_failed"
        assert error["message"]
        instance = next(i for i in api.state()["instances"] if i["unique"] == unique)
        assert instance["state"] == "failed"
        assert instance["error"]["message"]
    assert api.ask(TINY, "Please count") == expected("count")


def test_a_file_that_is_corrupt_on_the_wire_is_never_published(api: Any, home: Path) -> None:
    unique = "deck/corrupt-GGUF:Q8_0"
    api.post(f"/deck/models/{encoded(unique)}/download")
    job = api.until(lambda s: api.ended(s, unique, "failed"))
    assert job["error"]["code"] == "corrupt"
    assert job["error"]["remedy"]
    assert not api.model(unique)["downloaded"]
    assert not list((home.parent / "hf").rglob("*.gguf"))


def test_a_gated_repository_says_what_to_do(api: Any) -> None:
    unique = "deck/gated-GGUF:Q8_0"
    api.post(f"/deck/models/{encoded(unique)}/download")
    error = api.until(lambda s: api.ended(s, unique, "failed"))["error"]
    assert error["code"] == "gated"
    assert "deck/gated-GGUF" in error["message"] + error["remedy"]
    assert "hf auth login" in error["remedy"]
    assert api.model(unique)["gated"]


def test_the_catalog_works_without_a_network_and_says_so(api: Any, hub: DemoHub) -> None:
    api.get("/deck/search?query=tiny")
    hub.faults.status(503, times=1000)
    answer = api.get("/deck/search?query=tiny")
    assert answer["from_cache"]
    assert answer["error"]
    assert answer["hits"]
    state = api.state()
    assert state["host"]["hub_error"]
    assert len(state["models"]) >= 40


def test_hf_and_modeldeck_see_the_same_cache(api: Any, home: Path, hub: DemoHub) -> None:
    environ = {**os.environ, "HF_ENDPOINT": hub.url}
    hf = Path(sys.executable).with_name("hf")

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [hf, *arguments], env=environ, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    job = api.pull(SPLIT)
    (listed,) = json.loads(run("cache", "ls", "--format", "json"))
    assert "deck/tiny-split-GGUF" in json.dumps(listed)
    scanned = scan_cache_dir(home.parent / "hf" / "hub")
    assert scanned.size_on_disk == job["total_bytes"] == api.state()["disk"]["cache_bytes"]
    run("cache", "verify", "deck/tiny-split-GGUF")
    folder = subprocess.run(
        [
            sys.executable,
            "-c",
            "from huggingface_hub import snapshot_download as s;"
            "print(s('deck/tiny-split-GGUF', local_files_only=True))",
        ],
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    assert api.model(SPLIT)["path"].startswith(folder)

    run("download", "deck/tiny-GGUF", "tiny-Q8_0.gguf")
    found = api.until(
        lambda s: next((m for m in s["models"] if m["unique"] == TINY and m["downloaded"]), None)
    )
    assert found["path"].endswith("tiny-Q8_0.gguf")
    assert api.load(TINY)["state"] == "ready"
