"""The main job on a real MLX model: see whether it fits, download, load, ask, unload."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import psutil

from modeldeck.core.demo.hub import DemoHub
from modeldeck.core.demo.vocabulary import expected

TINY = "deck/tiny-mlx"


def fit(api: Any) -> Any:
    return api.get(f"/deck/models/{quote(TINY, safe='')}/fit?context_length=1024")


def test_the_main_job_with_mlx(api: Any) -> None:
    before = fit(api)
    assert (before["verdict"], before["exact"]) == ("fits", False)
    forecast = before["forecast"]
    assert forecast["weights_bytes"] > 2_900_000
    tokens = 1024 + 4 * 256  # each of four requests has steps of 256 cells of its own
    assert forecast["kv_bytes"] == 2 * 2 * 64 * 2 * tokens, "layers, keys and values, bytes, tokens"
    api.pull(TINY)
    api.until(lambda s: s["runtimes"])  # a busy machine takes longer to start engines than to pull
    assert api.model(TINY)["engine"] == "mlx"
    assert fit(api)["forecast"] == forecast, "the same before the download and after"

    instance = api.load(TINY, context_length=1024)
    assert (instance["state"], instance["engine"]) == ("ready", "mlx")
    limit = instance["forecast"]["prefix_cache_bytes"]
    assert instance["forecast"] == {**forecast, "prefix_cache_bytes": limit}
    assert api.ask(TINY, "Please count for me") == expected("count")
    assert api.ask(TINY, "Please llama for me") == expected("llama")
    body = {
        "model": TINY,
        "stream": True,
        "messages": [{"role": "user", "content": "Please json, will you?"}],
    }
    pieces = []
    with httpx.stream(
        "POST", f"{api.core.url}/v1/chat/completions", json=body, timeout=60, trust_env=False
    ) as answer:
        for line in answer.iter_lines():
            if line.startswith("data: {"):
                delta = json.loads(line[6:])["choices"][0]["delta"]
                pieces.append(delta.get("content") or "")
    assert "".join(pieces) == expected("json")
    assert len([p for p in pieces if p]) > 3, "it came in pieces"

    measured = api.until(lambda s: next((i for i in s["instances"] if i["measured_bytes"]), None))
    process = psutil.Process(measured["pid"])
    receipt = api.post(f"/deck/instances/{instance['id']}/unload")
    assert receipt["process_gone"]
    assert receipt["freed_bytes"] == receipt["before_bytes"] > 0
    assert not process.is_running()
    assert api.state()["instances"] == []


def test_a_broken_mlx_folder_fails_with_its_reason(api: Any, hub: DemoHub) -> None:
    api.pull(TINY)
    model = api.model(TINY)
    config = Path(model["path"]) / "config.json"
    document = {**json.loads(config.read_text()), "auto_map": {"AutoModel": "run.Model"}}
    config.unlink()  # a link into the cache
    config.write_text(json.dumps(document))
    answer = api.post(
        f"/deck/models/{quote(TINY, safe='')}/load", {"wait": True, "force": True}, status=500
    )
    assert "names Python code to run" in answer["error"]["message"]
    (failed,) = api.state()["instances"]
    assert failed["state"] == "failed"
    assert "names Python code to run" in failed["error"]["message"]


def test_the_engines_of_this_machine_are_told(api: Any) -> None:
    runtimes = api.until(lambda s: s["runtimes"])
    (mlx,) = [r for r in runtimes if r["name"] == "mlx"]
    assert (mlx["available"], mlx["formats"], mlx["devices"]) == (True, ["mlx"], ["CPU"])
    assert mlx["version"]
