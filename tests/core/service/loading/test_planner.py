"""What a load would do: with real engines, real files, and a budget that makes memory short."""

import asyncio
import re
import shutil
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from modeldeck.core.config.config import Config, HubSettings, RuntimeSettings
from modeldeck.core.config.paths import locate
from modeldeck.core.demo.hub import DemoHub
from modeldeck.core.errors import (
    InvalidRequest,
    NotDownloaded,
    NotEnoughMemory,
)
from modeldeck.core.schema import (
    LoadOptions,
    LoadWish,
    Requester,
    UnloadReceipt,
)
from modeldeck.core.service.deck import Deck
from tests.core.service.loading.planned import (
    ME,
    added,
    budget,
    deck,
    loaded,
    needs,
    opened,
    planned,
    spoiled,
    tiny,
)
from tests.support.bench import PATIENCE_S, about
from tests.support.projectors import write_seeing_model

__all__ = ["deck", "tiny"]


async def test_a_plan_tells_all_and_changes_nothing(deck: Deck, tiny: Path) -> None:
    model = await added(deck, tiny)
    plan = await planned(deck, model, threads=1)
    assert (plan.verdict, plan.engine, plan.refusal) == ("fits", "llama.cpp", None)
    assert (plan.options.context_length, plan.options.threads) == (4096, 1)
    assert plan.origins == {
        "context_length": "model",
        "parallel": "default",
        "idle_ttl_s": "default",
        "threads": "request",
    }
    assert plan.options.parallel == 4
    assert plan.forecast is not None
    assert (plan.forecast.exact, plan.forecast.samples) == (True, 0)
    assert plan.available_bytes is not None
    assert plan.reserve_bytes == 1 << 30
    assert plan.warnings == plan.notes == ()
    assert plan.evictions == ()
    assert not deck.state.instances
    again = await planned(deck, model)
    assert again.origins.keys() == {"context_length", "parallel", "idle_ttl_s"}


async def test_the_largest_context_that_fits_is_taken_and_said(deck: Deck, tiny: Path) -> None:
    model = await added(deck, tiny)
    await budget(deck, await needs(deck, model, 3072))
    plan = await planned(deck, model)
    assert (plan.verdict, plan.options.context_length) == ("fits", 3072)
    assert plan.origins["context_length"] == "fit"
    note, prefix = plan.notes
    assert re.fullmatch(
        r"context 3072 chosen: the largest that fits; 4096 would need 0\.\d GiB", note
    )
    assert prefix == "the prefix cache is left out: memory is short"
    assert plan.forecast is not None
    assert plan.forecast.prefix_cache_bytes == 0
    instance = await loaded(deck, model)
    assert (instance.context_length, instance.warnings) == (3072, (note, prefix))
    assert any(note in line.text for line in deck.log())
    await deck.instances.unload(instance.id, ME)
    # Nothing but the wish is remembered: with more memory there is more context.
    await budget(deck, None)
    assert (await planned(deck, model)).options.context_length == 4096
    plan = await planned(deck, model, context_fit=True, context_length=1024)
    assert plan.options.context_length == 1024
    assert plan.notes == ("context 1024 chosen: as much as was wanted fits",)


async def test_requests_at_once_give_way_before_the_context_and_cells_cost_what_is_told(
    deck: Deck, tiny: Path
) -> None:
    model = await added(deck, tiny)
    plan = await planned(deck, model, context_length=1024)
    assert plan.forecast is not None
    assert plan.forecast.prefix_cache_bytes > 0
    assert plan.own_cells_bytes is not None
    own = await planned(deck, model, context_length=1024, cache_tokens=4096)
    assert own.forecast is not None
    more = own.forecast.total_bytes - plan.forecast.total_bytes
    assert (own.own_cells_bytes, plan.own_cells_bytes) == (None, more)
    one = await needs(deck, model, 4096, parallel=1)
    await budget(deck, one)
    plan = await planned(deck, model)
    fewer, _ = plan.notes
    assert fewer.startswith("one request at once: 4 would need")
    assert (plan.options.parallel, plan.origins["parallel"]) == (1, "fit")
    asked = await planned(deck, model, context_length=4096, parallel=4)
    assert asked.verdict == "too large"
    assert next(found.what for found in asked.alternatives) == "parallel 1"
    instance = await loaded(deck, model, context_length=4096, parallel=1)
    assert (instance.parallel, instance.cache_tokens) == (1, 4096)
    assert instance.forecast is not None
    assert instance.forecast.prefix_cache_bytes == 0


