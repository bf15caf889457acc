import struct
from collections.abc import Collection
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeldeck.core.errors import Corrupt, DeckError, InvalidRequest
from modeldeck.core.formats.mlx_folder import read_config
from modeldeck.core.formats.safetensors import header_end, missing_weights, read_header, read_index
from tests.support.safetensors_bytes import STALE, encoded, row, weights


def test_what_a_header_says() -> None:
    rows = {
        "__metadata__": {"format": "mlx"},
        "w": row("U32", [4, 8], 0, 128),
        "scales": row("F16", [4, 1], 128, 136),
    }
    data = weights(rows, 136)
    found = read_header(data, len(data))
    assert found is not None
    assert (found.tensor_bytes, found.elements, found.packed_elements) == (136, 36, 32)
    assert header_end(data) == len(data) - 136


def test_a_header_that_goes_on_needs_more() -> None:
    data = weights({"w": row("F16", [2], 0, 4)}, 4)
    for length in range(len(data) - 4):
        assert read_header(data[:length], len(data)) is None


@pytest.mark.parametrize(
    ("rows", "size"),
    [
        ({"w": row("F16", [2], 0, 4)}, 5),
        ({"w": row("F16", [2], 0, 4)}, 3),
        ({"w": row("F16", [2], 0, 8)}, 8),
        ({"w": row("F16", [2], 4, 0)}, 4),
        ({"w": row("F16", [-2], 0, 4)}, 4),
        ({"w": row("F17", [2], 0, 4)}, 4),
        ({"w": row("F16", [2], 0, 4), "v": row("F16", [2], 0, 4)}, 4),
        ({"w": row("F16", [2], 0, 4), "v": row("F16", [2], 8, 12)}, 12),
        ({"w": row("F16", [2], 4, 8)}, 8),
        ({"w": row("F16", [1 << 40, 1 << 40], 0, 4)}, 4),
        ({"w": {"dtype": "F16"}}, 0),
        ({"w": 1}, 0),
    ],
)
def test_a_header_that_does_not_fit_its_file_is_refused(rows: dict[str, Any], size: int) -> None:
    data = weights(rows, size)
    with pytest.raises(Corrupt):
        read_header(data, len(data))


def test_an_absurd_length_is_refused_before_it_is_read() -> None:
    with pytest.raises(Corrupt, match="claims"):
        read_header(struct.pack("<Q", 1 << 60), 1 << 61)
    with pytest.raises(Corrupt, match="claims"):
        read_header(struct.pack("<Q", 100), 50)


@given(st.binary(max_size=200))
def test_no_bytes_make_it_fail_in_another_way(noise: bytes) -> None:
    for data in (noise, struct.pack("<Q", len(noise)) + noise):
        try:
            read_header(data, len(data))
        except Corrupt:
            pass
    try:
        read_config(noise)
        read_index(noise)
    except DeckError:
        pass


def test_an_index_names_files_that_stay_in_the_folder() -> None:
    table = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    index = read_index(encoded({"metadata": {"total_size": 10}, "weight_map": table}))
    assert index.files == frozenset(table.values())
    assert (index.total_bytes, index.tensors) == (10, 2)
    with pytest.raises(InvalidRequest):
        read_index(encoded({"weight_map": {"a": "../../etc/passwd"}}))
    with pytest.raises(Corrupt):
        read_index(encoded({"weight_map": {"a": 1}}))


@pytest.mark.parametrize(
    ("named", "present", "missing"),
    [
        (STALE.values(), {"model.safetensors"}, ()),
        (STALE.values(), {"model-00001-of-00002.safetensors"}, ()),
        (STALE.values(), set(STALE.values()), ()),
        (STALE.values(), {STALE["1"], STALE["2"], STALE["4"]}, (STALE["3"],)),
        ({"model.safetensors", "mtp.safetensors"}, {"model.safetensors"}, ()),
        ((), {"model.safetensors"}, ()),
    ],
)
def test_which_weights_are_missing(
    named: Collection[str], present: set[str], missing: tuple[str, ...]
) -> None:
    assert missing_weights(named, present) == missing
