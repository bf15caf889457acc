"""Several requests in one llama.cpp context: their answers are those that each gets alone."""

from __future__ import annotations

import random
import string
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from modeldeck.core.demo.model_writer import expected, write_gguf
from modeldeck.core.errors import InvalidRequest
from modeldeck.core.runtime.engines.llama import prompt
from modeldeck.core.schema import GenerateRequest, LoadOptions, Message, TokenQuery, Tool
from tests.support import recorded
from tests.support.bench import about
from tests.support.engine_turns import EngineTurns, Told, alike

ARCHITECTURES = Path(__file__).parents[2] / "architectures.json"
CACHE_BYTES = 32 << 20
WEATHER = Tool(name="weather", parameters={"type": "object", "properties": {"city": {}}})


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("architectures")


def written(models: Path, architecture: str) -> Path:
    """A model of an architecture, with random weights."""
    path = models / f"{architecture}.gguf"
    if not path.exists():
        recorded.read(ARCHITECTURES)[architecture].recipe(architecture).write(path)
    return path


@pytest.fixture
def engines() -> Iterator[list[EngineTurns]]:
    """Engines to close after the test."""
    found: list[EngineTurns] = []
    yield found
    for engine in found:
        engine.close()


def plain(prompt: str, **more: Any) -> GenerateRequest:
    return GenerateRequest(prompt=prompt, **{"temperature": 0, "max_tokens": 24, **more})


class Words:
    """Prompts of random letters: a model with random weights answers each differently."""

    def __init__(self) -> None:
        self._random = random.Random(5)

    def __call__(self, count: int) -> str:
        return "".join(self._random.choices(string.ascii_lowercase + " ", k=count))


def all_alike(told: Sequence[Told], alone: Sequence[Told]) -> bool:
    """Whether answers are those that were given alone."""
    return all(map(alike, told, alone)) and len(told) == len(alone)


def texts(told: Sequence[Told]) -> list[str]:
    assert [one.error for one in told] == [None] * len(told)
    return [one.text for one in told]


@pytest.mark.parametrize(
    ("architecture", "row_s", "rows"),
    [
        ("llama", 0.001, 288),
        ("llama", 0.00001, 512),  # a fast machine: no answer would begin much sooner
        ("mamba", 0.001, 270),
    ],
)
def test_a_turn_in_which_a_prompt_ends_is_not_filled_with_the_beginning_of_another(
    models: Path, engines: list[EngineTurns], architecture: str, row_s: float, rows: int
) -> None:
    options = LoadOptions(parallel=2, context_length=1024, threads=1)
    engine = EngineTurns(written(models, architecture), options)
    engines.append(engine)
    words = Words()
    requests = []
    for text in (words(400), words(400)):
        long = (plain(text[:end]) for end in range(270, 400))
        requests.append(next(r for r in long if engine.count(TokenQuery(request=r)).count == 270))
    engine.turns._row_s = row_s
    begun = [engine.begin(request) for request in requests]
    engine.step()
    held = [slot.held for slot in engine.turns.memory.slots]
    assert sorted(held) == sorted([270, rows - 270])
    engine.run()
    assert all(engine.told[number].done for number in begun)


@pytest.mark.parametrize(
    "architecture",
    ["llama", "gemma3", "mamba", "jamba"],
    ids=["attention", "sliding window", "recurrent", "hybrid"],
)
def test_answers_at_once_are_those_alone_and_what_was_read_is_not_read_again(
    models: Path, engines: list[EngineTurns], architecture: str
) -> None:
    options = LoadOptions(parallel=4, context_length=1024, cache_tokens=2048, threads=1)
    engine = EngineTurns(written(models, architecture), options, cache_bytes=CACHE_BYTES)
    engines.append(engine)
    words = Words()
    base = words(150)
    prompts = [
        base[: 150 - 50 * (i % 2)] + words(size) for i, size in enumerate((20, 64, 150, 250))
    ]
    alone = engine.alone([plain(prompt) for prompt in prompts])
    assert len(set(texts(alone))) > 1
    engine.engine.reset()
    at_once = engine.together(plain(prompt) for prompt in prompts)
    assert all_alike(at_once, alone)
    assert sum(told.read for told in at_once) < sum(map(len, prompts)) - 100, "shared beginnings"

    # Each conversation goes on, after it was answered ...
    more = [prompt + text + words(20) for prompt, text in zip(prompts, texts(at_once), strict=True)]
    continued = engine.together(plain(prompt) for prompt in more)
    # ... after other conversations have taken the slots ...
    engine.together(plain(words(200)) for _ in prompts)
    again = engine.together(plain(prompt) for prompt in more)
    # ... and with another end of the prompt.
    edited = [prompt[:-4] + words(20) for prompt in more]
    changed = engine.together(plain(prompt) for prompt in edited)
    alone = engine.alone([plain(prompt) for prompt in more])
    for told in (continued, again):
        assert all_alike(told, alone)
        assert few(told)
    assert all_alike(changed, engine.alone([plain(prompt) for prompt in edited]))
    assert few(changed)


