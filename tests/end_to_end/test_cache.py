"""The cache by its API: list, check, prune and delete, against a real hub."""

import hashlib
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

TINY = "deck/tiny-GGUF:Q8_0"
SIBLING = "deck/tiny-GGUF:F16"
PADDED = "deck/padded-GGUF:F16"
REPO = "deck/tiny-GGUF"


def listed(api: Any, repo: str) -> Any:
    """A repository in the list of the cache, or None."""
    return next((r for r in api.get("/deck/cache")["repositories"] if r["repo"] == repo), None)


def checked(api: Any, **what: object) -> Any:
    """Check something to its end; the record."""
    key = api.post("/deck/cache/verify", what)["id"]
    ended = ("completed", "failed", "canceled")
    return api.until(
        lambda s: next(
            (v for v in s["verifications"] if v["id"] == key and v["state"] in ended), None
        )
    )


@pytest.fixture
def root(home: Path) -> Path:
    """The cache."""
    return home.parent / "hf" / "hub"


def detach(root: Path, repo: str) -> str:
    """Make the revision of a repository one that `main` has left; its commit."""
    folder = root / f"models--{repo.replace('/', '--')}"
    commit = (folder / "refs" / "main").read_text()
    (folder / "refs" / "main").unlink()
    return commit


def test_the_list_says_what_there_is(api: Any) -> None:
    assert api.get("/deck/cache")["repositories"] == []
    sizes = [api.pull(unique)["total_bytes"] for unique in (TINY, SIBLING)]
    repo = listed(api, REPO)
    assert repo["size_bytes"] == sum(sizes)
    (revision,) = repo["revisions"]
    assert sorted(revision["models"]) == sorted([TINY, SIBLING])
    assert (revision["refs"], revision["shared_bytes"]) == (["main"], 0)
    assert revision["used_at"] > 0


def test_a_check_finds_what_is_wrong_and_nothing_else(api: Any, root: Path) -> None:
    for unique in (TINY, SIBLING):
        api.pull(unique)
    good = checked(api)
    assert (good["state"], good["wrong"], good["what"]) == ("completed", [], "the whole cache")
    assert good["done_bytes"] == good["total_bytes"] == listed(api, REPO)["size_bytes"]
    before = listed(api, REPO)["used_at"]

    path = Path(api.model(TINY)["path"])
    blob = path.resolve()
    content = bytearray(blob.read_bytes())
    content[-1] ^= 1
    os.chmod(blob, 0o644)
    blob.write_bytes(content)
    assert hashlib.sha256(content).hexdigest() != blob.name
    bad = checked(api, models=[TINY])
    assert (bad["state"], bad["wrong"], bad["files"]) == ("completed", [str(path)], 1)
    assert bad["model_ids"] == bad["corrupt"] == [api.model(TINY)["id"]]
    sound = checked(api, models=[SIBLING])
    assert (sound["wrong"], sound["corrupt"]) == ([], [])
    assert checked(api)["corrupt"] == bad["corrupt"]
    assert checked(api, repositories=[REPO])["wrong"] == [str(path)]
    assert listed(api, REPO)["used_at"] >= before

    api.post("/deck/cache/delete", {"models": [TINY]})
    ended = api.state()["verifications"]
    assert not any(check["wrong"] or check["corrupt"] for check in ended), "it is gone"
    assert not any(api.model(TINY)["id"] in check["model_ids"] for check in ended)
    assert any(api.model(SIBLING)["id"] in check["model_ids"] for check in ended)
    api.pull(TINY)
    assert checked(api)["wrong"] == []
    whole = api.post("/deck/cache/verify", {})
    assert set(whole["model_ids"]) == {api.model(name)["id"] for name in (TINY, SIBLING)}
    api.post("/deck/cache/verify", {"repositories": ["o/none"]}, status=404)
    api.post("/deck/cache/verify/none/cancel", status=404)


