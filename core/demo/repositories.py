"""The repositories that `modeldeck demo` and the tests find on the demo hub.

deck/tiny-GGUF        two quantizations in one repository
deck/tiny-split-GGUF  one quantization in several parts, in a sub-folder
deck/tiny-mlx         the same model for MLX
deck/tiny-think-GGUF  thinks before it answers
deck/tiny-see-GGUF    tells the colour and the number of squares in a picture
deck/padded-GGUF      of adjustable size
deck/gated-GGUF       its licence must be accepted first
deck/tiny-embed-GGUF  for embeddings
deck/rerank-GGUF      a reranker
deck/corrupt-GGUF     what arrives is not what the hub promises
deck/broken-GGUF      arrives as promised, and is not a model: cut short, or with an absurd header
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

from modeldeck.core.demo.model_writer import make, parameters, write_gguf, write_mlx
from modeldeck.core.demo.projector import write_projector
from modeldeck.core.demo.repository import DemoRepo, demo_repo
from modeldeck.core.demo.reranker import write_reranker
from modeldeck.core.demo.vocabulary import BEGIN, CHAT_TEMPLATE, END, THINKING_TEMPLATE

OWNER = "deck"

PADDED_BYTES = 64 << 20
"""Size of the padded model: large enough to watch, small enough to make in half a second."""

SPLIT_BYTES = 5 << 18
"""Size of a part of the split model: three parts."""

_ATTRIBUTES = "".join(
    f"*.{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in ("gguf", "safetensors")
)


def build(folder: Path, padded_bytes: int = PADDED_BYTES) -> tuple[DemoRepo, ...]:
    """Write every repository's files under `folder`, and describe them.

    Args:
        folder: Where; made if it is missing. One folder per repository.
        padded_bytes: About how large the model of `deck/padded-GGUF` becomes.

    Raises:
        DeckError: numpy or gguf is not installed.
        OSError: The files cannot be written.
    """
    return (
        _tiny(folder / "tiny-GGUF"),
        _split(folder / "tiny-split-GGUF"),
        _mlx(folder / "tiny-mlx"),
        _thinking(folder / "tiny-think-GGUF"),
        _seeing(folder / "tiny-see-GGUF"),
        _padded(folder / "padded-GGUF", padded_bytes),
        _gated(folder / "gated-GGUF"),
        _embedding(folder / "tiny-embed-GGUF"),
        _reranker(folder / "rerank-GGUF"),
        _corrupt(folder / "corrupt-GGUF"),
        _broken(folder / "broken-GGUF"),
    )


def _tiny(folder: Path) -> DemoRepo:
    write_gguf(folder / "tiny-F16.gguf", "F16")
    write_gguf(folder / "tiny-Q8_0.gguf", "Q8_0")
    return _gguf_repo(folder, "A tiny model in two quantizations.", downloads=4200, likes=42)


def _split(folder: Path) -> DemoRepo:
    write_gguf(folder / "F16" / "tiny-split-F16.gguf", "F16", split_bytes=SPLIT_BYTES)
    return _gguf_repo(folder, "A tiny model in several files.", downloads=310, likes=3)


def _mlx(folder: Path) -> DemoRepo:
    write_mlx(folder)
    _write_card(folder, "A tiny model for MLX.")
    return demo_repo(
        f"{OWNER}/{folder.name}",
        folder,
        downloads=2100,
        likes=21,
        library_name="mlx",
        tags=("mlx", "safetensors", "llama", "text-generation", "license:apache-2.0", "region:us"),
        details={
            "config": {"architectures": ["LlamaForCausalLM"], "model_type": "llama"},
            "safetensors": {"parameters": {"F16": parameters()}, "total": parameters()},
        },
    )


def _thinking(folder: Path) -> DemoRepo:
    write_gguf(folder / "tiny-think-F16.gguf", "F16", chat_template=THINKING_TEMPLATE, thinks=True)
    about = "A tiny model that thinks before it answers."
    return _gguf_repo(folder, about, template=THINKING_TEMPLATE, downloads=640, likes=6)


def _seeing(folder: Path) -> DemoRepo:
    write_gguf(folder / "tiny-see-F16.gguf", "F16", sees=True)
    write_projector(folder / "mmproj-tiny-see-F32.gguf")
    about = "A tiny model that tells the colour and the number of squares in a picture."
    total = make(sees=True).parameters
    return _gguf_repo(
        folder, about, total, pipeline_tag="image-text-to-text", downloads=870, likes=8
    )


def _padded(folder: Path, size_bytes: int) -> DemoRepo:
    write_gguf(folder / "padded-F16.gguf", "F16", size_bytes=size_bytes)
    about = "A tiny model with room in it."
    return _gguf_repo(folder, about, parameters(size_bytes), downloads=990, likes=9)


def _gated(folder: Path) -> DemoRepo:
    # A filler token: no two repositories hold the same blob.
    write_gguf(folder / "gated-Q8_0.gguf", "Q8_0", extra_tokens=1)
    about = "A tiny model behind a licence."
    return _gguf_repo(folder, about, gated="manual", downloads=150, likes=15)


def _embedding(folder: Path) -> DemoRepo:
    write_gguf(folder / "tiny-embed-F16.gguf", "F16", pooling=1, chat_template=None)
    about = "A tiny model that makes vectors of text."
    return _gguf_repo(folder, about, pipeline_tag="feature-extraction", downloads=75, likes=7)


def _reranker(folder: Path) -> DemoRepo:
    write_reranker(folder / "rerank-F16.gguf")
    about = "A tiny model that tells how well texts answer a query."
    return _gguf_repo(folder, about, pipeline_tag="text-ranking", downloads=60, likes=6)


def _corrupt(folder: Path) -> DemoRepo:
    path = folder / "corrupt-Q8_0.gguf"
    write_gguf(path, "Q8_0", extra_tokens=2)
    about = "A tiny model with one byte that is damaged on its way."
    flips = {path.name: (path.stat().st_size // 2,)}
    return _gguf_repo(folder, about, flips=flips, downloads=13)


def _broken(folder: Path) -> DemoRepo:
    """F16 is cut in the middle of its weights, Q8_0 claims 2^60 tensors."""
    path = folder / "broken-F16.gguf"
    write_gguf(path, "F16")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    # The header: magic, version, number of tensors (uint64), number of keys.
    absurd = whole[:8] + struct.pack("<Q", 1 << 60) + whole[16:4096]
    (folder / "broken-Q8_0.gguf").write_bytes(absurd)
    return _gguf_repo(folder, "Files that no engine can load.", downloads=1)


def _gguf_repo(
    folder: Path, about: str, total: int = 0, *, template: str = CHAT_TEMPLATE, **fields: Any
) -> DemoRepo:
    pipeline_tag = fields.setdefault("pipeline_tag", "text-generation")
    _write_card(folder, about)
    return demo_repo(
        f"{OWNER}/{folder.name}",
        folder,
        tags=("gguf", "llama", pipeline_tag, "license:apache-2.0", "region:us"),
        details={
            "gguf": {
                "total": total or parameters(),
                "architecture": "llama",
                "context_length": 4096,
                "chat_template": template,
                "bos_token": BEGIN,
                "eos_token": END,
            }
        },
        **fields,
    )


def _write_card(folder: Path, about: str) -> None:
    (folder / ".gitattributes").write_text(_ATTRIBUTES, encoding="utf-8")
    card = f"---\nlicense: apache-2.0\n---\n\n# {folder.name}\n\n{about}\n"
    (folder / "README.md").write_text(card, encoding="utf-8")
