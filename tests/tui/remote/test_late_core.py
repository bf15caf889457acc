"""A core that is connected to late: nothing is opened before it is attached to."""

from __future__ import annotations

from pathlib import Path

import pytest

from modeldeck.core.config.config import RemoteSettings
from modeldeck.core.errors import CoreUnreachable
from modeldeck.tui.remote import remote_core
from modeldeck.tui.remote.core_host import OwnCore
from modeldeck.tui.remote.late_core import LateCore
from modeldeck.tui.remote.machines import HERE, Machine
from tests.support.process import CoreProcess

GPU = Machine(name="gpu1", remote=RemoteSettings(ssh="gpu1"))


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the machines that a connection was made for."""
    names: list[str] = []
    core_of = remote_core.core_of

    def counted(machine: Machine) -> object:
        names.append(machine.name)
        return core_of(machine)

    monkeypatch.setattr(remote_core, "core_of", counted)
    return names


@pytest.mark.parametrize("machine", [GPU, HERE])
async def test_what_was_never_attached_to_has_nothing_to_leave(
    machine: Machine, made: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also this machine's own core, which may be busy with the work of others."""

    async def leave(_: OwnCore) -> str:
        return "The core keeps running."

    monkeypatch.setattr(OwnCore, "leave", leave)
    late = LateCore(machine)
    assert late.outage() is None
    assert not await late.revive()
    assert await late.leave() is None
    assert made == []


async def test_this_machine_is_its_own_core(core: CoreProcess, home: Path) -> None:
    late = LateCore(HERE)
    async with late.attach() as client:
        assert (await client.state()).host.name
    async with late.bulk() as carrier:
        assert carrier.here


async def test_the_first_attach_connects_and_the_next_goes_on(
    core: CoreProcess, made: list[str]
) -> None:
    late = LateCore(Machine(name="box", remote=RemoteSettings(socket=str(core.socket))))
    for _ in range(2):
        async with late.attach() as client:
            assert (await client.state()).host.name
    assert made == ["box"]
    async with late.bulk() as carrier:
        assert carrier.here == str(core.socket)
    assert await late.leave() is None


async def test_a_machine_that_is_not_there_is_an_error_each_time(
    tmp_path: Path, made: list[str]
) -> None:
    late = LateCore(Machine(name="nas", remote=RemoteSettings(socket=str(tmp_path / "no.sock"))))
    for _ in range(2):
        with pytest.raises(CoreUnreachable):
            async with late.attach():
                pass
    assert made == ["nas"]
