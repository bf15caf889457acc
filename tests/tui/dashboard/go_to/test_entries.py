"""Entries of the go-to line: which match, in which order, and how a line is drawn."""

from __future__ import annotations

from dataclasses import replace

import pytest

from modeldeck.tui.dashboard import theme
from modeldeck.tui.dashboard.go_to import drawing
from modeldeck.tui.dashboard.go_to.entries import (
    GoToCursor,
    GoToEntry,
    Rank,
    completion,
    found,
    spans,
    valued,
)
from modeldeck.tui.dashboard.theme import ink
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text import parse


def entry(kind: str, words: str, sentence: str, rank: Rank, key: str = "") -> GoToEntry:
    return GoToEntry(kind=kind, words=words, sentence=sentence, rank=rank, key=key)


CHAT = entry("view", "chat", "Chat", Rank.EVERYWHERE, "4")
ENTRIES = (
    entry("text", "help chat", "every key of Chat", Rank.HELP, "?"),
    entry("verb", "check updates", "ask the Hub which models have new files", Rank.HERE),
    entry("kept", "chat Qwen or Gemma?", "open the chat of 21 Nov", Rank.CHAT),
    entry("chat", "chat qwen3-8b", "talk to Qwen3 8B  (loaded)", Rank.MODEL),
    entry("chat", "chat qwen3-4b", "talk to Qwen3 4B  (loads when you send)", Rank.MODEL),
    entry("verb", "unload all", "Unload every model that is not pinned", Rank.EVERYWHERE, "U"),
    replace(entry("verb", "delete files", "Delete files", Rank.HERE, "x"), aliases=("rm",)),
    CHAT,
)


def words(written: str) -> list[str]:
    return [each.words for each in found(ENTRIES, written)]


def test_exact_then_beginnings_then_the_rest() -> None:
    """As in the mock-up: a view, what can be talked to, a command, help."""
    assert words("ch") == [
        "chat",
        "chat qwen3-8b",
        "chat qwen3-4b",
        "chat Qwen or Gemma?",
        "check updates",
        "help chat",
    ]
    assert words("chat")[0] == "chat"
    assert words("chat 8b") == ["chat qwen3-8b"]
    assert words("rm") == ["delete files"]
    assert words("new files") == ["check updates"], "a sentence counts where no words do"
    assert words("delete t") == [], "a command is not found by half of what is written"
    everything = words("")
    assert everything[:2] == ["check updates", "delete files"], "of this view"
    assert everything[-1] == "help chat"


def test_matches_are_marked() -> None:
    assert spans("chat qwen3-8b", "CHA") == [(0, 3)]
    assert spans("chat qwen3-8b", "chat 8b") == [(0, 4), (11, 13)]


def test_an_empty_list_moves_nowhere() -> None:
    cursor = GoToCursor()
    for by in (1, -1, 17, -17):
        cursor.move(by, 0, 17)
        assert (cursor.at, cursor.first) == (0, 0)
    cursor.move(40, 20, 5)
    assert (cursor.at, cursor.first) == (19, 15)
    cursor.move(-6, 20, 5)
    assert (cursor.at, cursor.first) == (13, 13)
    assert completion([], 0, "xy") == "xy"


def test_a_value_is_read_and_said() -> None:
    taken: list[int | None] = []

    def of(written: str) -> tuple[GoToEntry, ...]:
        return valued(written, "downloads.limit", parse.rate, taken.append, lambda r: f"to {r}")

    assert of("limit") == of("lim 5MB/s") == ()
    (good,) = of("limit 5MB/s")
    assert (good.words, good.sentence, good.problem) == ("limit 5MB/s", "to 5000000", "")
    good.run()
    assert taken == [5_000_000]
    (bad,) = of("limit fast")
    assert "fast" in bad.problem
    bad.run()
    assert taken == [5_000_000]


@pytest.mark.parametrize(
    ("width", "lines"),
    [
        (
            120,
            (
                " ▸ view  chat                          Chat" + " " * 75 + "4",
                "   chat  chat qwen3-8b                 talk to Qwen3 8B  (loaded)",
                "   kept  chat Qwen or Gemma?           open the chat of 21 Nov",
                "   text  help chat                     every key of Chat" + " " * 62 + "?",
            ),
        ),
        (
            80,
            (
                " ▸ view  chat                          Chat" + " " * 35 + "4",
                "   chat  chat qwen3-8b                 talk to Qwen3 8B  (loaded)",
                "   kept  chat Qwen or Gemma?           open the chat of 21 Nov",
                "   text  help chat                     every key of Chat" + " " * 22 + "?",
            ),
        ),
        (
            60,
            (
                " ▸ chat                  Chat                             4",
                "   chat qwen3-8b         talk to Qwen3 8B  (loaded)",
                "   chat Qwen or Gemma?   open the chat of 21 Nov",
                "   help chat             every key of Chat                ?",
            ),
        ),
    ],
)
def test_lines_are_those_of_the_mock_ups(width: int, lines: tuple[str, ...]) -> None:
    inks = ink(theme.load(None).themes[0].to_color_system().generate())
    drawn = tuple(
        drawing.line(
            each, "ch", width, fmt.UNICODE, inks, cursor=each is CHAT, dim=False
        ).plain.rstrip()
        for each in (CHAT, ENTRIES[3], ENTRIES[2], ENTRIES[0])
    )
    assert drawn == lines


@pytest.mark.parametrize("width", [20, 40, 60, 75, 76, 120, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    inks = ink(theme.load(None).themes[0].to_color_system().generate())
    long = entry("verb", "模型" * 40, "sentence " * 40, Rank.HERE, "ctrl+p")
    line = drawing.line(long, "模", width, fmt.UNICODE, inks, cursor=True, dim=False)
    assert fmt.columns(line.plain) <= width
