import json
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from modeldeck.core.schema import (
    BenchProgress,
    Disk,
    Download,
    Host,
    Instance,
    InstanceState,
    Memory,
    Model,
    Recording,
    RequestInfo,
    RequestTotals,
    Runtime,
    Settings,
    Verification,
)
from modeldeck.core.schema.state import (
    EVENTS,
    BenchChanged,
    DiskChanged,
    DownloadChanged,
    DownloadRemoved,
    Event,
    HostChanged,
    InstanceChanged,
    InstanceRemoved,
    MemoryChanged,
    ModelChanged,
    ModelRemoved,
    RecordingChanged,
    RequestChanged,
    RequestRemoved,
    RequestsTodayChanged,
    RuntimesChanged,
    SettingsChanged,
    State,
    VerificationChanged,
    VerificationRemoved,
    apply,
    frame_from_item,
    item_from_frame,
    state_to_wire,
    subject,
)

CHECK = Verification(id="v", what="all", state="verifying", total_bytes=3)
HOST = Host(name="box", version="1", started_at="2026-01-01T00:00:00Z")
EMPTY = State(host=HOST)


def model(key: str, name: str = "") -> Model:
    return Model(id=key, unique=f"o/{key}", name=name or key, format="gguf", source="builtin")


def download(key: str) -> Download:
    return Download(
        id=key, model_id="m", unique="o/m", repo="o/m", revision="0" * 40, state="queued"
    )


def instance(key: str) -> Instance:
    return Instance(
        id=key, model_id="m", unique="o/m", state=InstanceState.READY, engine="llama.cpp"
    )


def request(key: str) -> RequestInfo:
    return RequestInfo(
        id=key,
        model_id="m",
        unique="o/m",
        who="laptop",
        dialect="openai",
        since="2026-01-01T00:00:00Z",
        state="writing",
    )


BENCH = BenchProgress(id="b", model_id="m", unique="o/m", state="measuring", step=1, steps=2)


def events(seq: int) -> list[Event]:
    """One event of each kind, numbered from `seq`."""
    made: list[Event] = [
        HostChanged(seq=0, host=replace(HOST, pid=7)),
        ModelChanged(seq=0, model=model("a")),
        ModelRemoved(seq=0, id="gone"),
        DownloadChanged(seq=0, download=download("d")),
        DownloadRemoved(seq=0, id="gone"),
        InstanceChanged(seq=0, instance=instance("i")),
        InstanceRemoved(seq=0, id="gone"),
        MemoryChanged(seq=0, memory=Memory(total_bytes=1)),
        DiskChanged(seq=0, disk=Disk(free_bytes=2)),
        RuntimesChanged(seq=0, runtimes=(Runtime(name="llama.cpp"),)),
        SettingsChanged(seq=0, settings=Settings(jobs_at_once=9)),
        VerificationChanged(seq=0, verification=CHECK),
        VerificationRemoved(seq=0, id="gone"),
        RequestChanged(seq=0, request=request("r")),
        RequestRemoved(seq=0, id="gone"),
        RequestsTodayChanged(seq=0, totals=RequestTotals(day="2026-01-01", requests=3)),
        RecordingChanged(seq=0, recording=Recording(until="2026-01-01T00:05:00Z")),
        BenchChanged(seq=0, bench=BENCH),
    ]
    return [replace(event, seq=seq + n) for n, event in enumerate(made)]


def test_every_kind_of_event_is_folded_in_and_survives_the_wire() -> None:
    state = EMPTY
    for event in events(1):
        assert item_from_frame(frame_from_item(event)) == event
        state = apply(state, event)
        assert state.seq == event.seq
    assert {type(event) for event in events(1)} == set(EVENTS.values())
    assert state.host.pid == 7
    assert state.memory.total_bytes == 1
    assert state.disk.free_bytes == 2
    assert state.runtimes[0].name == "llama.cpp"
    assert state.settings.jobs_at_once == 9
    assert state.requests_today.requests == 3
    assert state.recording is not None
    assert state.verifications == {CHECK.id: CHECK}
    assert item_from_frame(frame_from_item(state)) == state


def test_records_are_lists_on_the_wire_in_the_order_they_came() -> None:
    state = EMPTY
    for n, key in enumerate(["b", "a", "c"], 1):
        state = apply(state, ModelChanged(seq=n, model=model(key)))
    state = apply(state, ModelChanged(seq=4, model=model("a", "renamed")))
    assert [m.id for m in state_to_wire(state)["models"]] == ["b", "a", "c"]
    assert json.loads(frame_from_item(state))["event"] == "state"


def test_removing_takes_one_record_and_leaves_the_old_state_alone() -> None:
    before = apply(EMPTY, ModelChanged(seq=1, model=model("a")))
    after = apply(before, ModelRemoved(seq=2, id="a"))
    assert not after.models
    assert "a" in before.models
    assert after.downloads is before.downloads


def test_an_event_that_is_already_folded_in_changes_nothing() -> None:
    state = apply(EMPTY, ModelChanged(seq=5, model=model("a")))
    assert apply(state, ModelRemoved(seq=5, id="a")) is state


def test_an_event_of_a_newer_version_is_passed_over() -> None:
    assert item_from_frame('{"event": "weather_changed", "seq": 3}') is None


keys = st.sampled_from("abc")
changes = st.one_of(
    st.builds(lambda k, n: ModelChanged(seq=0, model=model(k, n)), keys, st.text(max_size=3)),
    st.builds(lambda k: ModelRemoved(seq=0, id=k), keys),
    st.builds(lambda k: DownloadChanged(seq=0, download=download(k)), keys),
    st.builds(lambda k: InstanceRemoved(seq=0, id=k), keys),
    st.builds(lambda n: MemoryChanged(seq=0, memory=Memory(total_bytes=n)), st.integers(0, 5)),
)


@given(st.lists(changes, max_size=30))
def test_the_newest_event_per_subject_leads_to_the_same_records(made: list[Event]) -> None:
    numbered = [replace(event, seq=n) for n, event in enumerate(made, 1)]
    whole = brief = EMPTY
    newest: dict[tuple[str, str], Event] = {}
    for event in numbered:
        whole = apply(whole, event)
        newest[subject(event)] = event
    for event in sorted(newest.values(), key=lambda e: e.seq):
        brief = apply(brief, event)
    assert brief == whole