def few(told: Sequence[Told]) -> bool:
    """Whether few of the prompts' tokens were read: the end of each, and where an answer had bytes
    that are no text, that answer too."""
    total = sum(one.done.prompt_tokens or 0 for one in told if one.done)
    return sum(one.read for one in told) < 0.3 * total


def loaded(
    engines: list[EngineTurns], path: Path, *, cache_bytes: int = CACHE_BYTES, **more: Any
) -> EngineTurns:
    options = LoadOptions(**{"parallel": 4, "context_length": 1024, "threads": 1, **more})
    engine = EngineTurns(path, options, cache_bytes=cache_bytes, turn_s=0.0)
    engines.append(engine)
    return engine


def test_a_cancelled_request_harms_no_other(models: Path, engines: list[EngineTurns]) -> None:
    engine, words = loaded(engines, written(models, "llama")), Words()
    requests = [plain(words(size)) for size in (30, 40, 50, 300)]
    alone = engine.alone(requests)
    engine.engine.reset()
    numbers = [engine.begin(request) for request in requests]
    engine.run(lambda: len(engine.told[numbers[0]].text) > 5)
    writing, reading = engine.told[numbers[0]], engine.told[numbers[3]]
    assert reading.progress[-1].tokens < 300, "it still reads"
    engine.engine.cancel(numbers[0])
    engine.engine.cancel(numbers[3])
    engine.run()
    assert all_alike([engine.told[number] for number in numbers[1:3]], alone[1:3])
    assert not writing.over
    assert not reading.over
    again = engine.together(requests)
    assert all_alike(again, alone)
    assert again[3].read < 300, "what was read of it is used"


def test_a_paused_request_goes_on_as_if_nothing_had_been(
    models: Path, engines: list[EngineTurns]
) -> None:
    engine, words = loaded(engines, written(models, "llama")), Words()
    requests = [plain(words(size)) for size in (30, 40, 50, 60)]
    alone = engine.alone(requests)
    engine.engine.reset()
    numbers = [engine.begin(request) for request in requests]
    told = [engine.told[number] for number in numbers]
    engine.run(lambda: all(one.text for one in told))
    engine.engine.pause(numbers[1])
    held = told[1].text
    engine.run()
    assert not engine.engine.working
    assert told[1].text == held
    assert all_alike([told[0], *told[2:]], [alone[0], *alone[2:]])
    engine.engine.resume(numbers[1])
    engine.run()
    assert all_alike(told, alone)


@pytest.mark.parametrize("cache_bytes", [0, CACHE_BYTES], ids=["read again", "saved"])
def test_when_cells_run_out_the_youngest_wait_and_all_end(
    models: Path, engines: list[EngineTurns], cache_bytes: int
) -> None:
    path = written(models, "llama")
    engine = loaded(engines, path, cache_bytes=cache_bytes, context_length=512)
    words = Words()
    requests = [plain(words(80), max_tokens=220) for _ in range(4)]
    alone = engine.alone(requests)
    engine.engine.reset()
    numbers = [engine.begin(request) for request in requests]
    count = 0
    while engine.engine.working:
        engine.step()
        count += 1
        assert count < 2000, "they take each other's cells for ever"
    told = [engine.told[number] for number in numbers]
    assert all_alike(told, alone)
    assert told[0].waits == []
    assert told[3].waits
    assert all(one.done and one.done.completion_tokens == 220 for one in told)


def test_a_paused_request_gives_its_cells_to_those_that_go_on(
    models: Path, engines: list[EngineTurns]
) -> None:
    engine, words = loaded(engines, written(models, "llama"), context_length=512), Words()
    requests = [plain(words(80), max_tokens=300) for _ in range(2)]
    alone = engine.alone(requests)
    engine.engine.reset()
    numbers = [engine.begin(request) for request in requests]
    first, second = (engine.told[number] for number in numbers)
    while engine.turns.answers[0].length < 250:
        engine.step()
    engine.engine.pause(numbers[0])
    engine.run()
    assert all_alike([second], alone[1:])
    assert first.waits
    engine.engine.resume(numbers[0])
    engine.run()
    assert all_alike([first], alone[:1])


