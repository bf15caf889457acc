"""Whether two sides understand each other."""

from __future__ import annotations

import pytest

from modeldeck.core.errors import Incompatible
from modeldeck.core.schema.protocol import OLDEST, PROTOCOL, ProtocolRange, check, ours

HERE = ProtocolRange(version="1.0", protocol=5, oldest_protocol=4)


@pytest.mark.parametrize(
    "there",
    [
        ProtocolRange(version="1.0", protocol=5, oldest_protocol=4),
        ProtocolRange(version="0.9", protocol=4, oldest_protocol=1),
        ProtocolRange(version="1.1", protocol=9, oldest_protocol=5),
    ],
)
def test_sides_that_share_a_protocol_understand_each_other(there: ProtocolRange) -> None:
    check(HERE, there, "gpu1", lambda: "pipx upgrade modeldeck")


@pytest.mark.parametrize(
    ("there", "word", "remedy"),
    [
        (ProtocolRange(version="0.1"), "too old", "Update modeldeck on gpu1"),
        (ProtocolRange(version="0.8", protocol=3, oldest_protocol=1), "too old", "on gpu1"),
        (
            ProtocolRange(version="2.0", protocol=9, oldest_protocol=6),
            "too new",
            "Update modeldeck here (`pipx upgrade modeldeck`)",
        ),
    ],
)
def test_sides_that_do_not_are_told_who_is_to_be_updated(
    there: ProtocolRange, word: str, remedy: str
) -> None:
    with pytest.raises(Incompatible, match=word) as caught:
        check(HERE, there, "gpu1", lambda: "pipx upgrade modeldeck")
    assert there.version in caught.value.message
    assert HERE.version in caught.value.message
    assert remedy in caught.value.remedy


def test_this_version_understands_itself() -> None:
    assert OLDEST <= PROTOCOL
    check(ours(), ours(), "here", lambda: "never said")
