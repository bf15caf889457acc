"""Error texts for failed connections. Pure.

Texts of the libraries' errors are used only where they hold no header value and no URL: an error
about a header quotes it, which may be a token.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx

from modeldeck.core.errors import HubUnavailable

_ERRNO = re.compile(r"\[Errno -?\d+\] ")
"""Python's prefix of the system's message."""

_REASON_LIMIT = 200
"""Most characters of a reason; that of a proxy is any text."""


def permanent_failure(host: str, error: Exception) -> HubUnavailable | None:
    """The error for a failure that is permanent: of a certificate or a proxy.

    None for any other failure, which a retry may mend.
    """
    for cause in _chain(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return HubUnavailable(
                f"The certificate of {host} is not trusted: {cause.verify_message}.",
                "If your network has certificates of its own, name their file in SSL_CERT_FILE,"
                " and start the core again (`modeldeck stop`).",
            )
    text = reason(error)
    if isinstance(error, httpx.ProxyError) and text.startswith("4"):
        return HubUnavailable(
            f"The proxy of this environment does not let us through to {host}: {text}.",
            "Check https_proxy, with name and password where it wants them, or no_proxy.",
        )
    return None


def reason(error: Exception) -> str:
    """Reason of a failed connection, as the system or the library states it."""
    if isinstance(error, (httpx.LocalProtocolError, UnicodeError, ValueError)):
        # Their texts quote the request, which may hold a token.
        return "the request cannot be sent"
    return _ERRNO.sub("", str(error))[:_REASON_LIMIT] or type(error).__name__


def shown(url: str) -> str:
    """A URL for errors and logs: without user, query and fragment, which may hold secrets.

    >>> shown("https://a:b@host:8/dir/m.gguf?X-Amz-Signature=123#x")
    'https://host:8/dir/m.gguf'
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return "a malformed URL"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def host_of(url: str) -> str:
    """The host of a URL, or words for one that is malformed."""
    try:
        return urlsplit(url).hostname or "a malformed URL"
    except ValueError:
        return "a malformed URL"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
