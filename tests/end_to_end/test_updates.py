"""Newer files on the Hub: shown when asked for, fetched beside the old ones, and then no longer."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from modeldeck.core.demo.hub import DemoHub
from modeldeck.core.demo.repository import DemoRepo, demo_file
from tests.end_to_end.conftest import Api
from tests.support.process import CoreProcess

TINY = "deck/tiny-GGUF:Q8_0"
REPO = "deck/tiny-GGUF"
NEW = "b2" * 20


def republish(hub: DemoHub, change: Callable[[DemoRepo], DemoRepo]) -> None:
    """Publish the repository of tiny again, at another commit."""
    repo = next(each for each in hub.repositories if each.repo == REPO)
    hub.publish(replace(change(repo), revision=NEW, last_modified="2026-11-27T09:00:00.000Z"))


def with_newer_weights(folder: Path) -> Callable[[DemoRepo], DemoRepo]:
    """The same repository with another file for Q8_0: a byte more of padding at its end."""

    def change(repo: DemoRepo) -> DemoRepo:
        old = repo.file("tiny-Q8_0.gguf")
        assert old is not None
        folder.mkdir()
        (folder / "new.gguf").write_bytes(old.source.read_bytes() + b"\0")
        new = demo_file(old.path, folder / "new.gguf")
        return replace(repo, files=tuple(new if f is old else f for f in repo.files))

    return change


def revisions(api: Api) -> set[str]:
    (repo,) = api.get("/deck/cache")["repositories"]
    return {each["revision"] for each in repo["revisions"]}


def test_newer_files_are_shown_and_fetched_and_the_old_ones_stay(
    api: Api, hub: DemoHub, tmp_path: Path
) -> None:
    api.pull(TINY)
    before = api.model(TINY)
    assert api.post("/deck/check-updates") == {"checked": 1, "updates": [], "unanswered": []}

    republish(hub, lambda repo: repo)  # another commit with the same files
    assert api.post("/deck/check-updates")["updates"] == []
    republish(hub, with_newer_weights(tmp_path / "new"))
    assert api.post("/deck/check-updates")["updates"] == [before["id"]]
    update = api.model(TINY)["update_available"]
    assert update == {"revision": NEW, "last_modified": "2026-11-27T09:00:00Z"}

    api.core.stop()
    api.core.start()
    assert api.model(TINY)["update_available"] == update  # it is not asked again for that

    path = f"/deck/models/{quote(TINY, safe='')}/download"
    assert api.post(path)["download"]["revision"] == NEW
    api.until(
        lambda s: (
            any(m["unique"] == TINY and m["revision"] == NEW for m in s["models"])
            and all(job["state"] == "completed" for job in s["downloads"])
        )
    )
    after = api.model(TINY)
    assert (after["update_available"], after["size_bytes"]) == (None, before["size_bytes"] + 1)
    assert revisions(api) == {before["revision"], NEW}
    assert api.post(path)["download"] is None
    api.post("/deck/cache/delete", {"detached": True})
    assert revisions(api) == {NEW}


def asked(hub: DemoHub) -> list[Any]:
    return [each for each in hub.log if f"/api/models/{REPO}" in each.path]


@pytest.mark.parametrize("offline", [False, True])
def test_nothing_is_asked_unless_it_is_wanted(home: Path, hub: DemoHub, offline: bool) -> None:
    environ = {**os.environ, "HF_ENDPOINT": hub.url}
    with CoreProcess(environ) as core:
        Api(core).pull(TINY)
    hub.clear_log()
    environ["MODELDECK_HUB_CHECK_UPDATES"] = "true"
    with CoreProcess(environ | ({"HF_HUB_OFFLINE": "1"} if offline else {})) as core:
        api = Api(core)
        if offline:
            error = api.post("/deck/check-updates", status=502)["error"]
            assert "HF_HUB_OFFLINE" in error["message"]
            assert asked(hub) == []
        else:
            api.until(lambda _: asked(hub))
