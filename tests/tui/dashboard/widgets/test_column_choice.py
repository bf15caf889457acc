"""Which columns a table has by the choice of the person, and how the choice is kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from modeldeck.tui.dashboard.column_store import FILE, ColumnStore
from modeldeck.tui.dashboard.widgets.column_choice import STANDARD, ColumnChoice, arranged
from modeldeck.tui.dashboard.widgets.columns import Column, arrange, widest
from modeldeck.tui.dashboard.widgets.table_heads import head, rule
from modeldeck.tui.text.format import UNICODE

COLUMNS = (
    Column("sign", "", 1),
    Column("name", "model", 10, grow=True, most=20),
    Column("size", "size", 6, right=True, rank=2),
    Column("state", "state", 8, rank=1),
    Column("from", "from", 6, rank=3),
)


@pytest.mark.parametrize(
    ("choice", "width", "kept"),
    [
        (STANDARD, 60, "sign name size state from"),
        (STANDARD, 30, "sign name size state"),
        (ColumnChoice(hidden=frozenset({"size"})), 60, "sign name state from"),
        (ColumnChoice(hidden=frozenset({"name", "sign"})), 30, "sign name size state"),
        (ColumnChoice(shown=frozenset({"from"})), 30, "sign name state from"),
        (ColumnChoice(shown=frozenset({"no such column"})), 30, "sign name size state"),
    ],
)
def test_hidden_and_wanted_columns(choice: ColumnChoice, width: int, kept: str) -> None:
    slots = arrange(arranged(COLUMNS, choice), width)
    assert " ".join(slot.column.key for slot in slots) == kept


def test_a_column_is_shown_and_hidden_in_turn() -> None:
    once = STANDARD.toggled("size", visible=True)
    assert once.hidden == {"size"}
    assert once.toggled("size", visible=False) == ColumnChoice(shown=frozenset({"size"}))


def test_the_sign_of_the_order_moves_no_title() -> None:
    slots = arrange(COLUMNS, 40)
    plain = head(slots, STANDARD, 2, 42, UNICODE)
    for key in ("name", "size", "state"):
        for reverse, sign in ((False, "▲"), (True, "▼")):
            marked = head(slots, ColumnChoice(sort=key, reverse=reverse), 2, 42, UNICODE)
            assert marked.count(sign) == 1
            assert marked.replace(sign, " ").rstrip() == plain.rstrip()


def test_a_rule_has_heads_where_its_words_leave_room() -> None:
    slots = arrange(COLUMNS, 40)
    heads = {"size": "likes", "state": "changed"}
    words, titles = rule(slots, "Hub", heads, 2, 42, UNICODE)
    assert (words + titles).index("changed") == 2 + next(
        s.x for s in slots if s.column.key == "state"
    )
    assert "likes" in titles
    words, titles = rule(slots, "a longer text over it", heads, 2, 42, UNICODE)
    assert "likes" not in titles
    assert rule(slots, "x" * 60, heads, 2, 42, UNICODE)[1] == ""


def test_the_width_that_columns_can_use() -> None:
    assert widest(COLUMNS) == 1 + 1 + 20 + 2 + 6 + 2 + 8 + 2 + 6


def test_choices_are_kept_and_those_of_another_dashboard_stay(tmp_path: Path) -> None:
    one, other = ColumnStore(tmp_path / "state"), ColumnStore(tmp_path / "state")
    one.choose("catalog", ColumnChoice(sort="size", reverse=True))
    one.save()
    other.choose("log", ColumnChoice(hidden=frozenset({"level"})))
    other.save()
    kept = ColumnStore(tmp_path / "state")
    assert kept.choice("catalog") == ColumnChoice(sort="size", reverse=True)
    assert kept.choice("log").hidden == {"level"}
    kept.choose("catalog", STANDARD)
    kept.save()
    assert ColumnStore(tmp_path / "state").choice("catalog") == STANDARD


@pytest.mark.parametrize("text", ["", "{", "[]", '{"log": 3}', "x" * (1 << 17)])
def test_a_file_that_cannot_be_read_is_no_choice(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    assert ColumnStore(tmp_path).choice("log") == STANDARD
