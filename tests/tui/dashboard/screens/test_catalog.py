"""Every verb of the catalog, against a real core, hub and llama.cpp."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from modeldeck.core.client.client import Client
from modeldeck.core.demo.hub import DemoHub
from modeldeck.core.schema import LoadOptions, Model
from modeldeck.tui.dashboard.screens.catalog.rows import Show
from modeldeck.tui.dashboard.screens.catalog.screen import CatalogView
from tests.support.process import CoreProcess
from tests.tui.dashboard.screens.steps import (
    F16,
    PADDED,
    SLOW,
    SPLIT,
    TINY,
    catalog,
    downloaded,
    fetched,
    go,
    loaded,
    model,
    row,
    search,
)


async def test_find_choose_download_load_unload_and_delete(screen: Any) -> None:
    async with screen("catalog") as at:
        await search(at, "tiny", "deck/tiny-GGUF")
        await at.press("d")
        await at.sees("deck/tiny-GGUF has 2 variants: choose one, then d.", "F16", "Q8_0")
        await at.until(lambda: catalog(at).detail.table.has_focus)
        await at.sees("Q8_0", "F16", "exact: asked llama.cpp")
        await at.press("d")
        await at.until(lambda: downloaded(at))
        await at.told("tiny downloaded:")
        await at.press("l")
        await at.until(lambda: loaded(at) == [TINY])
        await at.told("is ready:")
        await at.sees("1 loaded")
        await at.press("escape", "escape", "escape")
        await go(at, TINY)
        await at.sees("tiny", "loaded")
        await at.press("u")
        await at.until(lambda: not loaded(at))
        await at.sees("✓ Unloaded tiny: ", " freed in ")
        await at.press("x")
        await at.sees("Delete the files of tiny", "come back.", "y delete 1.9 MB")
        await at.press("n")
        assert downloaded(at)
        await at.press("x")
        await at.sees("y delete 1.9 MB")
        await at.press("y")
        await at.until(lambda: not downloaded(at))
        await at.sees("Deleted tiny")


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


async def test_what_a_key_began_is_done_before_the_next_test(
    screen: Any, hub: DemoHub, core: CoreProcess
) -> None:
    async with screen("catalog") as at:
        await search(at, "split", "deck/tiny-split-GGUF")
        await at.finished()
        hub.latency_s = 0.5
        at.type("d")
    async with Client(socket=core.socket) as client:
        found = await client.state()
        assert SPLIT in {model.unique for model in found.models.values()}


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
        await at.press("l")
        await at.sees("! padded is still being downloaded. c cancels it.")
        assert at.app.parts.messages.list.unseen == 0, "who does not wait is told: nothing failed"
        await at.press("c")
        await at.sees("Cancelled padded.", "kept: d resumes.")
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
        await at.sees("◆ 2 marked", f"2 of {len(at.state.models)}")
        await at.press("l")
        await at.until(lambda: sorted(loaded(at)) == [F16, TINY])
        await at.until(lambda: not catalog(at).table.marks)
        await at.press("g", "space", "space", "u")
        await at.until(lambda: not loaded(at) and not catalog(at).table.marks)
        await at.press("g", "space", "space", "x")
        await at.sees("Delete the files of 2 marked models", "y delete")
        await at.press("y")
        await at.until(lambda: not downloaded(at) and not downloaded(at, F16))
        await at.sees("Deleted 2 models")
        assert "◆" not in at.text.split("\n")[1]


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


async def test_the_fit_follows_the_context_length(screen: Any) -> None:
    async with screen("catalog", before=fetched(TINY)) as at:
        await go(at, TINY)
        await at.sees("[ 4096 ]", "max 4k", "exact: asked llama.cpp", "KV cache")

        def kv_bytes() -> int:
            fit = catalog(at).requests.results.fits.get(catalog(at).table.cursor_key or "")
            return fit.forecast.kv_bytes if fit and fit.forecast and fit.exact else 0

        before = kv_bytes()
        await at.press("right")  # it was trained for no more
        await at.press("left")
        await at.sees("[ 2048 ]")
        await at.until(lambda: 2 * kv_bytes() == before)
        await at.press("l")
        await at.until(lambda: loaded(at) == [TINY])
        (instance,) = at.state.instances.values()
        assert instance.context_length == 2048
        await at.press("l")
        await at.sees("is loaded already (2k). L reloads it with other options.")
        assert list(at.state.instances) == [instance.id]


async def test_a_load_that_is_refused_can_be_forced(screen: Any) -> None:
    async def poor(client: Client) -> None:
        await fetched(TINY)(client)
        await client.change_settings(memory_budget_bytes=1 << 20)

    async with screen("catalog", before=poor) as at:
        await go(at, TINY)
        await at.press("l")
        await at.sees("of what models may take together", "y load it anyway")
        await at.press("n")
        await at.until(lambda: "y load it anyway" not in at.text)
        assert not loaded(at)
        await at.press("l")
        await at.sees("y load it anyway")
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
        await search(at, "deck/gated", "deck/gated-GGUF")
        await at.sees("gated", f"{hub.url}/deck/gated-GGUF"[:30], "hf auth login")
        await at.sees("deck/gated-GGUF is gated: it")  # the planner's word on it
        catalog(at).requests.repeat_fits()
        await at.until(lambda: not [w for w in at.app.workers if w.group == "fits"])
        assert "deck/gated-GGUF is gated: it" in at.text
        await at.press("enter", "d")
        await at.until(lambda: any("gated" in m.text for m in at.app.messages))


async def test_fits_are_asked_again_once_it_is_known_what_engines_take(
    screen: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with screen("catalog") as at:
        await at.until(lambda: bool(at.state.runtimes))  # probed after the first State
        requests, state = catalog(at).requests, at.state
        asked: list[str] = []
        monkeypatch.setattr(CatalogView, "background", lambda *_, group, **__: asked.append(group))
        requests.update_fits(state, frozenset("a"))
        requests.update_fits(state, frozenset("a"))
        assert asked == ["fits"]
        engine = replace(state.runtimes[0], overhead_bytes=1)
        requests.update_fits(replace(state, runtimes=(engine,)), frozenset("a"))
        assert asked == ["fits", "fits"]


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
            ("e", "Only models you added can be edited"),
            ("D", "Only models you added can be edited"),
            ("x", "No files of"),
        ):
            await at.press(key)
            await at.sees(words)
        assert at.app.parts.messages.list.unseen == 0, "nothing failed"
        assert "✗" not in at.text


async def test_deleting_what_is_loaded_says_so_first(screen: Any) -> None:
    async with screen("catalog", before=fetched(TINY)) as at:
        await at.client.loaded(TINY, LoadOptions(context_length=256))
        await go(at, TINY)
        await at.until(lambda: bool(loaded(at)))
        await at.press("x")
        await at.sees("is loaded: it is unloaded first.", "y delete")
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
