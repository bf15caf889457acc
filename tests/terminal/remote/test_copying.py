"""Copying a model from one machine to another, each with a home and a cache of its own."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

from modeldeck.core.client.client import Client
from modeldeck.core.demo.hub import DemoHub

if TYPE_CHECKING:
    from tests.terminal.remote.conftest import Host, Machines

PROGRAM = str(Path(sysconfig.get_path("scripts")) / "modeldeck")
TINY = "deck/tiny-GGUF:Q8_0"
PADDED = "deck/padded-GGUF:F16"
PADDED_BYTES = 33_000_000
ELSEWHERE = "bartowski/SmolLM2-135M-Instruct-GGUF:Q4_K_M"
"""FilteredRow on every machine, and on none."""


def run(*words: str, code: int = 0) -> str:
    """All that a command says."""
    done = subprocess.run(
        [PROGRAM, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stdout
    return done.stdout


def contents(host: Host) -> dict[str, bytes]:
    """What the cache of a machine shows, by the paths that every tool sees."""
    hub = Path(host.environ["HF_HOME"]) / "hub"
    return {
        str(path.relative_to(hub)): path.read_bytes()
        for path in hub.glob("models--*/**/*")
        if path.is_file() and "incomplete" not in path.name
    }


LEVEL = "LogLevel DEBUG1\n"
"""At which sshd says what it agreed on."""


def compressions(host: Host) -> list[str]:
    """What each login agreed on for what it sends here, in their order (RFC 4253, section 7.1)."""
    return re.findall(r"kex: server->client cipher: .* compression: (\S+)", host.log)


def carriers(host: Host) -> list[str]:
    """For each socket that was carried for a copy (`ssh -R`): what its line compresses."""
    made = {
        found[2]: found[1]
        for call in host.calls
        if (found := re.search(r"Compression=(\w+) .*ControlPath=(\S+)", call))
    }
    carried = (re.search(r"ControlPath=(\S+) -O forward -R ", call) for call in host.calls)
    return [made[match[1]] for match in carried if match]


def sent(hub: DemoHub) -> int:
    """Bytes of models that the hub sent so far."""
    return sum(entry.bytes_sent for entry in hub.log if entry.origin == "storage")


def test_a_model_is_copied_verified_and_usable(machines: Machines, hub: DemoHub) -> None:
    first, second, third = machines("gpu1", "gpu2", "gpu3", cores=True)
    first.fetch(TINY)
    before = sent(hub)
    for machine in (first, second):
        machine.restart(LEVEL)
    said = run("copy", TINY, "@gpu1", "@gpu2", "@gpu3")
    for machine in (first, second):
        assert compressions(machine) == ["none"], "weights go over no line that compresses"
    assert carriers(second) == ["no"]
    assert f"{TINY} copied from gpu1 to gpu2" in said
    assert "1 file verified" in said
    assert sent(hub) == before, "nothing was downloaded again"
    assert contents(second) == contents(third) == contents(first)
    assert TINY in run("@gpu2", "ls", "-d")
    assert f"{TINY} is on gpu2 already" in run("copy", TINY, "@gpu1", "@gpu2")
    assert "is not in the cache" in run("copy", ELSEWHERE, "@gpu1", "@gpu2", code=4)


def test_a_copy_that_broke_off_goes_on_where_it_stopped(machines: Machines, hub: DemoHub) -> None:
    first, second = machines("gpu1", "gpu2", cores=True)
    first.fetch(PADDED)
    asyncio.run(limited(second, 4_000_000))
    first.line.hold_at = first.line.carried_bytes + PADDED_BYTES * 2 // 3
    with subprocess.Popen(
        [PROGRAM, "copy", PADDED, "@gpu1", "@gpu2"], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    ) as copy:  # fmt: skip
        asyncio.run(arrived(second, PADDED_BYTES // 3))
        copy.send_signal(signal.SIGINT)
        _, err = copy.communicate()
    first.line.hold_at = None
    assert copy.returncode == 130
    assert "goes on with it" in err
    asyncio.run(limited(second, None))
    carried = first.line.carried_bytes
    assert "copied from gpu1 to gpu2" in run("copy", PADDED, "@gpu1", "@gpu2")
    assert first.line.carried_bytes - carried < PADDED_BYTES, "what was durable is not sent again"
    assert contents(second) == contents(first)


def test_a_master_that_compresses_is_not_used_for_weights(machines: Machines, home: Path) -> None:
    first, _ = machines("gpu1", "gpu2", cores=True)
    first.fetch(TINY)
    control = ("-o", f"ControlPath={home.parent}/own", "gpu1")
    first.restart(LEVEL)
    first.configure(f"ControlPath {home.parent}/own", "Compression yes")
    master = ["ssh", "-M", "-f", "-N", *control]
    subprocess.run(master, check=True, stderr=subprocess.DEVNULL)
    try:
        assert "copied from gpu1 to gpu2" in run("copy", TINY, "@gpu1", "@gpu2")
        assert compressions(first) == ["zlib@openssh.com", "none"]
    finally:
        subprocess.run(["ssh", "-O", "exit", *control], check=True, stderr=subprocess.DEVNULL)


async def limited(host: Host, rate_bytes_per_s: int | None) -> None:
    """Limit how fast a machine downloads."""
    async with Client(socket=host.paths.socket) as client:
        await client.change_settings(rate_limit_bytes_per_s=rate_bytes_per_s)


async def arrived(host: Host, count: int) -> None:
    """Wait until that many bytes of a download have arrived on a machine.

    Many, since connections that are closed lose what was on its way, up to 2 MiB each.
    """
    async with Client(socket=host.paths.socket) as client:
        await client.feed.until(
            lambda s: any(d.received_bytes > count for d in s.downloads.values())
        )


def test_what_is_corrupt_over_there_is_not_published_here(machines: Machines) -> None:
    first, second = machines("gpu1", "gpu2", cores=True)
    first.fetch(TINY)
    (blob,) = (
        Path(first.environ["HF_HOME"]) / "hub" / "models--deck--tiny-GGUF" / "blobs"
    ).iterdir()
    blob.chmod(0o644)
    with blob.open("r+b") as stream:
        stream.write(b"?")
    assert "corrupt" in run("copy", TINY, "@gpu1", "@gpu2", code=1)
    assert contents(second) == {}
