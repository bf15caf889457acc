"""The way out: proxies of the environment, tunnels, certificates of one's own."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from modeldeck.core.catalog.hub import HubClient
from modeldeck.core.downloads.http.source import DownloadSource
from modeldeck.core.errors import HubUnavailable
from modeldeck.core.network.connection import Proxy
from modeldeck.core.schema import Download, RepoFile

if TYPE_CHECKING:
    from tests.core.downloads.conftest import Rig

PADDED = "deck/padded-GGUF"
MLX = "deck/tiny-mlx"


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ssl.SSLContext]:
    """A certificate for 127.0.0.1 that signs itself, and a server's context with it."""
    folder = tmp_path_factory.mktemp("tls")
    key, path = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=deck", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(key), "-out", str(path)),
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path, key)
    return path, context


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a test sets is taken away again, and nothing is set before."""
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


class Streams:
    """Ports that pass bytes on. What was asked of them is noted."""

    def __init__(self) -> None:
        self.heads: list[bytes] = []
        """The head of every request that a proxy saw."""
        self.status = b"200 Connection established"
        """What a proxy answers to CONNECT."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []
        self._servers: list[asyncio.Server] = []

    async def relay(self, target: str, context: ssl.SSLContext | None = None) -> int:
        """A port that passes everything on to a server, after TLS where there is a context."""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._join(reader, writer, target)

        return await self._listen(serve, context)

    async def proxy(self) -> int:
        """An HTTP proxy: it tunnels on CONNECT, and forwards what has a whole URL."""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = await reader.readuntil(b"\r\n\r\n")
            self.heads.append(head)
            method, target, _ = head.split(b" ", 2)
            if method == b"CONNECT":
                writer.write(b"HTTP/1.1 " + self.status + b"\r\n\r\n")
                if not self.status.startswith(b"200"):
                    writer.close()
                    return
                await self._join(reader, writer, target.decode())
            else:
                host, _, path = target.removeprefix(b"http://").partition(b"/")
                await self._join(reader, writer, host.decode(), head.replace(target, b"/" + path))

        return await self._listen(serve, None)

    async def _listen(self, serve: object, context: ssl.SSLContext | None) -> int:
        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.create_task(serve(reader, writer))  # type: ignore[operator] # a coroutine function
            self._tasks.add(task)
            self._writers.append(writer)

        server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context)
        self._servers.append(server)
        port: int = server.sockets[0].getsockname()[1]
        return port

    async def _join(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        target: str,
        first: bytes = b"",
    ) -> None:
        host, _, port = target.removeprefix("http://").partition(":")
        theirs, ours = await asyncio.open_connection(host, int(port))
        self._writers.append(ours)
        ours.write(first)
        await asyncio.gather(self._pump(reader, ours, note=bool(first)), self._pump(theirs, writer))

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, note: bool = False
    ) -> None:
        try:
            while data := await reader.read(1 << 18):
                if note and b" http://" in data:
                    # The next request on a kept connection.
                    self.heads.append(data)
                    _, target, _ = data.split(b" ", 2)
                    path = target.removeprefix(b"http://").partition(b"/")[2]
                    data = data.replace(target, b"/" + path)
                writer.write(data)
                await writer.drain()
        except (ConnectionError, ssl.SSLError):
            pass
        finally:
            writer.close()

    async def close(self) -> None:
        for server in self._servers:
            server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.gather(*(w.wait_closed() for w in self._writers), return_exceptions=True)


@asynccontextmanager
async def streams() -> AsyncIterator[Streams]:
    made = Streams()
    try:
        yield made
    finally:
        await made.close()


async def pulled(rig: Rig, repo: str, files: list[RepoFile], endpoint: str = "") -> Download:
    """A job that ended, of a queue that was opened in this environment and is closed again."""
    await rig.close()
    rig.endpoint = endpoint or rig.endpoint
    await rig.open()
    ended = await rig.ended((await rig.start(repo, files)).id)
    await rig.close()
    await rig.open()
    return ended


