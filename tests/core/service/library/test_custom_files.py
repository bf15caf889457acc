"""A custom model has the projector that lies beside it."""

from __future__ import annotations

import doctest
import os
from collections.abc import Iterable
from pathlib import Path

import pytest

from modeldeck.core.schema import Model, ModelSeed
from modeldeck.core.service.library import custom_files
from modeldeck.core.service.library.custom_files import look_at, with_projector
from modeldeck.core.service.library.entries import from_seed
from modeldeck.core.service.library.local_files import LocalFiles
from tests.support.projector_kinds import Tower
from tests.support.projectors import SeeingModel, write_projector, write_seeing_model


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> SeeingModel:
    return write_seeing_model(tmp_path_factory.mktemp("models"), "gemma3")


@pytest.fixture
def path(written: SeeingModel, tmp_path: Path) -> Path:
    """A model alone in its folder."""
    path = tmp_path / "model.gguf"
    os.link(written.path, path)
    return path


def put(path: Path, written: SeeingModel, names: Iterable[str]) -> None:
    for name in names:
        os.link(written.projector, path.parent / name)


def size(*paths: Path) -> int:
    return sum(path.stat().st_size for path in paths)


def made(path: Path) -> Model:
    return from_seed(ModelSeed(unique=str(path)), "http://hub")


@pytest.mark.parametrize("name", ["mmproj.gguf", "mmproj-F16.gguf", "MMPROJ-model.GGUF"])
def test_the_only_projector_beside_a_model_is_taken(
    path: Path, written: SeeingModel, name: str
) -> None:
    put(path, written, [name])
    model = made(path)
    assert model.projector == str(path.parent / name)
    assert "vision" in model.capabilities
    assert model.usage == ("chat", "vision")
    assert model.size_bytes == size(path, written.projector)


@pytest.mark.parametrize("names", [[], ["projector.gguf"], ["mmproj.bin"]])
def test_without_one_a_model_reads_text(path: Path, written: SeeingModel, names: list[str]) -> None:
    put(path, written, names)
    assert made(path).projector is None
    assert "vision" not in made(path).capabilities


def test_a_link_that_leads_nowhere_hides_neither_the_model_nor_its_projector(
    path: Path, written: SeeingModel
) -> None:
    put(path, written, ["mmproj-F16.gguf"])
    (path.parent / "mmproj-F32.gguf").symlink_to(path.parent / "gone.gguf")
    found = look_at(str(path))
    assert found.exists
    assert found.projector == str(path.parent / "mmproj-F16.gguf")


async def test_of_several_none_is_taken_and_it_is_told_how_to_choose(
    path: Path, written: SeeingModel
) -> None:
    names = ["mmproj-BF16.gguf", "mmproj-F16.gguf", "mmproj-F32.gguf"]
    put(path, written, names)
    model = made(path)
    assert model.projector is None
    assert model.size_bytes == size(path)
    told = await custom_files.warning(model)
    assert told is not None
    assert "mmproj-BF16.gguf, mmproj-F16.gguf and mmproj-F32.gguf" in told
    assert "leave the one to use" in told
    (path.parent / names[0]).unlink()
    (path.parent / names[1]).unlink()
    assert await custom_files.warning(made(path)) is None
    assert made(path).projector == str(path.parent / names[2])


def test_one_of_another_model_or_none_at_all_is_left(path: Path, written: SeeingModel) -> None:
    write_projector(path.parent / "mmproj-other.gguf", "gemma3", Tower(out=128))
    (path.parent / "mmproj-broken.gguf").write_bytes(b"GGUF and no more")
    (path.parent / "mmproj-folder.gguf").mkdir()
    os.mkfifo(path.parent / "mmproj-pipe.gguf")
    assert made(path).projector is None
    put(path, written, ["mmproj-own.gguf"])
    assert made(path).projector == str(path.parent / "mmproj-own.gguf")
    assert look_at(str(path.parent / "mmproj-own.gguf")).projectors == ()


def test_what_comes_and_goes_beside_a_model_is_followed(
    path: Path, written: SeeingModel, tmp_path: Path
) -> None:
    files = LocalFiles([tmp_path / "hub"])
    model = made(path)
    where = str(path)

    def look() -> bool:
        return files.set_custom(where, look_at(where, files.custom(where)))

    assert look()
    assert not look()
    assert files.with_files(model).projector is None
    put(path, written, ["mmproj.gguf"])
    assert look()
    seeing = files.with_files(model)
    assert seeing.projector == str(path.parent / "mmproj.gguf")
    assert seeing.capabilities[-1] == "vision"
    assert seeing.size_bytes == size(path, written.projector)
    assert files.with_files(seeing) == seeing
    found = files.custom(where)
    assert look_at(where, found) is found, "its headers are not read again"
    (path.parent / "mmproj.gguf").unlink()
    assert look()
    assert files.with_files(seeing) == files.with_files(model)
    path.unlink()
    assert look()
    assert not files.with_files(model).downloaded


def test_a_usage_that_a_person_chose_stays(path: Path, written: SeeingModel) -> None:
    put(path, written, ["mmproj.gguf"])
    found = look_at(str(path))
    for usage in (("code",), ("chat", "code"), ("embedding",)):
        model = Model(id="1", unique="u", name="n", format="gguf", source="custom", usage=usage)
        assert with_projector(model, found).usage == usage


def test_the_example_in_the_documentation_holds() -> None:
    result = doctest.testmod(custom_files)
    assert result.attempted
    assert not result.failed
