"""Caches as other tools and systems leave them: without links, behind a link, read-only."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from modeldeck.core.demo.hub import DemoHub
from modeldeck.core.demo.vocabulary import expected
from modeldeck.core.hub_cache.layout import HubCache
from modeldeck.core.schema import RepoFile
from tests.support.process import CoreProcess

TINY = "deck/tiny-GGUF:Q8_0"
OTHER = "deck/tiny-GGUF:F16"
REPO = "deck/tiny-GGUF"
SCRIPTS = Path(sysconfig.get_path("scripts"))


def follow_links(root: Path) -> None:
    """Put plain files in place of the links, as `rsync -L` does."""
    for path in list(root.rglob("snapshots/**/*")):
        if path.is_symlink():
            content = path.read_bytes()
            path.unlink()
            path.write_bytes(content)


def hf(root: Path, hub: DemoHub, *words: str) -> str:
    """What the Hub's own tool says; it must not fail."""
    environ = {**os.environ, "HF_HUB_CACHE": str(root), "HF_ENDPOINT": hub.url}
    said = subprocess.run(
        [SCRIPTS / "hf", *words], env=environ, capture_output=True, text=True, check=False
    )
    assert said.returncode == 0, said.stderr
    return said.stdout


def listed(api: Any, repo: str = REPO) -> Any:
    return next((r for r in api.get("/deck/cache")["repositories"] if r["repo"] == repo), None)


@pytest.fixture
def root(home: Path) -> Path:
    return home.parent / "hf" / "hub"


def test_a_cache_whose_links_were_followed_is_emptied_whole(
    api: Any, root: Path, hub: DemoHub
) -> None:
    sizes = {name: api.pull(name)["total_bytes"] for name in (TINY, OTHER)}
    follow_links(root)
    assert REPO in hf(root, hub, "cache", "ls")
    hf(root, hub, "cache", "verify", REPO)
    repo = listed(api)
    assert (repo["size_bytes"], repo["orphan_bytes"]) == (sum(sizes.values()),) * 2
    api.load(TINY, context_length=512)
    assert api.ask(TINY, "Please count for me") == expected("count")

    plan = api.post("/deck/cache/plan", {"models": [TINY]})
    assert plan["freed_bytes"] == 2 * sizes[TINY], "the file, and the blob beside it"
    receipt = api.post("/deck/cache/delete", {"models": [TINY], "force": True})
    assert (receipt["freed_bytes"], receipt["failed"]) == (2 * sizes[TINY], [])
    assert listed(api)["orphan_bytes"] == sizes[OTHER]
    hf(root, hub, "cache", "verify", REPO)

    plan = api.post("/deck/cache/plan", {"orphans": True})
    assert [(item["kind"], item["size_bytes"]) for item in plan["delete"]] == [
        ("blob", sizes[OTHER])
    ]
    receipt = api.post("/deck/cache/delete", {"orphans": True})
    assert (receipt["freed_bytes"], receipt["failed"]) == (sizes[OTHER], [])
    assert api.model(OTHER)["downloaded"]
    assert api.state()["disk"]["cache_bytes"] == sizes[OTHER]
    api.post("/deck/cache/delete", {"models": [OTHER]})
    assert api.state()["disk"]["cache_bytes"] == 0
    assert listed(api) is None
    assert REPO not in hf(root, hub, "cache", "ls")


def test_what_is_left_of_a_revision_that_another_tool_deleted_is_listed_and_goes(
    api: Any, root: Path, hub: DemoHub
) -> None:
    size = api.pull(TINY)["total_bytes"]
    shutil.rmtree(root / "models--deck--tiny-GGUF" / "snapshots")
    assert (listed(api)["size_bytes"], listed(api)["orphan_bytes"]) == (0, size)
    plan = api.post("/deck/cache/plan", {"repositories": [REPO]})
    assert plan["freed_bytes"] == size
    api.post("/deck/cache/delete", {"repositories": [REPO]})
    assert listed(api) is None
    api.pull(TINY)
    assert REPO in hf(root, hub, "cache", "ls")


def test_a_home_that_is_a_link_with_absolute_links_inside(
    home: Path, hub: DemoHub, tmp_path: Path
) -> None:
    real = tmp_path / "disk" / "hf"
    real.mkdir(parents=True)
    (home.parent / "hf").symlink_to(real)
    fetched = {"HF_HOME": str(real), "HF_ENDPOINT": hub.url}
    subprocess.run(
        [SCRIPTS / "hf", "download", REPO, "tiny-Q8_0.gguf", "--quiet"],
        env={**os.environ, **fetched},
        check=True,
        capture_output=True,
    )
    for path in list(real.rglob("snapshots/**/*.gguf")):
        target = path.resolve()
        path.unlink()
        path.symlink_to(target)
    with CoreProcess({**os.environ, "HF_ENDPOINT": hub.url}) as core:
        from tests.end_to_end.conftest import Api

        api = Api(core)
        assert api.model(TINY)["downloaded"]
        repo = listed(api)
        assert (len(repo["revisions"]), repo["orphan_bytes"]) == (1, 0)
        receipt = api.post("/deck/cache/delete", {"models": [TINY]})
        assert receipt["failed"] == []
        assert receipt["freed_bytes"] == repo["size_bytes"] > 0
    assert REPO not in hf(real / "hub", hub, "cache", "ls")


