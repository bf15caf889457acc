"""Which files on this machine an added model stands for."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from modeldeck.core.hub_cache.layout import HubCache
from modeldeck.core.schema import Model, RepoFile, model_id
from modeldeck.core.service.library.local_files import LocalFiles
from tests.support.projectors import write_seeing_model

ONE, TWO = "1" * 40, "2" * 40


@pytest.fixture
def local_files(tmp_path: Path) -> LocalFiles:
    """A repository of which only the revision that `main` is at is here."""
    cache, content = HubCache(tmp_path), b"GGUF"
    blob = hashlib.sha256(content).hexdigest()
    file = RepoFile(path="m-Q8_0.gguf", size_bytes=len(content), blob=blob, lfs=True)
    cache.prepare("o/r")
    cache.partial("o/r", blob).write_bytes(content)
    cache.publish("o/r", ONE, file, fresh=True)
    cache.set_ref("o/r", "main", ONE)
    made = LocalFiles([tmp_path])
    made.set_scan(tmp_path, made.read(tmp_path))
    return made


@pytest.mark.parametrize(
    ("pinned", "here"),
    [("", True), ("@main", True), (f"@{ONE}", True), (f"@{TWO}", False), ("@v2", False)],
)
def test_a_name_that_pins_a_revision_means_that_one(
    local_files: LocalFiles, pinned: str, here: bool
) -> None:
    unique = f"hf://o/r{pinned}/m-Q8_0.gguf"
    model = Model(id=model_id(unique), unique=unique, name="m", format="gguf", source="custom")
    assert local_files.with_files(model).downloaded is here


@pytest.mark.parametrize(
    ("kind", "capabilities", "usage"),
    [("gemma3", ("vision",), ("chat", "vision")), ("ultravox", ("audio",), ("chat",))],
)
def test_a_projector_tells_what_its_model_takes(
    tmp_path: Path, kind: str, capabilities: tuple[str, ...], usage: tuple[str, ...]
) -> None:
    made = write_seeing_model(tmp_path / "made", kind)
    cache = HubCache(tmp_path / "hub")
    cache.prepare("o/r")
    for path in (made.path, made.projector):
        blob = hashlib.sha256(path.read_bytes()).hexdigest()
        file = RepoFile(path=path.name, size_bytes=path.stat().st_size, blob=blob, lfs=True)
        path.rename(cache.partial("o/r", blob))
        cache.publish("o/r", ONE, file, fresh=True)
    cache.set_ref("o/r", "main", ONE)
    local_files = LocalFiles([tmp_path / "hub"])
    local_files.set_scan(tmp_path / "hub", local_files.read(tmp_path / "hub"))
    (model,) = local_files.models()
    assert set(capabilities) <= set(model.capabilities)
    assert {"vision", "audio"} & set(model.capabilities) == set(capabilities)
    assert model.usage == usage
    unique = f"hf://o/r/{made.path.name}"
    named = Model(id=model_id(unique), unique=unique, name="m", format="gguf", source="custom")
    found = local_files.with_files(named)
    assert (found.projector, found.capabilities) == (model.projector, model.capabilities)
