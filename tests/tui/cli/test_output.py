"""What other machines say is shown by a terminal, and not obeyed."""

from __future__ import annotations

import json

import pytest

from modeldeck.core.errors import DeckError
from modeldeck.tui.cli.output import Output, json_line, shown

HOSTILE = "a\x1b]0;title\x07\x1b[2J\x1b[1;1Hb\x9b31mc\x08\x7f\u202ed"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("\x1b[1mbold\x1b[0m ✓", "\x1b[1mbold\x1b[0m ✓"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("\x1b[1m\x1b[2Jbold\x1b[0m", "\x1b[1mbold\x1b[0m"),
        (HOSTILE, "abcd"),
        ("\x1b[?1049h\x1bc", ""),
    ],
)
def test_only_styles_go_to_a_terminal(text: str, expected: str) -> None:
    assert shown(text) == expected


def test_everything_that_is_said_goes_that_way(capsys: pytest.CaptureFixture[str]) -> None:
    out = Output()
    out.line(HOSTILE)
    out.done(HOSTILE)
    out.piece(HOSTILE)
    out.note(HOSTILE)
    out.redraw(HOSTILE)
    with out.about(HOSTILE):
        out.failed(DeckError(HOSTILE, HOSTILE))
    said = "".join(capsys.readouterr()).replace("\r", "").replace("\x1b[K", "")
    assert said.count("abcd") == 8
    assert all(char.isprintable() or char == "\n" for char in said)


def test_json_is_the_same_without_characters_that_a_terminal_obeys(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert json.loads(json_line({"name": HOSTILE})) == {"name": HOSTILE}
    out = Output(json=True)
    out.record({"name": HOSTILE})
    out.failed(DeckError(HOSTILE))
    said = "".join(capsys.readouterr())
    assert not any(ord(char) < 32 or 127 <= ord(char) < 160 for char in said if char != "\n")
