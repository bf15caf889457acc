from __future__ import annotations

import gzip

import pytest

from modeldeck.core.api.http import messages
from modeldeck.core.api.http.messages import Response, SharedBody
from modeldeck.core.api.http.request_head import RequestHead, read
from modeldeck.core.api.http.responses import (
    LARGE_BYTES,
    buffered,
    is_slow,
    negotiated,
    negotiated_in_thread,
    takes_gzip,
)

BODY = b'{"name": "a model of many"}' * 100


def head(method: str = "GET", **headers: str) -> RequestHead:
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return read(method, "/models", [(b"host", b"localhost"), *raw], "1.1")


def sent(answer: Response) -> dict[str, str]:
    return {name.lower(): value for name, value in answer.headers}


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        ("gzip", True),
        ("GZip;q=0.5", True),
        ("deflate, gzip;q=1.0, *;q=0.5", True),
        ("*", True),
        ("x-gzip", True),
        ("gzip;q=0", False),
        ("gzip; q=0.000", False),
        ("*;q=0", False),
        ("identity", False),
        ("br", False),
        ("", False),
        (";;;=,,", False),
    ],
)
def test_who_takes_gzip(text: str, taken: bool) -> None:
    assert takes_gzip(text) is taken


def test_a_shared_body_has_an_etag_that_follows_its_content() -> None:
    first = negotiated(SharedBody(BODY).response, head())
    again = negotiated(SharedBody(bytes(bytearray(BODY))).response, head())
    other = negotiated(SharedBody(BODY + b" ").response, head())
    assert sent(first)["etag"].startswith('W/"')
    assert sent(first)["etag"] == sent(again)["etag"] != sent(other)["etag"]
    assert sent(first)["vary"] == "Accept-Encoding"


@pytest.mark.parametrize("form", ["{etag}", '"x", {etag}', "*", "{strong}", ' "a" ,{etag} , "b"'])
def test_what_the_client_has_is_not_sent_again(form: str) -> None:
    answer = SharedBody(BODY).response
    etag = sent(negotiated(answer, head()))["etag"]
    known = form.format(etag=etag, strong=etag.removeprefix("W/"))
    for method in ("GET", "HEAD"):
        unchanged = negotiated(
            answer, head(method, if_none_match=known, accept_encoding="gzip, deflate, br")
        )
        assert (unchanged.status, unchanged.body) == (304, b"")
        assert sent(unchanged)["etag"] == etag


@pytest.mark.parametrize("known", ['"other"', "", 'W/"', "etag"])
def test_what_it_has_not_is_sent(known: str) -> None:
    answer = negotiated(SharedBody(BODY).response, head(if_none_match=known))
    assert (answer.status, answer.body) == (200, BODY)


def test_a_shared_body_is_compressed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[bytes] = []

    def counting(data: bytes) -> bytes:
        made.append(gzip.compress(data))
        return made[-1]

    monkeypatch.setattr(messages, "gzipped", counting)
    answer = SharedBody(BODY).response
    one = negotiated(answer, head(accept_encoding="gzip"))
    two = negotiated(answer, head(accept_encoding="gzip"))
    assert made == [one.body]
    assert one.body is two.body
    assert gzip.decompress(one.body) == BODY
    assert sent(one)["content-encoding"] == "gzip"
    assert sent(one)["etag"] == sent(negotiated(answer, head()))["etag"]


def test_other_answers_are_compressed_where_it_pays() -> None:
    long = negotiated(Response(body=BODY), head(accept_encoding="gzip"))
    assert gzip.decompress(long.body) == BODY
    assert sent(long) == {"content-encoding": "gzip", "vary": "Accept-Encoding"}
    short = Response(body=b"{}")
    failed = Response(body=BODY, status=500)
    assert negotiated(short, head(accept_encoding="gzip")) is short
    assert negotiated(failed, head(accept_encoding="gzip")) is failed
    assert negotiated(Response(body=BODY), None).body == BODY


async def test_long_bodies_are_compressed_in_a_thread_and_a_shared_one_only_once() -> None:
    asked = head(accept_encoding="gzip")
    shared = SharedBody(b"x" * (LARGE_BYTES + 1)).response
    other = Response(body=b"x" * (LARGE_BYTES + 1))
    assert is_slow(shared, asked)
    assert not is_slow(shared, head())
    assert not is_slow(Response(body=BODY), asked)
    for answer in (shared, other):
        compressed = await negotiated_in_thread(answer, asked)
        assert gzip.decompress(compressed.body) == answer.body
    assert not is_slow(shared, asked)
    assert is_slow(other, asked)


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        (SharedBody(BODY).response, b"no-cache"),
        (Response(body=BODY), b"no-store"),
        (Response(body=BODY, status=500), b"no-store"),
    ],
)
def test_only_a_response_with_an_etag_may_be_stored(answer: Response, line: bytes) -> None:
    for headers in ({}, {"accept_encoding": "gzip"}, {"if_none_match": "*"}):
        chosen = negotiated(answer, head(**headers))
        data = buffered(chosen, keep_alive=True, old=False, head_only=True)
        assert b"\r\nCache-Control: %b\r\n" % line in data
        assert (b"\r\nETag: " in data) == (line == b"no-cache")
