import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeldeck.core.catalog.variants import (
    canonical,
    find,
    mlx_quantization,
    quantization,
    variants,
)
from modeldeck.core.schema import RepoFile


def files(*paths: str) -> list[RepoFile]:
    """Files of 1, 2, 4, ... bytes, so that a sum tells which were counted."""
    return [
        RepoFile(path=path, size_bytes=1 << number, blob=f"{number:040x}")
        for number, path in enumerate(paths)
    ]


@pytest.mark.parametrize(
    ("path", "told", "spelled"),
    [
        ("SmolLM3-3B-Q4_K_M.gguf", "Q4_K_M", "Q4_K_M"),
        ("qwen2.5-coder-7b-instruct-q4_k_m.gguf", "q4_k_m", "Q4_K_M"),
        ("nomic-embed-text-v1.5.Q8_0.gguf", "Q8_0", "Q8_0"),
        ("gemma-4-E2B_q4_0-it.gguf", "q4_0", "Q4_0"),
        ("Qwen3.8-27B-UD-Q4_K_M.gguf", "UD-Q4_K_M", "UD-Q4_K_M"),
        ("x-UD-IQ2_XXS.gguf", "UD-IQ2_XXS", "UD-IQ2_XXS"),
        ("x-UD-Q4_K_XL.gguf", "UD-Q4_K_XL", "UD-Q4_K_XL"),
        ("x-Q4_0_4_8.gguf", "Q4_0_4_8", "Q4_0_4_8"),
        ("x-Q6_K.gguf", "Q6_K", "Q6_K"),
        ("x-Q3_K_L-MTP.gguf", "Q3_K_L", "Q3_K_L"),
        ("gpt-oss-20b-mxfp4.gguf", "mxfp4", "MXFP4"),
        ("x.fp16.gguf", "fp16", "F16"),
        ("x-BF16-00001-of-00002.gguf", "BF16", "BF16"),
        ("model-f16-Q5_1.gguf", "Q5_1", "Q5_1"),
        ("Q8_0/model.gguf", "Q8_0", "Q8_0"),
        ("Q8_0/model-IQ4_NL.gguf", "IQ4_NL", "IQ4_NL"),
    ],
)
def test_quantizations_are_read_from_names(path: str, told: str, spelled: str) -> None:
    assert quantization(path) == told
    assert canonical(told) == spelled


@pytest.mark.parametrize(
    "path", ["model.gguf", "Q4.gguf", "seq8_0x.gguf", "BF160.gguf", "f16b.gguf"]
)
def test_a_name_without_one_tells_none(path: str) -> None:
    assert quantization(path) is None


@pytest.mark.parametrize(
    ("repo", "told"),
    [
        ("mlx-community/Qwen3-0.6B-4bit", "4bit"),
        ("mlx-community/Qwen3-0.6B-4bit-DWQ", "4bit"),
        ("mlx-community/gpt-oss-20b-MXFP4-Q8", "MXFP4"),
        ("mlx-community/x-bf16", "bf16"),
        ("mlx-community/x-3.5bit", "3.5bit"),
        ("mlx-community/SmolLM2-135M-Instruct", None),
        ("8bit/model", None),
    ],
)
def test_quantizations_of_mlx_repositories(repo: str, told: str | None) -> None:
    assert mlx_quantization(repo) == told


def test_each_quantization_is_a_variant_smallest_first() -> None:
    found = variants("a/b-GGUF", files("b-F16.gguf", "README.md", "b-q8_0.gguf", "b.imatrix.gguf"))
    assert [(v.unique, v.label, v.quantization, v.size_bytes) for v in found] == [
        ("a/b-GGUF:F16", "F16", "F16", 1),
        ("a/b-GGUF:q8_0", "q8_0", "Q8_0", 4),
    ]
    assert all(v.format == "gguf" and v.projector is None for v in found)


