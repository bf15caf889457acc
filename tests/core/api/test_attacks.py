"""Attacks on a real core, each a test: nothing changes, nothing is told, nothing breaks."""

from __future__ import annotations

import json
import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin

from modeldeck.core.api.http.router import Route, split
from modeldeck.core.api.route_table import ROUTES
from modeldeck.core.demo.hub import DemoHub
from modeldeck.core.demo.repository import DemoRepo
from tests.support.process import CoreProcess

JSON = {"Content-Type": "application/json"}
TOKEN = "mdk_" + "A" * 43
CANARY = "the bytes that no client may read"
EVIL = "http://evil.example"


@dataclass
class Target:
    """A core that is attacked, and what must not change around it."""

    core: CoreProcess
    folder: Path
    http: httpx.Client

    def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        return self.http.request(method, path, **more)

    def models(self) -> list[str]:
        found = self.ask("GET", "/deck/state").json()["models"]
        return [model["id"] for model in found]

    def told(self) -> str:
        """Everything that was logged."""
        return self.core.stderr + self.ask("GET", "/deck/log?limit=5000").text


@pytest.fixture(scope="module")
def target(demo_repositories: tuple[DemoRepo, ...]) -> Iterator[Target]:
    folder = Path(tempfile.mkdtemp(prefix="md-"))
    (folder / "canary").mkdir()
    (folder / "canary" / "secret.gguf").write_text(CANARY)
    (folder / "canary" / "config.json").write_text(json.dumps({"secret": CANARY}))
    environ = {
        **os.environ,
        "MODELDECK_HOME": str(folder / "home"),
        "HF_HOME": str(folder / "hf"),
    }
    with (
        DemoHub.in_thread(demo_repositories) as hub,
        CoreProcess({**environ, "HF_ENDPOINT": hub.url}) as core,
        httpx.Client(base_url=core.url, timeout=60) as http,
    ):
        yield Target(core, folder, http)
    shutil.rmtree(folder, ignore_errors=True)


# A web page: DNS rebinding, cross-site requests, cross-site sockets

