"""The form for custom models, against a real core and hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from modeldeck.core.client.client import Client
from modeldeck.core.schema import Model, ModelSeed, RepoFile, Repository, Variant
from modeldeck.tui.dashboard.dialogs.custom_model import (
    CustomForm,
    judge_repository,
    look_at_path,
    split_name,
)
from modeldeck.tui.dashboard.screens.catalog.screen import CatalogView


def custom(at: Any, name: str) -> Model | None:
    return next((m for m in at.state.models.values() if m.custom and m.name == name), None)


async def test_a_model_from_a_repository_is_checked_as_one_types(screen: Any) -> None:
    async with screen("catalog") as at:
        await at.press("n")
        await at.sees("New custom model", "owner/repo:VARIANT")
        await at.write("deck/tiny-GGUF")
        await at.sees("Choose a variant", "Q8_0", "F16")
        await at.write(":Q9")
        await at.sees("There is no Q9.")
        await at.press("backspace", "backspace")
        await at.write("q8_0")
        await at.sees("deck/tiny-GGUF:Q8_0, ", " MB")
        await at.press("down")
        await at.write("Mine")
        await at.press("enter")
        await at.until(lambda: custom(at, "Mine") is not None)
        await at.sees("Mine is in the list.")
        table = at.app.query_one(CatalogView).table
        await at.until(lambda: getattr(table.cursor_item, "name", "") == "Mine")
        await at.press("d")
        await at.until(lambda: bool((found := custom(at, "Mine")) and found.downloaded))


async def test_a_model_from_a_path_and_what_the_core_refuses(
    screen: Any, demo_models: Path
) -> None:
    path = demo_models / "tiny-GGUF" / "tiny-Q8_0.gguf"
    async with screen("catalog") as at:
        await at.press("n")
        await at.sees("New custom model")
        await at.write("/no/such/model.gguf")
        await at.sees("There is nothing at /no/such/model.gguf.")
        await at.press("enter")
        await at.sees("Give the path of a model")
        await at.press("ctrl+u")
        await at.write(str(path))
        await at.sees("a GGUF file, ")
        await at.press("enter")
        await at.until(lambda: not isinstance(at.app.screen, CustomForm))
        await at.until(lambda: custom(at, "tiny-Q8_0") is not None)
        await at.press("n")
        await at.sees("New custom model")
        await at.write(str(path))
        await at.press("enter")
        await at.sees("There is such a model already")
        await at.press("escape")
        assert not isinstance(at.app.screen, CustomForm)


async def test_edit_and_take_off_the_list(screen: Any) -> None:
    async def add(client: Client) -> None:
        await client.create_model(ModelSeed(unique="deck/tiny-GGUF:F16", name="Old name"))

    async with screen("catalog", before=add) as at:
        table = at.app.query_one(CatalogView).table
        old = custom(at, "Old name")
        assert old is not None
        assert table.move_to(old.id)
        await at.press("e")
        await at.sees("Edit Old name", "deck/tiny-GGUF:F16")
        await at.press("down", "ctrl+u")
        await at.write("New name")
        await at.press("down", "down")
        await at.write("What it is for")
        await at.press("enter")
        await at.until(lambda: custom(at, "New name") is not None)
        found = custom(at, "New name")
        assert found is not None
        assert found.description == "What it is for"
        assert found.id == old.id
        await at.until(lambda: table.cursor_key == found.id)
        await at.press("D")
        await at.sees("Remove New name", "y remove it  n esc keep it")
        await at.press("n")
        assert custom(at, "New name") is not None
        await at.press("D")
        await at.sees("y remove it")
        await at.press("y")
        await at.until(lambda: custom(at, "New name") is None)
        await at.sees("Removed New name from the list")


@pytest.mark.parametrize("size", [(120, 40), (80, 24), (60, 15)])
async def test_the_form_holds_at_every_size(screen: Any, size: tuple[int, int]) -> None:
    async with screen("catalog", size=size) as at:
        await at.press("n")
        await at.sees("New custom model", "enter save ")


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("owner/repo", ("owner/repo", "")),
        ("owner/repo:Q4_K_M", ("owner/repo", "Q4_K_M")),
        ("hf://owner/repo/a.gguf", ("owner/repo", "a.gguf")),
        ("hf://owner/repo@main/a.gguf", ("owner/repo", "a.gguf")),
        ("https://huggingface.co/owner/repo/resolve/main/a.gguf", ("owner/repo", "a.gguf")),
        ("word", ("word", "")),
    ],
)
def test_whom_to_ask(name: str, parts: tuple[str, str]) -> None:
    assert split_name(name) == parts


def test_a_repository_without_models_or_with_one() -> None:
    file = RepoFile(path="a.gguf", size_bytes=7, blob="0" * 40)
    only = Variant(
        unique="o/r:F16",
        label="F16",
        format="gguf",
        quantization="F16",
        files=(file,),
        size_bytes=7,
    )
    nothing = Repository(repo="o/r", revision="0" * 40)
    assert judge_repository(nothing, "")[0] == "error"
    one = Repository(repo="o/r", revision="0" * 40, variants=(only,))
    assert judge_repository(one, "") == ("success", "o/r:F16, 7 B")
    assert judge_repository(one, "a.gguf")[0] == "success"


def test_paths(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no model")
    assert look_at_path(tmp_path)[0] == "warning"
    assert look_at_path(tmp_path / "text") == ("error", "not a GGUF file")
    (tmp_path / "config.json").write_text("{}")
    assert look_at_path(tmp_path)[0] == "success"