def test_split_models_are_one_variant_in_the_order_of_their_parts() -> None:
    names = [f"BF16/b-{number:05}-of-00003.gguf" for number in (3, 1, 2)]
    (found,) = variants("a/b", files(*names))
    assert [file.path for file in found.files] == sorted(names)
    assert (found.label, found.size_bytes) == ("BF16", 7)


@pytest.mark.parametrize(
    "names",
    [
        ("b-Q8_0-00001-of-00003.gguf", "b-Q8_0-00003-of-00003.gguf"),
        ("b-Q8_0-00000-of-00002.gguf", "b-Q8_0-00001-of-00002.gguf"),
        ("b-Q8_0-00001-of-00002.gguf", "c/b-Q8_0-00002-of-00002.gguf"),
    ],
)
def test_a_split_model_with_a_part_missing_is_none(names: tuple[str, ...]) -> None:
    assert variants("a/b", files(*names)) == ()


def test_the_projector_goes_with_every_quantization() -> None:
    found = variants(
        "a/b", files("b-Q8_0.gguf", "mmproj-F32.gguf", "b-Q4_K_M.gguf", "mmproj-F16.gguf")
    )
    assert [(v.label, v.projector, v.size_bytes) for v in found] == [
        ("Q8_0", "mmproj-F16.gguf", 1 + 8),
        ("Q4_K_M", "mmproj-F16.gguf", 4 + 8),
    ]
    assert [file.path for file in found[0].files] == ["b-Q8_0.gguf", "mmproj-F16.gguf"]


def test_a_projector_beside_the_model_is_preferred() -> None:
    (found,) = variants("a/b", files("x/b-Q8_0.gguf", "mmproj-F16.gguf", "x/mmproj-BF16.gguf"))
    assert found.projector == "x/mmproj-BF16.gguf"


def test_projectors_alone_are_no_model() -> None:
    assert variants("a/b", files("mmproj-model-f16.gguf", "README.md")) == ()


def test_labels_are_unique_and_the_plainest_name_has_the_plain_label() -> None:
    found = variants(
        "a/b", files("b-MTP-Q8_0.gguf", "b-Q8_0.gguf", "old/b-q8_0.gguf", "model v1.gguf")
    )
    assert {v.files[0].path: v.label for v in found} == {
        "b-Q8_0.gguf": "Q8_0",
        "b-MTP-Q8_0.gguf": "b-MTP-Q8_0",
        "old/b-q8_0.gguf": "b-q8_0",
        "model v1.gguf": "model_v1",
    }


def test_an_mlx_repository_is_one_variant_weights_last() -> None:
    names = ("model.safetensors", "README.md", "tokenizer.json", "config.json", "run.py", "m.jinja")
    (found,) = variants("mlx-community/b-4bit", files(*names))
    assert (found.unique, found.label, found.format) == ("mlx-community/b-4bit", None, "mlx")
    assert found.quantization == "4bit"
    assert [file.path for file in found.files] == [
        *("config.json", "m.jinja", "tokenizer.json", "model.safetensors")
    ]
    assert found.size_bytes == 1 + 4 + 8 + 32


@pytest.mark.parametrize(
    "names",
    [
        ("config.json", "tokenizer.json"),
        ("model.safetensors", "tokenizer.json"),
        ("config.json", "model-00001-of-00002.safetensors"),
        ("config.json", "sub/model.safetensors"),
    ],
)
def test_an_mlx_repository_that_is_not_whole_is_none(names: tuple[str, ...]) -> None:
    assert variants("mlx-community/b", files(*names)) == ()


@pytest.mark.parametrize(
    ("repo", "mlx", "count"),
    [
        ("a/b", None, 0),
        ("a/b", True, 1),
        ("a/b-MLX-4bit", None, 1),
        ("a/b-mlx", False, 0),
        ("a/mlxtended", None, 0),
    ],
)
def test_safetensors_are_offered_only_where_they_are_for_mlx(
    repo: str, mlx: bool | None, count: int
) -> None:
    assert len(variants(repo, files("config.json", "model.safetensors"), mlx=mlx)) == count


