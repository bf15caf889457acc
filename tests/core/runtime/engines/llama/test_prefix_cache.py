"""What of a text that is held can be used for a prompt, and what the prefix cache drops."""

from collections.abc import Sequence

import numpy as np
import pytest

from modeldeck.core.runtime.engines.llama.batch import Tokens
from modeldeck.core.runtime.engines.llama.prefix_cache import (
    WORTH,
    Checkpoint,
    PrefixCache,
    StoredPrefix,
    checkpoint_places,
    usable_length,
)


def tokens(*values: int) -> Tokens:
    return np.array(values, np.int32)


def entry(text: Sequence[int], size: int = 100, *checkpoints: Checkpoint) -> StoredPrefix:
    return StoredPrefix(tokens(*text), np.zeros(size, np.uint8), checkpoints)


@pytest.mark.parametrize(
    ("held", "prompt", "checkpoints", "rewinds", "usable"),
    [
        ((1, 2, 3), (1, 2, 3, 4), (), True, 3),
        ((1, 2, 3), (1, 2, 3, 4), (), False, 3),  # it only goes on
        ((1, 2, 3), (1, 2, 3), (), True, 2),  # the last token is evaluated again
        ((1, 2, 3), (1, 2, 3), (), False, 0),
        ((1, 2, 3, 4), (1, 2, 9), (), True, 2),
        ((1, 2, 3, 4), (1, 2, 9), (1, 3), False, 1),
        ((1, 2, 3, 4), (1, 2, 9), (2,), False, 2),
        ((1, 2, 3), (7,), (), True, 0),
        ((), (7,), (), False, 0),
    ],
)
def test_what_of_a_text_that_is_held_can_be_used(
    held: tuple[int, ...],
    prompt: tuple[int, ...],
    checkpoints: tuple[int, ...],
    rewinds: bool,
    usable: int,
) -> None:
    found = usable_length(tokens(*held), tokens(*prompt), checkpoints, lambda _: rewinds)
    assert found == usable


def test_checkpoints_are_made_where_texts_part_and_before_the_end() -> None:
    prompt = tokens(*range(100))
    other, near = tokens(*range(50), 0), tokens(*range(WORTH - 1), 0)
    assert checkpoint_places(prompt, 0, [other, near], 8) == [50, 92]
    assert checkpoint_places(prompt, 60, [other], 8) == [92], "what is held is not read again"
    assert checkpoint_places(prompt, 95, [prompt], 8) == []
    assert checkpoint_places(tokens(1, 2), 0, [], 8) == []


def cache(limit: int, in_use: list[list[Checkpoint]] | None = None) -> PrefixCache:
    return PrefixCache(limit, rewinds=True, in_use=lambda: in_use or [])


def test_what_was_used_longest_ago_is_dropped_first() -> None:
    found = cache(400)
    for first in (1, 2, 3):
        assert found.make_room(104)
        found.add(entry([first]))
    one, _ = found.find(tokens(1, 9))
    assert one is not None
    found.use(one)
    assert found.make_room(104)
    found.add(entry([4]))
    assert [text.tolist() for text in found.texts] == [[3], [1], [4]]
    assert found.bytes == 312


def test_it_shrinks_when_memory_is_short() -> None:
    checkpoints = [Checkpoint(4, np.zeros(50, np.uint8))]
    found = cache(400, [checkpoints])
    for first in (1, 2, 3):
        found.add(entry([first]))
    found.shrink(300)
    assert [text.tolist() for text in found.texts] == [[2], [3]]
    found.shrink(0)
    assert found.bytes == 0
    assert not checkpoints, "those of conversations that wait go last"
    assert found.make_room(104), "it may grow again"


def test_nothing_is_dropped_for_what_is_too_large_anyway() -> None:
    found = cache(400)
    found.add(entry([1]))
    assert not found.make_room(401)
    assert found.bytes == 104


def test_a_longer_text_takes_the_place_of_its_beginning() -> None:
    found = cache(1000)
    found.add(entry([1, 2]))
    found.add(entry([1, 3]))
    found.add(entry([1, 2, 3]))
    assert [text.tolist() for text in found.texts] == [[1, 3], [1, 2, 3]]
    assert found.holds(tokens(1, 2))
    assert not found.holds(tokens(2))


def test_checkpoints_count_once_and_go_after_the_texts() -> None:
    shared, own = (Checkpoint(1, np.zeros(100, np.uint8)) for _ in range(2))
    slots = [[shared, own], []]
    found = cache(330, slots)
    found.add(entry([1], 100, shared))
    assert found.bytes == 304
    assert found.make_room(120)
    assert (found.texts, slots) == ([], [[shared, own], []])
    assert found.make_room(150)
    assert slots == [[own], []]
    assert found.make_room(330)
    assert (slots, found.bytes) == ([[], []], 0)
