"""What it means that a connection failed, in words for a person. Pure.

No text of these libraries' errors is passed on unless it is known to hold no header value and no
URL: an error about a header quotes it, the token included.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx

from modeldeck.core.errors import HubUnavailable

_ERRNO = re.compile(r"\[Errno -?\d+\] ")
"""What Python writes before the words of the system."""

_REASON_LIMIT = 200
"""Characters of a reason; a proxy writes its own."""


def certain(host: str, error: Exception) -> HubUnavailable | None:
    """The error for a failure that trying again does not mend: a certificate, or a proxy.

    None for any other failure.
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
    """Why a connection failed, in the system's or the library's words."""
    if isinstance(error, (httpx.LocalProtocolError, UnicodeError, ValueError)):
        # Their texts quote what was to be sent.
        return "the request cannot be sent"
    return _ERRNO.sub("", str(error))[:_REASON_LIMIT] or type(error).__name__


def shown(url: str) -> str:
    """A URL as it may stand in an error or a log: no user, query or fragment, which hold secrets.

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