def test_files_that_cannot_be_written_everywhere_are_left_out() -> None:
    names = ("../b-Q8_0.gguf", "nul.gguf", "C:b-F16.gguf", "b-Q4_0.gguf", "/etc/b-Q5_0.gguf")
    (found,) = variants("a/b", files(*names))
    assert found.label == "Q4_0"


def test_find_takes_labels_in_any_case_and_files() -> None:
    found = variants("a/b", files("s/b-Q8_0.gguf", "b-F16.gguf"))
    for label in ("Q8_0", "q8_0", "s/b-Q8_0.gguf"):
        variant = find(found, label)
        assert variant is not None
        assert variant.label == "Q8_0"
    assert find(found, "Q4_0") is None


words = st.sampled_from(
    ["b", "Q8_0", "q8_0", "F16", "MTP", "x y", "é", "-00001-of-00002", "-00002-of-00002", "mmproj"]
)
paths = st.lists(words, min_size=1, max_size=4).map(lambda parts: "-".join(parts) + ".gguf")


@given(st.lists(st.one_of(paths, st.tuples(words, paths).map("/".join)), unique=True, max_size=12))
def test_whatever_a_repository_holds_labels_tell_its_variants_apart(names: list[str]) -> None:
    found = variants("a/b", files(*names))
    labels = [v.label.casefold() for v in found if v.label]
    assert len(labels) == len(set(labels)) == len(found)
    assert all(find(found, label) is not None for label in labels)


@pytest.mark.parametrize(
    "name",
    [
        "mtp-Qwen3.6-27B-Q8_0.gguf",
        "MTP_model.gguf",
        "heads/mtp-b.gguf",
        "b-imatrix.gguf",
        "b-EAGLE3-Q8_0.gguf",
        "eagle-3.Q8_0.gguf",
        "b-dflash-F16.gguf",
        "ggml-vocab-llama-bpe.gguf",
        "b-lora-F16.gguf",
        "adapters-Q8_0.gguf",
    ],
)
def test_files_that_only_go_with_a_model_are_no_variants(name: str) -> None:
    (found,) = variants("a/b", files("b-Q8_0.gguf", name))
    assert [file.path for file in found.files] == ["b-Q8_0.gguf"]
    assert variants("a/b", files(name)) == (), "nor where the cache holds nothing else"


@pytest.mark.parametrize(
    ("repo", "name"),
    [
        ("a/b-LoRA-GGUF", "b-LoRA-F16.gguf"),
        ("a/b", "b-lora-merged-F16.gguf"),
        ("a/b", "b-qlora.F16.gguf"),
        ("a/b", "b-MTP-F16.gguf"),
        ("a/b-eagle3-GGUF", "b-eagle3-F16.gguf"),
        ("a/b-DRAFT-0.6B-GGUF", "b-DRAFT-0.6B-F16.gguf"),
        ("a/b", "explora-F16.gguf"),
    ],
)
def test_models_are_not_taken_for_such_files(repo: str, name: str) -> None:
    (found,) = variants(repo, files(name))
    assert found.unique == f"{repo}:F16"


def test_a_model_to_draft_with_is_never_taken_for_the_model() -> None:
    found = variants("a/b", files("b-draft-Q8_0.gguf", "b-Q4_0.gguf", "draft-Q4_0.gguf"))
    assert {v.files[0].path: v.label for v in found} == {
        "b-Q4_0.gguf": "Q4_0",
        "b-draft-Q8_0.gguf": "b-draft-Q8_0",
        "draft-Q4_0.gguf": "draft-Q4_0",
    }
    (alone,) = variants("a/b", files("b-draft-Q8_0.gguf"))
    assert alone.label == "b-draft-Q8_0", "whatever else of the repository the cache holds"
