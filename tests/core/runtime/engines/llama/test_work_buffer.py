"""The buffer that llama.cpp computes in is allocated when a model is loaded."""

from __future__ import annotations

import ctypes
import platform
import sys
from pathlib import Path

import pytest

from modeldeck.core.demo.model_writer import write_gguf
from modeldeck.core.runtime.engines.heap import LINE
from modeldeck.core.schema import GenerateRequest, LoadOptions
from tests.support.engine_turns import EngineTurns

SIZE = 60 << 20
WORK_BYTES = 1_572_928
"""What 512 rows of that model need (`ggml_graph_plan`): the feed-forward's rows in F16."""


def blocks_of(size: int) -> list[int]:
    """Addresses of the blocks of a size in use in the heap, and of what looks like one (malloc.c).

    The 8 bytes before a block are its size with these, and 1 where the block before is in use.
    """
    size = (size + 8 + 15) // 16 * 16
    maps = Path("/proc/self/maps").read_text().splitlines()
    found = []
    for heap in (line.split()[0] for line in maps if line.endswith("[heap]")):
        start, end = (int(address, 16) for address in heap.split("-"))
        words = ctypes.string_at(start, end - start)
        for head in (size | 1, size):
            pattern, at = head.to_bytes(8, sys.byteorder), -1
            while (at := words.find(pattern, at + 1)) >= 0:
                found += [start + at + 8] if at % 16 == 8 else []
    return found


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc is told")
def test_it_is_as_large_as_it_gets_and_begins_where_a_cache_line_does(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    write_gguf(path, size_bytes=SIZE)
    engine = EngineTurns(path, LoadOptions(context_length=2048, threads=1))
    try:
        assert engine.engine._log.worst() == (), "that it was given up is no error"
        before = blocks_of(WORK_BYTES)
        assert any(block % LINE == 0 for block in before)
        (told,) = engine.together([GenerateRequest(prompt="loop " * 600, max_tokens=2)])
        assert told.done is not None
        assert (told.done.prompt_tokens or 0) > 512
        assert blocks_of(WORK_BYTES) == before, "a full batch needs no other one"
    finally:
        engine.close()
