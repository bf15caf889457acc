"""The demo hub, as the real `hf` command and the real huggingface_hub see it."""

from __future__ import annotations

import os
import subprocess
import sysconfig
from pathlib import Path

import pytest
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

from modeldeck.core.demo.hub import STRANGER, TOKEN, DemoHub
from modeldeck.core.demo.repository import DemoRepo, demo_repo

HF = Path(sysconfig.get_path("scripts")) / "hf"


def hf(hub: DemoHub, home: Path, *arguments: str, **environ: str) -> str:
    """Run the real command in an empty home; its output, or CalledProcessError."""
    found = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(home.parent / "hf"), **environ}
    done = subprocess.run(
        [HF, *arguments], capture_output=True, text=True, env={**found, "NO_COLOR": "1"}
    )
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, HF, done.stdout + done.stderr)
    return done.stdout


def served(hub: DemoHub, name: str) -> DemoRepo:
    return next(repo for repo in hub.repositories if repo.repo == name)


def same_content(repo: DemoRepo, folder: Path) -> bool:
    return all((folder / f.path).read_bytes() == f.source.read_bytes() for f in repo.files)


# The command


@pytest.mark.parametrize("environ", [{}, {"HF_HUB_DISABLE_XET": "1"}], ids=["xet", "no xet"])
@pytest.mark.parametrize("name", ["deck/tiny-GGUF", "deck/tiny-split-GGUF", "deck/tiny-mlx"])
def test_hf_downloads_lists_and_verifies(
    hub: DemoHub, home: Path, name: str, environ: dict[str, str]
) -> None:
    repo = served(hub, name)
    hf(hub, home, "download", name, **environ)
    folder = home.parent / "hf" / "hub" / f"models--{name.replace('/', '--')}"
    assert same_content(repo, folder / "snapshots" / repo.revision)
    assert (folder / "refs" / "main").read_text() == repo.revision
    assert {blob.name for blob in (folder / "blobs").iterdir()} == {f.etag for f in repo.files}
    assert f"model/{name}" in hf(hub, home, "cache", "ls")
    assert f"Verified {len(repo.files)} file(s)" in hf(hub, home, "cache", "verify", name)
    assert hub.leaks == ()


def test_hf_finds_out_what_was_damaged_on_the_way(hub: DemoHub, home: Path) -> None:
    hf(hub, home, "download", "deck/corrupt-GGUF")
    with pytest.raises(subprocess.CalledProcessError) as caught:
        hf(hub, home, "cache", "verify", "deck/corrupt-GGUF")
    assert "corrupt-Q8_0.gguf: expected" in caught.value.output


def test_hf_resumes_after_a_truncated_body(hub: DemoHub, home: Path) -> None:
    hub.faults.truncate(after_bytes=15 << 20, path="padded-F16.gguf")
    hf(hub, home, "download", "deck/padded-GGUF", "padded-F16.gguf")
    assert "Verified" in hf(hub, home, "cache", "verify", "deck/padded-GGUF")
    bodies = [exchange for exchange in hub.log if exchange.origin == "storage"]
    # It writes 10 MiB at a time, so what came after the first of them is fetched again.
    assert [body.range for body in bodies] == [None, f"bytes={10 << 20}-"]
    assert [body.status for body in bodies] == [200, 206]
    assert [body.finished for body in bodies] == [False, True]
    size = served(hub, "deck/padded-GGUF").files[-1].size_bytes
    assert [body.bytes_sent for body in bodies] == [15 << 20, size - (10 << 20)]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("deck/gated-GGUF",), "requires approval"),
        (("deck/gated-GGUF", "--token", STRANGER), "requires approval"),
        (("deck/nothing",), "not found"),
        (("deck/tiny-GGUF", "nothing.gguf"), "File not found"),
        (("deck/tiny-GGUF", "--revision", "v2"), "Revision"),
    ],
)
def test_hf_explains_what_it_may_not_have(
    hub: DemoHub, home: Path, arguments: tuple[str, ...], says: str
) -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        hf(hub, home, "download", *arguments)
    assert says in caught.value.output
    assert not any(exchange.origin == "storage" for exchange in hub.log)


def test_a_token_opens_the_gated_repository_and_stays_on_the_hub(hub: DemoHub, home: Path) -> None:
    hf(hub, home, "download", "deck/gated-GGUF", HF_TOKEN=TOKEN)
    assert "visitor" in hf(hub, home, "auth", "whoami", HF_TOKEN=TOKEN)
    assert any(exchange.authorization for exchange in hub.log)
    assert [e.authorization for e in hub.log if e.origin == "storage"] == [False]
    assert hub.leaks == ()


# The library


def test_snapshot_download_and_then_without_the_hub(hub: DemoHub, home: Path) -> None:
    cache = home / "cache"
    folder = snapshot_download("deck/tiny-mlx", endpoint=hub.url, cache_dir=cache)
    assert same_content(served(hub, "deck/tiny-mlx"), Path(folder))
    hub.online = False
    again = snapshot_download(
        "deck/tiny-mlx", endpoint=hub.url, cache_dir=cache, local_files_only=True
    )
    assert again == folder


