from __future__ import annotations

import pytest

from modeldeck.core.api.http.access import Access, ListenAddress, Need, network, remaining_s
from modeldeck.core.api.http.origin_checks import policy
from modeldeck.core.api.http.rate_limit import Allowance, RequestLimiter
from modeldeck.core.api.http.request_head import RequestHead, read
from modeldeck.core.errors import (
    DeckError,
    Forbidden,
    InvalidRequest,
    TooManyRequests,
    Unauthorized,
)
from modeldeck.core.schema import Scope, Token

SECRET = "mdk_" + "s" * 43
OTHER = "mdk_" + "o" * 43
SOCKET = ListenAddress(name="socket", policy=policy())
LOOPBACK = ListenAddress(name="loopback", policy=policy())
SHARED = ListenAddress(name="loopback", policy=policy(), needs_token=True)
OUTSIDE = ListenAddress(name="outside", policy=policy(), needs_token=True)
PEER = "192.0.2.7:5000"


def token(*scopes: Scope, expires_at: str | None = None) -> Token:
    return Token(id="1", name="laptop", scopes=scopes, created_at="", expires_at=expires_at)


def access(known: Token | None = None, burst: float = 100) -> Access:
    limiter = RequestLimiter(Allowance(per_s=1, burst=burst, at_once=9), lambda: 100.0)
    return Access(lambda secret: known if secret == SECRET else None, limiter)


def head(authorization: str | None = None, target: str = "/models") -> RequestHead:
    raw = [(b"host", b"localhost")]
    if authorization is not None:
        raw.append((b"authorization", authorization.encode()))
    return read("GET", target, raw, "1.1")


@pytest.mark.parametrize(
    ("door", "authorization", "name", "key"),
    [
        (SOCKET, None, PEER, None),
        (SOCKET, f"Bearer {SECRET}", PEER, None),
        (SOCKET, f"Bearer {OTHER}", PEER, None),
        (LOOPBACK, None, PEER, None),
        (LOOPBACK, "Bearer sk-none", PEER, None),
        (LOOPBACK, "Basic dXNlcjpwYXNz", PEER, None),
        (LOOPBACK, f"Bearer {SECRET}", f"{PEER} token=laptop", "token 1"),
        (SHARED, f"bearer  {SECRET}", f"{PEER} token=laptop", "token 1"),
        (OUTSIDE, f"BEARER {SECRET}", f"{PEER} token=laptop", "token 1"),
    ],
)
def test_who_is_let_in(
    door: ListenAddress, authorization: str | None, name: str, key: str | None
) -> None:
    caller = access(token("read")).caller(head(authorization), door, PEER, "read")
    assert (caller.name, caller.key) == (name, key)


@pytest.mark.parametrize(
    ("door", "authorization"),
    [
        (LOOPBACK, f"Bearer {OTHER}"),
        *((SHARED, text) for text in (None, "", "Bearer", "Bearer ", "Bearer sk-none")),
        *((OUTSIDE, text) for text in (None, f"Bearer {OTHER}", f"Basic {SECRET}", SECRET)),
        (OUTSIDE, f"Bearer {SECRET}, Bearer {OTHER}"),
    ],
)
def test_who_is_not(door: ListenAddress, authorization: str | None) -> None:
    with pytest.raises(Unauthorized, match="token"):
        access(token("read")).caller(head(authorization), door, PEER, "read")


@pytest.mark.parametrize(
    ("key", "bearer", "name"),
    [
        (SECRET, None, f"{PEER} token=laptop"),
        (SECRET, "Bearer sk-none", f"{PEER} token=laptop"),
        ("sk-none", f"Bearer {SECRET}", f"{PEER} token=laptop"),
        (SECRET, "Basic dXNlcjpwYXNz", f"{PEER} token=laptop"),
        ("sk-none", None, None),
        (OTHER, f"Bearer {SECRET}", None),
        ("", None, None),
    ],
)
def test_a_token_may_come_as_anthropic_s_clients_send_it(
    key: str, bearer: str | None, name: str | None
) -> None:
    raw = [(b"host", b"localhost"), (b"x-api-key", key.encode())]
    raw += [(b"authorization", bearer.encode())] if bearer is not None else []
    asked = read("GET", "/models", raw, "1.1")
    if name is None:
        with pytest.raises(Unauthorized):
            access(token("read")).caller(asked, OUTSIDE, PEER, "read")
    else:
        assert access(token("read")).caller(asked, OUTSIDE, PEER, "read").name == name


