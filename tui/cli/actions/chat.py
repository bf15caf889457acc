"""`modeldeck run PROMPT`: ask a model, loading it first where it is not loaded."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modeldeck.core.client.media_file import read_media_file
from modeldeck.core.errors import NotDownloaded, NotFound
from modeldeck.core.schema import Chunk, LoadOptions, Message, media_support
from modeldeck.tui.cli.actions.load import accepted
from modeldeck.tui.cli.actions.models import wait_until_ready
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text import records as record_text

if TYPE_CHECKING:
    from modeldeck.core.client.client import Client
    from modeldeck.core.schema import GenerateRequest
    from modeldeck.tui.cli.output import Output


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatResult:
    """A whole answer."""

    text: str
    thought: str
    """What the model thought before."""
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
    state = await client.state()
    loaded = next((i for i in record_text.live(state) if i.model_id == model.id), None)
    media_support.check(request, model, loaded, state.models.values())
    if loaded is None or options != LoadOptions():
        begun = await accepted(client, out, model.id, options, again="`modeldeck load --reload`")
        await wait_until_ready(client, out, begun)
    started = time.monotonic()
    text, thoughts, last = "", list[str](), Chunk()
    async with client.generate(model.id, request) as chunks:
        async for last in chunks:
            if last.thought:
                thoughts.append(last.thought)
            if out.terminal and not out.json and not text:
                _show_thought(out, thoughts, ended=bool(last.text))
            text += last.text
            out.piece(fmt.clean(last.text, lines=True))
    out.line()
    return ChatResult(
        text=text, thought="".join(thoughts), last=last, seconds=time.monotonic() - started
    )


def _show_thought(out: Output, thoughts: list[str], *, ended: bool) -> None:
    """Show the end of a thought on one line of the terminal, then how long it was."""
    if not thoughts:
        return
    words = "".join(thoughts[-40:]).split()
    out.redraw("" if ended else f"thinking: {' '.join(words)[-(out.room - 12) :]}")
    if ended:
        out.note(out.dim(f"thought for {fmt.number(len(thoughts), 'token')}"))


async def run(
    client: Client, out: Output, ref: str, request: GenerateRequest, options: LoadOptions
) -> None:
    """Ask a model; its answer alone goes to standard output."""
    answer = await ask(client, out, ref, request, options)
    if out.terminal:
        out.note(out.dim(record_text.answered(answer.last, answer.seconds)))
    said = {"model": ref, "text": answer.text, "thought": answer.thought}
    out.record(said | record_text.counts(answer.last))


def question(
    prompt: str, system: str | None, images: Sequence[str] = (), recordings: Sequence[str] = ()
) -> tuple[Message, ...]:
    """The messages of a single question; the files stand before its text.

    Blocks while it reads them. Raises InvalidRequest for a file that cannot be read.
    """
    media = (
        *(read_media_file(path, "image") for path in images),
        *(read_media_file(path, "audio") for path in recordings),
    )
    asked = Message(role="user", content=prompt, media=media)
    return (Message(role="system", content=system), asked) if system else (asked,)


async def obvious_model(client: Client) -> str:
    """Name of the model that is asked where none is named. Raises DeckError: none, or several."""
    from modeldeck.core.config.paths import locate
    from modeldeck.tui.chats.store import ChatStore
    from modeldeck.tui.cli.line_mode.conversation import LineConversation

    store = ChatStore(locate().chats)
    try:
        return (await LineConversation(store, client).choose(None)).unique
    finally:
        await store.close()
