"""The demo hub's models as a catalog (`hub.catalog`): the demo lists them before the built-in ones.

Those that cannot be downloaded or loaded, for tests, are left out; a search finds them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tomlkit

from modeldeck.core.demo.model_writer import parameters
from modeldeck.core.demo.repository import DemoRepo

_ROWS: tuple[tuple[str, str, str, tuple[str, ...], str], ...] = (
    ("tiny", "tiny-GGUF", "tiny-Q8_0.gguf", ("chat",), "Counts to ten, and little else."),
    ("tiny-see", "tiny-see-GGUF", "tiny-see-F16.gguf", ("chat", "vision"),
     "Sees how many squares of which colour a picture has."),
    ("padded", "padded-GGUF", "padded-F16.gguf", ("chat",),
     "Tiny with room in it: its download takes some seconds."),
    ("tiny-think", "tiny-think-GGUF", "tiny-think-F16.gguf", ("chat",),
     "Thinks before it answers."),
    ("tiny-embed", "tiny-embed-GGUF", "tiny-embed-F16.gguf", ("embedding",),
     "Makes vectors of text."),
    ("rerank", "rerank-GGUF", "rerank-F16.gguf", ("rerank",), "Sorts texts by a query."),
)  # fmt: skip
"""Short name, repository, preferred file, usage, description."""

_ABLE = {
    "tiny": ["tools"],
    "padded": ["tools"],
    "tiny-see": ["tools", "vision"],
    "tiny-think": ["tools", "thinking"],
}
"""What each can do, as `Model.capabilities`; nothing for the others."""

MLX = {"tiny": "tiny-mlx"}
"""Repositories with the same model for MLX."""


def write_catalog(path: Path, owner: str, repositories: Sequence[DemoRepo]) -> None:
    """Write the catalog of these repositories. Raises OSError."""
    sizes = {
        repo.repo: {file.path: file.size_bytes for file in repo.files} for repo in repositories
    }
    document = {"model": [_row(row, owner, sizes) for row in _ROWS]}
    path.write_text(tomlkit.dumps(document), encoding="utf-8")


def _row(
    row: tuple[str, str, str, tuple[str, ...], str], owner: str, sizes: dict[str, dict[str, int]]
) -> dict[str, Any]:
    name, repo, file, usage, description = row
    size = sizes[f"{owner}/{repo}"][file]
    found: dict[str, Any] = {
        "id": name,
        "name": name,
        "description": description,
        "license": "apache-2.0",
        "parameters_b": parameters(size if name == "padded" else 0) / 1e9,
        "context_length": 4096,
        "architecture": "llama",
        "usage": list(usage),
        "capabilities": _ABLE.get(name, []),
        "source": f"{owner}/{repo}",
        "gguf": {"repo": f"{owner}/{repo}", "file": file, "size_bytes": size},
    }
    if name in MLX:
        files = sizes[f"{owner}/{MLX[name]}"]
        found["mlx"] = {"repo": f"{owner}/{MLX[name]}", "size_bytes": sum(files.values())}
    return found
