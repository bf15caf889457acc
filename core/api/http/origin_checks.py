"""Checks of Host, Origin and Content-Type against requests from web pages (CSRF, DNS rebinding).

Pure; from the head alone, before any body is read, WebSocket handshakes included. A web page in a
browser on this machine can send requests to loopback, and by DNS rebinding read the answers, so:

- `Host` must be a name of loopback or one from the settings. A rebound name is neither.
- `Origin`, where present, must be this server's own or one from the settings. Browsers send it with
  every POST and every WebSocket handshake, and do not apply CORS to the latter.
- `Sec-Fetch-Site: cross-site` is refused unless the origin is allowed.
- A body must be `application/json`, which no HTML form can send. Below `UNTYPED`, whose programs
  often send no type, none and the `NO_TYPES` of their libraries pass on loopback where no browser
  can be behind the request: one sends `Origin` with a body, and names itself in `User-Agent`.

Programs that are not browsers send no Origin and pass. On the Unix socket `Host` is not
checked: it has no meaning there, and no page can reach it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from modeldeck.core.api.http.request_head import RequestHead
from modeldeck.core.errors import Forbidden, UnsupportedMediaType

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
ALLOWED_METHODS = "GET, HEAD, POST, PATCH, DELETE, OPTIONS"
ALLOWED_HEADERS = (
    *("content-type", "authorization", "x-api-key", "if-none-match", "x-request-id"),
    "x-modeldeck-priority",
    *("x-application-id", "application"),  # clients of the documented API
)
"""Request headers allowed to pages; besides, those that `_CLIENT_HEADER` describes."""
_CLIENT_HEADER = re.compile(r"(?:x-|anthropic-|openai-|idempotency-)[a-z0-9-]{1,60}")
"""Headers of the clients that companies publish for their APIs, such as `x-stainless-lang`."""
MOST_HEADERS = 60
"""Asked headers that a preflight may get allowed; OpenAI's client asks for about 10."""
NO_TYPES = ("", "application/x-www-form-urlencoded", "application/octet-stream")
"""Types of programs that choose none: curl's own for `-d`, and aiohttp's for bytes, by which
litellm's proxy asks `/api/chat`."""
UNTYPED = (
    *("/api/", "/v1/", "/v2/", "/rerank"),
    *("/tokenize", "/detokenize", "/apply-template", "/chat/"),
)
"""Paths of the APIs of Ollama, OpenAI, Anthropic, Cohere and llama-server, which do not look at
Content-Type."""
SHOWN_HEADERS = "etag, retry-after, x-request-id, request-id, x-should-retry, x-model-notice"
"""Response headers that pages may read, besides the CORS-safelisted ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OriginPolicy:
    """Allowed host names and origins, in lower case."""

    hosts: frozenset[str]
    origins: frozenset[str]
    scheme: str = "http"
    """Scheme of this server's own origin."""
    allows_addresses: bool = False
    """Whether any IP address is allowed as Host: DNS rebinding needs a name."""

    def allows(self, name: str | None) -> bool:
        """Whether a Host name is allowed."""
        return name in self.hosts or (self.allows_addresses and _is_address(name))


def policy(
    allowed_hosts: Iterable[str] = (),
    allowed_origins: Iterable[str] = (),
    *,
    scheme: str = "http",
) -> OriginPolicy:
    """The policy of these settings."""
    return OriginPolicy(
        hosts=frozenset((*LOOPBACK_NAMES, *(name.lower() for name in allowed_hosts))),
        origins=frozenset(origin.lower().rstrip("/") for origin in allowed_origins),
        scheme=scheme,
    )


def _is_address(name: str | None) -> bool:
    try:
        return bool(ipaddress.ip_address((name or "").strip("[]")))
    except ValueError:
        return False


