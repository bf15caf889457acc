"""Models of Ollama and LM Studio are found, named, loaded and checked where they lie, and stay."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.conftest import Api
from tests.support.ollama_store import write_model
from tests.support.process import CoreProcess

NAME = "qwen2.5-coder:7b"
STUDIO = "lm-studio:studio/Tiny-GGUF:Q8_0"


@pytest.fixture
def blob(home: Path, demo_models: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that Ollama has of a model; LM Studio has another one."""
    weights = demo_models / "tiny-GGUF" / "tiny-Q8_0.gguf"
    monkeypatch.setenv("HOME", str(home.parent))
    monkeypatch.setenv("OLLAMA_MODELS", str(home.parent / "ollama"))
    monkeypatch.setenv("MODELDECK_CATALOG_ALSO_FROM", "ollama,lm studio")
    folder = home.parent / ".lmstudio" / "models" / "studio" / "Tiny-GGUF"
    folder.mkdir(parents=True)
    shutil.copy(weights, folder / "Tiny-Q8_0.gguf")
    return write_model(
        home.parent / "ollama", "registry.ollama.ai/library/qwen2.5-coder/7b", weights
    )


@pytest.fixture
def here(blob: Path) -> Iterator[Api]:
    with CoreProcess(os.environ) as core:
        yield Api(core)


def command(*words: str) -> subprocess.CompletedProcess[str]:
    program = Path(sysconfig.get_path("scripts")) / "modeldeck"
    return subprocess.run([program, *words], capture_output=True, text=True, check=False)


def test_models_of_other_tools_are_used_in_place_and_never_changed(here: Api, blob: Path) -> None:
    before = blob.read_bytes(), blob.stat()
    model = here.model(NAME)
    assert (model["source"], model["path"], model["downloaded"]) == ("ollama", str(blob), True)
    assert {NAME, STUDIO} <= {each["id"] for each in here.get("/v1/models")["data"]}
    assert NAME in {each["name"] for each in here.get("/api/tags")["models"]}

    instance = here.load(NAME)
    assert instance["state"] in ("ready", "busy")
    assert here.ask(NAME, "count")
    assert here.load(STUDIO)["state"] == "ready"

    assert here.post("/deck/models/qwen2.5-coder%3A7b/download")["download"] is None
    here.post("/deck/cache/verify", {"models": [NAME]})
    checks = here.until(
        lambda state: [v for v in state["verifications"] if v["state"] == "completed"]
    )
    assert (checks[0]["files"], checks[0]["corrupt"]) == (1, [])
    assert checks[0]["model_ids"] == [model["id"]]
    here.post("/deck/cache/verify", {"models": [STUDIO]}, status=409)  # it has no hash

    error = here.post("/deck/cache/delete", {"models": [NAME], "force": True}, status=409)["error"]
    assert f"These files belong to Ollama: `ollama rm {NAME}` deletes them." in error["message"]
    here.call("DELETE", "/api/delete", {"model": NAME}, status=409)
    here.call("DELETE", f"/deck/models/{model['id']}", status=409)
    assert (blob.read_bytes(), blob.stat().st_mtime_ns) == (before[0], before[1].st_mtime_ns)
    assert here.get("/deck/cache")["repositories"] == []


def test_commands_name_models_of_other_tools_as_these_do(here: Api, blob: Path) -> None:
    listed = command("ls", "qwen2.5-coder:7b").stdout
    assert NAME in listed
    assert "from ollama" in listed
    refused = command("rm", "-y", NAME)
    assert refused.returncode != 0
    assert f"`ollama rm {NAME}`" in refused.stderr
    assert "On this machine already (Ollama)" in command("pull", NAME).stdout
    assert command("load", "qwen2.5-coder").returncode != 0  # Ollama means the tag `latest`
    assert command("load", NAME).returncode == 0
    blob.unlink()  # `ollama rm` does
    here.until(lambda state: all(m["unique"] != NAME for m in state["models"]))
