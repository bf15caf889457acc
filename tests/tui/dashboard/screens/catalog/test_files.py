"""The catalog and the files of a model: checked on disk, and the card that came with them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from modeldeck.core.client.client import Client
from modeldeck.core.demo.hub import DemoHub
from modeldeck.core.schema import ModelSeed, Verification
from modeldeck.tui.dashboard.screens.catalog.checks import line
from modeldeck.tui.dashboard.screens.catalog.screen import CatalogView
from modeldeck.tui.text.format import ASCII, UNICODE
from tests.tui.dashboard.screens.steps import F16, TINY, fetched, go


def damage(path: str) -> None:
    """Change a byte of a file in the cache."""
    blob = Path(path).resolve()
    content = bytearray(blob.read_bytes())
    content[-1] ^= 1
    blob.chmod(0o644)
    blob.write_bytes(content)


@contextmanager
def enormous(path: str) -> Iterator[None]:
    """A file that takes minutes to read, in the place of this one, and no room on the disk."""
    blob = Path(path).resolve()
    aside = blob.with_name("aside")
    blob.rename(aside)
    with blob.open("wb") as file:
        file.truncate(1 << 38)
    try:
        yield
    finally:
        aside.replace(blob)


def model(at: Any) -> Any:
    return next(m for m in at.state.models.values() if m.unique == TINY)


def row(at: Any) -> str:
    """The line under the cursor, without the pane beside it."""
    return next((s.partition("│")[0] for s in at.text.split("\n") if "▸" in s), "")


async def test_files_that_are_sound_are_said_to_be(screen: Any) -> None:
    async with screen("catalog", before=fetched(TINY, F16)) as at:
        await go(at, TINY)
        await at.press("space")
        await go(at, F16)
        await at.press("space", "v")
        await at.until(lambda: any("2 files verified" in m.text for m in at.app.messages))
        assert not at.app.query_one(CatalogView).table.marks
        await at.sees("✓ verified at ")


async def test_a_corrupt_file_is_found_mended_and_forgotten(screen: Any) -> None:
    async with screen("catalog", before=fetched(TINY, F16)) as at:
        damage(model(at).path)
        await go(at, TINY)
        await at.press("v")
        await at.until(lambda: any("1 of 1 file corrupt" in m.text for m in at.app.messages))
        await at.until(lambda: "✗" in row(at) and "failed" in row(at))
        await at.sees("Corrupt file: x deletes it, d downloads", "✗ 1")
        await at.press("s", "s", "s")
        await at.until(
            lambda: [r.unique for r in at.app.query_one(CatalogView).table.items] == [TINY]
        )
        await at.press("x")
        await at.sees("y delete 1.9 MB")
        await at.press("y")
        await at.until(lambda: not model(at).downloaded)
        await at.press("escape")
        await go(at, TINY)
        await at.until(lambda: "failed" not in row(at))
        await at.press("d")
        await at.until(lambda: model(at).downloaded)
        await at.press("v")
        await at.until(lambda: any("1 file verified" in m.text for m in at.app.messages))


async def test_what_cannot_be_checked_says_why(screen: Any, demo_models: Path) -> None:
    async def own(client: Client) -> None:
        path = demo_models / "tiny-GGUF" / "tiny-F16.gguf"
        await client.create_model(ModelSeed(unique=str(path), name="Mine"))

    async with screen("catalog", before=own) as at:
        mine = next(m for m in at.state.models.values() if m.name == "Mine")
        await go(at, mine.unique)
        await at.press("v")
        await at.sees("outside the cache")
        await at.press("m")
        await at.sees("Mine has no model card")
        await at.press("G", "v")
        await at.sees("is not downloaded")


async def test_a_check_is_called_off(screen: Any) -> None:
    async with screen("catalog", before=fetched(TINY, F16)) as at:
        await go(at, TINY)
        with enormous(model(at).path):
            await at.press("v")
            await at.sees("checking deck/tiny-GGUF:Q8_0", "c cancels")
            await at.until(lambda: "verifying" in row(at))
            await at.press("c")
            await at.until(lambda: any("cancelled." in m.text for m in at.app.messages))
            await at.until(lambda: "checking" not in at.text)


async def test_the_card_is_read_and_left(screen: Any, hub: DemoHub) -> None:
    async with screen("catalog", before=fetched(TINY, F16)) as at:
        await go(at, TINY)
        await at.press("m")
        await at.sees("A tiny model in two quantizations.", "from the Hub", "esc closes")
        assert "license:" not in at.text
        await at.press("j", "G", "escape")
        assert "A tiny model" not in at.text
        hub.online = False
        await at.press("m")
        await at.sees("A tiny model in two quantizations.", "kept here")
        await at.press("m")
        assert "kept here" not in at.text


async def test_a_card_that_cannot_be_had_says_why(screen: Any, hub: DemoHub) -> None:
    async with screen("catalog") as at:
        hub.online = False
        await at.press("slash")
        await at.write("gemma 3 4b")
        await at.press("enter", "m")
        await at.sees("cannot be reached")
        await at.press("escape")
        assert at.app.focused is at.app.query_one(CatalogView).table


CHECK = Verification(
    id="1",
    what="deck/a-model-with-a-long-name-GGUF:Q8_0",
    state="verifying",
    done_bytes=500_000_000,
    total_bytes=1_000_000_000,
    rate_bytes_per_s=250e6,
    eta_s=2.0,
)


@pytest.mark.parametrize("width", [0, 20, 40, 58, 78, 118, 200])
def test_the_line_of_a_check_fits(width: int) -> None:
    for glyphs in (UNICODE, ASCII):
        name, told = line([CHECK, CHECK], glyphs, width, "c")
        assert len(name + told) <= max(width, 1)
        assert ("50 %" in told) == (width > 36)
        assert ("1 more waits" in told) == (width > 110)
    assert line([], UNICODE, width, "c") == ("", "")