def check(head: RequestHead, policy: OriginPolicy, *, over_unix: bool) -> None:
    """Raise Forbidden or UnsupportedMediaType where the request must not be served."""
    name = host_name(head.host)
    if not over_unix and name not in policy.hosts and not policy.allows(name):
        raise Forbidden(
            f"Host {head.host[:100]!r} is not a name of this server.",
            "Use 127.0.0.1 or localhost, or add the name to api.allowed_hosts.",
        )
    origin = head.headers.get("origin")
    if origin is not None and allowed_origin(head, policy) is None:
        raise Forbidden(
            f"Origin {origin[:100]!r} is not allowed.", "Add it to api.allowed_origins."
        )
    if origin is None and head.headers.get("sec-fetch-site", "").lower() == "cross-site":
        raise Forbidden("A web page of another site asked.", "Add its origin to allowed_origins.")
    if head.has_body and not _says_json(head, name, over_unix=over_unix):
        raise UnsupportedMediaType(
            "The body does not say that it is JSON.", "Send Content-Type: application/json."
        )


def _says_json(head: RequestHead, name: str | None, *, over_unix: bool) -> bool:
    """Whether the body is JSON by its type, or may be taken for it without one."""
    kind = media_type(head)
    if kind == "application/json":
        return True
    if kind not in NO_TYPES or not head.path.startswith(UNTYPED):
        return False
    return (over_unix or name in LOOPBACK_NAMES) and not _by_browser(head)


def _by_browser(head: RequestHead) -> bool:
    """Whether a browser may have sent the request (Fetch standard, RFC 9110 section 10.1.5)."""
    headers = head.headers
    signs = ("origin", "referer", "cookie")
    return (
        any(sign in headers for sign in signs)
        or any(header.startswith("sec-") for header in headers)
        or headers.get("user-agent", "").lower().startswith("mozilla/")
    )


def allowed_origin(head: RequestHead, policy: OriginPolicy) -> str | None:
    """The request's origin where it is allowed: this server's own, or one from the settings."""
    origin = head.headers.get("origin", "").lower()
    if origin in policy.origins:
        return head.headers["origin"]
    usual = ":443" if policy.scheme == "https" else ":80"
    own = policy.allows(host_name(head.host)) and origin in (
        f"{policy.scheme}://{head.host.lower()}",
        f"{policy.scheme}://{head.host.lower().removesuffix(usual)}",
    )
    return head.headers["origin"] if own else None


@lru_cache(64)
def host_name(host: str) -> str | None:
    """The name in a Host header, in lower case; None where it is malformed (RFC 3986, 3.2.2)."""
    name, colon, port = host.lower().rpartition(":")
    if not colon or host.endswith("]"):
        name, port = host.lower(), ""
    if (colon and port and not (port.isascii() and port.isdigit())) or not name:
        return None
    if name.startswith("["):
        return name if name.endswith("]") else None
    return None if any(c in name for c in ":/@?#[] \t,") else name


def media_type(head: RequestHead) -> str:
    """The media type of the body, without parameters."""
    return head.headers.get("content-type", "").partition(";")[0].strip().lower()


def cors_headers(head: RequestHead, policy: OriginPolicy) -> tuple[tuple[str, str], ...]:
    """CORS headers for a page of an allowed origin; none for others."""
    origin = allowed_origin(head, policy) if "origin" in head.headers else None
    if not origin:
        return ()
    return (
        ("Access-Control-Allow-Origin", origin),
        ("Access-Control-Expose-Headers", SHOWN_HEADERS),
        ("Vary", "Origin"),
    )


def preflight_headers(head: RequestHead) -> tuple[tuple[str, str], ...]:
    """Headers of the response to a preflight, besides `cors_headers`.

    https://fetch.spec.whatwg.org/#cors-preflight-fetch
    """
    if "access-control-request-method" not in head.headers:
        return ()
    asked = head.headers.get("access-control-request-headers", "").lower().split(",")
    names = dict.fromkeys(ALLOWED_HEADERS)
    for name in map(str.strip, asked[:MOST_HEADERS]):
        if _CLIENT_HEADER.fullmatch(name):
            names[name] = None
    return (
        ("Access-Control-Allow-Methods", ALLOWED_METHODS),
        ("Access-Control-Allow-Headers", ", ".join(names)),
        ("Access-Control-Max-Age", "600"),
    )