REBOUND = (
    *("evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "127.0.0.1.nip.io"),
    *("0x7f000001", "2130706433", "127.1", "localhost@evil.example", "evil.example#localhost"),
)


@pytest.mark.parametrize("host", REBOUND)
def test_a_rebound_name_gets_nothing(target: Target, host: str) -> None:
    before = target.models()
    named = {"Host": f"{host}:{target.core.url.rsplit(':', 1)[1]}"}
    for method, path in (("GET", "/models"), ("GET", "/deck/state"), ("GET", "/metrics")):
        answer = target.ask(method, path, headers=named)
        assert (answer.status_code, before[0] in answer.text) == (403, False)
    body = json.dumps({"unique": "deck/rebound-GGUF:Q8_0"})
    refused = target.ask("POST", "/deck/models", content=body, headers={**JSON, **named})
    assert refused.status_code == 403
    assert target.models() == before


@pytest.mark.parametrize("origin", [EVIL, "null", "http://localhost:1", "https://127.0.0.1"])
@pytest.mark.parametrize("kind", ["application/json", "text/plain", "multipart/form-data"])
def test_a_foreign_page_can_change_nothing(target: Target, origin: str, kind: str) -> None:
    before = target.models()
    headers = {"Origin": origin, "Content-Type": kind}
    body = json.dumps({"unique": "deck/foreign-GGUF:Q8_0"})
    for path in ("/deck/models", "/deck/stop", "/models/unload", "/v1/chat/completions"):
        answer = target.ask("POST", path, content=body, headers=headers)
        assert answer.status_code == 403
        assert "access-control-allow-origin" not in answer.headers
    asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    assert target.ask("OPTIONS", "/deck/models", headers=asked).status_code == 403
    assert target.models() == before


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", None])
def test_a_form_without_an_origin_cannot_either(target: Target, kind: str | None) -> None:
    headers = {"Content-Type": kind} if kind else {}
    answer = target.ask("POST", "/deck/models", content=b'{"unique": "a/b:Q"}', headers=headers)
    assert answer.status_code == 415


def test_a_foreign_page_s_picture_of_us_is_refused(target: Target) -> None:
    for site in ("cross-site", "CROSS-SITE"):
        answer = target.ask("GET", "/deck/state", headers={"Sec-Fetch-Site": site})
        assert answer.status_code == 403


@pytest.mark.parametrize("path", ["/deck/feed", "/model/{model}/download/progress"])
@pytest.mark.parametrize("origin", [EVIL, "null", "file://"])
def test_a_foreign_page_gets_no_socket(target: Target, path: str, origin: str) -> None:
    url = target.core.url.replace("http", "ws") + path.format(model=target.models()[0])
    with pytest.raises(InvalidStatus) as refused:
        connect(url, origin=Origin(origin))
    assert refused.value.response.status_code == 403


# Paths: in every parameter of every route

PATHS = (
    *("../../../../../../etc/passwd", "..\\..\\..\\canary\\secret.gguf", "/etc/passwd"),
    *("....//....//etc/passwd", "a/../../../canary", "..", ".", "~root/x.gguf", "a\0b.gguf"),
    *("C:\\Windows\\win.ini", "\\\\host\\share\\x.gguf", "file:///etc/passwd", "con", "deck/.."),
    *("deck/tiny-GGUF:../../../canary/secret", "deck/tiny-GGUF@../../main", "hf://../../x/y.gguf"),
    *("${HOME}", "$(id)", "`id`", "%2e%2e%2fetc%2fpasswd", "..%00/", "x" * 3000, "\u202e", "'--"),
)


def hostile(target: Target) -> list[str]:
    return [*PATHS, str(target.folder / "canary"), f"{target.folder}/home/../canary/secret.gguf"]


def check(target: Target, answer: httpx.Response, what: str) -> None:
    """Refused, or found nothing; never told, never broken."""
    assert CANARY not in answer.text, what
    assert "root:" not in answer.text, what
    assert "inside modeldeck" not in answer.text, what


def _coded(text: str) -> str:
    """A segment of a path; its dots too, which clients would take for folders."""
    return quote(text, safe="").replace(".", "%2E")


ROUTES_WITH_NAMES = [
    route for route in ROUTES if "{" in route.template and route.handler is not None
]


@pytest.mark.parametrize(
    "route", ROUTES_WITH_NAMES, ids=[f"{r.method} {r.template}" for r in ROUTES_WITH_NAMES]
)
def test_no_name_in_a_path_leads_out(target: Target, route: Route) -> None:
    for text in hostile(target):
        parts = [_coded(text) if part.startswith("{") else part for part in split(route.template)]
        more = {"content": b"{}", "headers": JSON} if route.method in ("POST", "PATCH") else {}
        answer = target.ask(route.method, "/" + "/".join(parts), **more)
        assert answer.status_code >= 400, (text, answer.text)
        check(target, answer, text)
    _unharmed(target)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/deck/search", "query"),
        ("/deck/repositories/deck%2Ftiny-GGUF", "revision"),
        ("/deck/log", "source"),
        ("/deck/log", "after"),
        ("/deck/audit", "limit"),
        ("/deck/fits", "context_length"),
    ],
)
def test_nor_one_in_a_query(target: Target, path: str, name: str) -> None:
    for text in hostile(target):
        check(target, target.ask("GET", path, params={name: text}), text)


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/deck/models", "unique"),
        ("/deck/models", "name"),
        ("/models/create", "unique"),
        *(("/deck/cache/plan", name) for name in ("models", "revisions", "repositories")),
        *(("/deck/cache/delete", name) for name in ("models", "revisions", "repositories")),
        ("/deck/cache/verify", "models"),
        ("/v1/chat/completions", "model"),
        *((path, "model") for path in ("/api/show", "/api/pull", "/api/generate")),
    ],
)
def test_nor_one_in_a_body(target: Target, path: str, field: str) -> None:
    is_list = field in ("models", "revisions", "repositories")
    for text in hostile(target):
        body: dict[str, Any] = {field: [text] if is_list else text, "stream": False}
        if path == "/v1/chat/completions":
            body["messages"] = [{"role": "user", "content": "hi"}]
        answer = target.ask("POST", path, content=json.dumps(body), headers=JSON)
        check(target, answer, text)
    _unharmed(target)


