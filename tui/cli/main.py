"""The command line: its commands, whose options stand in `tui/cli/commands/`, and their errors.

What a command needs is imported when it runs, so that `modeldeck --help` costs click and no more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from modeldeck.tui.cli.command import (
    ExampleCommand,
    MachineSelection,
    only_here,
    where,
    with_client,
)
from modeldeck.tui.cli.commands.bench import bench
from modeldeck.tui.cli.commands.cache import cache, undo
from modeldeck.tui.cli.commands.chat import COMMANDS as CHAT
from modeldeck.tui.cli.commands.help import COMMANDS as HELP
from modeldeck.tui.cli.commands.load import COMMANDS as LOAD
from modeldeck.tui.cli.commands.machines import COMMANDS as MACHINES
from modeldeck.tui.cli.commands.models import COMMANDS as MODELS
from modeldeck.tui.cli.commands.queue import COMMANDS as QUEUE
from modeldeck.tui.cli.commands.requests import requests
from modeldeck.tui.cli.commands.service import service
from modeldeck.tui.cli.commands.tokens import token
from modeldeck.tui.cli.commands.watch import COMMANDS as WATCH
from modeldeck.tui.cli.runner import can_draw, discard_output, run

if TYPE_CHECKING:
    from modeldeck.core.config.config import RemoteSettings

EXIT_CODES = """\b
Exit codes:
  0  done
  1  failed (engine, corrupt file, storage, anything else)
  2  wrong usage, or a request that makes no sense
  3  there is no such thing, or the name fits several
  4  not possible as things stand (in use, not downloaded, cancelled, busy)
  5  not enough disk or memory
  6  the Hub cannot be reached, or the repository is gated
  7  no core answers
  8  the engine is not installed
  9  it took longer than --timeout allows
  10  not let in (a token, an ssh key), or not allowed
  130  interrupted with ctrl-C (129 and 143: by a hang-up, by a kill)

\b
A MODEL is an id, a name as `modeldeck ls` shows it (owner/repo:QUANT), or a short
form of it that fits no other. Commands start a core when none runs.
"""


def _version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        from modeldeck.core import __version__

        click.echo(f"modeldeck {__version__}")
        context.exit()


ascii_option = click.option(
    "--ascii", "ascii_only", is_flag=True, help="Draw with ASCII signs only."
)
readonly_option = click.option(
    "--readonly", is_flag=True, help="Only look: the dashboard changes nothing."
)


class CommandLine(click.Group):
    """The program: before the command stand machines, as in `modeldeck @gpu1 ps`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does, once every `@name` is an option."""
        from modeldeck.tui.remote.machines import from_command_line

        return super().parse_args(
            ctx, from_command_line(args, ("--on", "--url", "--token-file", "--ca-file"))
        )

    def invoke(self, ctx: click.Context) -> object:
        """As click does, but the end of a reader such as `head` is no failure."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            discard_output()
            ctx.exit(0)


@click.group(
    cls=CommandLine,
    epilog=EXIT_CODES,
    context_settings={"help_option_names": ["-h", "--help"]},
    invoke_without_command=True,
)
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=_version,
    help="Show the version.",
)  # fmt: skip
@ascii_option
@readonly_option
@click.option(
    "--on", multiple=True, metavar="@HOST",
    help="On another machine, over ssh; may be given several times. `@HOST` alone says the same;"
    " `@all` is every machine of the configuration.",
)  # fmt: skip
@click.option("--url", metavar="URL", help="On the machine that answers there.")
@click.option("--token-file", metavar="FILE", help="With --url: what holds the token.")
@click.option("--ca-file", metavar="FILE", help="With --url: the certificates to trust.")
@click.pass_context
def main(
    context: click.Context,
    ascii_only: bool,
    readonly: bool,
    on: tuple[str, ...],
    url: str | None,
    token_file: str | None,
    ca_file: str | None,
) -> None:
    """A control room for local language models. Without a command: the dashboard.

    Of another machine: modeldeck @host; of several: modeldeck @a @b, or modeldeck @all.
    """
    context.obj = MachineSelection(on=on, remote=_at_url(on, url, token_file, ca_file))
    if context.invoked_subcommand is not None:
        return
    if not can_draw():
        click.echo(
            "The dashboard needs a terminal; `modeldeck --help` lists the commands.", err=True
        )
        context.exit(2)
    _dashboard(context, ascii_only=ascii_only, readonly=readonly)


def _at_url(
    on: tuple[str, ...], url: str | None, token_file: str | None, ca_file: str | None
) -> RemoteSettings | None:
    if url is None:
        if token_file or ca_file:
            raise click.UsageError("--token-file and --ca-file go with --url.")
        return None
    if on:
        raise click.UsageError("--on and --url contradict each other.")
    from modeldeck.core.config.config import RemoteSettings

    return RemoteSettings(url=url, token_file=token_file, ca_file=ca_file)


