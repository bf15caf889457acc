"""State in a few numbers."""

from __future__ import annotations

from modeldeck.core.schema import Disk, Download, Host, Instance, InstanceState, Memory, Summary
from modeldeck.core.schema.protocol import PROTOCOL
from modeldeck.core.schema.state import State
from modeldeck.core.schema.summary import summary

HOST = Host(name="box", version="1.2.3", started_at="2026-01-01T00:00:00Z")


def job(key: str, **more: object) -> Download:
    return Download(
        id=key,
        model_id="m",
        unique="o/r:Q",
        repo="o/r",
        revision="0" * 40,
        **more,  # type: ignore[arg-type] # fields by name
    )


def instance(key: str, state: InstanceState) -> Instance:
    return Instance(id=key, model_id="m", unique=f"o/r:{key}", state=state, engine="llama.cpp")


def test_an_idle_machine_has_nothing_to_say() -> None:
    said = summary(State(host=HOST))
    assert said == Summary(
        name="box", version=said.version, protocol=PROTOCOL, oldest_protocol=said.oldest_protocol
    )


def test_what_runs_is_added_up() -> None:
    state = State(
        host=HOST,
        downloads={
            "a": job("a", state="downloading", received_bytes=10, total_bytes=100,
                     rate_bytes_per_s=5.0, eta_s=18.0),
            "b": job("b", state="verifying", received_bytes=50, total_bytes=50),
            "c": job("c", state="queued", total_bytes=7),
            "d": job("d", state="completed", total_bytes=9),
        },
        instances={
            "x": instance("x", InstanceState.READY),
            "y": instance("y", InstanceState.STARTING),
            "z": instance("z", InstanceState.FAILED),
        },
        memory=Memory(total_bytes=64, available_bytes=48),
        disk=Disk(free_bytes=99),
    )  # fmt: skip
    said = summary(state)
    assert (said.downloads, said.queued) == (2, 1)
    assert (said.received_bytes, said.total_bytes) == (60, 150)
    assert (said.rate_bytes_per_s, said.eta_s) == (5.0, 18.0)
    assert (said.loaded, said.loading) == (("o/r:x",), 1)
    assert (said.memory_total_bytes, said.memory_available_bytes) == (64, 48)
    assert said.disk_free_bytes == 99
