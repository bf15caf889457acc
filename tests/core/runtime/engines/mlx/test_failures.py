"""What goes wrong in an MLX folder costs its instance, and is told; its code never runs."""

import json
import os
import shutil
import struct
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from modeldeck.core.demo.model_writer import expected
from modeldeck.core.errors import EngineFailed, EngineMissing
from modeldeck.core.runtime.instance import load_watchdog
from modeldeck.core.runtime.platforms import is_apple_silicon, mlx_remedy, preferred_format
from modeldeck.core.runtime.process import engine_process
from modeldeck.core.runtime.process.messages import GenerateText, frame
from modeldeck.core.schema import Format, InstanceState, LoadOptions, Model
from modeldeck.core.storage.installation import Installation
from tests.support.before_load import run_before_load
from tests.support.bench import Bench, about, model
from tests.support.signals import suspend

WEIGHTS, CONFIG = "model.safetensors", "config.json"
TOKENIZER, TOKENIZER_CONFIG = "tokenizer.json", "tokenizer_config.json"

PIPX = Installation(installer="pipx", python="python")

Spoil = Callable[[Path], None]


def config(**changes: object) -> Spoil:
    return lambda folder: rewrite(folder / CONFIG, changes)


def tokenizer_config(**changes: object) -> Spoil:
    return lambda folder: rewrite(folder / TOKENIZER_CONFIG, changes)


def rewrite(path: Path, changes: dict[str, object]) -> None:
    document = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({k: v for k, v in document.items() if v is not None}))


def text(name: str, content: str) -> Spoil:
    return lambda folder: void((folder / name).write_text(content))


def void(_result: object) -> None:
    """Give nothing, whatever came."""


def without(name: str) -> Spoil:
    return lambda folder: (folder / name).unlink()


def header(change: Callable[[dict[str, Any]], object]) -> Spoil:
    """Weights whose header was changed, with the same data behind it."""

    def spoil(folder: Path) -> None:
        data = (folder / WEIGHTS).read_bytes()
        (length,) = struct.unpack("<Q", data[:8])
        table = json.loads(data[8 : 8 + length])
        change(table)
        head = json.dumps(table).encode()
        (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(head)) + head + data[8 + length :])

    return spoil


def cut(share: float) -> Spoil:
    def spoil(folder: Path) -> None:
        data = (folder / WEIGHTS).read_bytes()
        (folder / WEIGHTS).write_bytes(data[: int(len(data) * share)])

    return spoil


def turned(table: dict[str, Any]) -> None:
    """Another shape of the same size."""
    table["lm_head.weight"]["shape"].reverse()


KINDS: dict[str, tuple[Spoil, str]] = {
    "no folder": (shutil.rmtree, "no folder"),
    "no config": (without(CONFIG), r"config\.json cannot be read"),
    "config is HTML": (text(CONFIG, "<!doctype html>"), r"config\.json is not sound"),
    "no model type": (config(model_type=None), "model_type"),
    "strange model type": (config(model_type="../../etc"), "model_type"),
    "unknown architecture": (config(model_type="nobody_knows"), "not supported"),
    "a part of mlx-lm as architecture": (config(model_type="cache"), "Model"),
    "no weights": (without(WEIGHTS), "no model"),
    "no tokenizer": (without(TOKENIZER), "no tokenizer"),
    "tokenizer is HTML": (text(TOKENIZER, "<!doctype html>"), r"tokenizer\.json"),
    "tokenizer is none": (text(TOKENIZER, "{}"), "tokenizer|mlx-lm refused"),
    "weights cut off": (cut(0.5), "has .* bytes and should have"),
    "header cut off": (cut(0.0001), "cut off|claims"),
    "absurd length": (lambda f: void((f / WEIGHTS).write_bytes(b"\xff" * 64)), "claims"),
    "offsets beyond the file": (
        header(lambda t: t["lm_head.weight"].update(data_offsets=[0, 1 << 60])),
        "shape|gaps",
    ),
    "wrong shape": (header(turned), "shape"),
    "a tensor is missing": (header(lambda t: t.update(x=t.pop("lm_head.weight"))), "lm_head|x"),
    "absurd layers": (config(num_hidden_layers=10**6), "1000000 layers"),
    "no heads": (config(num_attention_heads=0, num_key_value_heads=0), "refused"),
    "other width": (config(hidden_size=512), "shape"),
    "absurd width": (config(hidden_size=1 << 40), "refused"),
    "absurd vocabulary": (config(vocab_size=1 << 30), "shape"),
    "a width in words": (config(hidden_size="wide"), "refused"),
}


