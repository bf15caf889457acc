"""Downloads side by side: modeldeck, curl, aria2c and `hf download` on one nginx.

    python -m tests.benchmarks.downloads [--rounds 3] [--mib 1024] [case ...]
        [--tools modeldeck "aria2c -x16" ...]

Needs nginx, aria2c, curl and openssl. Everything lies in tmpfs, and rounds are interleaved; what is
told is the median, its ratio, the processor's time and the memory. modeldeck's figures include the
verification, the journal and the publishing into the cache. "modeldeck" and "hf_hub_download" are
timed inside their process, without its start; "modeldeck pull" and "hf download" are the commands
as people run them, the first against a core that runs already, whose processor time and memory are
told. Cases: plain; tls; throttled (each connection 20 MB/s); delayed (the same, every answer a
tenth of a second late). Absolute figures belong to the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.benchmarks.processes import settle
from tests.support.process import CoreProcess

REPO = "deck/bench"
REVISION = "0" * 40
NAME = "model-Q8_0.gguf"
CASES = ("plain", "tls", "throttled", "delayed")
RATE = "20m"
"""Of each connection, where it is throttled: bytes per second, as nginx writes it."""

DELAY_S = 0.1

NGINX = """
daemon off;
worker_processes 1;
error_log {folder}/error.log;
pid {folder}/nginx.pid;
events {{ worker_connections 512; }}
http {{
  access_log off;
  sendfile on;
  tcp_nopush on;
  keepalive_requests 100000;
  client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
  uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
  add_header X-Repo-Commit {revision};
  add_header X-Linked-Etag '"{sha256}"';
  add_header X-Linked-Size {size};
  root {folder}/www;
  default_type application/json;
  server {{ listen 127.0.0.1:{plain}; }}
  server {{
    listen 127.0.0.1:{tls} ssl;
    ssl_certificate {folder}/cert.pem;
    ssl_certificate_key {folder}/key.pem;
  }}
  server {{ listen 127.0.0.1:{throttled}; limit_rate {rate}; }}
}}
"""

OWN = """
import asyncio, json, os, resource, sys, time
from pathlib import Path
from modeldeck.core.hub_cache.layout import HubCache
from modeldeck.core.config.config import DownloadSettings
from modeldeck.core.downloads.queue import DownloadQueue
from modeldeck.core.downloads.http.source import DownloadSource
from modeldeck.core.schema import Model, RepoFile
from modeldeck.core.storage.database import Database

folder, endpoint, repo, revision, name, size, sha256 = sys.argv[1:]

async def main():
    store = Database(Path(folder, "state.sqlite3"))
    await store.open()
    ended = asyncio.Event()
    def on_change(job):
        if job.state in ("completed", "failed", "paused"):
            ended.set()
    downloads = DownloadQueue(
        store=store, cache=HubCache(Path(folder, "hub")),
        settings=DownloadSettings(disk_floor_bytes=0),
        source=DownloadSource(endpoint, lambda: None, 30), free_bytes=lambda repo: None,
        on_change=on_change, check=lambda path: None)
    await downloads.open()
    model = Model(id="x", unique=repo, name="x", format="gguf", source="hub", repo=repo)
    file = RepoFile(path=name, size_bytes=int(size), blob=sha256, lfs=True)
    longest, stop = 0.0, False
    async def heart():
        nonlocal longest
        while not stop:
            before = time.perf_counter()
            await asyncio.sleep(0.001)
            longest = max(longest, time.perf_counter() - before - 0.001)
    beating = asyncio.create_task(heart())
    begin, used = time.perf_counter(), os.times()
    job = await downloads.start(model, revision, [file])
    await ended.wait()
    now = os.times()
    wall = time.perf_counter() - begin
    stop = True
    await beating
    done = downloads.jobs[job.id]
    assert done.state == "completed", done.error
    print(json.dumps([wall, now.user + now.system - used.user - used.system, longest]))
    await downloads.close()
    await store.close()

asyncio.run(main())
"""

HUB = """
import json, os, sys, time
from huggingface_hub import hf_hub_download
folder, endpoint, repo, revision, name, size, sha256 = sys.argv[1:]
begin, used = time.perf_counter(), os.times()
hf_hub_download(repo, name, cache_dir=folder, endpoint=endpoint)
now = os.times()
wall = time.perf_counter() - begin
print(json.dumps([wall, now.user + now.system - used.user - used.system, 0.0]))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One run."""

    wall_s: float
    cpu_s: float
    rss_bytes: int
    blocked_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What is served, and where."""

    folder: Path
    size: int
    sha256: str
    ports: dict[str, int]

    def url(self, case: str) -> str:
        scheme = "https" if case == "tls" else "http"
        return f"{scheme}://127.0.0.1:{self.ports[case]}"

    def file_url(self, case: str) -> str:
        return f"{self.url(case)}/{REPO}/resolve/{REVISION}/{NAME}"


