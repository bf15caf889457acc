"""Real mlx-lm, on mlx's CPU build, on the tiny model: loading, answering, unloading."""

import asyncio
import os
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from modeldeck.core.config.config import RuntimeSettings as Settings
from modeldeck.core.demo.model_writer import expected, write_mlx
from modeldeck.core.errors import Cancelled, EngineFailed, InvalidRequest
from modeldeck.core.formats.mlx_folder import read_folder
from modeldeck.core.runtime.process import engine_process
from modeldeck.core.schema import GenerateRequest, InstanceState, LoadOptions, Message
from tests.support.before_load import stand_still_before_load
from tests.support.bench import Bench, about, alive, model
from tests.support.engine_talk import EngineTalk

S = InstanceState


@pytest.fixture
def mlx(demo_models: Path) -> Path:
    return demo_models / "tiny-mlx"


async def test_a_model_in_several_files_answers_the_same(bench: Bench, tmp_path: Path) -> None:
    write_mlx(tmp_path / "split", shard_bytes=1 << 20)
    assert len(list((tmp_path / "split").glob("model-*.safetensors"))) > 1
    instance = await bench.loaded(tmp_path / "split")
    assert await bench.answer(instance, "count") == expected("count")


async def test_a_quantized_model_answers_the_same(bench: Bench, mlx: Path, tmp_path: Path) -> None:
    folder = tmp_path / "4bit"
    command = (sys.executable, "-m", "mlx_lm", "convert", "--hf-path", mlx, "--mlx-path", folder)
    environ = {**os.environ, "HF_HUB_OFFLINE": "1"}
    convert = partial(subprocess.run, check=True, capture_output=True, env=environ)
    await asyncio.to_thread(convert, (*command, "-q"))
    assert read_folder(folder).config.quantization_bits == 4
    instance = await bench.loaded(folder)
    assert await bench.answer(instance, "count") == expected("count")


@pytest.mark.parametrize(
    "options",
    [
        LoadOptions(kv_cache_type="q8_0", batch_size=16),
        LoadOptions(kv_cache_type="f16", context_length=300, threads=1, mmap=True),
    ],
)
async def test_load_options_change_how_not_what(
    bench: Bench, mlx: Path, options: LoadOptions
) -> None:
    instance = await bench.loaded(mlx, options)
    assert await bench.answer(instance, "Please count " + "bla " * 60) == expected("count")
    left_out = [text for _, level, text in bench.lines if level == "warning"]
    wanted = [name for name in ("threads", "mmap") if getattr(options, name) is not None]
    assert left_out == [f"mlx-lm has no option {name}: it is left out" for name in wanted]


async def test_what_mlx_counts_itself_is_told(bench: Bench, mlx: Path) -> None:
    instance = await bench.loaded(mlx)
    await bench.answer(instance, "count")
    record = bench.last(instance)
    # The weights at least, and more while it answered.
    weights = (mlx / "model.safetensors").stat().st_size
    assert instance.engine_bytes == pytest.approx(weights, rel=0.1)
    assert record.engine_bytes is not None
    assert record.engine_peak_bytes is not None
    assert weights * 0.9 < record.engine_bytes < record.engine_peak_bytes < weights * 10


@pytest.mark.parametrize("more", [{}, {"seed": 1, "temperature": 1.0}], ids=["batched", "alone"])
async def test_cancelling_is_heard_within_a_prompt(mlx: Path, more: dict[str, Any]) -> None:
    options = LoadOptions(batch_size=4, context_length=4096)
    async with EngineTalk.start("mlx", mlx, options) as talk:
        long = about("bla " * 1000)  # 1000 steps before a token
        (number,) = talk.ask(replace(long, **more))
        await talk.until(lambda: len(talk.read(number)) > 2)
        talk.cancel(number)
        await talk.end_of(number)
        assert talk.failed(number).error.code == Cancelled.code
        assert not talk.text(number), "no token came"
        assert await talk.says(about("count")) == [expected("count")]