def _unharmed(target: Target) -> None:
    canary = target.folder / "canary"
    assert sorted(path.name for path in canary.iterdir()) == ["config.json", "secret.gguf"]
    assert (canary / "secret.gguf").read_text() == CANARY
    assert "Traceback" not in target.told()


# Requests in our name (SSRF)

INWARD = (
    "https://169.254.169.254/latest/meta-data/m.gguf",
    "http://169.254.169.254/m.gguf",
    "https://10.0.0.1/m.gguf",
    "https://192.168.0.1:8443/m.gguf",
    "https://2852039166/m.gguf",
    "https://0xa9fea9fe/m.gguf",
    "https://[::ffff:10.0.0.1]/m.gguf",
    "https://[fd00::1]/m.gguf",
    "https://[fe80::1]/m.gguf",
    "https://0.0.0.0/m.gguf",
    "https://[64:ff9b::a00:1]/m.gguf",
    "https://224.0.0.1/m.gguf",
)
NO_URLS = (
    "file:///etc/passwd.gguf",
    "ftp://127.0.0.1/m.gguf",
    "gopher://127.0.0.1:25/m.gguf",
    "https://user:password@example.com/m.gguf",
    "https:///m.gguf",
    "https://exa mple.com/m.gguf",
    "https://example.com/m.gguf\r\nX: y",
)


def _create(target: Target, unique: str) -> httpx.Response:
    body = json.dumps({"unique": unique})
    return target.ask("POST", "/deck/models", content=body, headers=JSON)


def _fetch(target: Target, unique: str) -> httpx.Response:
    path = f"/deck/models/{quote(unique, safe='')}/download"
    return target.ask("POST", path, content=b"{}", headers=JSON)


@pytest.mark.parametrize("url", INWARD)
def test_no_url_makes_us_ask_in_a_private_network(target: Target, url: str) -> None:
    made = _create(target, url)
    if made.is_success:
        refused = _fetch(target, url)
        assert refused.status_code == 403, refused.text
        assert "trusted_hosts" in refused.json()["error"]["remedy"]
        assert target.ask("DELETE", f"/deck/models/{made.json()['id']}").status_code == 204
    else:
        assert made.status_code in (400, 403)


@pytest.mark.parametrize("url", NO_URLS)
def test_what_is_no_url_of_the_web_is_refused(target: Target, url: str) -> None:
    assert _create(target, url).status_code == 400


class Redirecting(BaseHTTPRequestHandler):
    """Redirects every request to the URL in its path."""

    def do_GET(self) -> None:
        self.send_response(302)
        self.send_header("Location", f"http://{self.path.split('/')[1]}/m.gguf")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def redirecting() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Redirecting) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("place", ["169.254.169.254", "10.0.0.1", "[fd00::1]", "2852039166"])
def test_no_redirect_does_either(target: Target, redirecting: str, place: str) -> None:
    unique = f"{redirecting}/{place}/m.gguf"
    made = _create(target, unique)
    assert made.is_success
    refused = _fetch(target, unique)
    assert refused.status_code >= 400, refused.text
    assert target.ask("DELETE", f"/deck/models/{made.json()['id']}").status_code == 204


# The log, and tokens in URLs

