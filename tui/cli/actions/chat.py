"""`modeldeck run`: ask a model, loading it first where it is not loaded."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modeldeck.core.errors import NotDownloaded, NotFound
from modeldeck.core.schema import Chunk, Message
from modeldeck.tui.cli.actions.models import wait_until_ready
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text import records as record_text

if TYPE_CHECKING:
    from modeldeck.core.client.client import Client
    from modeldeck.core.schema import GenerateRequest, LoadOptions
    from modeldeck.tui.cli.output import Output


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatResult:
    """A whole answer."""

    text: str
    last: Chunk
    """The piece with the counts."""
    seconds: float
    """From the question to the end."""


async def ask(
    client: Client, out: Output, ref: str, request: GenerateRequest, options: LoadOptions
) -> ChatResult:
    """Ask a model, loading it first where it is not; stream its answer, and return it whole."""
    try:
        model = await client.model(ref)
    except NotFound:
        if not ref.startswith("/"):
            raise
        model, _ = await client.download(ref)  # a path has nothing to fetch: it is put on the list
    if not model.downloaded:
        raise NotDownloaded(
            f"{model.unique} is not on this machine.", f"`modeldeck pull {model.unique}` gets it."
        )
    if not any(i.model_id == model.id for i in record_text.live(await client.state())):
        await wait_until_ready(client, out, await client.load(model.id, options))
    started = time.monotonic()
    text, last = "", Chunk()
    async with client.generate(model.id, request) as chunks:
        async for last in chunks:
            text += last.text
            out.piece(fmt.clean(last.text, lines=True))
    out.line()
    return ChatResult(text=text, last=last, seconds=time.monotonic() - started)


async def run(
    client: Client, out: Output, ref: str, request: GenerateRequest, options: LoadOptions
) -> None:
    """Ask a model; its answer alone goes to standard output."""
    answer = await ask(client, out, ref, request, options)
    if out.terminal:
        out.note(out.dim(record_text.answered(answer.last, answer.seconds)))
    out.record({"model": ref, "text": answer.text} | record_text.counts(answer.last))


def question(prompt: str, system: str | None) -> tuple[Message, ...]:
    """The messages of a single question."""
    asked = Message(role="user", content=prompt)
    return (Message(role="system", content=system), asked) if system else (asked,)
