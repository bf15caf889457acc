"""The log file of a core: put aside while the core writes to it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from modeldeck.core.storage.log_file import LOG_LIMIT, put_aside

WRITER = """
import logging, os, sys
from pathlib import Path
from modeldeck.core.server import log_to_stderr
from modeldeck.core.storage import log_file

log_file.LOG_LIMIT = 20_000
path = Path(sys.argv[1])
os.dup2(2, 1)  # as a core in the background does
log_to_stderr(logging.INFO, path)
for number in range(1050):
    logging.getLogger("modeldeck.core").info("line %d", number)
print("native", flush=True)
"""


def test_a_running_core_begins_a_new_file(tmp_path: Path) -> None:
    path = tmp_path / "core.log"
    with path.open("ab") as log:
        subprocess.run([sys.executable, "-c", WRITER, str(path)], stderr=log, check=True)
    older = path.with_suffix(".log.1")
    assert path.stat().st_size < 30_000
    assert older.stat().st_size < 30_000
    assert "line 1049" in path.read_text()
    assert "native" in path.read_text()


def test_a_file_of_the_person_s_own_is_left_alone(tmp_path: Path) -> None:
    mine, path = tmp_path / "mine.log", tmp_path / "core.log"
    path.write_text("")
    with mine.open("ab") as log:
        subprocess.run([sys.executable, "-c", WRITER, str(path)], stderr=log, check=True)
    assert mine.read_text().count("line ") == 1050
    assert path.read_text() == ""


def test_a_short_log_stays(tmp_path: Path) -> None:
    path = tmp_path / "core.log"
    assert not put_aside(path)
    path.write_text("short")
    assert not put_aside(path)
    assert put_aside(path, 4)
    assert path.with_suffix(".log.1").read_text() == "short"
    assert LOG_LIMIT > 1 << 20