async def test_a_length_that_was_asked_for_is_not_shortened_but_refused_with_what_would_do(
    deck: Deck, tiny: Path
) -> None:
    model = await added(deck, tiny)
    enough = await needs(deck, model, 4096, kv_cache_type="q8_0")
    await budget(deck, max(enough, await needs(deck, model, 2048)))
    plan = await planned(deck, model, context_length=4096)
    assert plan.verdict == "too large"
    assert plan.refusal is not None
    assert plan.refusal.code == NotEnoughMemory.code
    assert re.search(r"needs 0\.\d GiB at context 4096; 0\.\d GiB are left", plan.refusal.message)
    cache, context = plan.alternatives
    assert (cache.what, cache.context_length) == ("kv_cache_type q8_0", 4096)
    length = context.context_length
    assert length is not None
    assert 2048 <= length < 4096
    assert (context.what, context.exact) == (f"context {length}", True)
    assert re.search(rf"context {length} \(0\.\d GiB\)", plan.refusal.remedy)
    assert "load it anyway with force" in plan.refusal.remedy
    with pytest.raises(NotEnoughMemory) as caught:
        await loaded(deck, model, context_length=4096)
    assert caught.value.remedy == plan.refusal.remedy
    # Each of them is as good as its word, and so is loading it anyway.
    for options in (
        {"context_length": length},
        {"context_length": 4096, "kv_cache_type": "q8_0"},
    ):
        assert (await planned(deck, model, **options)).verdict == "fits"
    assert (await planned(deck, model, context_length=length + 256)).verdict == "too large"
    wish = LoadWish(options=LoadOptions(context_length=4096), force=True)
    forced = await deck.instances.plan(model.id, wish)
    assert (forced.refusal, forced.notes) == (None, ("will load although it does not fit",))
    assert (await deck.instances.loaded(model.id, wish, ME)).context_length == 4096


