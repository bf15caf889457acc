"""The demo hub on the wire: statuses, headers, ranges, signed URLs, and faults on purpose."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import httpx
import pytest

from modeldeck.core.demo.hub import STRANGER, TOKEN, DemoHub
from modeldeck.core.demo.repository import DemoFile, DemoRepo

NAME = "tiny-F16.gguf"
PATH = f"/deck/tiny-GGUF/resolve/main/{NAME}"


@pytest.fixture
def client(hub: DemoHub) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=hub.url, timeout=60, trust_env=False) as client:
        yield client


@pytest.fixture
def repo(hub: DemoHub) -> DemoRepo:
    return hub.repositories[0]


@pytest.fixture
def file(repo: DemoRepo) -> DemoFile:
    found = repo.file(NAME)
    assert found is not None
    return found


def link(client: httpx.Client) -> str:
    """A signed URL of the file."""
    return client.get(PATH).headers["Location"]


# Statuses


@pytest.mark.parametrize(
    ("method", "path", "token", "status", "code"),
    [
        ("GET", "/api/models", "", 200, None),
        ("HEAD", "/api/models", "", 200, None),
        ("GET", "/api/models?limit=few", "", 400, None),
        ("GET", "/api/models/deck/tiny-GGUF", "", 200, None),
        ("GET", "/api/models/deck/tiny-GGUF/revision/refs%2Fheads%2Fmain", "", 200, None),
        ("GET", "/api/models/deck/tiny-GGUF/tree/main/nowhere", "", 404, "EntryNotFound"),
        ("GET", "/api/models/deck/tiny-GGUF/revision/v2", "", 404, "RevisionNotFound"),
        ("GET", "/api/models/deck/tiny-GGUF/nonsense", "", 404, None),
        ("GET", "/api/models/deck/nothing", "", 401, "RepoNotFound"),
        ("GET", "/api/models/deck/nothing", TOKEN, 404, "RepoNotFound"),
        ("GET", "/api/models/deck/gated-GGUF", "", 200, None),
        ("GET", "/api/models/DECK/tiny-gguf", "", 307, None),
        ("GET", "/api/models/deck/tiny-GGUF", "wrong", 401, None),
        ("GET", "/api/whoami-v2", "", 401, None),
        ("GET", "/api/whoami-v2", STRANGER, 200, None),
        ("GET", "/deck/tiny-GGUF/resolve/main/nothing.gguf", "", 404, "EntryNotFound"),
        ("GET", "/deck/tiny-GGUF/resolve/v2/README.md", "", 404, "RevisionNotFound"),
        ("HEAD", "/deck/gated-GGUF/resolve/main/gated-Q8_0.gguf", "", 401, "GatedRepo"),
        ("GET", "/deck/gated-GGUF/resolve/main/gated-Q8_0.gguf", STRANGER, 403, "GatedRepo"),
        ("GET", "/deck/gated-GGUF/resolve/main/gated-Q8_0.gguf", TOKEN, 302, None),
        ("GET", "/nothing", "", 404, None),
        ("GET", "/../../etc/passwd", "", 404, None),
        ("DELETE", "/api/models/deck/tiny-GGUF", "", 405, None),
        ("POST", "/api/models/deck/tiny-GGUF/paths-info/main", "", 200, None),
    ],
)
def test_statuses(
    client: httpx.Client, method: str, path: str, token: str, status: int, code: str | None
) -> None:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    answer = client.request(method, path, headers=headers)
    assert answer.status_code == status
    assert answer.headers.get("X-Error-Code") == code
    if status >= 400 and method == "GET":
        assert answer.json() == {"error": answer.headers["X-Error-Message"]}


def test_paths_info_takes_a_form_or_json(client: httpx.Client) -> None:
    url = "/api/models/deck/tiny-GGUF/paths-info/main"
    form = client.post(url, data={"paths": [NAME, "README.md"]}).json()
    assert client.post(url, json={"paths": [NAME, "README.md"]}).json() == form
    assert [entry["path"] for entry in form] == ["README.md", NAME]
    assert client.post(url, json={"paths": "README.md"}).json() == form[:1]
    for nonsense in ([1], {"paths": 1}, {"paths": [1, {}]}, {}, None):
        assert client.post(url, json=nonsense).json() == []


def test_a_large_file_is_somewhere_else(
    client: httpx.Client, hub: DemoHub, repo: DemoRepo, file: DemoFile
) -> None:
    answer = client.head(PATH)
    assert answer.status_code == 302
    assert answer.headers["X-Repo-Commit"] == repo.revision
    assert answer.headers["X-Linked-Size"] == str(file.size_bytes)
    assert answer.headers["X-Linked-ETag"] == answer.headers["ETag"] == f'"{file.sha256}"'
    assert not [name for name in answer.headers if "xet" in name]
    assert answer.headers["Location"].startswith(hub.storage_url)
    assert urlsplit(hub.storage_url).netloc != urlsplit(hub.url).netloc
    stored = httpx.get(answer.headers["Location"], trust_env=False)
    assert stored.content == file.source.read_bytes()
    assert stored.headers["ETag"] != answer.headers["ETag"]


def test_a_small_file_is_on_the_hub_itself(client: httpx.Client, repo: DemoRepo) -> None:
    answer = client.get("/deck/tiny-GGUF/resolve/main/README.md")
    assert answer.status_code == 307
    assert answer.headers["Location"].startswith("/api/resolve-cache/models/deck/tiny-GGUF/")
    found = client.get(answer.headers["Location"])
    small = repo.file("README.md")
    assert small is not None
    assert found.content == small.source.read_bytes()
    assert found.headers["ETag"] == answer.headers["ETag"] == f'"{small.oid}"'
    assert found.headers["X-Repo-Commit"] == repo.revision


# Ranges (RFC 9110, section 14)


@pytest.mark.parametrize(
    ("asked", "status", "start", "stop"),
    [
        ("bytes=0-0", 206, 0, 1),
        ("bytes=100-199", 206, 100, 200),
        ("bytes=3000000-", 206, 3_000_000, None),
        ("bytes=-5", 206, -5, None),
        ("bytes=0-99999999", 206, 0, None),
        ("bytes=99999999-", 416, 0, 0),
        ("bytes=-0", 416, 0, 0),
        ("bytes=5-2", 200, 0, None),
        ("bytes=0-1,5-6", 200, 0, None),
        ("bytes=-", 200, 0, None),
        (f"bytes=0-{'9' * 5000}", 200, 0, None),
        ("lines=0-1", 200, 0, None),
    ],
)
def test_ranges(
    client: httpx.Client, file: DemoFile, asked: str, status: int, start: int, stop: int | None
) -> None:
    whole = file.source.read_bytes()
    wanted = whole[start:stop]
    answer = client.get(link(client), headers={"Range": asked})
    assert answer.status_code == status
    assert answer.content == wanted
    assert answer.headers["Accept-Ranges"] == "bytes"
    if status == 206:
        first, after = slice(start, stop).indices(len(whole))[:2]
        assert answer.headers["Content-Range"] == f"bytes {first}-{after - 1}/{len(whole)}"
    if status == 416:
        assert answer.headers["Content-Range"] == f"bytes */{len(whole)}"


def test_a_range_of_something_else_is_all_of_it(client: httpx.Client, file: DemoFile) -> None:
    etag = client.head(link(client)).headers["ETag"]
    same = client.get(link(client), headers={"Range": "bytes=10-19", "If-Range": etag})
    assert (same.status_code, len(same.content)) == (206, 10)
    other = client.get(link(client), headers={"Range": "bytes=10-19", "If-Range": '"other"'})
    assert (other.status_code, len(other.content)) == (200, file.size_bytes)
    known = client.get(link(client), headers={"If-None-Match": etag})
    assert (known.status_code, known.content) == (304, b"")


def test_a_server_without_ranges(client: httpx.Client, hub: DemoHub, file: DemoFile) -> None:
    hub.ranges = False
    answer = client.get(link(client), headers={"Range": "bytes=10-19"})
    assert (answer.status_code, len(answer.content)) == (200, file.size_bytes)
    assert "Accept-Ranges" not in answer.headers


# Signed URLs


def test_a_link_is_good_for_one_thing_and_for_a_time(client: httpx.Client, hub: DemoHub) -> None:
    url = link(client)
    assert client.head(url).status_code == 200
    assert client.head(url.replace("tiny-GGUF", "gated-GGUF")).status_code == 404
    assert client.head(url.replace("X-Expires=", "X-Expires=9")).status_code == 403
    assert client.head(url.partition("?")[0]).status_code == 403
    hub.expire_links()
    assert client.head(url).status_code == 403
    hub.link_lifetime_s = -1.0
    expired = client.get(link(client))
    assert expired.status_code == 403
    assert b"<Code>AccessDenied" in expired.content


def test_a_token_that_leaks_is_refused_and_seen(client: httpx.Client, hub: DemoHub) -> None:
    answer = client.get(link(client), headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 400
    (leak,) = hub.leaks
    assert (leak.file, leak.bytes_sent) == (f"deck/tiny-GGUF/{NAME}", len(answer.content))


# Faults


def test_errors_strike_as_often_as_they_were_armed(client: httpx.Client, hub: DemoHub) -> None:
    hub.faults.status(503, times=2, path="/resolve/")
    hub.faults.status(429, path="whoami", retry_after_s=7)
    assert client.get("/api/models").status_code == 200
    assert [client.get(PATH).status_code for _ in range(3)] == [503, 503, 302]
    busy = client.get("/api/whoami-v2")
    assert (busy.status_code, busy.headers["Retry-After"]) == (429, "7")


def received(client: httpx.Client, url: str, headers: dict[str, str] | None = None) -> bytes:
    """What arrives of a body before its connection breaks."""
    parts: list[bytes] = []
    with (
        client.stream("GET", url, headers=headers) as answer,
        pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)),
    ):
        parts.extend(answer.iter_raw())
    return b"".join(parts)


def test_a_body_that_is_cut_short(client: httpx.Client, hub: DemoHub, file: DemoFile) -> None:
    hub.faults.truncate(after_bytes=100_000)
    assert received(client, link(client)) == file.source.read_bytes()[:100_000]
    hub.faults.truncate(after_bytes=50)
    part = received(client, link(client), {"Range": "bytes=1000-"})
    assert part == file.source.read_bytes()[1000:1050]
    assert client.get(link(client)).content == file.source.read_bytes()


def test_a_connection_that_is_reset(client: httpx.Client, hub: DemoHub, file: DemoFile) -> None:
    hub.faults.reset(after_bytes=100_000)
    assert file.source.read_bytes()[:100_000].startswith(received(client, link(client)))
    (exchange,) = [e for e in hub.log if e.fault]
    assert (exchange.fault, exchange.bytes_sent, exchange.finished) == ("reset", 100_000, False)
    assert client.get(link(client)).status_code == 200


def test_a_byte_that_is_flipped(client: httpx.Client, hub: DemoHub, file: DemoFile) -> None:
    whole = file.source.read_bytes()
    hub.faults.flip(300_000)
    beside = client.get(link(client), headers={"Range": "bytes=300001-400000"})
    assert beside.content == whole[300_001:400_001]
    damaged = client.get(link(client)).content
    assert [i for i, byte in enumerate(damaged) if byte != whole[i]] == [300_000]
    assert client.get(link(client)).content == whole


def test_a_body_that_stalls_until_it_may_go_on(
    client: httpx.Client, hub: DemoHub, file: DemoFile
) -> None:
    hub.faults.stall(after_bytes=100_000)
    with client.stream("GET", link(client)) as answer:
        parts, size = [], 0
        for part in answer.iter_raw():
            parts.append(part)
            size += len(part)
            if size == 100_000:
                hub.faults.clear()
    assert b"".join(parts) == file.source.read_bytes()


def test_a_stalled_body_ends_with_its_client(hub: DemoHub) -> None:
    hub.faults.stall(after_bytes=0)
    with httpx.Client(base_url=hub.url, trust_env=False, timeout=httpx.Timeout(30)) as client:
        url = link(client)
        with client.stream("GET", url) as answer:
            assert answer.status_code == 200
    # The hub ends too, when the fixture is left: nothing waits for a client that is gone.
    late = time.monotonic() + 30
    while not (stalled := [e for e in hub.log if e.fault == "stall"]):
        assert time.monotonic() < late, hub.log
    assert [exchange.bytes_sent for exchange in stalled] == [0]


def test_the_speed_can_be_changed_in_mid_transfer(
    client: httpx.Client, hub: DemoHub, file: DemoFile
) -> None:
    hub.rate_bytes_per_s = 20  # a day and a half for the whole file
    with client.stream("GET", link(client)) as answer:
        chunks = answer.iter_raw()
        first = next(chunks)
        assert len(first) < 1000
        hub.rate_bytes_per_s = None
        assert first + b"".join(chunks) == file.source.read_bytes()


def test_without_a_network_nobody_answers(client: httpx.Client, hub: DemoHub) -> None:
    hub.rate_bytes_per_s = 1000
    with client.stream("GET", link(client)) as answer:
        chunks = answer.iter_raw()
        next(chunks)
        hub.online = False
        with pytest.raises(httpx.ReadError):
            list(chunks)
    with pytest.raises(httpx.TransportError):
        client.get("/api/models")
    hub.online = True
    assert client.get("/api/models").status_code == 200


# Connections


def exchange(hub: DemoHub, sent: bytes) -> bytes:
    """What comes back on one connection until the hub closes it."""
    host, port = hub.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as plug:
        plug.sendall(sent)
        parts = []
        while part := plug.recv(1 << 16):
            parts.append(part)
    return b"".join(parts)


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nbad header\r\n\r\n",
        b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 9999999\r\n\r\n" + b"x" * (1 << 20),
    ],
    ids=["no request", "bad header", "upgrade", "too large"],
)
def test_what_is_not_a_request_is_refused(hub: DemoHub, sent: bytes) -> None:
    assert exchange(hub, sent).startswith(b"HTTP/1.1 400 Bad Request\r\n")


def test_requests_in_a_row_on_one_connection(hub: DemoHub) -> None:
    one = b"GET /api/telemetry/x HTTP/1.1\r\nHost: hub\r\n\r\n"
    last = b"GET /api/telemetry/x HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n\r\n"
    assert exchange(hub, one + one + last).count(b"HTTP/1.1 200 OK") == 3


def test_many_clients_at_once(hub: DemoHub, file: DemoFile) -> None:
    whole, start = file.source.read_bytes(), threading.Barrier(8)

    def fetch(_: int) -> bool:
        with httpx.Client(trust_env=False, follow_redirects=True, timeout=60) as client:
            start.wait()
            return client.get(hub.url + PATH).content == whole

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(fetch, range(8)))
    assert sum(e.bytes_sent for e in hub.log if e.origin == "storage") == 8 * len(whole)


async def test_a_hub_in_the_loop_of_its_user(demo_repositories: tuple[DemoRepo, ...]) -> None:
    async with DemoHub(demo_repositories) as hub, httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(hub.url + PATH, follow_redirects=True)
        assert len(answer.content) == hub.log[-1].bytes_sent
        hub.clear_log()
        assert hub.log == ()
    async with httpx.AsyncClient(trust_env=False) as client:
        with pytest.raises(httpx.ConnectError):
            await client.get(hub.url)


async def test_a_port_that_is_taken(demo_repositories: tuple[DemoRepo, ...]) -> None:
    async with DemoHub(demo_repositories) as hub:
        port = urlsplit(hub.url).port
        assert port is not None
        with pytest.raises(OSError, match="address already in use"):
            async with DemoHub(port=port):
                pass
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(OSError, match="address already in use"),
        DemoHub.in_thread(port=taken.getsockname()[1]),
    ):
        pass
