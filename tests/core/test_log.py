import logging

from core.log import KEPT, LINE_LIMIT, Log, LogHandler


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
