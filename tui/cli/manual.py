"""The manual: topics for the terminal, and all of it as a man page. Pure, over click's commands."""

from __future__ import annotations

from collections.abc import Iterator
from inspect import cleandoc

import click

from modeldeck.tui.cli.help_topics import TOPICS

HEAD = ".TH MODELDECK 1\n.SH NAME\nmodeldeck \\- a control room for local language models\n"


def contents(program: click.Group) -> list[str]:
    """List the topics and commands that have help, as lines."""
    lines = ["Topics:"]
    lines += [f"  {name:<14}{topic.summary}" for name, topic in TOPICS.items()]
    lines += ["", "Commands:"]
    for path, command in commands(program):
        lines.append(f"  {path:<18}{command.get_short_help_str(100)}")
    return [*lines, "", "`modeldeck help NAME` explains one of them; `--man` prints the man page."]


def commands(group: click.Group, before: str = "") -> Iterator[tuple[str, click.Command]]:
    """Every command that is not hidden, with the words that call it."""
    for name in sorted(group.commands):
        command = group.commands[name]
        if command.hidden:
            continue
        if isinstance(command, click.Group):
            yield from commands(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", command


def roff(text: str) -> str:
    r"""Text as roff reads it literally (groff_char(7)).

    >>> print(roff(".a -b \\c"))
    \&.a \-b \ec
    """
    plain = text.replace("\\", "\\e").replace("-", "\\-").replace("`", "\\(ga")
    return "\n".join(
        f"\\&{line}" if line.startswith((".", "'")) else line for line in plain.split("\n")
    )


def _prose(text: str) -> str:
    """Paragraphs; lines that begin with blanks stand as they are."""
    out, literal = [], False
    for line in cleandoc(text).replace("\b\n", "").split("\n"):
        verbatim = line.startswith(" ")
        if verbatim and not literal:
            out.append(".PP\n.nf\n.RS 4")
        if literal and not verbatim and line:
            out.append(".RE\n.fi\n.PP")
        literal = verbatim or (literal and not line)
        out.append(roff(line.strip() if not verbatim else line) if line else ".PP")
    if literal:
        out.append(".RE\n.fi")
    return "\n".join(out)


def page(program: click.Group, version: str) -> str:
    """All of it as a man page (man(7))."""
    parts = [HEAD.replace("MODELDECK 1", f'MODELDECK 1 "" "modeldeck {version}"')]
    parts.append(".SH SYNOPSIS\n.B modeldeck\n[@HOST ...] [OPTION ...] [COMMAND [ARGUMENT ...]]\n")
    parts.append(f".SH DESCRIPTION\n{_prose(program.help or '')}\n")
    parts.append(".SH OPTIONS\n" + "".join(_options(program)))
    parts.append(".SH COMMANDS\n")
    for path, command in commands(program):
        arguments = " ".join(command.collect_usage_pieces(click.Context(command)))
        parts.append(f'.SS "modeldeck {roff(path)} {roff(arguments)}"\n')
        parts.append(f"{_prose(command.help or '')}\n{''.join(_options(command))}")
    parts += [
        f'.SH "{roff(topic.summary).upper()}"\n{_prose(topic.text)}\n' for topic in TOPICS.values()
    ]
    parts.append(f'.SH "EXIT STATUS"\n{_prose(program.epilog or "")}\n')
    return "".join(parts)


def _options(command: click.Command) -> Iterator[str]:
    context = click.Context(command)
    for parameter in command.params:
        record = parameter.get_help_record(context)
        if record is not None:
            names, words = record
            yield f".TP\n.B {roff(names)}\n{roff(words) or names}\n"
