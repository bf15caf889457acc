"""Images and audio by the clients' own packages, against a real core and llama.cpp."""

from __future__ import annotations

import base64
import io
import json
import os
import tempfile
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anthropic
import httpx
import ollama
import openai
import pytest
from anthropic import AsyncAnthropic
from click.testing import CliRunner, Result
from ollama import AsyncClient as Ollama
from openai import AsyncOpenAI
from PIL import Image

from modeldeck.core.demo.hub import DemoHub
from modeldeck.core.demo.projector import QUESTION, picture
from modeldeck.core.demo.repository import DemoRepo, demo_repo
from modeldeck.core.demo.vocabulary import seen as expected
from modeldeck.tui.cli.main import main
from tests.support.files import FileServer
from tests.support.process import CoreProcess
from tests.support.projectors import write_seeing_model

EYES, EARS, BLIND = "deck/tiny-see-GGUF:F16", "deck/ears-GGUF:F16", "deck/tiny-GGUF:Q8_0"
ANSWER, TOKENS = expected("red", 3), 8
PATIENCE_S = 60


@dataclass(frozen=True)
class Stocked:
    """A core with models that see, that hear, and neither; and a web server with pictures."""

    url: str
    home: Path
    files: FileServer


RED = picture("red", 3)
B64 = base64.b64encode(RED).decode()
SHOWN = f"data:image/png;base64,{B64}"


@pytest.fixture(scope="module")
def stocked(
    demo_repositories: tuple[DemoRepo, ...], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stocked]:
    folder = tmp_path_factory.mktemp("eyes")
    ears = write_seeing_model(folder, "ultravox")
    red, note = folder / "red.png", folder / "note.txt"
    red.write_bytes(RED)
    note.write_text("no picture")
    repositories = (*demo_repositories, demo_repo("deck/ears-GGUF", ears.path.parent))
    with (
        tempfile.TemporaryDirectory(prefix="md-") as home,
        DemoHub.in_thread(repositories) as hub,
        FileServer.in_thread({"red.png": red, "note.txt": note}) as files,
        CoreProcess(
            {
                **os.environ,
                "MODELDECK_HOME": f"{home}/home",
                "HF_HOME": f"{home}/hf",
                "HF_ENDPOINT": hub.url,
                "MODELDECK_API_FETCH_IMAGES": "true",
                "MODELDECK_DOWNLOADS_TRUSTED_HOSTS": "127.0.0.1",
            }
        ) as core,
    ):
        with httpx.Client(base_url=f"{core.url}/api", timeout=PATIENCE_S) as http:
            for name in (EYES, EARS, BLIND):
                answer = http.post("/pull", json={"model": name, "stream": False})
                assert answer.json() == {"status": "success"}
        yield Stocked(core.url, core.home, files)


def seen(url: str, text: str = QUESTION) -> list[Any]:
    parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": text}]
    return [{"role": "user", "content": parts}]


async def by_chat(stocked: Stocked, *, stream: bool) -> Any:
    asked: dict[str, Any] = {"model": EYES, "messages": seen(SHOWN), "temperature": 0}
    async with AsyncOpenAI(base_url=f"{stocked.url}/v1", api_key="none") as client:
        if not stream:
            whole = await client.chat.completions.create(**asked, max_tokens=TOKENS)
            return whole.choices[0].message.content or ""
        pieces = await client.chat.completions.create(**asked, max_tokens=TOKENS, stream=True)
        return "".join([p.choices[0].delta.content or "" async for p in pieces if p.choices])


async def by_responses(stocked: Stocked, *, stream: bool) -> Any:
    parts = [
        {"type": "input_image", "image_url": SHOWN, "detail": "auto"},
        {"type": "input_text", "text": QUESTION},
    ]
    asked: dict[str, Any] = {
        "model": EYES,
        "input": [{"role": "user", "content": parts}],
        "temperature": 0,
        "max_output_tokens": TOKENS,
    }
    async with AsyncOpenAI(base_url=f"{stocked.url}/v1", api_key="none") as client:
        if not stream:
            return (await client.responses.create(**asked)).output_text
        events = await client.responses.create(**asked, stream=True)
        return "".join([e.delta async for e in events if e.type == "response.output_text.delta"])


async def by_messages(stocked: Stocked, *, stream: bool) -> Any:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": B64}}
    asked: dict[str, Any] = {
        "model": EYES,
        "messages": [{"role": "user", "content": [image, {"type": "text", "text": QUESTION}]}],
        "max_tokens": TOKENS,
        "extra_body": {"temperature": 0},
    }
    async with AsyncAnthropic(base_url=stocked.url, api_key="none") as client:
        if not stream:
            return "".join(b.text for b in (await client.messages.create(**asked)).content)
        async with client.messages.stream(**asked) as events:
            return await events.get_final_text()


