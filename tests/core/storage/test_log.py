import io
import logging

import pytest

from modeldeck.core.storage.log import (
    KEPT,
    LINE_LIMIT,
    MOST_REPEATED,
    CountingHandler,
    LineFormatter,
    LogBuffer,
    LogHandler,
    Repeats,
    clean,
)

OURS = "mdk_" + "aB3-_" * 8 + "xyz"


def test_lines_are_numbered_and_read_from_a_number_on() -> None:
    log = LogBuffer()
    for n in range(5):
        log.add("core" if n % 2 else "engine:a", "info", f"line {n}")
    assert [line.text for line in log.lines(after=3)] == ["line 3", "line 4"]
    assert [line.seq for line in log.lines(limit=2)] == [4, 5]
    assert [line.seq for line in log.lines(source="core")] == [2, 4]


def test_a_line_cannot_forge_another_or_grow_without_end() -> None:
    log = LogBuffer()
    log.add("engine:a", "info", "first\nINFO core all is well\r" + "x" * 10_000)
    (line,) = log.lines()
    assert "\n" not in line.text
    assert "\r" not in line.text
    assert len(line.text) == LINE_LIMIT


def test_the_ring_forgets_the_oldest() -> None:
    log = LogBuffer()
    for n in range(KEPT + 10):
        log.add("core", "info", str(n))
    assert len(log.lines(limit=KEPT * 2)) == KEPT
    assert log.lines(limit=KEPT * 2)[0].text == "10"


def test_records_of_the_core_reach_the_log_with_their_level() -> None:
    log = LogBuffer()
    logger = logging.Logger("core.example")
    logger.addHandler(LogHandler(log))
    logger.warning("low on %s", "disk")
    logger.debug("not shown")
    (line,) = log.lines()
    assert (line.source, line.level, line.text) == ("core", "warning", "low on disk")


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("plain, with a tab\t\u00e9 \u4e2d", "plain, with a tab\t\u00e9 \u4e2d"),
        ("a\nERROR core: forged", "a\\nERROR core: forged"),
        ("a\r\x1b[2Jb\x00\x7f", "a\\r\\x1b[2Jb\\x00\\x7f"),
        ("a\x85b\u2028c", "a\\x85b\\u2028c"),
        (f"asked with {OURS}.", "asked with mdk_...."),
        (f"?token={OURS}&a=b", "?token=mdk_...&a=b"),
        ("Authorization: Bearer sk-12345, more", "Authorization: Bearer ..., more"),
        ("{'authorization': 'bearer abc'}", "{'authorization': 'bearer ...'}"),
        ("login hf_abcDEF12345 works", "login hf_... works"),
        ("hf_hub and mdk_notes", "hf_hub and mdk_notes"),
    ],
)
def test_what_is_kept_is_one_line_and_holds_no_secret(text: str, kept: str) -> None:
    assert clean(text) == kept
    log = LogBuffer()
    log.add("core", "info", text)
    assert log.lines()[0].text == kept


def test_standard_error_is_as_careful_and_keeps_tracebacks() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(LineFormatter("%(levelname)s %(message)s"))
    logger = logging.Logger("core.example")
    logger.addHandler(handler)
    logger.warning("model %s", "a\nERROR forged")
    try:
        raise RuntimeError(f"with {OURS}")
    except RuntimeError:
        logger.exception("It failed for %s.", OURS)
    first, second, *trace = stream.getvalue().splitlines()
    assert first == "WARNING model a\\nERROR forged"
    assert second == "ERROR It failed for mdk_...."
    assert trace[0] == "Traceback (most recent call last):"
    assert trace[-1] == "RuntimeError: with mdk_..."


# Repeated messages


class Kept(logging.Handler):
    """A handler that keeps the text of what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.levelname} {record.getMessage()}")


def counting() -> tuple[logging.Logger, Kept, CountingHandler, list[float]]:
    clock, kept = [0.0], Kept()
    handler = CountingHandler(kept, lambda: clock[0])
    logger = logging.Logger("core.example")
    logger.addHandler(handler)
    return logger, kept, handler, clock


def test_a_message_that_comes_again_is_counted_not_repeated() -> None:
    logger, kept, _, clock = counting()
    for number in range(58):
        logger.warning("The disk is %s.", "full")
        logger.warning("line %d", number % 2)
    assert kept.lines == ["WARNING The disk is full.", "WARNING line 0", "WARNING line 1"]
    clock[0] = 60.0
    logger.info("Something else.")
    assert kept.lines[3:] == [
        "WARNING The disk is full. (57 more times)",
        "WARNING line 0 (28 more times)",
        "WARNING line 1 (28 more times)",
        "INFO Something else.",
    ]
    logger.warning("The disk is full.")
    assert kept.lines[-1] == "WARNING The disk is full."


def test_a_message_that_came_once_is_told_once_each_minute() -> None:
    logger, kept, _, clock = counting()
    for minute in range(3):
        clock[0] = 61.0 * minute
        logger.warning("Again.")
    assert kept.lines == ["WARNING Again."] * 3


def test_the_same_words_with_another_error_are_another_message() -> None:
    logger, kept, _, _ = counting()
    for error in (ValueError("a"), ValueError("b"), ValueError("a")):
        logger.error("It failed.", exc_info=error)
    assert len(kept.lines) == 2


def test_what_was_counted_is_told_at_the_end() -> None:
    logger, kept, handler, _ = counting()
    logger.warning("x")
    logger.warning("x")
    handler.close()
    assert kept.lines == ["WARNING x", "WARNING x (1 more time)"]


def test_what_is_remembered_is_bounded() -> None:
    repeats = Repeats()
    assert all(repeats.is_new(number, 0.0) for number in range(3 * MOST_REPEATED))
    assert len(repeats._logged) == MOST_REPEATED