def test_an_answer_with_a_seed_is_the_same_beside_others(
    models: Path, engines: list[EngineTurns]
) -> None:
    engine, words = loaded(engines, written(models, "llama")), Words()
    drawn = [plain(words(40), temperature=1.5, seed=seed) for seed in (1, 2)]
    alone = engine.alone(drawn)
    engine.engine.reset()
    numbers = [engine.begin(one) for one in [plain(words(60)), *drawn, plain(words(50))]]
    told = [engine.told[number] for number in numbers]
    engine.step()
    why = ["an answer with a seed is written alone"]
    waits = [[], why, why, why]
    assert [one.waits for one in told] == waits, "those behind the first are told as well"
    engine.run()
    assert all_alike(told[1:3], alone)
    assert [one.waits for one in told] == waits, "once"


@pytest.mark.parametrize("oldest", [True, False], ids=["it came first", "it came last"])
def test_an_answer_with_a_seed_shares_no_turn_with_those_that_came_while_it_was_paused(
    models: Path, engines: list[EngineTurns], *, oldest: bool
) -> None:
    engine, words = loaded(engines, written(models, "llama")), Words()
    before = None if oldest else engine.begin(plain(words(30)))
    if before is not None:
        engine.run(lambda: bool(engine.told[before].text))
        engine.engine.pause(before)
    drawn = engine.begin(plain(words(40), temperature=1.5, seed=1))
    engine.run(lambda: bool(engine.told[drawn].text))
    engine.engine.pause(drawn)
    other = engine.begin(plain(words(50)))
    engine.run(lambda: bool(engine.told[other].text))
    if before is not None:
        engine.engine.resume(before)
    engine.engine.resume(drawn)
    turns = []
    while engine.engine.working:
        turns.append({report.id for report in engine.step()})
    assert all(told.done for told in engine.told.values())
    assert not any(drawn in turn and len(turn) > 1 for turn in turns)


def test_signs_of_tools_are_text_only_in_the_answer_that_has_tools(
    engines: list[EngineTurns], tmp_path: Path, demo_models: Path
) -> None:
    engine = loaded(engines, demo_models / "tiny-GGUF" / "tiny-F16.gguf")
    message = (Message(role="user", content="rain?"),)
    requests = [
        GenerateRequest(messages=message, temperature=0, tools=(WEATHER,)),
        GenerateRequest(messages=message, temperature=0),
        GenerateRequest(messages=message, temperature=0, tools=(WEATHER,), logprobs=1),
        about("count"),
    ]
    called, said, probable, counted = engine.together(requests)
    assert called.done is not None
    assert probable.done is not None
    assert [call.name for call in called.done.tool_calls] == ["weather"]
    assert [call.name for call in probable.done.tool_calls] == ["weather"]
    assert texts([called, said, counted]) == ["", expected("rain"), expected("count")]


def test_a_private_request_leaves_nothing(models: Path, engines: list[EngineTurns]) -> None:
    engine, words = loaded(engines, written(models, "llama")), Words()
    shared = words(100)
    open_, private = plain(shared + words(50)), plain(shared + words(60), cache=False)
    (first,) = engine.together([open_])
    (alone,) = engine.together([private])
    assert alone.read < 100, "it may use what others left"
    assert alone.done is not None
    (again,) = engine.together([plain(private.prompt or "")])
    assert again.text == alone.text
    assert again.read > 50
    beside = engine.together([private, plain((private.prompt or "") + words(40)), open_])
    assert beside[0].text == alone.text
    assert beside[2].text == first.text


def test_a_request_that_is_wholly_cached_is_answered(
    models: Path, engines: list[EngineTurns]
) -> None:
    for architecture in ("llama", "jamba"):
        engine, words = loaded(engines, written(models, architecture)), Words()
        request = plain(words(100))
        (first,) = engine.together([request])
        (again,) = engine.together([request])
        assert again.text == first.text
        assert again.done is not None
        assert again.done.cached_tokens
        assert again.progress[-1].tokens == again.done.prompt_tokens


