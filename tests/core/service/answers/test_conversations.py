"""Conversations are kept within bounds, for their owner only."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeldeck.core.errors import InvalidRequest
from modeldeck.core.service.answers.conversations import ConversationStore, KeptConversation


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def kept(store: ConversationStore, id: str, owner: str = "") -> KeptConversation:
    made = KeptConversation(id, owner, 1)
    store.keep(made)
    return made


def test_a_conversation_is_found_by_its_owner_until_it_is_forgotten() -> None:
    store = ConversationStore()
    made = kept(store, "a", "token")
    assert store.find("a", "token") is made
    assert store.find("a", "") is None
    store.add(made, [("msg_1", b"one"), ("msg_2", b"two")])
    assert list(made.items.items()) == [("msg_1", b"one"), ("msg_2", b"two")]
    assert store.remove(made, "msg_1")
    assert not store.remove(made, "msg_1")
    store.forget(made)
    store.forget(made)
    assert store.find("a", "token") is None
    assert (len(store), store.total_bytes) == (0, 0)


def test_what_was_forgotten_meanwhile_is_not_added_to() -> None:
    store = ConversationStore()
    made = kept(store, "a")
    store.forget(made)
    store.add(made, [("msg_1", b"one")])
    store.describe(made, {"k": "v"})
    assert (made.items, store.total_bytes) == ({}, 0)


def test_an_item_comes_once_and_all_have_a_limit() -> None:
    store = ConversationStore(largest_bytes=3000)
    made = kept(store, "a")
    store.add(made, [("msg_1", b"one")])
    for items in ([("msg_1", b"")], [("msg_2", b""), ("msg_2", b"")]):
        with pytest.raises(InvalidRequest, match="already"):
            store.check(made, items)
    with pytest.raises(InvalidRequest, match="more than"):
        store.check(made, [("msg_2", b"x" * 2000)])
    store.check(made, [("msg_2", b"two")])
    store.add(made, [("msg_1", b"changed"), ("msg_2", b"two")])
    assert list(made.items.values()) == [b"changed", b"two"]


def test_an_answer_without_room_is_left_out_with_its_question_and_nothing_comes_after() -> None:
    store = ConversationStore(largest_bytes=3000)
    made = kept(store, "a")
    store.add(made, [("msg_1", b"one")])
    question = [("msg_2", b"two")]
    store.check(made, question)
    store.add(made, [*question, ("msg_3", b"x" * 3000)])
    assert list(made.items) == ["msg_1"]
    assert store.total_bytes == made.bytes <= store.largest_bytes
    with pytest.raises(InvalidRequest, match="is full"):
        store.check(made, question)
    assert not store.remove(made, "msg_2")
    with pytest.raises(InvalidRequest, match="is full"):
        store.check(made, question)
    assert store.remove(made, "msg_1")
    store.check(made, question)
    store.add(made, question)
    assert list(made.items) == ["msg_2"]


def test_two_answers_at_once_do_not_pass_the_limit_together() -> None:
    store = ConversationStore(largest_bytes=3000)
    made = kept(store, "a")
    both = [(f"msg_{number}", b"x" * 1500) for number in (1, 2)]
    for item in both:
        store.check(made, [item])
    for item in both:
        store.add(made, [item])
    assert list(made.items) == ["msg_1"]
    store.add(made, [("msg_1", b"x" * 1700)])
    assert made.items["msg_1"] == b"x" * 1700, "what is replaced makes room"


def test_metadata_has_its_place_in_the_limit() -> None:
    store = ConversationStore(largest_bytes=3000)
    made = KeptConversation.begun("a", "", 1, {"k": "v" * 1000})
    store.keep(made)
    with pytest.raises(InvalidRequest, match="more than"):
        store.check(made, [("msg_1", b"x" * 1000)])
    with pytest.raises(InvalidRequest, match="more than"):
        store.describe(made, {"k": "v" * 2500})
    store.describe(made, {})
    store.add(made, [("msg_1", b"x" * 1000)])
    assert list(made.items) == ["msg_1"]


def test_an_item_is_found_by_its_owner_in_the_conversation_used_last() -> None:
    store = ConversationStore()
    one, two, other = kept(store, "1", "token"), kept(store, "2", "token"), kept(store, "3", "o")
    for each, data in ((other, b"other"), (two, b"two"), (one, b"one")):
        store.add(each, [("msg_1", data)])
    assert store.find_item("msg_1", "token") == b"one"
    store.forget(one)
    assert store.find_item("msg_1", "token") == b"two"
    assert store.find_item("msg_1", "") is None
    assert store.find_item("msg_2", "token") is None


def test_those_used_last_stay() -> None:
    store = ConversationStore(most_conversations=3)
    for number in range(3):
        kept(store, str(number))
    assert store.find("0", "") is not None
    kept(store, "3")
    assert [store.find(id, "") is not None for id in "0123"] == [True, False, True, True]


def test_who_has_the_most_makes_room() -> None:
    store = ConversationStore(most_conversations=3)
    kept(store, "quiet", owner="a")
    for number in range(9):
        kept(store, str(number), owner="b")
    assert store.find("quiet", "a") is not None
    assert [store.find(id, "b") is not None for id in "678"] == [False, True, True]


def test_a_day_after_the_last_use_is_enough() -> None:
    clock = Clock()
    store = ConversationStore(clock=clock)
    kept(store, "a")
    clock.now = 86399.0
    assert store.find("a", "") is not None
    clock.now += 86400.0
    assert store.find("a", "") is None


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["keep", "add", "remove", "describe", "forget", "find", "wait"]),
        st.integers(0, 9),
        st.integers(0, 2000),
    ),
    max_size=60,
)


@given(STEPS)
@settings(max_examples=150, deadline=None)
def test_the_count_of_bytes_is_that_of_what_is_kept(steps: list[tuple[str, int, int]]) -> None:
    clock = Clock()
    store = ConversationStore(most_conversations=4, most_bytes=12_000, kept_s=10, clock=clock)
    numbers = itertools.count()
    known = [kept(store, str(next(numbers)))]
    for step, which, size in steps:
        one = known[which % len(known)]
        if step == "keep":
            known.append(kept(store, str(next(numbers))))
        elif step == "add":
            store.add(one, [(str(size % 7), b"x" * size)])
        elif step == "remove":
            store.remove(one, str(size % 7))
        elif step == "describe":
            store.describe(one, {"k": "é" * (size % 500)})
        elif step == "forget":
            store.forget(one)
        elif step == "find":
            store.find(one.id, "")
        else:
            clock.now += size / 100
            store.prune()
        there = [each for each in known if store.find(each.id, "") is each]
        assert store.total_bytes == sum(each.bytes for each in there)
        assert store.total_bytes <= store.most_bytes
        assert len(there) == len(store) <= store.most_conversations
