"""The commands that make the core a service of the system."""

from __future__ import annotations

import click

from modeldeck.tui.cli.command import ExampleCommand, only_here
from modeldeck.tui.cli.runner import run

SYSTEM = click.option(
    "--system", is_flag=True, help="For the whole machine, with a user of its own (systemd)."
)


@click.group()
def service() -> None:
    """Let the system start the core, and keep it up: systemd, or launchd on macOS."""


@service.command(
    cls=ExampleCommand, example="modeldeck service install --show\nmodeldeck service install"
)
@SYSTEM
@click.option("--show", is_flag=True, help="Only show what would be written and run.")
def install(system: bool, show: bool, json: bool) -> None:
    """Write the service, enable it, and start it."""
    from modeldeck.tui.cli.actions import service as service_actions

    only_here("service")
    run(service_actions.install(system=system, show=show, json=json), json=json)


@service.command(cls=ExampleCommand, example="modeldeck service uninstall")
@SYSTEM
def uninstall(system: bool, json: bool) -> None:
    """Stop the service and remove it; models, settings and downloads stay."""
    from modeldeck.tui.cli.actions import service as service_actions

    only_here("service")
    run(service_actions.uninstall(system=system, json=json), json=json)


@service.command(cls=ExampleCommand, example="modeldeck service status")
@SYSTEM
def status(system: bool, json: bool) -> None:
    """Say whether it is installed and runs, and where its socket and log are."""
    from modeldeck.tui.cli.actions import service as service_actions

    only_here("service")
    run(service_actions.status(system=system, json=json), json=json)
