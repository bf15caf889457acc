"""`modeldeck chat` on a terminal, with a real core and the demo's tiny models."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sysconfig
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pexpect  # type: ignore[import-untyped] # it has no types
import pytest

from modeldeck.core.client.client import Client
from modeldeck.core.config.paths import locate
from modeldeck.core.demo.vocabulary import THOUGHT, expected
from modeldeck.core.schema import LoadOptions
from modeldeck.tui.chats.chat import Chat, ChatOptions, ChatTurn
from modeldeck.tui.chats.store import ChatStore
from tests.support.folder import contents
from tests.support.process import CoreProcess

PROGRAM = str(Path(sysconfig.get_path("scripts")) / "modeldeck")
TINY = "deck/tiny-GGUF:Q8_0"
THINKER = "deck/tiny-think-GGUF:F16"
ABSENT = "bartowski/SmolLM2-135M-Instruct-GGUF:Q4_K_M"
ROOM = 1 << 16
"""Tokens of context: `loop` shall not end by itself."""
READY = r"\x1b\[\?2004h"
"""What prompt_toolkit sends when a prompt begins to read."""
STYLE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")

TIMEOUT_S = 60.0

T = TypeVar("T")


class Typist:
    """A person at `modeldeck chat`."""

    def __init__(self, *words: str) -> None:
        self.child = pexpect.spawn(
            PROGRAM, ["chat", *words], encoding="utf-8", dimensions=(24, 100), timeout=TIMEOUT_S,
            env={**os.environ, "LC_ALL": "C.UTF-8"},
        )  # fmt: skip
        self.log = Log()
        self.child.logfile_read = self.log

    def sees(self, *texts: str) -> None:
        """Wait until these stand there, one after the other."""
        for text in texts:
            self.child.expect_exact(text)

    def prompt(self) -> Typist:
        """Wait for the next prompt."""
        self.child.expect(READY)
        return self

    def says(self, line: str, *texts: str) -> None:
        """Send a line; wait for texts, then for the next prompt."""
        self.child.send(line + "\r")
        self.sees(*texts)
        self.prompt()

    def interrupts(self, line: str, sign: str) -> None:
        """Send a line, and ctrl-C once a part of the answer is there."""
        self.child.send(line + "\r")
        self.sees(sign)
        self.child.send("\x03")
        self.sees("[stopped]")
        self.prompt()

    def leaves(self, code: int = 0) -> str:
        """Send ctrl-D; what the terminal showed in all."""
        self.child.send("\x04")
        return self.ended(code)

    def ended(self, code: int) -> str:
        """Wait for the end of the program; what the terminal showed in all."""
        self.child.expect(pexpect.EOF)
        self.child.close()
        assert self.child.exitstatus == code, self.log.text
        return self.log.text


class Log:
    """What a terminal was sent."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None:
        pass


@pytest.fixture(scope="module")
def stocked_core(shared_core: CoreProcess) -> CoreProcess:
    """A core with two models on its disk, for all tests here."""

    async def stock() -> None:
        async with Client(socket=shared_core.socket) as client:
            for name in (TINY, THINKER):
                await client.download(name)
            await client.feed.until(
                lambda s: sum(j.state == "completed" for j in s.downloads.values()) == 2
            )

    asyncio.run(stock())
    return shared_core


@pytest.fixture
def core(stocked_core: CoreProcess, monkeypatch: pytest.MonkeyPatch) -> Iterator[CoreProcess]:
    """That core as this person's, with nothing loaded and no chats."""
    monkeypatch.setenv("MODELDECK_HOME", str(stocked_core.home))
    monkeypatch.setenv("HF_HOME", str(stocked_core.home.parent / "hf"))
    yield stocked_core

    async def emptied(client: Client) -> None:
        await client.change_settings(memory_budget_bytes=None)
        await client.unload_all()

    on_core(stocked_core, emptied)
    for path in locate().state.glob("chats.db*"):
        path.unlink()


def on_core(core: CoreProcess, work: Callable[[Client], Awaitable[T]]) -> T:
    async def done() -> T:
        async with Client(socket=core.socket) as client:
            return await work(client)

    return asyncio.run(done())


def kept(number: int) -> Chat:
    """A chat as the dashboard reads it."""

    async def read() -> Chat:
        store = ChatStore(locate().chats)
        try:
            return await store.load(number)
        finally:
            await store.close()

    return asyncio.run(read())


def with_room(core: CoreProcess, name: str = TINY) -> None:
    on_core(core, lambda client: client.loaded(name, LoadOptions(context_length=ROOM)))


def said(chat: Chat) -> list[str]:
    return [turn.text for turn in chat.path()]


