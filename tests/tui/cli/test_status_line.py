"""One line for a status bar: its format, and how little it needs."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import msgspec
import pytest

from modeldeck.core.schema import Summary
from modeldeck.tui.cli import status_line
from modeldeck.tui.cli.status_line import FORMAT, NAMES, BadFormat, filled, values
from modeldeck.tui.text.format import ASCII, UNICODE
from tests.support.process import CoreProcess
from tests.tui.conftest import PATIENCE_S

IDLE = Summary(
    name="box", version="1.2.3", memory_total_bytes=64 << 30, memory_available_bytes=46 << 30,
    disk_free_bytes=212_000_000_000,
)  # fmt: skip
BUSY = replace(
    IDLE, downloads=1, queued=2, received_bytes=37, total_bytes=100, rate_bytes_per_s=41e6,
    eta_s=112.0, loaded=("Qwen/Qwen3-8B-GGUF:Q4_K_M",),
)  # fmt: skip


def line(form: str, summary: Summary = BUSY) -> str:
    return filled(form, values(msgspec.to_builtins(summary), UNICODE))


@pytest.mark.parametrize(
    ("form", "busy", "idle"),
    [
        (FORMAT, "RAM 18.0/64.0 GiB  ↓ 41.0 MB/s (1)  1 loaded", "RAM 18.0/64.0 GiB  0 loaded"),
        ("{downloads}", "1", ""),
        ("{queued} {percent} {eta}", "2 37 % 1m52s", "  "),
        ("x( {rate})", "x 41.0 MB/s", "x"),
        ("x( {down}{rate})", "x ↓41.0 MB/s", "x"),
        ("{models}(, {queued} wait)", "Qwen3-8B-GGUF:Q4_K_M, 2 wait", ""),
        ("{name} {free} {disk}", "box 46.0 GiB 212 GB", "box 46.0 GiB 212 GB"),
        ("#[fg=red]{loads}#[default]", "#[fg=red]1#[default]", "#[fg=red]0#[default]"),
        ("{{{loads}}} (({loads}))", "{1} (1)", "{0} (0)"),
        ("", "", ""),
    ],
)
def test_a_format_says_what_is_wanted(form: str, busy: str, idle: str) -> None:
    assert line(form) == busy
    assert line(form, IDLE) == idle


def test_every_name_is_known_and_explained() -> None:
    known = values(msgspec.to_builtins(BUSY), ASCII)
    assert known.keys() == NAMES.keys()
    assert line(" ".join(f"{{{name}}}" for name in NAMES))


def test_what_is_not_known_is_no_number() -> None:
    bare = replace(IDLE, memory_total_bytes=None, memory_available_bytes=None)
    assert line(FORMAT, bare) == "RAM —/—  0 loaded"


@pytest.mark.parametrize("form", ["{nothing}", "(", "x)", "{", "}", "(a(b))", "({rate}"])
def test_a_format_that_cannot_be_is_refused(form: str) -> None:
    with pytest.raises(BadFormat):
        line(form)


@pytest.mark.parametrize(
    ("words", "form"),
    [
        (["status", "--line"], (None,)),
        (["status", "--line", "--format", "x"], ("x",)),
        (["status", "--format", "x", "--line"], ("x",)),
        (["status", "--line", "--format=x"], ("x",)),
        (["status"], None),
        (["status", "--line", "--json"], None),
        (["@gpu1", "status", "--line"], None),
        (["run", "m", "--line"], None),
    ],
)
def test_only_what_asks_for_the_line_alone_goes_the_quick_way(
    words: list[str], form: tuple[str | None] | None
) -> None:
    assert status_line.asked_for(words) == form


def program(*words: str) -> subprocess.CompletedProcess[str]:
    script = (
        "import sys; sys.argv = ['modeldeck', *sys.argv[1:]]\n"
        "from modeldeck.tui.cli import status_line\n"
        "from modeldeck.tui.program import main\n"
        f"status_line.PATIENCE_S = {PATIENCE_S}\n"
        "code = main()\n"
        "heavy = {'click', 'asyncio', 'httpx', 'msgspec', 'rich', 'modeldeck.core.client.client', "
        "'modeldeck.core.schema'}\n"
        "print(sorted(heavy & set(sys.modules)), code, file=sys.stderr)\n"
    )
    return subprocess.run(
        [sys.executable, "-P", "-c", script, *words], capture_output=True, text=True, check=False
    )


def test_the_line_comes_without_what_takes_time_to_import(core: CoreProcess) -> None:
    done = program("status", "--line", "--format", "{name} {loads}")
    assert done.stderr == "[] 0\n"
    assert done.stdout.endswith(" 0\n")
    assert done.stdout.strip() != "0"
    wrong = program("status", "--line", "--format", "{oops}")
    assert "{oops} is not known" in wrong.stderr
    assert wrong.stderr.endswith("[] 2\n")


def test_without_a_core_it_says_so_in_two_words(home: object) -> None:
    done = program("status", "--line")
    assert (done.stdout, done.stderr) == ("no core\n", "[] 7\n")
