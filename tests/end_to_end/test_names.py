"""What people paste to name a model: every verb takes it, by every way in."""

from __future__ import annotations

import json
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from modeldeck.core.demo.hub import DemoHub
from modeldeck.core.demo.vocabulary import expected
from tests.support.process import CoreProcess

TINY = "deck/tiny-GGUF:Q8_0"
PROGRAM = Path(sysconfig.get_path("scripts")) / "modeldeck"
QUESTION = "Please count for me"


@pytest.fixture
def core(shared_core: CoreProcess, monkeypatch: pytest.MonkeyPatch) -> CoreProcess:
    monkeypatch.setenv("MODELDECK_HOME", str(shared_core.home))
    monkeypatch.setenv("HF_HOME", str(shared_core.home.parent / "hf"))
    return shared_core


@pytest.fixture
def hub(shared_hub: DemoHub) -> DemoHub:
    return shared_hub


def pasted(hub: DemoHub) -> list[str]:
    """One model, in every form that leads to it."""
    return [
        TINY,
        "hf.co/deck/tiny-GGUF:Q8_0",
        "huggingface.co/deck/tiny-GGUF:q8_0",
        "https://hf.co/deck/tiny-GGUF:Q8_0",
        "https://huggingface.co/deck/tiny-GGUF/blob/main/tiny-Q8_0.gguf",
        "https://huggingface.co/deck/tiny-GGUF?show_file_info=tiny-Q8_0.gguf",
        f"{hub.url}/deck/tiny-GGUF/resolve/main/tiny-Q8_0.gguf?download=true",
        "hf://deck/tiny-GGUF/tiny-Q8_0.gguf",
    ]


def run(*words: str, code: int = 0) -> str:
    """What a command says; it must end with this code."""
    said = subprocess.run([PROGRAM, *words], capture_output=True, text=True, check=False)
    assert said.returncode == code, said.stderr
    return said.stdout or said.stderr


def of(name: str, verb: str = "") -> str:
    return f"/deck/models/{quote(name, safe='')}{verb}"


def test_every_route_takes_what_people_paste(api: Any, hub: DemoHub) -> None:
    key = api.post(of(TINY, "/download"))["model"]["id"]
    for name in pasted(hub):
        assert api.post(of(name, "/download"))["model"]["id"] == key, name
    api.pull(TINY)
    before = len(api.state()["models"])
    for name in pasted(hub):
        assert api.get(of(name))["id"] == key, name
        assert api.get(of(name, "/fit?context_length=512"))["verdict"] == "fits", name
        assert api.post(of(name, "/load/plan"), {})["model_id"] == key, name
        plan = api.post("/deck/cache/plan", {"models": [name]})
        assert plan["model_ids"] == [key], name
        assert api.get(f"/v1/models/{quote(name, safe='')}")["id"] == TINY, name
        assert api.post("/api/show", {"model": name})["details"]["format"] == "gguf", name
        pulled = api.post("/api/pull", {"model": name, "stream": False})
        assert pulled["status"] == "success", name
        assert api.ask(name, QUESTION) == expected("count"), name
        said = api.post(
            "/api/chat",
            {"model": name, "stream": False, "messages": [{"role": "user", "content": QUESTION}]},
        )
        assert said["message"]["content"] == expected("count"), name
    assert len(api.state()["models"]) == before, "none was added a second time"


def test_a_repository_is_taken_in_every_form(api: Any, hub: DemoHub) -> None:
    api.pull(TINY)
    forms = ("deck/tiny-GGUF", "hf.co/deck/tiny-GGUF", "https://huggingface.co/deck/tiny-GGUF")
    for name in (*forms, f"{hub.url}/deck/tiny-GGUF/tree/main"):
        assert api.get(f"/deck/repositories/{quote(name, safe='')}")["repo"] == "deck/tiny-GGUF"
        plan = api.post("/deck/cache/plan", {"repositories": [name]})
        assert plan["freed_bytes"] > 0, name
        found = api.get(f"/deck/search?query={quote(name, safe='')}")["hits"]
        assert [hit["repo"] for hit in found] == ["deck/tiny-GGUF"], name
    commit = api.model(TINY)["revision"]
    plan = api.post("/deck/cache/plan", {"revisions": [f"hf.co/deck/tiny-GGUF@{commit[:8]}"]})
    assert plan["freed_bytes"] > 0
    error = api.post("/deck/cache/plan", {"repositories": [f"hf.co/{TINY}"]}, status=400)["error"]
    assert "is a model, not a repository" in error["message"]


