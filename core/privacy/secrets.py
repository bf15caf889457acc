"""Hides secrets in texts that people and files get to see. Pure.

Errors and log lines are built from names and reasons, never from header values; this is the second
line of defence, for a text that came from a server or a library.
"""

from __future__ import annotations

import re

TOKEN_PREFIX = "mdk_"  # noqa: S105 (how every one begins, and no more)
"""Begins every secret of modeldeck's, so that one in a log is known for what it is."""

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
    """The text with every known kind of secret replaced by `...`, less the prefix of a token's.

    >>> hidden("https://a:b@host/x?X-Amz-Signature=12ab&x=1 with hf_abcdefgh1234")
    'https://...@host/x?X-Amz-Signature=...&x=1 with hf_...'
    """
    return _SECRETS.sub(_ellipsis, text)


def _ellipsis(found: re.Match[str]) -> str:
    known = next((p for p in (TOKEN_PREFIX, _HUB_PREFIX) if found[0].startswith(p)), "")
    return f"{known}..."
