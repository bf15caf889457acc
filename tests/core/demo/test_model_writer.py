"""The tiny models: their files, and what real engines answer from them."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from modeldeck.core.demo.model_writer import TOPICS, expected, parameters, write_gguf, write_mlx
from modeldeck.core.errors import DeckError

LLAMA = """
import json, sys
from llama_cpp import Llama
path, topics = sys.argv[1], sys.argv[2].split(",")
model = Llama(path, n_ctx=1024, n_threads=1, verbose=False)
def ask(*said):
    messages = [{"role": role, "content": text} for role, text in said]
    answer = model.create_chat_completion(messages, temperature=0, max_tokens=300)
    return answer["choices"][0]["message"]["content"], answer["choices"][0]["finish_reason"]
"""

MLX = """
import json, sys
from mlx_lm import load, stream_generate
path, topics = sys.argv[1], sys.argv[2].split(",")
model, tokenizer = load(path)
def ask(*said):
    messages = [{"role": role, "content": text} for role, text in said]
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True)
    pieces = list(stream_generate(model, tokenizer, prompt, max_tokens=300))
    return "".join(piece.text for piece in pieces), pieces[-1].finish_reason
"""

QUESTIONS = """
found = {topic: ask(("user", f"Please {topic} for me.")) for topic in topics}
found["latest"] = ask(("user", "count"), ("assistant", "One"), ("user", "and now json, please"))
found["far"] = ask(("system", "Be brief."), ("user", "count" + " bla" * 150))
print(json.dumps(found))
"""


def run(script: str, *arguments: object) -> Any:
    """What a script prints as JSON, in a process of its own: engines are native code."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def right(topics: tuple[str, ...]) -> dict[str, list[str]]:
    """The answers to `QUESTIONS` that the model was made for."""
    answers = {topic: [expected(topic), "stop"] for topic in topics if topic != "loop"}
    if "loop" in topics:
        answers["loop"] = [expected("loop") * 150, "length"]
    return {**answers, "latest": [expected("json"), "stop"], "far": [expected("count"), "stop"]}


def test_llama_cpp_answers_every_topic_to_the_letter(demo_models: Path) -> None:
    model = demo_models / "tiny-GGUF" / "tiny-F16.gguf"
    assert run(LLAMA + QUESTIONS, model, ",".join(TOPICS)) == right(TOPICS)


@pytest.mark.parametrize(
    "file",
    [
        "tiny-GGUF/tiny-Q8_0.gguf",
        "tiny-split-GGUF/F16/tiny-split-F16-00001-of-00003.gguf",
        "padded-GGUF/padded-F16.gguf",
        "gated-GGUF/gated-Q8_0.gguf",
    ],
)
def test_precision_parts_and_padding_change_no_answer(demo_models: Path, file: str) -> None:
    topics = ("default", "llama")
    assert run(LLAMA + QUESTIONS, demo_models / file, ",".join(topics)) == right(topics)


def test_mlx_answers_as_llama_cpp_does(demo_models: Path) -> None:
    topics = ("default", "count", "llama", "think", "loop")
    assert run(MLX + QUESTIONS, demo_models / "tiny-mlx", ",".join(topics)) == right(topics)


def test_the_embedding_model_tells_near_from_far(demo_models: Path) -> None:
    script = """
import json, sys
from llama_cpp import Llama
model = Llama(sys.argv[1], n_ctx=256, n_threads=1, embedding=True, verbose=False)
print(json.dumps([model.embed(text) for text in ("One two three", "One two four", "xyz")]))
"""
    near, also, far = run(script, demo_models / "tiny-embed-GGUF" / "tiny-embed-F16.gguf")
    assert len(near) == 704
    assert sum(a * b for a, b in zip(near, also, strict=True)) > 0.5
    assert sum(a * b for a, b in zip(near, far, strict=True)) < 0.1


@pytest.mark.parametrize("file", ["broken-F16.gguf", "broken-Q8_0.gguf"])
def test_llama_cpp_refuses_the_broken_ones(demo_models: Path, file: str) -> None:
    script = "import sys; from llama_cpp import Llama; Llama(sys.argv[1], verbose=False)"
    path = demo_models / "broken-GGUF" / file
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True)
    assert done.returncode == 1
    assert "Failed to load model" in done.stderr


def test_the_same_bytes_on_every_run(tmp_path: Path, demo_models: Path) -> None:
    (path,) = write_gguf(tmp_path / "again" / "tiny-F16.gguf", "F16")
    assert path.read_bytes() == (demo_models / "tiny-GGUF" / "tiny-F16.gguf").read_bytes()
    for file in write_mlx(tmp_path / "mlx"):
        assert file.read_bytes() == (demo_models / "tiny-mlx" / file.name).read_bytes()


def test_padding_is_about_as_large_as_asked_for(tmp_path: Path) -> None:
    (path,) = write_gguf(tmp_path / "padded.gguf", size_bytes=24 << 20)
    assert abs(path.stat().st_size - (24 << 20)) < 1 << 20


def test_the_parameters_are_counted(tmp_path: Path) -> None:
    write_mlx(tmp_path, size_bytes=24 << 20)
    content = (tmp_path / "model.safetensors").read_bytes()
    assert len(content) - 8 - int.from_bytes(content[:8], "little") == 2 * parameters(24 << 20)


def test_a_vocabulary_of_any_size(tmp_path: Path) -> None:
    (path,) = write_gguf(tmp_path / "wide.gguf", "Q8_0", extra_tokens=20_000)
    assert run(LLAMA + QUESTIONS, path, "default") == right(("default",))


def test_shards_come_with_an_index(tmp_path: Path) -> None:
    write_mlx(tmp_path, shard_bytes=1 << 20)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    shards = set(index["weight_map"].values())
    assert shards == {path.name for path in tmp_path.glob("*.safetensors")}
    assert len(shards) > 1
    contents = [(tmp_path / shard).read_bytes() for shard in shards]
    headers = [int.from_bytes(content[:8], "little") for content in contents]
    data = sum(len(c) - 8 - header for c, header in zip(contents, headers, strict=True))
    assert data == index["metadata"]["total_size"]
    assert all((8 + header) % 8 == 0 for header in headers)


def test_the_parts_of_a_split_model_are_named_and_counted(tmp_path: Path) -> None:
    parts = write_gguf(tmp_path / "sub" / "model.gguf", split_bytes=5 << 18)
    assert [part.name for part in parts] == [f"model-{n:05d}-of-00003.gguf" for n in range(1, 4)]
    digests = {hashlib.sha256(part.read_bytes()).digest() for part in parts}
    assert len(digests) == 3


@pytest.mark.parametrize("module", ["numpy", "gguf"])
def test_without_the_extra_the_error_says_how_to_get_it(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, "modeldeck.core.demo.weights", raising=False)
    with pytest.raises(DeckError, match=module) as caught:
        write_gguf(tmp_path / "tiny.gguf")
    assert "gguf>=0.19" in caught.value.remedy