def test_a_check_that_runs_is_called_off_and_the_next_one_runs(api: Any, root: Path) -> None:
    api.pull(TINY)
    folder, blob = root / "models--deck--large", "0" * 64
    snapshot = folder / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (folder / "blobs").mkdir()
    with (folder / "blobs" / blob).open("wb") as stream:
        stream.truncate(1 << 40)  # takes no room, and no test waits until it is read
    (snapshot / "large.bin").symlink_to(f"../../blobs/{blob}")
    key = api.post("/deck/cache/verify", {"repositories": ["deck/large"]})["id"]

    def check(state: Any) -> Any:
        return next(v for v in state["verifications"] if v["id"] == key)

    running = api.until(lambda s: check(s) if check(s)["done_bytes"] else None)
    assert running["state"] == "verifying"
    assert running["total_bytes"] == 1 << 40
    waits = api.post("/deck/cache/verify", {"models": [TINY]})
    assert waits["state"] == "queued"
    called_off = api.post(f"/deck/cache/verify/{key}/cancel")
    assert (called_off["state"], called_off["rate_bytes_per_s"]) == ("canceled", None)
    done = api.until(
        lambda s: next(
            (v for v in s["verifications"] if v["id"] == waits["id"] and v["finished_at"]), None
        )
    )
    assert (done["state"], done["wrong"]) == ("completed", [])
    assert check(api.state())["state"] == "canceled"
    api.post(f"/deck/cache/verify/{key}/cancel")  # once more does no harm
    api.post("/deck/cache/verify/none/cancel", status=404)


def test_pruning_takes_partials_and_leaves_what_a_download_goes_on_with(
    api: Any, root: Path
) -> None:
    api.call("PATCH", "/deck/settings", {"rate_limit_bytes_per_s": 1_000_000})
    job = api.post(f"/deck/models/{quote(PADDED, safe='')}/download")["download"]
    api.until(lambda s: s["downloads"][0]["received_bytes"] > 4 << 20)
    api.post(f"/deck/downloads/{job['id']}/pause")
    foreign = next(root.glob("models--deck--padded-GGUF/blobs")) / f"{'a' * 64}.1f.incomplete"
    foreign.write_bytes(b"left by another tool")
    plan = api.post("/deck/cache/plan", {"partials": True})
    assert [item["path"] for item in plan["delete"]] == [str(foreign)]
    assert [item["reason"] for item in plan["keep"]] == [
        f"the download of {PADDED} goes on with it"
    ]

    api.post(f"/deck/downloads/{job['id']}/cancel", {})
    plan = api.post("/deck/cache/plan", {"partials": True})
    assert len(plan["delete"]) == 2
    receipt = api.post("/deck/cache/delete", {"partials": True})
    assert receipt["failed"] == []
    state = api.state()
    assert state["disk"]["partial_bytes"] == 0
    assert state["downloads"][0]["received_bytes"] == 0
    api.call("PATCH", "/deck/settings", {"rate_limit_bytes_per_s": None})
    assert api.pull(PADDED)["id"] == job["id"]
    assert checked(api)["wrong"] == []


def test_detached_revisions_go_unless_somebody_asked_for_them(api: Any, root: Path) -> None:
    api.pull(TINY)
    commit = detach(root, REPO)
    pinned = f"hf://{REPO}@{commit}/tiny-Q8_0.gguf"
    api.post("/deck/models", {"unique": pinned, "name": "pinned"})
    assert api.post("/deck/cache/plan", {"detached": True})["delete"] == []
    api.core.stop()
    api.core.start()
    assert api.post("/deck/cache/plan", {"detached": True})["delete"] == []


