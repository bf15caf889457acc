"""The lines that a person writes: questions, and commands that begin with a slash. Pure."""

from __future__ import annotations

import io
import re
import shlex
from dataclasses import dataclass, replace

from modeldeck.core.errors import InvalidRequest
from modeldeck.core.remote.printable import clean
from modeldeck.core.schema import LoadOptions, Model
from modeldeck.tui.chats.chat import Thinking
from modeldeck.tui.text import format as fmt

QUOTES = '"""'
"""Stands before and behind a text of several lines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LineCommand:
    """A command, as the help lists it."""

    name: str
    arguments: str = ""
    sentence: str

    @property
    def usage(self) -> str:
        """How it is written."""
        return f"/{self.name} {self.arguments}".rstrip()


COMMANDS: tuple[LineCommand, ...] = (
    LineCommand(name="help", sentence="list the commands"),
    LineCommand(
        name="system",
        arguments="[TEXT]",
        sentence='show the system prompt, or change it; "" removes it',
    ),
    LineCommand(
        name="set",
        arguments="[NAME VALUE]",
        sentence="change the sampling, such as temp 0.2; without VALUE: the model's default",
    ),
    LineCommand(
        name="load", arguments="MODEL [-c N]", sentence="ask another model, with this context"
    ),
    LineCommand(name="model", sentence="show the model that is asked, and the others here"),
    LineCommand(
        name="save", arguments="[FILE]", sentence="write the chat as Markdown, or as JSON (.json)"
    ),
    LineCommand(
        name="chats", arguments="[WORDS]", sentence="list kept chats, or those with these words"
    ),
    LineCommand(name="open", arguments="N", sentence="go on with a kept chat"),
    LineCommand(name="new", sentence="begin another chat; this one is kept"),
    LineCommand(name="private", sentence="begin a chat that is never written"),
    LineCommand(name="image", arguments="PATH [TEXT]", sentence="attach a picture or a recording"),
    LineCommand(name="file", arguments="PATH [TEXT]", sentence="attach a text file"),
    LineCommand(
        name="think",
        arguments="on|off|low|high|show",
        sentence="let the model think first or not, or show its last thought",
    ),
    LineCommand(name="retry", sentence="ask the last question again"),
    LineCommand(name="edit", sentence="change the last question, and ask it again"),
    LineCommand(name="context", sentence="show how much of the context is used"),
    LineCommand(name="copy", sentence="copy the last answer to the clipboard"),
    LineCommand(name="quit", sentence="leave, as ctrl-D does"),
)

ALIASES = {"?": "help", "exit": "quit", "bye": "quit", "q": "quit"}
"""Names that other programs have for the same."""

_NAMES = {"temp": "temperature", "schema": "schema_file"}
"""Short names of sampling settings."""

_THINKING: dict[str, Thinking] = {
    "on": "auto",
    "auto": "auto",
    "off": "off",
    "low": "low",
    "high": "high",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SlashCommand:
    """A command that was written."""

    name: str
    rest: str
    """What stands behind the name, without spaces around it."""


def parse(line: str) -> SlashCommand | str:
    """A command, or the text of a question. Raises InvalidRequest for an unknown command."""
    text = line.strip()
    if text.startswith("//"):
        return text[1:]
    if not text.startswith("/"):
        return unquoted(text)
    found = re.match(r"/(\S*)\s*(.*)", text, re.DOTALL)
    assert found is not None  # the expression fits every text that begins with a slash
    name = ALIASES.get(found[1].lower(), found[1].lower())
    if name not in {command.name for command in COMMANDS}:
        raise InvalidRequest(f"There is no /{clean(found[1])}; /help lists them.")
    return SlashCommand(name=name, rest=found[2])


def is_open(text: str) -> bool:
    """Whether a text in triple quotes has begun and not ended, so that another line follows."""
    begins = re.match(r'\s*(/system\s+)?"""', text, re.IGNORECASE) is not None
    return begins and text.count(QUOTES) == 1


def unquoted(text: str) -> str:
    """The text without triple quotes, or the double quotes of an empty text, around it."""
    if text == '""':
        return ""
    if text.startswith(QUOTES) and text.endswith(QUOTES) and len(text) >= 2 * len(QUOTES):
        return text[len(QUOTES) : -len(QUOTES)].strip("\n")
    return text


# Arguments


def path_and_text(name: str, rest: str) -> tuple[str, str]:
    """A path, quoted as in a shell, and the text behind it. Raises InvalidRequest."""
    stream = io.StringIO(rest)
    reader = shlex.shlex(stream, posix=True)
    reader.whitespace_split, reader.commenters = True, ""
    try:
        path = reader.get_token()
    except ValueError:
        raise InvalidRequest("A quotation mark of the path is missing.") from None
    if not path:
        raise InvalidRequest(f"/{name} needs the path of a file.")
    return path, unquoted(stream.read().strip())


def load_arguments(rest: str) -> tuple[str, LoadOptions]:
    """The model and the options of `/load`. Raises InvalidRequest."""
    usage = "Write /load MODEL, or /load MODEL -c 8192."
    try:
        words = shlex.split(rest)
    except ValueError:
        raise InvalidRequest("A quotation mark is missing.", usage) from None
    match words:
        case [model] if not model.startswith("-"):
            return model, LoadOptions()
        case [model, "-c" | "--context", size] | ["-c" | "--context", size, model]:
            return model, _context(size)
    raise InvalidRequest("/load needs one model.", usage)


def _context(text: str) -> LoadOptions:
    if text.lower() == "fit":
        return LoadOptions(context_fit=True)
    found = re.fullmatch(r"(\d{1,9})([kK]?)", text)
    if found is None:
        raise InvalidRequest(
            f"{clean(text)!r} is no context length.", "Give tokens, such as 8192 or 8k, or `fit`."
        )
    return LoadOptions(context_length=int(found[1]) * (1024 if found[2] else 1))


def within_trained(options: LoadOptions, model: Model) -> tuple[LoadOptions, str]:
    """Options with no more context than a model was trained for; why, where it is less."""
    wanted, trained = options.context_length, model.context_length
    if wanted is None or trained is None or wanted <= trained:
        return options, ""
    most = fmt.tokens(trained)
    words = f"{most} context instead of {fmt.tokens(wanted)}: {most} is what it was trained for."
    return replace(options, context_length=trained), words


def setting(rest: str) -> tuple[str, str]:
    """Name and value of `/set`, the value empty for the model's default."""
    found = re.match(r"([^\s=]+)\s*=?\s*(.*)", rest, re.DOTALL)
    if found is None:
        raise InvalidRequest("/set needs a name.", "Write /set temp 0.2.")
    name = found[1].lower().replace("-", "_")
    value = found[2].strip()
    return _NAMES.get(name, name), "" if value.lower() == "default" else unquoted(value)


def chat_number(rest: str) -> int:
    """The number of `/open`. Raises InvalidRequest."""
    if not re.fullmatch(r"[0-9]{1,9}", rest):
        raise InvalidRequest("/open needs the number of a chat; /chats lists them.")
    return int(rest)


def thinking(rest: str) -> Thinking | None:
    """The setting of `/think`; None for `show`. Raises InvalidRequest."""
    word = rest.lower()
    if word == "show":
        return None
    if word not in _THINKING:
        raise InvalidRequest("Write /think on, off, low or high, or /think show.")
    return _THINKING[word]
