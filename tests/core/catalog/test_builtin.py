import tomllib
from dataclasses import fields
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from modeldeck.core.catalog import builtin
from modeldeck.core.catalog.variants import find, quantization, variants
from modeldeck.core.errors import InvalidRequest
from modeldeck.core.formats.hub_names import check_blob, check_path, check_repo, check_revision
from modeldeck.core.formats.unique_names import HubName, parse_unique
from modeldeck.core.schema import RepoFile, model_id

ROWS = builtin.rows()
MODELS = builtin.load()


def test_each_id_is_one() -> None:
    assert len({row.id for row in ROWS}) == len(ROWS) == 42


def test_every_key_of_the_file_is_read() -> None:
    text = files("modeldeck.core.catalog").joinpath("builtin.toml").read_text(encoding="utf-8")
    tables: list[dict[str, Any]] = tomllib.loads(text)["model"]
    for kind, records in [
        (builtin.BuiltinModel, tables),
        (builtin.GgufSource, [table["gguf"] for table in tables]),
        (builtin.MlxSource, [table["mlx"] for table in tables if "mlx" in table]),
    ]:
        known = {field.name for field in fields(kind)}
        assert {key for record in records for key in record} <= known


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_every_name_of_a_row_can_be_used(row: builtin.BuiltinModel) -> None:
    for repo in (row.source, row.gguf.repo, *row.gguf.alternates):
        assert "/" in check_repo(repo)
    check_path(row.gguf.file)
    assert quantization(row.gguf.file) is not None
    if row.gguf.sha256 is not None:
        assert len(check_blob(row.gguf.sha256)) == 64
    if row.gguf.revision is not None:
        check_revision(row.gguf.revision)
    assert row.description.endswith((".", "`."))
    assert set(row.usage) <= {"chat", "code", "vision", "embedding", "rerank"}
    assert row.parameters_b > 0


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_the_repository_itself_would_give_the_same_unique_name(row: builtin.BuiltinModel) -> None:
    model = next(model for model in MODELS if model.repo == row.gguf.repo)
    name = parse_unique(model.unique)
    assert isinstance(name, HubName)
    assert name.label is not None
    file = RepoFile(path=row.gguf.file, size_bytes=1, blob="0" * 40)
    variant = find(variants(row.gguf.repo, [file]), name.label)
    assert variant is not None
    assert model_id(variant.unique) == model.id


def test_models_are_told_apart() -> None:
    assert len(MODELS) == 42 + sum(row.mlx is not None for row in ROWS)
    for values in ([m.id for m in MODELS], [m.name.casefold() for m in MODELS]):
        assert len(values) == len(set(values))
    assert all(m.id == model_id(m.unique) for m in MODELS)
    assert not any(m.downloaded or m.size_exact or m.custom for m in MODELS)


def test_embedding_models_and_pictures_are_not_offered_for_mlx() -> None:
    for model in MODELS:
        if model.format == "mlx":
            assert model.generates_text
            assert "vision" not in model.usage
            assert model.usage


def test_a_catalog_file_is_listed_first_and_a_bad_one_named(tmp_path: Path) -> None:
    path = tmp_path / "ours.toml"
    path.write_text(
        '[[model]]\nid = "x"\nname = "X"\ndescription = "Ours."\nlicense = "mit"\n'
        'parameters_b = 1\narchitecture = "llama"\nusage = ["chat"]\nsource = "o/x"\n'
        '[model.gguf]\nrepo = "o/x-GGUF"\nfile = "x-Q8_0.gguf"\n'
    )
    (model,) = builtin.load_file(path)
    assert (model.unique, model.source) == ("o/x-GGUF:Q8_0", "catalog")
    for text in ("[[model]]\nid = 1\n", "not toml", "[[model]]\n"):
        path.write_text(text)
        with pytest.raises(InvalidRequest, match=r"The catalog .*ours.toml cannot be read"):
            builtin.load_file(path)
    with pytest.raises(InvalidRequest, match="cannot be read"):
        builtin.load_file(tmp_path / "none.toml")
