"""One line per machine, the line above them and the lines below, as they are drawn."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
from rich.style import Style

from modeldeck.core.errors import CoreUnreachable, DeckError, Forbidden, NotFound, Unauthorized
from modeldeck.core.schema import (
    Disk,
    Download,
    Gpu,
    Host,
    Instance,
    InstanceState,
    Memory,
    RequestInfo,
    Runtime,
)
from modeldeck.core.schema.state import State
from modeldeck.tui.dashboard.screens.fleet import ranking
from modeldeck.tui.dashboard.screens.fleet.ranking import ServingAnswer, ServingWay, WantedModel
from modeldeck.tui.dashboard.screens.fleet.rows import MachineRow, ModelCopy, columns, line
from modeldeck.tui.dashboard.screens.fleet.texts import HINT, FleetKeys, foot, heading
from modeldeck.tui.dashboard.theme import ThemeStyles
from modeldeck.tui.dashboard.widgets.cells import text as fitted
from modeldeck.tui.dashboard.widgets.columns import arrange
from modeldeck.tui.remote.core_link import LinkState, LinkStatus
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text.format import UNICODE

LIVE = LinkStatus(state=LinkState.LIVE, round_trip_s=0.038)
GIB = 1 << 30
REQUEST: dict[str, Any] = {
    "model_id": "m",
    "unique": "o/r:Q",
    "who": "me",
    "dialect": "chat",
    "since": "",
}
STATE = State(
    host=Host(name="box", version="1.2.3", started_at="2026-01-01T00:00:00Z", platform="linux x"),
    memory=Memory(
        total_bytes=64 * GIB, available_bytes=46 * GIB,
        gpus=(Gpu(index=0, name="A", total_bytes=24 * GIB, used_bytes=7 * GIB),),
    ),
    disk=Disk(free_bytes=212_000_000_000),
    runtimes=(Runtime(name="llama.cpp", available=True), Runtime(name="mlx")),
    downloads={
        "a": Download(id="a", model_id="m", unique="o/r:Q", repo="o/r", revision="0" * 40,
                      state="downloading", rate_bytes_per_s=41e6),
        "b": Download(id="b", model_id="n", unique="o/s:Q", repo="o/s", revision="0" * 40,
                      state="queued"),
    },
    instances={
        "i": Instance(id="i", model_id="m", unique="Qwen/Qwen3-8B:Q4", engine="llama.cpp",
                      state=InstanceState.READY),
        "j": Instance(id="j", model_id="n", unique="o/second:Q4", engine="llama.cpp",
                      state=InstanceState.BUSY),
    },
    requests={
        "1": RequestInfo(state="writing", id="1", **REQUEST),
        "2": RequestInfo(state="waiting", id="2", **REQUEST),
        "3": RequestInfo(state="prompt", id="3", **REQUEST),
        "4": RequestInfo(state="done", id="4", **REQUEST),
    },
)  # fmt: skip
ROW = MachineRow(at=1, name="gpu1", way="ssh", status=LIVE, state=STATE)
LOST = LinkStatus(
    state=LinkState.LOST,
    error=CoreUnreachable("gpu1 cannot be reached: ssh: No route to host.", details=("a word",)),
)
AWAY = LinkStatus(state=LinkState.FAILED, error=CoreUnreachable("nas cannot be reached: No."))
ASKS = LinkStatus(
    state=LinkState.FAILED, error=Forbidden("vault does not let us in without a question.")
)
KEYS = FleetKeys(ask="f", again="r")


@pytest.fixture
def inks() -> ThemeStyles:
    return ThemeStyles(**{field.name: Style() for field in fields(ThemeStyles)})


def cells(row: MachineRow, inks: ThemeStyles, width: int = 120) -> dict[str, str]:
    """What is read in each column of a view of this width."""
    shown = line(row, UNICODE, inks, "r", narrow=width < 78).cells
    slots = arrange(columns([row], width), width - 3)
    return {slot.column.key: fitted(shown.get(slot.column.key, ""), slot).plain for slot in slots}


def test_a_machine_tells_all_on_one_line(inks: ThemeStyles) -> None:
    assert cells(ROW, inks) == {
        "sign": "●",
        "machine": "gpu1",
        "via": "ssh  38 ms",
        "serves": "—",
        "memory": " 18.0 of  64.0",
        "gpu": "  7.0 of  24.0",
        "answering": "2+1",
        "downloads": "41.0 MB/s",
        "loaded": "Qwen/Qwen3-8B:Q4 +1",
    }
    wide = cells(ROW, inks, 200)
    assert (wide["engines"], wide["disk"]) == ("llama.cpp", "212 GB")
    assert wide["loaded"] == "Qwen/Qwen3-8B:Q4, o/second:Q4"


@pytest.mark.parametrize(
    ("width", "keys"),
    [
        (120, "sign machine via serves memory gpu answering downloads loaded"),
        (80, "sign machine via serves memory loaded"),
        (60, "sign machine serves via loaded"),
    ],
)
def test_columns_are_those_of_the_width(width: int, keys: str) -> None:
    assert [slot.column.key for slot in arrange(columns([ROW], width), width - 3)] == keys.split()


def test_a_long_name_has_20_cells() -> None:
    long = replace(ROW, name="a-machine-with-a-name-that-never-ends")
    slots = arrange(columns([ROW, long], 120), 117)
    (name,) = (slot.width for slot in slots if slot.column.key == "machine")
    assert name == 20


def test_loaded_models_are_counted_where_it_is_narrow(inks: ThemeStyles) -> None:
    assert cells(ROW, inks, 60)["loaded"] == "2"


@pytest.mark.parametrize(
    ("row", "via"),
    [
        (replace(ROW, way=""), "this one"),
        (replace(ROW, status=replace(LIVE, round_trip_s=0.001)), "ssh"),
        (replace(ROW, way="https"), "https 38 ms"),
        (replace(ROW, way="socket", status=replace(LIVE, round_trip_s=0.31)), "socket"),
        (replace(ROW, status=LinkStatus(state=LinkState.CONNECTING)), "connecting"),
        (replace(ROW, status=AWAY), "unreachable"),
        (replace(ROW, status=LOST), "unreachable"),
        (replace(ROW, status=ASKS), "password"),
        (replace(ROW, status=replace(AWAY, error=Unauthorized("No token."))), "failed"),
        (replace(ROW, way="https", status=ASKS), "failed"),
    ],
)
def test_how_a_machine_is_reached(row: MachineRow, via: str, inks: ThemeStyles) -> None:
    assert cells(row, inks)["via"] == via


def test_a_machine_that_is_lost_keeps_its_last_state_dim(inks: ThemeStyles) -> None:
    row = replace(ROW, status=LOST, asked=True, answer=ranking.refused(NotFound("x")))
    drawn = line(row, UNICODE, inks, "r")
    assert drawn.dim
    assert cells(row, inks)["memory"] == " 18.0 of  64.0"
    assert cells(row, inks)["serves"] == "—", "it serves nothing now"


def test_what_was_never_there_has_nothing_but_its_name(inks: ThemeStyles) -> None:
    row = MachineRow(at=0, name="x", way="ssh", status=AWAY, state=None)
    assert cells(row, inks) == {
        "sign": "✗", "machine": "x", "via": "unreachable",
        **dict.fromkeys(("serves", "memory", "gpu", "answering", "downloads", "loaded"), "—"),
    }  # fmt: skip
    assert not line(row, UNICODE, inks, "r").dim


def test_a_machine_that_needs_a_password_names_the_key(inks: ThemeStyles) -> None:
    row = MachineRow(at=0, name="vault", way="ssh", status=ASKS, state=None)
    assert cells(row, inks, 140)["loaded"] == "needs a password, r asks"
    assert cells(row, inks, 60)["loaded"] == "r asks"
    assert cells(row, inks)["sign"] == "?"


def test_memory_that_a_gpu_shares_is_told(inks: ThemeStyles) -> None:
    mac = replace(STATE.host, platform="darwin arm64")
    state = replace(STATE, memory=replace(STATE.memory, gpus=()))
    assert cells(replace(ROW, state=state), inks)["gpu"] == "—"
    assert cells(replace(ROW, state=replace(state, host=mac)), inks)["gpu"] == "shared"


FITS = ServingAnswer(way=ServingWay.FITS, word="fits", needs_bytes=6 * GIB)
DOWNLOADS = replace(FITS, way=ServingWay.DOWNLOADS, word="downloads")
ASKED = replace(ROW, asked=True)
JOB = replace(STATE.downloads["a"], total_bytes=100, received_bytes=37)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (ROW, "—"),
        (ASKED, "…"),
        (replace(ASKED, answer=FITS, place=2), "2nd fits 6.0"),
        (replace(ASKED, answer=replace(FITS, way=ServingWay.LOADED, word="loaded"), place=1),
         "1st loaded"),
        (replace(ASKED, answer=replace(FITS, way=ServingWay.UNLOADS, word="unloads"), place=3),
         "3rd unloads"),
        (replace(ASKED, answer=ranking.refused(NotFound("x"))), "no such model"),
        (replace(ASKED, answer=FITS, place=2, copy=ModelCopy("gpu2", JOB)), "copying 37 %"),
    ],
)  # fmt: skip
def test_how_a_machine_would_serve(row: MachineRow, words: str, inks: ThemeStyles) -> None:
    assert cells(row, inks)["serves"] == words


# The line above, and the lines below


@pytest.mark.parametrize(
    ("width", "words"),
    [
        (116, "4 machines   which would serve qwen3-8b at 8k? [f asks about another]"),
        (76, "4 machines   which would serve qwen3-8b at 8k? [f]"),
        (56, "4 machines   serving qwen3-8b? [f]"),
    ],
)
def test_the_question_stands_above(width: int, words: str, inks: ThemeStyles) -> None:
    asked = WantedModel(name="qwen3-8b")
    plain = heading(4, asked, 8192, 0.4, width, "f", inks).plain
    assert plain.startswith(words)
    assert plain.endswith("answers in 0.40 s") is (width == 116)
    assert fmt.columns(plain) <= width
    long = heading(4, WantedModel(name="owner/" + "x" * 200), 8192, 0.4, width, "f", inks)
    assert fmt.columns(long.plain) <= width


def test_without_a_question_the_key_is_named(inks: ThemeStyles) -> None:
    assert heading(1, None, None, None, 76, "f", inks).plain == (
        "1 machine   f asks which would serve a model"
    )


def below(rows: list[MachineRow], cursor: int, height: int, inks: ThemeStyles) -> list[str]:
    return [text.plain for text in foot(rows, cursor, (76, height), KEYS, inks)]


def test_trouble_stands_below_with_its_remedy_and_the_time(inks: ThemeStyles) -> None:
    seen_at = 1_764_500_000.0
    row = replace(ROW, status=LOST, seen_at=seen_at)
    seen = f"Its last state was seen at {fmt.time_of_day(seen_at)}."
    assert below([row], 1, 20, inks) == [
        "gpu1  ssh: No route to host.",
        "      a word",
        f"      Check that it is on. r tries again. {seen}",
    ]


def test_a_remedy_of_the_error_is_told_and_a_password_is_asked_for(inks: ThemeStyles) -> None:
    error: DeckError = CoreUnreachable("There is no modeldeck on nas.", "Install it there.")
    nas = MachineRow(0, "nas", "ssh", replace(AWAY, error=error), None)
    vault = MachineRow(1, "vault", "ssh", ASKS, None)
    assert below([nas, vault], 0, 20, inks) == [
        "nas  There is no modeldeck on nas.",
        "     Install it there. r tries again.",
        "",
        "vault  does not let us in without a question.",
        "       r lets ssh ask. A key that ssh's agent holds needs no question.",
    ]


def test_where_it_is_low_only_the_machine_under_the_cursor_is_told_of(inks: ThemeStyles) -> None:
    rows = [replace(ROW, at=0), replace(ROW, at=1, name="nas", status=AWAY)]
    assert below(rows, 0, 12, inks) == []
    assert below(rows, 1, 12, inks)[0] == "nas  No."
    assert below(rows, 0, 20, inks)[0] == "nas  No."
    assert below(rows, 0, 36, inks)[-1] == HINT


def test_at_most_three_machines_are_told_of(inks: ThemeStyles) -> None:
    rows = [replace(ROW, at=at, name=f"n{at}", status=AWAY) for at in range(9)]
    said = below(rows, 5, 20, inks)
    assert [line.split()[0] for line in said if line.startswith("n")] == ["n5", "n0", "n1"]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (replace(FITS, unloads=("o/a", "o/b")), ["gpu1  It unloads o/a, o/b first."]),
        (replace(DOWNLOADS, download_bytes=5_000_000), ["gpu1  It downloads 5.0 MB first."]),
        (DOWNLOADS, ["gpu1  It downloads the model first."]),
        (ranking.refused(NotFound("There is no 'x'.", "Look.")), ["gpu1  There is no 'x'. Look."]),
        (FITS, []),
    ],
)
def test_what_comes_first_is_told_of_the_machine_under_the_cursor(
    answer: ServingAnswer, words: list[str], inks: ThemeStyles
) -> None:
    assert below([replace(ROW, asked=True, answer=answer)], 1, 20, inks) == words
