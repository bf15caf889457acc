"""The load form in the dashboard, with a real core and real engines."""

from __future__ import annotations

import asyncio
import os
import random
import re
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from modeldeck.core.client.client import Client
from modeldeck.core.demo.hub import DemoHub
from modeldeck.core.errors import CoreUnreachable
from modeldeck.core.schema import GenerateRequest, LoadOptions, ModelSeed
from modeldeck.tui.dashboard.screens.load_form.form import LoadForm
from modeldeck.tui.dashboard.screens.memory.screen import MemoryView
from tests.support import scripted_engine
from tests.support.adapters import write_gguf_adapter
from tests.support.process import CoreProcess
from tests.tui.conftest import PATIENCE_S
from tests.tui.dashboard.conftest import opens
from tests.tui.dashboard.screens.steps import F16, TINY, catalog, fetched, go, loaded, model

PADDED = "deck/padded-GGUF:F16"
NEVER = ("Invalid", "$.", "Mend", "Traceback", "kv_cache_type", "cache_tokens", "draft_model")
"""Words of the API and of failures, which never stand on the screen."""


def form(at: Any) -> LoadForm:
    (found,) = at.app.query(LoadForm)
    assert isinstance(found, LoadForm)
    return found


def is_open(at: Any) -> bool:
    return bool(at.app.query(LoadForm))


async def opened(at: Any, name: str = TINY) -> None:
    """Open the form for a model of the list, and wait for its forecast."""
    await go(at, name)
    await again(at)


async def again(at: Any) -> None:
    """Open the form for the model of the cursor, and wait for its forecast."""
    await at.until(lambda: not acting(at) and not is_open(at))
    await at.press("L")
    await at.until(lambda: is_open(at))
    await settled(at)


async def settled(at: Any) -> None:
    """Wait until the newest plan is drawn, and what it is compared with."""
    await at.until(lambda: is_open(at) and not form(at).facts.forecasts.stale)
    await at.until(lambda: all(w.is_finished for w in at.app.workers if w.group == "load-plan"))


def acting(at: Any) -> bool:
    """Whether what a key asked for is being done, which closes the form at its end."""
    return any(w.group == "load-form" and not w.is_finished for w in at.app.workers)


def last_line(at: Any) -> str:
    found: str = at.text.splitlines()[-1]
    return found


def with_model(**options: Any) -> Callable[[Client], Awaitable[object]]:
    """The model is downloaded, and loaded with these options."""

    async def before(client: Client) -> None:
        await fetched(TINY)(client)
        if options:
            await client.loaded(TINY, LoadOptions(**options))

    return before


async def test_it_takes_all_keys_and_leaves_with_esc_or_a_click(screen: Any) -> None:
    async with screen("catalog", before=fetched(TINY)) as at:
        await opened(at)
        assert re.match(
            r" *Load .*enter load .*ctrl\+s save as default .*esc leave$", last_line(at)
        )
        await at.press("tab", "tab")
        assert form(at).choice.at == "kv_cache_type", "the mark is on the third field"
        assert at.app.current == "catalog"
        await at.press("d", "x", "q", "2")
        assert at.app.current == "catalog", "letters and figures are the form's"
        await at.press("question_mark")
        await at.sees("Save them as the model's defaults.")
        await at.press("escape")
        await at.until(lambda: "model's defaults" not in at.text)
        assert is_open(at)
        await at.press("escape")
        await at.until(lambda: not is_open(at))
        assert "d download" in last_line(at)
        await again(at)
        await at.pilot.click("#rows", offset=(10, 6))
        await at.until(lambda: not is_open(at))
        await opened(at)
        await at.press("left")
        await at.app.run_action("app.show('downloads')")
        await at.until(lambda: not is_open(at))
        assert "Changed" not in at.text
        assert "Load" not in last_line(at)
        at.app.current = "catalog"
        await opened(at)
        assert "esc leave" in last_line(at)
        await at.app.view.remove()
        await at.until(lambda: "esc leave" not in last_line(at))


async def test_the_forecast_follows_each_change_and_is_never_blank(screen: Any) -> None:
    async with screen("catalog", before=fetched(TINY)) as at:
        await opened(at)
        await at.sees("exact: asked llama.cpp")
        total = re.compile(r"= ([\d.]+) MiB")
        before = total.search(at.text)
        assert before is not None
        await at.press("right")
        await at.sees("4k is what it was trained for")
        assert form(at).choice.chosen == {}, "more than it was trained for cannot be chosen"
        await at.press("8", "1", "9")
        assert form(at).choice.chosen == {"context_length": 819}
        await at.press("backspace", "backspace", "backspace", "left", "left")
        seen = []

        def changed() -> bool:
            found = total.search(at.text)
            seen.append(found)
            return found is not None and found[1] != before[1]

        await at.until(changed)
        assert all(seen), "there was a sum at any time"
        await at.sees("exact")
        await at.sees("Changed: context. ctrl+s keeps it for the next loads of this model.")
        # Its values wait for the next time.
        chosen = dict(form(at).choice.chosen)
        await at.press("escape")
        await at.until(lambda: not is_open(at))
        await again(at)
        assert form(at).choice.chosen == chosen


