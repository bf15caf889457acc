import math
from dataclasses import fields
from typing import Any, cast

import pytest

from modeldeck.core.config.load_options import LIMITS as LOAD
from modeldeck.core.config.load_options import check as check_load
from modeldeck.core.errors import InvalidRequest
from modeldeck.core.runtime.request_limits import GENERATE, check_request, check_text
from modeldeck.core.schema import GenerateRequest, LoadOptions


@pytest.mark.parametrize("name", LOAD)
def test_load_options_are_taken_up_to_their_limits_and_not_beyond(name: str) -> None:
    low, high = LOAD[name]
    for value in (low, high):
        check_load(LoadOptions(**{name: cast(Any, value)}))
    for value in (low - 1, high + 1, math.nan, math.inf):
        with pytest.raises(InvalidRequest, match=name):
            check_load(LoadOptions(**{name: cast(Any, value)}))


@pytest.mark.parametrize("name", GENERATE)
def test_numbers_of_a_request_are_taken_up_to_their_limits_and_not_beyond(name: str) -> None:
    low, high = GENERATE[name]
    for value in (low, high):
        check_request(GenerateRequest(prompt="x", **{name: cast(Any, value)}))
    for value in (low - 1, high * 2 + 1, math.nan, -math.inf):
        with pytest.raises(InvalidRequest, match=name):
            check_request(GenerateRequest(prompt="x", **{name: cast(Any, value)}))


@pytest.mark.parametrize("record", [LoadOptions, GenerateRequest])
def test_every_number_has_its_limits(record: Any) -> None:
    numbers = {f.name for f in fields(record) if f.type in ("int | None", "float | None")}
    assert numbers == set(LOAD if record is LoadOptions else GENERATE)


@pytest.mark.parametrize(
    "request_",
    [
        GenerateRequest(),
        GenerateRequest(prompt=""),
        GenerateRequest(prompt="x", stop=("",)),
        GenerateRequest(prompt="x", stop=("a" * 1025,)),
        GenerateRequest(prompt="x", stop=("a",) * 17),
    ],
)
def test_what_cannot_be_answered_is_refused(request_: GenerateRequest) -> None:
    with pytest.raises(InvalidRequest):
        check_request(request_)


def test_a_quantized_cache_needs_flash_attention() -> None:
    check_load(LoadOptions(kv_cache_type="q8_0"))
    check_load(LoadOptions(kv_cache_type="f16", flash_attention=False))
    with pytest.raises(InvalidRequest, match="flash attention"):
        check_load(LoadOptions(kv_cache_type="q8_0", flash_attention=False))


def test_an_empty_text_is_not_embedded() -> None:
    check_text(" ")
    with pytest.raises(InvalidRequest):
        check_text("")
