"""Which requests are shown, in which order, and what a filter holds for."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from textual.theme import BUILTIN_THEMES

from modeldeck.core.schema import (
    Host,
    Instance,
    InstanceState,
    RecordedText,
    RequestInfo,
    RequestTotals,
)
from modeldeck.core.schema.state import State
from modeldeck.tui.dashboard.screens.requests import cells, details, rows
from modeldeck.tui.dashboard.screens.requests.rows import EndedRule, RequestsShown
from modeldeck.tui.dashboard.theme import ink
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text.format import ASCII, UNICODE

INKS = ink(BUILTIN_THEMES["nord"].to_color_system().generate())
HOST = Host(name="gpubox", version="1", started_at="2026-01-01T00:00:00Z")
NOW = datetime(2026, 1, 1, 16, 30, tzinfo=UTC)
OWN = "00c0ffee"


def request(key: str, word: Any, **more: Any) -> RequestInfo:
    return RequestInfo(
        **{
            **{"id": key, "model_id": "m", "unique": "o/tiny:F16", "who": key},
            **{"dialect": "openai", "since": "2026-01-01T16:29:50Z", "state": word, **more},
        }
    )


ASKED = (
    request("a", "done", ended_at="2026-01-01T16:20:00Z", tokens_per_s=3.0, dialect="ollama"),
    request("b", "writing", tokens_per_s=31.2, completion_tokens=212),
    request("c", "failed", ended_at="2026-01-01T16:21:00Z", error_code="context_length_exceeded"),
    request("d", "cut", ended_at="2026-01-01T16:22:00Z", completion_tokens=256),
    request("e", "waiting", place=1, client=OWN, who="python 8120"),
    request("f", "cancelled", ended_at="2026-01-01T16:23:00Z", cancelled_by="x", canceller=OWN),
)
STATE = State(
    host=HOST,
    requests={info.id: info for info in ASKED},
    requests_today=RequestTotals(
        day="2026-01-01", requests=412, prompt_tokens=1_200_000, completion_tokens=88_000
    ),
)


def shown(
    words: str = "", kind: RequestsShown = RequestsShown.ALL, kept: tuple[str, ...] = ()
) -> str:
    passes = rows.language({}, OWN).parse(words).matches
    of_kind = rows.of_kind(STATE.requests.values(), kind, kept)
    found = rows.rows(STATE, [info for info in of_kind if passes(info)], kept)
    return "".join("|" if isinstance(row, EndedRule) else row.id for row in found)


def test_live_ones_in_order_and_under_the_rule_the_newest_first() -> None:
    assert shown() == "be|fdca"
    assert shown(kept=("d",)) == "bde|fca", "one that just ended keeps its place"
    assert shown(kind=RequestsShown.LIVE) == "be"
    assert shown(kind=RequestsShown.FAILED) == "|c"
    every = list(STATE.requests.values())
    (rule,) = [row for row in rows.rows(STATE, every, ()) if rows.key(row) == "rule"]
    assert rule == EndedRule("last 4 of 412")


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("who:chat", "e"),
        ("failed", "|c"),
        ("tok/s<5", "|a"),
        ("tok/s>5 live", "b"),
        ("-live -failed", "|fda"),
        ("api:ollama", "|a"),
        ("model:tiny waiting", "e"),
        ("cancelled by you", "|f"),
        ("out>0.2k", "b|d"),
        ("done", "|da"),
        ("own", "e"),
        ("nothing:here", ""),
        ("tok/s<", "be|fdca"),
    ],
)
def test_the_filter(words: str, found: str) -> None:
    assert shown(words) == found


def test_the_words_of_each_row() -> None:
    def drawn(key: str, glyphs: Any = UNICODE) -> dict[str, str]:
        line = rows.line(STATE.requests[key], STATE, OWN, NOW, glyphs, INKS)
        return {k: str(v[0] if isinstance(v, tuple) else v) for k, v in line.cells.items()}

    assert drawn("b")["state"] == "writing"
    assert (drawn("b")["out"], drawn("b")["speed"], drawn("b")["time"]) == ("212", "31.2", "10 s")
    assert drawn("c") | {"sign": "✗", "state": "context is full", "out": "0"} == drawn("c")
    assert drawn("d")["state"] == "done, cut at 256"
    assert drawn("e") | {"who": "chat (this one)", "api": "chat", "out": "—"} == drawn("e")
    assert drawn("f")["state"] == "cancelled by you"
    assert drawn("b", ASCII)["sign"] == "o"


@pytest.mark.parametrize(
    ("width", "said"),
    [
        (120, "today 412 requests, 1.2M tokens in, 88k out"),
        (80, "today 412 requests"),
        (60, ""),
    ],
)
def test_the_heading(width: int, said: str) -> None:
    assert rows.heading(STATE, width, UNICODE, "2026-01-01") == ("1 answering · 1 waiting", said)
    assert rows.heading(STATE, width, UNICODE, "2026-01-02")[1] == "", "that was yesterday"


def test_a_request_in_full() -> None:
    info = request(
        "laptop", "writing", origin="127.0.0.1 token=laptop", program="claude-cli/2.1",
        prompt_tokens=12_400, prompt_read=12_400, cached_tokens=11_900, completion_tokens=212,
        tokens_per_s=31.2, time_to_first_token_s=1.8, context_length=16384, max_tokens=4096,
        temperature=1.0, tools=14,
    )  # fmt: skip
    said = [line.plain for line in details.facts(info, None, "R", OWN, 116, UNICODE, INKS)]
    assert said == [
        "laptop · 127.0.0.1 · claude-cli/2.1 · request lapt",
        "prompt   12.4k tokens: 11.9k from the cache, 500 read in 1.8 s (278 tok/s)",
        "answer   212 tokens so far, 31.2 tok/s · limit 4096 · temperature 1 · 14 tools",
        "context  " + "▇" * 31 + "▁" * 9 + " 12.6k of 16k",
        "text     not recorded; R records for some minutes, here and only in memory",
    ]
    text = RecordedText(prompt="Why?\n", thought="Hm.", answer="So " * 300)
    said = [line.plain for line in details.facts(info, text, "R", OWN, 116, UNICODE, INKS)]
    assert said[4:6] == ["asked    Why?", "thought  Hm."]
    assert said[6].startswith("said     …")


def test_a_request_that_waits_for_a_load_tells_how_far_it_is() -> None:
    info = request("a", "loading")
    loading = Instance(
        id="i", model_id="m", unique="m", state=InstanceState.STARTING, engine="llama.cpp",
        progress=0.61,
    )  # fmt: skip
    state = replace(STATE, instances={"i": loading})
    text = cells.state_text(info, state, OWN, UNICODE, INKS, 18)
    assert text.plain == "loading 61 % ▇▇▇▁▁"
    assert cells.state_text(info, STATE, OWN, UNICODE, INKS, 18).plain == "loading"


@pytest.mark.parametrize("tokens", [0, 212, 9_949, 53_900, 99_949, 128_000, 999_499])
def test_counts_of_tokens_are_never_cut(tokens: int) -> None:
    widths = {column.key: column.width for column in rows.COLUMNS}
    for key in ("prompt", "out", "cached"):
        assert len(fmt.tokens(tokens)) <= widths[key], key


def test_a_code_that_has_no_room_is_left_out_whole() -> None:
    info = request("f", "failed", error_code="upstream_engine_died")
    for cells_wide, words in ((18, "failed"), (40, "failed (upstream_engine_died)")):
        assert cells.state_text(info, STATE, OWN, UNICODE, INKS, cells_wide).plain == words
