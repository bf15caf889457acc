"""Loads the certificates that verify servers."""

from __future__ import annotations

import os
import ssl
import threading

import httpx

from modeldeck.core.errors import HubUnavailable
from modeldeck.core.storage.foreign_files import stat_regular


class CertificateStore:
    """Certificates of `SSL_CERT_FILE` or `SSL_CERT_DIR`, else certifi's, as httpx chooses them.

    They are read on first use, since that takes 0.1 s.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._context: ssl.SSLContext | None = None

    def context(self) -> ssl.SSLContext:
        """The TLS context, read on first use. Blocks. Raises HubUnavailable."""
        with self._lock:
            if self._context is None:
                self._context = _read()
            return self._context


def _read() -> ssl.SSLContext:
    try:
        if file := os.environ.get("SSL_CERT_FILE"):
            stat_regular(file)  # OpenSSL would wait for a pipe
        return httpx.create_ssl_context()
    except (OSError, ssl.SSLError) as error:
        names = [name for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if os.environ.get(name)]
        name = names[0] if names else "SSL_CERT_FILE"
        raise HubUnavailable(
            f"The certificates in {os.environ.get(name, 'certifi')} cannot be read: {error}.",
            f"Mend or unset {name}, and start the core again (`modeldeck stop`).",
        ) from error