@pytest.mark.parametrize("settings", [Settings(unload_grace_s=0)])
async def test_unloading_cancels_an_answer_and_ends_with_a_receipt(bench: Bench, mlx: Path) -> None:
    await bench.loaded(mlx)  # it maps the same libraries, which count as freed nevertheless
    instance = await bench.loaded(mlx)
    assert (instance.context_length, instance.progress) == (4096, 1.0)
    stages = {change.stage: change.progress for change in bench.changes}
    assert {"checking files", "starting mlx-lm", "reading tokenizer"} <= stages.keys()
    assert stages["reading weights"] == 1.0
    running = asyncio.create_task(bench.ask(instance, about("loop")))
    await bench.until(instance, lambda i: i.state is S.BUSY)
    await bench.engines.sample()
    assert bench.last(instance).measured_bytes
    receipt = await bench.engines.unload(instance.id)
    assert (await running)[-1].finish_reason == "cancelled"
    assert receipt.process_gone
    assert receipt.before_bytes
    assert (receipt.after_bytes, receipt.freed_bytes) == (0, receipt.before_bytes)
    assert instance.pid is not None
    assert not alive(instance.pid)


async def test_a_load_is_called_off_at_once(bench: Bench, mlx: Path) -> None:
    instance = await bench.engines.load(model(mlx), LoadOptions())
    await bench.until(
        instance, lambda _: any(change.stage == "starting mlx-lm" for change in bench.changes)
    )  # it may be further by the time that this is seen
    pid = bench.last(instance).pid
    receipt = await bench.engines.unload(instance.id)
    assert receipt.process_gone
    assert pid is not None
    assert not alive(pid)
    assert bench.engines.instances == {}


async def test_what_mlx_lm_cannot_do_is_refused_in_words(bench: Bench, mlx: Path) -> None:
    for options, words in (
        (LoadOptions(embedding=True), "no embeddings"),
        (LoadOptions(kv_cache_type="q5_1"), "q8_0 or q4_0"),
    ):
        failed = await bench.engines.load(model(mlx), options)
        with pytest.raises((EngineFailed, InvalidRequest), match=words):
            await bench.engines.ready(failed.id)
    instance = await bench.loaded(mlx)
    with pytest.raises(InvalidRequest, match=r"no embeddings.*GGUF"):
        await bench.engines.embed(instance.id, ["x"])
    assert await bench.answer(instance, "count") == expected("count")


async def test_a_model_without_a_template_is_asked_in_chatml_and_that_is_logged(
    bench: Bench, tmp_path: Path
) -> None:
    write_mlx(tmp_path / "bare", chat_template=None)
    instance = await bench.loaded(tmp_path / "bare")
    assert (await bench.ask(instance, about("count")))[-1].finish_reason in ("stop", "length")
    source = f"engine:{instance.id}"
    assert (source, "warning", "the model brings no chat template; using ChatML") in bench.lines


async def test_a_template_that_refuses_is_told(bench: Bench, tmp_path: Path) -> None:
    template = "{{ raise_exception('only one message') if messages|length > 1 else 'x' }}"
    write_mlx(tmp_path / "strict", chat_template=template)
    instance = await bench.loaded(tmp_path / "strict")
    turns = (Message(role="user", content="a"), Message(role="user", content="b"))
    with pytest.raises(InvalidRequest, match="only one message"):
        await bench.ask(instance, GenerateRequest(messages=turns))
    assert await bench.ask(instance, GenerateRequest(prompt="One", temperature=0, max_tokens=1))


async def test_a_template_cannot_reach_out_of_its_sandbox(bench: Bench, tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    escape = "''.__class__.__mro__[1].__subclasses__()"
    write_mlx(
        tmp_path / "evil",
        chat_template="{{ cycler.__init__.__globals__.os.system('touch " + str(proof) + "') }}"
        "{{ " + escape + " }}",
    )
    instance = await bench.loaded(tmp_path / "evil")
    with pytest.raises(InvalidRequest, match="template"):
        await bench.answer(instance, "a")
    assert not proof.exists()


@pytest.mark.parametrize("settings", [Settings(load_stall_s=0.2)])
async def test_a_load_without_progress_is_given_up(
    bench: Bench, mlx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_still_before_load(tmp_path, monkeypatch, "mlx")
    monkeypatch.setattr(engine_process, "END_S", 0.05)
    instance = await bench.engines.load(model(mlx), LoadOptions())
    held = await bench.until(instance, lambda i: i.pid is not None)
    assert held.pid is not None
    with pytest.raises(EngineFailed, match="no progress"):
        await bench.engines.ready(instance.id)
    assert not alive(held.pid)
