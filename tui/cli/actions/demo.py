"""The main job before a person's eyes: each step is a command, said first, then really done."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modeldeck.core.demo.projector import QUESTION, Colour, picture
from modeldeck.core.demo.vocabulary import expected, seen
from modeldeck.core.errors import DeckError
from modeldeck.core.schema import GenerateRequest, LoadOptions, Media, Message
from modeldeck.tui.cli.actions import chat, models
from modeldeck.tui.cli.actions.load import load as load_model
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text import records

if TYPE_CHECKING:
    from modeldeck.core.client.client import Client
    from modeldeck.core.demo.session import Session
    from modeldeck.tui.cli.output import Output

RATE = 25_000_000
"""Bytes a second that the hub serves: slow enough to see a download happen."""

INDENT = "   "
"""Before what a step says, so that the titles lead the eye."""

SEEING = "deck/tiny-see-GGUF:F16"
PICTURE = "squares.png"
COLOUR: Colour = "red"
SQUARES = 3
"""What the picture shows that the model that sees is asked about."""

REPO = "deck/padded-GGUF"
MODEL = f"{REPO}:F16"
CONTEXT = 4096
PROMPT = "Please count to ten."
TOPIC = "count"
"""The answer of the demo model to the prompt; see `modeldeck.core.demo.vocabulary`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoStep:
    """One step: what it is for, the words a person would type, and what they do."""

    title: str
    command: str
    act: Callable[[Client, Output], Awaitable[Any]]


def steps(shown: Path) -> tuple[DemoStep, ...]:
    """The main job, in order, and a question about the picture in a file."""
    request = GenerateRequest(messages=chat.question(PROMPT, None), temperature=0.0)
    load = partial(load_model, ref=MODEL, options=LoadOptions(context_length=CONTEXT), force=False)
    rm = partial(models.rm, refs=[MODEL], yes=True, force=False, dry_run=False)
    rows: tuple[tuple[str, str, Callable[[Client, Output], Awaitable[Any]]], ...] = (
        ("Look at the built-in catalog", "ls smollm",
         partial(models.ls, text="smollm", downloaded=False)),
        ("Search the hub", "search gguf",
         partial(models.search, query="gguf", limit=None)),
        ("See what a repository holds", f"search {REPO}",
         partial(models.search, query=REPO, limit=None)),
        ("Ask whether it fits, before anything is downloaded", f"fit {MODEL} -c {CONTEXT}",
         partial(models.fit, ref=MODEL, context_length=CONTEXT)),
        ("Download it", f"pull {MODEL}",
         partial(models.pull, refs=[MODEL], detach=False)),
        ("Load it, and see the memory it takes", f"load {MODEL} -c {CONTEXT}", load),
        ("Talk to it", f'run {MODEL} --temperature 0 "{PROMPT}"',
         partial(_ask, model=MODEL, request=request, right=expected(TOPIC))),
        ("See what it takes now that it has worked", "ps", models.ps),
        ("Unload it, and see the memory come back", f"unload {MODEL}",
         partial(models.unload, refs=[MODEL], everything=False)),
        ("Delete its files, and see the disk come back", f"rm --yes {MODEL}", rm),
        ("Download one that sees", f"pull {SEEING}",
         partial(models.pull, refs=[SEEING], detach=False)),
        ("Ask it about a picture",
         f'run {SEEING} --image {shown.name} --temperature 0 "{QUESTION}"',
         partial(_ask_about, shown=shown)),
    )  # fmt: skip
    return tuple(DemoStep(title=title, command=command, act=act) for title, command, act in rows)


async def _ask_about(client: Client, out: Output, shown: Path) -> None:
    """Ask about a picture."""
    image = Media(kind="image", data=await asyncio.to_thread(shown.read_bytes), at=0)
    asked = Message(role="user", content=QUESTION, media=(image,))
    request = GenerateRequest(messages=(asked,), temperature=0.0)
    await _ask(client, out, model=SEEING, request=request, right=seen(COLOUR, SQUARES))


async def _ask(
    client: Client, out: Output, model: str, request: GenerateRequest, right: str
) -> None:
    """Ask, and hold the answer against what was built into the weights. Raises when it differs."""
    answer = await chat.ask(client, out, model, request, LoadOptions())
    out.line(out.dim(records.answered(answer.last, answer.seconds)))
    out.record({"model": model, "text": answer.text} | records.counts(answer.last))
    if answer.text != right:
        raise DeckError(
            f"The model should have answered {right!r}.",
            "The engine loaded the file and generates wrong text: reinstall the engine.",
        )
    out.done("to the letter what was built into this model's weights")


def greet(out: Output) -> None:
    """Say what is about to happen."""
    out.line(out.bold("modeldeck demo"))
    out.line("A hub on this machine serves tiny real models; everything else is the real thing,")
    out.line("in a temporary folder, without internet.")


async def show(running: Session, out: Output) -> None:
    """Run every step against the demo's core."""
    out.line()
    out.line(f"  hub   {running.hub.url}")
    out.line(f"  core  {running.ready.url}  (process {running.ready.pid})")
    shown = running.folder / PICTURE
    await asyncio.to_thread(shown.write_bytes, picture(COLOUR, SQUARES))
    async with running.ready.client() as client:
        for number, step in enumerate(steps(shown), 1):
            out.line()
            out.line(out.bold(f"{number}  {step.title}"))
            out.indent = INDENT
            out.line(out.dim(f"$ modeldeck {step.command}"))
            await step.act(client, out)
            out.indent = ""


def part(out: Output, running: Session, seconds: float) -> None:
    """Say that it is over, and that nothing is left."""
    out.line()
    out.done(f"The main job, end to end, in {fmt.duration(seconds)}.")
    out.line(f"  Core and hub have ended; {running.folder} is removed.")
    out.line("  Next: `modeldeck search`, `modeldeck pull`, or `modeldeck serve` for other tools.")
