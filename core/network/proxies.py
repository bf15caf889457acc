"""Selects the proxy of a request from the environment's variables.

The variables are `http_proxy`, `https_proxy`, `all_proxy` and `no_proxy`, in upper or lower case,
and the system's settings where urllib reads them. `no_proxy` lists hosts, domains, `host:port`,
and, as in curl, requests and Go, networks such as `10.0.0.0/8`.

An error names the variable and never its value, which may hold a password.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from modeldeck.core.errors import HubUnavailable

_SUPPORTED = frozenset({"http", "https"})
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Proxies:
    """The environment's proxies by scheme; the key `all` is for other schemes."""

    by_scheme: Mapping[str, str]
    no_proxy: str = ""

    @classmethod
    def read(cls) -> Proxies:
        """Read the environment of this process. May block on the system's settings."""
        found = getproxies()
        named = {key: found[key] for key in ("http", "https", "all") if found.get(key)}
        return cls(named, found.get("no", ""))

    def url_for(self, scheme: str, host: str, port: int | None = None) -> str | None:
        """URL of the proxy for a request; None for a straight connection.

        Raises HubUnavailable for a proxy other than HTTP and for a malformed URL.
        """
        key = scheme if scheme in self.by_scheme else "all"
        url = self.by_scheme.get(key)
        if url is None or self._is_bypassed(host, port or _PORTS.get(scheme, 0)):
            return None
        return _checked(url if "://" in url else f"http://{url}", f"{key}_proxy")

    def _is_bypassed(self, host: str, port: int) -> bool:
        if proxy_bypass(f"{host}:{port}" if ":" not in host else f"[{host}]:{port}"):
            return True
        try:
            address = ip_address(host)
        except ValueError:
            return False
        return any(_holds(entry.strip(), address) for entry in self.no_proxy.split(","))


def _holds(entry: str, address: object) -> bool:
    try:
        return address in ip_network(entry.strip("[]"), strict=False)
    except ValueError:  # a name
        return False


def _checked(url: str, variable: str) -> str:
    name = next((key for key in os.environ if key.lower() == variable), variable)
    try:
        parts = urlsplit(url)
        scheme, is_whole = parts.scheme.lower(), bool(parts.hostname) and parts.port != 0
    except ValueError:
        scheme, is_whole = "", False
    if is_whole and scheme in _SUPPORTED:
        return url
    fault = "is of a kind that modeldeck does not speak" if is_whole else "is no URL of a proxy"
    if is_whole and scheme.startswith("socks"):
        fault = "is a SOCKS proxy, which modeldeck does not speak"
    raise HubUnavailable(
        f"The proxy in {name} {fault}.",
        f"Set https_proxy to an HTTP proxy (http://host:port) or unset {name}, and start the core"
        " again (`modeldeck stop`); hosts in no_proxy are asked without a proxy.",
    )