def test_what_another_program_holds_is_told_by_every_api_and_goes_later(
    api: Any, root: Path, hub: DemoHub
) -> None:
    size = api.pull(TINY)["total_bytes"]
    blob = Path(api.model(TINY)["path"]).resolve()
    lock = root / ".locks" / "models--deck--tiny-GGUF" / f"{blob.name}.lock"
    with FileLock(lock):
        error = api.call("DELETE", "/api/delete", {"model": TINY}, status=500)["error"]
        assert "could not be deleted" in error
    assert blob.exists()
    repo = listed(api)
    assert (repo["size_bytes"], repo["orphan_bytes"]) == (0, size), "its link went already"
    receipt = api.post("/deck/cache/delete", {"orphans": True})
    assert (receipt["freed_bytes"], receipt["failed"]) == (size, [])
    assert not blob.exists()
    assert listed(api) is None


# Read-only

A, B = "o/there-GGUF", "o/here-GGUF"
COMMIT = "1" * 40

SCRIPT = """
set -e
mount -t tmpfs tmpfs "$HF_HOME"
cp -a "$1"/. "$HF_HOME"
say() { set +e; modeldeck "$@" >"$OUT/out" 2>"$OUT/err"; code=$?; set -e
  python -c 'import json,sys
d = sys.argv[1]
print(json.dumps([int(sys.argv[2]), open(d + "/out").read(), open(d + "/err").read()]))
' "$OUT" $code; }
mount -o remount,ro "$HF_HOME"
say rm --yes o/there-GGUF:Q8_0
say cache prune --yes
mount -o remount,rw "$HF_HOME"
mount --bind "$HF_HOME/hub/models--o--there-GGUF" "$HF_HOME/hub/models--o--there-GGUF"
mount -o remount,bind,ro "$HF_HOME/hub/models--o--there-GGUF"
say cache rm --yes o/there-GGUF o/here-GGUF
ls -R "$HF_HOME/hub" >"$OUT/left"
umount "$HF_HOME/hub/models--o--there-GGUF"
say rm --yes o/there-GGUF:Q8_0
modeldeck stop >/dev/null
"""


def put(cache: HubCache, repo: str, content: bytes) -> None:
    """A repository of one made-up file, as the Hub's tools lay it out."""
    file = RepoFile(path="m-Q8_0.gguf", size_bytes=len(content), blob=content.hex()[:2] * 32)
    cache.prepare(repo)
    cache.partial(repo, file.blob).write_bytes(content)
    cache.publish(repo, COMMIT, file, fresh=True)
    cache.set_ref(repo, "main", COMMIT)


@pytest.mark.skipif(sys.platform != "linux", reason="needs the mount namespaces of Linux")
def test_a_read_only_cache_makes_rm_fail_and_says_what_stayed(home: Path, tmp_path: Path) -> None:
    content = tmp_path / "hf"
    for repo, data in ((A, b"a" * 1000), (B, b"b" * 500)):
        put(HubCache(content / "hub"), repo, data)
    orphan = content / "hub" / "models--o--here-GGUF" / "blobs" / ("c" * 64)
    orphan.write_bytes(b"c" * 30)
    (home.parent / "hf").mkdir()
    environ = {**os.environ, "OUT": str(tmp_path), "PATH": f"{SCRIPTS}:{os.environ['PATH']}"}
    ways = [["unshare", "--mount"], ["unshare", "--user", "--map-root-user", "--mount"]]
    way = next((w for w in ways if not subprocess.run([*w, "true"], check=False).returncode), None)
    assert way is not None, "this user may mount nothing, not even in a namespace of its own"
    said = subprocess.run(
        [*way, "sh", "-c", SCRIPT, "sh", str(content)],
        env=environ, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    nothing, unpruned, partly, whole = map(json.loads, said.stdout.splitlines())

    code, out, err = nothing
    assert code == 1
    assert "freed" not in out
    assert "Nothing was deleted" in err
    assert f"snapshots/{COMMIT}/m-Q8_0.gguf: Read-only file system" in err
    code, _, err = unpruned
    assert code == 1
    assert f"{'c' * 64}: Read-only file system" in err

    code, out, err = partly
    assert code == 1
    assert "530 B freed" in out
    assert "1 thing could not be deleted" in err
    assert "models--o--there-GGUF" in err
    assert "models--o--here-GGUF" not in err
    left = (tmp_path / "left").read_text()
    assert "models--o--here-GGUF" not in left
    assert "main" in left, "the reference stays with its files"

    code, out, _ = whole
    assert code == 0
    assert "1.0 kB freed" in out
