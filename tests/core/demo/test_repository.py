"""Ids of the demo's repositories, against git itself."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from modeldeck.core.demo.repository import (
    DemoRepo,
    commit_id,
    demo_file,
    demo_repo,
    git_id,
    tree_id,
)


@pytest.fixture
def repo(tmp_path: Path) -> DemoRepo:
    for path in ("a.txt", "a/inner.txt", "a-b", "z/deep/er.json", "model.gguf"):
        target = tmp_path / "files" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(f"content of {path}\n")
    return demo_repo("deck/test", tmp_path / "files", flips={"model.gguf": (3,)}, downloads=7)


def git(folder: Path, *arguments: str, stdin: bytes = b"") -> str:
    who = {
        f"GIT_{role}_{field}": value
        for role in ("AUTHOR", "COMMITTER")
        for field, value in (
            ("NAME", "modeldeck demo"),
            ("EMAIL", "demo@localhost"),
            ("DATE", "1767225600 +0000"),
        )
    }
    environ = {**os.environ, **who, "GIT_CONFIG_NOSYSTEM": "1", "GIT_DIR": str(folder / "git")}
    command = ["git", *arguments]
    done = subprocess.run(command, input=stdin, capture_output=True, env=environ, check=True)
    return done.stdout.decode().strip()


def test_git_gives_the_same_ids(repo: DemoRepo, tmp_path: Path) -> None:
    git(tmp_path, "init", "--bare", "-q")
    for file in repo.files:
        content = file.source.read_bytes()
        if file.sha256:
            content = (
                "version https://git-lfs.github.com/spec/v1\n"
                f"oid sha256:{hashlib.sha256(content).hexdigest()}\nsize {len(content)}\n"
            ).encode()
            assert file.pointer_bytes == len(content)
        oid = git(tmp_path, "hash-object", "-w", "--stdin", stdin=content)
        assert file.oid == oid
        git(tmp_path, "update-index", "--add", "--cacheinfo", f"100644,{oid},{file.path}")
    tree = git(tmp_path, "write-tree")
    assert tree == tree_id({file.path: file.oid for file in repo.files})
    assert repo.revision == git(tmp_path, "commit-tree", tree, "-m", "deck/test")


def test_lfs_files_are_called_by_their_sha256_and_others_by_their_git_id(repo: DemoRepo) -> None:
    model, text = repo.file("model.gguf"), repo.file("a.txt")
    assert model is not None
    assert text is not None
    assert model.etag == hashlib.sha256(b"content of model.gguf\n").hexdigest()
    assert text.etag == git_id("blob", b"content of a.txt\n")
    assert repo.file("nowhere") is None


def test_flipped_bytes_are_served_and_not_counted(repo: DemoRepo) -> None:
    model = repo.file("model.gguf")
    assert model is not None
    assert model.read(0, 3) == b"con"
    assert model.read(0, 100) == b"con" + bytes([ord("t") ^ 0xFF]) + b"ent of model.gguf\n"
    assert model.read(2, 2) == b"n" + bytes([ord("t") ^ 0xFF])
    assert model.read(4, 3) == b"ent"


def test_other_content_or_another_name_is_another_commit(repo: DemoRepo, tmp_path: Path) -> None:
    tree = tree_id({file.path: file.oid for file in repo.files})
    assert commit_id(tree, "deck/other") != repo.revision
    (tmp_path / "files" / "a.txt").write_text("changed\n")
    assert demo_repo("deck/test", tmp_path / "files").revision != repo.revision


def test_what_is_not_there_cannot_be_described(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        demo_file("a.gguf", tmp_path / "a.gguf")


def test_the_demo_has_what_it_promises(demo_repositories: tuple[DemoRepo, ...]) -> None:
    models = {
        repo.repo: [file.path for file in repo.files if file.sha256] for repo in demo_repositories
    }
    assert models == {
        "deck/tiny-GGUF": ["tiny-F16.gguf", "tiny-Q8_0.gguf"],
        "deck/tiny-split-GGUF": [f"F16/tiny-split-F16-0000{n}-of-00003.gguf" for n in (1, 2, 3)],
        "deck/tiny-mlx": ["model.safetensors"],
        "deck/tiny-think-GGUF": ["tiny-think-F16.gguf"],
        "deck/tiny-see-GGUF": ["mmproj-tiny-see-F32.gguf", "tiny-see-F16.gguf"],
        "deck/padded-GGUF": ["padded-F16.gguf"],
        "deck/gated-GGUF": ["gated-Q8_0.gguf"],
        "deck/tiny-embed-GGUF": ["tiny-embed-F16.gguf"],
        "deck/rerank-GGUF": ["rerank-F16.gguf"],
        "deck/corrupt-GGUF": ["corrupt-Q8_0.gguf"],
        "deck/broken-GGUF": ["broken-F16.gguf", "broken-Q8_0.gguf"],
    }
    assert [repo.repo for repo in demo_repositories if repo.gated] == ["deck/gated-GGUF"]
    blobs = [file.sha256 for repo in demo_repositories for file in repo.files if file.sha256]
    assert len(blobs) == len(set(blobs))
