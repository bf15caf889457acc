"""Loads of a model that is loaded already, and saved defaults: with real engines."""

import asyncio
import doctest
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from modeldeck.core.demo.hub import DemoHub
from modeldeck.core.errors import (
    Conflict,
    DeckError,
    InUse,
    InvalidRequest,
    LoadedAlready,
    NotEnoughMemory,
)
from modeldeck.core.schema import (
    GenerateRequest,
    Instance,
    InstanceState,
    LoadOptions,
    LoadWish,
    Model,
    Requester,
)
from modeldeck.core.service.deck import Deck
from modeldeck.core.service.loading import already_loaded, drafts
from tests.core.service.loading.planned import (
    ME,
    added,
    budget,
    deck,
    loaded,
    opened,
    planned,
    tiny,
)
from tests.support import scripted_engine
from tests.support.bench import PATIENCE_S

__all__ = ["deck", "tiny"]


def wish(*, reload: bool = False, end_answers: bool = False, **options: Any) -> LoadWish:
    return LoadWish(options=LoadOptions(**options), reload=reload, end_answers=end_answers)


async def actions(deck: Deck) -> list[str]:
    return [entry.action for entry in await deck.audit_trail(20) if entry.outcome == "done"]


def test_the_examples_of_the_docstrings() -> None:
    for module in (already_loaded, drafts):
        result = doctest.testmod(module)
        assert result.attempted
        assert not result.failed


async def test_options_of_a_loaded_model_are_done_or_refused_never_ignored(
    deck: Deck, tiny: Path
) -> None:
    model = await added(deck, tiny)
    first = await loaded(deck, model, context_length=4096, threads=1)
    for same in (
        dict[str, Any](),
        {"context_length": 4096},
        {"threads": 1, "mmap": True},
        {"parallel": 4},
    ):
        assert (await deck.instances.load(model.id, wish(**same), ME)).id == first.id
    with pytest.raises(LoadedAlready, match=r"is loaded already with 4k context\.") as refused:
        await deck.instances.load(model.id, wish(context_length=1024), ME)
    assert "reload: true" in refused.value.remedy
    plan = await planned(deck, model, context_length=1024)
    assert plan.refusal is not None
    assert (plan.refusal.code, plan.notes, plan.replaces) == (
        "loaded_already",
        ("loaded already",),
        None,
    )
    # What needs no reload is changed in place, and remembered.
    changed = await deck.instances.load(model.id, wish(idle_ttl_s=90.0, pinned=True), ME)
    assert (changed.id, changed.options.idle_ttl_s, changed.options.pinned) == (first.id, 90, True)
    assert list(deck.state.instances) == [first.id]