def _dashboard(
    context: click.Context, *, ascii_only: bool, readonly: bool, only: str | None = None
) -> None:
    """Show the dashboard, of the machines that are named, and end with its exit code."""
    from modeldeck.core.errors import DeckError
    from modeldeck.tui.cli.runner import tell
    from modeldeck.tui.dashboard import launch

    try:
        machines = where().machines()
        code = launch.open_on(machines, ascii_only=ascii_only, readonly=readonly, only=only)
    except DeckError as error:
        code = tell(error, json=False)
    context.exit(code)


# The core


@main.command(cls=ExampleCommand, example="modeldeck serve --port 5323")
@click.option("--port", type=click.IntRange(0, 65535), help="TCP port; 0 for any free one.")
@click.option("--ready-json", is_flag=True, help="Print one line of JSON once it answers.")
@click.option("--verbose", "-v", is_flag=True, help="Log what it does to standard error.")
def serve(port: int | None, ready_json: bool, verbose: bool, json: bool) -> None:
    """Run a core here, until ctrl-C."""
    from modeldeck.tui.cli.actions import serve as serve_action

    only_here("serve")
    run(serve_action.serve(port, json=json or ready_json, verbose=verbose), json=json or ready_json)


@main.command(
    cls=ExampleCommand,
    example="modeldeck demo\n"
    "modeldeck demo --script\n"
    "modeldeck demo --headless --port 0 --ready-json",
)
@click.option("--script", is_flag=True, help="Run the main job as commands, without dashboard.")
@click.option("--headless", is_flag=True, help="Only serve the demo, until a signal.")
@click.option(
    "--rate",
    type=click.FloatRange(0.1),
    default=1.0,
    show_default=True,
    metavar="MB/S",
    help="How fast its hub serves each connection.",
)
@ascii_option
@readonly_option
@click.option("--port", type=click.IntRange(0, 65535), help="TCP port; 0 for any free one.")
@click.option("--ready-json", is_flag=True, help="Print one line of JSON once it answers.")
@click.pass_context
def demo(
    context: click.Context,
    script: bool,
    headless: bool,
    rate: float,
    ascii_only: bool,
    readonly: bool,
    port: int | None,
    ready_json: bool,
    json: bool,
) -> None:
    """See it work on a tiny real model, without internet, leaving nothing behind.

    On a terminal it is the dashboard; else, and with --script, the main job as commands.
    """
    from modeldeck.tui.cli.actions import serve as serve_action

    only_here("demo")
    if headless or ready_json:
        as_json = json or ready_json
        run(serve_action.demo_headless(port, round(rate * 1e6), json=as_json), json=as_json)
    elif script or json or not can_draw():
        run(serve_action.demo(port or 0, json=json), json=json)
    else:
        from modeldeck.tui.dashboard import launch

        rate_bytes_per_s = round(rate * 1e6)
        code = launch.open_demo(
            rate_bytes_per_s, port or 0, ascii_only=ascii_only, readonly=readonly
        )
        context.exit(code)


@main.command(
    cls=ExampleCommand,
    example="modeldeck status --line\n"
    "modeldeck status --line --format '{loaded} loaded( {down} {rate})'",
)
@click.option("--line", is_flag=True, help="One line, for a status bar.")
@click.option(
    "--format", "form", metavar="TEXT",
    help="What the line says, with {names}; `modeldeck help status-line` lists them.",
)  # fmt: skip
def status(line: bool, form: str | None, json: bool) -> None:
    """Show this machine: memory, disk, engines, what runs."""
    from modeldeck.tui.cli.actions import models as model_actions

    if form is not None and not line:
        raise click.UsageError("--format goes with --line.")
    with_client(
        lambda client, out: model_actions.status(client, out, line=line, form=form),
        json=json,
        start=False,
        none={"running": False},
    )


@main.command(cls=ExampleCommand, example="modeldeck top")
@ascii_option
@readonly_option
@click.pass_context
def top(context: click.Context, ascii_only: bool, readonly: bool, json: bool) -> None:
    """Watch memory and what is loaded; without a terminal, show it once."""
    if json or not can_draw():
        context.invoke(status, line=False, form=None, json=json)
    else:
        _dashboard(context, ascii_only=ascii_only, readonly=readonly, only="memory")


@main.command(cls=ExampleCommand, example="modeldeck stop")
def stop(json: bool) -> None:
    """End the core: downloads stay resumable, models are unloaded."""
    from modeldeck.tui.cli.actions import serve as serve_action

    if where() == MachineSelection():
        run(serve_action.stop(json=json), json=json)
    else:
        with_client(serve_action.stop_there, json=json, start=False, none={"stopped": False})


for command in (
    *MODELS,
    *CHAT,
    *LOAD,
    *QUEUE,
    *WATCH,
    *MACHINES,
    *HELP,
    cache,
    bench,
    requests,
    undo,
    service,
    token,
):
    main.add_command(command)


if __name__ == "__main__":
    main()
