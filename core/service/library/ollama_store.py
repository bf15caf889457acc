"""Models in Ollama's store, read in place and never changed.

`manifests/HOST/NAMESPACE/MODEL/TAG` is JSON that names layers by their SHA-256; the layer of the
weights is a plain GGUF file, `blobs/sha256-HEX`. Source:
https://github.com/ollama/ollama/blob/main/docs/faq.md and its `types/model/name.go`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import msgspec

from modeldeck.core.errors import Corrupt
from modeldeck.core.schema import Model, model_id
from modeldeck.core.storage.foreign_files import entries, read_regular, stat_regular

logger = logging.getLogger(__name__)

MOST_MANIFESTS = 1000
"""Manifests that are read; a person has some dozens."""
JSON_LIMIT = 1 << 20
"""Bytes of a manifest or a configuration; real ones take a kilobyte."""
MOST_LAYERS = 1000
"""Layers of a manifest; those of models with more hold a layer for each tensor."""

HOST, NAMESPACE = "registry.ollama.ai", "library"
"""Left out of the names that people see."""
LATEST = "latest"
"""The tag that a name without one means."""

_LAYER = "application/vnd.ollama.image."
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._:-]{0,127}")
_DIGEST = re.compile(r"sha256[:-]([0-9a-f]{64})")
_FILE_TYPE = re.compile(r"[A-Za-z0-9_]{1,16}")


class _Layer(msgspec.Struct, rename="camel"):
    media_type: str
    digest: str


class _Manifest(msgspec.Struct):
    layers: list[_Layer] = []
    config: _Layer | None = None


class _Config(msgspec.Struct):
    file_type: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layers:
    """The files of a model by their kind, such as `model` and `projector`."""

    paths: dict[str, list[Path]] = field(default_factory=dict)
    config: Path | None = None


def models(root: Path) -> Iterator[Model]:
    """Yield the models of a store whose weights are one GGUF file that is here. Blocks."""
    for names, path in islice(_manifests(root / "manifests", 4), MOST_MANIFESTS):
        if not all(_PART.fullmatch(name) for name in names):
            continue
        try:
            yield _model(root, shown_name(*names), path)
        except (OSError, Corrupt) as error:
            logger.info("Ollama's %s is not listed: %s", "/".join(names), error)


def _manifests(folder: Path, depth: int) -> Iterator[tuple[tuple[str, ...], Path]]:
    """Yield the files that lie `depth` levels below a folder, each with the names on the way."""
    for path, is_folder in entries(folder):
        if depth == 1:
            if not is_folder:
                yield (path.name,), path
        elif is_folder:
            for names, inner in _manifests(path, depth - 1):
                yield (path.name, *names), inner


def shown_name(host: str, namespace: str, model: str, tag: str) -> str:
    """The name of a model as `ollama list` shows it.

    >>> shown_name("registry.ollama.ai", "library", "qwen2.5-coder", "7b")
    'qwen2.5-coder:7b'
    >>> shown_name("hf.co", "bartowski", "Qwen3-4B-GGUF", "Q4_K_M")
    'hf.co/bartowski/Qwen3-4B-GGUF:Q4_K_M'
    """
    parts = [model] if namespace == NAMESPACE and host == HOST else [namespace, model]
    return "/".join(parts if host == HOST else [host, *parts]) + f":{tag}"


def unique_name(name: str) -> str:
    """The unique name of a model: its own, which must not be read as that of a Hub repository.

    >>> unique_name("qwen2.5-coder:7b"), unique_name("mike/mistral:latest")
    ('qwen2.5-coder:7b', 'ollama:mike/mistral:latest')
    """
    return f"ollama:{name}" if "/" in name else name


def blob_hash(path: str) -> str | None:
    """The SHA-256 that the name of a blob says; None for another file."""
    found = _DIGEST.fullmatch(Path(path).name)
    return found[1] if found else None


def _model(root: Path, name: str, manifest: Path) -> Model:
    """The model of a manifest. Raises OSError, and Corrupt for one that cannot be used."""
    layers = _layers(root, manifest)
    weights, projectors = layers.paths.get("model", []), layers.paths.get("projector", [])
    if len(weights) != 1 or len(projectors) > 1 or "adapter" in layers.paths:
        raise Corrupt("its weights are not one GGUF file without adapters.")
    sizes = [stat_regular(path).st_size for path in (*weights, *projectors)]
    unique, base = unique_name(name), name.removesuffix(f":{LATEST}")
    try:
        made = datetime.fromtimestamp(stat_regular(manifest).st_mtime, UTC)
    except (ValueError, OverflowError) as error:  # a year beyond 9999, as a broken clock leaves
        raise Corrupt("its manifest has an impossible time.") from error
    return Model(
        id=model_id(unique),
        unique=unique,
        name=name,
        aliases=tuple(dict.fromkeys(other for other in (name, base) if other != unique)),
        format="gguf",
        source="ollama",
        quantization=_quantization(layers.config),
        size_bytes=sum(sizes),
        size_exact=True,
        downloaded=True,
        local=True,
        path=str(weights[0]),
        projector=str(projectors[0]) if projectors else None,
        created_at=f"{made:%Y-%m-%dT%H:%M:%SZ}",
    )


def _layers(root: Path, manifest: Path) -> _Layers:
    try:
        read = msgspec.json.decode(read_regular(manifest, JSON_LIMIT), type=_Manifest)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise Corrupt("its manifest is not what Ollama writes.") from error
    if len(read.layers) > MOST_LAYERS:
        raise Corrupt(f"it has {len(read.layers)} layers.")
    paths: dict[str, list[Path]] = {}
    for layer in read.layers:
        kind = layer.media_type.removeprefix(_LAYER)
        if kind in ("model", "projector", "adapter", "tensor"):
            paths.setdefault(kind, []).append(_blob(root, layer.digest))
    return _Layers(paths=paths, config=_blob(root, read.config.digest) if read.config else None)


def _blob(root: Path, digest: str) -> Path:
    """The path of a layer. Raises Corrupt for what is no digest, which could leave the folder."""
    found = _DIGEST.fullmatch(digest)
    if found is None:
        raise Corrupt("it names a layer by something else than a SHA-256.")
    return root / "blobs" / f"sha256-{found[1]}"


def _quantization(config: Path | None) -> str | None:
    """The quantization that a configuration names; None where it does not."""
    if config is None:
        return None
    try:
        found = msgspec.json.decode(read_regular(config, JSON_LIMIT), type=_Config).file_type
    except (OSError, msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
    return found if _FILE_TYPE.fullmatch(found) and found != "unknown" else None