async def by_ollama(stocked: Stocked, *, stream: bool) -> Any:
    asked: dict[str, Any] = {
        "model": EYES,
        "messages": [{"role": "user", "content": QUESTION, "images": [RED]}],
        "options": {"temperature": 0, "num_predict": TOKENS},
    }
    async with Ollama(host=stocked.url) as client:
        if not stream:
            return (await client.chat(**asked)).message.content or ""
        pieces = await client.chat(**asked, stream=True)
        return "".join([piece.message.content or "" async for piece in pieces])


async def by_generate(stocked: Stocked, *, stream: bool) -> Any:
    options = {"temperature": 0, "num_predict": TOKENS}
    asked: dict[str, Any] = {
        "model": EYES, "prompt": QUESTION, "images": [RED], "options": options,
    }  # fmt: skip
    async with Ollama(host=stocked.url) as client:
        if not stream:
            return (await client.generate(**asked)).response
        pieces = await client.generate(**asked, stream=True)
        return "".join([piece.response async for piece in pieces])


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("ask", [by_chat, by_responses, by_messages, by_ollama, by_generate])
async def test_every_client_sends_a_picture(stocked: Stocked, ask: Any, stream: bool) -> None:
    assert await ask(stocked, stream=stream) == ANSWER


async def test_errors_have_the_form_of_each_dialect_and_name_the_part(stocked: Stocked) -> None:
    """To a model that cannot see; each client raises what its caller expects."""
    chat = AsyncOpenAI(base_url=f"{stocked.url}/v1", api_key="none", max_retries=0)
    async with chat:
        with pytest.raises(openai.BadRequestError) as refused:
            await chat.chat.completions.create(model=BLIND, messages=seen(SHOWN), stream=True)
        assert refused.value.code == "image_not_supported"
        assert refused.value.param == "messages"
        assert f"Ask one that can: {EYES}" in refused.value.message
        parts: Any = [{"type": "input_image", "image_url": SHOWN, "detail": "auto"}]
        with pytest.raises(openai.BadRequestError, match=r"input\[0\]\.content\[0\]"):
            await chat.responses.create(model=BLIND, input=[{"role": "user", "content": parts}])
    async with AsyncAnthropic(base_url=stocked.url, api_key="none", max_retries=0) as claude:
        image: Any = {"type": "image", "source": {"type": "url", "url": "https://x.example/a"}}
        said: Any = [{"role": "user", "content": [image]}]
        with pytest.raises(anthropic.BadRequestError, match=r"messages\[0\]\.content\[0\]"):
            await claude.messages.create(model=BLIND, max_tokens=9, messages=said)
        with pytest.raises(anthropic.BadRequestError, match="cannot see images"):
            await claude.messages.count_tokens(model=BLIND, messages=said)
    said = [{"role": "user", "content": "x", "images": [RED]}]
    async with Ollama(host=stocked.url) as client:
        with pytest.raises(ollama.ResponseError, match=r"messages\[0\]\.images\[0\]") as told:
            await client.chat(BLIND, messages=said)
    assert told.value.status_code == 400


async def test_a_picture_in_a_tool_s_output_is_seen_or_noted(stocked: Stocked) -> None:
    call = {"type": "function_call", "call_id": "c", "name": "look", "arguments": "{}"}
    shown = [{"type": "input_image", "image_url": SHOWN, "detail": "auto"}]
    output = {"type": "function_call_output", "call_id": "c", "output": shown}
    asked: Any = [{"role": "user", "content": "Look."}, call, output]
    result = {"type": "tool_result", "tool_use_id": "t", "content": [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": B64}}
    ]}  # fmt: skip
    said: Any = [
        {"role": "user", "content": "Look."},
        {"role": "assistant", "content": [
            {"type": "tool_use", "id": "t", "name": "look", "input": {}}
        ]},
        {"role": "user", "content": [result]},
    ]  # fmt: skip
    counts = {}
    for model in (EYES, BLIND):
        async with AsyncOpenAI(base_url=f"{stocked.url}/v1", api_key="none") as chat:
            answer = await chat.responses.create(model=model, input=asked, max_output_tokens=9)
            assert answer.usage is not None
        async with AsyncAnthropic(base_url=stocked.url, api_key="none") as claude:
            message = await claude.messages.create(model=model, max_tokens=9, messages=said)
            counted = await claude.messages.count_tokens(model=model, messages=said)
        usage = message.usage
        assert counted.input_tokens == usage.input_tokens + (usage.cache_read_input_tokens or 0)
        counts[model] = answer.usage.input_tokens, counted.input_tokens
    assert all(seen_ != noted for seen_, noted in zip(counts[EYES], counts[BLIND], strict=True))