def spoiled(mlx: Path, folder: Path, spoil: Spoil) -> Path:
    shutil.copytree(mlx, folder)
    spoil(folder)
    return folder


def mlx_model(path: Path) -> Model:
    return replace(model(path), format="mlx")


@pytest.fixture
def mlx(demo_models: Path) -> Path:
    return demo_models / "tiny-mlx"


@pytest.mark.parametrize("kind", KINDS)
async def test_a_bad_folder_fails_with_a_reason(
    bench: Bench, mlx: Path, tmp_path: Path, kind: str
) -> None:
    spoil, words = KINDS[kind]
    path = spoiled(mlx, tmp_path / "bad", spoil)
    failed = await bench.engines.load(mlx_model(path), LoadOptions())
    with pytest.raises(EngineFailed, match=words) as caught:
        await bench.engines.ready(failed.id)
    record = bench.engines.instances[failed.id]
    assert (record.state, record.pid) == (InstanceState.FAILED, None)
    assert caught.value.remedy
    assert len(caught.value.message) < 600
    await bench.engines.remove(failed.id)


async def test_another_instance_lives_on_beside_a_bad_one(
    bench: Bench, mlx: Path, tmp_path: Path
) -> None:
    good = await bench.loaded(mlx)
    path = spoiled(mlx, tmp_path / "bad", cut(0.5))
    failed = await bench.engines.load(mlx_model(path), LoadOptions())
    with pytest.raises(EngineFailed):
        await bench.engines.ready(failed.id)
    assert await bench.answer(good, "count") == expected("count")


@pytest.mark.parametrize("mib", [160, 330])
async def test_too_little_memory_costs_the_instance_and_is_told(
    bench: Bench, mlx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mib: int
) -> None:
    # Where it fails differs: libraries, their threads, the weights. mlx may even wait for ever for
    # a thread that it did not get.
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({mib << 20},) * 2)"
    with monkeypatch.context() as patch:
        run_before_load(tmp_path, patch, "mlx", limit)
        patch.setattr(load_watchdog, "STUCK_S", 1.0)
        patch.setattr(load_watchdog, "LOOK_S", 0.1)
        instance = await bench.engines.load(mlx_model(mlx), LoadOptions(context_length=512))
        with pytest.raises((EngineFailed, EngineMissing)) as caught:
            await bench.engines.ready(instance.id)
    assert caught.value.remedy
    record = bench.engines.instances[instance.id]
    assert (record.state, record.pid) == (InstanceState.FAILED, None)
    again = await bench.engines.load(mlx_model(mlx), LoadOptions(context_length=512))
    assert (await bench.engines.ready(again.id)).state is InstanceState.READY


CODE = {
    "model_file": config(model_file="run.py"),
    "auto_map": config(auto_map={"AutoModel": "run.Model", "AutoConfig": "run.Config"}),
    "nested": config(text_config={"auto_map": {"AutoTokenizer": ["run.Tokenizer", None]}}),
    "attention": config(_attn_implementation_internal="somebody/kernel"),
    "tokenizer": tokenizer_config(auto_map={"AutoTokenizer": ["run.Tokenizer", None]}),
}


@pytest.mark.parametrize("kind", CODE)
async def test_the_code_of_a_model_never_runs(
    bench: Bench, mlx: Path, tmp_path: Path, kind: str
) -> None:
    proof = tmp_path / "proof"
    path = spoiled(mlx, tmp_path / "bad", CODE[kind])
    (path / "run.py").write_text(
        f"open({str(proof)!r}, 'w')\nModel = Config = Tokenizer = object\n"
    )
    failed = await bench.engines.load(mlx_model(path), LoadOptions())
    with pytest.raises(EngineFailed, match="names Python code to run"):
        await bench.engines.ready(failed.id)
    assert not proof.exists()
    stages = {change.stage for change in bench.changes}
    assert "checking files" in stages
    assert "starting mlx-lm" not in stages, "it was refused before mlx-lm was imported"


