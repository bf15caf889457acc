from __future__ import annotations

import gzip

import pytest

from modeldeck.core.api.http.compression import COPIES, LARGE_BYTES, ResponseEncoder, takes_gzip
from modeldeck.core.api.http.messages import Response
from modeldeck.core.api.http.request_head import RequestHead, read

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


def test_a_kept_answer_has_an_etag_that_follows_its_content() -> None:
    content = ResponseEncoder()
    first = content.settled(Response(body=BODY, kept=True), head())
    again = content.settled(Response(body=bytes(bytearray(BODY)), kept=True), head())
    other = content.settled(Response(body=BODY + b" ", kept=True), head())
    assert sent(first)["etag"].startswith('W/"')
    assert sent(first)["etag"] == sent(again)["etag"] != sent(other)["etag"]
    assert sent(first)["vary"] == "Accept-Encoding"


@pytest.mark.parametrize("form", ["{etag}", '"x", {etag}', "*", "{strong}", ' "a" ,{etag} , "b"'])
def test_what_the_client_has_is_not_sent_again(form: str) -> None:
    content = ResponseEncoder()
    answer = Response(body=BODY, kept=True)
    etag = sent(content.settled(answer, head()))["etag"]
    known = form.format(etag=etag, strong=etag.removeprefix("W/"))
    for method in ("GET", "HEAD"):
        settled = content.settled(
            answer, head(method, if_none_match=known, accept_encoding="gzip, deflate, br")
        )
        assert (settled.status, settled.body) == (304, b"")
        assert sent(settled)["etag"] == etag


@pytest.mark.parametrize("known", ['"other"', "", 'W/"', "etag"])
def test_what_it_has_not_is_sent(known: str) -> None:
    settled = ResponseEncoder().settled(Response(body=BODY, kept=True), head(if_none_match=known))
    assert (settled.status, settled.body) == (200, BODY)


def test_a_kept_answer_is_compressed_once() -> None:
    content = ResponseEncoder()
    answer = Response(body=BODY, kept=True)
    one = content.settled(answer, head(accept_encoding="gzip"))
    two = content.settled(answer, head(accept_encoding="gzip"))
    assert one is two
    assert gzip.decompress(one.body) == BODY
    assert sent(one)["content-encoding"] == "gzip"
    assert sent(one)["etag"] == sent(content.settled(answer, head()))["etag"]


def test_other_answers_are_compressed_where_it_pays() -> None:
    content = ResponseEncoder()
    long = content.settled(Response(body=BODY), head(accept_encoding="gzip"))
    assert gzip.decompress(long.body) == BODY
    assert "etag" not in sent(long)
    short = Response(body=b"{}")
    failed = Response(body=BODY, status=500)
    assert content.settled(short, head(accept_encoding="gzip")) is short
    assert content.settled(failed, head(accept_encoding="gzip")) is failed
    assert content.settled(Response(body=BODY), None).body == BODY


async def test_long_bodies_are_compressed_beside_the_loop_and_then_at_hand() -> None:
    content = ResponseEncoder()
    asked = head(accept_encoding="gzip")
    kept = Response(body=b"x" * (LARGE_BYTES + 1), kept=True)
    other = Response(body=b"x" * (LARGE_BYTES + 1))
    assert content.is_slow(kept, asked)
    assert not content.is_slow(kept, head())
    assert not content.is_slow(Response(body=BODY), asked)
    for answer in (kept, other):
        settled = await content.settled_slowly(answer, asked)
        assert gzip.decompress(settled.body) == answer.body
    assert not content.is_slow(kept, asked)
    assert content.is_slow(other, asked)


def test_no_more_than_a_few_bodies_are_held() -> None:
    content = ResponseEncoder()
    for number in range(5 * COPIES):
        body = b"%d" % number * 600
        assert content.settled(Response(body=body, kept=True), head()).body == body
    assert len(content._copies) == COPIES
