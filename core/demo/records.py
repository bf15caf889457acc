"""Records of the Hub's API about repositories, as JSON values (pure)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from modeldeck.core.demo.repository import DemoFile, DemoRepo, tree_id


def search(repos: Sequence[DemoRepo], query: Mapping[str, list[str]]) -> list[DemoRepo]:
    """The repositories that `GET /api/models` lists for a query, in its order.

    Knows `search` (every word occurs in the name), `author`, `filter` (tags, all of them),
    `pipeline_tag`, `gated` and `sort`.
    """
    words = " ".join(query.get("search", [])).lower().split()
    tags = {tag for value in query.get("filter", []) for tag in value.split(",") if tag}
    authors, kinds = query.get("author", []), query.get("pipeline_tag", [])
    gated = query.get("gated", [""])[0].lower()
    found = [
        repo
        for repo in repos
        if all(word in repo.repo.lower() for word in words)
        and tags <= {*repo.tags, repo.library_name, repo.pipeline_tag}
        and (not authors or repo.repo.partition("/")[0] in authors)
        and (not kinds or repo.pipeline_tag in kinds)
        and (not gated or bool(repo.gated) == (gated == "true"))
    ]
    if query.get("sort", [""])[0] in ("lastModified", "createdAt"):
        return sorted(found, key=lambda repo: repo.last_modified, reverse=True)
    if query.get("sort", [""])[0] == "likes":
        return sorted(found, key=lambda repo: repo.likes, reverse=True)
    return sorted(found, key=lambda repo: repo.downloads, reverse=True)


def listed(repo: DemoRepo, *, expand: Sequence[str], full: bool) -> dict[str, Any]:
    """One repository in a list: little of it, unless `full` or `expand` asks for more."""
    everything = model_info(repo, blobs=False, expand=())
    if expand:
        return _expanded(everything, expand)
    names = ["_id", "id", "modelId", "likes", "private", "downloads", "tags", "pipeline_tag"]
    names += ["library_name", "createdAt"]
    if full:
        names += ["author", "sha", "lastModified", "gated", "disabled", "siblings"]
    return {name: everything[name] for name in names if name in everything}


def model_info(repo: DemoRepo, *, blobs: bool, expand: Sequence[str]) -> dict[str, Any]:
    """The record of `GET /api/models/{repo}`; with `blobs`, each file's size and ids."""
    record: dict[str, Any] = {
        "_id": repo.revision[:24],
        "id": repo.repo,
        "modelId": repo.repo,
        "author": repo.repo.partition("/")[0],
        "sha": repo.revision,
        "private": False,
        "gated": repo.gated,
        "disabled": False,
        "downloads": repo.downloads,
        "likes": repo.likes,
        "tags": list(repo.tags),
        "pipeline_tag": repo.pipeline_tag,
        "createdAt": repo.created_at,
        "lastModified": repo.last_modified,
        "cardData": {"license": repo.license},
        "siblings": [_sibling(file, blobs) for file in repo.files],
        "spaces": [],
        "usedStorage": sum(file.size_bytes for file in repo.files if file.sha256),
        **({"library_name": repo.library_name} if repo.library_name else {}),
        **repo.details,
    }
    return _expanded(record, expand) if expand else record


def _expanded(record: Mapping[str, Any], expand: Sequence[str]) -> dict[str, Any]:
    return {name: record[name] for name in ("_id", "id", *expand) if name in record}


def _sibling(file: DemoFile, blobs: bool) -> dict[str, Any]:
    if not blobs:
        return {"rfilename": file.path}
    record: dict[str, Any] = {
        "rfilename": file.path,
        "blobId": file.oid,
        "size": file.size_bytes,
    }
    if file.sha256:
        size, pointer = file.size_bytes, file.pointer_bytes
        record["lfs"] = {"sha256": file.sha256, "size": size, "pointerSize": pointer}
    return record


def refs(repo: DemoRepo) -> dict[str, Any]:
    """The record of `GET /api/models/{repo}/refs`."""
    branch = {"name": "main", "ref": "refs/heads/main", "targetCommit": repo.revision}
    return {"tags": [], "branches": [branch], "converts": []}


def tree(repo: DemoRepo, folder: str, *, recursive: bool) -> list[dict[str, Any]] | None:
    """The entries under `folder` (empty for all), folders before files; None if it is not there."""
    prefix = f"{folder.rstrip('/')}/" if folder else ""
    inside = [file for file in repo.files if file.path.startswith(prefix)]
    if not inside and folder:
        return None
    folders = sorted({f for file in inside for f in _folders(file.path) if f.startswith(prefix)})
    if not recursive:
        folders = [path for path in folders if "/" not in path[len(prefix) :]]
        inside = [file for file in inside if "/" not in file.path[len(prefix) :]]
    return [_folder(repo, path) for path in folders] + [_file(file) for file in inside]


def paths_info(repo: DemoRepo, paths: Sequence[str]) -> list[dict[str, Any]]:
    """The entries at `paths`; those that are not there are left out."""
    folders = {folder for file in repo.files for folder in _folders(file.path)}
    files = [_file(file) for file in repo.files if file.path in paths]
    return files + [_folder(repo, path) for path in paths if path in folders]


def _folders(path: str) -> list[str]:
    """The folders above a file: `a` and `a/b` of `a/b/c`."""
    parts = path.split("/")
    return ["/".join(parts[:end]) for end in range(1, len(parts))]


def _folder(repo: DemoRepo, path: str) -> dict[str, Any]:
    inner = {
        file.path.removeprefix(f"{path}/"): file.oid
        for file in repo.files
        if file.path.startswith(f"{path}/")
    }
    return {"type": "directory", "oid": tree_id(inner), "size": 0, "path": path}


def _file(file: DemoFile) -> dict[str, Any]:
    record: dict[str, Any] = {
        "type": "file",
        "oid": file.oid,
        "size": file.size_bytes,
        "path": file.path,
    }
    if file.sha256:
        size, pointer = file.size_bytes, file.pointer_bytes
        record["lfs"] = {"oid": file.sha256, "size": size, "pointerSize": pointer}
    return record
