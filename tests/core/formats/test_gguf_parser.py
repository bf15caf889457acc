import struct
from math import prod
from pathlib import Path

import pytest
from gguf import GGML_QUANT_SIZES, GGUFReader
from hypothesis import given
from hypothesis import strategies as st

from modeldeck.core.demo.model_writer import write_gguf
from modeldeck.core.errors import Corrupt, StorageFailed
from modeldeck.core.formats import gguf_parser
from modeldeck.core.formats.gguf_parser import GgufHeader, check_size, parse, read, read_remote

U32, STRING, ARRAY, U64, F32, BOOL = 4, 8, 9, 10, 6, 7


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data)) + data


def pair(key: str, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def u32(key: str, value: int) -> bytes:
    return pair(key, U32, struct.pack("<I", value))


def array(key: str, kind: int, length: int, body: bytes) -> bytes:
    return pair(key, ARRAY, struct.pack("<IQ", kind, length) + body)


def tensor(name: str, shape: tuple[int, ...], kind: int = 0, offset: int = 0) -> bytes:
    dimensions = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    return text(name) + dimensions + struct.pack("<IQ", kind, offset)


def header(
    *pairs: bytes,
    tensors: tuple[bytes, ...] = (),
    version: int = 3,
    counts: tuple[int, int] = (0, 0),
) -> bytes:
    """A header; `counts` are added to the true numbers of tensors and pairs."""
    numbers = struct.pack("<IQQ", version, len(tensors) + counts[0], len(pairs) + counts[1])
    data = b"GGUF" + numbers + b"".join(pairs) + b"".join(tensors)
    return data + bytes(-len(data) % 32)


ARCH = pair("general.architecture", STRING, text("llama"))


def whole(data: bytes) -> GgufHeader:
    found = parse(data)
    assert found is not None
    return found


def test_block_sizes_are_those_of_the_format() -> None:
    theirs = {int(kind): sizes for kind, sizes in GGML_QUANT_SIZES.items()}
    del theirs[9]  # Q8_1, never stored: the package says 40 bytes, ggml's block_q8_1 has 36
    assert {kind: gguf_parser._BLOCKS[kind] for kind in theirs} == theirs


@pytest.mark.parametrize(
    "name", ["tiny-GGUF/tiny-Q8_0.gguf", "tiny-embed-GGUF/tiny-embed-F16.gguf"]
)
def test_a_real_file_reads_as_the_formats_own_reader_reads_it(demo_models: Path, name: str) -> None:
    path = demo_models / name
    found = read(path)
    theirs = GGUFReader(path)
    assert [(t.name, t.size_bytes) for t in found.tensors] == [
        (t.name, int(t.n_bytes)) for t in theirs.tensors
    ]
    assert found.data_offset == theirs.data_offset
    assert found.weights_bytes == sum(int(t.n_bytes) for t in theirs.tensors)
    assert found.parameters == sum(int(t.n_elements) for t in theirs.tensors)
    assert found.vocab_size == len(theirs.fields["tokenizer.ggml.tokens"].data)
    assert found.file_size <= path.stat().st_size < found.file_size + 32
    for key in ("context_length", "block_count", "attention.head_count_kv"):
        assert found.number(key) == theirs.fields[f"llama.{key}"].contents()


def test_what_a_header_says(demo_models: Path) -> None:
    found = read(demo_models / "tiny-GGUF" / "tiny-F16.gguf")
    assert (found.architecture, found.context_length, found.layers) == ("llama", 4096, 2)
    assert (found.heads, found.kv_heads) == (2, (1, 1))
    assert (found.key_length, found.value_length, found.embedding_length) == (64, 64, 704)
    assert found.text("tokenizer.chat_template")
    assert found.pooling is None
    assert found.split_count == 1
    embedding = read(demo_models / "tiny-embed-GGUF" / "tiny-embed-F16.gguf")
    assert embedding.pooling == "mean"
    assert embedding.text("tokenizer.chat_template") is None
    part = sorted((demo_models / "tiny-split-GGUF" / "F16").iterdir())[0]
    assert read(part).split_count == 3


def test_heads_that_differ_by_layer_and_missing_values() -> None:
    found = whole(
        header(
            ARCH,
            u32("llama.block_count", 3),
            u32("llama.embedding_length", 64),
            u32("llama.attention.head_count", 4),
            array("llama.attention.head_count_kv", U32, 3, struct.pack("<3I", 4, 0, 2)),
        )
    )
    assert found.kv_heads == (4, 0, 2)
    assert found.key_length == 16
    bare = whole(header(ARCH))
    assert (bare.context_length, bare.layers, bare.kv_heads, bare.key_length) == (None,) * 4
    assert bare.vocab_size is None
    assert whole(header()).architecture is None


def test_long_arrays_are_counted_and_not_kept() -> None:
    tokens = b"".join(text(f"t{number}") for number in range(5000))
    found = whole(
        header(
            ARCH,
            array("tokenizer.ggml.tokens", STRING, 5000, tokens),
            array("tokenizer.ggml.scores", F32, 5000, bytes(20_000)),
            array("short", BOOL, 2, b"\x01\x00"),
        )
    )
    assert found.vocab_size == 5000
    assert "tokenizer.ggml.tokens" not in found.metadata
    assert found.metadata["short"] == (True, False)


def test_text_that_is_not_utf8_does_not_stop_it() -> None:
    assert whole(header(pair("general.name", STRING, text(b"\xff!")))).name == "\ufffd!"


HUGE = 1 << 62
HOSTILE = {
    "another file": b"PK\x03\x04" + bytes(60),
    "big-endian": b"GGUF" + struct.pack(">IQQ", 3, 0, 0),
    "version 1": header(version=1),
    "version 4": header(version=4),
    "absurd number of tensors": header(ARCH, counts=(HUGE, 0)),
    "absurd number of pairs": header(ARCH, counts=(0, HUGE)),
    "absurd key": header(struct.pack("<Q", HUGE)),
    "absurd string": header(pair("a", STRING, struct.pack("<Q", HUGE))),
    "absurd array of numbers": header(array("a", U64, HUGE, b"")),
    "absurd array of strings": header(array("a", STRING, HUGE, b"")),
    "absurd string in an array": header(
        array("a", STRING, 5000, struct.pack("<Q", HUGE) + bytes(64))
    ),
    "largest string in an array": header(
        array("a", STRING, 5000, struct.pack("<Q", (1 << 64) - 1) + bytes(64))
    ),
    "nested array": header(array("a", ARRAY, 1, struct.pack("<IQ", U32, 0))),
    "unknown type of value": header(pair("a", 13, b"")),
    "unknown type in an array": header(array("a", 99, 1, b"")),
    "pair twice": header(ARCH, ARCH),
    "alignment 0": header(u32("general.alignment", 0)),
    "alignment 24": header(u32("general.alignment", 24)),
    "alignment huge": header(u32("general.alignment", 1 << 31)),
    "alignment of text": header(pair("general.alignment", STRING, text("32"))),
    "no blocks": header(ARCH, u32("llama.block_count", 0)),
    "absurd blocks": header(ARCH, u32("llama.block_count", 1 << 31)),
    "absurd width": header(ARCH, u32("llama.embedding_length", (1 << 32) - 1)),
    "absurd heads in a list": header(
        ARCH, array("llama.attention.head_count", U32, 1, struct.pack("<I", 1 << 30))
    ),
    "context of text": header(ARCH, pair("llama.context_length", STRING, text("x"))),
    "five dimensions": header(ARCH, tensors=(tensor("a", (1, 1, 1, 1, 1)),)),
    "2^32 dimensions": header(tensors=(text("a") + struct.pack("<I", 0xFFFFFFFF),)),
    "unknown tensor type": header(tensors=(tensor("a", (32,), kind=77),)),
    "removed tensor type": header(tensors=(tensor("a", (32,), kind=4),)),
    "part of a block": header(tensors=(tensor("a", (33,), kind=8),)),
    "shape that overflows": header(tensors=(tensor("a", (1 << 40, 1 << 40)),)),
    "offset that overflows": header(tensors=(tensor("a", (1,), offset=(1 << 64) - 32),)),
    "offset not aligned": header(tensors=(tensor("a", (1,), offset=8),)),
    "tensor twice": header(tensors=(tensor("a", (1,)), tensor("a", (1,)))),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_header_is_refused(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(data + bytes(4096))
    with pytest.raises(Corrupt) as refused:
        read(path)
    assert refused.value.remedy


def test_a_file_shorter_than_its_tensors_is_refused(tmp_path: Path) -> None:
    data = header(ARCH, tensors=(tensor("a", (1024,)),))
    path = tmp_path / "short.gguf"
    path.write_bytes(data + bytes(4096))
    assert read(path).file_size == path.stat().st_size
    path.write_bytes(data + bytes(4095))
    with pytest.raises(Corrupt, match="describes"):
        read(path)


@pytest.mark.parametrize("length", [0, 3, 4, 23, 100])
def test_a_file_cut_off_in_its_header_is_refused(
    tmp_path: Path, demo_models: Path, length: int
) -> None:
    path = tmp_path / "cut.gguf"
    path.write_bytes((demo_models / "tiny-GGUF" / "tiny-F16.gguf").read_bytes()[:length])
    with pytest.raises(Corrupt, match="cut off"):
        read(path)


def test_a_file_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(StorageFailed, match=r"nothing\.gguf"):
        read(tmp_path / "nothing.gguf")


def test_every_prefix_needs_more_and_none_fails_otherwise() -> None:
    data = header(
        ARCH,
        array("tokenizer.ggml.tokens", STRING, 1100, text("ab") * 1100),
        tensors=(tensor("a", (32,), kind=8), tensor("b", (4,), offset=64)),
    )
    for length in range(0, len(data), 7):
        assert parse(data[:length]) is None
    assert whole(data).data_offset == len(data)


@given(st.binary(max_size=400), st.integers(0, 300))
def test_no_bytes_make_it_fail_in_another_way(noise: bytes, at: int) -> None:
    data = header(
        ARCH,
        u32("llama.block_count", 2),
        array("t", STRING, 3, text("a") * 3),
        tensors=(tensor("a", (32,), kind=8),),
    )
    for candidate in (b"GGUF" + noise, data[:at] + noise + data[at + len(noise) :]):
        try:
            found = parse(candidate)
        except Corrupt:
            continue
        if found is not None:
            assert found.weights_bytes == sum(t.size_bytes for t in found.tensors) >= 0
            assert found.parameters == sum(prod(t.shape) for t in found.tensors)


async def test_a_remote_header_takes_few_bytes_and_comes_back_as_they_are(tmp_path: Path) -> None:
    (path,) = write_gguf(tmp_path / "m.gguf", "F16", size_bytes=40 << 20, extra_tokens=60_000)
    data = path.read_bytes()
    asked: list[tuple[int, int]] = []

    async def fetch(offset: int, length: int) -> bytes:
        asked.append((offset, length))
        return data[offset : offset + length]

    found, head = await read_remote(fetch, len(data))
    assert found == read(path)
    assert head == data[: found.data_offset]
    assert len(asked) >= 2
    assert all(offset + length <= len(data) for offset, length in asked)
    assert sum(length for _, length in asked) < len(head) + gguf_parser.NEXT_READ


async def test_a_remote_file_that_ends_too_soon_is_refused() -> None:
    data = header(ARCH, tensors=(tensor("a", (1024,)),))

    async def fetch(offset: int, length: int) -> bytes:
        return data[offset : offset + length]

    with pytest.raises(Corrupt, match="describes"):
        await read_remote(fetch, len(data))
    with pytest.raises(Corrupt, match="cut off"):
        await read_remote(fetch, 40)
    check_size(whole(data), len(data) + 4096)


async def test_a_remote_header_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf_parser, "MAX_HEADER", 6 << 20)
    fetched = 0
    start = header(array("a", STRING, 1 << 22, b""))

    async def fetch(offset: int, length: int) -> bytes:
        nonlocal fetched
        fetched += length
        return (start + bytes(length))[:length] if offset == 0 else bytes(length)

    with pytest.raises(Corrupt, match="too long"):
        await read_remote(fetch, 1 << 40)
    assert fetched <= gguf_parser.MAX_HEADER + gguf_parser.NEXT_READ