@pytest.mark.parametrize(
    ("image", "words"),
    [
        ("data:image/png;base64,AAA", "not in base64"),
        ("data:image/png;base64,bm8gcGljdHVyZQ==", "no file of an image"),
        ("file:///etc/passwd", "scheme 'file'"),
        ("{files}/note.txt", "no file of an image"),
        ("{files}/missing.png", "nothing at"),
        ("{files}/inside.png", "private network"),
        ("http://localhost:1/a.png", "private network"),
        ("https://10.0.0.1/a.png", "private network"),
        (SHOWN[:-40], "messages[0].content[0]"),  # cut off: the engine says so
    ],
)
async def test_what_is_no_picture_is_a_bad_request(
    stocked: Stocked, image: str, words: str
) -> None:
    stocked.files.redirects["inside.png"] = "http://10.0.0.1/a.png"
    url = image.replace("{files}", stocked.files.url("").rstrip("/"))
    async with AsyncOpenAI(base_url=f"{stocked.url}/v1", api_key="none") as chat:
        for stream in (False, True):
            with pytest.raises(openai.BadRequestError) as refused:
                await chat.chat.completions.create(
                    model=EYES, messages=seen(url), stream=stream, max_tokens=TOKENS
                )
            assert words in refused.value.message
            assert "messages[0].content[0]" in refused.value.message
        assert (await chat.models.retrieve(EYES)).id == EYES


async def test_a_picture_on_the_web_is_fetched(stocked: Stocked) -> None:
    stocked.files.redirects["moved.png"] = stocked.files.url("red.png")
    url = stocked.files.url("moved.png")
    async with AsyncOpenAI(base_url=f"{stocked.url}/v1", api_key="none") as chat:
        answer = await chat.chat.completions.create(
            model=EYES, messages=seen(url), temperature=0, max_tokens=TOKENS
        )
    assert answer.choices[0].message.content == ANSWER


async def test_every_list_says_which_model_sees(stocked: Stocked) -> None:
    async with AsyncAnthropic(base_url=stocked.url, api_key="none") as claude:
        listed = {m.id: m.capabilities async for m in claude.models.list()}
    for name in (EYES, EARS):
        found = listed[name]
        assert found is not None
        assert found.image_input.supported == (name == EYES)
    async with httpx.AsyncClient(base_url=stocked.url, timeout=PATIENCE_S) as http:

        async def told() -> list[bool]:
            models = (await http.get("/v1/models")).json()["data"]
            tags = (await http.get("/api/tags")).json()["models"]
            shown = (await http.post("/api/show", json={"model": EYES})).json()
            return [
                *("vision" in m["capabilities"] for m in models if m["id"] == EYES),
                *("vision" in m["capabilities"] for m in tags if EYES in m["name"]),
                "vision" in shown["capabilities"],
            ]

        assert await told() == [True, True, True]
        model = (await http.get(f"/deck/models/{EYES.replace('/', '%2F')}")).json()
        assert "vision" in model["capabilities"]
        assert "vision" in model["usage"]
        path = f"/deck/models/{model['id']}/load"
        await http.post("/deck/instances/unload")
        body = {"vision": False, "wait": True}
        assert (await http.post(path, json=body)).json()["media"] == []
        assert await told() == [False, False, False]
        asked = {"model": EYES, "messages": seen(SHOWN), "max_tokens": 1}
        refused = await http.post("/v1/chat/completions", json=asked)
        assert refused.status_code == 400
        assert "without its projector" in refused.json()["error"]["message"]
        await http.post("/deck/instances/unload")
        assert (await http.post(path, json={"vision": True, "wait": True})).json()["media"]


async def test_a_kept_answer_keeps_its_picture(stocked: Stocked) -> None:
    parts: Any = [{"type": "input_image", "image_url": SHOWN, "detail": "auto"}]
    async with AsyncOpenAI(base_url=f"{stocked.url}/v1", api_key="none") as chat:
        first = await chat.responses.create(
            model=EYES, input=[{"role": "user", "content": parts}], max_output_tokens=2
        )
        second = await chat.responses.create(
            model=EYES, input=QUESTION, previous_response_id=first.id, max_output_tokens=2
        )
        items = await chat.responses.input_items.list(first.id)
    assert first.usage is not None
    assert second.usage is not None
    assert second.usage.input_tokens > first.usage.input_tokens
    assert second.usage.input_tokens_details.cached_tokens >= first.usage.input_tokens - 4
    assert items.data[0].content[0].image_url == SHOWN