async def test_what_is_saved_is_the_default_from_then_on(screen: Any) -> None:
    async with screen("catalog", before=fetched(TINY)) as at:
        await opened(at)
        await at.press("left", "tab", "tab", "right", "ctrl+s")
        await at.sees("Saved: ", "loads with 2k context, KV q8_0.")
    async with screen("catalog") as at:
        await opened(at)
        await at.sees("saved")
        found = form(at).facts.plan
        assert found is not None
        assert found.origins["context_length"] == found.origins["kv_cache_type"] == "saved"
        assert found.options.context_length == 2048
        await at.press("escape")
        await at.until(lambda: not is_open(at))
        await at.app.run_action("forget_defaults", catalog(at))
        await at.sees("Forgot the saved load options of")
        await at.until(lambda: not at.state.settings.load_defaults)


async def test_a_loaded_model_is_reloaded_with_one_unload_and_one_load(screen: Any) -> None:
    async with screen("catalog", before=with_model(context_length=4096)) as at:
        await opened(at)
        await at.sees("Reload ", "loaded: 4k, f16", "first  unload it: frees")
        await at.press("enter")
        await at.sees("Nothing changed;", "stays loaded.")
        (first,) = at.state.instances
        await again(at)
        before = len(await at.client.audit_trail())
        await at.press("left")
        await at.sees("was 4k")
        await at.press("enter")
        await at.until(
            lambda: [i.context_length for i in at.state.instances.values() if i.load_s] == [2048]
        )
        assert list(at.state.instances) != [first]
        async with asyncio.timeout(PATIENCE_S):  # a command is noted once it was answered
            while len(trail := await at.client.audit_trail()) < before + 2:
                await at.pilot.pause()
        assert sorted(entry.action for entry in trail[: len(trail) - before]) == ["load", "unload"]
        await again(at)
        (second,) = at.state.instances
        await at.press("end", "up", "space", "enter")
        await at.until(lambda: all(i.options.pinned for i in at.state.instances.values()))
        assert list(at.state.instances) == [second], "a pin needs no reload"


@pytest.fixture
def scripted(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CoreProcess]:
    """A core of one's own, whose engine follows scripts."""
    scripted_engine.install(tmp_path, monkeypatch)
    monkeypatch.setenv("MODELDECK_RUNTIME_UNLOAD_GRACE_S", "0.1")
    with CoreProcess(dict(os.environ)) as core:
        yield core


async def test_answers_are_ended_only_after_a_question(
    scripted: CoreProcess, demo_models: Path, undebugged: None
) -> None:
    path = str(demo_models / "tiny-GGUF" / "tiny-F16.gguf")

    async def before(client: Client) -> None:
        await client.create_model(ModelSeed(unique=path, name="tiny"))
        await client.loaded(path, LoadOptions(context_length=4096))

    async with opens(scripted)("catalog", before=before) as at:
        started = asyncio.Event()

        async def answer() -> None:
            async with at.client.generate(path, GenerateRequest(prompt="endless")) as chunks:
                async for _ in chunks:
                    started.set()

        asking = asyncio.create_task(answer())
        await started.wait()
        await opened(at, path)
        await at.sees("cuts 1 answer (")
        await at.press("left", "enter")
        await at.sees("End 1 answer and reload tiny?")
        await at.press("n")
        await at.until(lambda: "End 1 answer" not in at.text)
        assert is_open(at), "the form is still there"
        assert re.match(r" *Reload ", last_line(at))
        assert not asking.done()
        await at.press("enter")
        await at.sees("End 1 answer and reload tiny?")
        await at.press("y")
        await at.until(
            lambda: [i.context_length for i in at.state.instances.values() if i.load_s] == [2048]
        )
        await asyncio.wait([asking])


async def test_what_fits_instead_is_taken_with_a_figure(
    home: Path, hub: DemoHub, undebugged: None
) -> None:
    async def poor(client: Client) -> None:
        await fetched(PADDED)(client)
        await client.change_settings(memory_budget_bytes=100 << 20)

    # A core of its own: what fits is a matter of few MiB, and a core learns from other loads.
    with CoreProcess({**os.environ, "HF_ENDPOINT": hub.url}) as core:
        async with opens(core)("catalog", before=poor) as at:
            await opened(at, PADDED)
            await at.press("right")
            await at.sees("What fits instead", "over by ", "load it anyway", "It does not fit:")
            assert re.search(r"1-\d take", last_line(at))
            await at.press("1")
            await at.until(lambda: "What fits instead" not in at.text)
            await settled(at)
            await at.press("enter")
            await at.until(lambda: loaded(at) == [PADDED])


