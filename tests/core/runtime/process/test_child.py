"""The engine process with many requests in work, over its pipes."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from modeldeck.core.demo.model_writer import expected, write_gguf
from modeldeck.core.runtime.process import engine_process
from modeldeck.core.runtime.process.attachments import outgoing
from modeldeck.core.runtime.process.engine_process import EngineProcess
from modeldeck.core.runtime.process.frames import FrameDecoder
from modeldeck.core.runtime.process.messages import (
    Alive,
    AnswerDone,
    AnyReport,
    CancelCommand,
    CommandFailed,
    EmbedTexts,
    EngineCommand,
    EngineHello,
    GenerateText,
    LoadModel,
    ModelLoaded,
    PauseRequest,
    ResumeRequest,
    TextPiece,
    TextsEmbedded,
    TokenizeText,
    TokensRead,
    frame,
    report,
)
from modeldeck.core.schema import GenerateRequest, LoadOptions, TokenQuery
from tests.support.bench import PATIENCE_S, about

PARALLEL = 4
CONTEXT = 16384
"""So long that an answer without an end fills the pipe, and waits for its reader, before its own
end: it is in work as long as a test wants it to be."""
GROWTH_BYTES = 12 << 20
"""What a process may grow over some hundred requests, once it has answered some."""


@dataclass(eq=False)
class ChildClient:
    """Sends commands to an engine process, and keeps its reports by command."""

    process: EngineProcess
    reports: dict[int, list[AnyReport]] = field(default_factory=dict)
    last: int = 0

    def send(self, request: GenerateRequest) -> int:
        number = self.number()
        self.process.send(GenerateText(id=number, request=request))
        return number

    def number(self) -> int:
        """The number of a new command."""
        self.last += 1
        self.reports[self.last] = []
        return self.last

    def send_together(self, *commands: EngineCommand) -> None:
        """Send commands in one piece: the process never has one of them for long alone."""
        pieces = [bytes(piece) for command in commands for piece in outgoing(command)]
        self.process._pipes.write([b"".join(pieces)])

    async def receive(self) -> AnyReport:
        async with asyncio.timeout(PATIENCE_S):
            found = await self.process.receive()
        assert not self.over(found.id), "a command that is over has no further reports"
        self.reports[found.id].append(found)
        return found

    def over(self, number: int) -> bool:
        found = self.reports[number]
        return bool(found) and isinstance(found[-1], AnswerDone | CommandFailed | ModelLoaded)

    async def until_over(self, *numbers: int) -> None:
        while not all(self.over(number) for number in numbers):
            await self.receive()

    def text(self, number: int) -> str:
        return "".join(found.text for found in self.reports[number] if isinstance(found, TextPiece))

    def failure(self, number: int) -> str:
        found = self.reports[number][-1]
        return found.error.message if isinstance(found, CommandFailed) else ""

    async def load(
        self, path: Path, cache_bytes: int = 0, folder: Path | None = None
    ) -> ModelLoaded:
        number = self.number()
        options = LoadOptions(context_length=CONTEXT, parallel=PARALLEL, threads=1)
        command = LoadModel(
            id=number,
            path=str(path),
            options=options,
            default_context=CONTEXT,
            prefix_cache_bytes=cache_bytes,
            prefix_cache_folder=str(folder) if folder else None,
            prefix_cache_disk_bytes=1 << 26 if folder else 0,
        )
        self.process.send(command)
        await self.until_over(number)
        found = self.reports[number][-1]
        assert isinstance(found, ModelLoaded), found
        return found


@pytest_asyncio.fixture
async def client() -> AsyncIterator[ChildClient]:
    process = await EngineProcess.start("llama.cpp", lambda *_: None)
    yield ChildClient(process)
    await process.end()


async def test_tokens_are_told_while_an_answer_is_in_work(client: ChildClient, tiny: Path) -> None:
    await client.load(tiny)
    endless = client.send(about("loop"))
    while not client.text(endless):
        await client.receive()
    counting = client.number()
    client.process.send(TokenizeText(id=counting, query=TokenQuery(request=about("count"))))
    while not client.reports[counting]:
        await client.receive()
    (told,) = client.reports[counting]
    assert isinstance(told, TokensRead)
    assert "count" in told.found.text
    assert not client.over(endless)
    client.process.send(CancelCommand(id=endless))
    await client.until_over(endless)


async def test_a_cancellation_ends_one_request_and_no_other(
    client: ChildClient, tiny: Path
) -> None:
    assert (await client.load(tiny)).parallel == PARALLEL
    first, second = client.send(about("loop")), client.send(about("loop"))
    while not (client.text(first) and client.text(second)):
        await client.receive()
    others = [client.send(about(topic)) for topic in ("long", "count")]
    client.process.send(CancelCommand(id=first))
    await client.until_over(first, *others)
    assert client.failure(first) == "The request was cancelled."
    assert [client.text(number) for number in others] == [expected("long"), expected("count")]
    assert not client.over(second)
    client.process.send(CancelCommand(id=second))
    await client.until_over(second)
    again = client.send(about("json"))
    await client.until_over(again)
    assert client.text(again) == expected("json")


async def test_a_request_that_is_cancelled_before_it_begins_never_does(
    client: ChildClient, tiny: Path
) -> None:
    await client.load(tiny)
    numbers = [client.send(about("count")) for _ in range(2)]
    client.process.send(CancelCommand(id=numbers[1] + 1))
    late = client.send(about("count"))
    assert late == numbers[1] + 1
    await client.until_over(*numbers, late)
    assert client.failure(late) == "The request was cancelled before it began."
    assert [client.text(number) for number in numbers] == [expected("count")] * 2


async def test_a_pause_holds_a_request_back_until_it_is_resumed(
    client: ChildClient, tiny: Path
) -> None:
    await client.load(tiny)
    number, other = client.number(), client.number()
    client.send_together(
        GenerateText(id=number, request=about("long")),
        PauseRequest(id=number),
        GenerateText(id=other, request=about("count")),
    )
    await client.until_over(other)
    assert not client.over(number)
    held = client.text(number)
    client.process.send(ResumeRequest(id=number))
    await client.until_over(number)
    assert client.text(number) == expected("long")
    assert len(held) < len(expected("long"))


async def test_a_cancellation_is_heard_while_a_template_runs_beside_an_answer(
    client: ChildClient, tmp_path: Path
) -> None:
    template = "{% for i in range(99999) %}" * 3 + "{% endfor %}" * 3
    (path,) = write_gguf(tmp_path / "loops.gguf", chat_template=template)
    await client.load(path)
    plain = GenerateRequest(prompt="Please long", temperature=0, max_tokens=300)
    number = client.send(plain)
    while not client.text(number):
        await client.receive()
    endless = client.number()
    client.send_together(
        GenerateText(id=endless, request=about("count")), CancelCommand(id=endless)
    )
    await client.until_over(endless, number)
    assert "cancelled" in client.failure(endless)
    again = client.send(plain)
    await client.until_over(again)
    assert client.text(again) == client.text(number) != ""


async def test_a_request_for_vectors_is_refused_by_a_model_for_text_and_others_go_on(
    client: ChildClient, tiny: Path
) -> None:
    await client.load(tiny)
    number, embed, later = (client.number() for _ in range(3))
    client.send_together(
        GenerateText(id=number, request=about("long")),
        EmbedTexts(id=embed, texts=("x",)),
        GenerateText(id=later, request=about("count")),
    )
    await client.until_over(embed)
    assert not client.over(number), "a request that is refused waits for nothing"
    assert "loaded for text" in client.failure(embed)
    await client.until_over(number, later)
    assert client.text(number) == expected("long")
    assert client.text(later) == expected("count")
    assert not any(isinstance(found, TextsEmbedded) for found in client.reports[embed])


async def test_hundreds_of_requests_with_cancellations_leave_nothing(
    client: ChildClient, tiny: Path
) -> None:
    await client.load(tiny, cache_bytes=1 << 20)
    draw = random.Random(7)
    memory = psutil.Process(client.process.pid)
    running: dict[int, str] = {}
    begun, before, right = 0, 0, 0
    while begun < 200 or running:
        if begun < 200 and len(running) < PARALLEL:
            topic = draw.choice(("count", "json", "llama", "default", "loop"))
            prompt = f"Please {topic}" if topic != "default" else "What are you? "
            request = about(prompt + " bla" * draw.choice((0, 5, 60)))
            running[client.send(request)] = topic
            begun += 1
            before = memory.memory_info().rss if begun == 60 else before
        found = await client.receive()
        number = found.id
        if client.over(number):
            topic = running.pop(number)
            if isinstance(found, AnswerDone) and topic != "loop":
                assert client.text(number) == expected(topic)
                right += 1
            del client.reports[number][:-1]
        elif running[number] == "loop" or draw.random() < 0.01:
            client.process.send(CancelCommand(id=number))
            while not client.over(number):
                later = await client.receive()
                if client.over(later.id) and later.id != number:
                    running.pop(later.id)
            running.pop(number)
    assert right > 60
    assert memory.memory_info().rss - before < GROWTH_BYTES


async def test_conversations_are_saved_when_the_core_hangs_up(
    client: ChildClient, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_process, "END_S", PATIENCE_S)  # it is not ended while it saves
    folder = tmp_path / "kept"
    await client.load(tiny, cache_bytes=1 << 20, folder=folder)
    number = client.send(about("count " + "bla " * 60))
    await client.until_over(number)
    running = client.send(about("loop"))
    while len(client.text(running)) < 400:  # enough to be worth saving
        await client.receive()
    await client.process.end()
    assert [path.suffix for path in folder.iterdir()] == [".prefix"] * 2
    again = ChildClient(await EngineProcess.start("llama.cpp", lambda *_: None))
    await again.load(tiny, cache_bytes=1 << 20, folder=folder)
    number = again.send(about("count " + "bla " * 60))
    await again.until_over(number)
    await again.process.end()
    done = again.reports[number][-1]
    assert isinstance(done, AnswerDone)
    assert (done.cached_tokens or 0) > 50
    assert again.text(number) == expected("count")


FAILING = """
    from modeldeck.core.errors import InvalidRequest
    from modeldeck.core.runtime.child import Child, claim_stdout
    from modeldeck.core.runtime.engines.base import Flag
    from modeldeck.core.runtime.process.messages import AnswerDone, EngineHello, TextPiece

    class Failing:
        cancel_limit_s = 0.0

        def __init__(self):
            self.requests = {}

        working = property(lambda self: bool(self.requests))

        def hello(self):
            return EngineHello(protocol=1)

        def begin(self, number, request):
            if request.prompt == "refused":
                raise InvalidRequest("No.")
            self.requests[number] = request.prompt

        def cancel(self, number):
            del self.requests[number]

        def reset(self):
            self.requests.clear()

        def step(self):
            words = set(self.requests.values())
            if "bug" in words:
                raise ZeroDivisionError("a bug")
            if "error" in words:
                raise InvalidRequest("It does not work.")
            if len(words) < 2:
                return []
            done = [AnswerDone(id=number, reason="stop") for number in self.requests]
            self.requests.clear()
            return done

    Child(Failing(), Flag(), claim_stdout()).run()