def run(words: Sequence[str], environ: dict[str, str]) -> tuple[Result, bytes]:
    """A command: its time from start to end, its processor time and its memory."""
    begin = time.perf_counter()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(words, stdout=output, stderr=subprocess.STDOUT, env=environ)
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        text = output.read()
    if process.returncode:
        raise SystemExit(f"{words[0]} failed: {text.decode(errors='replace')[-2000:]}")
    cpu = used.ru_utime + used.ru_stime
    return Result(wall_s=wall, cpu_s=cpu, rss_bytes=used.ru_maxrss * 1024), text


def command(world: World, words: Sequence[str]) -> Result:
    """A tool that has no start worth leaving out."""
    return run(words, dict(os.environ))[0]


def python(world: World, case: str, program: str, out: Path) -> Result:
    """A Python program that times itself."""
    words = [str(out), world.url(case), REPO, REVISION, NAME, str(world.size), world.sha256]
    environ = {
        **os.environ,
        "SSL_CERT_FILE": str(world.folder / "cert.pem"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_CACHE": str(out),
        "HF_HOME": str(out),
    }
    result, text = run([sys.executable, "-c", program, *words], environ)
    wall, cpu, blocked = json.loads(text.splitlines()[-1])
    return Result(wall_s=wall, cpu_s=cpu, rss_bytes=result.rss_bytes, blocked_s=blocked)


def curl(world: World, case: str, out: Path) -> Result:
    return command(world, ["curl", "-sk", "-o", str(out / "f"), world.file_url(case)])


def curl_openssl(world: World, case: str, out: Path) -> Result:
    first = curl(world, case, out)
    second = command(world, ["openssl", "dgst", "-sha256", str(out / "f")])
    return Result(
        wall_s=first.wall_s + second.wall_s,
        cpu_s=first.cpu_s + second.cpu_s,
        rss_bytes=max(first.rss_bytes, second.rss_bytes),
    )


def aria2c(world: World, case: str, out: Path, *more: str) -> Result:
    words = ["aria2c", "-x16", "-s16", "-k1M", "--file-allocation=none", "-q"]
    words += ["--check-certificate=false", "-d", str(out), "-o", "f", *more]
    return command(world, [*words, world.file_url(case)])


def aria2c_checksum(world: World, case: str, out: Path) -> Result:
    return aria2c(world, case, out, f"--checksum=sha-256={world.sha256}")


def modeldeck(world: World, case: str, out: Path) -> Result:
    return python(world, case, OWN, out)


def hf_hub_download(world: World, case: str, out: Path) -> Result:
    return python(world, case, HUB, out)


def environ(world: World, case: str, out: Path) -> dict[str, str]:
    """What the commands of the Hub and of modeldeck need."""
    return {
        **os.environ,
        "SSL_CERT_FILE": str(world.folder / "cert.pem"),
        "HF_ENDPOINT": world.url(case),
        "HF_HOME": str(out / "hf"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_UPDATE_CHECK": "1",
        "MODELDECK_HOME": str(out / "h"),
        "MODELDECK_DOWNLOADS_DISK_FLOOR_BYTES": "0",
    }


def hf_download(world: World, case: str, out: Path) -> Result:
    """The Hub's own command."""
    program = os.path.join(sysconfig.get_path("scripts"), "hf")
    return run([program, "download", REPO, NAME], environ(world, case, out))[0]


def modeldeck_pull(world: World, case: str, out: Path) -> Result:
    """Our own command, against a core that was started before, and has looked for its engines."""
    given = environ(world, case, out)
    program = os.path.join(sysconfig.get_path("scripts"), "modeldeck")
    with CoreProcess(given) as core:
        process = psutil.Process(core.process.pid)
        settle(process)
        before = process.cpu_times()
        pulled, _ = run([program, "pull", "--force", f"{REPO}:Q8_0"], given)
        after = process.cpu_times()
        status = Path(f"/proc/{process.pid}/status").read_text()
    cpu = after.user + after.system - before.user - before.system
    peak = int(status.partition("VmHWM:")[2].split()[0]) * 1024
    return Result(wall_s=pulled.wall_s, cpu_s=cpu, rss_bytes=peak)


TOOLS: dict[str, Callable[[World, str, Path], Result]] = {
    "modeldeck": modeldeck,
    "modeldeck pull": modeldeck_pull,
    "curl": curl,
    "curl, openssl dgst": curl_openssl,
    "aria2c -x16": aria2c,
    "aria2c -x16 --checksum": aria2c_checksum,
    "hf download": hf_download,
    "hf_hub_download": hf_hub_download,
}

LEFT_OUT = {"throttled": {"curl", "curl, openssl dgst", "hf download", "hf_hub_download"}}
"""One connection at 20 MB/s takes most of a minute, and says nothing new."""
LEFT_OUT["delayed"] = LEFT_OUT["throttled"]


class Delay:
    """A relay that holds every first byte of a request back."""

    def __init__(self, port: int, to: int, delay_s: float) -> None:
        self._port, self._to, self._delay_s = port, to, delay_s

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, out = await asyncio.open_connection("127.0.0.1", self._to, limit=1 << 20)

        async def ask() -> None:
            while data := await reader.read(1 << 16):
                await asyncio.sleep(self._delay_s)
                out.write(data)
                await out.drain()
            out.close()

        asking = asyncio.create_task(ask())
        try:
            while data := await theirs.read(1 << 20):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            asking.cancel()
            writer.close()
            out.close()

    async def run(self) -> None:
        """Relay until the process ends."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        await server.serve_forever()


def free_ports(names: Sequence[str]) -> dict[str, int]:
    """Ports without a listener just now."""
    plugs = {name: socket.create_server(("127.0.0.1", 0)) for name in names}
    ports = {name: plug.getsockname()[1] for name, plug in plugs.items()}
    for plug in plugs.values():
        plug.close()
    return ports


@contextmanager
def served(folder: Path, mib: int) -> Iterator[World]:
    """An nginx on a file of random bytes."""
    path = folder / "www" / REPO / "resolve" / REVISION / NAME
    path.parent.mkdir(parents=True)
    digest, block = hashlib.sha256(), os.urandom(1 << 20)
    with path.open("wb") as file:
        for number in range(mib):
            data = number.to_bytes(8, "big") + block[8:]
            digest.update(data)
            file.write(data)
    (path.parent.parent / "main").symlink_to(REVISION)
    listing = folder / "www" / "api" / "models" / REPO
    listing.parent.mkdir(parents=True)
    lfs = {"sha256": digest.hexdigest(), "size": mib << 20, "pointerSize": 134}
    listing.write_text(
        json.dumps(
            {
                "id": REPO,
                "sha": REVISION,
                "siblings": [
                    {"rfilename": NAME, "size": mib << 20, "blobId": "1" * 40, "lfs": lfs}
                ],
            }
        )
    )
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=b", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")),
        ],
        check=True,
        capture_output=True,
    )
    world = World(folder=folder, size=mib << 20, sha256=digest.hexdigest(), ports=free_ports(CASES))
    (folder / "nginx.conf").write_text(
        NGINX.format(
            folder=folder,
            revision=REVISION,
            sha256=world.sha256,
            size=world.size,
            rate=RATE,
            **world.ports,
        )
    )
    nginx = subprocess.Popen(
        ["nginx", "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]
    )
    words = f"{world.ports['delayed']}, {world.ports['throttled']}, {DELAY_S}"
    relay = subprocess.Popen(
        [
            *(sys.executable, "-c"),
            "import asyncio; from tests.benchmarks.downloads import Delay;"
            f"asyncio.run(Delay({words}).run())",
        ]
    )
    try:
        time.sleep(2)
        yield world
    finally:
        nginx.send_signal(signal.SIGTERM)
        relay.kill()
        nginx.wait()
        relay.wait()


def measured(
    world: World, case: str, rounds: int, tools: Sequence[str] = tuple(TOOLS)
) -> dict[str, list[Result]]:
    """Interleaved rounds of every tool."""
    results: dict[str, list[Result]] = {}
    for _ in range(rounds):
        for name, tool in TOOLS.items():
            if name not in tools or name in LEFT_OUT.get(case, ()):
                continue
            out = world.folder / "out"
            shutil.rmtree(out, ignore_errors=True)
            out.mkdir()
            results.setdefault(name, []).append(tool(world, case, out))
            shutil.rmtree(out)
    return results


def table(case: str, results: dict[str, list[Result]], gib: float) -> str:
    """What was measured, as Markdown."""
    own = statistics.median(result.wall_s for result in results["modeldeck"])
    lines = [
        f"| {case} | wall s | times as long | CPU s/GiB | RSS MiB |",
        "|---|---|---|---|---|",
    ]
    for name, runs in results.items():
        wall = statistics.median(result.wall_s for result in runs)
        cpu = statistics.median(result.cpu_s for result in runs) / gib
        rss = max(result.rss_bytes for result in runs) / (1 << 20)
        lines.append(f"| {name} | {wall:.2f} | {wall / own:.2f} | {cpu:.2f} | {rss:.0f} |")
    blocked = max(result.blocked_s for result in results["modeldeck"]) * 1000
    return "\n".join([*lines, f"\nLongest that modeldeck's loop was late: {blocked:.0f} ms.\n"])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("cases", nargs="*", default=list(CASES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--tools", nargs="+", choices=list(TOOLS), default=list(TOOLS))
    options = parser.parse_args()
    root = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(prefix="modeldeck-bench-", dir=root) as folder:
        Path(folder).chmod(0o755)  # nginx serves as another user
        with served(Path(folder), options.mib) as world:
            for case in options.cases:
                results = measured(world, case, options.rounds, options.tools)
                print(table(case, results, options.mib / 1024))


if __name__ == "__main__":
    main()
