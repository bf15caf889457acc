"""The commands of the queue and of the cache, against a real core and hub."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from click.testing import CliRunner

from modeldeck.core.schema import CacheListing, CacheRepository, CacheRevision, Settings
from modeldeck.tui.cli.actions.cache import table
from modeldeck.tui.cli.actions.queue import terms
from modeldeck.tui.cli.main import main
from tests.support.process import CoreProcess

TINY = "deck/tiny-GGUF:Q8_0"
PADDED = "deck/padded-GGUF:F16"


@pytest.fixture
def core(tidy_core: CoreProcess) -> CoreProcess:
    """The core of all tests here, empty at the start of each."""
    return tidy_core


def run(*words: str, code: int = 0) -> str:
    """What a command writes to standard output; it must end with this code."""
    done = CliRunner().invoke(main, words)
    assert done.exit_code == code, (done.stdout, done.stderr)
    return done.stdout if code == 0 else done.stderr


def told(*words: str) -> Any:
    """The one document that a command answers."""
    (line,) = run(*words, "--json").splitlines()
    return json.loads(line)


def test_a_download_is_held_moved_limited_and_goes_on(core: CoreProcess) -> None:
    run("limit", "10kB/s")  # the smaller one takes minutes
    assert told("downloads", "--at-once", "1") == []
    run("pull", "--detach", PADDED, TINY)
    assert [job["unique"] for job in told("downloads")] == [PADDED, TINY]
    assert told("move", TINY, "first")["unique"] == TINY
    assert [job["unique"] for job in told("downloads")] == [TINY, PADDED]
    assert told("pause", PADDED)["state"] == "paused"
    assert told("limit", "2MB/s", "--model", PADDED)["rate_limit_bytes_per_s"] == 2_000_000
    shown = run("downloads")
    assert "paused" in shown
    assert "2.0 MB/s" in shown
    run("limit", "none")
    run("limit", "none", "--model", PADDED)
    assert told("resume", "--all")["unique"] == PADDED
    run("pull", PADDED, TINY)
    run("downloads", "--clear")
    assert told("downloads") == []
    assert [each["what"] for each in told("undo", "--list")] == [
        f"cleared the download of {unique}" for unique in (TINY, PADDED)
    ]
    assert f"Undone: download of {TINY} is in the list again" in run("undo")
    assert [job["unique"] for job in told("downloads")] == [TINY]
    run("undo", "x", "--list", code=2)
    run("undo", "x", code=3)
    assert "not being downloaded" in run("pause", PADDED, code=4)


def test_the_limit_of_all_is_set_shown_and_scheduled(core: CoreProcess) -> None:
    told_now = told("limit", "5MB/s", "--schedule", "00:00-24:00=800k", "--give-way")
    assert told_now["rate_limit_bytes_per_s"] == 5_000_000
    assert told_now["rate_in_force_bytes_per_s"] == 800_000
    shown = run("limit")
    assert "800 kB/s  (schedule)" in shown
    assert "gives way" in shown
    after = told("limit", "--no-schedule", "--no-give-way")
    assert (after["schedule"], after["rate_in_force_bytes_per_s"]) == ({}, 5_000_000)
    assert "not a rate" in run("limit", "fast", code=2)


def test_the_cache_is_listed_checked_pruned_and_emptied(core: CoreProcess) -> None:
    run("cache", "ls")
    run("pull", TINY)
    (repo,) = told("cache", "ls")["repositories"]
    assert repo["repo"] == "deck/tiny-GGUF"
    assert "main" in run("cache", "ls")
    assert "verified" in run("cache", "verify")
    assert told("cache", "verify", "deck/tiny-GGUF")["files"] == 1
    run("cache", "prune", "--yes")

    (blob,) = (core.home.parent / "hf" / "hub" / "models--deck--tiny-GGUF" / "blobs").iterdir()
    os.chmod(blob, 0o644)
    with blob.open("r+b") as stream:
        stream.write(b"?")
    assert "modeldeck rm" in run("cache", "verify", TINY, code=1)

    commit = repo["revisions"][0]["revision"]
    assert told("cache", "rm", "-n", f"deck/tiny-GGUF@{commit[:8]}")["freed_bytes"] > 0
    assert "modeldeck rm" in run("cache", "rm", "-y", TINY, code=2)
    assert "freed" in run("cache", "rm", "-y", "deck/tiny-GGUF")
    run("cache", "rm", "-y", "deck/tiny-GGUF", code=3)
    assert told("cache", "ls")["repositories"] == []


@pytest.mark.parametrize(
    "words",
    [
        ["pause"],
        ["resume", "--all", "x"],
        ["limit", "--model", "x"],
        ["limit", "1MB/s", "--model", "x", "--give-way"],
        ["limit", "--schedule", "a=b", "--no-schedule"],
        ["move", "x", "sideways"],
        ["downloads", "--at-once", "0"],
    ],
)
def test_words_that_contradict_each_other_are_refused(words: list[str]) -> None:
    assert CliRunner().invoke(main, words).exit_code == 2


def test_terms_read_as_a_page() -> None:
    settings = Settings(
        rate_limit_bytes_per_s=5_000_000, schedule={"01:00-07:00": "none", "08:00-09:00": 800_000}
    )
    assert terms(settings) == [
        "now        no limit",
        "set        5.0 MB/s",
        "01:00-07:00    no limit",
        "08:00-09:00    800 kB/s",
        "at once    2",
    ]


def test_revisions_stand_under_their_repository() -> None:
    revision = CacheRevision(
        revision="1" * 40, refs=(), models=(), files=1, size_bytes=5_000_000, shared_bytes=0,
        used_at=1000.0, modified_at=0.0,
    )  # fmt: skip
    repo = CacheRepository(
        repo="o/r", revisions=(revision,), size_bytes=5_000_000, shared_bytes=1_000_000,
        partial_bytes=0, used_at=1000.0,
    )  # fmt: skip
    listing = CacheListing(path="/c", repositories=(repo,))
    _, first, second = table(listing, 100, 1060.0)
    assert first.split() == ["o/r", "5.0", "MB", "1.0", "MB", "1m00s", "ago"]
    assert second.split()[:3] == ["11111111", "1", "file"]
    assert second.rstrip().endswith("detached")
