"""What the go-to line offers besides what the views do: views, commands, machines, themes, help."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from modeldeck.tui.dashboard.commands import Command, keys_of
from modeldeck.tui.dashboard.go_to import peer_words
from modeldeck.tui.dashboard.go_to.entries import GoToEntry, Rank, argument
from modeldeck.tui.dashboard.screens import LazyScreen
from modeldeck.tui.dashboard.widgets.notice import Severity

OWN = frozenset({"go_to", "everything"})
"""Commands that open the go-to line."""

NO_FLEET = (
    'No other machine is named: add [hosts] to the configuration, such as gpu1 = "me@gpu1.lan".'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GoToContext:
    """The dashboard, as far as the entries need it."""

    current: str
    """Name of the view in front."""
    views: Sequence[LazyScreen]
    """The views, those with a number first."""
    scopes: Mapping[str, Sequence[Command]]
    """Commands by the name of their view."""
    everywhere: Sequence[Command]
    """Commands of the app."""
    keymap: Mapping[str, str]
    machines: Sequence[str]
    """Names of the machines, where there are several."""
    themes: Sequence[str]
    """Names of the themes that this terminal can show."""
    show: Callable[[str], object]
    """Brings a view to the front."""
    run: Callable[[str, Command], object]
    """Runs a command of a view, or of the app (scope `app`)."""
    point: Callable[[str, Command], object]
    """Brings a view to the front, and names the key of a command there."""
    go: Callable[[int], object]
    """Shows another machine."""
    choose_theme: Callable[[str], object]
    tell: Callable[[str, Severity], object]
    """Shows a message."""
    help: Callable[[str, str], object]
    """Opens the help of a view, searched for words; of the view in front for an empty name."""


def entries(context: GoToContext, written: str) -> Iterator[GoToEntry]:
    """Every entry but those of the views' own."""
    yield from _views(context)
    yield from _commands(context)
    if not context.machines and len(context.views) > 1:
        yield GoToEntry(
            kind="view",
            words="fleet",
            sentence="how to name other machines",
            rank=Rank.EVERYWHERE,
            aliases=peer_words.VIEWS["fleet"],
            run=partial(context.tell, NO_FLEET, "refused"),
        )
    for number, name in enumerate(context.machines):
        yield GoToEntry(
            kind="host",
            words=f"@{name}",
            sentence=f"show {name}",
            rank=Rank.MACHINE,
            run=partial(context.go, number),
        )
    for name in context.themes:
        yield GoToEntry(
            kind="theme",
            words=f"theme {name}",
            sentence=f"use the theme {name} from now on",
            rank=Rank.EVERYWHERE,
            run=partial(context.choose_theme, name),
        )
    yield from _help(context, written)


def _key(context: GoToContext, scope: str, command: Command) -> str:
    return next(iter(keys_of(command, scope, context.keymap)), "")


def _views(context: GoToContext) -> Iterator[GoToEntry]:
    turning = {command.action: command for command in context.everywhere}
    for view in context.views:
        command = turning.get(f"show('{view.name}')")
        key = _key(context, "app", command) if command is not None else ""
        if view.under:
            key = _key_below(context, view)
        yield GoToEntry(
            kind="view",
            words=view.name,
            sentence=view.title,
            rank=Rank.EVERYWHERE,
            key=key,
            aliases=peer_words.VIEWS.get(view.name, ()),
            run=partial(context.show, view.name),
        )


def _key_below(context: GoToContext, view: LazyScreen) -> str:
    """The keys to a view without a number: that of the view above, then its own."""
    wanted = f"app.show('{view.name}')"
    own = [c for c in context.scopes.get(view.under, ()) if c.action == wanted]
    above = [c for c in context.everywhere if c.action == f"show('{view.under}')"]
    keys = [_key(context, "app", c) for c in above if context.current != view.under]
    return " ".join([*keys, *(_key(context, view.under, c) for c in own)])


def _commands(context: GoToContext) -> Iterator[GoToEntry]:
    here = [c for c in context.scopes.get(context.current, ()) if "show('" not in c.action]
    everywhere = [c for c in context.everywhere if "show('" not in c.action and c.name not in OWN]
    for command in here:
        yield _verb(context, context.current, command, Rank.HERE)
    for command in everywhere:
        yield _verb(context, "app", command, Rank.EVERYWHERE)
    labels = {command.label for command in (*here, *everywhere)}
    for view in context.views:
        if view.name == context.current:
            continue
        for command in context.scopes.get(view.name, ()):
            if "show('" not in command.action and command.label not in labels:
                yield _elsewhere(context, view, command)


def _verb(context: GoToContext, scope: str, command: Command, rank: Rank) -> GoToEntry:
    return GoToEntry(
        kind="verb",
        words=command.label,
        sentence=command.help.rstrip("."),
        rank=rank,
        key=_key(context, scope, command),
        aliases=peer_words.COMMANDS.get(f"{scope}.{command.name}", ()),
        command=f"{scope}.{command.name}",
        run=partial(context.run, scope, command),
    )


def _elsewhere(context: GoToContext, view: LazyScreen, command: Command) -> GoToEntry:
    """A command of another view: what acts on a row there is only pointed at."""
    name = f"{view.name}.{command.name}"
    act = context.run if command.anywhere else context.point
    return GoToEntry(
        kind="verb",
        words=command.label,
        sentence=f"{view.title}: {command.help.rstrip('.')}",
        rank=Rank.ELSEWHERE,
        key=_key(context, view.name, command),
        aliases=peer_words.COMMANDS.get(name, ()),
        command=name if command.anywhere else "",
        run=partial(act, view.name, command),
    )


def _help(context: GoToContext, written: str) -> Iterator[GoToEntry]:
    for view in context.views:
        helps = [c for c in context.everywhere if c.name == "help"]
        here = view.name == context.current
        yield GoToEntry(
            kind="text",
            words=f"help {view.name}",
            sentence=f"every key of {view.title}",
            rank=Rank.HELP,
            key=_key(context, "app", helps[0]) if helps and here else "",
            run=partial(context.help, view.name, ""),
        )
    words = argument(written, "help")
    if words is not None:
        yield GoToEntry(
            kind="text",
            words=f"help {words}",
            sentence=f"search the help for {words!r}",
            rank=Rank.HELP,
            run=partial(context.help, "", words),
        )
