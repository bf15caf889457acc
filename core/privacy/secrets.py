"""Remove secrets from texts that are shown or written to files. Pure.

Errors and log lines are built from names and reasons, never from header values; this is the second
line of defence, for texts from a server or a library.
"""

from __future__ import annotations

import re

TOKEN_PREFIX = "mdk_"  # noqa: S105 (only the prefix)
"""Prefix of all API tokens of modeldeck, so that one in a log can be recognised."""

TOKEN_SECRET = re.compile(rf"{TOKEN_PREFIX}[A-Za-z0-9_-]{{43}}")

_HUB_PREFIX = "hf_"

_SECRETS = re.compile(
    rf"""(?i:(?<=bearer\ )[^\s"',]+)                    # of an Authorization header
    | (?i:(?<=basic\ )[A-Za-z0-9+/]{{8,}}={{0,2}})
    | (?<![A-Za-z0-9]){_HUB_PREFIX}[A-Za-z0-9]{{8,}}   # the Hub's tokens
    | {TOKEN_SECRET.pattern}
    | (?<=://)[^\s/?\#@"'<>]+(?=@)                      # user and password of a URL
    | (?i:(?<=signature=)|(?<=x-amz-credential=)|(?<=x-amz-security-token=)|(?<=key-pair-id=)
        |(?<=policy=)|(?<=\?token=)|(?<=&token=))[^\s&"'<>\#]+
    """,
    re.VERBOSE,
)


def hidden(text: str) -> str:
    """Replace every known kind of secret by `...`, keeping a token's prefix.

    >>> hidden("https://a:b@host/x?X-Amz-Signature=12ab&x=1 with hf_abcdefgh1234")
    'https://...@host/x?X-Amz-Signature=...&x=1 with hf_...'
    """
    return _SECRETS.sub(_ellipsis, text)


def _ellipsis(found: re.Match[str]) -> str:
    known = next((p for p in (TOKEN_PREFIX, _HUB_PREFIX) if found[0].startswith(p)), "")
    return f"{known}..."
