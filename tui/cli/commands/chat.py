"""The commands that talk with a model: `run` and `chat`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from modeldeck.tui.cli.command import ExampleCommand, where, with_client
from modeldeck.tui.cli.commands.load import load_options, options_of
from modeldeck.tui.cli.runner import run

if TYPE_CHECKING:
    from modeldeck.core.client.client import Client
    from modeldeck.tui.cli.line_mode.conversation import LineStart
    from modeldeck.tui.cli.output import Output


@click.command(
    name="run",
    cls=ExampleCommand,
    example='modeldeck run Qwen/Qwen3-0.6B-GGUF:Q8_0 "Why is the sky blue?"\n'
    'modeldeck run gemma-3-4b-it --image chart.png "What does it show?"',
)
@click.argument("model")
@click.argument("prompt", required=False)
@click.option(
    "--image",
    "images",
    multiple=True,
    type=click.Path(),
    metavar="FILE",
    help="An image; may be repeated.",
)
@click.option(
    "--audio",
    "recordings",
    multiple=True,
    type=click.Path(),
    metavar="FILE",
    help="A recording; likewise.",
)
@click.option("--system", help="A system prompt.")
@click.option(
    "--max-tokens", type=click.IntRange(1, 1 << 24), metavar="N", help="Length of the answer."
)
@click.option("--temperature", type=click.FloatRange(0, 2), metavar="T", help="0: always the same.")
@click.option(
    "--seed", type=click.IntRange(-(1 << 63), (1 << 63) - 1), metavar="N",
    help="Seed of the sampling.",
)  # fmt: skip
@click.option("--think/--no-think", default=None, help="Think before the answer, or do not.")
@load_options
def run_(
    model: str,
    prompt: str | None,
    images: tuple[str, ...],
    recordings: tuple[str, ...],
    system: str | None,
    max_tokens: int | None,
    temperature: float | None,
    seed: int | None,
    think: bool | None,
    json: bool,
    **given: Any,
) -> None:
    """Ask MODEL something, loading it first where it is not. PROMPT may come from a pipe.

    Without a PROMPT, on a terminal, it is a conversation, as `modeldeck chat MODEL`.
    """
    load = options_of(given)
    if prompt is None and _on_terminal(json):
        from modeldeck.tui.chats.chat import ChatOptions
        from modeldeck.tui.chats.sampling import ChatSampling
        from modeldeck.tui.cli.line_mode.conversation import LineStart

        sampling = ChatSampling(temperature=temperature, max_tokens=max_tokens, seed=seed)
        options = ChatOptions(
            system=system or "", sampling=sampling, thinking="off" if think is False else "auto"
        )
        _converse(LineStart(model=model, options=options, load=load, files=images + recordings))
        return
    asked = _piped() if prompt is None else prompt

    async def work(client: Client, out: Output) -> None:
        from modeldeck.core.schema import GenerateRequest
        from modeldeck.tui.cli.actions import chat

        request = GenerateRequest(
            messages=chat.question(asked, system, images, recordings),
            max_tokens=max_tokens,
            temperature=temperature,
            seed=seed,
            thinking=think,
        )
        await chat.run(client, out, model, request, load)

    with_client(work, json=json)


@click.command(
    cls=ExampleCommand,
    example="modeldeck chat qwen3-4b-instruct-2507\nmodeldeck chat --continue\n"
    "modeldeck chat --open 13",
)
@click.argument("model", required=False)
@click.option("--open", "number", type=click.IntRange(1), metavar="N", help="Go on with chat N.")
@click.option("--continue", "newest", is_flag=True, help="Go on with the latest chat.")
@click.option("--private", is_flag=True, help="Never write this chat to the disk.")
@click.option("--system", help="A system prompt.")
@load_options
def chat(
    model: str | None,
    number: int | None,
    newest: bool,
    private: bool,
    system: str | None,
    json: bool,
    **given: Any,
) -> None:
    """Talk with MODEL line by line, by default with the one that is loaded.

    Chats are kept on this machine, and the dashboard lists them as well; /help at the prompt lists
    the commands. From a pipe it takes one prompt, as `modeldeck run` does.
    """
    if (number is not None) + newest + private > 1:
        raise click.UsageError("--open, --continue and --private exclude each other.")
    load = options_of(given)
    if _on_terminal(json):
        from modeldeck.tui.chats.chat import ChatOptions
        from modeldeck.tui.cli.line_mode.conversation import LineStart

        options = ChatOptions(system=system or "")
        start = LineStart(model=model, open=number, newest=newest, private=private,
                          options=options, load=load)  # fmt: skip
        _converse(start)
        return
    if number is not None or newest:
        raise click.UsageError("--open and --continue need a terminal.")
    asked = _piped()

    async def work(client: Client, out: Output) -> None:
        from modeldeck.core.schema import GenerateRequest
        from modeldeck.tui.cli.actions import chat

        ref = model if model is not None else await chat.obvious_model(client)
        request = GenerateRequest(messages=chat.question(asked, system))
        await chat.run(client, out, ref, request, load)

    with_client(work, json=json)


def _on_terminal(json: bool) -> bool:
    """Whether a person reads and writes; a terminal that only does one of both is an error."""
    if not sys.stdin.isatty():
        return False
    if json or not sys.stdout.isatty():
        raise click.UsageError("No prompt: give one, or pipe one in.")
    return True


def _piped() -> str:
    """The prompt on standard input."""
    text = sys.stdin.read()
    if not text.strip():
        raise click.UsageError("No prompt on standard input.")
    return text


def _converse(start: LineStart) -> None:
    """Hold a conversation on this terminal."""
    from modeldeck.tui.cli.line_mode.run import converse

    place = where()

    async def main() -> None:
        await converse(place.machines(), start)

    run(main(), json=False)


COMMANDS = (run_, chat)
"""All of them."""