def small(rig: Rig) -> list[RepoFile]:
    return [file for file in rig.repo(MLX)[1] if not file.lfs]


async def test_an_http_proxy_is_asked_for_whole_urls(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with streams() as net:
        port = await net.proxy()
        monkeypatch.setenv("http_proxy", f"http://deck:p%40ss@127.0.0.1:{port}")
        done = await pulled(rig, PADDED, list(rig.files(PADDED)))
    assert (done.state, done.error) == ("completed", None)
    content = await asyncio.to_thread(rig.cache.blob(PADDED, rig.files(PADDED)[0].blob).read_bytes)
    assert hashlib.sha256(content).hexdigest() == rig.files(PADDED)[0].blob
    origins = (rig.hub.url.encode(), rig.hub.storage_url.encode())
    assert {origin for head in net.heads for origin in origins if origin in head} == set(origins)
    password = b"Basic " + base64.b64encode(b"deck:p@ss")
    assert all(password in head for head in net.heads)


async def test_hosts_of_no_proxy_are_asked_straight(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with streams() as net:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{await net.proxy()}")
        monkeypatch.setenv("no_proxy", rig.hub.url.removeprefix("http://"))
        done = await pulled(rig, PADDED, list(rig.files(PADDED)))
    assert (done.state, done.error) == ("completed", None)
    assert net.heads
    assert all(rig.hub.storage_url.encode() in head for head in net.heads)


async def test_https_goes_through_a_tunnel(
    rig: Rig, authority: tuple[Path, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, context = authority
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    async with streams() as net:
        port = await net.relay(rig.hub.url, context)
        monkeypatch.setenv("https_proxy", f"http://deck:secret@127.0.0.1:{await net.proxy()}")
        done = await pulled(rig, MLX, small(rig), f"https://127.0.0.1:{port}")
    assert (done.state, done.error) == ("completed", None)
    assert net.heads
    for head in net.heads:
        assert head.startswith(f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\n".encode())
        assert b"Proxy-Authorization: Basic " in head
    assert not any(exchange.path.startswith("CONNECT") for exchange in rig.hub.log)


async def test_a_proxy_that_refuses_says_so(
    rig: Rig, authority: tuple[Path, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority[0]))
    async with streams() as net:
        net.status = b"407 Proxy Authentication Required"
        monkeypatch.setenv("https_proxy", f"127.0.0.1:{await net.proxy()}")
        failed = await pulled(rig, MLX, small(rig), "https://127.0.0.1:9")
    assert failed.error is not None
    assert failed.state == "failed"
    assert "407 Proxy Authentication Required" in failed.error.message
    assert "https_proxy" in failed.error.remedy


async def test_a_proxy_of_a_kind_that_is_not_spoken_is_said(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("all_proxy", "socks5://127.0.0.1:9")
    failed = await pulled(rig, MLX, small(rig))
    assert failed.error is not None
    assert "proxy" in failed.error.message
    assert "http://host:port" in failed.error.remedy


@pytest.mark.parametrize("is_known", [True, False])
async def test_a_certificate_of_ones_own_is_named_in_the_environment(
    rig: Rig,
    authority: tuple[Path, ssl.SSLContext],
    monkeypatch: pytest.MonkeyPatch,
    is_known: bool,
) -> None:
    path, context = authority
    if is_known:
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
    async with streams() as net:
        port = await net.relay(rig.hub.url, context)
        ended = await pulled(rig, MLX, small(rig), f"https://127.0.0.1:{port}")
    if is_known:
        assert (ended.state, ended.error) == ("completed", None)
    else:
        assert ended.error is not None
        assert ended.state == "failed"
        assert "certificate" in ended.error.message
        assert "SSL_CERT_FILE" in ended.error.remedy


async def test_certificates_that_cannot_be_read_are_said(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    # Any server that answers: the certificates are read after it accepted the connection.
    endpoint = rig.hub.url.replace("http:", "https:")
    failed = await pulled(rig, MLX, small(rig), endpoint)
    assert failed.error is not None
    assert "none.pem" in failed.error.message
    assert "SSL_CERT_FILE" in failed.error.remedy


async def asked(rig: Rig, url: str = "") -> int:
    """Ask the Hub every kind of question; how many bytes the header of a model has."""
    client = HubClient(url or rig.hub.url, lambda: None, rig.folder / "asked", timeout_s=60)
    try:
        await client.search("tiny")
        found = await client.repository("deck/tiny-GGUF")
        file = found.variants[0].files[0]
        return len((await client.read_header(found.repo, found.revision, file))[1])
    finally:
        await client.close()


async def test_questions_go_the_same_way_as_files(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with streams() as net:
        port = await net.proxy()
        monkeypatch.setenv("http_proxy", f"http://deck:p%40ss@127.0.0.1:{port}")
        assert await asked(rig) > 1000
        password = b"Basic " + base64.b64encode(b"deck:p@ss")
        assert all(password in head for head in net.heads)
        for path in (b"/api/models?", b"/api/models/deck/tiny-GGUF?", b"/resolve/"):
            assert any(path in head for head in net.heads)
        assert any(rig.hub.storage_url.encode() in head for head in net.heads)
        monkeypatch.setenv("no_proxy", "127.0.0.0/8")
        net.heads.clear()
        await asked(rig)
        assert net.heads == []


async def test_questions_check_certificates_as_files_do(
    rig: Rig, authority: tuple[Path, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, context = authority
    async with streams() as net:
        endpoint = f"https://127.0.0.1:{await net.relay(rig.hub.url, context)}"
        with pytest.raises(HubUnavailable, match="is not trusted") as refused:
            await asked(rig, endpoint)
        assert "SSL_CERT_FILE" in refused.value.remedy
        monkeypatch.setenv("SSL_CERT_FILE", str(path.with_name("none.pem")))
        with pytest.raises(HubUnavailable, match=r"none\.pem cannot be read") as refused:
            # Any server that answers: the certificates are read after it accepted the connection.
            await asked(rig, rig.hub.url.replace("http:", "https:"))
        assert "SSL_CERT_FILE" in refused.value.remedy
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
        client = HubClient(endpoint, lambda: None, rig.folder / "asked", timeout_s=60)
        assert (await client.repository(PADDED)).variants
        await client.close()


async def test_a_proxy_that_refuses_questions_says_so(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with streams() as net:
        net.status = b"407 Proxy Authentication Required"
        monkeypatch.setenv("https_proxy", f"127.0.0.1:{await net.proxy()}")
        with pytest.raises(HubUnavailable, match="407 Proxy") as refused:
            await asked(rig, "https://127.0.0.1:9")
    assert "https_proxy" in refused.value.remedy


@pytest.mark.parametrize("name", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
async def test_offline_no_file_is_fetched_either(
    rig: Rig, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "1")
    failed = await pulled(rig, PADDED, list(rig.files(PADDED)))
    assert failed.error is not None
    assert (failed.state, failed.error.code) == ("failed", "hub_unavailable")
    assert f"{name} is set" in failed.error.message
    assert name in failed.error.remedy
    source = DownloadSource(rig.hub.url, lambda: None, 5)
    for question in (source.look(f"{rig.hub.url}/m.gguf"), source.read(rig.hub.url, 0, 4)):
        with pytest.raises(HubUnavailable, match=name):
            await question
    await source.close()
    assert rig.hub.log == ()
    monkeypatch.delenv(name)
    done = await pulled(rig, PADDED, list(rig.files(PADDED)))
    assert (done.state, done.error) == ("completed", None)


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("http://proxy.example", Proxy(host="proxy.example", port=80)),
        ("http://proxy.example:3128/", Proxy(host="proxy.example", port=3128)),
        (
            "http://a%20b:c@[::1]:8",
            Proxy(host="::1", port=8, authorization=b"Basic " + base64.b64encode(b"a b:c")),
        ),
    ],
)
def test_how_a_proxy_is_written(url: str, proxy: Proxy) -> None:
    assert Proxy.parse(url) == proxy
