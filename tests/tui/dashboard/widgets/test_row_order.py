"""The order of rows by a chosen column."""

from __future__ import annotations

import pytest

from modeldeck.tui.dashboard.widgets.column_choice import STANDARD, ColumnChoice
from modeldeck.tui.dashboard.widgets.columns import Column
from modeldeck.tui.dashboard.widgets.row_order import KeptOrder, Known, Values, order_words, ordered
from modeldeck.tui.text.format import UNICODE

Figures = dict[str, dict[str, Known]]

FIGURES: Figures = {
    "a": {"size": 2, "name": "beta"},
    "b": {"size": None, "name": "Alpha"},
    "c": {"size": 0, "name": "gamma"},
    "d": {"size": 2, "name": "ALPHA"},
}


def values(figures: Figures) -> Values[str]:
    return {
        "size": lambda row: figures[row]["size"],
        "name": lambda row: figures[row]["name"],
    }


@pytest.mark.parametrize(
    ("choice", "order"),
    [
        (STANDARD, "abcd"),
        (ColumnChoice(sort="gone"), "abcd"),
        (ColumnChoice(sort="size"), "cadb"),
        (ColumnChoice(sort="size", reverse=True), "adcb"),
        (ColumnChoice(sort="name"), "bdac"),
        (ColumnChoice(sort="name", reverse=True), "cabd"),
    ],
)
def test_rows_by_a_column(choice: ColumnChoice, order: str) -> None:
    assert "".join(ordered("abcd", choice, values(FIGURES))) == order


def test_rows_keep_their_places_while_their_figures_change() -> None:
    figures: Figures = {"a": {"size": 1}, "b": {"size": 2}, "c": {"size": 3}}
    order = KeptOrder(values(figures), str)
    by_size = ColumnChoice(sort="size")
    assert order.sort("cab", by_size) == ["a", "b", "c"]
    figures["a"] = {"size": 9}
    assert order.sort("cab", by_size) == ["a", "b", "c"], "nothing jumps while one looks"
    assert order.sort("abcd"[:3], ColumnChoice(sort="size", reverse=True)) == ["a", "c", "b"]
    assert order.sort("cab", by_size) == ["b", "c", "a"], "another choice sorts anew"
    figures["b"] = {"size": 10}
    assert order.sort("cab", by_size) == ["b", "c", "a"]
    order.forget()
    assert order.sort("cab", by_size) == ["c", "a", "b"], "and so does coming to the list"
    figures["d"] = {"size": 0}
    assert order.sort("cabd", by_size) == ["d", "c", "a", "b"], "and a new row"
    assert order.sort("cabd", STANDARD) == ["c", "a", "b", "d"]


def test_the_order_in_words() -> None:
    columns = (Column("sign", "", 1), Column("size", "GiB", 6))
    by_size = ColumnChoice(sort="size")
    assert order_words(columns, by_size, UNICODE, "yours first") == "GiB ▲"
    assert order_words(columns, by_size.sorted_by("size"), UNICODE, "yours first") == "GiB ▼"
    assert order_words(columns, STANDARD, UNICODE, "yours first") == "yours first"