@pytest.fixture
def api(hub: DemoHub) -> HfApi:
    return HfApi(endpoint=hub.url, token=False)


def test_search_knows_words_tags_and_order(hub: DemoHub, api: HfApi) -> None:
    everything = [model.id for model in api.list_models()]
    assert everything[0] == "deck/tiny-GGUF"
    assert set(everything) == {repo.repo for repo in hub.repositories}
    assert [m.id for m in api.list_models(search="GGUF split")] == ["deck/tiny-split-GGUF"]
    assert [m.id for m in api.list_models(filter="mlx")] == ["deck/tiny-mlx"]
    assert [m.id for m in api.list_models(filter=["gguf", "mlx"])] == []
    assert [m.id for m in api.list_models(gated=True)] == ["deck/gated-GGUF"]
    assert [m.id for m in api.list_models(sort="likes", limit=2)] == everything[:2]
    assert [m.id for m in api.list_models(author="nobody")] == []
    assert [m.id for m in api.list_models(pipeline_tag="feature-extraction")] == [
        "deck/tiny-embed-GGUF"
    ]


def test_a_list_comes_in_pages(hub: DemoHub, api: HfApi) -> None:
    for number in range(1001):
        hub.publish(DemoRepo(repo=f"many/m{number}", revision="0" * 40, files=()))
    assert len({model.id for model in api.list_models(author="many")}) == 1001
    pages = [exchange for exchange in hub.log if exchange.path == "/api/models"]
    assert len(pages) == 2


def test_a_list_says_more_when_asked(api: HfApi) -> None:
    (plain,) = api.list_models(search="gated")
    assert (plain.downloads, plain.sha, plain.gated) == (150, None, None)
    (full,) = api.list_models(search="gated", full=True)
    assert full.gated == "manual"
    assert [sibling.rfilename for sibling in full.siblings or []][-1] == "gated-Q8_0.gguf"
    (expanded,) = api.list_models(search="gated", expand=["gguf", "gated"])
    assert (expanded.gguf or {})["architecture"] == "llama"
    assert expanded.downloads is None


def test_the_record_of_a_repository(hub: DemoHub, api: HfApi) -> None:
    repo = served(hub, "deck/tiny-GGUF")
    info = api.model_info(repo.repo, files_metadata=True)
    assert (info.id, info.sha, info.gated) == (repo.repo, repo.revision, False)
    assert info.card_data is not None
    assert info.card_data.license == "apache-2.0"
    found = {
        sibling.rfilename: (sibling.size, sibling.lfs and sibling.lfs.sha256, sibling.blob_id)
        for sibling in info.siblings or []
    }
    assert found == {file.path: (file.size_bytes, file.sha256, file.oid) for file in repo.files}
    assert api.model_info(repo.repo, revision=repo.revision).sha == repo.revision
    (branch,) = api.list_repo_refs(repo.repo).branches
    assert (branch.name, branch.target_commit) == ("main", repo.revision)


def test_the_tree_of_a_repository(api: HfApi) -> None:
    name = "deck/tiny-split-GGUF"
    assert [entry.path for entry in api.list_repo_tree(name)] == [
        "F16",
        ".gitattributes",
        "README.md",
    ]
    inside = [entry.path for entry in api.list_repo_tree(name, "F16")]
    assert inside == [f"F16/tiny-split-F16-0000{n}-of-00003.gguf" for n in (1, 2, 3)]
    assert len(list(api.list_repo_tree(name, recursive=True))) == 6
    found = api.get_paths_info(name, ["F16", inside[0], "nowhere"])
    assert {entry.path for entry in found} == {"F16", inside[0]}


def test_refusals_have_the_librarys_own_errors(api: HfApi) -> None:
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("deck/nothing")
    with pytest.raises(RevisionNotFoundError):
        api.model_info("deck/tiny-GGUF", revision="v2")
    with pytest.raises(GatedRepoError):
        api.hf_hub_download("deck/gated-GGUF", "gated-Q8_0.gguf")


def test_a_new_commit_is_main_and_the_old_one_stays(
    hub: DemoHub, api: HfApi, tmp_path: Path
) -> None:
    old = served(hub, "deck/tiny-GGUF")
    (tmp_path / "tiny-Q8_0.gguf").write_bytes(b"GGUF of tomorrow")
    new = demo_repo("deck/tiny-GGUF", tmp_path)
    hub.publish(new)
    assert api.model_info(new.repo).sha == new.revision
    assert len(api.model_info(new.repo, revision=old.revision).siblings or []) == len(old.files)
    hub.publish(old)
    assert api.model_info(new.repo).sha == old.revision
    hub.withdraw(new.repo)
    with pytest.raises(RepositoryNotFoundError):
        api.model_info(new.repo)
