"""Models of Ollama and LM Studio: what is listed of their folders, and what is left out."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from modeldeck.core.schema import Model
from modeldeck.core.service.library import lm_studio_folder, ollama_store
from modeldeck.core.service.library.other_tools import (
    OtherTools,
    ToolFolder,
    content_hashes,
    deletion_refused,
    tool_folders,
)
from tests.support.ollama_store import write_manifest, write_model
from tests.support.projectors import write_seeing_model

LIBRARY = "registry.ollama.ai/library"


def listed(root: Path) -> list[Model]:
    """The models in a store of Ollama."""
    folder = ToolFolder(tool="ollama", path=root)
    tools = OtherTools([folder])
    tools.set_found(folder, tools.read(folder))
    return tools.models()


@pytest.fixture
def weights(demo_models: Path) -> Path:
    return demo_models / "tiny-GGUF" / "tiny-Q8_0.gguf"


@pytest.mark.parametrize(
    ("place", "name", "unique", "also"),
    [
        (f"{LIBRARY}/qwen2.5-coder/7b", "qwen2.5-coder:7b", "qwen2.5-coder:7b", ()),
        (f"{LIBRARY}/llama3/latest", "llama3:latest", "llama3:latest", ("llama3",)),
        (
            "registry.ollama.ai/mike/x/latest",
            "mike/x:latest",
            "ollama:mike/x:latest",
            ("mike/x:latest", "mike/x"),
        ),
        ("hf.co/a/b-GGUF/Q8_0", "hf.co/a/b-GGUF:Q8_0", "ollama:hf.co/a/b-GGUF:Q8_0",
         ("hf.co/a/b-GGUF:Q8_0",)),
    ],
)  # fmt: skip
def test_a_model_of_ollama_has_the_name_it_has_there(
    tmp_path: Path, weights: Path, place: str, name: str, unique: str, also: tuple[str, ...]
) -> None:
    blob = write_model(tmp_path, place, weights, file_type="Q8_0")
    (model,) = listed(tmp_path)
    assert (model.name, model.unique, model.aliases) == (name, unique, also)
    assert (model.path, model.size_bytes) == (str(blob), weights.stat().st_size)
    assert (model.source, model.local, model.quantization) == ("ollama", True, "Q8_0")
    assert model.context_length == 4096
    assert content_hashes(model) == {str(blob): blob.name.removeprefix("sha256-")}
    assert f"`ollama rm {name}`" in deletion_refused(model).message


def test_a_projector_of_ollama_makes_its_model_see(tmp_path: Path) -> None:
    made = write_seeing_model(tmp_path / "made", "gemma3")
    write_model(tmp_path, f"{LIBRARY}/gemma3/4b", made.path, projector=made.projector)
    (model,) = listed(tmp_path)
    assert model.projector is not None
    assert "vision" in model.capabilities
    assert len(content_hashes(model)) == 2


_MODEL = "application/vnd.ollama.image.model"


@pytest.mark.parametrize(
    "manifest",
    [
        b"",
        b"<html>",
        b"[" * 100_000,
        b'{"layers": ' + b"[" * 100_000,
        b" " * (2 << 20) + b"{}",
        json.dumps({"layers": [{"mediaType": _MODEL, "digest": "sha256-../../secret"}]}).encode(),
        json.dumps({"layers": [{"mediaType": _MODEL, "digest": "sha256:" + "0" * 64}]}).encode(),
        json.dumps(
            {"layers": [{"mediaType": f"{_MODEL[:-5]}tensor", "digest": "sha256:" + "1" * 64}] * 9}
        ).encode(),
    ],
    ids=["empty", "a page", "deep", "deep inside", "long", "escaping", "no blob", "tensors"],
)
def test_a_manifest_that_cannot_be_used_hides_no_other(
    tmp_path: Path, weights: Path, manifest: bytes
) -> None:
    write_manifest(tmp_path, f"{LIBRARY}/odd/1b", manifest)
    write_model(tmp_path, f"{LIBRARY}/good/1b", weights)
    assert [model.unique for model in listed(tmp_path)] == ["good:1b"]


def test_a_manifest_with_an_impossible_time_hides_no_other(
    tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("odd", "good"):
        write_model(tmp_path, f"{LIBRARY}/{name}/1b", weights)

    def status(path: str | os.PathLike[str]) -> os.stat_result:
        found = list(os.stat(path))
        if "odd" in os.fspath(path):
            found[8] = 10**12  # not every file system stores it
        return os.stat_result(found)

    monkeypatch.setattr(ollama_store, "stat_regular", status)
    assert [model.unique for model in listed(tmp_path)] == ["good:1b"]


def test_what_is_no_file_is_left_out_and_never_opened(tmp_path: Path, weights: Path) -> None:
    write_model(tmp_path, f"{LIBRARY}/good/1b", weights)
    folder = tmp_path / "manifests" / LIBRARY / "good"
    os.mkfifo(folder / "pipe")
    (folder / "loop").symlink_to(folder.parent)
    blob = write_model(tmp_path, f"{LIBRARY}/piped/1b", b"GGUF")
    blob.unlink()
    os.mkfifo(blob)
    assert [model.unique for model in listed(tmp_path)] == ["good:1b"]


def test_models_of_lm_studio_are_named_as_in_their_repository(
    tmp_path: Path, weights: Path
) -> None:
    folder = tmp_path / "lmstudio-community" / "Tiny-GGUF"
    folder.mkdir(parents=True)
    shutil.copy(weights, folder / "Tiny-Q8_0.gguf")
    (folder / "downloading_Tiny-F16.gguf.part").touch()
    (tmp_path / "stray.gguf").touch()
    (model,) = lm_studio_folder.models(tmp_path)
    assert model.unique == "lm-studio:lmstudio-community/Tiny-GGUF:Q8_0"
    assert (model.name, model.path) == ("Tiny Q8_0", str(folder / "Tiny-Q8_0.gguf"))
    assert content_hashes(model) == {}


@pytest.mark.parametrize(
    ("tools", "environ", "folders"),
    [
        ([], {}, []),
        (["ollama"], {"OLLAMA_MODELS": "/data/models"}, ["/data/models"]),
        (["ollama"], {}, ["/home/me/.ollama/models", "/usr/share/ollama/.ollama/models"]),
        (["lm studio"], {}, ["/home/me/.lmstudio/models", "/home/me/.cache/lm-studio/models"]),
    ],
)
def test_where_tools_keep_their_models(
    tools: Any, environ: dict[str, str], folders: list[str]
) -> None:
    found = tool_folders(tools, Path("/home/me"), environ)
    assert [str(each.path) for each in found] == folders