async def test_a_model_that_ends_while_its_options_are_compared_is_loaded(
    deck: Deck, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = await added(deck, tiny)
    first = await loaded(deck, model, context_length=512)
    planner = deck._parts.planner
    real = planner.plan

    async def slow(*given: Any, **named: Any) -> Any:
        found = await real(*given, **named)
        if first.id in deck.state.instances:
            await deck.instances.unload(first.id, ME)
        return found

    monkeypatch.setattr(planner, "plan", slow)
    second = await deck.instances.loaded(model.id, wish(idle_ttl_s=90.0), ME)
    assert second.id != first.id
    assert second.options.idle_ttl_s == 90


async def test_a_reload_is_one_unload_and_one_load_and_keeps_what_is_not_named(
    deck: Deck, tiny: Path
) -> None:
    model = await added(deck, tiny)
    first = await loaded(deck, model, context_length=4096, threads=1)
    plan = await deck.instances.plan(model.id, wish(reload=True, context_length=1024))
    assert plan.replaces is not None
    assert (plan.replaces.instance_id, plan.replaces.answers) == (first.id, ())
    assert plan.replaces.bytes > 0
    assert (plan.options.context_length, plan.options.threads) == (1024, 1)
    assert (plan.origins["context_length"], plan.origins["threads"]) == ("request", "loaded")
    before = await actions(deck)
    second = await deck.instances.loaded(model.id, wish(reload=True, context_length=1024), ME)
    assert second.id != first.id
    assert (second.context_length, second.options.threads) == (1024, 1)
    done = await actions(deck)
    assert sorted(done[: len(done) - len(before)]) == ["load", "unload"]
    assert list(deck.state.instances) == [second.id]


async def test_a_reload_ends_answers_only_where_it_may(
    home: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted_engine.install(tmp_path, monkeypatch)
    async with opened(unload_grace_s=0.1) as deck:
        model = await added(deck, tiny)
        first = await loaded(deck, model, context_length=4096)
        request, requester = GenerateRequest(prompt="endless"), Requester(origin=ME, who="laptop")
        async with deck.inference.answer(model, request, requester) as answer:
            pieces = aiter(answer.chunks)
            await anext(pieces)
            plan = await deck.instances.plan(model.id, wish(reload=True, context_length=1024))
            assert plan.replaces is not None
            assert plan.replaces.answers == ("laptop",)
            with pytest.raises(InUse, match="has 1 request for laptop"):
                await deck.instances.load(model.id, wish(reload=True, context_length=1024), ME)
            assert deck.state.instances[first.id].state is InstanceState.BUSY
            await anext(pieces)
            ending = wish(reload=True, end_answers=True, context_length=1024)
            reloading = asyncio.create_task(deck.instances.loaded(model.id, ending, ME))
            with suppress(DeckError):
                async for _ in pieces:
                    pass
            second = await reloading
        assert second.context_length == 1024
        assert [info.state for info in deck.requests.all()] == ["cut"]


async def test_a_request_that_comes_once_a_reload_was_allowed_is_not_cut(
    home: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted_engine.install(tmp_path, monkeypatch)
    async with opened(unload_grace_s=0.1) as deck:
        model = await added(deck, tiny)
        first = await loaded(deck, model, context_length=4096)
        # The loader looks before the request is there.
        monkeypatch.setattr(deck._parts.loader, "_instance_of", lambda _: first)
        monkeypatch.setattr(deck._parts.planner, "answers", lambda _: ())
        request, requester = GenerateRequest(prompt="endless"), Requester(origin=ME, who="laptop")
        async with deck.inference.answer(model, request, requester) as answer:
            pieces = aiter(answer.chunks)
            await anext(pieces)
            with pytest.raises(Conflict, match="in use"):
                await deck.instances.load(model.id, wish(reload=True, context_length=1024), ME)
            await anext(pieces)
        assert deck.state.instances[first.id].state.live


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not holds():  # noqa: ASYNC110  # several kinds of news make it true
            await asyncio.sleep(0.002)


async def test_a_model_is_loaded_again_to_the_end_also_when_the_client_that_wants_it_leaves(
    home: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted_engine.install(tmp_path, monkeypatch)
    async with opened() as deck:
        model = await added(deck, tiny)

        async def ask(length: int) -> None:
            """As a request with a longer context does."""
            longer = LoadOptions(context_length=length)
            async with deck.instances.using(model, longer, Requester(origin=ME)):
                pass

        async def reload(length: int) -> None:
            await deck.instances.loaded(model.id, wish(reload=True, context_length=length), ME)

        def ends(old: str) -> bool:
            found = deck._parts.engines.instances.get(old)
            return found is None or not found.state.live

        def is_ready(length: int) -> bool:
            all_ = [(i.state, i.context_length) for i in deck.state.instances.values()]
            return all_ == [(InstanceState.READY, length)]

        await loaded(deck, model, context_length=512)
        for length, leaving in ((1024, ask(1024)), (2048, reload(2048))):
            (before,) = deck.state.instances
            client = asyncio.create_task(leaving)
            await until(partial(ends, before))
            client.cancel()
            await asyncio.wait({client})
            assert client.cancelled()
            await until(partial(is_ready, length))


async def test_a_reload_that_does_not_fit_leaves_the_model_as_it_is(deck: Deck, tiny: Path) -> None:
    model = await added(deck, tiny)
    first = await loaded(deck, model, context_length=512)
    needed = await deck.instances.plan(model.id, wish(reload=True, context_length=2048))
    assert needed.forecast is not None
    await budget(deck, needed.forecast.total_bytes)
    with pytest.raises(NotEnoughMemory):
        await deck.instances.load(model.id, wish(reload=True, context_length=4096), ME)
    assert list(deck.state.instances) == [first.id]


async def test_saved_defaults_stand_over_the_configuration_and_a_restart(
    home: Path, tiny: Path
) -> None:
    async with opened(context_length=2048) as deck:
        model = await added(deck, tiny)
        await loaded(deck, model, context_length=512, threads=1)
        saved = await deck.instances.save_defaults(
            model.id, {"context_length": 1024, "kv_cache_type": "q8_0"}, ME
        )
        assert saved == LoadOptions(context_length=1024, kv_cache_type="q8_0")
        assert deck.state.settings.load_defaults == {model.id: saved}
        with pytest.raises(InvalidRequest):
            await deck.instances.save_defaults(model.id, {"flash_attention": False}, ME)
        assert deck.state.settings.load_defaults == {model.id: saved}
        await deck.instances.unload_all(ME)
    async with opened(context_length=2048) as deck:
        assert deck.state.settings.load_defaults == {model.id: saved}
        plan = await planned(deck, model)
        assert plan.origins["context_length"] == plan.origins["kv_cache_type"] == "saved"
        assert (plan.options.context_length, plan.options.threads) == (1024, 1)
        assert plan.origins["threads"] == "last use", "what was saved names no threads"
        assert (
            await deck.instances.save_defaults(model.id, {"kv_cache_type": None}, ME)
        ) == LoadOptions(context_length=1024)
        await deck.instances.forget_defaults(model.id, ME)
        assert deck.state.settings.load_defaults == {}
        plan = await planned(deck, model)
        assert (plan.options.context_length, plan.origins["context_length"]) == (2048, "config")


async def test_a_dry_run_tells_what_can_be_chosen(
    deck: Deck, tiny: Path, demo_models: Path, hub: DemoHub
) -> None:
    small = await added(deck, tiny)
    plan = await planned(deck, small)
    assert plan.layers is not None
    assert plan.layers > 0
    assert {"f16", "q8_0"} <= set(plan.kv_cache_types) or "q8_0" not in plan.kv_cache_types
    assert plan.drafts == ()
    other: Model = await added(deck, demo_models / "padded-GGUF" / "padded-F16.gguf")
    found = (await planned(deck, other)).drafts
    assert found == (small.unique,)
    instance: Instance = await loaded(deck, other, draft_model=found[0], context_length=512)
    assert instance.state.live, "what is offered as a draft can be loaded as one"
