import doctest
from dataclasses import replace

import pytest

from modeldeck.core.schema import (
    Eviction,
    Forecast,
    Instance,
    InstanceState,
    LoadAlternative,
    LoadOptions,
    Model,
    RepoFile,
    Variant,
)
from modeldeck.core.service.loading import alternatives, instance_memory
from modeldeck.core.service.loading.alternatives import largest, remedy, smaller
from modeldeck.core.service.loading.instance_memory import candidate, yet_to_take

GIB = 1 << 30


@pytest.mark.parametrize(
    ("least", "most", "room", "found"),
    [
        (2048, 8192, 100_000, 8192),
        (2048, 8192, 8192, 8192),
        (2048, 8192, 8191, 7936),
        (2048, 8192, 5000, 4864),
        (2048, 8192, 2048, 2048),
        (2048, 8192, 2047, None),
        (512, 1000, 999, 768),
        (300, 1000, 400, 300),
        (512, 512, 511, None),
        (1000, 1000, 1000, 1000),
    ],
)
async def test_the_largest_context_with_room_is_found_in_few_steps(
    least: int, most: int, room: int, found: int | None
) -> None:
    asked: list[int] = []

    async def has_room(length: int) -> bool:
        asked.append(length)
        return length <= room

    assert await largest(least, most, has_room) == found
    assert len(asked) == len(set(asked)) <= 8
    assert found is None or found in asked, "what is chosen was planned"


def variant(label: str, size: int) -> Variant:
    return Variant(
        unique=f"a/b:{label}",
        label=label,
        format="gguf",
        quantization=label,
        files=(),
        size_bytes=size,
    )


def test_smaller_variants_come_with_the_largest_first() -> None:
    model = Model(
        id="m", unique="a/b:Q6_K", name="m", format="gguf", source="hub", size_bytes=6 * GIB
    )
    known = [variant(f"Q{n}_K", n * GIB) for n in (2, 8, 4, 6)]
    assert [v.label for v in smaller(known, model)] == ["Q4_K", "Q2_K"]


def test_the_remedy_names_what_would_do() -> None:
    found = LoadAlternative(
        what="context 4096", unique="u", context_length=4096, total_bytes=5 * GIB, exact=True
    )
    other = Eviction(instance_id="i", unique="a/b", bytes=2 * GIB)
    assert remedy([found], [other], may_unload=False) == (
        "Try context 4096 (5.0 GiB) or unloading a/b (2.0 GiB; make_room does it),"
        " or load it anyway with force."
    )
    assert "unloading" not in remedy([found], [other], may_unload=True)


def forecast(total: int, gpu: int | None = 0) -> Forecast:
    return Forecast(
        total_bytes=total,
        weights_bytes=total,
        kv_bytes=0,
        compute_bytes=0,
        overhead_bytes=0,
        exact=True,
        gpu_bytes=gpu,
    )


@pytest.mark.parametrize(
    ("measured", "mapped", "expected", "still", "holds"),
    [
        # Mapped weights count as free for the system, and are needed all the same.
        (70, 60, forecast(100), 90, 100),
        # Weights that were read are its own; what is left is what a long prompt fills.
        (80, 0, forecast(100), 20, 100),
        (130, 0, forecast(100), 0, 130),
        (70, 60, None, 60, 70),
        (None, None, forecast(100), 100, 100),
        # On the GPU it takes none of this memory.
        (30, 0, forecast(100, gpu=80), 0, 30),
        # Where its share of the GPU is not known, only what is measured counts.
        (30, 5, forecast(100, gpu=None), 5, 30),
    ],
)
def test_what_a_loaded_model_will_take_is_not_free(
    measured: int | None, mapped: int | None, expected: Forecast | None, still: int, holds: int
) -> None:
    instance = Instance(
        id="i",
        model_id="m",
        unique="u",
        state=InstanceState.READY,
        engine="llama.cpp",
        idle_s=3,
        measured_bytes=measured,
        mapped_bytes=mapped,
        forecast=expected,
        options=LoadOptions(pinned=True),
    )
    assert yet_to_take(instance) == still
    found = candidate(instance)
    assert found.holds["memory"] == holds
    assert found.holds["gpu"] == ((expected.gpu_bytes or 0) if expected else 0)
    assert (found.idle_s, found.pinned) == (3, True)


async def test_fewer_at_once_and_fewer_cells_are_suggested_first() -> None:
    async def plan(options: LoadOptions) -> Forecast:
        return forecast((options.parallel or 1) * 100 + (options.cache_tokens or 0))

    model = Model(id="m", unique="a/b", name="m", format="gguf", source="custom")
    options = LoadOptions(
        context_length=512, parallel=8, cache_tokens=2048, kv_cache_type="q8_0", embedding=False
    )

    class NoSiblings:
        async def siblings(self, model: Model) -> list[Variant]:
            return []

    finder = alternatives.AlternativeFinder(NoSiblings())  # type: ignore[arg-type] # only this is asked

    async def found(room: int) -> list[str]:
        whole = await plan(options)
        kinds = await finder.find(model, whole, options, plan, lambda n: n.total_bytes <= room)
        return [kind.what for kind in kinds]

    assert await found(2448) == ["parallel 4", "cache_tokens 1536"]
    assert await found(2300) == ["parallel 2", "cache_tokens 1280"]
    assert await found(1312) == ["cache_tokens 512"]


async def test_text_only_is_suggested_where_it_fits() -> None:
    projector = RepoFile(path="mmproj.gguf", size_bytes=30, blob="m")

    async def plan(options: LoadOptions) -> Forecast:
        seeing = 0 if options.vision is False else 40
        whole = 100 + (options.context_length or 0)
        return replace(forecast(whole + seeing), weights_bytes=100, projector_bytes=seeing)

    class Siblings:
        async def siblings(self, model: Model) -> list[Variant]:
            files = (RepoFile(path="q2.gguf", size_bytes=60, blob="q"), projector)
            small = replace(variant("Q2", 90), files=files, projector=projector.path)
            return [small]

    model = Model(id="m", unique="a/b", name="m", format="gguf", source="hub", size_bytes=130)
    options = LoadOptions(context_length=512, embedding=False, kv_cache_type="q8_0")
    finder = alternatives.AlternativeFinder(Siblings())  # type: ignore[arg-type] # only this is asked

    async def found(room: int, wanted: LoadOptions = options) -> list[tuple[str, int]]:
        whole = await plan(wanted)
        kinds = await finder.find(model, whole, wanted, plan, lambda n: n.total_bytes <= room)
        return [(kind.what, kind.total_bytes) for kind in kinds]

    assert await found(640) == [("vision off", 612), ("Q2", 612)]
    assert await found(611) == []
    assert await found(580, replace(options, vision=False)) == [("Q2", 572)]


def test_a_prefix_cache_may_still_grow() -> None:
    planned = Forecast(
        total_bytes=100, weights_bytes=60, kv_bytes=20, compute_bytes=10, overhead_bytes=10,
        exact=True, prefix_cache_bytes=50,
    )  # fmt: skip
    instance = Instance(
        id="i", model_id="m", unique="u", state=InstanceState.READY, engine="llama.cpp",
        measured_bytes=110, mapped_bytes=0, forecast=planned,
    )  # fmt: skip
    assert yet_to_take(instance) == 40
    assert candidate(instance).holds == {"memory": 150, "gpu": 0, "budget": 150}


def test_the_worked_examples_hold() -> None:
    for module in (alternatives, instance_memory):
        result = doctest.testmod(module)
        assert result.attempted
        assert not result.failed