def test_what_is_open_needs_no_token_anywhere() -> None:
    assert access().caller(head(), OUTSIDE, PEER, "open").token is None


@pytest.mark.parametrize(
    ("scopes", "need", "method", "may"),
    [
        (("read",), "read", "GET", True),
        (("read",), "infer", "GET", True),
        (("read",), "infer", "POST", False),
        (("read",), "manage", "POST", False),
        (("infer",), "infer", "POST", True),
        (("infer",), "infer", "HEAD", True),
        (("infer",), "read", "GET", False),
        (("infer", "read"), "manage", "DELETE", False),
        (("manage",), "read", "GET", True),
        (("manage",), "infer", "POST", True),
        (("manage",), "manage", "DELETE", True),
        (("manage",), "owner", "POST", False),
        ((), "open", "GET", True),
    ],
)
def test_scopes(scopes: tuple[Scope, ...], need: Need, method: str, may: bool) -> None:
    judge = access(token(*scopes))
    caller = judge.caller(head(f"Bearer {SECRET}"), OUTSIDE, PEER, "read")
    if may:
        judge.check(caller, need, method, OUTSIDE)
    else:
        with pytest.raises(Forbidden):
            judge.check(caller, need, method, OUTSIDE)


def test_tokens_are_managed_over_the_socket_alone() -> None:
    judge = access()
    caller = judge.caller(head(), LOOPBACK, PEER, "owner")
    judge.check(caller, "owner", "POST", SOCKET)
    with pytest.raises(Forbidden, match="Unix socket"):
        judge.check(caller, "owner", "POST", LOOPBACK)


@pytest.mark.parametrize(
    "target",
    [
        f"/models?access_token={OTHER}",
        "/models?limit=1&token=anything",
        "/models?API_KEY=x",
        f"/models?query={SECRET}",
        f"/deck/models/{SECRET}",
    ],
)
@pytest.mark.parametrize("door", [SOCKET, LOOPBACK, OUTSIDE])
def test_a_token_in_a_url_is_refused_even_a_good_one(target: str, door: ListenAddress) -> None:
    with pytest.raises(InvalidRequest, match="URL"):
        access(token("manage")).caller(head(f"Bearer {SECRET}", target), door, PEER, "read")


def test_every_try_counts_and_good_tokens_are_counted_apart() -> None:
    judge = access(token("read"), burst=3)

    def tries(authorization: str | None, peer: str = PEER) -> type[DeckError] | None:
        try:
            judge.caller(head(authorization), OUTSIDE, peer, "read")
        except DeckError as error:
            return type(error)
        return None

    refused = [tries(f"Bearer {OTHER}"), tries(None), tries("Bearer x"), tries(None)]
    assert refused == [Unauthorized, Unauthorized, Unauthorized, TooManyRequests]
    assert tries(None, "192.0.2.8:5000") is Unauthorized
    good = [tries(f"Bearer {SECRET}", f"192.0.2.{n}:1") for n in range(4)]
    assert good == [None, None, None, TooManyRequests]


def test_a_refusal_says_when_to_come_back() -> None:
    judge = access(burst=1)
    judge.caller(head(), OUTSIDE, PEER, "open")
    with pytest.raises(TooManyRequests) as caught:
        judge.caller(head(), OUTSIDE, PEER, "open")
    assert caught.value.retry_after_s in (1, 2)


@pytest.mark.parametrize(
    ("peer", "counted_by"),
    [
        ("192.0.2.7:5000", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6:5000", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.7:5000", "192.0.2.7"),
        ("fe80::1%eth0:5000", "fe80::/64"),
        ("unknown", ""),
    ],
)
def test_a_host_is_counted_once_however_many_addresses_it_has(peer: str, counted_by: str) -> None:
    assert network(peer) == counted_by


def test_how_long_a_token_holds() -> None:
    assert remaining_s(token("read")) is None
    left = remaining_s(token("read", expires_at="2000-01-01T00:00:00Z"))
    assert left is not None
    assert left < 0
