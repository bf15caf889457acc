"""Which hosts and addresses a URL may lead to. Pure.

A URL given by a user must not make this machine send requests to hosts that only this machine can
reach (server-side request forgery, OWASP A10:2021). So such URLs need a public address and TLS;
loopback is allowed where the URL names it, and further hosts by a setting. The address of the
connection is checked, since a name may resolve to any address.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from urllib.parse import urljoin, urlsplit

from modeldeck.core.errors import Forbidden, HubUnavailable
from modeldeck.core.network.failures import shown

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
"""IPv6 addresses that embed an IPv4 address in their last 32 bits (RFC 6052)."""
_INSIDE = tuple(
    map(ipaddress.ip_network, ("::/96", "::ffff:0:0:0/96", "64:ff9b:1::/48", "fec0::/10"))
)
"""IPv6 addresses that `ipaddress` takes for public: those that embed an IPv4 address in the old way
(RFC 4291, 2.5.5.1), in that of SIIT (RFC 2765) or of a network of its own (RFC 8215), and those of
a site (RFC 3879)."""


def is_public(address: str) -> bool:
    """Whether an address is globally routed unicast."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour
        if found in _NAT64:
            inner = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
        if any(found in network for network in _INSIDE):
            return False
    return found.is_global and not found.is_multicast


def is_loopback(host: str) -> bool:
    """Whether a host is named `localhost` or written as a loopback address."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_inside(host: str) -> bool:
    """Whether a host is loopback or written as an address that is not public."""
    if is_loopback(host):
        return True
    try:
        return not is_public(host)
    except ValueError:
        return False


def check_url(url: str, trusted: Collection[str], *, loopback: bool = True) -> None:
    """Raise Forbidden unless a URL may be requested. The host is not resolved yet.

    `loopback` tells whether a URL may name this machine.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if is_exempt(host, trusted, loopback=loopback):
        return
    if is_inside(host):
        raise inward(host, host)
    if parts.scheme != "https":
        raise Forbidden(
            f"{shown(url)} is not https: anyone on the network path could change the content.",
            f"Use https, or add {host} to downloads.trusted_hosts.",
        )


def is_exempt(host: str, trusted: Collection[str], *, loopback: bool = True) -> bool:
    """Whether a host needs neither a public address nor TLS."""
    return (loopback and is_loopback(host)) or host.casefold() in {
        name.casefold() for name in trusted
    }


def inward(host: str, address: str) -> Forbidden:
    """The error for an address that is not public."""
    where = "is" if host == address else f"leads to {address},"
    return Forbidden(
        f"{host} {where} an address inside a private network.",
        f"If that is meant, add {host} to downloads.trusted_hosts.",
    )


def next_hop(url: str, location: str) -> str:
    """The target of a redirect. Raises HubUnavailable for a target that is not allowed.

    Never from https to http, and never from a public host to loopback or a private network, which a
    hostile server could reach through this machine (CVE-2026-5530).
    """
    try:
        target = urljoin(url, location)
        parts = urlsplit(target)
        _ = parts.port  # raises for what is no number
    except ValueError as error:
        raise HubUnavailable(
            f"{urlsplit(url).hostname} redirects to a malformed URL.", "Check hub.endpoint."
        ) from error
    downgraded = urlsplit(url).scheme == "https" and parts.scheme != "https"
    into = is_inside(parts.hostname or "") and not is_inside(urlsplit(url).hostname or "")
    if not location or parts.scheme not in ("http", "https") or downgraded or into:
        raise HubUnavailable(
            f"{urlsplit(url).hostname} redirects to {parts.scheme}://{parts.hostname}, which is not"
            " followed.",
            "Check hub.endpoint.",
        )
    return target


def origin(url: str) -> tuple[str, str, int | None]:
    """Scheme, host and port of a URL (RFC 6454): a token is sent to its own origin only."""
    parts = urlsplit(url)
    default = {"https": 443, "http": 80}.get(parts.scheme)
    return parts.scheme, parts.hostname or "", parts.port or default
