import shutil
from pathlib import Path
from typing import Any

import pytest

from modeldeck.core.errors import Corrupt, Forbidden, StorageFailed
from modeldeck.core.formats.mlx_folder import read_config, read_folder
from tests.support.safetensors_bytes import STALE, encoded, row, weights

QWEN = {
    "model_type": "qwen3",
    "hidden_size": 1024,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 151936,
    "max_position_embeddings": 40960,
    "quantization": {"group_size": 64, "bits": 4},
}


def test_what_a_configuration_says() -> None:
    config = read_config(encoded(QWEN))
    assert (config.architecture, config.context_length, config.layers) == ("qwen3", 40960, 28)
    assert (config.heads, config.kv_heads, config.head_length) == (16, 8, 128)
    assert (config.quantization_bits, config.group_size) == (4, 64)


@pytest.mark.parametrize(
    ("changes", "kinds"),
    [
        ({}, ()),
        ({"layer_types": ["a", "b"]}, ("a", "b")),
        ({"layer_types": ["a"] * 9}, ("a",) * 4),
        ({"sliding_window_pattern": 2}, ("sliding_attention", "full_attention") * 2),
        ({"full_attention_interval": 4}, ("linear_attention",) * 3 + ("full_attention",)),
        ({"full_attention_interval": 0}, ()),
    ],
)
def test_the_kinds_of_layers(changes: dict[str, Any], kinds: tuple[str, ...]) -> None:
    assert read_config(encoded({**QWEN, "num_hidden_layers": 4, **changes})).layer_types == kinds


def test_what_the_cache_of_a_model_depends_on() -> None:
    latent = {"kv_lora_rank": 512, "qk_rope_head_dim": 64, "torch_dtype": "float32"}
    config = read_config(encoded({**QWEN, **latent, "sliding_window": 128}))
    assert (config.latent_length, config.window, config.value_bytes) == (576, 128, 4)
    config = read_config(encoded(QWEN))
    assert (config.latent_length, config.window, config.value_bytes) == (None, None, 2)


def test_the_text_part_of_a_vision_model_counts() -> None:
    config = read_config(
        encoded({"model_type": "gemma3", "text_config": {**QWEN, "head_dim": None}, "vision": {}})
    )
    assert config.architecture == "gemma3"
    assert (config.layers, config.head_length) == (28, 64)


def test_missing_and_odd_values_are_unknown() -> None:
    config = read_config(b'{"hidden_size": "wide", "vocab_size": -1, "num_hidden_layers": true}')
    assert (config.embedding_length, config.vocab_size, config.layers) == (None, None, None)


@pytest.mark.parametrize(
    "named",
    [
        {"auto_map": {"AutoModel": "modeling.Model"}},
        {"model_file": "model.py"},
        {"_attn_implementation_internal": "someone/kernel"},
        {"text_config": {"auto_map": {"AutoConfig": "c.C"}}},
        {"a": [{"b": {"model_file": "model.py"}}]},
    ],
)
def test_a_configuration_that_names_code_is_refused(named: dict[str, Any]) -> None:
    with pytest.raises(Forbidden, match="Python code"):
        read_config(encoded({**QWEN, **named}))


def test_an_empty_mention_of_code_is_none() -> None:
    assert read_config(encoded({**QWEN, "auto_map": {}, "model_file": None})).layers == 28


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{", b"\xff", b'"x"', b'{"a":' * 100_000, b" " * (5 << 20)]
)
def test_a_configuration_that_is_not_json_is_refused(data: bytes) -> None:
    with pytest.raises(Corrupt):
        read_config(data)


@pytest.fixture
def folder(demo_models: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(demo_models / "tiny-mlx", tmp_path / "mlx"))


def test_a_real_folder(folder: Path) -> None:
    found = read_folder(folder)
    assert found.architecture == "llama"
    assert found.context_length == 4096
    assert found.parameters == found.weights_bytes / 2 / 1e9, "16 bits each"
    assert 0 < found.weights_bytes < (folder / "model.safetensors").stat().st_size


def test_packed_weights_are_counted_as_weights(folder: Path) -> None:
    # 1024 weights of 4 bits in groups of 64: 128 packed words, 16 scales and 16 biases; 10 plain.
    rows = {
        "w": row("U32", [128], 0, 512),
        "scales": row("F16", [16], 512, 544),
        "biases": row("F16", [16], 544, 576),
        "norm": row("F16", [10], 576, 596),
    }
    (folder / "model.safetensors").write_bytes(weights(rows, 596))
    (folder / "config.json").write_bytes(encoded(QWEN))
    assert read_folder(folder).parameters == pytest.approx(1034 / 1e9)


def test_a_split_folder_needs_every_file_that_its_index_names(folder: Path) -> None:
    names = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    index = {"weight_map": {"a": names[0], "b": names[1]}}
    (folder / "model.safetensors.index.json").write_bytes(encoded(index))
    (folder / "model.safetensors").unlink()
    (folder / names[0]).write_bytes(weights({"a": row("F16", [2], 0, 4)}, 4))
    with pytest.raises(Corrupt, match=names[1]):
        read_folder(folder)
    (folder / names[1]).write_bytes(weights({"b": row("F32", [2], 0, 8)}, 8))
    assert read_folder(folder).weights_bytes == 12


def test_the_index_of_another_model_is_not_believed(folder: Path) -> None:
    before = read_folder(folder)
    index = {"metadata": {"total_size": before.weights_bytes * 4}, "weight_map": STALE}
    (folder / "model.safetensors.index.json").write_bytes(encoded(index))
    assert read_folder(folder) == before


def test_weights_are_the_files_that_mlx_lm_reads(folder: Path) -> None:
    before = read_folder(folder)
    (folder / "adapters.safetensors").write_bytes(b"\x01")
    assert read_folder(folder) == before
    (folder / "model.safetensors").rename(folder / "weights.safetensors")
    with pytest.raises(Corrupt, match="no model"):
        read_folder(folder)


def test_code_named_by_the_tokenizers_configuration_is_refused(folder: Path) -> None:
    path = folder / "tokenizer_config.json"
    path.write_bytes(encoded({"auto_map": {"AutoTokenizer": ["run.Tokenizer", None]}}))
    with pytest.raises(Forbidden, match=r"tokenizer_config\.json names Python code"):
        read_folder(folder)


def test_a_folder_that_is_none_is_refused(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\x01")
    with pytest.raises(Corrupt, match="cut off"):
        read_folder(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(Corrupt, match="no model"):
        read_folder(folder)
    with pytest.raises(StorageFailed, match=r"config\.json"):
        read_folder(folder / "nowhere")
