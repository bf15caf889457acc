"""What tests of the Chat screen do and look at."""

from __future__ import annotations

from typing import Any

from textual.widgets import TextArea

from modeldeck.core.client.client import Client
from modeldeck.core.schema import LoadOptions
from modeldeck.tui.dashboard.screens.chat.screen import ChatView
from modeldeck.tui.dashboard.screens.chat.turns import AnswerTurn

TINY = "deck/tiny-GGUF:Q8_0"
OTHER = "deck/tiny-GGUF:F16"
THINKER = "deck/tiny-think-GGUF:F16"

ROOM = 1 << 16
"""Tokens of context: the model says thousands in a second, and `loop` shall not end by itself."""


async def fetched(client: Client, *names: str) -> None:
    """Download these to their end."""
    for name in names or (TINY,):
        await client.download(name)
    await client.feed.until(
        lambda s: (
            {j.unique for j in s.downloads.values() if j.state == "completed"}
            >= set(names or (TINY,))
        )
    )


async def unloaded(client: Client, *names: str) -> None:
    """Have models on the disk, and none in memory."""
    await fetched(client, *names)
    await client.unload_all()
    await client.feed.until(lambda s: not s.instances)


async def loaded(client: Client, name: str = TINY, context: int = ROOM) -> None:
    """Have a model in memory."""
    await fetched(client, name)
    await client.loaded(name, LoadOptions(context_length=context))


def chat(at: Any) -> ChatView:
    found: ChatView = at.app.query_one(ChatView)
    return found


def composer(at: Any) -> TextArea:
    found: TextArea = at.app.query_one("#chat Composer", TextArea)
    return found


def answers(at: Any) -> list[str]:
    return [answer.text for answer in chat(at).query(AnswerTurn)]


def path(at: Any) -> list[str]:
    """What was said, as the chat that is open has it."""
    return [turn.text for turn in chat(at).session.chat.path()]


def figures(at: Any) -> str:
    return str(list(chat(at).query(AnswerTurn))[-1].query_one(".figures").render())


def said(at: Any) -> list[str]:
    return [message.text for message in at.app.messages]


async def say(at: Any, text: str) -> None:
    """Write and send."""
    await at.write(text)
    await at.press("enter")


async def ended(at: Any, count: int = 1) -> None:
    """Wait until this number of answers is shown, and all have ended."""
    await at.until(
        lambda: (
            sum(a.ended for a in chat(at).query(AnswerTurn)) == count
            and not chat(at).asking.talking
        )
    )


async def asked(at: Any, *questions: str) -> None:
    """Ask one after the other, from an empty chat."""
    for count, question in enumerate(questions, 1):
        await say(at, question)
        await ended(at, count)


async def told(at: Any, words: str) -> None:
    """Wait until something is said."""
    await at.until(lambda: any(words in text for text in said(at)))
