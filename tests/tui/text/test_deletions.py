"""Deletions as text: files by their names, the largest first, and what is unloaded first."""

from __future__ import annotations

import re

from modeldeck.core.schema import (
    DeletionItem,
    DeletionPlan,
    DeletionReceipt,
    DeletionUnload,
    KeptItem,
)
from modeldeck.tui.text import deletions

REPO = "/cache/models--deck--tiny"
SHOWN = f"{REPO}/snapshots/{'c' * 40}"
HASH = "389f2d6a" * 8


def blob(digit: str, size: int, file: str = "") -> DeletionItem:
    path = f"{SHOWN}/{file}" if file else ""
    return DeletionItem(path=f"{REPO}/blobs/{digit * 64}", size_bytes=size, kind="blob", file=path)


PLAN = DeletionPlan(
    model_ids=("m",),
    delete=(
        DeletionItem(path=f"{SHOWN}/a.gguf", size_bytes=0, kind="link"),
        blob("1", 700, "config.json"),
        blob("2", 2_500_000_000, "b.gguf"),
        blob("3", 5_000_000_000, "sub/a.gguf"),
        DeletionItem(path=f"{REPO}/blobs/{HASH}", size_bytes=60_000_000, kind="blob"),
        DeletionItem(path=f"{REPO}/blobs/{HASH}.incomplete", size_bytes=50_000_000, kind="partial"),
        blob("4", 24_000, "tokenizer.json"),
    ),
    keep=(
        KeptItem(
            path=f"{REPO}/blobs/{'5' * 64}",
            size_bytes=100_000_000,
            reason="revision main shares it",
            file=f"{SHOWN}/mmproj.gguf",
        ),
    ),
    freed_bytes=7_610_024_700,
    blocked=("it is loaded",),
)


def test_files_are_listed_by_name_and_small_ones_counted() -> None:
    made = deletions.files(PLAN)
    assert [(file.text, file.name, file.note) for file in made.files] == [
        ("delete   5.0 GB", "a.gguf", "deck/tiny"),
        ("delete   2.5 GB", "b.gguf", "deck/tiny"),
        ("delete  60.0 MB", "blob 389f2d6a…", "deck/tiny"),
        ("delete  50.0 MB", "partial 389f2d6a…", "deck/tiny"),
        ("keep     100 MB", "mmproj.gguf", "revision main shares it"),
    ]
    assert made.files[0].path == f"{SHOWN}/sub/a.gguf"
    assert made.more == "and 2 small files, 24.7 kB"


def test_small_files_alone_are_listed() -> None:
    small = DeletionPlan(
        model_ids=(), keep=(), freed_bytes=1500, delete=(blob("1", 800, "a"), blob("2", 700, "b"))
    )
    made = deletions.files(small)
    assert [file.name for file in made.files] == ["a", "b"]
    assert made.more == ""


def test_a_plan_and_its_receipt_for_a_terminal() -> None:
    lines = deletions.plan(PLAN, {"m": "Tiny"})
    assert lines[0] == "Delete the files of Tiny: 7.6 GB come back."
    assert lines[-2:] == ["  and 2 small files, 24.7 kB", "  Needs --force: it is loaded"]
    assert not re.search(r"[0-9a-f]{64}", "\n".join(lines))
    receipt = DeletionReceipt(
        model_ids=("m",), freed_bytes=66_900_000, deleted=5, failed=("b: denied",)
    )
    assert deletions.deleted(receipt, "Deleted padded F16") == [
        "Deleted padded F16: 66.9 MB freed",
        "  not deleted: b: denied",
    ]


def gone(answers: int, *who: str) -> DeletionUnload:
    return DeletionUnload(instance_id="i", model_id="m", unique="u", answers=answers, who=who)


def test_what_is_unloaded_first_and_which_answers_end() -> None:
    assert deletions.unloaded_first(gone(0), "Qwen3 8B") == (
        "Qwen3 8B is loaded: it is unloaded first.",
        "Qwen3 8B is loaded: unloaded first",
    )
    assert deletions.unloaded_first(gone(1, "laptop"), "Qwen3 8B") == (
        "Qwen3 8B is loaded: it is unloaded first, and the answer to laptop ends.",
        "Qwen3 8B is loaded: unloaded first, ends 1 answer",
    )
    full, _ = deletions.unloaded_first(gone(2, "laptop", "cron"), "Big", is_draft=True)
    assert full == "Big uses it as its draft model: it is unloaded first, and 2 answers end."
