from __future__ import annotations

import pytest
from msgspec.structs import replace

from modeldeck.core.api.http.origin_checks import (
    allowed_origin,
    check,
    cors_headers,
    host_name,
    policy,
    preflight_headers,
)
from modeldeck.core.api.http.request_head import RequestHead, read
from modeldeck.core.errors import DeckError, Forbidden, UnsupportedMediaType

DEFAULT = policy()
WIDER = policy(["Deck.Example"], ["http://App.example:3000/"])


def head(host: str = "localhost:1000", **headers: str) -> RequestHead:
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return read("POST", "/", [(b"host", host.encode()), *raw], "1.1")


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("localhost", "localhost"),
        ("LocalHost:1000", "localhost"),
        ("127.0.0.1:5323", "127.0.0.1"),
        ("[::1]", "[::1]"),
        ("[::1]:1000", "[::1]"),
        ("", None),
        (":1000", None),
        ("localhost:", "localhost"),
        ("localhost:x", None),
        ("localhost:1000:1000", None),
        ("::1", None),
        ("user@localhost", None),
        ("localhost/evil", None),
        ("localhost, evil.example", None),
        ("[::1", None),
        ("[::1]evil", None),
    ],
)
def test_host_names(host: str, name: str | None) -> None:
    assert host_name(host) == name


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "127.0.0.1.nip.io", "127.0.0.2", "2130706433"],
)
def test_a_name_that_was_rebound_is_refused(host: str) -> None:
    with pytest.raises(Forbidden, match="Host"):
        check(head(host), DEFAULT, over_unix=False)
    check(head(host), DEFAULT, over_unix=True)


@pytest.mark.parametrize(
    ("host", "origin", "allowed"),
    [
        ("localhost:1000", "http://localhost:1000", True),
        ("localhost:1000", "HTTP://LOCALHOST:1000", True),
        ("localhost", "http://localhost", True),
        ("localhost:80", "http://localhost", True),
        ("127.0.0.1:9999", "http://127.0.0.1:9999", True),
        ("localhost:1000", "http://app.example:3000", True),
        ("localhost:1000", "http://app.example", False),
        ("localhost:1000", "http://localhost:3000", False),
        ("localhost:1000", "https://localhost:1000", False),
        ("localhost:1000", "http://evil.example", False),
        ("localhost:1000", "null", False),
        ("localhost:1000", "", False),
        ("localhost:1000", "http://localhost:1000.evil.example", False),
    ],
)
def test_origins(host: str, origin: str, allowed: bool) -> None:
    asked = head(host, origin=origin)
    assert (allowed_origin(asked, WIDER) is not None) == allowed
    assert (cors_headers(asked, WIDER) != ()) == allowed
    if allowed:
        check(asked, WIDER, over_unix=False)
    else:
        with pytest.raises(Forbidden, match="Origin"):
            check(asked, WIDER, over_unix=False)


def test_over_the_unix_socket_a_page_s_own_name_is_not_its_allowance() -> None:
    with pytest.raises(Forbidden, match="Origin"):
        check(head("evil.example", origin="http://evil.example"), DEFAULT, over_unix=True)


def test_requests_of_other_sites_without_an_origin_are_refused() -> None:
    for value, refused in (("cross-site", True), ("Cross-Site", True), ("none", False)):
        asked = head(sec_fetch_site=value)
        if refused:
            with pytest.raises(Forbidden, match="page"):
                check(asked, DEFAULT, over_unix=False)
        else:
            check(asked, DEFAULT, over_unix=False)
    allowed = head(sec_fetch_site="cross-site", origin="http://app.example:3000")
    check(allowed, WIDER, over_unix=False)


@pytest.mark.parametrize(
    ("content_type", "length", "status"),
    [
        ("application/json", "2", None),
        ("Application/JSON; charset=utf-8", "2", None),
        ("text/plain", "0", None),
        ("text/plain", "2", 415),
        ("application/x-www-form-urlencoded", "2", 415),
        ("multipart/form-data; boundary=application/json", "2", 415),
        ("application/jsonp", "2", 415),
        ("", "2", 415),
    ],
)
def test_a_body_is_json(content_type: str, length: str, status: int | None) -> None:
    asked = head(content_type=content_type, content_length=length)
    if status is None:
        check(asked, DEFAULT, over_unix=False)
    else:
        with pytest.raises(DeckError) as caught:
            check(asked, DEFAULT, over_unix=False)
        assert caught.value.status == status


