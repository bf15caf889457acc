import doctest
from typing import Any

import pytest

from modeldeck.core.config import load_options
from modeldeck.core.config.load_options import (
    ModelTraits,
    check,
    from_table,
    resolve,
    suit,
    to_remember,
)
from modeldeck.core.errors import InvalidRequest
from modeldeck.core.schema import Engine, KvCacheType, LoadOptions, Lora, OptionOrigin


def layer(origin: OptionOrigin, **given: Any) -> tuple[OptionOrigin, LoadOptions]:
    return origin, LoadOptions(**given)


DEFAULT = layer("default", context_length=8192, context_fit=True, idle_ttl_s=0.0)


@pytest.mark.parametrize(
    ("layers", "values", "origins"),
    [
        ([], {}, {}),
        (
            [DEFAULT],
            {"context_length": 8192, "context_fit": True, "idle_ttl_s": 0.0},
            {"context_length": "default", "context_fit": "default", "idle_ttl_s": "default"},
        ),
        (
            [
                layer("catalog", embedding=True, threads=1, mmap=True),
                layer("config", threads=2, mmap=False),
                layer("last use", threads=3, gpu_layers=9),
                layer("request", gpu_layers=0),
            ],
            {"embedding": True, "threads": 3, "mmap": False, "gpu_layers": 0},
            {
                "embedding": "catalog",
                "threads": "last use",
                "mmap": "config",
                "gpu_layers": "request",
            },
        ),
        # Who says a length means that length.
        (
            [DEFAULT, layer("last use", context_length=512)],
            {"context_length": 512, "idle_ttl_s": 0.0},
            {"context_length": "last use", "idle_ttl_s": "default"},
        ),
        # Who says to fit means as far as the model goes.
        (
            [DEFAULT, layer("last use", context_length=512), layer("request", context_fit=True)],
            {"context_fit": True, "idle_ttl_s": 0.0},
            {"context_fit": "request", "idle_ttl_s": "default"},
        ),
        # Both are a limit.
        (
            [DEFAULT, layer("config", context_fit=True, context_length=65536)],
            {"context_fit": True, "context_length": 65536, "idle_ttl_s": 0.0},
            {"context_fit": "config", "context_length": "config", "idle_ttl_s": "default"},
        ),
        # Not to fit leaves the length, but exactly so.
        (
            [DEFAULT, layer("request", context_fit=False)],
            {"context_length": 8192, "idle_ttl_s": 0.0},
            {"context_length": "default", "idle_ttl_s": "default"},
        ),
        (
            [DEFAULT, layer("request", context_fit=False, context_length=100)],
            {"context_length": 100, "idle_ttl_s": 0.0},
            {"context_length": "request", "idle_ttl_s": "default"},
        ),
        # The cells of the cache hold one request in full: the stronger of the two counts.
        (
            [
                layer("last use", cache_tokens=4096, context_length=1024),
                layer("request", context_length=8192),
            ],
            {"context_length": 8192},
            {"context_length": "request"},
        ),
        (
            [DEFAULT, layer("request", cache_tokens=4096)],
            {
                "context_length": 4096,
                "context_fit": True,
                "cache_tokens": 4096,
                "idle_ttl_s": 0.0,
            },
            {
                "context_length": "request",
                "context_fit": "default",
                "cache_tokens": "request",
                "idle_ttl_s": "default",
            },
        ),
        (
            [
                layer("model config", cache_tokens=8192),
                layer("request", context_length=2048, parallel=8),
            ],
            {"context_length": 2048, "cache_tokens": 8192, "parallel": 8},
            {"context_length": "request", "cache_tokens": "model config", "parallel": "request"},
        ),
        # False and 0 are something said.
        (
            [layer("config", flash_attention=True, pinned=True), layer("request", pinned=False)],
            {"flash_attention": True, "pinned": False},
            {"flash_attention": "config", "pinned": "request"},
        ),
    ],
)
def test_the_strongest_who_says_something_decides_and_is_named(
    layers: list[tuple[OptionOrigin, LoadOptions]],
    values: dict[str, Any],
    origins: dict[str, OptionOrigin],
) -> None:
    found = resolve(layers)
    assert load_options.given(found.options) == values
    assert found.origins == origins


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"kv_cache_type": "q8_0", "flash_attention": False}, "flash attention"),
        ({"threads": 513}, "threads must be from 1 to 512, not 513"),
        ({"draft_tokens": 0}, "draft_tokens must be from 1 to 64"),
        ({"parallel": 0}, "parallel must be from 1 to 16, not 0"),
        ({"parallel": 17}, "parallel must be from 1 to 16, not 17"),
        ({"cache_tokens": 8}, "cache_tokens must be from 16"),
        (
            {"context_length": 8192, "cache_tokens": 4096},
            "cache_tokens 4096 is less than the 8192 tokens",
        ),
        ({"loras": (Lora(path="a.gguf"),)}, "'a.gguf'"),
        ({"loras": (Lora(path="/a.gguf", scale=1e9),)}, "scale"),
        ({"loras": (Lora(path="/a.gguf"),) * 17}, "16"),
    ],
)
def test_what_is_impossible_is_named_with_what_is_possible(
    given: dict[str, Any], says: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check(LoadOptions(**given))
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"context": 1}, "'context'"),
        ({"context_length": "long"}, "context_length"),
        ({"kv_cache_type": "q9"}, "kv_cache_type"),
        ({"context_length": 3}, "from 16"),
    ],
)
def test_a_table_that_makes_no_sense_is_refused(table: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        from_table(table)
    assert says in str(caught.value)


def test_a_table_is_read() -> None:
    table = {"context_length": 512, "engine": "mlx", "loras": [{"path": "/x", "scale": 0.5}]}
    assert from_table(table) == LoadOptions(
        context_length=512, engine="mlx", loras=(Lora(path="/x", scale=0.5),)
    )


def test_a_pin_is_not_remembered() -> None:
    asked = LoadOptions(context_length=512, pinned=True, engine="mlx", idle_ttl_s=5)
    assert to_remember(asked) == LoadOptions(context_length=512, idle_ttl_s=5)


def test_the_worked_example_holds() -> None:
    result = doctest.testmod(load_options)
    assert result.attempted
    assert not result.failed


TRAITS = ModelTraits(context_length=2048, layers=28, key_length=64, value_length=64)


@pytest.mark.parametrize(
    ("options", "engine", "devices", "words"),
    [
        ({}, "llama.cpp", ("CPU",), []),
        ({"context_length": 2048, "gpu_layers": 0}, "llama.cpp", ("CPU",), []),
        ({"context_length": 4096}, "llama.cpp", ("CPU",), ["4096 is above the 2048"]),
        ({"context_length": 4096, "mmap": True}, "mlx", (), ["4096 is above", "no option mmap"]),
        ({"gpu_layers": -1}, "llama.cpp", ("CPU",), ["gpu_layers -1 does nothing"]),
        ({"gpu_layers": 99}, "llama.cpp", ("CPU", "GPU"), ["28 layers: gpu_layers 99"]),
        ({"gpu_layers": 29}, "llama.cpp", ("CPU", "GPU"), []),
        ({"gpu_layers": -1}, "llama.cpp", (), []),
        ({"threads": 64}, "llama.cpp", ("CPU",), ["64 threads on 8 processors"]),
        ({"context_length": 512, "parallel": 4, "cache_tokens": 2048}, "llama.cpp", (), []),
        (
            {"context_length": 512, "parallel": 4, "cache_tokens": 2049},
            "llama.cpp",
            (),
            ["4 requests of 512 tokens fill 2048"],
        ),
        ({"parallel": 4, "kv_cache_type": "q8_0"}, "mlx", (), ["q8_0 mlx answers one request"]),
        ({"parallel": 4, "draft_model": "a"}, "mlx", (), ["with a draft model mlx answers one"]),
        ({"parallel": 4, "draft_model": "a", "kv_cache_type": "q8_0"}, "llama.cpp", (), []),
    ],
)
def test_what_a_person_should_know_is_told(
    options: dict[str, Any], engine: Engine, devices: tuple[str, ...], words: list[str]
) -> None:
    found = suit(LoadOptions(**options), TRAITS, engine, devices, 8)
    assert len(found) == len(words)
    for warning, part in zip(found, words, strict=True):
        assert part in warning
    assert suit(LoadOptions(), ModelTraits(), engine, devices, 8) == ()


@pytest.mark.parametrize(
    ("kind", "engine", "key", "says"),
    [
        ("q5_1", "mlx", 64, "must be f16, bf16, q8_0, q4_0"),
        ("q8_0", "llama.cpp", 80, "keys whose length is a multiple of 32, and this model's are 80"),
    ],
)
def test_what_the_model_cannot_have_is_refused_with_what_it_can(
    kind: KvCacheType, engine: Engine, key: int, says: str
) -> None:
    options = LoadOptions(kv_cache_type=kind)
    with pytest.raises(InvalidRequest) as caught:
        suit(options, ModelTraits(key_length=key), engine, (), 8)
    assert says in str(caught.value)
    assert suit(options, ModelTraits(key_length=96), "llama.cpp", (), 8) == ()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (LoadOptions(embedding=True), "makes no embeddings"),
        (LoadOptions(loras=(Lora(path="/a"), Lora(path="/b"))), "one adapter"),
        (LoadOptions(kv_cache_type="q8_0"), "heads of a multiple of 32"),
    ],
)
def test_what_mlx_would_refuse_is_told_before_it_is_started(
    options: LoadOptions, words: str
) -> None:
    traits = ModelTraits(key_length=48)
    with pytest.raises(InvalidRequest, match=words):
        suit(options, traits, "mlx", ("CPU",), 4)
    suit(LoadOptions(kv_cache_type="q8_0"), ModelTraits(key_length=64), "mlx", ("CPU",), 4)
