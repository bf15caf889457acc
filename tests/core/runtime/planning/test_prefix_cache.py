"""How much memory the state of conversations may take that no request holds."""

import doctest

import pytest

from modeldeck.core.runtime.planning import prefix_cache
from modeldeck.core.runtime.planning.prefix_cache import LEAST_BYTES, prefix_cache_that_fits

MIB = 1 << 20


@pytest.mark.parametrize(
    ("wanted", "left", "found"),
    [
        (512 * MIB, None, 512 * MIB),
        (512 * MIB, 512 * MIB, 512 * MIB),
        (512 * MIB, 100 * MIB, 100 * MIB),
        (512 * MIB, LEAST_BYTES, LEAST_BYTES),
        (512 * MIB, LEAST_BYTES - 1, 0),
        (MIB, MIB, MIB),  # as small as that was asked for
        (0, 0, 0),
    ],
)
def test_it_is_the_first_to_give_way(wanted: int, left: int | None, found: int) -> None:
    assert prefix_cache_that_fits(wanted, left) == found


def test_the_worked_examples_hold() -> None:
    result = doctest.testmod(prefix_cache)
    assert result.attempted
    assert not result.failed
