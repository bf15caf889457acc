"""Request ids and the access log.

The access log has one line for each request, as `key=value` pairs, on standard error or in the log
file of a background core. It is not part of the log that front ends show: a polling client would
push everything else out of it.
"""

from __future__ import annotations

import itertools
import logging
import re
import secrets

access = logging.getLogger("modeldeck.access")

_GIVEN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
_PLAIN = re.compile(r"[!#-<>-~]+")
"""Values that need no quotes: visible ASCII except quotes and `=`."""


class AccessLog:
    """Names and logs the requests of one listener."""

    def __init__(self, *, logs: bool) -> None:
        self.logs = logs
        """Whether there is an access log."""
        self._run = secrets.token_hex(4)
        self._numbers = itertools.count(1)
        if logs:
            access.setLevel(logging.INFO)

    def id(self, given: str | None) -> str:
        """The `X-Request-Id` that the client gave, where it is safe to log, else a new id."""
        if given is not None and _GIVEN.fullmatch(given):
            return given
        return f"{self._run}-{next(self._numbers):x}"

    def write(
        self,
        *,
        method: str,
        path: str,
        status: int,
        seconds: float,
        sent_bytes: int,
        request_id: str,
        who: str,
    ) -> None:
        """Log a response that was sent or abandoned."""
        access.info(
            "method=%s path=%s status=%d seconds=%.4f bytes=%d who=%s id=%s",
            quoted(method), quoted(path), status, seconds, sent_bytes, quoted(who), request_id,
        )  # fmt: skip


def quoted(text: str) -> str:
    """A value of the access log; in quotes with escapes where it has special characters."""
    if _PLAIN.fullmatch(text):
        return text
    escaped = text.encode("unicode_escape").decode("ascii").replace('"', '\\"')
    return f'"{escaped}"'
