from __future__ import annotations

import pytest

from modeldeck.core.api.http.request_head import MAX_QUERY_FIELDS, RequestHead, read
from modeldeck.core.errors import DeckError, InvalidRequest

HOST = (b"Host", b"localhost:1000")


def head(target: str = "/", *headers: tuple[bytes, bytes], method: str = "GET") -> RequestHead:
    return read(method, target, (HOST, *headers), "1.1")


@pytest.mark.parametrize(
    ("target", "path", "query", "host"),
    [
        ("/a/b%2Fc", "/a/b%2Fc", "", "localhost:1000"),
        ("/a?b=c?d", "/a", "b=c?d", "localhost:1000"),
        ("/a?b#c", "/a", "b", "localhost:1000"),
        ("//models", "//models", "", "localhost:1000"),
        ("http://127.0.0.1:5323/a?b", "/a", "b", "127.0.0.1:5323"),
        ("http://127.0.0.1", "/", "", "127.0.0.1"),
    ],
)
def test_targets(target: str, path: str, query: str, host: str) -> None:
    made = head(target)
    assert (made.path, made.query, made.host) == (path, query, host)


@pytest.mark.parametrize("target", ["*", "a", "ftp://localhost/", "http:///a", "http://[::1/"])
def test_targets_that_are_refused(target: str) -> None:
    with pytest.raises(InvalidRequest):
        head(target)


def test_options_may_ask_for_the_server_as_a_whole() -> None:
    assert head("*", method="OPTIONS").path == "*"


@pytest.mark.parametrize(
    ("headers", "version", "status"),
    [
        ([(b"Host", b"a"), (b"host", b"a")], "1.1", 400),
        ([], "1.1", 400),
        ([HOST, (b"Origin", b"a"), (b"origin", b"b")], "1.1", 400),
        ([HOST, (b"Content-Length", b"1"), (b"Content-Length", b"1")], "1.1", 400),
        ([HOST, (b"Content-Length", b"1"), (b"Transfer-Encoding", b"chunked")], "1.1", 400),
        ([HOST, (b"Transfer-Encoding", b"chunked")], "1.0", 400),
        ([HOST, (b"Transfer-Encoding", b"chunked, chunked")], "1.1", 501),
        ([HOST, (b"Content-Length", b"+1")], "1.1", 400),
        ([HOST, (b"Content-Length", "\u0661".encode())], "1.1", 400),
        ([HOST, (b"Content-Length", b"9" * 30)], "1.1", 400),
        ([HOST, (b"Content-Length", b"1"), (b"Content-Encoding", b"br")], "1.1", 415),
        ([HOST] + [(b"X", b"y")] * 100, "1.1", 431),
    ],
)
def test_heads_that_are_refused(
    headers: list[tuple[bytes, bytes]], version: str, status: int
) -> None:
    with pytest.raises(DeckError) as caught:
        read("POST", "/", headers, version)
    assert caught.value.status == status


def test_repeated_headers_are_joined_and_names_lowered() -> None:
    made = head("/", (b"X-A", b" 1 "), (b"x-a", b"2"))
    assert made.headers["x-a"] == "1, 2"


def test_what_a_body_and_an_expectation_look_like() -> None:
    made = head("/", (b"Content-Length", b"0"), (b"Expect", b"100-Continue"))
    assert (made.has_body, made.expects_continue) == (False, True)
    assert head("/", (b"Transfer-Encoding", b"Chunked")).has_body


def test_query_fields_are_decoded_and_bounded() -> None:
    assert head("/?a=b+c&a=%C3%A9&d&bad=%FF").fields() == {"a": "é", "d": "", "bad": "\ufffd"}
    with pytest.raises(InvalidRequest):
        head("/?" + "&".join(["a=b"] * (MAX_QUERY_FIELDS + 1))).fields()