"""


def test_what_a_turn_raises_fails_all_that_is_in_work_and_the_process_goes_on() -> None:
    prompts = ("refused", "a", "bug", "b", "error", "c", "d")
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(FAILING)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    told: dict[int, AnyReport] = {}
    decoder = FrameDecoder()
    for number, prompt in enumerate(prompts, 1):
        child.stdin.write(frame(GenerateText(id=number, request=GenerateRequest(prompt=prompt))))
        child.stdin.flush()
        wanted = number if prompt in ("refused", "bug", "error", "d") else 0
        while wanted not in told and wanted:
            for payload in decoder.feed(child.stdout.read1(1 << 16)):  # type: ignore[attr-defined]  # it is buffered
                found = report(payload)
                if not isinstance(found, Alive | EngineHello):
                    told[found.id] = found
    _, log = child.communicate()
    assert child.returncode == 0
    failures = {
        number: found.error.message
        for number, found in told.items()
        if isinstance(found, CommandFailed)
    }
    bug = "The engine failed: ZeroDivisionError: a bug"
    assert failures == {
        1: "No.",
        2: bug,
        3: bug,
        4: "It does not work.",
        5: "It does not work.",
    }
    assert isinstance(told[6], AnswerDone)
    assert isinstance(told[7], AnswerDone)
    assert log.count(b"Traceback") == 1


COUNTING = """
    import time

    from modeldeck.core.runtime.child import Child, claim_stdout
    from modeldeck.core.runtime.engines.base import Flag
    from modeldeck.core.runtime.process.messages import EngineHello, TextPiece, TokensRead
    from modeldeck.core.schema import TokenizedText

    class Counting:
        cancel_limit_s = 0.0
        working = False

        def hello(self):
            return EngineHello(protocol=1)

        def begin(self, number, request):
            self.working = True

        def tokenize(self, number, query):
            time.sleep(0.02)  # meanwhile the other thread reads further commands
            return TokensRead(found=TokenizedText(count=1))

        def step(self):
            return [TextPiece(id=1, text="a")]

    Child(Counting(), Flag(), claim_stdout()).run()
"""


def test_answers_go_on_however_many_texts_are_counted() -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(COUNTING)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    counts = [TokenizeText(id=number, query=TokenQuery(text="a")) for number in range(2, 12)]
    request = GenerateText(id=1, request=GenerateRequest(prompt="a"))
    child.stdin.write(b"".join(map(frame, (request, *counts))))
    child.stdin.flush()
    told: list[int] = []
    decoder = FrameDecoder()
    while told.count(1) == len(told) or told[-1] != 11:
        for payload in decoder.feed(child.stdout.read1(1 << 16)):  # type: ignore[attr-defined]  # it is buffered
            found = report(payload)
            if isinstance(found, TextPiece | TokensRead) and 11 not in told:
                told.append(found.id)
    child.communicate()
    at = [told.index(number) for number in range(2, 12)]
    assert at == sorted(at)
    assert all(1 in told[a:b] for a, b in pairwise(at))
