from dataclasses import replace
from typing import Any

import pytest

from modeldeck.core.catalog import builtin
from modeldeck.core.catalog.listing import find, from_snapshot, merge, newest_first, preferred
from modeldeck.core.errors import Ambiguous, NotFound
from modeldeck.core.schema import CachedFile, CachedSnapshot, Format, Model, model_id

COMMIT = "1" * 40


def snapshot(repo: str, *paths: str, **other: Any) -> CachedSnapshot:
    found = tuple(
        CachedFile(path=path, blob=f"{number:064x}", size_bytes=10 + number)
        for number, path in enumerate(paths)
    )
    fields = {"revision": COMMIT, "refs": ("main",), "folder": f"/hf/{repo}", **other}
    return CachedSnapshot(repo=repo, files=found, **fields)


def model(unique: str, **other: Any) -> Model:
    fields: dict[str, Any] = {"name": unique, "format": "gguf", "source": "builtin", **other}
    return Model(id=model_id(unique), unique=unique, **fields)


def test_a_snapshot_holds_the_models_whose_files_are_there() -> None:
    found = from_snapshot(
        snapshot(
            "deck/tiny-GGUF",
            *("tiny-Q8_0.gguf", "s/tiny-F16-00001-of-00002.gguf", "mmproj-F16.gguf", "README.md"),
        )
    )
    (one,) = found
    assert one.unique == "deck/tiny-GGUF:Q8_0"
    assert one.id == model_id("Deck/Tiny-GGUF:q8_0")
    assert (one.name, one.source, one.downloaded) == ("tiny Q8_0", "cache", True)
    assert (one.size_bytes, one.size_exact, one.revision) == (10 + 12, True, COMMIT)
    assert one.path == "/hf/deck/tiny-GGUF/tiny-Q8_0.gguf"
    assert one.projector == "/hf/deck/tiny-GGUF/mmproj-F16.gguf"


def test_an_mlx_model_is_its_folder() -> None:
    (one,) = from_snapshot(snapshot("deck/tiny-mlx", "config.json", "model.safetensors"))
    assert (one.unique, one.format, one.path) == ("deck/tiny-mlx", "mlx", "/hf/deck/tiny-mlx")
    assert from_snapshot(snapshot("deck/bert", "config.json", "model.safetensors")) == ()
    assert from_snapshot(snapshot("a/b", "config.json", "model.safetensors"), mlx=True)


def test_revisions_that_main_names_come_first_then_the_newest() -> None:
    old = snapshot("a/b", revision="2" * 40, refs=(), modified_at=1.0)
    new = snapshot("a/b", revision="3" * 40, refs=("v1",), modified_at=2.0)
    main = snapshot("a/b", revision="4" * 40, modified_at=0.0)
    assert newest_first([old, main, new]) == [main, new, old]


def test_the_list_is_catalog_then_cache_then_what_was_added() -> None:
    catalog = (model("z/z:Q8_0"), model("a/a:Q8_0"))
    added = (
        model("c/late:Q8_0", source="custom", created_at="2026-02-02T00:00:00Z"),
        model("c/early:Q8_0", source="hub", created_at="2026-02-01T00:00:00Z"),
    )
    cached = [
        *from_snapshot(snapshot("y/only", "o-Q8_0.gguf")),
        *from_snapshot(snapshot("B/only", "o-Q8_0.gguf")),
        *from_snapshot(snapshot("a/a", "a-q8_0.gguf")),
        *from_snapshot(snapshot("c/late", "l-Q8_0.gguf")),
    ]
    merged = merge(catalog, added, cached)
    assert list(merged) == [m.id for m in merged.values()]
    assert [(m.unique, m.downloaded) for m in merged.values()] == [
        ("z/z:Q8_0", False),
        ("a/a:Q8_0", True),
        ("B/only:Q8_0", True),
        ("y/only:Q8_0", True),
        ("c/early:Q8_0", False),
        ("c/late:Q8_0", True),
    ]
    without = merge(catalog, added, ())
    assert [m for m in merged if m in without] == list(without)


def test_an_entry_keeps_its_words_and_takes_the_facts_of_its_files() -> None:
    ours = model(
        "a/a:Q8_0", name="Ours", size_bytes=1, description="Good.", license="mit", usage=("code",)
    )
    (cached,) = from_snapshot(snapshot("A/a", "a-Q8_0.gguf"))
    cached = replace(cached, context_length=512, architecture="llama", usage=("chat",))
    (one,) = merge((ours,), (), (cached,)).values()
    assert (one.name, one.description, one.license, one.source) == (
        "Ours",
        "Good.",
        "mit",
        "builtin",
    )
    assert (one.usage, one.context_length, one.architecture) == (("code",), 512, "llama")
    assert (one.downloaded, one.size_bytes, one.size_exact) == (True, 10, True)
    assert (one.path, one.revision) == (cached.path, COMMIT)


def test_of_several_revisions_the_first_given_counts() -> None:
    (first,) = from_snapshot(snapshot("a/a", "a-Q8_0.gguf", revision="5" * 40))
    (second,) = from_snapshot(snapshot("a/a", "a-Q8_0.gguf", revision="6" * 40))
    (one,) = merge((), (), (first, second)).values()
    assert one.revision == "5" * 40


LOCAL = model("/models/My Own.gguf", name="Own", local=True, source="custom")
MODELS = merge(
    (
        model("deck/tiny-GGUF:Q8_0", name="Tiny Q8_0", repo="deck/tiny-GGUF"),
        model("deck/tiny-GGUF:F16", name="Tiny F16", repo="deck/tiny-GGUF"),
        model("other/small-GGUF:Q8_0", name="Small  Q8_0", repo="other/small-GGUF"),
        model("mlx-community/small-4bit", name="Small MLX", repo="mlx-community/small-4bit"),
    ),
    (LOCAL,),
    (),
)