FORGED = "x\n2026-01-01 00:00:00,000 ERROR core: forged\r\x1b[2J\x1b]0;owned\x07\u2028y"


def test_no_line_of_the_log_can_be_forged(target: Target) -> None:
    body = json.dumps({"unique": f"deck/{FORGED}", "name": FORGED})
    headers = {**JSON, "User-Agent": "x\ty", "X-Request-Id": "a b"}
    target.ask("POST", "/deck/models", content=body, headers=headers)
    target.ask("GET", f"/deck/models/{quote(FORGED, safe='')}")
    target.ask("GET", f"/{quote(FORGED, safe='')}?{quote(FORGED, safe='')}")
    target.ask("POST", f"/deck/models/{quote(FORGED, safe='')}/load", content=b"{}", headers=JSON)
    lines = target.ask("GET", "/deck/log?limit=5000").json()["lines"]
    for line in lines:
        assert line["text"].replace("\t", " ").isprintable()
    assert not any(text.startswith("2026-01-01") for text in target.core.stderr.splitlines())
    assert "\x1b" not in target.core.stderr


@pytest.mark.parametrize(
    "path",
    [
        f"/models?token={TOKEN}",
        "/models?access_token=abc",
        "/deck/state?API_KEY=abc",
        f"/deck/models/{TOKEN}",
        f"/deck/search?query={TOKEN}",
    ],
)
def test_a_token_in_a_url_is_refused_and_not_repeated(target: Target, path: str) -> None:
    answer = target.ask("GET", path)
    assert answer.status_code == 400
    assert "URL" in answer.text
    assert TOKEN not in answer.text
    assert TOKEN not in target.told()
    with pytest.raises(InvalidStatus):
        connect(f"{target.core.url.replace('http', 'ws')}/deck/feed?access_token={TOKEN}")


def test_tokens_cannot_be_made_over_the_network(target: Target) -> None:
    body = json.dumps({"name": "mine", "scopes": ["manage"]})
    answer = target.ask("POST", "/deck/tokens", content=body, headers=JSON)
    assert answer.status_code == 403
    assert target.ask("GET", "/deck/tokens").status_code == 403


# Smuggling

SMUGGLED = (
    b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
    b"Content-Length: 4\r\nContent-Length: 5\r\n",
    b"Content-Length: 4\r\nContent-Length: 4\r\n",
    b"Content-Length: 4, 4\r\n",
    b"Content-Length: +4\r\n",
    b"Content-Length: 4 \x0b\r\n",
    b"Content-Length : 4\r\n",
    b"Content-Length: 0x4\r\n",
    b"Content-Length: 99999999999999999999\r\n",
    b"Content-Length:\r\n",
    b"Transfer-Encoding: chunked, identity\r\n",
    b"Transfer-Encoding: xchunked\r\n",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
    b"Transfer-Encoding:\x0bchunked\r\n",
    b"Transfer-Encoding\r\n : chunked\r\n",
    b"X: a\r\n Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
    b"X: a\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n",
    b"X: a\rTransfer-Encoding: chunked\r\nContent-Length: 4\r\n",
    b"X: a\0b\r\nContent-Length: 4\r\n",
    b"Host: localhost\r\nContent-Length: 4\r\n",
)
HIDDEN = b"0\r\n\r\nPOST /deck/stop HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize("framing", SMUGGLED)
def test_no_request_hides_in_another(target: Target, framing: bytes) -> None:
    port = int(target.core.url.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port), timeout=60) as wire:
        wire.sendall(
            b"POST /deck/cache/plan HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/json\r\n" + framing + b"\r\n" + HIDDEN
        )
        wire.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := wire.recv(1 << 16):
            answer += piece
    assert answer.count(b"HTTP/1.1 ") == 1
    assert answer[9:12] in (b"400", b"413", b"415", b"501")
    assert b"stopping" not in answer
    assert target.ask("GET", "/health").status_code == 200