@pytest.mark.parametrize(
    ("version", "words"),
    [("0.31.3", "CVE-2026-5843"), (None, "does not start: not here")],
)
async def test_an_engine_that_is_too_old_or_missing_says_how_to_get_it(
    bench: Bench,
    mlx: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    version: str | None,
    words: str,
) -> None:
    # Found first by the engine's process: another version of mlx-lm, or an mlx that is broken.
    if version:
        info = tmp_path / f"mlx_lm-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: mlx-lm\nVersion: {version}\n")
    else:
        (tmp_path / "mlx").mkdir()
        (tmp_path / "mlx" / "__init__.py").write_text("raise ImportError('not here')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    llama, found = await bench.engines.probe()
    assert llama.available
    assert (found.name, found.available, found.formats) == ("mlx", False, ("mlx",))
    assert words in (found.why_not or "")
    assert "pip install 'mlx-lm" in (found.why_not or "")
    instance = await bench.engines.load(mlx_model(mlx), LoadOptions())
    with pytest.raises(EngineMissing, match=words):
        await bench.engines.ready(instance.id)


async def test_the_probe_names_version_and_device(bench: Bench) -> None:
    from importlib.metadata import version

    _, mlx = await bench.engines.probe()
    assert (mlx.version, mlx.available, mlx.why_not) == (version("mlx-lm"), True, None)
    assert mlx.devices == ("CPU",)


@pytest.mark.parametrize(
    ("system", "machine", "engines", "format"),
    [
        ("darwin", "arm64", {"gguf", "mlx"}, "mlx"),
        ("darwin", "arm64", {"gguf"}, "gguf"),
        ("darwin", "arm64", set(), "gguf"),
        ("darwin", "x86_64", {"gguf", "mlx"}, "gguf"),
        ("linux", "aarch64", {"gguf", "mlx"}, "gguf"),
        ("linux", "x86_64", {"mlx"}, "mlx"),
    ],
)
def test_apple_silicon_prefers_mlx(
    system: str, machine: str, engines: set[Format], format: Format
) -> None:
    assert preferred_format(system, machine, engines) == format


@pytest.mark.parametrize(
    ("system", "machine", "words"),
    [
        ("darwin", "arm64", "inject modeldeck 'mlx-lm>"),
        ("linux", "x86_64", "inject modeldeck 'mlx-lm[cpu]>"),
        ("linux", "aarch64", "inject modeldeck 'mlx-lm[cpu]>"),
        ("darwin", "x86_64", "GGUF"),
        ("win32", "AMD64", "GGUF"),
    ],
)
def test_what_to_install_depends_on_the_machine(system: str, machine: str, words: str) -> None:
    assert words in mlx_remedy(system, machine, PIPX)
    assert is_apple_silicon(system, machine) == ((system, machine) == ("darwin", "arm64"))


# On macOS a process with memory wired for the GPU ends gently


async def test_nothing_that_wires_memory_is_killed_without_a_warning(
    bench: Bench, mlx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert engine_process.wires_memory("mlx", "darwin")
    assert not engine_process.wires_memory("mlx", "linux")
    assert not engine_process.wires_memory("llama.cpp", "darwin")
    monkeypatch.setattr(engine_process, "END_S", 0.05)
    monkeypatch.setattr(engine_process, "wires_memory", lambda *_: True)
    instance = await bench.loaded(mlx)
    assert instance.pid is not None
    suspend(instance.pid)
    assert (await bench.engines.unload(instance.id)).process_gone
    said = [text for _, level, text in bench.lines if level == "warning"]
    assert said[0] == "it does not end by itself: terminate"
    assert said[1].startswith("it does not end by itself: kill; memory of the GPU may stay taken")


PATIENT = """
    import os, sys, threading
    from modeldeck.core.runtime.child import Child, claim_stdout
    from modeldeck.core.runtime.engines.base import Flag
    from modeldeck.core.runtime.process.messages import EngineHello, TextPiece

    class Patient:
        cancel_limit_s = 30.0

        def __init__(self, flag):
            self.flag = flag
            self.numbers = set()

        @property
        def working(self):
            return bool(self.numbers)

        def hello(self):
            return EngineHello(protocol=1)

        def begin(self, number, request):
            self.numbers.add(number)

        def step(self):
            self.child.reports.send(TextPiece(id=1, text="working"))
            while not self.flag:
                threading.Event().wait(0.001)
            os.write(2, b"<6>ended gently\\n")
            return []

        def cancel(self, number):
            self.numbers.discard(number)

        def close(self):
            os.write(2, b"<6>closed\\n")

    output, flag = claim_stdout(), Flag()
    engine = Patient(flag)
    engine.child = Child(engine, flag, output)
    engine.child.run()
"""


def test_work_on_a_gpu_is_cancelled_and_waited_for_when_the_core_hangs_up() -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PATIENT)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(frame(GenerateText(id=1, request=about("count"))))
    child.stdin.flush()
    said = b""
    while b"working" not in said:
        data = os.read(child.stdout.fileno(), 4096)
        assert data, "it ended before it worked"
        said += data
    _, log = child.communicate(timeout=60)  # hangs up
    assert child.returncode == 0
    assert log.index(b"ended gently") < log.index(b"closed")
