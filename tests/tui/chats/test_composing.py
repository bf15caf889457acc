"""What the composer is helped with: earlier questions, files, the size of what would be sent."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from modeldeck.core.errors import InvalidRequest, NotFound, TooLarge
from modeldeck.tui.chats import attachments, file_search
from modeldeck.tui.chats.attachments import picture_size, read_attachment
from modeldeck.tui.chats.chat import Chat, ChatAttachment, ChatFigures, ChatOptions, ChatTurn
from modeldeck.tui.chats.context import context_use
from modeldeck.tui.chats.file_search import FileQuery, files_below, matching
from modeldeck.tui.chats.prompt_history import PromptHistory

PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", 1280, 720) + b"\x08\x02\0\0\0"


def test_earlier_questions_and_back_to_the_draft() -> None:
    history = PromptHistory()
    history.add("one")
    history.fill(["other", "one"])
    assert history.later() is None
    assert [history.earlier("draft"), history.earlier("one")] == ["one", "other"]
    assert history.earlier("other") is None
    assert [history.later(), history.later(), history.later()] == ["one", "draft", None]
    history.add("two")
    assert history.earlier("") == "two"


PATHS = ["src/chart.py", "chart.png", "docs/a/charter.md", "c/h/a/r/t", "notes.md", "pics/x.jpg"]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("chart", ["chart.png", "src/chart.py", "docs/a/charter.md", "c/h/a/r/t"]),
        ("CHART.P", ["chart.png", "src/chart.py"]),
        ("docs", ["docs/a/charter.md"]),
        ("nts", ["notes.md"]),
        ("zzz", []),
    ],
)
def test_the_best_match_comes_first(words: str, found: list[str]) -> None:
    assert matching(words, PATHS) == found


def test_pictures_come_first_where_the_model_sees() -> None:
    assert matching("", PATHS, pictures_first=True)[:2] == ["chart.png", "pics/x.jpg"]


@pytest.mark.parametrize(
    ("text", "folder", "words"),
    [("a/b", "", "a/b"), ("~/pics/ch", "~/pics/", "ch"), ("../x", "../", "x"), ("/", "/", "")],
)
def test_a_folder_can_be_named(text: str, folder: str, words: str) -> None:
    assert FileQuery.of(text) == FileQuery(folder=folder, words=words)


async def test_files_below_a_folder_without_hidden_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_search, "SCAN_LIMIT_S", 60.0)
    for name in ("b.txt", "a/c.txt", ".git/x", "node_modules/y"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    assert await files_below(str(tmp_path)) == ["b.txt", "a/c.txt"]
    assert await files_below(str(tmp_path / "nowhere")) == []


async def test_files_are_read_as_what_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.py").write_text("print(1)\n")
    (tmp_path / "p.png").write_bytes(PNG)
    (tmp_path / "no.png").write_bytes(b"text")
    (tmp_path / "zip").write_bytes(b"PK\x03\x04\0")
    text = await read_attachment(str(tmp_path / "a.py"))
    assert (text.kind, text.text, text.tokens) == ("text", "print(1)\n", 3)
    picture = await read_attachment(str(tmp_path / "p.png"))
    assert (picture.kind, picture.width, picture.height) == ("image", 1280, 720)
    for name, kind in (("no.png", InvalidRequest), ("zip", InvalidRequest), ("gone", NotFound)):
        with pytest.raises(kind):
            await read_attachment(str(tmp_path / name))
    monkeypatch.setattr(attachments, "MOST_TEXT_BYTES", 4)
    with pytest.raises(TooLarge):
        await read_attachment(str(tmp_path / "a.py"))


@pytest.mark.parametrize(
    ("data", "size"),
    [
        (PNG, (1280, 720)),
        (b"GIF89a" + struct.pack("<HH", 3, 4), (3, 4)),
        (b"BM" + bytes(16) + struct.pack("<ii", 5, -6), (5, 6)),
        (b"RIFF....WEBPVP8X" + bytes(8) + b"\x02\0\0\x03\0\0", (3, 4)),
        (b"\xff\xd8\xff\xe0\0\x04ab\xff\xc0\0\x11\x08\0\x07\0\x09xx", (9, 7)),
        (b"\xff\xd8\xff\xe0\0\x04ab", None),
        (b"\x89PNG\r\n\x1a\n", None),
        (b"text", None),
    ],
)
def test_sizes_of_pictures(data: bytes, size: tuple[int, int] | None) -> None:
    found = picture_size(data)
    assert (found and (found.width, found.height)) == size


def test_the_core_counts_and_the_rest_is_estimated() -> None:
    chat = Chat(options=ChatOptions(system="x" * 36))
    chat = chat.with_turn(ChatTurn(id="q", role="user", text="y" * 36))
    assert context_use(chat).tokens == 20 + 0
    assert not context_use(chat).exact
    figures = ChatFigures(prompt_tokens=100, completion_tokens=50, thought_tokens=30)
    chat = chat.with_turn(ChatTurn(id="a", parent="q", role="assistant", figures=figures))
    file = ChatAttachment(name="f", text="z", tokens=7)
    use = context_use(chat, "w" * 36, [file], 1000)
    assert (use.tokens, use.exact, use.fraction) == (137, True, 0.137)
