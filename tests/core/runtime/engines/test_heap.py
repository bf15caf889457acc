"""Room in the heap: where the next large block begins."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, random, sys
import psutil
from modeldeck.core.runtime.engines.heap import aligned_room
c = ctypes.CDLL(None)
c.malloc.restype = ctypes.c_size_t
c.mallopt(-3, 32 << 20)  # holes of many MiB, as the C library makes them by and by
chance, size = random.Random(int(sys.argv[1])), int(sys.argv[2])
def blocks(count, most):
    return [c.malloc(ctypes.c_size_t(chance.randrange(16, most))) for _ in range(count)]
for block in blocks(300, 20_000):
    if chance.random() < 0.5:
        c.free(ctypes.c_size_t(block))
for hole in map(int, sys.argv[3:]):
    block = c.malloc(ctypes.c_size_t(hole))
    blocks(1, 20_000)
    c.free(ctypes.c_size_t(block))
before = psutil.Process().memory_info().rss
with aligned_room():
    grown = psutil.Process().memory_info().rss - before
    blocks(10, 16_000)
    first = c.malloc(ctypes.c_size_t(size))
    beside = blocks(10, 16_000)
    ctypes.memset(first, 1, size)
with aligned_room():
    c.free(ctypes.c_size_t(first))
    larger = c.malloc(ctypes.c_size_t(2 * size))
c.free(ctypes.c_size_t(larger))
left = psutil.Process().memory_info().rss - before
print(first % 64, larger % 64, grown, left)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc is told")
@pytest.mark.parametrize("size", [400_000, 1_572_928, 40 << 20])
@pytest.mark.parametrize("holes", [(), (2 << 20,), (600_000, 3 << 20, 30 << 20)])
@pytest.mark.parametrize("seed", range(4))
def test_a_large_block_begins_where_a_cache_line_does(
    seed: int, holes: tuple[int, ...], size: int
) -> None:
    command = [sys.executable, "-c", PROGRAM, *map(str, (seed, size, *holes))]
    told = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    first, larger, grown, left = map(int, told.split())
    assert (first, larger) == (0, 0), "the first, and a larger one instead of it"
    assert grown < 1 << 20, "nothing is written to the room"
    assert left < 1 << 20, "what is freed goes back"


MANY_HOLES = """
import ctypes
from modeldeck.core.runtime.engines import heap
c = ctypes.CDLL(None)
c.malloc.restype = ctypes.c_size_t
c.mallopt(-3, 32 << 20)
def blocks(count):
    return [c.malloc(ctypes.c_size_t(heap.SMALL_ROOM)) for _ in range(count)]
for block in blocks(20)[::2]:
    c.free(ctypes.c_size_t(block))
heap.HOLES = 2
with heap.aligned_room():
    inside = blocks(10)
print(len({*inside, *blocks(10)}))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc is told")
def test_no_block_is_freed_twice_where_there_are_more_holes_than_are_filled() -> None:
    command = [sys.executable, "-c", MANY_HOLES]
    told = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    assert int(told) == 20, "all blocks are different ones"
