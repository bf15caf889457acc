"""The buffer that llama.cpp computes in is allocated when a model is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from modeldeck.core.demo.model_writer import write_gguf
from modeldeck.core.runtime.engines.heap import heap_bytes
from modeldeck.core.runtime.engines.llama import work_buffer
from modeldeck.core.schema import GenerateRequest, LoadOptions
from tests.support.engine_turns import EngineTurns

SIZE = 60 << 20
WORK_BYTES = 1_572_928
"""What 512 rows of that model need (ggml_graph_plan: a row of the feed-forward in F16 each)."""


def grown(path: Path) -> int:
    """Bytes that a full batch adds to those in use, after a short request."""
    engine = EngineTurns(path, LoadOptions(context_length=2048, threads=1))
    try:
        assert engine.engine._log.worst() == (), "that it was given up is no error"
        assert not any(slot.held for slot in engine.turns.memory.slots)
        engine.together([GenerateRequest(prompt="loop", max_tokens=2)])
        before = heap_bytes()
        (told,) = engine.together([GenerateRequest(prompt="loop " * 600, max_tokens=2)])
        assert told.done is not None
        assert (told.done.prompt_tokens or 0) > 512
        return (heap_bytes() or 0) - (before or 0)
    finally:
        engine.close()


def test_no_evaluation_needs_a_larger_buffer_than_the_load_has_allocated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.gguf"
    write_gguf(path, size_bytes=SIZE)
    assert grown(path) < WORK_BYTES // 2
    monkeypatch.setattr(work_buffer, "allocate_work_buffer", lambda *_, **__: None)
    assert grown(path) > WORK_BYTES // 2, "without that one is allocated with the first full batch"