def test_every_command_takes_what_people_paste(api: Any, hub: DemoHub) -> None:
    page = f"{hub.url}/deck/tiny-GGUF/blob/main/tiny-Q8_0.gguf"
    assert TINY in run("search", f"{hub.url}/deck/tiny-GGUF")
    assert "fits" in run("fit", page, "-c", "512")
    assert TINY in run("pull", page)
    assert TINY in run("load", "--reload", "-c", "512", "https://hf.co/deck/tiny-GGUF:Q8_0")
    assert expected("count") in run("run", page, QUESTION)
    assert TINY in run("unload", page)
    assert "verified" in run("cache", "verify", page)
    assert "verified" in run("cache", "verify", f"{hub.url}/deck/tiny-GGUF")
    assert "is a model, not a repository" in run("cache", "rm", "-y", page, code=2)
    assert "freed" in run("rm", "--yes", page)
    assert "not that of a model" in run("pull", "https://huggingface.co/datasets/a/b", code=2)


def test_a_path_is_taken_without_adding_it_first(
    api: Any, demo_models: Path, tmp_path: Path
) -> None:
    path = tmp_path / "mine-F16.gguf"
    shutil.copy(demo_models / "tiny-GGUF" / "tiny-F16.gguf", path)
    before = len(api.state()["models"])
    assert "fits" in run("fit", str(path), "-c", "512")
    assert "fits" in run("load", "--dry-run", "-c", "512", str(path))
    assert len(api.state()["models"]) == before, "looking adds nothing"
    assert expected("count") in run("run", "-c", "512", f"{tmp_path}//mine-F16.gguf", QUESTION)
    assert api.model(str(path))["local"]
    assert "downloaded already" in run("pull", str(path))
    assert "Unloaded" in run("unload", str(path))
    said = api.get(of(str(tmp_path / "none.gguf"), "/fit"), status=404)["error"]["message"]
    (tmp_path / "other").write_text("a secret of somebody")
    there = api.get(of(str(tmp_path / "other"), "/fit"), status=404)["error"]["message"]
    assert said.replace("none.gguf", "other") == there, "it does not tell what lies there"
    assert "There is nothing at" in run("load", str(tmp_path / "none.gguf"), code=2)


def test_a_repository_goes_on_under_the_name_it_had(api: Any, hub: DemoHub) -> None:
    old, new = "past/tiny-GGUF:Q8_0", TINY
    hub.rename("past/tiny-GGUF", "deck/tiny-GGUF")
    api.get(of(old), status=404)
    assert api.post(of(old, "/download"))["model"]["unique"] == new
    api.pull(new)
    assert old in api.model(new)["aliases"]
    for name in (old, "hf.co/past/tiny-GGUF:Q8_0", "hf://past/tiny-GGUF/tiny-Q8_0.gguf"):
        assert api.ask(name, QUESTION) == expected("count"), name
    assert expected("count") in run("run", old, QUESTION)
    api.core.restart()
    assert api.get(of(old))["unique"] == new, "it is remembered"
    plan = json.loads(run("rm", "--dry-run", "--json", old))
    assert plan["freed_bytes"] > 0


def test_an_address_of_a_commit_keeps_to_it(api: Any, hub: DemoHub) -> None:
    repo = next(r for r in hub.repositories if r.repo == "deck/tiny-split-GGUF")
    path = next(f.path for f in repo.files if f.path.endswith("-00001-of-00003.gguf"))
    name = f"https://huggingface.co/{repo.repo}/blob/{repo.revision}/{path}"
    model = api.post(of(name, "/download"))["model"]
    assert model["unique"] == f"hf://{repo.repo}@{repo.revision}/{path}"
    job = api.until(lambda s: api.ended(s, model["unique"], "completed"))
    assert job["revision"] == repo.revision
    assert api.get(of(name))["downloaded"]
