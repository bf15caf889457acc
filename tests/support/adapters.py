"""Writes tiny LoRA adapters for the tiny models: asked for one topic, they answer another.

An adapter of rank 1 on the output of the head that looks for keywords: what it found of one topic
becomes what another would be (`modeldeck.core.demo.weights` tells how the head works). Needs numpy
and gguf, as the models do.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from modeldeck.core.demo.model_writer import missing_package, write_json, write_safetensors

LAYER = "self_attn.o_proj"
RANK = 1


def write_gguf_adapter(
    path: Path, *, asked: str = "count", answered: str = "json", architecture: str = "llama"
) -> Path:
    """Write an adapter for llama.cpp and return its path.

    Args:
        path: Where.
        asked: The topic that is asked for.
        answered: The one that is answered instead.
        architecture: Of the model it claims to be for.

    Raises:
        DeckError: numpy or gguf is not installed.
    """
    down, up = _matrices(asked, answered)
    try:
        import gguf
    except ImportError as error:
        raise missing_package(error) from error
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(str(path), architecture)
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", float(RANK))
    writer.add_tensor("blk.0.attn_output.weight.lora_a", down)
    writer.add_tensor("blk.0.attn_output.weight.lora_b", up)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_mlx_adapter(folder: Path, *, asked: str = "count", answered: str = "json") -> Path:
    """Write an adapter for mlx-lm and return its folder. Arguments as `write_gguf_adapter`."""
    down, up = _matrices(asked, answered)
    folder.mkdir(parents=True, exist_ok=True)
    layers = _tiny().layers
    parameters = {"rank": RANK, "scale": 1.0, "dropout": 0.0, "keys": [LAYER]}
    config = {"fine_tune_type": "lora", "num_layers": layers, "lora_parameters": parameters}
    write_json(folder / "adapter_config.json", config)
    tensors: dict[str, Any] = {}
    for layer in range(layers):
        factor = 1 if layer == 0 else 0
        tensors[f"model.layers.{layer}.{LAYER}.lora_a"] = down.T * factor
        tensors[f"model.layers.{layer}.{LAYER}.lora_b"] = up.T * factor
    write_safetensors(folder / "adapters.safetensors", tensors, kind="F32")
    return folder


def _tiny() -> Any:
    try:
        from modeldeck.core.demo.weights import tiny
    except ImportError as error:
        raise missing_package(error) from error
    return tiny()


def _matrices(asked: str, answered: str) -> tuple[Any, Any]:
    """The adapter's two matrices, rows being outputs: its product is added to the layer's."""
    model = _tiny()
    import numpy as np

    from modeldeck.core.demo.weights import HEAD_SIZE, topic_number

    down = np.zeros((RANK, model.heads * HEAD_SIZE), np.float32)
    up = np.zeros((model.hidden, RANK), np.float32)
    down[0, topic_number(asked)] = 1
    up[model.live + topic_number(asked), 0] = -1
    up[model.live + topic_number(answered), 0] = 1
    return down, up
