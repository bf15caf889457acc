import doctest
from pathlib import Path
from typing import Any

import pytest

from modeldeck.core.catalog import builtin
from modeldeck.core.config.config import Config, RuntimeSettings
from modeldeck.core.config.load_options import LayeredOptions, given
from modeldeck.core.errors import InvalidRequest
from modeldeck.core.schema import LoadOptions, Model, OptionOrigin, model_id
from modeldeck.core.service.loading import options
from modeldeck.core.service.loading.options import OptionResolver, settle
from modeldeck.core.storage.database import Database

UNIQUE = "Owner/Model-GGUF:Q4_K_M"
MODEL = Model(
    id=model_id(UNIQUE),
    unique=UNIQUE,
    name="Model",
    format="gguf",
    source="hub",
    repo="Owner/Model-GGUF",
)


async def opened(tmp_path: Path, config: Config) -> tuple[OptionResolver, Database]:
    store = Database(tmp_path / "state.db")
    await store.open()
    found = OptionResolver(config, store)
    await found.open()
    return found, store


async def test_every_origin_is_laid_over_the_one_before_it(tmp_path: Path) -> None:
    config = Config(
        runtime=RuntimeSettings(context_length=4096, idle_ttl_s=60),
        models={
            "owner/model-gguf": LoadOptions(threads=1, mmap=False),
            "owner/model-gguf:q4_k_m": LoadOptions(threads=2),
            "owner/model-gguf:Q8_0": LoadOptions(threads=3),
        },
    )
    known, store = await opened(tmp_path, config)
    await known.remember(MODEL.id, LoadOptions(gpu_layers=7, batch_size=64, pinned=True))
    found = known.resolve(MODEL, LoadOptions(batch_size=32))
    assert given(found.options) == {
        "context_length": 4096,
        "context_fit": True,
        "parallel": 4,
        "gpu_layers": 7,
        "threads": 2,
        "batch_size": 32,
        "mmap": False,
        "idle_ttl_s": 60,
    }
    assert found.origins == {
        "context_length": "config",
        "context_fit": "config",
        "parallel": "default",
        "gpu_layers": "last use",
        "threads": "model config",
        "batch_size": "request",
        "mmap": "model config",
        "idle_ttl_s": "config",
    }
    assert "gpu_layers" not in known.resolve(MODEL, LoadOptions(), fresh=True).origins
    await store.close()


async def test_the_last_use_is_remembered_over_a_restart_and_grows(tmp_path: Path) -> None:
    known, store = await opened(tmp_path, Config())
    await known.remember(MODEL.id, LoadOptions(context_length=512))
    await known.remember(MODEL.id, LoadOptions(threads=1))
    await store.close()
    again, store = await opened(tmp_path, Config())
    found = again.resolve(MODEL, LoadOptions())
    assert (found.options.context_length, found.options.threads) == (512, 1)
    assert found.options.context_fit is None, "512 was asked for, not less"
    await again.remember(MODEL.id, LoadOptions(context_fit=True))
    found = again.resolve(MODEL, LoadOptions())
    assert (found.options.context_length, found.options.context_fit) == (None, True)
    await again.remember(MODEL.id, LoadOptions(), fresh=True)
    assert again.resolve(MODEL, LoadOptions()).origins == {
        "context_length": "default",
        "context_fit": "default",
        "parallel": "default",
        "idle_ttl_s": "default",
    }
    await store.close()
    last, store = await opened(tmp_path, Config())
    assert last.resolve(MODEL, LoadOptions()).options.threads is None
    await store.close()


async def test_the_catalog_says_what_suits_its_models(tmp_path: Path) -> None:
    known, store = await opened(tmp_path, Config())
    models = {model.name: model for model in builtin.load()}
    embedding = next(m for m in models.values() if "embedding" in m.usage and m.format == "gguf")
    found = known.resolve(embedding, LoadOptions())
    assert (found.options.embedding, found.origins["embedding"]) == (True, "catalog")
    thinking = next(m for m in models.values() if m.name.startswith("SmolLM3 3B Q"))
    found = known.resolve(thinking, LoadOptions())
    assert (found.options.context_length, found.options.context_fit) == (16384, True)
    assert found.origins["context_length"] == "catalog"
    await store.close()


