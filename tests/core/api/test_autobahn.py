"""The cases of the Autobahn test suite for WebSocket servers, as a table of frames.

Which cases there are: https://github.com/crossbario/autobahn-testsuite (its program runs on Python
2 only). Numbers are its own. The socket echoes what it gets, as that suite wants; binary messages
come back as text that tells their length, since nothing here sends binary ones.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from modeldeck.core.api.http.limits import ConnectionLimits
from modeldeck.core.api.http.messages import Request, WebSocket
from modeldeck.core.api.http.router import Route

Serve = Callable[..., Any]
Frame = tuple[int, bytes]

PATIENCE_S = 20

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
LIMITS = ConnectionLimits(message_bytes=128 << 10, close_s=2)
MASK = bytes.fromhex("37fa213d")
HANDSHAKE = (
    b"GET /echo HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%b\r\n"
)
GOOD = "Hello-\u00b5@\u00df\u00f6\u00e4\u00fc\u00e0\u00e1-UTF-8!!"


async def echo(deck: Any, request: Request, socket: WebSocket) -> None:
    await socket.accept(receives=True)
    while True:
        message = await socket.receive()
        await socket.send(message if isinstance(message, str) else f"{len(message)} bytes")


ROUTES = (
    Route(method="GET", template="/echo", operation_id="echo", summary="", tag="", socket=echo),
)


def frame(opcode: int, payload: bytes | str = b"", *, fin: int = 1, rsv: int = 0) -> bytes:
    """A frame of a client."""
    data = payload.encode() if isinstance(payload, str) else payload
    head = bytes((fin << 7 | rsv << 4 | opcode,))
    if len(data) < 126:
        head += bytes((0x80 | len(data),))
    elif len(data) < 1 << 16:
        head += bytes((0x80 | 126,)) + len(data).to_bytes(2)
    else:
        head += bytes((0x80 | 127,)) + len(data).to_bytes(8)
    mask = (MASK * (len(data) // 4 + 1))[: len(data)]
    masked = (int.from_bytes(data) ^ int.from_bytes(mask)).to_bytes(len(data))
    return head + MASK + masked


def closing(code: int, reason: bytes | str = b"") -> bytes:
    """A close frame of a client."""
    text = reason.encode() if isinstance(reason, str) else reason
    return frame(CLOSE, code.to_bytes(2) + text)


async def next_frame(client: Any) -> Frame | None:
    """The next frame of the server: its first byte without FIN, and its payload."""
    async with asyncio.timeout(PATIENCE_S):
        head = await client.reader.read(1)
        if not head:
            return None
        assert head[0] & 0x80, "it is whole"
        size = (await client.reader.readexactly(1))[0]
        assert size < 128, "a server's frame has no mask"
        if size > 125:
            size = int.from_bytes(await client.reader.readexactly(2 if size == 126 else 8))
        return head[0] & 0x7F, await client.reader.readexactly(size)


def shown(frames: Sequence[Frame]) -> list[Frame]:
    """Frames as a case expects them: of a close frame only its code."""
    return [(op, data[:2] if op == CLOSE else data) for op, data in frames]


def ended(code: int) -> Frame:
    return CLOSE, code.to_bytes(2)


def text(payload: str) -> Frame:
    return TEXT, payload.encode()


END = closing(1000)
DONE = ended(1000)
FAILED = ended(1002)
HI = frame(TEXT, "hi")
TWICE = frame(TEXT, "a", fin=0) + frame(CONT, "b")
SAID = text("hi")

# 1: payloads of every length

CASES: list[tuple[str, bytes, list[Frame]]] = [
    *(
        (f"1.1.{n}", frame(TEXT, "*" * size) + END, [text("*" * size), DONE])
        for n, size in enumerate((0, 125, 126, 127, 128, 65535, 65536), 1)
    ),
    *(
        (f"1.2.{n}", frame(BINARY, b"\xfe" * size) + END, [text(f"{size} bytes"), DONE])
        for n, size in enumerate((0, 125, 126, 127, 128, 65535, 65536), 1)
    ),
    # 2: pings and pongs
    ("2.1", frame(PING) + END, [(PONG, b""), DONE]),
    ("2.2", frame(PING, "Hello, world!") + END, [(PONG, b"Hello, world!"), DONE]),
    ("2.3", frame(PING, b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff") + END,
     [(PONG, b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff"), DONE]),
    ("2.4", frame(PING, b"\xfe" * 125) + END, [(PONG, b"\xfe" * 125), DONE]),
    ("2.5", frame(PING, b"\xfe" * 126), [FAILED]),
    ("2.7", frame(PONG) + END, [DONE]),
    ("2.8", frame(PONG, "unsolicited") + END, [DONE]),
    ("2.9", frame(PONG, "unsolicited") + frame(PING, "a") + END, [(PONG, b"a"), DONE]),
    ("2.10", b"".join(frame(PING, f"{n}") for n in range(10)) + END,
     [*((PONG, b"%d" % n) for n in range(10)), DONE]),
    # 3: reserved bits
    ("3.1", frame(TEXT, "x", rsv=1), [FAILED]),
    ("3.2", HI + frame(TEXT, "x", rsv=2) + frame(PING), [SAID, FAILED]),
    ("3.3", HI + frame(TEXT, "x", rsv=3) + frame(PING), [SAID, FAILED]),
    ("3.4", HI + frame(TEXT, "x", rsv=4) + frame(PING), [SAID, FAILED]),
    ("3.5", frame(BINARY, "x", rsv=5), [FAILED]),
    ("3.6", frame(PING, "x", rsv=6), [FAILED]),
    ("3.7", frame(CLOSE, b"\x03\xe8", rsv=7), [FAILED]),
    # 4: reserved opcodes
    *((f"4.1.{n}", HI + frame(n + 2, "x" * (n % 2)) + frame(PING), [SAID, FAILED])
      for n in range(1, 6)),
    *((f"4.2.{n}", HI + frame(n + 10, "x" * (n % 2)) + frame(PING), [SAID, FAILED])
      for n in range(1, 6)),
    # 5: fragments
    ("5.1", frame(PING, "a", fin=0) + frame(CONT, "b"), [FAILED]),
    ("5.2", frame(PONG, "a", fin=0) + frame(CONT, "b"), [FAILED]),
    ("5.3", frame(TEXT, "a", fin=0) + frame(CONT, "b") + END, [text("ab"), DONE]),
    ("5.6", frame(TEXT, "a", fin=0) + frame(PING, "p") + frame(CONT, "b") + END,
     [(PONG, b"p"), text("ab"), DONE]),
    ("5.9", frame(CONT, "x") + HI, [FAILED]),
    ("5.10", frame(CONT, "x", fin=0) + HI, [FAILED]),
    ("5.12", frame(CONT, "x", fin=0) + frame(CONT, "y") + HI, [FAILED]),
    ("5.15", TWICE + frame(CONT, "c", fin=0) + HI,
     [text("ab"), FAILED]),
    ("5.16", (frame(CONT, "a", fin=0) + frame(TEXT, "b", fin=0) + frame(CONT, "c")) * 2, [FAILED]),
    ("5.18", frame(TEXT, "a", fin=0) + frame(TEXT, "b"), [FAILED]),
    ("5.19", frame(TEXT, "a", fin=0) + frame(CONT, "b", fin=0) + frame(PING, "1")
     + frame(CONT, "c", fin=0) + frame(CONT, "d", fin=0) + frame(PING, "2") + frame(CONT, "e")
     + END, [(PONG, b"1"), (PONG, b"2"), text("abcde"), DONE]),
    # 6: UTF-8
    ("6.1.1", frame(TEXT) + END, [text(""), DONE]),
    ("6.1.2", frame(TEXT, fin=0) + frame(CONT, fin=0) + frame(CONT) + END, [text(""), DONE]),
    ("6.1.3", frame(TEXT, fin=0) + frame(CONT, "middle", fin=0) + frame(CONT) + END,
     [text("middle"), DONE]),
    ("6.2.1", frame(TEXT, GOOD) + END, [text(GOOD), DONE]),
    ("6.2.3", frame(TEXT, fin=0)
     + b"".join(frame(CONT, bytes((octet,)), fin=0) for octet in GOOD.encode())
     + frame(CONT) + END, [text(GOOD), DONE]),
    ("6.3.1", frame(TEXT, GOOD.encode() + b"\xed\xa0\x80edited"), [ended(1007)]),
    ("6.4.1", frame(TEXT, GOOD, fin=0) + frame(CONT, b"\xf4\x90\x80\x80", fin=0), [ended(1007)]),
    # 7: closing
    ("7.1.1", HI + END, [SAID, DONE]),
    ("7.1.2", END + END, [DONE]),
    ("7.1.3", END + frame(PING), [DONE]),
    ("7.1.4", END + HI, [DONE]),
    ("7.1.5", frame(TEXT, "a", fin=0) + END + frame(CONT, "b"), [FAILED]),
    ("7.3.1", frame(CLOSE), [(CLOSE, b"")]),
    ("7.3.2", frame(CLOSE, "a"), [FAILED]),
    ("7.3.3", closing(1000), [DONE]),
    ("7.3.4", closing(1000, "Hello"), [DONE]),
    ("7.3.5", closing(1000, "*" * 123), [DONE]),
    ("7.3.6", closing(1000, "*" * 124), [FAILED]),
    ("7.5.1", closing(1000, b"\xce\xba\xed\xa0\x80edited"), [ended(1007)]),
    *((f"7.7.{n}", closing(code), [ended(code)]) for n, code in enumerate(
        (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999), 1)),
    *((f"7.9.{n}", closing(code), [FAILED]) for n, code in enumerate(
        (0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999), 1)),
    ("7.13.1", closing(5000), [FAILED]),
    ("7.13.2", closing(65535), [FAILED]),
    # 9: sizes; what is over our limit is refused as such
    ("9.1", frame(TEXT, "*" * (LIMITS.message_bytes + 1)), [ended(1009)]),
    ("9.3", frame(TEXT, "*" * 65536, fin=0) + frame(CONT, "*" * 65536, fin=0) + frame(CONT, "*"),
     [ended(1009)]),
    ("9.3.0", frame(TEXT, "*", fin=0) + frame(CONT, fin=0) * 5000 + frame(CONT, "*") + END,
     [text("**"), DONE]),
    # 10: a message cut by a proxy
    ("10.1.1", frame(TEXT, "*" * 1300, fin=0) + frame(CONT, "*" * 1300, fin=0) * 49
     + frame(CONT, "*" * 536) + END, [text("*" * 65536), DONE]),
]  # fmt: skip

BAD_TEXTS = (
    *(b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80", b"\xfc\x84\x80\x80\x80\x80", b"\xf4\x90\x80\x80"),
    *(b"\x80", b"\xbf", b"\x80\xbf" * 3, b"\xc0 ", b"\xe0 ", b"\xf0 ", b"\xfe", b"\xff"),
    *(b"\xc0", b"\xe0\x80", b"\xf0\x80\x80", b"\xdf", b"\xef\xbf", b"\xf7\xbf\xbf"),
    *(b"\xc0\xaf", b"\xe0\x80\xaf", b"\xf0\x80\x80\xaf", b"\xc1\xbf", b"\xe0\x9f\xbf"),
    *(b"\xc0\x80", b"\xed\xad\xbf", b"\xed\xbf\xbf", b"\xed\xa0\x80\xed\xb0\x80", b"\xce"),
)
"""6.6 to 6.21: cut short, lone, overlong, beyond U+10FFFF, surrogates."""

GOOD_TEXTS = ("\0", "\x7f", "\x80", "\u07ff", "\u0800", "\uffff", "\U00010000", "\U0010ffff",
              "\ud7ff", "\ue000", "\ufffd", "\ufffe", "\U0001fffe")  # fmt: skip
"""6.5, 6.7, 6.9, 6.11, 6.22, 6.23: the edges, and what is no character but may be sent."""

CASES += [(f"6.6.{n}", frame(TEXT, bad), [ended(1007)]) for n, bad in enumerate(BAD_TEXTS, 1)]
CASES += [
    (f"6.22.{n}", frame(TEXT, good) + END, [text(good), DONE])
    for n, good in enumerate(GOOD_TEXTS, 1)
]


async def talked(
    served: Any, data: bytes, expected: int, extra: bytes = b"", chop: int = 0
) -> list[Frame]:
    """Frames of the server for a client that sends `data`, whose last part ends the exchange.

    That part, from `END` or the echo of a message on, is sent last: unread data is not answered
    when the connection closes.
    """
    client = await served.connect()
    await client.send(HANDSHAKE % extra)
    assert (await client.head())[0] == 101
    frames: list[Frame] = []
    for part in split(data):
        for start in range(0, len(part), chop or len(part)):
            await client.send(part[start : start + (chop or len(part))])
        while len(frames) < expected - 1 and (frame := await next_frame(client)):
            frames.append(frame)
    while (frame := await next_frame(client)) is not None:
        frames.append(frame)
    return frames


def split(data: bytes) -> list[bytes]:
    """What a client sends before it has its answers, and after."""
    for first in (HI, TWICE):
        if data.startswith(first):
            return [first, data[len(first) :]]
    return [data.removesuffix(END), END] if data.endswith(END) and data != END else [data]


@pytest.mark.parametrize(
    ("data", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
async def test_case(serve: Serve, data: bytes, expected: list[Frame]) -> None:
    served = await serve(ROUTES, limits=LIMITS)
    assert shown(await talked(served, data, len(expected))) == expected


@pytest.mark.parametrize("number", ["2.6", "5.4", "5.7", "6.2.4"])
async def test_octet_by_octet(serve: Serve, number: str) -> None:
    source = {"2.6": "2.4", "5.4": "5.3", "5.7": "5.6", "6.2.4": "6.2.3"}[number]
    data, expected = next(case[1:] for case in CASES if case[0] == source)
    served = await serve(ROUTES, limits=LIMITS)
    assert shown(await talked(served, data, len(expected), chop=1)) == expected


# 12 and 13: permessage-deflate


def deflated(payload: bytes) -> bytes:
    zipper = zlib.compressobj(wbits=-15)
    return (zipper.compress(payload) + zipper.flush(zlib.Z_SYNC_FLUSH)).removesuffix(
        b"\x00\x00\xff\xff"
    )


def inflated(frame: Frame) -> bytes:
    assert frame[0] == 0x40 | TEXT
    return zlib.decompressobj(-15).decompress(frame[1] + b"\x00\x00\xff\xff")


OFFER = b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
LONG = b'{"seq": 17, "event": "download_changed"}' * 100


async def test_messages_are_deflated_each_for_itself_where_that_was_agreed(serve: Serve) -> None:
    served = await serve(ROUTES, limits=LIMITS)
    sent = frame(TEXT, deflated(LONG), rsv=4) + frame(TEXT, LONG) + frame(TEXT, "short") + END
    one, two, three, end = await talked(served, sent, 4, OFFER)
    assert inflated(one) == inflated(two) == LONG
    assert one == two
    assert three == text("short")
    assert end[1] == b"\x03\xe8"


async def test_a_deflated_message_may_be_cut(serve: Serve) -> None:
    data = deflated(LONG)
    sent = frame(TEXT, data[:9], fin=0, rsv=4) + frame(PING) + frame(CONT, data[9:]) + END
    pong, answer, _ = await talked(await serve(ROUTES, limits=LIMITS), sent, 3, OFFER)
    assert pong == (PONG, b"")
    assert inflated(answer) == LONG


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(TEXT, b"\xff\xff\xff not deflated", rsv=4), 1002),
        (frame(PING, b"x", rsv=4), 1002),
        (frame(TEXT, deflated(b"a"), fin=0, rsv=4) + frame(CONT, b"", rsv=4), 1002),
        (frame(TEXT, deflated(b"\0" * (64 << 20)), rsv=4), 1009),
        (frame(TEXT, deflated(b"\xff\xfe"), rsv=4), 1007),
    ],
    ids=["junk", "control", "continuation", "bomb", "utf-8"],
)
async def test_what_is_wrong_with_a_deflated_message(serve: Serve, data: bytes, code: int) -> None:
    served = await serve(ROUTES, limits=LIMITS)
    assert shown(await talked(served, data, 1, OFFER)) == [ended(code)]


@pytest.mark.parametrize(
    ("offer", "agreed"),
    [
        (b"permessage-deflate", True),
        (b"permessage-deflate; client_no_context_takeover; server_no_context_takeover", True),
        (b"permessage-deflate; server_max_window_bits=15", True),
        (b"permessage-deflate; server_max_window_bits=10", False),
        (b"permessage-deflate; server_max_window_bits=10, permessage-deflate", True),
        (b"permessage-deflate; unknown=1", False),
        (b"permessage-deflate; server_max_window_bits=99", False),
        (b"x-webkit-deflate-frame", False),
    ],
)
async def test_what_is_agreed_on(serve: Serve, offer: bytes, agreed: bool) -> None:
    client = await (await serve(ROUTES)).connect()
    await client.send(HANDSHAKE % (b"Sec-WebSocket-Extensions: %b\r\n" % offer))
    status, headers = await client.head()
    assert status == 101
    said = headers.get("sec-websocket-extensions", "")
    assert ("server_no_context_takeover" in said) == agreed
    assert ("client_no_context_takeover" in said) == agreed