AIOHTTP = {"user_agent": "litellm/1.108.7", "content_type": "application/octet-stream"}
CURL = {"user_agent": "curl/8.5.0", "content_type": "application/x-www-form-urlencoded"}


@pytest.mark.parametrize(
    ("path", "host", "more", "passes"),
    [
        ("/api/chat", "localhost:5323", {"user_agent": "litellm/1.1"}, True),
        ("/v1/chat/completions", "127.0.0.1:5323", {}, True),
        ("/api/chat", "[::1]:5323", CURL, True),
        ("/api/chat", "localhost", AIOHTTP, True),
        ("/api/chat", "localhost", {**AIOHTTP, "origin": "http://app.example:3000"}, False),
        ("/api/chat", "deck.example:1000", AIOHTTP, False),
        ("/chat/completions", "localhost", CURL, True),
        ("/rerank", "localhost", CURL, True),
        ("/tokenize", "localhost", CURL, True),
        ("/api/chat", "localhost", {"content_type": "text/plain"}, False),
        ("/api/chat", "deck.example:1000", CURL, False),
        ("/deck/models", "localhost", CURL, False),
        ("/models/unload", "localhost", {}, False),
        # Browsers, with and without what they may leave out.
        ("/api/chat", "localhost", {**CURL, "user_agent": "Mozilla/5.0 (X11)"}, False),
        ("/api/chat", "localhost", {**CURL, "sec_fetch_mode": "no-cors"}, False),
        ("/api/chat", "localhost", {**CURL, "referer": "http://evil.example/"}, False),
        ("/api/chat", "localhost", {**CURL, "cookie": "a=b"}, False),
        ("/api/chat", "localhost", {**CURL, "origin": "http://app.example:3000"}, False),
    ],
)
def test_programs_need_no_type_where_no_browser_can_ask(
    path: str, host: str, more: dict[str, str], passes: bool
) -> None:
    asked = replace(head(host, content_length="2", **more), path=path)
    if passes:
        check(asked, WIDER, over_unix=False)
        return
    with pytest.raises(UnsupportedMediaType):
        check(asked, WIDER, over_unix=False)


def test_a_socket_has_no_browser_behind_it() -> None:
    asked = replace(head("anything", content_length="2"), path="/api/chat")
    check(asked, DEFAULT, over_unix=True)


def test_names_that_a_person_allowed() -> None:
    check(head("deck.example:1000"), WIDER, over_unix=False)


def test_only_a_preflight_gets_its_headers() -> None:
    assert preflight_headers(head()) == ()
    names = {name for name, _ in preflight_headers(head(access_control_request_method="POST"))}
    assert "Access-Control-Allow-Methods" in names


def test_a_page_may_send_what_the_clients_of_the_apis_send() -> None:
    asked = (
        "content-type, x-api-key, anthropic-version, anthropic-dangerous-direct-browser-access, "
        "X-Stainless-Lang, x-stainless-retry-count, openai-beta, authorization, cookie, x bad, ü"
    )
    found = dict(
        preflight_headers(
            head(access_control_request_method="POST", access_control_request_headers=asked)
        )
    )
    allowed = found["Access-Control-Allow-Headers"].split(", ")
    assert len(allowed) == len(set(allowed))
    assert {
        *("content-type", "x-api-key", "authorization", "anthropic-version", "openai-beta"),
        *("anthropic-dangerous-direct-browser-access", "x-stainless-lang"),
        "x-stainless-retry-count",
    } <= set(allowed)
    assert not {"cookie", "x bad", "ü"} & set(allowed)
    many = ",".join(f"x-{number}" for number in range(1000))
    found = dict(
        preflight_headers(
            head(access_control_request_method="POST", access_control_request_headers=many)
        )
    )
    assert len(found["Access-Control-Allow-Headers"]) < 2000