async def test_what_does_not_fit_can_be_loaded_anyway(screen: Any) -> None:
    async def poor(client: Client) -> None:
        await fetched(TINY)(client)
        await client.change_settings(memory_budget_bytes=1 << 20)

    async with screen("catalog", size=(80, 24), before=poor) as at:
        await opened(at)
        await at.sees("load it anyway")
        await at.press("up", "up", "down", "down", "down", "down", "down", "enter")
        await at.until(lambda: loaded(at) == [TINY])


async def test_a_model_that_is_not_here_has_a_forecast_and_says_what_to_do(screen: Any) -> None:
    async with screen("catalog") as at:
        await at.client.repository("deck/tiny-GGUF")
        await at.press("slash")
        await at.write("tiny")
        await at.until(lambda: catalog(at).table.move_to("hub:deck/tiny-GGUF"))
        await at.press("enter", "enter")
        await at.until(lambda: len(catalog(at).detail.table.items) > 1)
        await again(at)
        await at.sees("exact: asked llama.cpp")
        await at.press("enter")
        await at.sees("is not downloaded: d downloads it.")
        assert is_open(at)


async def test_marked_models_share_a_form(screen: Any) -> None:
    async with screen("catalog", before=fetched(TINY, F16)) as at:
        for name in (TINY, F16):
            await go(at, name)
            await at.press("space")
        await again(at)
        await at.sees("Load 2 models with", "each with these options")
        assert "draft model" not in at.text
        await at.press("left", "left", "enter")
        await at.until(lambda: sorted(loaded(at)) == sorted([TINY, F16]))
        assert {i.context_length for i in at.state.instances.values()} == {1024}


async def test_an_adapter_is_asked_for_and_a_wrong_path_stays_with_its_reason(
    screen: Any, tmp_path: Any
) -> None:
    adapter = tmp_path / "french.gguf"
    write_gguf_adapter(adapter)
    async with screen("catalog", before=fetched(TINY)) as at:
        await opened(at)
        await at.until(lambda: "LoRA" in at.text)
        while form(at).choice.at != "loras":
            await at.press("tab")
        await at.press("enter")
        await at.sees("LoRA adapters of")
        await at.write("french.gguf")
        await at.press("enter")
        await at.sees("The whole path is needed")
        await at.press(*["backspace"] * len("french.gguf"))
        await at.write(f"{adapter}:0.5")
        await at.press("enter")
        await at.sees("french.gguf", "Changed: LoRA.")
        await settled(at)
        await at.press("tab", "enter")
        await at.until(lambda: loaded(at) == [TINY])
        (instance,) = at.state.instances.values()
        assert [(lora.path, lora.scale) for lora in instance.options.loras] == [(str(adapter), 0.5)]


@pytest.mark.parametrize("size", [(120, 40), (60, 15)])
async def test_memory_opens_it_for_the_instance(screen: Any, size: tuple[int, int]) -> None:
    async with screen("memory", size=size, before=with_model(context_length=4096)) as at:
        await at.until(lambda: at.app.query_one(MemoryView).table.cursor_item is not None)
        await again(at)
        await at.sees("Reload ", "MiB")
        await at.press("left", "enter")
        await at.until(
            lambda: [i.context_length for i in at.state.instances.values() if i.load_s] == [2048]
        )
        assert not is_open(at)
        assert at.app.current == "memory"


async def test_keys_typed_at_random_end_nothing_and_show_no_words_of_the_api(screen: Any) -> None:
    keys = "tab shift+tab up down left right space backspace home end f 0 1 2 5 9 k m x ctrl+s"
    async with screen("catalog", size=(80, 24), before=fetched(TINY, PADDED)) as at:
        await at.client.change_settings(memory_budget_bytes=70 << 20)
        for seed in range(3):
            chance = random.Random(seed)
            await opened(at, (TINY, PADDED)[seed % 2])
            for key in chance.choices(keys.split(), k=40):
                if not is_open(at):  # it was loaded anyway, or another model was taken
                    await at.press("escape")
                    await opened(at, (TINY, PADDED)[seed % 2])
                await at.press(key)
                await at.until(lambda: at.app.question is not None or not acting(at))
                assert not [word for word in NEVER if word in at.text], at.text
            if not is_open(at):
                await at.press("escape")
                await opened(at)
            await settled(at)
            assert not [word for word in NEVER if word in at.text], at.text
            await at.press("escape")
            await at.until(lambda: not is_open(at))
        await at.until(lambda: not at.is_working)


async def test_a_core_that_is_away_is_said_and_the_fields_stay(screen: Any) -> None:
    async with screen("catalog", before=fetched(TINY)) as at:
        await opened(at)
        assert model(at) is not None

        async def away(*_: object, **__: object) -> None:
            raise CoreUnreachable("It is away.")

        at.app.link.client.plan_load = away
        total = next(line for line in at.text.splitlines() if "= " in line and "MiB" in line)
        await at.press("left")
        await at.until(lambda: form(at).facts.forecasts.failure)
        assert total.split("fits")[0].strip()[-20:] in at.text, "the old figures stay"
        await at.press("enter")
        await at.sees("The core does not answer.")
