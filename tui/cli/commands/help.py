"""The commands that explain the program, and those that teach it to a shell."""

from __future__ import annotations

import click

from modeldeck.tui.cli.command import ExampleCommand


@click.command(
    cls=ExampleCommand,
    name="help",
    example="modeldeck help\nmodeldeck help remote\nmodeldeck help --man > modeldeck.1",
)
@click.argument("name", nargs=-1)
@click.option("--man", is_flag=True, help="Print all of it as a man page.")
@click.pass_context
def help_(context: click.Context, name: tuple[str, ...], man: bool, json: bool) -> None:
    """Explain a topic or a command; without NAME, list both."""
    from modeldeck.tui.cli import manual
    from modeldeck.tui.cli.help_topics import TOPICS
    from modeldeck.tui.cli.output import Output

    program = context.find_root().command
    assert isinstance(program, click.Group)
    out, wanted = Output(json=json), " ".join(name)
    if man:
        from modeldeck.core import __version__

        click.echo(manual.page(program, __version__), nl=False)
        return
    if not wanted or wanted == "topics":
        text = "\n".join(manual.contents(program))
    elif wanted in TOPICS:
        text = TOPICS[wanted].text
    elif (command := dict(manual.commands(program)).get(wanted)) is not None:
        inside = click.Context(
            command, info_name=wanted, parent=click.Context(program, info_name="modeldeck")
        )
        text = command.get_help(inside)
    else:
        raise click.UsageError(f"There is no help on {wanted!r}; `modeldeck help` lists what is.")
    out.record({"topic": wanted or "topics", "text": text})
    out.line(text)


@click.command(
    cls=ExampleCommand,
    example="modeldeck completion bash > ~/.local/share/bash-completion/completions/modeldeck",
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str, json: bool) -> None:
    """Print what teaches SHELL to complete commands and model names."""
    from modeldeck.tui.cli import completion as scripts
    from modeldeck.tui.cli.output import Output

    out = Output(json=json)
    out.record({"shell": shell, "script": scripts.script(shell)})
    out.line(scripts.script(shell))


@click.command(hidden=True, context_settings={"ignore_unknown_options": True})
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def complete(context: click.Context, words: tuple[str, ...]) -> None:
    """Print what the last of WORDS could become; what the scripts of `completion` ask."""
    from modeldeck.tui.cli.completion import candidates

    for value, about in candidates(context.find_root().command, words):
        click.echo(f"{value}\t{about}")


COMMANDS = (help_, completion, complete)
"""All of them."""
