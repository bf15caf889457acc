"""The connection of the client, without a core."""

from __future__ import annotations

import doctest

from modeldeck.core.client import connection


def test_the_examples_in_docstrings_hold() -> None:
    result = doctest.testmod(connection)
    assert result.attempted
    assert not result.failed
