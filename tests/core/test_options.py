import doctest
from typing import Any

import pytest

from core import options
from core.errors import InvalidRequest
from core.options import check, from_table, resolve, to_remember
from core.schema import LoadOptions, Lora, OptionOrigin


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
    assert options.given(found.options) == values
    assert found.origins == origins


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"kv_cache_type": "q8_0", "flash_attention": False}, "flash attention"),
        ({"threads": 513}, "threads must be from 1 to 512, not 513"),
        ({"draft_tokens": 0}, "draft_tokens must be from 1 to 64"),
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
    result = doctest.testmod(options)
    assert result.attempted
    assert not result.failed
