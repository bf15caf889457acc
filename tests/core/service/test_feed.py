import asyncio

from modeldeck.core.schema import Host, Memory, Model
from modeldeck.core.schema.state import Event, MemoryChanged, ModelChanged, State, apply
from modeldeck.core.service.feed import LIMIT, Feed


def make_feed() -> Feed:
    return Feed(State(host=Host(name="box", version="1", started_at="")))


def put(feed: Feed, key: str, name: str = "x") -> None:
    record = Model(id=key, unique=key, name=name, format="gguf", source="builtin")
    feed.commit(ModelChanged, model=record)


def fold(state: State, items: list[State | Event]) -> State:
    for item in items:
        state = item if isinstance(item, State) else apply(state, item)
    return state


async def test_a_subscriber_gets_a_state_and_then_every_event() -> None:
    feed = make_feed()
    put(feed, "before")
    with feed.subscribe() as subscription:
        (first,) = subscription.take()
        assert isinstance(first, State)
        assert list(first.models) == ["before"]
        put(feed, "a")
        put(feed, "b")
        assert [item.seq for item in subscription.take()] == [2, 3]
    assert feed.watchers == 0


async def test_a_slow_reader_gets_one_state_and_ends_up_right() -> None:
    feed = make_feed()
    with feed.subscribe() as subscription:
        state = fold(feed.state, subscription.take())
        for n in range(LIMIT + 50):
            put(feed, str(n % 7), str(n))
        batch = subscription.take()
        assert batch == [feed.state]
        state = fold(state, batch)
        put(feed, "after")
        assert fold(state, subscription.take()) == feed.state


async def test_a_rate_merges_events_of_one_subject_and_keeps_the_others() -> None:
    feed = make_feed()
    with feed.subscribe(max_hz=1000) as subscription:
        state = fold(feed.state, subscription.take())
        for n in range(2000):
            feed.commit(MemoryChanged, memory=Memory(total_bytes=n))
        put(feed, "a")
        batch = subscription.take()
        assert [type(item) for item in batch] == [MemoryChanged, ModelChanged]
        assert fold(state, batch) == feed.state


async def test_batches_wait_for_news() -> None:
    feed = make_feed()
    with feed.subscribe() as subscription:
        batches = subscription.batches()
        assert isinstance((await anext(batches))[0], State)
        waiting = asyncio.ensure_future(anext(batches))
        await asyncio.sleep(0)
        assert not waiting.done()
        put(feed, "a")
        assert [item.seq for item in await waiting] == [1]
        await batches.aclose()


async def test_who_keeps_up_is_handed_events_at_once_and_in_order() -> None:
    feed = make_feed()
    taken: list[int] = []
    free = True

    def take(event: Event) -> bool:
        if free:
            taken.append(event.seq)
        return free

    with feed.subscribe(take_now=take) as subscription:
        put(feed, "a")  # the State that comes first tells of it
        batches = subscription.batches()
        (first,) = await anext(batches)
        assert isinstance(first, State)
        put(feed, "b")  # no reader waits for events yet
        waiting = asyncio.ensure_future(anext(batches))
        assert [item.seq for item in await waiting] == [2]
        waiting = asyncio.ensure_future(anext(batches))
        await asyncio.sleep(0)
        put(feed, "c")
        put(feed, "d")
        assert taken == [3, 4]
        free = False
        put(feed, "e")
        free = True
        put(feed, "f")  # not ahead of the one before it
        assert taken == [3, 4]
        assert [item.seq for item in await waiting] == [5, 6]
        await batches.aclose()


async def test_with_a_rate_nothing_is_handed_over_at_once() -> None:
    feed = make_feed()
    taken: list[Event] = []

    def take(event: Event) -> bool:
        taken.append(event)
        return True

    with feed.subscribe(1000, take_now=take) as one:
        batches = one.batches()
        await anext(batches)
        waiting = asyncio.ensure_future(anext(batches))
        await asyncio.sleep(0.01)
        put(feed, "a")
        assert [item.seq for item in await waiting] == [1]
        await batches.aclose()
    assert taken == []
