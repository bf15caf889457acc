"""Models in LM Studio's folder, read in place and never changed.

A file lies at `PUBLISHER/REPOSITORY/FILE`, as its repository on the Hub has it. Source:
https://lmstudio.ai/docs/app/advanced/import-model.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from modeldeck.core.catalog import listing
from modeldeck.core.catalog.variants import variants
from modeldeck.core.formats.hub_names import is_repo
from modeldeck.core.schema import Model, RepoFile, Variant, model_id
from modeldeck.core.storage.foreign_files import entries, stat_regular

MOST_REPOSITORIES = 1000
"""Repositories that are read; a person has some dozens."""
MOST_FILES = 1000
"""Files of one repository that are read."""
DEPTH = 3
"""Levels of folders in a repository that are read."""

_NO_HASH = "0" * 64
"""There is none: LM Studio does not keep the hashes of its files."""


def models(root: Path) -> Iterator[Model]:
    """Yield the models in a folder of LM Studio. Blocks."""
    for repo, folder in islice(_repositories(root), MOST_REPOSITORIES):
        files = tuple(islice(_files(folder, "", DEPTH), MOST_FILES))
        for variant in variants(repo, files):
            yield _model(folder, variant)


def _repositories(root: Path) -> Iterator[tuple[str, Path]]:
    for publisher, is_folder in entries(root):
        for folder, is_inner in entries(publisher) if is_folder else ():
            if is_inner and is_repo(repo := f"{publisher.name}/{folder.name}"):
                yield repo, folder


def _files(folder: Path, prefix: str, depth: int) -> Iterator[RepoFile]:
    for path, is_folder in entries(folder):
        if is_folder and depth > 1:
            yield from _files(path, f"{prefix}{path.name}/", depth - 1)
        elif not is_folder:
            try:
                size = stat_regular(path).st_size
            except OSError:
                continue
            yield RepoFile(path=f"{prefix}{path.name}", size_bytes=size, blob=_NO_HASH)


def _model(folder: Path, variant: Variant) -> Model:
    unique = f"lm-studio:{variant.unique}"
    first = folder if variant.format == "mlx" else folder / variant.files[0].path
    return Model(
        id=model_id(unique),
        unique=unique,
        name=listing.display_name(variant),
        format=variant.format,
        source="lm studio",
        quantization=variant.quantization,
        size_bytes=variant.size_bytes,
        size_exact=True,
        downloaded=True,
        local=True,
        path=str(first),
        projector=str(folder / variant.projector) if variant.projector else None,
    )
