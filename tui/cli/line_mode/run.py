"""Runs the line mode: core, model, chat, then line by line until the person leaves."""

from __future__ import annotations

import asyncio

from modeldeck.core.config import config_file
from modeldeck.core.config.paths import locate
from modeldeck.core.errors import CoreUnreachable, DeckError, InvalidRequest
from modeldeck.core.remote.printable import clean
from modeldeck.tui.chats.models import partners
from modeldeck.tui.chats.store import ChatStore
from modeldeck.tui.cli.line_mode import messages
from modeldeck.tui.cli.line_mode.actions import LineActions
from modeldeck.tui.cli.line_mode.commands import parse
from modeldeck.tui.cli.line_mode.conversation import LineConversation, LineStart
from modeldeck.tui.cli.line_mode.core import LineCore, line_core
from modeldeck.tui.cli.line_mode.terminal import LineTerminal, quiet_terminal
from modeldeck.tui.cli.output import Output
from modeldeck.tui.remote.machines import Machine


async def converse(machines: tuple[Machine, ...], start: LineStart) -> None:
    """Hold a conversation with a model on a machine, on this terminal.

    Raises DeckError for what stands against its beginning; later errors are shown, and the next
    prompt follows. The chats are kept on this machine, wherever the core is.
    """
    if len(machines) != 1:
        raise InvalidRequest("A conversation is with one machine.", "Name one of them.")
    paths = locate()
    settings, _ = config_file.load(paths.config_file)
    out, store = Output(), ChatStore(paths.chats, settings.chat)
    try:
        with quiet_terminal():
            async with line_core(machines[0], out) as core:
                await _converse(core, store, out, start)
    finally:
        await store.close()


async def _converse(core: LineCore, store: ChatStore, out: Output, start: LineStart) -> None:
    talk = LineConversation(store, core.client)
    await talk.begin(start)
    terminal = LineTerminal(await _prompts(store, out))
    actions = LineActions(talk, core, out, terminal.confirm)

    async def begin() -> bool:
        await actions.start(start.model, start.load)
        for path in start.files:
            await talk.attach(path, text=False)
        return True

    if await terminal.stoppable(begin()) is None:
        raise asyncio.CancelledError  # by ctrl-C
    if talk.chat.turns:
        for line in messages.opened(talk.chat):
            out.line(line)
    out.line(actions.banner())
    while not actions.left:
        terminal.completer.models = [model.unique for model in partners(talk.state)]
        await _turn(terminal, actions, out)


async def _prompts(store: ChatStore, out: Output) -> list[str]:
    """Earlier questions of all chats; none where the store cannot be read."""
    try:
        await store.purge()
        return await store.prompts()
    except DeckError as error:
        out.note(f"Chats cannot be read. {error}")
        return []


async def _turn(terminal: LineTerminal, actions: LineActions, out: Output) -> None:
    """Read a line and do what it asks for."""
    default, actions.draft = actions.draft, ""
    try:
        line = await terminal.read(default)
    except EOFError:
        try:
            actions.left = await actions.leave()
        except EOFError:  # a second ctrl-D is an answer as well
            actions.left = True
        return
    except KeyboardInterrupt:
        if not actions.stop_editing():
            out.line("ctrl-D leaves")
        return

    async def attempt() -> None:
        try:
            await actions.carry_out(parse(line))
        except CoreUnreachable as error:
            tell(error, out)
            await actions.recover()

    try:
        await terminal.stoppable(attempt())
    except DeckError as error:
        tell(error, out)
    except EOFError:
        pass  # ctrl-D called a question of the command off


def tell(error: DeckError, out: Output) -> None:
    """Show an error, and what to do about it."""
    out.note(clean(error.message))
    if error.remedy:
        out.note(clean(error.remedy))