@pytest.mark.parametrize("architecture", ["llama", "jamba"])
def test_the_prefix_cache_keeps_to_its_limit(
    models: Path, engines: list[EngineTurns], architecture: str
) -> None:
    limit = 2 << 20
    engine = loaded(engines, written(models, architecture), cache_bytes=limit)
    words, most = Words(), 0
    for _ in range(5):
        for told in engine.together(plain(words(250), max_tokens=4) for _ in range(4)):
            assert told.done is not None
            most = max(most, told.done.prefix_cache_bytes or 0)
    assert limit // 2 < most <= limit


@pytest.mark.parametrize("texts", [1, 3])
def test_idle_conversations_give_up_their_cells_also_where_the_prefix_cache_is_full(
    models: Path, engines: list[EngineTurns], texts: int
) -> None:
    engine = loaded(engines, written(models, "llama"), cache_bytes=4 << 20, context_length=2048)
    memory, words = engine.turns.memory, Words()
    asked = [plain(words(400), max_tokens=4) for _ in range(16 + texts)]
    engine.together(asked[:16])
    first = engine.together(asked[16:])
    assert memory.cache.bytes > 3 << 20, "it is full"
    sizes = {slot.number: memory.state_bytes(slot) for slot in memory.idle}
    engine.begin(plain(words(400)))
    engine.step()
    left = [sizes.pop(slot.number) for slot in memory.idle]
    assert bool(left) == (texts == 3), "what half of the cache has no room for keeps its cells"
    assert 0 < sum(sizes.values()) <= 2 << 20
    engine.run()
    again = engine.together(asked[16:])
    assert [told.text for told in again] == [told.text for told in first]
    assert all(told.done and told.done.cached_tokens for told in again), "nothing was lost by it"


def test_a_template_without_an_end_costs_its_request_only(
    engines: list[EngineTurns], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prompt, "TEMPLATE_S", 0.3)
    template = "{% for i in range(99999) %}" * 3 + "{% endfor %}" * 3
    (path,) = write_gguf(tmp_path / "loops.gguf", chat_template=template)
    engine = loaded(engines, path)
    requests = [plain("One"), plain("count")]
    alone = engine.alone(requests)
    numbers = [engine.begin(request) for request in requests]
    engine.step()
    with pytest.raises(InvalidRequest, match="chat template"):
        engine.engine.begin(99, about("count"))
    engine.run()
    assert all_alike([engine.told[number] for number in numbers], alone)


def test_a_draft_model_guesses_for_all_and_changes_no_answer(
    engines: list[EngineTurns], demo_models: Path
) -> None:
    path = demo_models / "tiny-GGUF" / "tiny-F16.gguf"
    draft = demo_models / "tiny-GGUF" / "tiny-Q8_0.gguf"
    topics = ("count", "long", "json", "llama")
    counts = []
    for guesser in (None, draft):
        options = LoadOptions(
            parallel=4,
            context_length=1024,
            threads=1,
            draft_model=str(draft) if guesser else None,
        )
        engine = EngineTurns(path, options, draft=guesser)
        engines.append(engine)
        numbers = [engine.begin(about(topic)) for topic in topics]
        count = 0
        while engine.engine.working:
            engine.step()
            count += 1
        told = [engine.told[number] for number in numbers]
        assert texts(told) == [expected(topic) for topic in topics]
        counts.append(count)
    assert counts[1] < counts[0] / 3


def test_a_loop_is_cut_unless_a_grammar_rules_the_answer(
    engines: list[EngineTurns], demo_models: Path
) -> None:
    options = LoadOptions(parallel=3, context_length=1536, cache_tokens=4096, threads=1)
    path = demo_models / "tiny-GGUF" / "tiny-F16.gguf"
    engine = EngineTurns(path, options, stop_loops=True)
    engines.append(engine)
    held = GenerateRequest(
        messages=about("loop").messages, temperature=0, grammar="root ::= [A-Za-z ,.;]*"
    )
    looped, ruled, long = engine.together([about("loop"), held, about("long")])
    counts = []
    for told in (looped, ruled):
        assert told.done is not None
        assert told.done.reason == "length"
        counts.append((told.done.looped, told.done.completion_tokens or 0))
    assert counts[0][0]
    assert counts[0][1] < 1024 + 128
    assert not counts[1][0]
    assert counts[1][1] > 1500
    assert looped.text == ruled.text[: len(looped.text)]
    assert texts([long]) == [expected("long")]


def test_one_request_more_than_there_are_slots_waits(
    models: Path, engines: list[EngineTurns]
) -> None:
    engine, words = loaded(engines, written(models, "llama"), parallel=1), Words()
    requests = [plain(words(30)), plain(words(40))]
    assert all_alike(engine.together(requests), engine.alone(requests))
