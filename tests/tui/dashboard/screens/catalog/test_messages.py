"""Receipts and errors of the catalog's actions. Pure."""

from __future__ import annotations

import pytest

from modeldeck.core.schema import Download, Host, Model
from modeldeck.core.schema.state import State
from modeldeck.tui.dashboard.screens.catalog.messages import not_here, several
from modeldeck.tui.dashboard.screens.catalog.targets import DetailTarget

MODEL = Model(id="m", unique="deck/tiny:F16", name="tiny", format="gguf", source="builtin")
TARGET = DetailTarget(unique=MODEL.unique, quantization="F16", size_bytes=1, files=1, model=MODEL)
KEYS = {"download": "d", "cancel": "c"}


def test_what_is_still_being_downloaded_is_not_to_be_downloaded_again() -> None:
    state = State(host=Host(name="", version="", started_at=""), models={"m": MODEL})
    error = not_here(TARGET, state, KEYS.__getitem__)
    assert str(error) == "tiny is not downloaded. d downloads it."
    job = Download(
        id="1", model_id="m", unique=MODEL.unique, repo="", revision="", state="downloading"
    )
    state = State(host=state.host, models={"m": MODEL}, downloads={"1": job})
    error = not_here(TARGET, state, KEYS.__getitem__)
    assert str(error) == "tiny is still being downloaded. c cancels it."


def test_two_receipts_are_both_told() -> None:
    here, coming = "tiny is downloaded already", "Downloading padded, 66.9 MB"
    assert several([here]) == here
    assert several([f"{here}.", coming]) == f"{here}; {coming}"
    assert several([here, coming]) == f"{here}; {coming}"


@pytest.mark.parametrize(
    ("receipts", "words"),
    [
        (["Downloading a, 1 MB"] * 3, "Downloading 3 models"),
        (
            ["a is downloaded already.", "Downloading b, 1 MB", "Downloading c, 1 MB"],
            "Downloading 2 models; a is downloaded already",
        ),
        (["a is here.", "b is here.", *["Unloaded c: 6.8 GiB freed"] * 3],
         "Unloaded 3 models; and 2 more"),
        (["a is here.", "b is here.", "c is here."], "a is here; and 2 more"),
    ],
)  # fmt: skip
def test_three_and_more_are_counted(receipts: list[str], words: str) -> None:
    assert several(receipts) == words
