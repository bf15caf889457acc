"""The work of the commands about tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from modeldeck.core.schema import Scope
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text.format import TextColumn

if TYPE_CHECKING:
    from modeldeck.core.client.client import Client
    from modeldeck.tui.cli.output import Output


async def create(
    client: Client,
    out: Output,
    name: str,
    scopes: Sequence[str],
    expires_s: float | None,
    *,
    batch: bool,
) -> None:
    """Make one. The secret alone goes to standard output, so that a script can keep it."""
    made = await client.create_token(
        name,
        [cast(Scope, scope) for scope in scopes],
        expires_s,
        "batch" if batch else "interactive",
    )
    out.record(made)
    until = f", until {made.token.expires_at}" if made.token.expires_at else ""
    out.note(f"For {' and '.join(made.token.scopes)}{until}. It is shown this once:")
    out.line(made.secret)
    out.note("Send it as `Authorization: Bearer ...`.")


async def show(client: Client, out: Output) -> None:
    """List them."""
    tokens = await client.tokens()
    out.record(tokens)
    if not tokens:
        out.note("There is no token. `modeldeck token create NAME` makes one.")
        return
    heads = (
        TextColumn(title="name", shrink=True),
        TextColumn(title="scopes"),
        TextColumn(title="made"),
        TextColumn(title="until"),
        TextColumn(title="last used"),
    )
    rows = [
        (
            token.name,
            " ".join(token.scopes),
            _day(token.created_at),
            _day(token.expires_at) or "it is revoked",
            _day(token.last_used_at) or "never",
        )
        for token in tokens
    ]
    out.lines(fmt.table(heads, rows, out.room))


def _day(at: str | None) -> str:
    return at[:10] if at else ""


async def revoke(client: Client, out: Output, names: Sequence[str]) -> None:
    """Take them away, one after the other."""
    for name in names:
        gone = await client.revoke_token(name)
        out.record(gone)
        out.line(f"{gone.name} holds no more.")