async def test_what_not_even_a_short_context_saves_names_the_smaller_variant(
    home: Path, hub: DemoHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Config(hub=HubSettings(endpoint=hub.url), runtime=RuntimeSettings(calibrate=False))
    async with Deck(locate(), config) as deck:
        model = await deck.models.resolve("deck/tiny-GGUF:F16")
        smaller = await deck.models.resolve("deck/tiny-GGUF:Q8_0")
        await budget(deck, await needs(deck, model, 512) - (600 << 10))
        plan = await planned(deck, model, context_length=512)
        assert plan.refusal is not None
        assert plan.refusal.code == NotDownloaded.code, "which stands against it first"
        assert plan.verdict == "too large"
        (found,) = plan.alternatives
        assert (found.what, found.unique, found.exact) == ("Q8_0", smaller.unique, False)
        least = await needs(deck, smaller, 512)
        assert found.total_bytes == pytest.approx(least, abs=1 << 20)


async def test_idle_models_make_room_if_they_may_and_pinned_ones_never(
    deck: Deck, tiny: Path, demo_models: Path
) -> None:
    first, second = await added(deck, tiny), await added(deck, tiny.with_name("tiny-Q8_0.gguf"))
    # So long that an answer without an end that is not read has not ended meanwhile.
    instance = await loaded(deck, first, context_length=4096)
    await deck.refresh()
    await budget(deck, await needs(deck, second, 1024))
    options = LoadOptions(context_length=1024)
    refused = await deck.instances.plan(second.id, LoadWish(options=options))
    assert refused.refusal is not None
    assert f"unloading {first.unique}" in refused.refusal.remedy
    wish = LoadWish(options=options, make_room=True)
    plan = await deck.instances.plan(second.id, wish)
    assert (plan.verdict, plan.refusal) == ("fits after unloading", None)
    (eviction,) = plan.evictions
    assert (eviction.instance_id, eviction.unique) == (instance.id, first.unique)
    assert eviction.bytes > 0
    await deck.instances.change(instance.id, {"pinned": True}, ME)
    kept = (await deck.instances.plan(second.id, wish)).refusal
    assert kept is not None
    assert "Busy and pinned models hold" in kept.message
    await deck.instances.change(instance.id, {"pinned": False}, ME)
    async with deck.inference.answer(first, about("loop"), Requester()) as reply:
        await anext(reply.chunks)
        assert (await deck.instances.plan(second.id, wish)).verdict == "too large", "it is busy"
    async with asyncio.timeout(PATIENCE_S):
        while (await deck.instances.plan(second.id, wish)).refusal is not None:
            await deck.refresh()
    await deck.instances.loaded(second.id, wish, ME)
    assert [i.model_id for i in deck.state.instances.values()] == [second.id]


@pytest.mark.parametrize("then", ["used", "gone"])
async def test_a_model_is_not_unloaded_where_it_is_used_or_gone_when_its_turn_comes(
    home: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, then: str
) -> None:
    paths = [tiny, tiny.with_name("tiny-Q8_0.gguf"), tmp_path / "third.gguf"]
    shutil.copy(tiny, paths[2])
    wish = LoadWish(options=LoadOptions(context_length=8192), make_room=True)
    async with opened(prefix_cache_bytes=0) as deck, AsyncExitStack() as stack:
        *models, third = [await added(deck, path) for path in paths]
        # So long that an answer without an end that is not read has not ended meanwhile.
        instances = [await loaded(deck, model, context_length=4096) for model in models]
        await deck.refresh()
        await budget(deck, sum(i.forecast.total_bytes for i in instances if i.forecast))
        unload = deck._parts.engines.unload
        evictions = (await deck.instances.plan(third.id, wish)).evictions
        assert {eviction.unique for eviction in evictions} == {model.unique for model in models}
        last = next(model for model in models if model.unique == evictions[1].unique)

        async def unload_and_then(instance_id: str) -> UnloadReceipt:
            monkeypatch.setattr(deck._parts.engines, "unload", unload)
            receipt = await unload(instance_id)
            if then == "gone":
                await unload(evictions[1].instance_id)
            else:
                answer = deck.inference.answer(last, about("loop"), Requester())
                reply = await stack.enter_async_context(answer)
                await anext(reply.chunks)
            return receipt

        monkeypatch.setattr(deck._parts.engines, "unload", unload_and_then)
        if then == "gone":
            await deck.instances.loaded(third.id, wish, ME)
        else:
            with pytest.raises(NotEnoughMemory):
                await deck.instances.loaded(third.id, wish, ME)
        kept = third if then == "gone" else last
        assert [i.model_id for i in deck.state.instances.values()] == [kept.id]


async def test_the_last_use_is_remembered_when_it_was_ready_and_for_this_model(
    home: Path, tiny: Path, tmp_path: Path
) -> None:
    async with opened(context_length=1024) as deck:
        model, other = await added(deck, tiny), await added(deck, tiny.with_name("tiny-Q8_0.gguf"))
        instance = await loaded(deck, model, threads=1, pinned=True)
        await deck.instances.unload(instance.id, ME)
        bad = await spoiled(deck, tiny, tmp_path)
        with pytest.raises(Exception, match="refused the model"):
            await loaded(deck, bad, threads=2)
    async with opened(context_length=1024) as deck:
        plan = await planned(deck, model, batch_size=64)
        assert (plan.options.threads, plan.origins["threads"]) == (1, "last use")
        assert (plan.origins["context_length"], plan.origins["batch_size"]) == ("config", "request")
        assert "pinned" not in plan.origins
        assert "threads" not in (await planned(deck, model, fresh=True)).origins
        assert "threads" not in (await planned(deck, other)).origins
        assert "threads" not in (await planned(deck, bad)).origins


async def test_what_is_strange_is_warned_of_and_what_is_impossible_refused(
    deck: Deck, tiny: Path, demo_models: Path
) -> None:
    model = await added(deck, tiny)
    plan = await planned(deck, model, context_length=8192, gpu_layers=3)
    above, useless = plan.warnings
    assert "8192 is above the 4096 tokens that the model was trained for" in above
    assert "gpu_layers 3 does nothing" in useless
    assert plan.verdict == "fits"
    instance = await loaded(deck, model, context_length=8192, gpu_layers=3)
    assert instance.warnings == plan.warnings
    said = [line.text for line in deck.log(source=f"engine:{instance.id}")]
    assert above in said
    mlx = await added(deck, demo_models / "tiny-mlx")
    with pytest.raises(InvalidRequest, match=r"engine must be mlx"):
        await planned(deck, mlx, engine="llama.cpp")
    with pytest.raises(InvalidRequest, match=r"kv_cache_type must be f16, bf16, q8_0, q4_0"):
        await planned(deck, mlx, kv_cache_type="q5_0")
    assert (await planned(deck, mlx, engine="mlx")).engine == "mlx"


async def test_what_a_load_took_is_in_the_ledger_and_corrects_the_next(
    home: Path, tiny: Path
) -> None:
    async with opened() as deck:
        model = await added(deck, tiny)
        instance = await loaded(deck, model, context_length=1024)
        async with deck.inference.answer(
            model, about("count " + "bla " * 230), Requester()
        ) as reply:
            assert [chunk async for chunk in reply.chunks]
        last = deck.state.instances[instance.id]
        assert last.context_used is not None
        assert last.context_used > 900
        assert deck.state.models[model.id].last_used_at is None
        await deck.instances.unload(instance.id, ME)
        used_at = deck.state.models[model.id].last_used_at
        assert used_at is not None
    async with opened() as deck:
        (record,) = deck.instances.history()
        assert record.used_at == deck.state.models[model.id].last_used_at == used_at
        assert used_at <= record.at
        assert (record.unique, record.engine) == (model.unique, "llama.cpp")
        assert (record.architecture, record.context_length) == ("llama", 1024)
        assert record.used_tokens == last.context_used
        assert record.version
        assert record.forecast.samples == 0
        plan = await planned(deck, model, context_length=1024)
        assert plan.forecast is not None
        assert plan.forecast.samples == 1
        assert plan.forecast.total_bytes == pytest.approx(record.peak_bytes, abs=16)
        assert plan.forecast.correction_bytes == pytest.approx(
            record.peak_bytes - record.forecast.total_bytes, abs=16
        )
        fit = await deck.models.fit(model.id, 1024)
        assert fit.forecast == replace(plan.forecast, prefix_cache_bytes=0)


async def test_a_custom_model_sees_with_the_projector_beside_it(deck: Deck, tmp_path: Path) -> None:
    seeing = write_seeing_model(tmp_path, "gemma3")
    model = await added(deck, seeing.path)
    plan = await planned(deck, model, threads=1)
    assert plan.forecast is not None
    assert plan.forecast.projector_bytes > 0
    assert plan.warnings == ()
    assert (await loaded(deck, model, threads=1)).media == ("image",)
    await deck.instances.unload_all(ME)
    other = seeing.projector.with_name("mmproj-F32.gguf")
    shutil.copy(seeing.projector, other)
    await deck._parts.library.look()
    assert deck.state.models[model.id].projector is None
    plan = await planned(deck, deck.state.models[model.id], threads=1)
    assert plan.forecast is not None
    assert plan.forecast.projector_bytes == 0
    (warning,) = plan.warnings
    assert "mmproj-F16.gguf and mmproj-F32.gguf lie beside it" in warning
    assert "vision" not in deck.state.models[model.id].capabilities