@pytest.mark.parametrize(
    ("text", "unique"),
    [
        (model_id("deck/tiny-GGUF:F16"), "deck/tiny-GGUF:F16"),
        ("deck/tiny-GGUF:F16", "deck/tiny-GGUF:F16"),
        (" DECK/tiny-gguf:f16 ", "deck/tiny-GGUF:F16"),
        ("tiny q8_0", "deck/tiny-GGUF:Q8_0"),
        ("small-q8_0", "other/small-GGUF:Q8_0"),
        ("tiny-GGUF:Q8_0", "deck/tiny-GGUF:Q8_0"),
        ("other/small-GGUF", "other/small-GGUF:Q8_0"),
        ("small", "other/small-GGUF:Q8_0"),
        ("small-4bit", "mlx-community/small-4bit"),
        ("/models/My Own.gguf", "/models/My Own.gguf"),
        ("my own", "/models/My Own.gguf"),
        ("my-own.gguf", "/models/My Own.gguf"),
    ],
)
def test_a_model_is_found_by_every_name_it_has(text: str, unique: str) -> None:
    assert find(MODELS, text).unique == unique


def test_a_name_that_fits_several_is_ambiguous() -> None:
    with pytest.raises(Ambiguous) as refused:
        find(MODELS, "tiny")
    assert refused.value.details == ("deck/tiny-GGUF:Q8_0", "deck/tiny-GGUF:F16")
    assert "deck/tiny-GGUF:F16" in refused.value.remedy


def version(unique: str, name: str, quantization: str, **fields: Any) -> Model:
    given = {"format": "gguf" if "GGUF" in unique else "mlx", "repo": unique.partition(":")[0]}
    return model(unique, name=name, quantization=quantization, **given, **fields)


GGUF = version("a/Qwen3-8B-GGUF:Q4_K_M", "Qwen3 8B Q4_K_M", "Q4_K_M")
MLX = version("m/Qwen3-8B-4bit", "Qwen3 8B MLX 4-bit", "4-bit")
SMALL = version("a/Qwen3-4B-GGUF:Q4_K_M", "Qwen3 4B Q4_K_M", "Q4_K_M")


@pytest.mark.parametrize(
    ("versions", "format", "taken"),
    [
        ((GGUF, MLX), "gguf", GGUF),
        ((GGUF, MLX), "mlx", MLX),
        ((replace(GGUF, downloaded=True), MLX), "mlx", replace(GGUF, downloaded=True)),
        ((GGUF, replace(MLX, downloaded=True)), "gguf", replace(MLX, downloaded=True)),
        ((GGUF,), "mlx", GGUF),
        ((GGUF, replace(GGUF, unique="a/x:Q4_K_M")), "gguf", None),
        ((GGUF, replace(GGUF, unique="a/x:Q4_K_M"), MLX), "mlx", MLX),
        ((GGUF, SMALL), "gguf", None),
        ((), "gguf", None),
    ],
)
def test_of_several_versions_of_a_model_one_is_preferred(
    versions: tuple[Model, ...], format: Format, taken: Model | None
) -> None:
    assert preferred(versions, format) == taken


@pytest.mark.parametrize("text", ["Qwen3 8B", "qwen3-8b"])
def test_a_model_that_there_is_in_both_formats_is_the_preferred_one(text: str) -> None:
    models = {one.id: one for one in (GGUF, MLX, SMALL)}
    assert find(models, text) is GGUF
    assert find(models, text, "mlx") is MLX
    assert find(models, "Qwen3-8B-GGUF", "mlx") is GGUF
    assert find(models, "Qwen3 4B", "mlx") is SMALL


def test_a_models_own_name_goes_before_short_names() -> None:
    named = model("c/c", name="small-GGUF", source="custom")
    assert find({**MODELS, named.id: named}, "small-gguf") is named


@pytest.mark.parametrize("text", ["", "none", "/models", "tiny-GGUF:Q4_0", "gguf", "own.gguf.gguf"])
def test_what_is_not_there_is_not_found(text: str) -> None:
    with pytest.raises(NotFound):
        find(MODELS, text)


def test_a_near_miss_is_offered() -> None:
    with pytest.raises(NotFound, match="Did you mean Tiny Q8_0"):
        find(MODELS, "tinny q8_0")


def test_every_model_of_the_catalog_is_found_by_name_and_unique_name() -> None:
    models = merge(builtin.load(), (), ())
    for one in models.values():
        assert find(models, one.name) is find(models, one.unique.upper()) is one


@pytest.mark.parametrize(
    "text", ["old/b-GGUF:Q8_0", "OLD/b-gguf:q8_0", "old/b-GGUF", "b-GGUF:Q8_0", "new/c-GGUF:Q8_0"]
)
def test_a_model_is_found_by_what_its_repository_was_called(text: str) -> None:
    renamed = model("new/c-GGUF:Q8_0", repo="new/c-GGUF", aliases=("old/b-GGUF:Q8_0",))
    other = model("new/d-GGUF:Q8_0", repo="new/d-GGUF")
    assert find({m.id: m for m in (other, renamed)}, text) is renamed


def test_a_model_that_has_the_name_now_goes_before_one_that_had_it() -> None:
    renamed = model("new/c-GGUF:Q8_0", repo="new/c-GGUF", aliases=("old/b-GGUF:Q8_0",))
    there = model("old/b-GGUF:Q8_0", repo="old/b-GGUF")
    assert find({m.id: m for m in (renamed, there)}, "old/b-GGUF:Q8_0") is there