async def test_a_recording_is_heard_where_the_model_hears(stocked: Stocked) -> None:
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setparams((1, 2, 16000, 0, "NONE", ""))
        sound.writeframes(bytes(32000))
    sent = {"data": base64.b64encode(file.getvalue()).decode(), "format": "wav"}
    asked: Any = {"type": "input_audio", "input_audio": sent}
    async with AsyncOpenAI(base_url=f"{stocked.url}/v1", api_key="none", max_retries=0) as chat:
        counts = []
        for parts in ([asked], [asked, asked]):
            answer = await chat.chat.completions.create(
                model=EARS, messages=[{"role": "user", "content": parts}], max_tokens=2
            )
            assert answer.usage is not None
            counts.append(answer.usage.prompt_tokens)
        assert counts[1] > counts[0]
        said: Any = [{"role": "user", "content": [asked]}]
        other = await chat.responses.create(model=EARS, input=said, max_output_tokens=2)
        assert other.usage is not None
        assert other.usage.input_tokens == counts[0]
        with pytest.raises(openai.BadRequestError) as refused:
            await chat.chat.completions.create(model=EYES, messages=said)
        assert refused.value.code == "audio_not_supported"
        assert EARS in refused.value.message
        with pytest.raises(openai.BadRequestError, match="cannot see images"):
            await chat.chat.completions.create(model=EARS, messages=seen(SHOWN))


def test_the_command_line_sends_files(
    stocked: Stocked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELDECK_HOME", str(stocked.home))
    red, note = tmp_path / "red.png", tmp_path / "note.txt"
    red.write_bytes(RED)
    note.write_text("no picture")

    def run(*words: str, code: int = 0) -> Result:
        how = ("--temperature", "0", "--max-tokens", str(TOKENS), "--json")
        done = CliRunner().invoke(main, ["run", *words, *how, QUESTION])
        assert done.exit_code == code, (done.stdout, done.stderr, done.exception)
        return done

    one = json.loads(run(EYES, "--image", str(red)).stdout)
    assert one["text"] == ANSWER
    two = json.loads(run(EYES, "--image", str(red), "--image", str(red)).stdout)
    assert two["text"] == expected("red", 6)
    for words, said in (
        ((EYES, "--image", str(tmp_path / "none.png")), "There is no file"),
        ((EYES, "--image", str(note)), "is no file of an image"),
        ((EYES, "--audio", str(red)), "it is image/png"),
        ((BLIND, "--image", str(red)), "cannot see images"),
    ):
        assert said in run(*words, code=2).stderr
    for command in (["unload", "--all"], ["load", EYES, "--no-vision"]):
        assert CliRunner().invoke(main, command).exit_code == 0
    assert "without its projector" in run(EYES, "--image", str(red), code=2).stderr
    assert CliRunner().invoke(main, ["unload", "--all"]).exit_code == 0
    assert json.loads(run(EYES, "--vision", "--image", str(red)).stdout)["text"] == ANSWER


async def test_several_pictures_and_a_large_one_arrive_whole(stocked: Stocked) -> None:
    file = io.BytesIO()
    with Image.open(io.BytesIO(picture("red", 2))) as small:
        small.resize((2240, 2240), Image.Resampling.NEAREST).save(file, "BMP")
    assert 14 << 20 < len(file.getvalue()) < 16 << 20
    large = f"data:image/bmp;base64,{base64.b64encode(file.getvalue()).decode()}"
    parts: Any = [
        {"type": "image_url", "image_url": {"url": SHOWN}},
        {"type": "text", "text": "And here?"},
        {"type": "image_url", "image_url": {"url": large}},
        {"type": "text", "text": QUESTION},
    ]
    asked: Any = [{"role": "user", "content": parts}]
    async with AsyncOpenAI(base_url=f"{stocked.url}/v1", api_key="none") as chat:
        for begun in (0, 1):
            answer = await chat.chat.completions.create(model=EYES, messages=asked, temperature=0)
            assert answer.choices[0].message.content == expected("red", 5)
            usage = answer.usage
            assert usage is not None
            assert usage.prompt_tokens_details is not None
            cached = usage.prompt_tokens_details.cached_tokens or 0
            assert (cached >= usage.prompt_tokens - 1) == bool(begun)
