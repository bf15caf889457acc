"""Tokens: who may use the API from beyond this machine, and for what."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

TOKEN_PREFIX = "mdk_"  # noqa: S105 (how every one begins, and no more)
"""Begins every secret, so that one in a log or a repository is known for what it is."""

TOKEN_SECRET = re.compile(rf"{TOKEN_PREFIX}[A-Za-z0-9_-]{{43}}")

Scope = Literal["read", "infer", "manage"]
"""`read` looks at everything, `infer` asks models, `manage` does all that can be done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """One token, without its secret: that is shown once, and kept only as its hash."""

    id: str
    name: str
    """What the audit trail calls whoever uses it."""
    scopes: tuple[Scope, ...]
    created_at: str
    expires_at: str | None = None
    """None for one that holds until it is revoked."""
    last_used_at: str | None = None
    """None for one that was never used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewToken:
    """A token that was just made."""

    token: Token
    secret: str
    """What goes into `Authorization: Bearer`. Nobody can be told it again."""
