"""How the lines that a person writes are read, and what completion offers."""

from __future__ import annotations

import pytest
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document

from modeldeck.core.errors import InvalidRequest
from modeldeck.core.schema import LoadOptions, Model
from modeldeck.tui.chats.chat import ChatFigures, ChatTurn
from modeldeck.tui.chats.context import ContextUse
from modeldeck.tui.cli.line_mode import commands, messages
from modeldeck.tui.cli.line_mode.actions import LineActions
from modeldeck.tui.cli.line_mode.commands import COMMANDS, SlashCommand, parse
from modeldeck.tui.cli.line_mode.completion import LineCompleter


def command(name: str, rest: str = "") -> SlashCommand:
    return SlashCommand(name=name, rest=rest)


@pytest.mark.parametrize(
    ("line", "read"),
    [
        ("Why is the sky blue?", "Why is the sky blue?"),
        ("  spaced  ", "spaced"),
        ("", ""),
        ('"""\none\n two\n"""', "one\n two"),
        ("//etc is a path", "/etc is a path"),
        ("a /help inside", "a /help inside"),
        ("/help", command("help")),
        ("/HELP", command("help")),
        ("/?", command("help")),
        ("/bye", command("quit")),
        ("/system  Be brief.\nAlways.", command("system", "Be brief.\nAlways.")),
        ("/image a.png  What is it? ", command("image", "a.png  What is it?")),
    ],
)
def test_a_line_is_a_question_or_a_command(line: str, read: SlashCommand | str) -> None:
    assert parse(line) == read


@pytest.mark.parametrize("line", ["/foo", "/", "/usr/bin/x", "/helpme now"])
def test_an_unknown_command_is_named(line: str) -> None:
    with pytest.raises(InvalidRequest, match=rf"There is no {line.split()[0]}; /help lists them\."):
        parse(line)


@pytest.mark.parametrize(
    ("text", "is_open"),
    [
        ('"""', True),
        ('"""one\ntwo', True),
        ('/system """Be', True),
        ('"""one"""', False),
        ('one """ two', False),
        ('/set stop """', False),
        ("", False),
    ],
)
def test_triple_quotes_hold_a_text_open(text: str, is_open: bool) -> None:
    assert commands.is_open(text) is is_open


@pytest.mark.parametrize(
    ("rest", "found"),
    [
        ("chart.png What's this?", ("chart.png", "What's this?")),
        ('"my chart.png" What?', ("my chart.png", "What?")),
        ("my\\ chart.png", ("my chart.png", "")),
        ("#1.png # of bars?", ("#1.png", "# of bars?")),
        ('a.txt """x\ny"""', ("a.txt", "x\ny")),
    ],
)
def test_a_path_stands_before_the_text(rest: str, found: tuple[str, str]) -> None:
    assert commands.path_and_text("image", rest) == found


@pytest.mark.parametrize("rest", ["", "'open"])
def test_a_path_must_be_there_and_whole(rest: str) -> None:
    with pytest.raises(InvalidRequest):
        commands.path_and_text("image", rest)


@pytest.mark.parametrize(
    ("rest", "model", "options"),
    [
        ("tiny", "tiny", LoadOptions()),
        ("tiny -c 512", "tiny", LoadOptions(context_length=512)),
        ("-c 8k tiny", "tiny", LoadOptions(context_length=8192)),
        ("tiny --context fit", "tiny", LoadOptions(context_fit=True)),
    ],
)
def test_a_load_has_a_model_and_a_context(rest: str, model: str, options: LoadOptions) -> None:
    assert commands.load_arguments(rest) == (model, options)


@pytest.mark.parametrize("rest", ["", "-c", "a b", "tiny -c", "tiny -c x", "tiny -c -1", "'open"])
def test_another_load_says_how_it_is_written(rest: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        commands.load_arguments(rest)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("rest", "found"),
    [
        ("temp 0.2", ("temperature", "0.2")),
        ("top-k=40", ("top_k", "40")),
        ("temp", ("temperature", "")),
        ("seed default", ("seed", "")),
        ("stop END, \\n\\n", ("stop", "END, \\n\\n")),
    ],
)
def test_a_setting_has_a_name_and_a_value(rest: str, found: tuple[str, str]) -> None:
    assert commands.setting(rest) == found


def test_thinking_and_numbers_are_checked() -> None:
    assert [commands.thinking(word) for word in ("on", "off", "show")] == ["auto", "off", None]
    assert commands.chat_number("13") == 13
    for wrong in ("", "x", "-1", "1 2"):
        with pytest.raises(InvalidRequest):
            commands.chat_number(wrong)
        with pytest.raises(InvalidRequest):
            commands.thinking(wrong)


def test_every_command_does_what_the_help_lists() -> None:
    listed = "\n".join(messages.help_lines(60))
    assert max(map(len, listed.splitlines())) <= 60, "wrapped at words"
    assert "/think on|off|low|high|show  let the model think first or" in listed
    assert [each.usage for each in COMMANDS if each.usage not in listed] == []
    done = LineActions(None, None, None, None)  # type: ignore[arg-type] # nothing is carried out
    assert set(done._by_name) == {each.name for each in COMMANDS}


@pytest.mark.parametrize(
    ("text", "offered"),
    [
        ("/lo", ["load "]),
        ("/c", ["chats ", "context", "copy"]),
        ("/think s", ["show"]),
        ("/load tiny-", ["deck/tiny-GGUF:Q8_0"]),
        ("/load deck/t", ["deck/tiny-GGUF:Q8_0"]),
        ("/load z", []),
        ("load", []),
        ("//lo", []),
    ],
)
def test_commands_and_their_words_are_completed(text: str, offered: list[str]) -> None:
    completer = LineCompleter()
    completer.models = ["deck/tiny-GGUF:Q8_0", "other/big:Q4"]
    found = completer.get_completions(Document(text), CompleteEvent(completion_requested=True))
    assert [each.text for each in found] == offered


USE = ContextUse(tokens=328, exact=True, total=16384)
FIGURES = ChatFigures(tokens_per_s=31.42, first_token_s=0.4, completion_tokens=188)


@pytest.mark.parametrize(
    ("turn", "line"),
    [
        (
            ChatTurn(role="assistant", figures=FIGURES),
            "[31.4 tok/s, first token 0.40 s, 188 tokens, context 2 %]",
        ),
        (ChatTurn(role="assistant", ended="stopped"), "[stopped]"),
        (ChatTurn(role="assistant", ended="cut", error="it fell"), "[cut: it fell]"),
        (
            ChatTurn(role="assistant", ended="length", error="at 188 tokens, as set"),
            "[stopped: at 188 tokens, as set]",
        ),
        (ChatTurn(role="assistant"), ""),
    ],
)
def test_the_line_below_an_answer_says_how_it_went(turn: ChatTurn, line: str) -> None:
    assert messages.figures(turn, USE) == line


@pytest.mark.parametrize(
    ("wanted", "trained", "loaded", "words"),
    [
        (16384, 4096, 4096, "4k context instead of 16k: 4k is what it was trained for."),
        (4096, 4096, 4096, ""),
        (2048, 4096, 2048, ""),
        (16384, None, 16384, ""),
        (None, 4096, None, ""),
    ],
)
def test_no_more_context_than_a_model_was_trained_for(
    wanted: int | None, trained: int | None, loaded: int | None, words: str
) -> None:
    model = Model(
        id="m", unique="o/m", name="M", format="gguf", source="hub", context_length=trained
    )
    options = LoadOptions(context_length=wanted, threads=2)
    limited = LoadOptions(context_length=loaded, threads=2)
    assert commands.within_trained(options, model) == (limited, words)
