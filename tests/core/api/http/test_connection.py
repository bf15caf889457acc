"""How the listener behaves on the wire, byte by byte."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from modeldeck.core.api.http.limits import ConnectionLimits
from tests.core.api.http.served_routes import HOST, JSON, ROUTES, Serve, post


async def test_a_request_is_answered_with_all_that_a_good_server_says(serve: Serve) -> None:
    answer = await (await serve(ROUTES)).ask(b"GET /plain?a=b%20c HTTP/1.1\r\n" + HOST + b"\r\n")
    assert answer.status == 200
    assert msgspec.json.decode(answer.body) == {"path": "/plain", "a": "b c"}
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "date" in answer.headers
    assert "connection" not in answer.headers


REFUSED = [
    # what is sent, status, whether the connection ends
    (b"GET /none HTTP/1.1\r\n" + HOST + b"\r\n", 404, False),
    (b"DELETE /plain HTTP/1.1\r\n" + HOST + b"\r\n", 405, False),
    (b"GET /plain HTTP/1.1\r\n\r\n", 400, True),
    (b"GET /plain HTTP/1.1\r\n" + HOST + HOST + b"\r\n", 400, True),
    (b"GET /plain HTTP/1.1\r\nHost: evil.example\r\n\r\n", 403, False),
    (b"GET http://evil.example/plain HTTP/1.1\r\n" + HOST + b"\r\n", 403, False),
    (b"GET /plain HTTP/1.1\r\n" + HOST + b"Origin: http://evil.example\r\n\r\n", 403, False),
    (b"GET /plain HTTP/1.1\r\n" + HOST + b"Sec-Fetch-Site: cross-site\r\n\r\n", 403, False),
    (b"GET /plain HTTP/1.1\r\n" + HOST + b"Bad Header: x\r\n\r\n", 400, True),
    (b"GET /plain HTTP/1.1\r\n" + HOST + b"X: a\r\n folded\r\n\r\n", 400, True),
    (b"GET /plain HTTP/1.1\r\n" + HOST + b"X: a\x00b\r\n\r\n", 400, True),
    (b"GET /plain HTTP/1.1\n" + b"Host: localhost\n\n", 400, True),
    (b"GET /pl ain HTTP/1.1\r\n" + HOST + b"\r\n", 400, True),
    (b"GET /plain HTTP/3.7\r\n" + HOST + b"\r\n", 400, True),
    (b"NONSENSE\r\n\r\n", 400, True),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, True),
    (b"CONNECT localhost:80 HTTP/1.1\r\n" + HOST + b"\r\n", 400, True),
    (b"GET /plain HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 200_000 + b"\r\n\r\n", 431, True),
    (b"GET /plain HTTP/1.1\r\n" + HOST + b"X: a\r\n" * 101 + b"\r\n", 431, True),
    (b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 431, True),
    (
        b"POST /echo HTTP/1.1\r\n" + HOST + JSON + b"Content-Length: 4\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
        True,
    ),
    (
        b"POST /echo HTTP/1.1\r\n" + HOST + JSON + b"Content-Length: 4\r\n"
        b"Content-Length: 5\r\n\r\nnull",
        400,
        True,
    ),
    (b"POST /echo HTTP/1.1\r\n" + HOST + JSON + b"Content-Length: -1\r\n\r\n", 400, True),
    (b"POST /echo HTTP/1.1\r\n" + HOST + JSON + b"Content-Length: 0x4\r\n\r\n", 400, True),
    (
        b"POST /echo HTTP/1.1\r\n" + HOST + JSON + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
        501,
        True,
    ),
    (
        b"POST /echo HTTP/1.1\r\n" + HOST + JSON + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
        400,
        True,
    ),
    (b"POST /echo HTTP/1.1\r\n" + HOST + b"Content-Length: 4\r\n\r\nnull", 415, True),
    (
        b"POST /echo HTTP/1.1\r\n"
        + HOST
        + b"Content-Type: text/plain\r\nContent-Length: 4\r\n\r\n",
        415,
        True,
    ),
    (
        b"POST /echo HTTP/1.1\r\n" + HOST + JSON + b"Content-Encoding: gzip\r\n"
        b"Content-Length: 4\r\n\r\n",
        415,
        True,
    ),
    (b"POST /echo HTTP/1.1\r\n" + HOST + JSON + b"Content-Length: 9999999\r\n\r\n", 413, True),
    (b"POST /none HTTP/1.1\r\n" + HOST + JSON + b"Content-Length: 4\r\n\r\nnull", 404, True),
    (
        b"POST /echo HTTP/1.1\r\n" + HOST + JSON + b"Connection: Upgrade\r\nUpgrade: h2c\r\n"
        b"Content-Length: 4\r\n\r\nnull",
        400,
        True,
    ),
]


@pytest.mark.parametrize(("data", "status", "ends"), REFUSED)
async def test_what_is_refused(serve: Serve, data: bytes, status: int, ends: bool) -> None:
    client = await (await serve(ROUTES)).connect()
    await client.send(data)
    answer = await client.answer()
    assert answer.status == status
    assert "error" in msgspec.json.decode(answer.body)
    assert (answer.headers.get("connection") == "close") == ends
    if ends:
        assert await client.ended() == b""
    else:
        await client.send(b"GET /plain HTTP/1.1\r\n" + HOST + b"\r\n")
        assert (await client.answer()).status == 200


async def test_a_body_over_the_limit_is_refused_while_it_comes(serve: Serve) -> None:
    client = await (await serve(ROUTES)).connect()
    await client.send(
        b"POST /echo HTTP/1.1\r\n" + HOST + JSON + b"Transfer-Encoding: chunked\r\n\r\n"
    )
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    for _ in range(20):
        await client.send(chunk)
    assert (await client.answer()).status == 413
    assert await client.ended() == b""


@pytest.mark.parametrize(
    ("body", "part"),
    [
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[1,]", "not JSON"),
        (b'{"a":NaN}', "not JSON"),
        (b"[" * 100 + b"]" * 100, "nested deeper"),
        (b"[" * 100_000 + b"]" * 100_000, "JSON"),
        (b'{"a":' * 100 + b"1" + b"}" * 100, "nested deeper"),
    ],
)
async def test_a_bad_body_is_refused_in_words(serve: Serve, body: bytes, part: str) -> None:
    answer = await (await serve(ROUTES)).ask(post(body))
    assert answer.status == 400
    assert part in msgspec.json.decode(answer.body)["error"]["message"]


@pytest.mark.parametrize("size", [1, 3, 1000])
async def test_a_request_may_come_in_pieces(serve: Serve, size: int) -> None:
    client = await (await serve(ROUTES)).connect()
    data = post(b'{"a": [1, 2, 3]}')
    for start in range(0, len(data), size):
        await client.send(data[start : start + size])
        await asyncio.sleep(0)
    assert msgspec.json.decode((await client.answer()).body)["body"] == {"a": [1, 2, 3]}


async def test_a_long_head_may_come_in_pieces_as_well(serve: Serve) -> None:
    """Each byte counts once for the limit, however the head is divided."""
    client = await (await serve(ROUTES)).connect()
    head = b"GET /plain HTTP/1.1\r\n" + HOST + (b"X: " + b"a" * 495 + b"\r\n") * 60 + b"\r\n"
    assert 29_000 < len(head) < ConnectionLimits().head_bytes
    for start in range(0, len(head), 1000):
        await client.send(head[start : start + 1000])
        await asyncio.sleep(0)
    assert (await client.answer()).status == 200


CHUNKED = b"POST /echo HTTP/1.1\r\n" + HOST + JSON + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "begun",
    [b"GET /plain HTTP/1.1\r\n" + HOST + b"X: ", CHUNKED + b"1\r\n1\r\n0\r\nX: "],
    ids=["header", "trailer"],
)
async def test_a_header_without_an_end_is_refused_in_pieces_as_well(
    serve: Serve, begun: bytes
) -> None:
    client = await (await serve(ROUTES)).connect()
    await client.send(begun)
    for _ in range(60):
        await client.send(b"a" * 1000)
        await asyncio.sleep(0)
    assert (await client.answer()).status == 431


async def test_chunks_count_for_the_body_and_not_for_the_head(serve: Serve) -> None:
    """However small: these are 120 kB, of which 20 kB are the body."""
    client = await (await serve(ROUTES)).connect()
    await client.send(CHUNKED + b"1\r\n1\r\n" * 20_000 + b"0\r\nX: a\r\n\r\n")
    answer = await client.answer()
    assert answer.status == 400
    assert b"JSON" in answer.body


async def test_keep_alive_and_pipelining_keep_the_order(serve: Serve) -> None:
    client = await (await serve(ROUTES)).connect()
    count = 60
    await client.send(
        b"".join(
            post(b"%d" % number)
            + b"GET /things/%d HTTP/1.1\r\n" % number
            + HOST
            + b"\r\nHEAD /plain HTTP/1.1\r\n"
            + HOST
            + b"\r\n"
            for number in range(count)
        )
    )
    for number in range(count):
        assert msgspec.json.decode((await client.answer()).body)["body"] == number
        assert msgspec.json.decode((await client.answer()).body)["thing"] == str(number)
        assert (await client.answer(head_only=True)).status == 200


async def test_a_chunked_body_with_trailers(serve: Serve) -> None:
    answer = await (await serve(ROUTES)).ask(
        b"POST /echo HTTP/1.1\r\n" + HOST + JSON + b"Transfer-Encoding: chunked\r\n\r\n"
        b'3;ext=1\r\n{"a\r\n4\r\n":1}\r\n0\r\nX-Trailer: 1\r\n\r\n'
    )
    assert msgspec.json.decode(answer.body)["body"] == {"a": 1}


async def test_a_client_that_expects_100_gets_it_before_it_sends(serve: Serve) -> None:
    client = await (await serve(ROUTES)).connect()
    data = post(b"[1]", b"Expect: 100-continue")
    head, _, body = data.partition(b"\r\n\r\n")
    await client.send(head + b"\r\n\r\n")
    assert (await client.answer()).status == 100
    await client.send(body)
    assert (await client.answer()).status == 200


async def test_a_client_that_expects_100_is_refused_at_once(serve: Serve) -> None:
    client = await (await serve(ROUTES)).connect()
    await client.send(
        b"POST /none HTTP/1.1\r\n"
        + HOST
        + JSON
        + b"Expect: 100-continue\r\nContent-Length: 4\r\n\r\n"
    )
    assert (await client.answer()).status == 404
    assert await client.ended() == b""


async def test_head_has_the_head_of_get_and_no_body(serve: Serve) -> None:
    client = await (await serve(ROUTES)).connect()
    await client.send(b"HEAD /plain HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n")
    answer = await client.answer(head_only=True)
    assert int(answer.headers["content-length"]) > 0
    assert await client.ended() == b""


async def test_http_1_0(serve: Serve) -> None:
    served = await serve(ROUTES)
    client = await served.connect()
    await client.send(b"GET /plain HTTP/1.0\r\n" + HOST + b"Connection: keep-alive\r\n\r\n")
    assert (await client.answer()).headers["connection"] == "keep-alive"
    await client.send(b"GET /stream HTTP/1.0\r\n" + HOST + b"\r\n")
    answer = await client.answer()
    assert "transfer-encoding" not in answer.headers
    assert answer.body == b"first 0 1 2 "


async def test_nothing_after_connection_close_counts(serve: Serve) -> None:
    client = await (await serve(ROUTES)).connect()
    request = b"GET /plain HTTP/1.1\r\n" + HOST
    await client.send(request + b"Connection: close\r\n\r\n" + request + b"\r\n")
    assert (await client.answer()).status == 200
    assert await client.ended() == b""


async def test_an_upgrade_to_something_else_is_ignored(serve: Serve) -> None:
    client = await (await serve(ROUTES)).connect()
    await client.send(
        b"GET /plain HTTP/1.1\r\n" + HOST + b"Connection: Upgrade, HTTP2-Settings\r\n"
        b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n"
    )
    assert (await client.answer()).status == 200
    assert await client.ended() == b""


async def test_streams_are_chunked_and_the_connection_goes_on(serve: Serve) -> None:
    client = await (await serve(ROUTES)).connect()
    for _ in range(2):
        await client.send(b"GET /stream HTTP/1.1\r\n" + HOST + b"\r\n")
        answer = await client.answer()
        assert answer.headers["transfer-encoding"] == "chunked"
        assert answer.body == b"first 0 1 2 "


@pytest.mark.parametrize(
    ("path", "status", "content_type"),
    [
        ("failing", 404, "application/json"),
        ("failing-text", 410, "text/plain; charset=utf-8"),
        ("failing-openai", 404, "application/json"),
    ],
)
async def test_errors_in_the_style_of_the_route(
    serve: Serve, path: str, status: int, content_type: str
) -> None:
    answer = await (await serve(ROUTES)).ask(
        b"GET /%b HTTP/1.1\r\n" % path.encode() + HOST + b"\r\n"
    )
    assert (answer.status, answer.headers["content-type"]) == (status, content_type)
    assert b"No such thing." in answer.body
    assert b"Ask for another." in answer.body


async def test_a_bug_is_logged_and_not_told(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    answer = await (await serve(ROUTES)).ask(b"GET /broken HTTP/1.1\r\n" + HOST + b"\r\n")
    assert answer.status == 500
    assert b"secret" not in answer.body
    assert "the secret of the core" in caplog.text


async def test_a_half_closed_client_gets_its_answers(serve: Serve) -> None:
    client = await (await serve(ROUTES)).connect()
    await client.send(post(b"1") + post(b"2") + b"GET /pla")
    client.writer.write_eof()
    assert msgspec.json.decode((await client.answer()).body)["body"] == 1
    assert msgspec.json.decode((await client.answer()).body)["body"] == 2
    assert await client.ended() == b""


async def test_options_and_preflight(serve: Serve) -> None:
    served = await serve(ROUTES, allowed_origins=("http://app.example",))
    answer = await served.ask(b"OPTIONS /plain HTTP/1.1\r\n" + HOST + b"\r\n")
    assert (answer.status, answer.headers["allow"]) == (204, "GET, HEAD")
    answer = await served.ask(
        b"OPTIONS /echo HTTP/1.1\r\n" + HOST + b"Origin: http://app.example\r\n"
        b"Access-Control-Request-Method: POST\r\nSec-Fetch-Site: cross-site\r\n\r\n"
    )
    assert answer.status == 204
    assert answer.headers["access-control-allow-origin"] == "http://app.example"
    assert "x-application-id" in answer.headers["access-control-allow-headers"]
    answer = await served.ask(post(b"1", b"Origin: http://app.example"))
    assert answer.headers["access-control-allow-origin"] == "http://app.example"
    assert answer.headers["vary"] == "Origin"
    answer = await served.ask(
        b"OPTIONS /echo HTTP/1.1\r\n" + HOST + b"Origin: http://evil.example\r\n"
        b"Access-Control-Request-Method: POST\r\n\r\n"
    )
    assert answer.status == 403
    assert "access-control-allow-origin" not in answer.headers
