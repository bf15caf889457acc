"""Write a store of Ollama, as `ollama pull` leaves it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

KIND = "application/vnd.ollama.image."


def write_model(
    root: Path,
    place: str,
    weights: Path | bytes,
    *,
    projector: Path | None = None,
    file_type: str = "",
) -> Path:
    """Write a model at `HOST/NAMESPACE/MODEL/TAG`; return the blob of its weights."""
    blob = _blob(root, weights)
    layers = [{"mediaType": f"{KIND}model", "digest": _digest(blob)}]
    if projector is not None:
        layers.append({"mediaType": f"{KIND}projector", "digest": _digest(_blob(root, projector))})
    config = _blob(root, json.dumps({"model_format": "gguf", "file_type": file_type}).encode())
    manifest = {
        "schemaVersion": 2,
        "config": {
            "mediaType": "application/vnd.docker.container.image.v1+json",
            "digest": _digest(config),
        },
        "layers": [*layers, {"mediaType": f"{KIND}license", "digest": _digest(config)}],
    }
    write_manifest(root, place, json.dumps(manifest).encode())
    return blob


def write_manifest(root: Path, place: str, manifest: bytes) -> None:
    """Write the manifest of a model."""
    path = root / "manifests" / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(manifest)


def _blob(root: Path, content: Path | bytes) -> Path:
    data = content if isinstance(content, bytes) else content.read_bytes()
    path = root / "blobs" / f"sha256-{hashlib.sha256(data).hexdigest()}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def _digest(blob: Path) -> str:
    return blob.name.replace("-", ":")
