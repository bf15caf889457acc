"""The commands of tokens: who may use the API from beyond this machine."""

from __future__ import annotations

import os
import re

import click

from modeldeck.tui.cli.command import ExampleCommand, with_client

_UNITS = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400, "y": 365 * 86400}


class DurationParam(click.ParamType[float]):
    """A time, such as `30d`."""

    name = "time"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """In seconds."""
        found = re.fullmatch(r"(\d{1,6})([mhdwy])", str(value).strip())
        if not found:
            self.fail(f"{value!r} is not a time such as 12h, 30d or 1y.", param, ctx)
        return float(int(found[1]) * _UNITS[found[2]])


@click.group()
def token() -> None:
    """Make, list and revoke tokens: what the API needs from beyond this machine.

    Within it none is needed. `read` looks at everything, `infer` asks models, `manage` does all
    that can be done.
    """
    # A core that is started for this must start, though `api.outside` lacks the token to be made.
    os.environ["MODELDECK_API_OUTSIDE"] = ""


@token.command(
    cls=ExampleCommand,
    example="modeldeck token create laptop\n"
    "modeldeck token create grafana --scope read --expires 1y",
)
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    type=click.Choice(["read", "infer", "manage"]),
    multiple=True,
    help="What it is for; may be given several times. Without: read and infer.",
)
@click.option("--expires", type=DurationParam(), metavar="TIME", help="When it ends: 12h, 30d, 1y.")
@click.option("--batch", is_flag=True, help="Its requests to models come after those of others.")
def create(
    name: str, scopes: tuple[str, ...], expires: float | None, batch: bool, json: bool
) -> None:
    """Make a token called NAME, and show its secret this once."""
    from modeldeck.tui.cli.actions import tokens

    with_client(
        lambda client, out: tokens.create(client, out, name, scopes, expires, batch=batch),
        json=json,
    )


@token.command(name="list", cls=ExampleCommand, example="modeldeck token list")
def list_(json: bool) -> None:
    """List tokens, and when each was last used."""
    from modeldeck.tui.cli.actions import tokens

    with_client(tokens.show, json=json)


@token.command(cls=ExampleCommand, example="modeldeck token revoke laptop")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
def revoke(names: tuple[str, ...], json: bool) -> None:
    """Take tokens away; who uses one is cut off at once."""
    from modeldeck.tui.cli.actions import tokens

    with_client(lambda client, out: tokens.revoke(client, out, names), json=json)
