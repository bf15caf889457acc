"""Numbers and outside text as a person reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeldeck.tui.text import format as fmt
from modeldeck.tui.text.format import ASCII, UNICODE, TextColumn


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (None, "—"),
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (639_446_688, "639 MB"),
        (999_950, "1.0 MB"),
        (5_027_783_488, "5.0 GB"),
        (42_520_000_000, "42.5 GB"),
        (3 * 10**18, "3000 PB"),
    ],
)
def test_sizes_are_decimal_with_three_figures_or_so(count: int | None, text: str) -> None:
    assert fmt.size(count) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (None, "—"),
        (0, "0 B"),
        (1023, "1023 B"),
        (1 << 20, "1.0 MiB"),
        (7_408_000_000, "6.9 GiB"),
        (64 << 30, "64.0 GiB"),
        (512 << 30, "512 GiB"),
    ],
)
def test_memory_is_binary(count: int | None, text: str) -> None:
    assert fmt.memory(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "—"),
        (0.0, "0 ms"),
        (0.0124, "12 ms"),
        (0.0996, "0.10 s"),
        (0.42, "0.42 s"),
        (0.996, "1.0 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1m00s"),
        (112, "1m52s"),
        (7500, "2h05m"),
        (273_600, "3d04h"),
    ],
)
def test_durations_have_two_units_at_most(seconds: float | None, text: str) -> None:
    assert fmt.duration(seconds) == text


def test_unknown_numbers_are_never_zero() -> None:
    for unknown in (
        fmt.rate(None),
        fmt.percent(None),
        fmt.count(None),
        fmt.tokens(None),
        fmt.parameters(None),
        fmt.error(None, 1.0),
        fmt.error(1.0, None),
    ):
        assert unknown == fmt.UNKNOWN


@pytest.mark.parametrize(
    ("got", "text"),
    [
        (fmt.rate(41_000_000), "41.0 MB/s"),
        (fmt.percent(0.999), "99 %"),
        (fmt.percent(1.0), "100 %"),
        (fmt.percent(0.29), "29 %"),
        (fmt.error(6.9, 6.8), "+1.5 %"),
        (fmt.error(99.5, 36.05), "+176 %"),
        (fmt.error(6.8, 6.9), "-1.4 %"),
        (fmt.count(999), "999"),
        (fmt.count(1_234_567), "1.2M"),
        (fmt.tokens(40_960), "40k"),
        (fmt.tokens(1 << 20), "1M"),
        (fmt.tokens(2000), "2000"),
        (fmt.tokens(100_001), "100k"),
        (fmt.parameters(8.19), "8.2B"),
        (fmt.parameters(0.268), "268M"),
        (fmt.number(1, "model"), "1 model"),
        (fmt.number(2, "model"), "2 models"),
        (fmt.number(0, "entry", "entries"), "0 entries"),
    ],
)
def test_other_numbers(got: str, text: str) -> None:
    assert got == text


@pytest.mark.parametrize(
    ("hostile", "harmless"),
    [
        ("plain", "plain"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07after", "after"),
        ("\x1b]52;c;aGk=\x1b\\after", "after"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x9b2Jgone", "gone"),
        ("\x1bPq#0\x1b\\sixel", "sixel"),
        ("\x1bcreset", "reset"),
        ("end\x1b", "end"),
        ("a\x00b\x08c\x7fd\x85e", "abcd e"),
        ("name\u202egpj.exe", "namegpj.exe"),
        ("a\u200bb\u2066c\u2069", "abc"),
        ("two\r\nlines\tand\u2028more", "two lines and more"),
        ("lone\ud800surrogate", "lonesurrogate"),
        ("日本 ﷽ é 🦙", "日本 ﷽ é 🦙"),
    ],
)
def test_text_from_outside_cannot_steer_the_terminal(hostile: str, harmless: str) -> None:
    assert fmt.clean(hostile) == harmless


def test_running_text_keeps_lines_tabs_and_joined_emoji() -> None:
    assert fmt.clean("a\r\nb\rc\td\x1b[2J\u2028e", lines=True) == "a\nb\nc\td\ne"
    assert fmt.clean("👩\u200d🚀", lines=True) == "👩\u200d🚀"


@given(st.text())
def test_nothing_but_printable_characters_is_ever_left(text: str) -> None:
    assert fmt.clean(text).isprintable()
    assert all(c.isprintable() or c in "\n\t\u200d" for c in fmt.clean(text, lines=True))


@given(st.text(max_size=60), st.integers(min_value=0, max_value=50))
def test_a_padded_text_has_exactly_its_width(text: str, width: int) -> None:
    text = fmt.clean(text)
    assert fmt.columns(fmt.cut(text, width)) <= width
    assert fmt.columns(fmt.squeeze(text, width)) <= width
    assert fmt.columns(fmt.pad(text, width)) == width
    assert fmt.columns(fmt.pad(text, width, right=True)) == width


def test_wide_and_combining_characters_are_counted_as_they_are_drawn() -> None:
    assert fmt.columns("abc") == 3
    assert fmt.columns("日本") == 4
    assert fmt.columns("e\u0301") == 1
    assert fmt.cut("日本語", 5) == "日本…"
    assert fmt.cut("abc", 3) == "abc"
    assert fmt.squeeze("owner/model-GGUF:Q8_0", 12) == "owner/…:Q8_0"


def test_bars_are_drawn_within_their_width() -> None:
    assert fmt.bar(None, 4) == "▁▁▁▁"
    assert fmt.bar(0.5, 4) == "▇▇▁▁"
    assert fmt.bar(7.0, 4, ASCII) == "####"
    assert fmt.bar(-1.0, 4, ASCII) == "...."


@pytest.mark.parametrize(
    ("encoding", "environ", "signs"),
    [
        ("utf-8", {"LANG": "en_GB.UTF-8"}, UNICODE),
        ("UTF8", {}, UNICODE),
        ("utf-8", {"LANG": "C.UTF-8"}, UNICODE),
        ("utf-8", {"LC_ALL": "C", "LANG": "en_GB.UTF-8"}, ASCII),
        ("ascii", {"LANG": "en_GB.UTF-8"}, ASCII),
        (None, {}, ASCII),
    ],
)
def test_signs_follow_what_the_output_can_show(
    encoding: str | None, environ: dict[str, str], signs: fmt.Glyphs
) -> None:
    assert fmt.glyphs(encoding, environ) is signs


def test_a_table_is_aligned_and_gives_way_where_it_may() -> None:
    heads = (TextColumn(title="model", shrink=True), TextColumn(title="size", right=True))
    rows = [("deck/a-very-long-name-indeed", "5.0 GB"), ("日本\x1b[31m", "639 MB")]
    assert fmt.table(heads, rows, 100) == [
        "model                           size",
        "deck/a-very-long-name-indeed  5.0 GB",
        "日本                          639 MB",
    ]
    narrow = fmt.table(heads, rows, 24)
    assert narrow[1] == "deck/a-v…-indeed  5.0 GB"
    assert max(map(fmt.columns, narrow)) == 24


@pytest.mark.parametrize("whole", [8, 9.9, 23.5, 64, 128, 1000, 2048])
def test_memory_in_use_has_one_width(whole: float) -> None:
    gib = 1 << 30
    shares = (0, 0.001, 0.04, 0.1, 0.5, 0.9, 0.999, 1)
    texts = {fmt.memory_part(share * whole * gib, whole * gib) for share in shares}
    assert len({len(text) for text in texts}) == 1, texts
    assert fmt.memory_part(0.9 * gib, 23.5 * gib) == " 0.9/23.5 GiB"
