"""Every verb of the catalog, against a real core, hub and llama.cpp."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from modeldeck.core.client.client import Client
from modeldeck.core.demo.hub import DemoHub
from modeldeck.core.schema import LoadOptions, Model, SearchHit
from modeldeck.tui.dashboard.screens.catalog.rows import CatalogSort, Show
from modeldeck.tui.dashboard.screens.catalog.screen import CatalogView
from tests.tui.dashboard.screens.steps import (
    F16,
    TINY,
    catalog,
    downloaded,
    fetched,
    go,
    loaded,
    model,
    row,
)

PADDED = "deck/padded-GGUF:F16"
SPLIT = "deck/tiny-split-GGUF:F16"

SLOW = 50_000
"""Bytes a second on each connection: the padded model takes long enough to be seen."""


async def search(at: Any, words: str, repo: str) -> None:
    """Write a filter, and go to what the Hub found for it."""
    await at.press("slash")
    await at.write(words)
    await at.until(lambda: catalog(at).table.move_to(f"hub:{repo}"))
    await at.press("enter")


async def test_the_list_is_there_with_its_verdicts(screen: Any) -> None:
    async with screen("catalog") as at:
        await at.sees("Gemma 3 4B", "too large", f"{len(at.state.models)} models")
        await at.until(lambda: at.text.count(" fits ") > 5)


async def test_the_filter_follows_every_letter_and_esc_takes_it_back(screen: Any) -> None:
    async with screen("catalog") as at:
        await at.sees("Gemma 3 4B")
        every = len(catalog(at).table.items)
        await at.press("slash")
        counts = []
        for letter in "qwen":
            await at.write(letter)
            counts.append(len([r for r in catalog(at).table.items if isinstance(r, Model)]))
        assert counts == sorted(counts, reverse=True)
        assert 0 < counts[-1] < every
        assert "Gemma 3 4B" not in at.text
        await at.press("down", "down")
        assert catalog(at).table.cursor_item == catalog(at).table.items[2]
        await at.press("escape")
        assert len(catalog(at).table.items) == every
        assert at.app.focused is catalog(at).table


async def test_hub_results_join_under_a_rule(screen: Any) -> None:
    async with screen("catalog") as at:
        await at.press("slash")
        await at.write("tiny")
        await at.sees('Hugging Face: "tiny"', "deck/tiny-GGUF", "deck/tiny-mlx", "4.2k")
        await at.press("enter", "G")
        assert isinstance(catalog(at).table.cursor_item, SearchHit)
        await at.press("escape")
        assert "Hugging Face" not in at.text


async def test_a_hub_that_is_away_is_said_and_the_list_stays(screen: Any, hub: DemoHub) -> None:
    async with screen("catalog") as at:
        hub.online = False
        await at.press("slash")
        await at.write("qwen")
        await at.sees("cannot be reached", "Qwen3")


async def test_h_searches_at_once_and_asks_for_words_without_any(screen: Any) -> None:
    async with screen("catalog") as at:
        await at.press("h")
        await at.sees("Write what to search the Hub for.")
        await at.write("tiny")
        await at.press("enter", "h")
        await at.sees("deck/tiny-GGUF")


async def test_find_choose_download_load_unload_and_delete(screen: Any) -> None:
    async with screen("catalog") as at:
        await search(at, "tiny", "deck/tiny-GGUF")
        await at.press("d")
        await at.sees("deck/tiny-GGUF has several variants: choose one.", "F16", "Q8_0")
        await at.until(lambda: catalog(at).detail.table.has_focus)
        await at.sees("Q8_0", "F16", "exact: asked llama.cpp")
        await at.press("d")
        await at.until(lambda: downloaded(at))
        await at.sees("deck/tiny-GGUF:Q8_0 downloaded:")
        await at.press("l")
        await at.until(lambda: loaded(at) == [TINY])
        await at.sees("ready in", "1 loaded")
        await at.press("escape", "escape", "escape")
        await go(at, TINY)
        await at.sees("tiny", "loaded")
        await at.press("u")
        await at.until(lambda: not loaded(at))
        await at.sees("unloaded: freed", "its process is gone")
        await at.press("x")
        await at.sees("Delete the files of deck/tiny-GGUF:Q8_0.", "gives back ", "y deletes")
        await at.press("n")
        assert downloaded(at)
        await at.press("x")
        await at.sees("y deletes them")
        await at.press("y")
        await at.until(lambda: not downloaded(at))
        await at.sees("freed ", "items gone")


@pytest.mark.parametrize("keys", ["d", "enter d"])
async def test_a_verb_on_a_row_that_is_still_asked_about_waits_for_the_answer(
    screen: Any, hub: DemoHub, keys: str
) -> None:
    async with screen("catalog") as at:
        hub.latency_s = 1.0
        await search(at, "embed", "deck/tiny-embed-GGUF")
        await at.press(*keys.split())
        hub.latency_s = 0
        await at.until(lambda: downloaded(at, "deck/tiny-embed-GGUF:F16"))


async def test_words_written_before_the_core_answered_are_asked_when_it_does(screen: Any) -> None:
    held = asyncio.Event()
    async with screen("catalog", held=held) as at:
        await at.until(lambda: bool(at.app.query(CatalogView)))
        await at.press("slash")
        await at.write("tiny")
        await at.until(lambda: "No core" in str(catalog(at).requests.results.found))
        held.set()
        await at.sees('Hugging Face: "tiny"', "deck/tiny-GGUF")


async def test_a_verb_on_a_row_that_the_hub_will_not_tell_of_says_why(
    screen: Any, hub: DemoHub
) -> None:
    hub.faults.status(503, times=1000, path="/api/models/deck/tiny-split-GGUF")
    async with screen("catalog") as at:
        await search(at, "split", "deck/tiny-split-GGUF")
        await at.press("d")
        await at.until(
            lambda: any(m.severity == "error" and "503" in m.text for m in at.app.messages)
        )
        hub.faults.clear()
        await at.press("d")
        await at.until(lambda: model(at, SPLIT) is not None)


async def test_a_download_shows_its_progress_and_is_cancelled(screen: Any, hub: DemoHub) -> None:
    hub.rate_bytes_per_s = SLOW
    async with screen("catalog", size=(160, 40)) as at:
        await search(at, "padded", "deck/padded-GGUF")
        await at.until(lambda: len(catalog(at).detail.table.items) == 1)
        await at.press("d")
        await at.until(lambda: model(at, PADDED) is not None)
        await at.press("escape", "escape")
        await go(at, PADDED)
        await at.until(lambda: " % " in row(at, "padded") and "▁" in row(at, "padded"))
        await at.sees("downloading", "of 33.", "left")
        await at.press("c")
        await at.sees("cancelled.", "kept: the next download resumes")
        await at.until(lambda: all(j.state == "canceled" for j in at.state.downloads.values()))
        await at.press("c")
        await at.sees("is not being downloaded")
        hub.rate_bytes_per_s = None
        await at.press("d")
        await at.until(lambda: downloaded(at, PADDED))


async def test_verbs_act_on_the_marked_rows(screen: Any) -> None:
    async with screen("catalog", before=fetched(TINY, F16)) as at:
        await at.press("slash")
        await at.write("deck/tiny-GGUF")
        await at.press("enter", "g", "space", "space")
        await at.sees("2 marked of 2 models")
        await at.press("l")
        await at.until(lambda: sorted(loaded(at)) == [F16, TINY])
        await at.press("u")
        await at.until(lambda: not loaded(at))
        await at.press("x")
        await at.sees(f"{F16}, {TINY}" if F16 in at.text else TINY, "y deletes them")
        await at.press("y")
        await at.until(lambda: not downloaded(at) and not downloaded(at, F16))


async def test_esc_goes_back_one_step_at_a_time(screen: Any) -> None:
    async with screen("catalog", before=fetched(TINY)) as at:
        view = catalog(at)
        await at.press("s", "slash")
        await at.write("tiny")
        await at.press("enter")
        await at.until(lambda: view.table.cursor_item is not None)
        await at.press("space", "g", "enter")
        assert view.detail.table.has_focus
        await at.press("escape")
        assert view.table.has_focus
        assert view.table.marks
        await at.press("escape")
        assert not view.table.marks
        assert [view.shown] == [Show.DOWNLOADED]
        await at.press("escape")
        assert "tiny" not in at.text.split("\n")[1]
        await at.press("escape")
        assert [view.shown] == [Show.ALL]


async def test_what_is_shown_goes_round(screen: Any) -> None:
    async with screen("catalog", before=fetched(TINY)) as at:
        view = catalog(at)
        await at.until(lambda: bool(view.requests.results.fits))
        seen = {}
        for _ in Show:
            seen[view.shown] = len(view.table.items)
            await at.press("s")
        assert view.shown is Show.ALL
        assert seen[Show.DOWNLOADED] == 1
        assert seen[Show.LOADED] == seen[Show.CUSTOM] == 0
        assert 1 < seen[Show.FITS] <= seen[Show.ALL]
        await at.press("s", "s")
        await at.sees("No match.", "esc shows the others")


async def test_sorting_goes_round_and_keeps_the_cursor(screen: Any) -> None:
    async with screen("catalog", before=fetched(TINY)) as at:
        view = catalog(at)
        await at.until(lambda: bool(view.requests.results.fits))
        listed = [m.source for m in view.table.items if isinstance(m, Model)]
        assert "builtin" not in listed[: listed.index("builtin")]
        assert view.table.items.index(model(at)) < listed.index("builtin")
        key = view.table.cursor_key
        for sort in [*CatalogSort][1:]:
            await at.press("o")
            assert view.sort is sort
            assert view.table.cursor_key == key
            await at.sees(f"sort: {sort}")
            models = [m for m in view.table.items if isinstance(m, Model)]
            if sort is CatalogSort.SIZE:
                sizes = [m.size_bytes for m in models if m.size_bytes is not None]
                assert sizes == sorted(sizes)
            if sort is CatalogSort.NAME:
                assert [m.name.casefold() for m in models] == sorted(
                    m.name.casefold() for m in models
                )
        await at.press("o")
        assert view.sort is CatalogSort.HERE


async def test_the_fit_follows_the_context_length(screen: Any) -> None:
    async with screen("catalog", before=fetched(TINY)) as at:
        await go(at, TINY)
        await at.sees("[ 8192 ]", "exact: asked llama.cpp", "KV cache")

        def kv_bytes() -> int:
            fit = catalog(at).requests.results.fits.get(catalog(at).table.cursor_key or "")
            return fit.forecast.kv_bytes if fit and fit.forecast and fit.exact else 0

        before = kv_bytes()
        await at.press("right")
        await at.sees("[ 16384 ]")
        await at.until(lambda: kv_bytes() == 2 * before)
        await at.press("left", "left")
        await at.sees("[ 4096 ]")
        await at.until(lambda: 2 * kv_bytes() == before)
        await at.press("l")
        await at.until(lambda: loaded(at) == [TINY])
        (instance,) = at.state.instances.values()
        assert instance.context_length == 4096


async def test_load_with_options_that_are_checked(screen: Any) -> None:
    async with screen("catalog", before=fetched(TINY)) as at:
        await go(at, TINY)
        await at.press("L")
        await at.sees(f"Load {TINY} with", "such as context_length=8192", "kv_cache_type")
        await at.write("contex_length=512")
        await at.press("enter")
        await at.sees("Not an option: contex_length=512.")
        await at.press("ctrl+u")
        await at.write("context_length=512 kv_cache_type=q8_0 mmap=false ?")
        await at.press("enter")
        await at.sees("fits, with llama.cpp", "kv_cache_type q8_0 (request)", "y loads it")
        assert not loaded(at), "it is only shown what would be done"
        await at.press("y")
        await at.until(lambda: loaded(at) == [TINY])
        (instance,) = at.state.instances.values()
        assert instance.options.kv_cache_type == "q8_0"
        assert (instance.context_length, instance.options.mmap) == (512, False)
        await at.press("u")
        await at.until(lambda: not loaded(at))


async def test_a_load_that_is_refused_can_be_forced(screen: Any) -> None:
    async def poor(client: Client) -> None:
        await fetched(TINY)(client)
        await client.change_settings(memory_budget_bytes=1 << 20)

    async with screen("catalog", before=poor) as at:
        await go(at, TINY)
        await at.press("l")
        await at.sees("of what models may take together", "y loads it anyway")
        await at.press("n")
        await at.until(lambda: "y loads it anyway" not in at.text)
        assert not loaded(at)
        await at.press("l")
        await at.sees("y loads it anyway")
        await at.press("y")
        await at.until(lambda: loaded(at) == [TINY])


async def test_a_model_that_is_not_an_engine_s_fails_in_words(screen: Any) -> None:
    name = "deck/broken-GGUF"
    async with screen("catalog") as at:
        repository = await at.client.repository(name)
        unique = repository.variants[0].unique
        await at.client.download(unique, force=True)
        await at.until(lambda: downloaded(at, unique))
        await go(at, unique)
        await at.press("l")
        await at.until(lambda: any(m.severity == "error" for m in at.app.messages))


async def test_a_gated_repository_says_where_and_how(screen: Any, hub: DemoHub) -> None:
    async with screen("catalog") as at:
        await search(at, "gated", "deck/gated-GGUF")
        await at.sees("gated", f"{hub.url}/deck/gated-GGUF"[:30], "hf auth login")
        await at.sees("deck/gated-GGUF is gated: it")  # the planner's word on it
        catalog(at).requests.repeat_fits()
        await at.until(lambda: not [w for w in at.app.workers if w.group == "fits"])
        assert "deck/gated-GGUF is gated: it" in at.text
        await at.press("enter", "d")
        await at.until(lambda: any("gated" in m.text for m in at.app.messages))


async def test_chat_and_copy(screen: Any) -> None:
    async with screen("catalog", before=fetched(TINY)) as at:
        await go(at, TINY)
        await at.press("y")
        found = model(at)
        assert found is not None
        assert at.app.clipboard == found.path
        await at.press("t")
        await at.until(lambda: at.app.current == "chat")
        await at.press("escape", "escape")
        at.app.current = "catalog"
        await at.pilot.pause()
        await at.press("g", "G", "y")
        last = catalog(at).table.cursor_item
        assert isinstance(last, Model)
        assert at.app.clipboard == last.unique
        await at.press("t")
        await at.sees("is not downloaded")
        assert at.app.current == "catalog"


async def test_the_same_verbs_say_why_they_cannot(screen: Any) -> None:
    async with screen("catalog") as at:
        await at.press("g")
        for key, words in (
            ("l", "is not downloaded"),
            ("u", "is not loaded"),
            ("c", "is not being downloaded"),
            ("e", "is not a custom model"),
            ("D", "is not a custom model"),
            ("x", "no files in the cache"),
        ):
            await at.press(key)
            await at.sees(words)


async def test_deleting_what_is_loaded_says_so_first(screen: Any) -> None:
    async with screen("catalog", before=fetched(TINY)) as at:
        await at.client.loaded(TINY, LoadOptions(context_length=256))
        await go(at, TINY)
        await at.until(lambda: bool(loaded(at)))
        await at.press("x")
        await at.sees("In use:", "y deletes them")
        await at.press("y")
        await at.until(lambda: not downloaded(at) and not loaded(at))


async def test_the_pane_tells_of_a_download_that_failed(screen: Any) -> None:
    async with screen("catalog") as at:
        repository = await at.client.repository("deck/corrupt-GGUF")
        unique = repository.variants[0].unique
        await at.client.download(unique)
        await at.until(lambda: any(j.state == "failed" for j in at.state.downloads.values()))
        await go(at, unique)
        await at.sees("failed", "corrupt-GGUF")
        await at.until(lambda: any("failed" in m.text for m in at.app.messages))
