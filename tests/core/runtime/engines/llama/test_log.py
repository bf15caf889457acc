import pytest

from modeldeck.core.runtime.engines.base import Flag, Level
from modeldeck.core.runtime.engines.llama.log import EngineLog, buffers, reason, remedy_for

LOADED: list[tuple[Level, str]] = [
    ("debug", "load_tensors:   CPU_Mapped model buffer size =     2.92 MiB"),
    ("debug", "llama_context:        CPU  output buffer size =     0.50 MiB"),
    ("debug", "llama_kv_cache:        CPU KV buffer size =     2.00 MiB"),
    ("debug", "llama_kv_cache: size =    2.00 MiB (  4096 cells,   2 layers), K (f16): 1.00 MiB"),
    ("debug", "llama_kv_cache_iswa: size =    1.00 MiB (  512 cells,   2 layers)"),
    ("debug", "sched_reserve:        CPU compute buffer size =     8.25 MiB"),
    ("debug", "sched_reserve:      CUDA0 compute buffer size =     1.75 MiB"),
    ("debug", "load_tensors:        CUDA0 model buffer size =     4.00 MiB"),
    ("debug", "llama_kv_cache:    Vulkan1 KV buffer size =     0.25 MiB"),
    ("debug", "sched_reserve:  CUDA_Host compute buffer size =     0.00 MiB"),
    ("debug", "load_tensors: Metal_Mapped model buffer size =     9.00 MiB"),
]


def test_sizes_are_summed_over_caches_and_devices() -> None:
    found = buffers(LOADED)
    assert found.cells == ((4096, 2), (512, 2))
    assert (found.kv_bytes, found.compute_bytes, found.output_bytes) == (
        3 << 20,
        10 << 20,
        1 << 19,
    )


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], (False, False, 0)),
        (["load_tensors: offloaded 20/41 layers to GPU"], (False, False, 0)),
        (["load_tensors: offloaded 41/41 layers to GPU"], (True, False, 0)),
        (["llama_context: pipeline parallelism enabled"], (False, True, 0)),
        (
            [f"model has unused tensor blk.{n}.x (size = {n} bytes) -- ignoring" for n in (20, 22)],
            (False, False, 42),
        ),
    ],
)
def test_what_a_split_depends_on_is_read(
    lines: list[str], expected: tuple[bool, bool, int]
) -> None:
    found = buffers([("debug", line) for line in lines])
    assert (found.all_offloaded, found.pipelined, found.unused_bytes) == expected


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (
            ["gguf_init: bad", "llama_model_load: error loading model: missing tensor 'x'"],
            "missing tensor 'x'",
        ),
        (["llama_init: failed to allocate buffer."], "failed to allocate buffer"),
        (["all is well"], ""),
        ([], ""),
    ],
)
def test_the_reason_is_the_line_that_tells_most(lines: list[str], expected: str) -> None:
    assert reason(lines) == expected


@pytest.mark.parametrize(
    ("line", "remedy"),
    [
        ("unknown model architecture: 'new'", "Update"),
        ("failed to allocate compute buffers", "smaller context"),
        ("tensor 'x' data is not within the file bounds", "download it again"),
        ("something else", ""),
    ],
)
def test_the_remedy_fits_the_reason(line: str, remedy: str) -> None:
    found = remedy_for([line])
    assert remedy in found
    assert bool(found) is bool(remedy)


def test_lines_are_marked_with_their_level_and_pieces_put_together(
    capfd: pytest.CaptureFixture[str],
) -> None:
    log = EngineLog(Flag())
    log.take(2, b"reading ", None)
    log.take(5, b"...", None)
    log.take(5, b".\n", None)
    log.take(1, b"dropped\n", None)
    log.take(4, b"bad: one\ntwo\n", None)
    log.say("warning", "ours")
    assert capfd.readouterr().err == "<7>reading ....\n<3>bad: one\n<3>two\n<4>ours\n"
    assert log.lines == [
        ("debug", "reading ...."),
        ("error", "bad: one"),
        ("error", "two"),
        ("warning", "ours"),
    ]
    assert log.worst() == ("bad: one", "two", "ours")
    log.begin()
    assert log.worst() == ()


def test_errors_of_work_that_was_told_to_stop_are_none(capfd: pytest.CaptureFixture[str]) -> None:
    flag = Flag()
    log = EngineLog(flag)
    flag.set()
    log.take(4, b"llama_decode: failed to decode, ret = 2\n", None)
    flag.clear()
    log.take(4, b"llama_decode: failed to decode, ret = 1\n", None)
    assert capfd.readouterr().err.startswith("<7>llama_decode")
    assert log.worst() == ("llama_decode: failed to decode, ret = 1",)
