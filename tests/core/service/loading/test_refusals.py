"""Loads that are refused for what the model is, or for what is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from modeldeck.core.demo.model_writer import expected
from modeldeck.core.errors import (
    DeckError,
    EngineFailed,
    EngineMissing,
    InvalidRequest,
    NotDownloaded,
)
from modeldeck.core.schema import (
    Format,
    Model,
    ModelSeed,
    Requester,
)
from modeldeck.core.schema import Runtime as EngineRecord
from modeldeck.core.service.deck import Deck
from modeldeck.core.service.loading.planner import LoadPlanner
from tests.core.service.loading.planned import (
    ME,
    added,
    deck,
    loaded,
    planned,
    spoiled,
    tiny,
)
from tests.support.adapters import write_gguf_adapter
from tests.support.bench import about

__all__ = ["deck", "tiny"]


async def test_a_draft_model_is_one_that_is_here_and_of_the_same_kind(
    deck: Deck, tiny: Path, demo_models: Path, tmp_path: Path
) -> None:
    model, draft = await added(deck, tiny), await added(deck, tiny.with_name("tiny-Q8_0.gguf"))
    mlx = await added(deck, demo_models / "tiny-mlx")
    gone = await deck.models.create(ModelSeed(unique="deck/elsewhere:Q8_0"), ME)
    for ref, error, says in (
        ("nobody", InvalidRequest, "draft_model"),
        (mlx.id, InvalidRequest, "must be another gguf model"),
        (model.id, InvalidRequest, "must be another gguf model"),
        (gone.id, NotDownloaded, "modeldeck pull"),
    ):
        with pytest.raises(error) as caught:
            await planned(deck, model, draft_model=ref)
        assert says in str(caught.value)
    alone = await planned(deck, model, context_length=1024)
    plan = await planned(deck, model, context_length=1024, draft_model=draft.id)
    assert plan.forecast is not None
    assert alone.forecast is not None
    assert plan.forecast.weights_bytes > alone.forecast.weights_bytes
    instance = await loaded(deck, model, context_length=1024, draft_model=draft.id)
    async with deck.inference.answer(model, about("count"), Requester()) as reply:
        assert "".join([chunk.text async for chunk in reply.chunks]) == expected("count")
    assert deck.instances.of(model.id) == deck.state.instances[instance.id]


async def test_what_answers_nothing_by_itself_is_refused_before_it_is_loaded(
    deck: Deck, tmp_path: Path
) -> None:
    model = await added(deck, write_gguf_adapter(tmp_path / "lora.gguf"))
    plan = await planned(deck, model)
    assert plan.refusal is not None
    assert "It is an adapter" in plan.refusal.message
    assert "--lora" in plan.refusal.remedy
    fit = await deck.models.fit(model.id)
    assert (fit.verdict, fit.forecast) == ("refused", None)
    assert "It is an adapter" in str(fit.reason)
    with pytest.raises(EngineFailed, match="It is an adapter"):
        await loaded(deck, model)
    assert not deck.state.instances, "no process was started for it"


@pytest.mark.parametrize(
    ("format", "error", "says"),
    [("mlx", EngineMissing, "pip install"), ("gguf", NotDownloaded, "modeldeck pull")],
)
def test_an_engine_that_is_not_there_is_told_before_anything_is_fetched(
    format: Format, error: type[DeckError], says: str
) -> None:
    nothing: Any = None
    planner = LoadPlanner(
        library=nothing,
        option_resolver=nothing,
        forecaster=nothing,
        fit_checker=nothing,
        alternatives=nothing,
        instances=lambda: (),
        runtimes=lambda: (
            EngineRecord(name="mlx", why_not="Install it: pip install x", formats=("mlx",)),
            EngineRecord(name="llama.cpp", available=True, formats=("gguf",)),
        ),
        may_unload=False,
        prefix_cache_bytes=lambda: 0,
        answers=lambda key: (),
    )
    model = Model(id="1", unique="a/b", name="b", format=format, source="hub")
    missing = planner.missing(model)
    assert isinstance(missing, error)
    assert says in missing.remedy


async def test_a_file_that_cannot_be_planned_is_loaded_all_the_same_to_tell_why(
    deck: Deck, tiny: Path, tmp_path: Path
) -> None:
    model = await spoiled(deck, tiny, tmp_path)
    plan = await planned(deck, model)
    assert (plan.verdict, plan.forecast, plan.refusal) == ("unknown", None, None)
    assert "cannot be planned" in plan.warnings[0]
    for _ in range(2):
        with pytest.raises(Exception, match="refused the model"):
            await loaded(deck, model)
        (failed,) = deck.state.instances.values()
        said = [line.text for line in deck.log(source=f"engine:{failed.id}")]
        assert any(text.startswith("failed: ") for text in said)