def test_lines_may_come_from_a_script_on_a_terminal(core: CoreProcess) -> None:
    program = shutil.which("script")
    assert program is not None, "script of util-linux is needed"
    done = subprocess.run(
        [program, "-qec", f"{PROGRAM} chat tiny-GGUF", "/dev/null"],
        input="hi\n/quit\n", capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done
    assert expected("default") in done.stdout
    assert re.search(r"\[\d+\.\d tok/s, first token .*, 17 tokens, context \d %\]", done.stdout)
    assert "\x1b[?1049h" not in done.stdout
    assert said(kept(1)) == ["hi", expected("default")]


def test_ctrl_c_stops_an_answer_and_keeps_its_part(core: CoreProcess) -> None:
    with_room(core)
    typist = Typist(TINY)
    typist.sees("tiny Q8_0, 64k context. /help, ctrl-C stops an answer, ctrl-D leaves.")
    typist.prompt().interrupts("loop", "Tick tock")
    typist.child.send("\x03")
    typist.sees("ctrl-D leaves")
    typist.prompt()
    typist.child.send("unsent\x03")
    typist.prompt()
    typist.says("Please count.", expected("count"), "tok/s")
    shown = typist.leaves()
    for sequence in ("\x1b[?1049h", "\x1b[?1000h", "\x1b[6n"):
        assert sequence not in shown
    assert "[saved as chat 1]" in shown
    chat = kept(1)
    assert [turn.ended for turn in chat.path()] == ["", "stopped", "", ""]
    assert chat.path()[1].text.startswith("Tick tock")
    assert said(chat)[2:] == ["Please count.", expected("count")]
    assert chat.options.model == TINY


def test_commands_change_the_chat_that_the_dashboard_finds(
    core: CoreProcess, tmp_path: Path
) -> None:
    typist = Typist(TINY, "-c", "4096").prompt()
    typist.says("/foo", "There is no /foo; /help lists them.")
    typist.says("/help", "/image PATH [TEXT]", "leave, as ctrl-D does")
    typist.says("/retry", "Nothing was asked in this chat yet.")
    typist.says("/system Say json.", "System prompt changed.")
    typist.says("/set temp 9", "temperature: must be a number, 0 to 2")
    typist.says("/set temp 0", "temp 0")
    typist.child.send('"""What\r')
    typist.sees("...")
    typist.says('now?"""', expected("json"), "[saved as chat 1]")
    typist.child.send("/edit\r")
    typist.prompt()
    typist.child.send("\x15\x7f\x15Please count.\r")
    typist.sees(expected("count"))
    typist.prompt()
    typist.says("/context", " of 4,096 tokens, ")
    note = tmp_path / "my note.txt"
    note.write_text("tell of a llama\n")
    typist.says(f'/file "{note}" And //this?', "[my note.txt, ~", "Bytes:", "tok/s")
    typist.says(f"/file {tmp_path}/my", "There is no file")
    typist.says(f'/image "{note}"', "/file attaches it.")
    typist.says("/copy", "\x1b]52;c;", "Copied")
    typist.says(f"/save {tmp_path}/chat.md", "Wrote")
    typist.says(f"/save {tmp_path}/chat.md", "exists already", "Choose another name.")
    typist.says("/think off", "has no thoughts")
    typist.says("/model", "(4k context, llama.cpp)", f"/load {THINKER}")
    typist.says("/new", "A new chat.")
    typist.says("//etc count", expected("count"), "[saved as chat 2]")
    typist.says("/chats zebra", "No chat has these words.")
    typist.says("/chats bytes", "What now?")
    typist.says("/open 7", "There is no chat 7.")
    typist.says("/open 1", "4 turns", ">>> And //this?")
    typist.leaves()
    chat = kept(1)
    assert said(chat)[:2] == ["Please count.", expected("count")]
    assert said(chat)[2] == "And //this?"
    assert [turn.text for turn in chat.children(None)] == ["What\nnow?", "Please count."]
    assert (chat.options.system, chat.options.sampling.temperature) == ("Say json.", 0.0)
    assert [file.name for file in chat.path()[2].attachments] == ["my note.txt"]
    assert "Please count." in (tmp_path / "chat.md").read_text()
    assert said(kept(2)) == ["/etc count", expected("count")]


def test_a_chat_of_the_dashboard_goes_on(core: CoreProcess) -> None:
    async def written() -> None:
        store = ChatStore(locate().chats)
        question = ChatTurn(role="user", text="Who?", at=1.0)
        answer = ChatTurn(role="assistant", text="Me.", parent=question.id, at=2.0)
        chat = Chat(options=ChatOptions(model=TINY, system="Say json."))
        await store.save(chat.with_turn(question).with_turn(answer))
        await store.close()

    asyncio.run(written())
    typist = Typist("--continue")
    typist.sees("Chat 1, 2 turns: Who?", ">>> Who?", "Me.", "Saved as chat 1.")
    typist.prompt().says("And now?", expected("json"))
    typist.child.send("\x12Wh")
    typist.sees("(reverse-i-search)`Wh'")
    typist.child.send("\r")  # takes what was found
    typist.says("", expected("json"))
    typist.leaves()
    assert said(kept(1))[2:] == ["And now?", expected("json"), "Who?", expected("json")]
    assert "There is no chat 7." in Typist("--open", "7").ended(3)


def test_a_private_chat_is_never_written(core: CoreProcess) -> None:
    typist = Typist(TINY, "--private")
    typist.sees("Private: nothing of this chat is written.")
    typist.prompt().says("zebra count", expected("count"))
    typist.child.send("/new\r")
    typist.sees("This chat is private: it is gone once you leave it. Leave it? [y/N]")
    typist.says("n")
    typist.says("/context", " tokens, ")
    typist.child.send("\x04")
    typist.sees("Leave it? [y/N]")
    typist.leaves()
    kept = [*contents(core.home)]
    assert kept
    assert not [data for data in kept if b"zebra" in data]


def test_a_thought_is_one_line_until_it_is_asked_for(core: CoreProcess) -> None:
    typist = Typist("tiny-think")
    typist.prompt().says("Please count.", "… thought for ", "tokens (/think show)", "One two")
    typist.says("/think show", "".join(THOUGHT))
    typist.says("/think off", "Thinking: off.")
    typist.says("/retry", expected("count"))
    typist.says("/think show", "The last answer came without a thought.")
    typist.child.send("/load tiny-GG\t")
    typist.sees("Q8_0")
    typist.says(" -c 1k", "(1k context, llama.cpp)")
    typist.child.send("/load tiny-GGUF:Q8_0 -c 512\r")
    typist.sees("tiny Q8_0 is loaded with 1k context. Reload it with 512? [y/N]")
    typist.says("y", "(512 context, llama.cpp)")
    assert "<think>" not in typist.leaves()
    chat = kept(1)
    assert chat.branch(chat.path()[1].id) == (2, 2)
    assert chat.options.model == TINY


@pytest.mark.parametrize(
    ("words", "code", "texts"),
    [
        ([ABSENT], 4, [f"{ABSENT} is not on this machine.", f"`modeldeck pull {ABSENT}`"]),
        (["nobody/nothing-GGUF:X"], 3, ["There is no model"]),
        (["deck/t"], 3, ["deck/t could be any of 2 models on this machine.", TINY]),
        ([], 2, ["2 models are on this machine: say which.", THINKER]),
        (["--open", "1", "--continue"], 2, ["exclude each other"]),
    ],
)
def test_what_stands_against_a_conversation_is_told(
    core: CoreProcess, words: list[str], code: int, texts: list[str]
) -> None:
    typist = Typist(*words)
    typist.sees(*texts)
    assert ">>>" not in typist.ended(code)


def test_a_model_that_is_too_large_is_told(core: CoreProcess) -> None:
    on_core(core, lambda client: client.change_settings(memory_budget_bytes=1 << 20))
    assert "modeldeck: " in Typist(TINY).ended(5)


def test_without_a_terminal_it_takes_one_prompt(core: CoreProcess) -> None:
    def piped(*words: str, given: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [PROGRAM, *words], input=given, capture_output=True, text=True, timeout=60, check=False
        )

    assert piped("chat", TINY, given="count").stdout.endswith(expected("count") + "\n")
    assert piped("chat", given="count").stdout == expected("count") + "\n", "the loaded one"
    for name in ("chat", "run"):
        empty = piped(name, TINY, given=" \n")
        assert (empty.returncode, empty.stdout) == (2, "")
        assert "No prompt on standard input." in empty.stderr
    assert not locate().chats.exists()


def test_run_without_a_prompt_is_a_conversation(core: CoreProcess) -> None:
    child = pexpect.spawn(
        PROGRAM, ["run", TINY, "--system", "Say json."], encoding="utf-8", timeout=60
    )
    child.expect(READY)
    child.send("What now?\r/quit\r")
    child.expect_exact(expected("json"))
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0


def test_a_core_that_dies_cuts_the_answer_and_comes_back(
    own_core: CoreProcess,
) -> None:
    on_core(own_core, fetched)
    with_room(own_core)
    typist = Typist(TINY).prompt()
    typist.child.send("loop\r")
    typist.sees("Tick tock")
    own_core.process.send_signal(signal.SIGKILL)
    typist.sees("[cut: the core stopped]", "The core is back; /retry asks again.")
    typist.prompt().interrupts("/retry", "Tick tock")
    subprocess.run([PROGRAM, "stop"], check=True, capture_output=True)
    typist.says("/new")
    typist.says("Please count.", "Starting the core again.", expected("count"))
    typist.leaves()
    subprocess.run([PROGRAM, "stop"], check=True, capture_output=True)
    chat = kept(1)
    assert [turn.ended for turn in chat.children(chat.turns[0].id)] == ["cut", "stopped"]
    assert chat.turns[1].text.startswith("Tick tock")


async def fetched(client: Client) -> Any:
    await client.download(TINY)
    return await client.feed.until(lambda s: any(m.downloaded for m in s.models.values()))