@pytest.mark.parametrize("runtime", [RuntimeSettings(context_fit=False), RuntimeSettings()])
async def test_the_configuration_may_want_no_less(tmp_path: Path, runtime: RuntimeSettings) -> None:
    known, store = await opened(tmp_path, Config(runtime=runtime))
    found = settle(known.resolve(MODEL, LoadOptions()), 100_000).options
    assert (found.context_length, bool(found.context_fit)) == (8192, runtime.context_fit)
    await store.close()


@pytest.mark.parametrize(
    ("options", "origin", "trained", "length", "says"),
    [
        ({"context_length": 8192}, "default", 2048, 2048, "model"),
        ({"context_length": 8192}, "config", 2048, 2048, "model"),
        ({"context_length": 8192}, "catalog", None, 8192, "catalog"),
        # The request gets the model that it asked for, and a warning.
        ({"context_length": 8192}, "request", 2048, 8192, "request"),
        ({"context_length": 8192}, "model config", 2048, 8192, "model config"),
        ({"context_length": 8192}, "last use", 2048, 8192, "last use"),
        # What is to fit is never above what the model was trained for.
        ({"context_length": 8192, "context_fit": True}, "request", 2048, 2048, "model"),
        ({"context_fit": True}, "request", 2048, 2048, "model"),
        ({"context_fit": True}, "request", None, 8192, "default"),
        ({}, "request", 2048, 2048, "model"),
    ],
)
def test_the_context_length_is_settled(
    options: dict[str, Any], origin: OptionOrigin, trained: int | None, length: int, says: str
) -> None:
    resolved = LayeredOptions(
        options=LoadOptions(**options), origins=dict.fromkeys(options, origin)
    )
    found = settle(resolved, trained)
    assert found.options.context_length == length
    assert found.origins["context_length"] == says


@pytest.mark.parametrize(
    ("options", "origins", "parallel", "says"),
    [
        ({"parallel": 4}, {"parallel": "default"}, 4, "default"),
        ({"parallel": 4, "embedding": True}, {"parallel": "default"}, None, None),
        ({"parallel": 8, "embedding": True}, {"parallel": "request"}, None, None),
    ],
)
def test_requests_at_once_are_settled(
    options: dict[str, Any],
    origins: dict[str, OptionOrigin],
    parallel: int | None,
    says: str | None,
) -> None:
    found = settle(LayeredOptions(options=LoadOptions(**options), origins=origins), 2048)
    assert found.options.parallel == parallel
    assert found.origins.get("parallel") == says


def test_one_request_cannot_reach_further_than_the_cells_of_all() -> None:
    layers = LayeredOptions(
        options=LoadOptions(context_fit=True, cache_tokens=4096),
        origins={"context_fit": "request", "cache_tokens": "last use"},
    )
    found = settle(layers, 40_960)
    assert (found.options.context_length, found.origins["context_length"]) == (4096, "last use")


async def test_what_is_requested_is_checked_before_it_is_laid_over_the_rest(tmp_path: Path) -> None:
    known, store = await opened(tmp_path, Config(runtime=RuntimeSettings(parallel=2)))
    found = known.resolve(MODEL, LoadOptions())
    assert (found.options.parallel, found.origins["parallel"]) == (2, "config")
    with pytest.raises(InvalidRequest, match="cache_tokens 256 is less than the 512"):
        known.resolve(MODEL, LoadOptions(context_length=512, cache_tokens=256))
    await store.close()


def test_the_worked_example_holds() -> None:
    result = doctest.testmod(options)
    assert result.attempted
    assert not result.failed
