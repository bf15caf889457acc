"""Where a URL may lead: pure decisions about hosts and addresses.

Whoever can name a URL must not make this machine ask what only this machine can reach (server-side
request forgery, OWASP A10:2021). So a URL that a person gives goes to the internet, over TLS; the
machine itself is allowed where the URL says so in plain words, and further hosts by a setting. What
counts is the address that a connection is made to, since a name may lead anywhere.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from urllib.parse import urljoin, urlsplit

from modeldeck.core.errors import Forbidden, HubUnavailable
from modeldeck.core.network.failures import shown

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
"""IPv6 addresses that stand for IPv4 ones in their last 32 bits (RFC 6052)."""


def is_public(address: str) -> bool:
    """Whether an address is one of the internet, and of a single machine."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour
        if found in _NAT64:
            inner = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    return found.is_global and not found.is_multicast


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, in plain words."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_inside(host: str) -> bool:
    """Whether a host is this machine, or written as an address that the internet does not route."""
    if is_loopback(host):
        return True
    try:
        return not is_public(host)
    except ValueError:
        return False


def check_url(url: str, trusted: Collection[str]) -> None:
    """Raise Forbidden unless a URL may be asked. What its host's name leads to is not known yet."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if is_exempt(host, trusted):
        return
    if is_inside(host):
        raise inward(host, host)
    if parts.scheme != "https":
        raise Forbidden(
            f"{shown(url)} is not https: anybody on the way could change what comes.",
            f"Use https, or add {host} to downloads.trusted_hosts.",
        )


def is_exempt(host: str, trusted: Collection[str]) -> bool:
    """Whether a host may be asked wherever it is, and without TLS."""
    return is_loopback(host) or host.casefold() in {name.casefold() for name in trusted}


def inward(host: str, address: str) -> Forbidden:
    """The refusal to go to an address that the internet does not route."""
    where = "is" if host == address else f"leads to {address},"
    return Forbidden(
        f"{host} {where} an address inside a private network.",
        f"If that is meant, add {host} to downloads.trusted_hosts.",
    )


def next_hop(url: str, location: str) -> str:
    """Where a redirect leads. Raises HubUnavailable for a place that must not be gone to.

    Never from https to http, and never into the machine or a private network from outside it: a
    hostile server would have us ask in its place (CVE-2026-5530).
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
    """Scheme, host and port of a URL: what a token must not leave (RFC 6454)."""
    parts = urlsplit(url)
    default = {"https": 443, "http": 80}.get(parts.scheme)
    return parts.scheme, parts.hostname or "", parts.port or default
