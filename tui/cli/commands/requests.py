"""The commands of requests to models: see them, cancel one."""

from __future__ import annotations

import click

from modeldeck.tui.cli.command import ExampleCommand, with_client


@click.group(
    invoke_without_command=True,
    epilog="\b\nExample:\n  modeldeck requests --watch\n  modeldeck requests cancel 5f3a9c0e7d12",
)
@click.option("--json", is_flag=True, help="Answer in JSON, one document per line.")
@click.option("--watch", is_flag=True, help="Go on, with a line for each change, until ctrl-C.")
@click.pass_context
def requests(context: click.Context, json: bool, watch: bool) -> None:
    """List requests to models: who asks, how far each is, and the last that ended.

    What is asked and answered is not recorded.
    """
    if context.invoked_subcommand is None:
        from modeldeck.tui.cli.actions import requests as request_actions

        with_client(request_actions.watch if watch else request_actions.show, json=json)


@requests.command(cls=ExampleCommand, example="modeldeck requests cancel 5f3a9c0e7d12")
@click.argument("request", metavar="ID")
def cancel(request: str, json: bool) -> None:
    """Cancel the request with this ID; its client is told who cancelled it."""
    from modeldeck.tui.cli.actions import requests as request_actions

    with_client(lambda client, out: request_actions.cancel(client, out, request), json=json)