def test_one_revision_goes_by_its_commit(api: Any, root: Path) -> None:
    size = api.pull(TINY)["total_bytes"]
    commit = detach(root, REPO)
    plan = api.post("/deck/cache/plan", {"detached": True})
    assert plan["freed_bytes"] == size
    assert plan["model_ids"] == [api.model(TINY)["id"]]
    api.load(TINY)
    refused = api.post("/deck/cache/delete", {"revisions": [f"{REPO}@{commit[:8]}"]}, status=409)
    assert refused["error"]["code"] == "in_use"
    body = {"revisions": [f"{REPO}@{commit[:8]}"], "force": True}
    receipt = api.post("/deck/cache/delete", body)
    assert receipt["freed_bytes"] == size
    assert not api.model(TINY)["downloaded"]
    assert api.state()["instances"] == []
    assert listed(api, REPO) is None
    api.post("/deck/cache/plan", {"revisions": [f"{REPO}@main"]}, status=404)


def test_a_whole_repository_goes(api: Any) -> None:
    sizes = [api.pull(unique)["total_bytes"] for unique in (TINY, SIBLING)]
    receipt = api.post("/deck/cache/delete", {"repositories": [REPO]})
    assert receipt["freed_bytes"] == sum(sizes)
    assert api.state()["disk"]["cache_bytes"] == 0
    api.post("/deck/cache/delete", {"repositories": [REPO]}, status=404)
    api.post("/deck/cache/plan", {"every_revision": True}, status=400)


def test_a_revision_whose_content_another_has_comes_back(api: Any, root: Path) -> None:
    size = api.pull(TINY)["total_bytes"]
    folder = root / f"models--{REPO.replace('/', '--')}"
    main = (folder / "refs" / "main").read_text()
    other = "0" * 40
    os.renames(folder / "snapshots" / main, folder / "snapshots" / other)
    (folder / "snapshots" / main).mkdir()
    for link in (folder / "snapshots" / other).iterdir():
        (folder / "snapshots" / main / link.name).symlink_to(os.readlink(link))
    plan = api.post("/deck/cache/plan", {"revisions": [f"{REPO}@{other}"]})
    assert plan["freed_bytes"] == 0
    receipt = api.post("/deck/cache/delete", {"revisions": [f"{REPO}@{other}"]})
    assert (receipt["freed_bytes"], receipt["failed"]) == (0, [])
    assert len(listed(api, REPO)["revisions"]) == 1
    api.post("/deck/undo", {"id": receipt["undo"]})
    assert len(listed(api, REPO)["revisions"]) == 2
    assert checked(api)["wrong"] == []
    receipt = api.post("/deck/cache/delete", {"repositories": [REPO]})
    assert (receipt["freed_bytes"], receipt["undo"]) == (size, None)


@pytest.fixture
def saving(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets engines save conversations, in the environment of the core that starts next."""
    monkeypatch.setenv("MODELDECK_RUNTIME_PREFIX_CACHE_DISK_BYTES", str(64 << 20))


def test_saved_conversations_are_listed_and_pruned(saving: None, api: Any) -> None:
    api.pull(TINY)
    assert api.get("/deck/cache")["prefix_cache_bytes"] == 0
    instance = api.load(TINY)
    api.ask(TINY, "count " * 40)  # shorter ones are not worth it
    api.post(f"/deck/instances/{instance['id']}/unload")
    saved = api.get("/deck/cache")["prefix_cache_bytes"]
    assert saved > 0
    assert api.until(lambda s: s["disk"]["prefix_cache_bytes"] == saved)
    everything = {"partials": True, "orphans": True, "detached": True}
    assert api.post("/deck/cache/plan", everything)["delete"] == []
    plan = api.post("/deck/cache/plan", {"prefixes": True})
    assert {item["kind"] for item in plan["delete"]} == {"prefix"}
    receipt = api.post("/deck/cache/delete", {"prefixes": True})
    assert (receipt["freed_bytes"], plan["freed_bytes"]) == (saved, saved)
    assert api.get("/deck/cache")["prefix_cache_bytes"] == 0
    assert api.get("/deck/state")["disk"]["prefix_cache_bytes"] == 0
