import io
import logging

import pytest

from core.log import KEPT, LINE_LIMIT, LineFormatter, Log, LogHandler, clean

OURS = "mdk_" + "aB3-_" * 8 + "xyz"


def test_lines_are_numbered_and_read_from_a_number_on() -> None:
    log = Log()
    for n in range(5):
        log.add("core" if n % 2 else "engine:a", "info", f"line {n}")
    assert [line.text for line in log.lines(after=3)] == ["line 3", "line 4"]
    assert [line.seq for line in log.lines(limit=2)] == [4, 5]
    assert [line.seq for line in log.lines(source="core")] == [2, 4]


def test_a_line_cannot_forge_another_or_grow_without_end() -> None:
    log = Log()
    log.add("engine:a", "info", "first\nINFO core all is well\r" + "x" * 10_000)
    (line,) = log.lines()
    assert "\n" not in line.text
    assert "\r" not in line.text
    assert len(line.text) == LINE_LIMIT


def test_the_ring_forgets_the_oldest() -> None:
    log = Log()
    for n in range(KEPT + 10):
        log.add("core", "info", str(n))
    assert len(log.lines(limit=KEPT * 2)) == KEPT
    assert log.lines(limit=KEPT * 2)[0].text == "10"


def test_records_of_the_core_reach_the_log_with_their_level() -> None:
    log = Log()
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
    log = Log()
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
