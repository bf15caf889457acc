"""Tokens: who may use the API from beyond this machine, and for what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from modeldeck.core.privacy.secrets import TOKEN_PREFIX as TOKEN_PREFIX
from modeldeck.core.privacy.secrets import TOKEN_SECRET as TOKEN_SECRET
from modeldeck.core.schema.requests import Priority

Scope = Literal["read", "infer", "manage"]
"""`read` looks at everything, `infer` asks models, `manage` does all that can be done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """One token, without its secret: that is shown once, and kept only as its hash."""

    id: str
    name: str
    """The name of its user in the audit trail."""
    scopes: tuple[Scope, ...]
    created_at: str
    expires_at: str | None = None
    """None for one that holds until it is revoked."""
    last_used_at: str | None = None
    """None for one that was never used."""
    priority: Priority = "interactive"
    """`batch`: all its requests to models come after the interactive ones of others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewToken:
    """A token that was just made."""

    token: Token
    secret: str
    """For the header `Authorization: Bearer`. It cannot be shown again."""
